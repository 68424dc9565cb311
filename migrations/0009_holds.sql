-- Holds and parked commands stand in one line: a replay takes the place of the letter that it
-- replays, and what is parked is applied by its place.
create sequence hold_sequence;

create table hold (
    letter_id uuid constraint hold_pkey primary key,
    lane text not null,
    org_id int not null,
    command_id text not null,
    sequence bigint not null default nextval('hold_sequence'),
    placed_at timestamptz not null default now(),
    released_at timestamptz
);
comment on table hold is 'Dead letters whose customers'' later commands wait, in lanes with after_dead_letter = "hold-customer". Released ones go when what they held was applied.';
create index hold_lane_idx on hold (lane);
create index hold_command_idx on hold (org_id, command_id);

create table hold_customer (
    letter_id uuid not null constraint hold_customer_hold_fkey references hold (letter_id)
        on update cascade on delete cascade,
    org_id int not null,
    customer_id bigint not null,
    -- The customer first: windows ask who is held.
    constraint hold_customer_pkey primary key (org_id, customer_id, letter_id)
);
comment on table hold_customer is 'The customers of a dead-lettered command.';
create index hold_customer_letter_idx on hold_customer (letter_id);

create table parked_command (
    sequence bigint not null default nextval('hold_sequence') constraint parked_command_pkey primary key,
    lane text not null,
    org_id int not null,
    command_id text not null,
    body_hash bytea not null constraint parked_command_body_hash_check check (octet_length(body_hash) = 32),
    -- Without the body.
    message text not null,
    body bytea not null,
    parked_at timestamptz not null default now(),
    applied_at timestamptz,
    constraint parked_command_key unique (org_id, command_id)
);
comment on table parked_command is 'Commands that wait for a dead letter, as they were delivered; they may hold personal data. An applied one goes when its result was confirmed.';
create index parked_command_lane_idx on parked_command (lane, sequence);

create table parked_customer (
    sequence bigint not null constraint parked_customer_parked_command_fkey
        references parked_command (sequence) on delete cascade,
    org_id int not null,
    customer_id bigint not null,
    constraint parked_customer_pkey primary key (org_id, customer_id, sequence)
);
comment on table parked_customer is 'The customers of a parked command, who are held by it.';
create index parked_customer_sequence_idx on parked_customer (sequence);

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select, insert, update, delete on hold, hold_customer, parked_command, parked_customer
            to partner_program_worker;
        grant usage on sequence hold_sequence to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select, update on hold to partner_program_ops;
        grant select on hold_customer, parked_command, parked_customer to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on hold, hold_customer, parked_customer to partner_program_readonly;
    end if;
end $$;
