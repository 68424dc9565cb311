-- The inbox, and the attempts of commands that fail.

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
comment on table command_log is 'The inbox and the outbox: each applied command with its result, for the retention. A republished result is this row''s.';

alter sequence command_log_sequence_seq owned by command_log.sequence;

create table delivery_attempt (
    lane text not null,
    delivery_id uuid not null,
    attempts int not null default 0,
    deaths int not null default 0,
    last_error text,
    running_in uuid,
    running_alone boolean not null default false,
    first_at timestamptz not null default now(),
    last_at timestamptz not null default now(),
    constraint delivery_attempt_pkey primary key (lane, delivery_id)
);
comment on table delivery_attempt is 'Commands that failed or were delivered again; a row is deleted when its command is done.';
comment on column delivery_attempt.attempts is 'Failures that are the command''s own: it ran alone in the process and the canary passed, or the process died.';
comment on column delivery_attempt.deaths is 'Deaths of a process in which the command ran beside others: they shrink the batches around it and count against no command.';
comment on column delivery_attempt.last_error is 'Of the latest failure; the dead letter names it.';
comment on column delivery_attempt.running_in is 'The process in which the command runs now. Another process that finds it set knows that this one died or was cut off.';
