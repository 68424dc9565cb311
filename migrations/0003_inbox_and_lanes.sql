create table lane (
    name text constraint lane_pkey primary key,
    epoch bigint not null,
    holder text not null,
    taken_at timestamptz not null default now()
);
comment on table lane is 'The fence: who works a lane. Each taking raises the epoch; a commit under an older one is refused.';

create sequence command_log_sequence_seq;

create table command_log (
    org_id int not null,
    command_id text not null,
    -- By the database's clock: two workers never disagree on the partition.
    recorded_on date not null default (now() at time zone 'utc')::date,
    body_hash bytea not null constraint command_log_body_hash_check check (octet_length(body_hash) = 32),
    lane text not null,
    lane_epoch bigint not null,
    operation text not null constraint command_log_operation_check check (operation in ('link', 'update', 'delink')),
    verdict text not null,
    items_total int not null,
    items_succeeded int not null,
    items_failed int not null,
    result bytea not null,
    correlation_id text,
    app_id text,
    user_id text,
    traceparent text,
    sent_at timestamptz,
    occurred_at timestamptz not null,
    recorded_at timestamptz not null default now(),
    sequence bigint not null default nextval('command_log_sequence_seq'),
    -- A partitioned key must hold the partition date, so it is unique within a day only. The
    -- fence and the look-up over all live partitions keep a command from being applied twice.
    constraint command_log_pkey primary key (org_id, command_id, recorded_on)
) partition by range (recorded_on);
comment on table command_log is 'The inbox: each applied command with its result, for the retention. The row is what is announced again, too.';

alter sequence command_log_sequence_seq owned by command_log.sequence;

create table delivery_attempt (
    lane text not null,
    delivery_id uuid not null,
    attempts int not null,
    first_at timestamptz not null default now(),
    last_at timestamptz not null default now(),
    constraint delivery_attempt_pkey primary key (lane, delivery_id)
);
comment on table delivery_attempt is 'Tries of deliveries that failed or came again; a row goes when its command is done.';

create table dead_letter (
    id uuid constraint dead_letter_pkey primary key,
    org_code text,
    lane text,
    reason text not null,
    detail text not null,
    fingerprint text not null,
    state text not null default 'open' constraint dead_letter_state_check
        check (state in ('open', 'replayed', 'discarded', 'applied')),
    command_id text,
    exchange text not null,
    routing_key text not null,
    properties jsonb not null,
    headers jsonb not null,
    body bytea not null,
    replay_of uuid,
    recorded_at timestamptz not null default now(),
    changed_at timestamptz not null default now()
);
comment on table dead_letter is 'Refused messages, as they came; body and headers may hold personal data.';
-- Lists are of one state, newest first; groups are of a reason within it.
create index dead_letter_state_idx on dead_letter (state, recorded_at desc);

create table dead_letter_action (
    id bigint generated always as identity constraint dead_letter_action_pkey primary key,
    dead_letter_id uuid not null constraint dead_letter_action_dead_letter_fkey references dead_letter (id),
    action text not null constraint dead_letter_action_action_check
        check (action in ('replay', 'edit', 'discard', 'restore', 'export')),
    actor text not null,
    reason text not null,
    acted_at timestamptz not null default now()
);
comment on table dead_letter_action is 'Who did what with a dead letter, when and why.';
create index dead_letter_action_dead_letter_idx on dead_letter_action (dead_letter_id, id);
