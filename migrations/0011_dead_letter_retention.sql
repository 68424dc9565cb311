-- Settled letters don't stay for ever: they hold personal data.

create index dead_letter_edited_from_idx on dead_letter (edited_from) where edited_from is not null;

-- Runs as the owner, so that the worker may have settled letters forgotten and no others. The
-- audit of a letter goes with it. What another letter points to stays as long as that one.
create function forget_dead_letters(retention_days int, letters_max int) returns int language plpgsql
    security definer set search_path = pg_catalog, pg_temp set lock_timeout = '5s'
as $$
declare
    before timestamptz := now() - make_interval(days => retention_days);
    gone uuid[];
begin
    if retention_days is null or retention_days not between 1 and 3650 then
        raise exception 'retention_days must be 1 to 3650' using errcode = 'invalid_parameter_value';
    end if;
    select array_agg(id) into gone from (
        select id from public.dead_letter letter
        where state in ('applied', 'failed_again', 'discarded', 'superseded')
            and last_died_at < before and changed_at < before
            and not exists (select from public.dead_letter where replay_of = letter.id)
            and not exists (select from public.dead_letter where edited_from = letter.id)
            and not exists (select from public.hold where letter_id = letter.id)
        limit letters_max for update skip locked
    ) settled;
    delete from public.dead_letter_action where dead_letter_id = any (gone);
    delete from public.dead_letter where id = any (gone);
    delete from public.dead_letter_group where letters = 0 and last_died_at < before;
    delete from public.dead_letter_group_hour where hour < now() - interval '7 days';
    return coalesce(cardinality(gone), 0);
end $$;

revoke execute on function forget_dead_letters(int, int) from public;

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant execute on function forget_dead_letters(int, int) to partner_program_worker;
    end if;
end $$;
