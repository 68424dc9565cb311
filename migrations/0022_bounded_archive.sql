-- Publishers that may not publish here can't fill the archive: what is kept of their letters is bounded,
-- and so is the whole. Orgs that are not in the catalogue are one group.

alter table dead_letter add column group_org text not null default '';
comment on column dead_letter.group_org is 'The org under which the letter is counted: empty if the catalogue does not have it.';
update dead_letter set group_org = coalesce(org_code, '');

create function dead_letter_set_group_org() returns trigger language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    new.group_org := coalesce((select code from public.org where code = new.org_code), '');
    return new;
end $$;
create trigger dead_letter_group_org before insert on dead_letter
    for each row execute function dead_letter_set_group_org();

-- Letters of an org that comes into the catalogue are counted under its code from then on.
create function dead_letter_regroup() returns trigger language plpgsql
    security definer set search_path = pg_catalog, pg_temp
as $$
begin
    update public.dead_letter set group_org = org_code
    where org_code in (select code from added) and group_org <> org_code;
    return null;
end $$;
create trigger org_added after insert on org
    referencing new table as added for each statement execute function dead_letter_regroup();

-- How much of the archive is whose: kept as letters come and go, as a million can't be measured each time.
create table dead_letter_volume (
    user_id text not null,
    reason text not null,
    letters bigint not null,
    bytes bigint not null,
    constraint dead_letter_volume_pkey primary key (user_id, reason)
);
comment on table dead_letter_volume is 'How many letters of a publisher and a reason are kept, and how many bytes they take. The publisher is empty where it is not known; reasons that no worker gives are one.';

create function dead_letter_bytes(letter dead_letter) returns bigint language sql immutable
as $$
    select octet_length(letter.body)::bigint + octet_length(letter.detail) + octet_length(letter.headers::text)
        + octet_length(letter.properties::text) + octet_length(letter.provenance::text) + 512
$$;

create function dead_letter_volume_user(letter dead_letter) returns text language sql immutable
as $$ select case when letter.reason in ('unknown-org', 'publisher-not-allowed')
    then coalesce(letter.user_id, '') else '' end $$;

create function dead_letter_volume_reason(letter dead_letter) returns text language sql immutable
as $$ select case when letter.reason in ('unknown-org', 'publisher-not-allowed')
    then letter.reason else 'other' end $$;

insert into dead_letter_volume
select dead_letter_volume_user(letter), dead_letter_volume_reason(letter), count(*),
    sum(dead_letter_bytes(letter))
from dead_letter letter group by 1, 2;

create or replace function dead_letter_count() returns trigger language plpgsql
    security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- In the order of the keys, so that two of these never wait for each other.
    if tg_op = 'INSERT' then
        insert into public.dead_letter_group as g
        select fingerprint, group_org, state, min(operation), min(reason),
            min(public.dead_letter_normalised(detail)), count(*), min(first_died_at), max(last_died_at)
        from added group by 1, 2, 3 order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters,
            first_died_at = least(g.first_died_at, excluded.first_died_at),
            last_died_at = greatest(g.last_died_at, excluded.last_died_at);
        insert into public.dead_letter_group_hour as h
        select fingerprint, group_org, date_trunc('hour', last_died_at, 'UTC'), count(*)
        from added group by 1, 2, 3 order by 3, 1, 2
        on conflict (hour, fingerprint, org_code) do update set letters = h.letters + excluded.letters;
        insert into public.dead_letter_volume as v
        select public.dead_letter_volume_user(letter), public.dead_letter_volume_reason(letter), count(*),
            sum(public.dead_letter_bytes(letter))
        from added letter group by 1, 2 order by 1, 2
        on conflict (user_id, reason) do update set letters = v.letters + excluded.letters,
            bytes = v.bytes + excluded.bytes;
    elsif tg_op = 'UPDATE' then
        insert into public.dead_letter_group as g
        select fingerprint, group_org, state, min(operation), min(reason),
            min(public.dead_letter_normalised(detail)), sum(change), min(first_died_at), max(last_died_at)
        from (select 1 as change, * from added union all select -1, * from removed) changed
        group by 1, 2, 3 having sum(change) <> 0 or max(last_died_at) filter (where change = 1)
            > max(last_died_at) filter (where change = -1)
        order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters,
            first_died_at = least(g.first_died_at, excluded.first_died_at),
            last_died_at = greatest(g.last_died_at, excluded.last_died_at);
    else
        insert into public.dead_letter_group as g
        select fingerprint, group_org, state, min(operation), min(reason),
            min(public.dead_letter_normalised(detail)), -count(*), min(first_died_at), max(last_died_at)
        from removed group by 1, 2, 3 order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters;
        insert into public.dead_letter_volume as v
        select public.dead_letter_volume_user(letter), public.dead_letter_volume_reason(letter), -count(*),
            -sum(public.dead_letter_bytes(letter))
        from removed letter group by 1, 2 order by 1, 2
        on conflict (user_id, reason) do update set letters = v.letters + excluded.letters,
            bytes = v.bytes + excluded.bytes;
    end if;
    return null;
end $$;

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select on dead_letter_volume to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select on dead_letter_volume to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on dead_letter_volume to partner_program_readonly;
    end if;
end $$;
