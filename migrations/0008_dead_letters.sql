-- The archive of dead letters, what operators do with them one by one and in bulk jobs, and the counts
-- that a million rows can't be asked for each time.

create table dead_letter (
    id uuid constraint dead_letter_pkey primary key,
    sequence bigint generated always as identity,
    org_code text,
    -- The org under which the dead letter is counted: empty if the catalogue does not have it.
    group_org text not null default '',
    lane text,
    operation text not null default 'unknown',
    reason text not null,
    detail text not null,
    -- The place in the body that the detail is about, as a JSON pointer.
    pointer text,
    fingerprint text not null,
    state text not null default 'open' constraint dead_letter_state_check check
        (state in ('open', 'replaying', 'replayed', 'applied', 'failed_again', 'discarded', 'superseded')),
    command_id text,
    correlation_id text,
    app_id text,
    user_id text,
    sent_at timestamptz,
    exchange text not null,
    routing_key text not null,
    properties jsonb not null,
    headers jsonb not null,
    -- What the worker and the broker added to the headers on the message's way.
    provenance jsonb not null default '{}',
    body bytea not null,
    -- Hashes of the identifiers of the customers in the body: found by these, never shown.
    customer_keys bigint[] not null default '{}',
    attempts int not null default 1,
    -- How often this very dead letter died: an upstream may send the same broken command again.
    deaths int not null default 1,
    -- Of the first dead letter, where this one is a replay that failed again.
    first_died_at timestamptz not null default now(),
    last_died_at timestamptz not null default now(),
    -- 0: unknown. The broker dead-lettered it, not a worker.
    lane_epoch bigint not null default 0,
    delivery_tag bigint not null default 0,
    -- Of the latest death; the columns above are of the first one since the dead letter is open.
    last_lane_epoch bigint not null default 0,
    last_delivery_tag bigint not null default 0,
    ordered_at timestamptz,
    replay_of uuid,
    replay_number int not null default 0
        constraint dead_letter_replay_number_check check (replay_number >= 0),
    publisher_overridden boolean not null default false,
    edited_from uuid,
    superseded_by uuid,
    -- The bulk job that changed it last.
    bulk_job_id uuid,
    recorded_at timestamptz not null default now(),
    changed_at timestamptz not null default now()
);
comment on table dead_letter is 'Refused messages, as they came; body and headers may hold personal data.';
comment on column dead_letter.headers is 'As the publisher set them.';
comment on column dead_letter.properties is 'As the publisher set them, but for the headers.';
comment on column dead_letter.lane_epoch is 'With delivery_tag: its position in the queue of its lane, and so in the order of death, whatever the workers'' clocks say. 0: unknown.';
comment on column dead_letter.ordered_at is 'Orders dead letters of different lanes: the time of death, moved between those of its neighbours in its lane. Null: last_died_at.';
comment on column dead_letter.replay_number is 'Of the latest replay. A message of an earlier one, or of one that was taken back, has no effect.';
comment on column dead_letter.publisher_overridden is 'Whether its latest replay has effect although its publisher may not publish for the org.';

-- Lists are newest first, page by page, by the time of death and then the order of arrival. Each of
-- these orders one filter; the other filters are applied on the way.
create index dead_letter_died_idx on dead_letter (last_died_at, sequence);
create index dead_letter_state_idx on dead_letter (state, last_died_at, sequence);
create index dead_letter_org_idx on dead_letter (org_code, state, last_died_at, sequence);
-- With the detail: a text with numbers in it is searched among the dead letters of the groups that have
-- the text without numbers. Reading it from the index takes a tenth of the time.
create index dead_letter_fingerprint_idx on dead_letter (fingerprint, state, last_died_at, sequence)
    include (id, detail);
create index dead_letter_lane_idx on dead_letter (lane, last_died_at, sequence);
create index dead_letter_command_idx on dead_letter (command_id);
create index dead_letter_correlation_idx on dead_letter (correlation_id) where correlation_id is not null;
create index dead_letter_customer_idx on dead_letter using gin (customer_keys);
create index dead_letter_replay_of_idx on dead_letter (replay_of) where replay_of is not null;
create index dead_letter_edited_from_idx on dead_letter (edited_from) where edited_from is not null;
create index dead_letter_bulk_job_idx on dead_letter (bulk_job_id, state) where bulk_job_id is not null;
-- Few replays wait for their outcome.
create index dead_letter_replayed_idx on dead_letter (changed_at) where state = 'replayed';

-- Bulk jobs process dead letters in the order of death. Each index begins like the index that lists use
-- for the same filter.
create index dead_letter_death_order_idx on dead_letter
    (state, coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence);
create index dead_letter_org_death_order_idx on dead_letter
    (org_code, state, coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence);
create index dead_letter_group_death_order_idx on dead_letter
    (fingerprint, state, coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence);
