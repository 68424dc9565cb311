//! Commands of customers whom a dead letter holds: which of them wait, and when they go on.

pub(crate) mod admit;
pub(crate) mod unpark;
