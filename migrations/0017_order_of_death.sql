-- The order of death within a lane is that of the lane's queue, whatever the workers' clocks say: the
-- lane's epoch and the delivery tag, which the worker stamps on the letter before it publishes it.

alter table dead_letter
    -- 0: unknown. The broker gave the letter up by itself, or an older release did.
    add column lane_epoch bigint not null default 0,
    add column delivery_tag bigint not null default 0,
    -- Of the latest death; the columns above are of the first one since the letter is open.
    add column last_lane_epoch bigint not null default 0,
    add column last_delivery_tag bigint not null default 0,
    add column ordered_at timestamptz,
    add constraint dead_letter_ordered_at_finite_check
        check (ordered_at > '-infinity' and ordered_at < '262143-01-01 00:00:00+00');
comment on column dead_letter.lane_epoch is 'With delivery_tag: the place in the queue of its lane, which is its place in the order of death. 0: unknown.';
comment on column dead_letter.ordered_at is 'Orders letters of different lanes: the time of death, moved between those of the letters before and behind it in its lane. Null: last_died_at.';

-- Bulk actions go through these. Each begins as the index does that lists use for the same filter.
create index dead_letter_death_order_idx on dead_letter
    (state, coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence);
create index dead_letter_org_death_order_idx on dead_letter
    (org_code, state, coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence);
create index dead_letter_group_death_order_idx on dead_letter
    (fingerprint, state, coalesce(ordered_at, last_died_at), lane_epoch, delivery_tag, sequence);
-- The letters before and behind another in its lane.
create index dead_letter_position_idx on dead_letter (lane, lane_epoch, delivery_tag)
    where lane_epoch > 0;

-- Whether a letter that is archived again died anew, or is another copy of a death that is known.
create function dead_letter_died_anew(known dead_letter, came dead_letter) returns boolean
    language sql immutable
as $$
    select case when known.lane = came.lane and known.last_lane_epoch > 0 and came.last_lane_epoch > 0
        then (came.last_lane_epoch, came.last_delivery_tag)
            > (known.last_lane_epoch, known.last_delivery_tag)
        else came.last_died_at > known.last_died_at end
$$;

alter table dead_letter_operation
    add column cursor_lane_epoch bigint,
    add column cursor_delivery_tag bigint;

-- A parked command that dies in its turn has the place in the queue that it was delivered at.
alter table parked_command
    add column lane_epoch bigint,
    add column delivery_tag bigint;

-- A replay that dies in another lane, or is refused there, becomes a letter that stands for the one it
-- replays: its end releases the customers, too.
alter table hold add column came_back_as uuid;
comment on column hold.came_back_as is 'The letter that a replay of this one died as, through whatever lane: its end releases this hold.';
create index hold_came_back_as_idx on hold (came_back_as) where came_back_as is not null;
