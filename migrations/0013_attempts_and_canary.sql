-- What is known of a command that fails: how often it failed alone, and how often a process died
-- while the command ran beside others.
alter table delivery_attempt
    alter column attempts set default 0,
    add column deaths int not null default 0,
    add column last_error text,
    add column running_in uuid,
    add column running_alone boolean not null default false;
comment on table delivery_attempt is 'Commands that failed or were delivered again; a row goes when its command is done.';
comment on column delivery_attempt.attempts is 'Failures that are the command''s own: it ran alone in the process and the canary passed, or the process died.';
comment on column delivery_attempt.deaths is 'Deaths of a process in which the command ran beside others: they shrink the batches around it and count against no command.';
comment on column delivery_attempt.last_error is 'Of the latest failure; the dead letter names it.';
comment on column delivery_attempt.running_in is 'The process in which the command runs now. Another process that finds it set knows that this one died or was cut off.';

-- The canary: an org that no routing key can name, since its code has a dot. Its statements tell
-- whether the database works while a command fails.
insert into org (id, code, name, country_code) values (-1, '.canary', 'canary', '0');
insert into customer (org_id, id, state) values (-1, 1, 'active'), (-1, 2, 'active');
insert into partner_program (org_id, id, name, normalised_name, kind)
    values (-1, -1, 'canary', 'canary', 'EXTERNAL');
insert into tier (org_id, program_id, number, name, normalised_name)
    values (-1, -1, 1, 'canary', 'canary');
insert into enrolment (org_id, customer_id, program_id, linked, membership_id, tier_number, linked_since, version)
    values (-1, 1, -1, true, 'canary', 1, now(), 1);

create table canary (
    lane text constraint canary_pkey primary key,
    worker text not null,
    passed_at timestamptz not null default now()
);
comment on table canary is 'When a worker of a lane last proved that the database takes its statements and commits.';

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select, insert, update on canary to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select on canary to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on canary to partner_program_readonly;
    end if;
end $$;
