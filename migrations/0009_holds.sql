-- Holds and parked commands of lanes with after_dead_letter = "hold-customer". Both take their positions
-- in one wait queue from hold_sequence: a replay takes the position of the dead letter that it replays,
-- and parked commands are applied in the order of their positions.
create sequence hold_sequence;

create table hold (
    dead_letter_id uuid constraint hold_pkey primary key,
    lane text not null,
    org_id int not null,
    command_id text not null,
    sequence bigint not null default nextval('hold_sequence'),
    -- A replay that dies in another lane, or is refused there, is a dead letter of its own.
    replay_died_as uuid,
    placed_at timestamptz not null default now(),
    released_at timestamptz
);
comment on table hold is 'Dead letters whose customers'' later commands wait. A released one is deleted when the commands that it held were applied.';
comment on column hold.replay_died_as is 'The dead letter that a replay of this one became, in whatever lane: its end releases this hold.';
create index hold_lane_idx on hold (lane);
create index hold_command_idx on hold (org_id, command_id);
create index hold_replay_died_as_idx on hold (replay_died_as) where replay_died_as is not null;

create table hold_customer (
    dead_letter_id uuid not null constraint hold_customer_hold_fkey references hold (dead_letter_id)
        on update cascade on delete cascade,
    org_id int not null,
    customer_id bigint not null,
    -- The customer first: batches ask which customers are held.
    constraint hold_customer_pkey primary key (org_id, customer_id, dead_letter_id)
);
comment on table hold_customer is 'The customers of a dead-lettered command.';
create index hold_customer_dead_letter_idx on hold_customer (dead_letter_id);

create table parked_command (
    sequence bigint not null default nextval('hold_sequence') constraint parked_command_pkey primary key,
    lane text not null,
    org_id int not null,
    command_id text not null,
    body_hash bytea not null constraint parked_command_body_hash_check check (octet_length(body_hash) = 32),
    -- Without the body.
    message text not null,
    body bytea not null,
    -- Its position in the lane's queue: that of its dead letter, should it die when it is applied.
    lane_epoch bigint,
    delivery_tag bigint,
    parked_at timestamptz not null default now(),
    applied_at timestamptz,
    constraint parked_command_key unique (org_id, command_id)
);
comment on table parked_command is 'Commands that wait for a dead letter, as they were delivered; they may hold personal data. An applied one is deleted when its result was confirmed.';
create index parked_command_lane_idx on parked_command (lane, sequence);

create table parked_customer (
    sequence bigint not null constraint parked_customer_parked_command_fkey
        references parked_command (sequence) on delete cascade,
    org_id int not null,
    customer_id bigint not null,
    constraint parked_customer_pkey primary key (org_id, customer_id, sequence)
);
comment on table parked_customer is 'The customers of a parked command, which it holds.';
create index parked_customer_sequence_idx on parked_customer (sequence);
