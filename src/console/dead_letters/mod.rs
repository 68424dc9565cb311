//! The dead letters: groups, lists, one of them in full, and what can be done with them.

mod detail;
mod query;

pub(super) mod page;

pub(super) mod find;

pub(super) mod act;
pub(super) mod edit;
