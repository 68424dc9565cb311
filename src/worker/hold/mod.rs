//! Commands of customers that a dead letter holds: which of them wait, and when they are applied.

pub(crate) mod admit;
pub(crate) mod unpark;
