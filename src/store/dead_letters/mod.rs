//! The archive of dead letters: found, shown, claimed and counted.
//!
//! What a filter means stands in one place, the database's function `dead_letter_matching`; counts
//! of groups are kept as letters change. Connections that search are to come from
//! [`connect_to_search`](crate::store::connection::connect_to_search). Deliberately absent: what may be
//! replayed, which `usecases` decides, and any deletion but by age, which is `retention`'s.

pub mod filter;
mod text_columns;

pub mod groups;
pub mod known;
pub mod list;
pub mod show;

pub mod applied;
pub mod archive;
pub mod order;

pub mod audit;
pub mod bulk_jobs;
pub mod claims;
pub mod edit;
pub mod endings;
pub mod replayed;
pub mod volume;
