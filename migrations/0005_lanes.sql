-- Lanes, the workers that own them, and what operators see of both.

create table worker_process (
    id uuid constraint worker_process_pkey primary key,
    worker text not null,
    host text not null,
    os_process_id int not null,
    started_at timestamptz not null default now(),
    seen_at timestamptz not null default now()
);
comment on table worker_process is 'The processes of workers: two with the same worker_id are told apart. Each updates seen_at every few seconds; deleted an hour after the last time.';

create table lane (
    name text constraint lane_pkey primary key,
    epoch bigint not null,
    token uuid not null default gen_random_uuid(),
    owner text not null,
    process uuid,
    acquired_at timestamptz not null default now(),
    held_by_change bigint constraint lane_held_by_change_fkey references routing_change (id)
);
comment on table lane is 'The fence: which worker owns a lane. Each acquisition raises the epoch; a commit under an older one is refused.';
-- After a restore epochs are counted again from a lower number, so a worker from before it may have the
-- epoch of a later owner. It never has the token.
comment on column lane.token is 'Of this acquisition alone: a commit needs it and the epoch.';
comment on column lane.process is 'The process that acquired the lane last, see worker_process: two processes may have one worker_id.';
-- On the lane's own row: acquiring the lane and holding it lock the same row.
comment on column lane.held_by_change is 'The change of the routing map before whose end no worker may acquire the lane.';

-- A table of its own: the lane's row is the fence, which every commit locks and which does not exist
-- before a worker has acquired the lane.
create table lane_pause (
    id bigint generated always as identity constraint lane_pause_pkey primary key,
    lane text not null,
    actor text not null,
    reason text not null,
    source text not null,
    paused_at timestamptz not null default now(),
    resumed_by text,
    resumed_at timestamptz
);
comment on table lane_pause is 'When which lane was paused and resumed, by whom and why. Without resumed_at the lane is paused now.';
create unique index lane_pause_now_idx on lane_pause (lane) where resumed_at is null;

-- Written by each lane's worker every few seconds, because consoles run in other processes.
create table lane_metric (
    measured_at timestamptz not null default now(),
    lane text not null,
    interval_ms int not null constraint lane_metric_interval_ms_check check (interval_ms > 0),
    commands bigint not null,
    p50_ms real,
    p99_ms real,
    oldest_ms bigint,
    constraint lane_metric_pkey primary key (measured_at, lane)
);
comment on table lane_metric is 'Figures of the lanes, kept for a day.';
comment on column lane_metric.commands is 'Answered, parked or dead-lettered within the interval_ms before measured_at.';
comment on column lane_metric.p99_ms is 'From a delivery''s arrival to the confirm of its result; null where no result was published.';
comment on column lane_metric.oldest_ms is 'The age of the oldest command in flight; null where there is none.';

-- A passive declaration tells how many commands wait, but not since when.
create table lane_waiting (
    lane text constraint lane_waiting_pkey primary key,
    -- If the lane has a higher epoch now, it was consumed meanwhile.
    lane_epoch bigint not null,
    since timestamptz not null default now()
);
comment on table lane_waiting is 'Lanes without a consumer in which commands wait: the oldest command waits at least since then. Written by each worker with a console, and by each console.';

create table canary (
    lane text constraint canary_pkey primary key,
    worker text not null,
    passed_at timestamptz not null default now()
);
comment on table canary is 'When a worker of a lane last proved that the database takes its statements and commits.';

-- The canary's org: no routing key can name it, because its code has a dot. Its statements tell whether
-- the database works while a command fails.
insert into org (id, code, name, country_code) values (-1, '.canary', 'canary', '0');
insert into customer (org_id, id, state) values (-1, 1, 'active'), (-1, 2, 'active');
insert into program (org_id, id, name, normalised_name, kind)
    values (-1, -1, 'canary', 'canary', 'EXTERNAL');
insert into tier (org_id, program_id, number, rank, name, normalised_name)
    values (-1, -1, 1, 1, 'canary', 'canary');
insert into enrolment (org_id, customer_id, program_id, linked, membership_id, tier_number, linked_since, version)
    values (-1, 1, -1, true, 'canary', 1, now(), 1);