-- The neighbours of a dead letter in its lane.
create index dead_letter_position_idx on dead_letter (lane, lane_epoch, delivery_tag)
    where lane_epoch > 0;

create table dead_letter_action (
    id bigint generated always as identity constraint dead_letter_action_pkey primary key,
    dead_letter_id uuid not null constraint dead_letter_action_dead_letter_fkey references dead_letter (id),
    action text not null constraint dead_letter_action_action_check check (action in
        ('replay', 'override_publisher', 'edit', 'discard', 'restore', 'export', 'unmask', 'applied',
            'failed_again', 'superseded')),
    actor text not null,
    reason text not null,
    source text not null default '',
    bulk_job_id uuid,
    acted_at timestamptz not null default now()
);
comment on table dead_letter_action is 'Who did what with a dead letter, when and why.';
create index dead_letter_action_dead_letter_idx on dead_letter_action (dead_letter_id, id);

create table bulk_job (
    id uuid constraint bulk_job_pkey primary key,
    kind text not null constraint bulk_job_kind_check
        check (kind in ('replay', 'discard', 'restore', 'export')),
    filter jsonb not null,
    actor text not null,
    reason text not null,
    source text not null,
    dead_letters_max bigint,
    dead_letters_per_second int,
    overrides_publisher boolean not null default false,
    state text not null default 'running' constraint bulk_job_state_check
        check (state in ('running', 'done', 'cancelled', 'failed')),
    matched bigint not null,
    done bigint not null default 0,
    skipped bigint not null default 0,
    failed bigint not null default 0,
    problem text,
    cancel_requested boolean not null default false,
    -- The last dead letter that was processed, in the order of death: the next runner continues after it.
    cursor_died_at timestamptz,
    cursor_lane_epoch bigint,
    cursor_delivery_tag bigint,
    cursor_sequence bigint,
    -- The process that runs it, and its last heartbeat: another process takes over from one that died.
    runner text,
    heartbeat_at timestamptz,
    started_at timestamptz not null default now(),
    ended_at timestamptz
);
comment on table bulk_job is 'Replays, discards, restores and exports of the dead letters that match a filter, with their progress.';
comment on column bulk_job.overrides_publisher is 'Of a replay of one dead letter: it has effect although the publisher may not publish for the org.';
create index bulk_job_started_idx on bulk_job (started_at desc, id);
create index bulk_job_running_idx on bulk_job (heartbeat_at) where state = 'running';

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
comment on table dead_letter_group is 'How many dead letters of a fingerprint, an org and a state there are. The org is empty where the dead letter has none.';

create table dead_letter_group_hour (
    fingerprint text not null,
    org_code text not null,
    hour timestamptz not null,
    letters bigint not null,
    constraint dead_letter_group_hour_pkey primary key (hour, fingerprint, org_code)
);
comment on table dead_letter_group_hour is 'How many dead letters of a fingerprint and an org died in an hour.';

create table dead_letter_volume (
    user_id text not null,
    reason text not null,
    letters bigint not null,
    bytes bigint not null,
    constraint dead_letter_volume_pkey primary key (user_id, reason)
);
comment on table dead_letter_volume is 'How many dead letters of a publisher and a reason are kept, and how many bytes they take. The publisher is empty where it is unknown; all reasons but unknown-org and publisher-not-allowed are one, `other`.';

create function dead_letter_set_group_org() returns trigger language plpgsql
    set search_path from current
as $$
begin
    new.group_org := coalesce((select code from org where code = new.org_code), '');
    return new;
end $$;
create trigger dead_letter_group_org before insert on dead_letter
    for each row execute function dead_letter_set_group_org();

-- Dead letters of an org that comes into the catalogue are counted under its code from then on.
create function dead_letter_regroup() returns trigger language plpgsql
    security definer set search_path from current
as $$
begin
    update dead_letter set group_org = org_code
    where org_code in (select code from added) and group_org <> org_code;
    return null;
end $$;
create trigger org_added after insert on org
    referencing new table as added for each statement execute function dead_letter_regroup();

-- Without the numbers: dead letters that failed alike differ in positions, counts and ids.
create function dead_letter_normalised(detail text) returns text language sql immutable
as $$ select regexp_replace(lower(detail), '[0-9]+', '#', 'g') $$;

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

create function dead_letter_count() returns trigger language plpgsql
    security definer set search_path from current
