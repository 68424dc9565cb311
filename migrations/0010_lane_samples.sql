-- How each lane fares, said by its worker every few seconds: whoever looks on is another process.
create table lane_sample (
    measured_at timestamptz not null default now(),
    lane text not null,
    over_ms int not null constraint lane_sample_over_ms_check check (over_ms > 0),
    commands bigint not null,
    p50_ms real,
    p99_ms real,
    oldest_ms bigint,
    constraint lane_sample_pkey primary key (measured_at, lane)
);
comment on table lane_sample is 'Figures of the lanes, kept for a day.';
comment on column lane_sample.commands is 'Answered, parked or dead-lettered within the over_ms before measured_at.';
comment on column lane_sample.p99_ms is 'From a delivery''s arrival to the confirm of its answer; null where none was answered.';
comment on column lane_sample.oldest_ms is 'The age of the oldest command that the worker had in hand; null where it had none.';

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select, insert, delete on lane_sample to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select on lane_sample to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on lane_sample to partner_program_readonly;
    end if;
end $$;
