//! Postgres: the inbox, enrolments and their history, the catalogue, the fence.
//!
//! The only module that knows sqlx. Statements are set-based: arrays go in, rows come out, and a
//! batch costs the same few round trips whatever its size. Only `commit` begins and commits a
//! transaction on the way of a message. Deliberately absent: decisions.

pub mod connection;
pub mod error;
pub mod session;
pub mod text;

pub mod catalogue;
pub mod command_log;
pub mod compatibility;
pub mod load;

pub mod commit;
mod enrolments;
pub mod fence;
pub mod held_letters;
pub mod history;
pub mod holds;
pub mod installation;
pub mod parked;

pub mod attempts;
pub mod canary;
pub mod lane_metrics;
pub mod lane_pauses;
pub mod lane_waiting;
pub mod routing;
pub mod worker_processes;

pub mod dead_letters;

pub mod health;
pub mod lookup;
pub mod results;

pub mod doctor;
pub mod import;
pub mod import_customers;
pub mod migrate;
pub mod retention;
