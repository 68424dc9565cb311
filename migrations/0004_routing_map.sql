-- Which lane gets which routing key. Only `topology apply` and `lanes move` write it; workers read it
-- before they subscribe, and check by it what arrives.

create table routing_map (
    only_row boolean not null default true constraint routing_map_pkey primary key
        constraint routing_map_only_row_check check (only_row),
    version bigint not null,
    applied_at timestamptz not null default now()
);
comment on table routing_map is 'The version of the routing map. No row: it was never applied.';

create table routing_lane (
    name text constraint routing_lane_pkey primary key,
    active boolean not null
);
comment on table routing_lane is 'The lanes of the routing map; inactive ones were in an earlier version, and their queues may still exist.';

create table routing_binding (
    pattern text not null,
    lane text not null constraint routing_binding_lane_fkey references routing_lane (name),
    active boolean not null,
    constraint routing_binding_pkey primary key (pattern, lane)
);
comment on table routing_binding is 'Patterns of lanes. Inactive ones were bound once: `topology apply` removes them from the broker. A routing key that no pattern matches goes to the lane main.';
create unique index routing_binding_active_idx on routing_binding (pattern) where active;

create table routing_change (
    id bigint generated always as identity constraint routing_change_pkey primary key,
    kind text not null constraint routing_change_kind_check check (kind in ('apply', 'move')),
    -- Of a move.
    pattern text,
    from_lane text,
    to_lane text,
    -- The leg under way: one of its lanes is the catch-all.
    leg_from text,
    leg_to text,
    step text not null constraint routing_change_step_check
        check (step in ('rerouting', 'binding', 'draining', 'finished', 'cancelled')),
    -- The map that `topology apply` makes, once it changes bindings.
    target jsonb,
    -- Identifies the message that ends the leg in the queue of leg_from.
    marker uuid not null default gen_random_uuid(),
    drained_at timestamptz,
    actor text not null,
    reason text not null,
    source text not null,
    started_at timestamptz not null default now(),
    finished_at timestamptz,
    constraint routing_change_move_check check (kind = 'apply'
        or (pattern is not null and from_lane is not null and to_lane is not null
            and leg_from is not null and leg_to is not null)),
    constraint routing_change_target_check check (step <> 'binding' or target is not null),
    constraint routing_change_finished_check
        check ((finished_at is null) = (step in ('rerouting', 'binding', 'draining')))
);
comment on table routing_change is 'Changes of the routing map, by whom and why. At most one is under way; after a crash it continues at its step.';
create unique index routing_change_under_way_idx on routing_change ((true)) where finished_at is null;

create table routing_marker (
    marker uuid constraint routing_marker_pkey primary key,
    lane text not null,
    created_at timestamptz not null default now()
);
comment on table routing_marker is 'The markers of all moves, and the lane whose queue each was sent to. Kept after the move: a marker may be delivered again.';
create index routing_marker_lane_idx on routing_marker (lane);
