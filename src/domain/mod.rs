//! What a command means: the rules of the loyalty partner program (`docs/contract.md`, all
//! sections but the wire's).
//!
//! Architecture invariant: this module is pure. No IO, no clock, no async, no serde; `now` is a
//! parameter, facts are values, a decision returns effects. A business failure is a
//! [`status::Status`], never an `Err`.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod command;
pub mod identity;
pub mod names;
pub mod priority;
pub mod program;

pub mod actor;
pub mod bulk_job;
pub mod dead_letter;
pub mod enrolment;
pub mod rejection;
pub mod replay;
pub mod status;

pub mod needs;
pub mod snapshot;

pub mod groups;
pub mod holds;

mod patterns;
pub mod routing;

pub mod evaluate;
pub mod resolve;

pub mod attempt;
pub mod canary;

mod delink;
mod link;
mod update;

#[cfg(test)]
mod tests;
