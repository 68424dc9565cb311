-- No column takes a time that the program can't read: minus infinity, infinity, or a year after the last
-- one of its calendar. A later migration that adds a timestamptz column adds such a check, too.
do $$
declare
    one record;
begin
    for one in
        select c.oid::regclass as name, c.relname, a.attname as col
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = current_schema()::regnamespace and c.relkind in ('r', 'p')
            and not c.relispartition and a.atttypid = 'timestamptz'::regtype
            and c.relname <> '_sqlx_migrations'
        order by c.relname, a.attnum
    loop
        execute format(
            'alter table %1$s add constraint %3$I check (%2$I > ''-infinity'' and %2$I < ''262143-01-01 00:00:00+00'')',
            one.name, one.col, one.relname || '_' || one.col || '_finite_check');
    end loop;
end $$;