as $$
begin
    -- In the order of the keys, so that two of these never wait for each other.
    if tg_op = 'INSERT' then
        insert into dead_letter_group as g
        select fingerprint, group_org, state, min(operation), min(reason),
            min(dead_letter_normalised(detail)), count(*), min(first_died_at), max(last_died_at)
        from added group by 1, 2, 3 order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters,
            first_died_at = least(g.first_died_at, excluded.first_died_at),
            last_died_at = greatest(g.last_died_at, excluded.last_died_at);
        insert into dead_letter_group_hour as h
        select fingerprint, group_org, date_trunc('hour', last_died_at, 'UTC'), count(*)
        from added group by 1, 2, 3 order by 3, 1, 2
        on conflict (hour, fingerprint, org_code) do update set letters = h.letters + excluded.letters;
        insert into dead_letter_volume as v
        select dead_letter_volume_user(letter), dead_letter_volume_reason(letter), count(*),
            sum(dead_letter_bytes(letter))
        from added letter group by 1, 2 order by 1, 2
        on conflict (user_id, reason) do update set letters = v.letters + excluded.letters,
            bytes = v.bytes + excluded.bytes;
    elsif tg_op = 'UPDATE' then
        insert into dead_letter_group as g
        select fingerprint, group_org, state, min(operation), min(reason),
            min(dead_letter_normalised(detail)), sum(change), min(first_died_at), max(last_died_at)
        from (select 1 as change, * from added union all select -1, * from removed) changed
        group by 1, 2, 3 having sum(change) <> 0 or max(last_died_at) filter (where change = 1)
            > max(last_died_at) filter (where change = -1)
        order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters,
            first_died_at = least(g.first_died_at, excluded.first_died_at),
            last_died_at = greatest(g.last_died_at, excluded.last_died_at);
    else
        insert into dead_letter_group as g
        select fingerprint, group_org, state, min(operation), min(reason),
            min(dead_letter_normalised(detail)), -count(*), min(first_died_at), max(last_died_at)
        from removed group by 1, 2, 3 order by 1, 2, 3
        on conflict (fingerprint, org_code, state) do update set letters = g.letters + excluded.letters;
        insert into dead_letter_volume as v
        select dead_letter_volume_user(letter), dead_letter_volume_reason(letter), -count(*),
            -sum(dead_letter_bytes(letter))
        from removed letter group by 1, 2 order by 1, 2
        on conflict (user_id, reason) do update set letters = v.letters + excluded.letters,
            bytes = v.bytes + excluded.bytes;
    end if;
    return null;
end $$;

create trigger dead_letter_added after insert on dead_letter
    referencing new table as added for each statement execute function dead_letter_count();
create trigger dead_letter_changed after update on dead_letter
    referencing old table as removed new table as added for each statement execute function dead_letter_count();
create trigger dead_letter_removed after delete on dead_letter
    referencing old table as removed for each statement execute function dead_letter_count();

-- Whether a dead letter that is archived again has died anew; if not, it is another copy of a known death.
create function dead_letter_died_anew(known dead_letter, came dead_letter) returns boolean
    language sql immutable
as $$
    select case when known.lane = came.lane and known.last_lane_epoch > 0 and came.last_lane_epoch > 0
        then (came.last_lane_epoch, came.last_delivery_tag)
            > (known.last_lane_epoch, known.last_delivery_tag)
        else came.last_died_at > known.last_died_at end
$$;

-- The dead letters that a filter selects, for lists, counts and bulk jobs alike. The planner puts this
-- function into the query, so it has no search_path of its own: with the filter at hand the planner drops
-- the conditions that are not asked for, and uses the index of those that are. Lists are array literals,
-- because the planner reads those. The fingerprints are those of the groups that have the operation, the
-- reason and the text: a text without numbers needs no second look.
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

-- Runs as the owner, so that the worker may have ended dead letters deleted and no others. The audit of a
-- dead letter is deleted with it. A dead letter that another one refers to stays as long as that one.
create function delete_expired_dead_letters(retention_days int, dead_letters_max int) returns int
    language plpgsql
    security definer set search_path from current set lock_timeout = '5s'
as $$
declare
    before timestamptz := now() - make_interval(days => retention_days);
    expired uuid[];
begin
    if retention_days is null or retention_days not between 1 and 3650 then
        raise exception 'retention_days must be 1 to 3650' using errcode = 'invalid_parameter_value';
    end if;
    select array_agg(id) into expired from (
        select id from dead_letter letter
        where state in ('applied', 'failed_again', 'discarded', 'superseded')
            and last_died_at < before and changed_at < before
            and not exists (select from dead_letter where replay_of = letter.id)
            and not exists (select from dead_letter where edited_from = letter.id)
            and not exists (select from hold where dead_letter_id = letter.id)
        limit dead_letters_max for update skip locked
    ) ended;
    delete from dead_letter_action where dead_letter_id = any (expired);
    delete from dead_letter where id = any (expired);
    delete from dead_letter_group where letters = 0 and last_died_at < before;
    delete from dead_letter_group_hour where hour < now() - interval '7 days';
    return coalesce(cardinality(expired), 0);
end $$;

revoke execute on function delete_expired_dead_letters(int, int) from public;
