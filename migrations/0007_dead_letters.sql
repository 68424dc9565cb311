-- The archive of dead letters, from a table that nothing used to one that operators work with.

alter table dead_letter
    drop constraint dead_letter_state_check,
    add constraint dead_letter_state_check check
        (state in ('open', 'replaying', 'replayed', 'applied', 'failed_again', 'discarded', 'superseded')),
    add column operation text not null default 'unknown',
    -- The place in the body that the detail is about, as a JSON pointer.
    add column pointer text,
    add column correlation_id text,
    add column app_id text,
    add column user_id text,
    add column sent_at timestamptz,
    add column attempts int not null default 1,
    -- How often this very letter died: an upstream may send the same broken command again.
    add column deaths int not null default 1,
    -- Of the first letter, where this one is a replay that came back.
    add column first_died_at timestamptz not null default now(),
    add column last_died_at timestamptz not null default now(),
    add column sequence bigint generated always as identity,
    -- What the worker and the broker added to the headers on the message's way.
    add column provenance jsonb not null default '{}',
    -- Hashes of the identifiers of the customers in the body: found by these, never shown.
    add column customer_keys bigint[] not null default '{}',
    add column edited_from uuid,
    add column superseded_by uuid,
    add column operation_id uuid;

comment on column dead_letter.headers is 'As the publisher set them.';
comment on column dead_letter.properties is 'As the publisher set them, but for the headers.';

-- Any list is newest first, page by page, by the time of death and then the order of arrival.
-- Each of these orders one filter; the other filters are applied on the way.
drop index dead_letter_state_idx;
create index dead_letter_died_idx on dead_letter (last_died_at, sequence);
create index dead_letter_state_idx on dead_letter (state, last_died_at, sequence);
create index dead_letter_org_idx on dead_letter (org_code, state, last_died_at, sequence);
create index dead_letter_fingerprint_idx on dead_letter (fingerprint, state, last_died_at, sequence);
create index dead_letter_lane_idx on dead_letter (lane, last_died_at, sequence);
create index dead_letter_command_idx on dead_letter (command_id);
create index dead_letter_correlation_idx on dead_letter (correlation_id) where correlation_id is not null;
create index dead_letter_customer_idx on dead_letter using gin (customer_keys);
create index dead_letter_replay_of_idx on dead_letter (replay_of) where replay_of is not null;
create index dead_letter_touched_idx on dead_letter (operation_id, state) where operation_id is not null;
-- Replays whose outcome is awaited are few.
create index dead_letter_replayed_idx on dead_letter (changed_at) where state = 'replayed';

create table dead_letter_operation (
    id uuid constraint dead_letter_operation_pkey primary key,
    kind text not null constraint dead_letter_operation_kind_check
        check (kind in ('replay', 'discard', 'restore', 'export')),
    filter jsonb not null,
    actor text not null,
    reason text not null,
    source text not null,
    letters_max bigint,
    letters_per_second int,
    state text not null default 'running' constraint dead_letter_operation_state_check
        check (state in ('running', 'done', 'cancelled', 'failed')),
    matched bigint not null,
    done bigint not null default 0,
    skipped bigint not null default 0,
    failed bigint not null default 0,
    problem text,
    cancel_requested boolean not null default false,
    -- Where it stands in the order of death; a runner that takes it over goes on from here.
    cursor_died_at timestamptz,
    cursor_sequence bigint,
    -- Who runs it, and when that one was last heard of: another takes over from a runner that died.
    runner text,
    beat_at timestamptz,
    started_at timestamptz not null default now(),
    ended_at timestamptz
);
comment on table dead_letter_operation is 'What operators had done to many letters at once, and how far it is.';
create index dead_letter_operation_started_idx on dead_letter_operation (started_at desc, id);
create index dead_letter_operation_running_idx on dead_letter_operation (beat_at) where state = 'running';

alter table dead_letter_action
    drop constraint dead_letter_action_action_check,
    add constraint dead_letter_action_action_check check (action in
        ('replay', 'edit', 'discard', 'restore', 'export', 'unmask', 'applied', 'failed_again', 'superseded')),
    add column source text not null default '',
    add column operation_id uuid;

-- Groups are counted as letters change: a million of them can't be counted each time somebody
-- looks. The org is '' where the letter has none.
create table dead_letter_group (
    fingerprint text not null,
    org_code text not null,
    state text not null,
    operation text not null,
    reason text not null,
    detail text not null,
    letters bigint not null,
    first_died_at timestamptz not null,
    last_died_at timestamptz not null,
    constraint dead_letter_group_pkey primary key (fingerprint, org_code, state)
);
comment on table dead_letter_group is 'How many letters of a fingerprint, an org and a state there are.';

