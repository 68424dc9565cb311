-- Lanes that operators let stand still. A table of its own: the lane's row is the fence, which every
-- commit locks and which is not there before a worker has taken the lane.
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
comment on table lane_pause is 'When which lane was paused and resumed, by whom and why; without resumed_at it stands still now.';
create unique index lane_pause_now_idx on lane_pause (lane) where resumed_at is null;

do $$
begin
    if exists (select from pg_roles where rolname = 'partner_program_worker') then
        grant select, insert, update on lane_pause to partner_program_worker;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_ops') then
        grant select, insert, update on lane_pause to partner_program_ops;
    end if;
    if exists (select from pg_roles where rolname = 'partner_program_readonly') then
        grant select on lane_pause to partner_program_readonly;
    end if;
end $$;
