//! What a worker does beside its lanes, every few seconds or hours.

pub(crate) mod archive;
pub(crate) mod archive_limits;
pub(crate) mod bindings;
pub(crate) mod lane_metrics;
pub(crate) mod presence;
pub(crate) mod replay_outcomes;
pub(crate) mod retention;
