-- What commands change: a customer's enrolment in a program, and its history.

-- No foreign key to program: each insert would lock the same few rows, on every lane. Programs are
-- never deleted. A customer's row is touched by one lane only, so that key is kept.
create table enrolment (
    org_id int not null,
    customer_id bigint not null,
    program_id int not null,
    linked boolean not null,
    membership_id text,
    tier_number smallint,
    tier_expires_at timestamptz,
    linked_since timestamptz not null,
    version bigint not null constraint enrolment_version_check check (version > 0),
    -- The customer before the program: the load reads all programs of a customer.
    constraint enrolment_pkey primary key (org_id, customer_id, program_id),
    constraint enrolment_customer_fkey foreign key (org_id, customer_id) references customer (org_id, id)
) with (fillfactor = 85); -- room for updates that stay on the page and touch no index
comment on table enrolment is 'A customer''s standing in a partner program; delinked rows stay. version grows by one with each effect.';
comment on column enrolment.tier_number is 'The tier''s id, `tier.number`.';

-- At most one linked member with a membership id; also the look-up of that member.
create unique index enrolment_membership_key on enrolment (org_id, program_id, membership_id)
    where linked and membership_id is not null;

create sequence enrolment_history_id_seq;

create table enrolment_history (
    id bigint not null default nextval('enrolment_history_id_seq'),
    recorded_on date not null default (now() at time zone 'utc')::date,
    org_id int not null,
    customer_id bigint not null,
    program_id int not null,
    command_id text not null,
    position int not null,
    kind text not null constraint enrolment_history_kind_check
        check (kind in ('ENROLMENT', 'UPGRADE', 'RENEW', 'DOWNGRADE', 'DELINK')),
    old_linked boolean,
    new_linked boolean not null,
    old_membership_id text,
    new_membership_id text,
    old_tier_number smallint,
    new_tier_number smallint,
    old_tier_expires_at timestamptz,
    new_tier_expires_at timestamptz,
    reason text,
    occurred_at timestamptz not null,
    version bigint not null
) partition by range (recorded_on);
comment on table enrolment_history is 'Every effect, append-only; old_ values are null where the enrolment is new. id gives the order within a lane. Never deleted.';
comment on column enrolment_history.old_tier_number is 'The tier''s id, `tier.number`.';
comment on column enrolment_history.new_tier_number is 'The tier''s id, `tier.number`.';

alter sequence enrolment_history_id_seq owned by enrolment_history.id;

-- Read by customer: few rows are left to sort by program and time.
create index enrolment_history_customer_idx on enrolment_history (org_id, customer_id);

create function refuse_change() returns trigger language plpgsql
    set search_path from current
as $$
begin
    raise exception 'table % is append-only', tg_table_name using errcode = 'restrict_violation';
end $$;

create trigger enrolment_history_append_only before update or delete on enrolment_history
    for each row execute function refuse_change();
-- On the parent only: the owner may still detach a month's partition and archive it.
create trigger enrolment_history_no_truncate before truncate on enrolment_history
    for each statement execute function refuse_change();