create table dead_letter_group_hour (
    fingerprint text not null,
    org_code text not null,
    hour timestamptz not null,
    letters bigint not null,
    constraint dead_letter_group_hour_pkey primary key (hour, fingerprint, org_code)
);
comment on table dead_letter_group_hour is 'How many letters of a fingerprint and an org died in an hour.';

-- Numbers tell letters apart that failed alike: places, counts, ids.
create function dead_letter_normalised(detail text) returns text language sql immutable
as $$ select regexp_replace(lower(detail), '[0-9]+', '#', 'g') $$;

create function dead_letter_count() returns trigger language plpgsql
    security definer set search_path = pg_catalog, pg_temp
as $$
begin
    -- In the order of the keys, so that two of these never wait for each other.
    if tg_op = 'INSERT' then
        insert into public.dead_letter_group as g
        select fingerprint, coalesce(org_code, ''), state, min(operation), min(reason),
            min(public.dead_letter_normalised(detail)), count(*), min(first_died_at), max(last_died_at)
        from added group by 1, 2, 3 order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters,
            first_died_at = least(g.first_died_at, excluded.first_died_at),
            last_died_at = greatest(g.last_died_at, excluded.last_died_at);
        insert into public.dead_letter_group_hour as h
        select fingerprint, coalesce(org_code, ''), date_trunc('hour', last_died_at, 'UTC'), count(*)
        from added group by 1, 2, 3 order by 3, 1, 2
        on conflict (hour, fingerprint, org_code) do update set letters = h.letters + excluded.letters;
    elsif tg_op = 'UPDATE' then
        insert into public.dead_letter_group as g
        select fingerprint, coalesce(org_code, ''), state, min(operation), min(reason),
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
        select fingerprint, coalesce(org_code, ''), state, min(operation), min(reason),
            min(public.dead_letter_normalised(detail)), -count(*), min(first_died_at), max(last_died_at)
        from removed group by 1, 2, 3 order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters;
    end if;
    return null;
end $$;

create trigger dead_letter_added after insert on dead_letter
    referencing new table as added for each statement execute function dead_letter_count();
create trigger dead_letter_changed after update on dead_letter
    referencing old table as removed new table as added for each statement execute function dead_letter_count();
create trigger dead_letter_removed after delete on dead_letter
    referencing old table as removed for each statement execute function dead_letter_count();

-- The letters that a filter means: the one place that says so, for lists, counts and whatever is
-- done in bulk. Simple enough that the planner puts it into the query: with the filter at hand it
-- drops what is not asked for, and uses the index of what is. Lists are array literals, because the
-- planner reads those. The fingerprints are those that have the operation, the reason and the
-- text, which the groups tell: without numbers in it, a text needs no second look.
create function dead_letter_matching(filter jsonb) returns setof dead_letter language sql stable
as $$
    select * from dead_letter
    where (filter->>'ids' is null or id = any ((filter->>'ids')::uuid[]))
        and (filter->>'org' is null or org_code = filter->>'org')
        and (filter->>'fingerprints' is null or fingerprint = any ((filter->>'fingerprints')::text[]))
        and (filter->>'operation' is null or filter->>'fingerprints' is not null
            or operation = filter->>'operation')
        and (filter->>'reason' is null or filter->>'fingerprints' is not null
            or reason = filter->>'reason')
        -- Looked up on its own: the planner can't know how rare a text or a customer is.
        and (filter->>'text' is null
            or (filter->>'fingerprints' is not null and filter->>'text' !~ '[0-9]')
            or id = any (array(select id from dead_letter
                where strpos(lower(detail), lower(filter->>'text')) > 0
                    and (filter->>'fingerprints' is null
                        or fingerprint = any ((filter->>'fingerprints')::text[])))))
        and (filter->>'fingerprint' is null or fingerprint = filter->>'fingerprint')
        and (filter->>'lane' is null or lane = filter->>'lane')
        and (filter->>'state' is null or state = filter->>'state')
        and (filter->>'since' is null or last_died_at >= (filter->>'since')::timestamptz)
        and (filter->>'until' is null or last_died_at < (filter->>'until')::timestamptz)
        and (filter->>'command_id' is null or command_id = filter->>'command_id')
        and (filter->>'correlation_id' is null or correlation_id = filter->>'correlation_id')
        and (filter->>'customer_keys' is null or id = any (array(select id from dead_letter
            where customer_keys && (filter->>'customer_keys')::bigint[])))
$$;

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select, insert, update on dead_letter to partner_program_worker;
        grant select, insert on dead_letter_action to partner_program_worker;
        grant select, insert, update on dead_letter_operation to partner_program_worker;
        grant select on dead_letter_group, dead_letter_group_hour to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select, insert, update on dead_letter_operation to partner_program_ops;
        grant select on dead_letter_group, dead_letter_group_hour to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on dead_letter_operation, dead_letter_group, dead_letter_group_hour
            to partner_program_readonly;
    end if;
end $$;
