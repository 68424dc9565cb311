-- How long commands wait in lanes that no worker consumes: a passive look tells how many wait, and not
-- since when.

create table lane_waiting (
    lane text constraint lane_waiting_pkey primary key,
    -- A lane that was taken meanwhile was consumed.
    lane_epoch bigint not null,
    since timestamptz not null default now() constraint lane_waiting_since_finite_check
        check (since > '-infinity' and since < '262143-01-01 00:00:00+00')
);
comment on table lane_waiting is 'Lanes in which commands wait which no worker consumes: the oldest command waits at least since then. Written by those who look: each worker with a console, and each console.';

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select, insert, update, delete on lane_waiting to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select, insert, update, delete on lane_waiting to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on lane_waiting to partner_program_readonly;
    end if;
end $$;
