-- Partitions of command_log and enrolment_history. No default partitions: a row in one would block the
-- partition that should have held it.

create function partition_bounds(parent regclass)
    returns table (partition regclass, lower_on date, upper_on date) language sql stable
    set search_path from current set datestyle = 'ISO, YMD'
as $$
    select child.oid::regclass, bound[1]::date, bound[2]::date
    from pg_inherits
    join pg_class child on child.oid = inhrelid,
    regexp_match(pg_get_expr(child.relpartbound, child.oid), 'FROM \(''(.+)''\) TO \(''(.+)''\)') bound
    where inhparent = parent
$$;

-- Runs as the owner, so that the worker may have partitions made and dropped and nothing else:
-- names are fixed, dates are dates. A date in the future makes partitions, but drops none.
create function maintain_partitions(retention_days int, today date) returns void language plpgsql
    security definer
    set search_path from current set datestyle = 'ISO, YMD' set lock_timeout = '5s'
as $$
declare
    width int := ceil(retention_days / 3.0);
    real_today date := (now() at time zone 'utc')::date;
    starts_on date;
    ends_on date;
    expired regclass;
begin
    if retention_days is null or today is null or retention_days not between 1 and 3650
        or today > real_today + 62 or today < real_today - 3650 then
        raise exception 'retention_days must be 1 to 3650, and today at most ten years back or 62 days ahead'
            using errcode = 'invalid_parameter_value';
    end if;
    perform pg_advisory_xact_lock(hashtext('partner_program.maintain_partitions'));

    -- From where the last one ends, whatever its width was: the retention may change. Yesterday
    -- is covered from the start, for transactions that are open at midnight. Nothing between the
    -- real day and a later `today` is left out.
    select greatest(max(upper_on), least(today, real_today) - 1) into starts_on
    from partition_bounds('command_log'::regclass);
    while starts_on <= today + 2 * width loop
        ends_on := starts_on + width;
        execute format('create table %I partition of command_log for values from (%L) to (%L)',
            'command_log_' || to_char(starts_on, 'YYYYMMDD'), starts_on, ends_on);
        starts_on := ends_on;
    end loop;

    select greatest(max(upper_on), date_trunc('month', least(today, real_today) - 1)::date) into starts_on
    from partition_bounds('enrolment_history'::regclass);
    while starts_on < date_trunc('month', today) + interval '3 months' loop
        ends_on := (starts_on + interval '1 month')::date;
        execute format('create table %I partition of enrolment_history for values from (%L) to (%L)',
            'enrolment_history_' || to_char(starts_on, 'YYYYMM'), starts_on, ends_on);
        starts_on := ends_on;
    end loop;

    for expired in
        select partition from partition_bounds('command_log'::regclass)
        where upper_on <= least(today, real_today) - retention_days
        order by upper_on
    loop
        execute format('drop table %s', expired);
    end loop;
end $$;

revoke execute on function maintain_partitions(int, date) from public;

select maintain_partitions(30, (now() at time zone 'utc')::date);
