-- What a program and a schema know of each other, a fence that a restored backup can't repeat, and
-- no times that the program can't read.

create table schema_compatibility (
    only_row boolean not null default true constraint schema_compatibility_pkey primary key
        constraint schema_compatibility_only_row_check check (only_row),
    schema_version bigint not null,
    oldest_compatible_binary bigint not null,
    constraint schema_compatibility_order_check check (oldest_compatible_binary <= schema_version)
);
comment on table schema_compatibility is 'Written by `partner-program migrate`: the last migration, and the last migration of the oldest release that may work on this schema.';
insert into schema_compatibility (schema_version, oldest_compatible_binary) values (14, 14);

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select on schema_compatibility to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select on schema_compatibility to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on schema_compatibility to partner_program_readonly;
    end if;
end $$;

-- After a restore epochs are counted again from a lower number, so a worker from before it may have
-- the epoch of one that came later. It never has the token.
alter table lane add column token uuid not null default gen_random_uuid();
comment on column lane.token is 'Of this taking alone: a commit needs it and the epoch.';

-- Infinite times, and those after the last year of the program's calendar. Where null means never,
-- a time without end is never; a time before all others is the first year; other times are set to now.
update partner_program set ends_at = null where ends_at >= '262143-01-01 00:00:00+00';
update enrolment set tier_expires_at = null where tier_expires_at >= '262143-01-01 00:00:00+00';

do $$
declare
    one record;
begin
    for one in
        select c.oid::regclass as name, c.relname, c.relkind, a.attname as col
        from pg_class c
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
            and not c.relispartition and a.atttypid = 'timestamptz'::regtype
            and c.relname <> '_sqlx_migrations'
        order by c.relname, a.attnum
    loop
        -- Partitioned tables are large and append-only: what is in them was written by workers, and
        -- only what comes is checked.
        if one.relkind = 'r' then
            execute format(
                'update %1$s set %2$I = case when %2$I = ''-infinity'' then ''0001-01-01 00:00:00+00'' else now() end '
                'where %2$I = ''-infinity'' or %2$I >= ''262143-01-01 00:00:00+00''', one.name, one.col);
        end if;
        execute format(
            'alter table %1$s add constraint %3$I check (%2$I > ''-infinity'' and %2$I < ''262143-01-01 00:00:00+00'') %4$s',
            one.name, one.col, one.relname || '_' || one.col || '_finite_check',
            case when one.relkind = 'p' then 'not valid' else '' end);
    end loop;
end $$;
