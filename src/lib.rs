//! The partner-program worker: link, update and delink commands of a loyalty partner program
//! in from RabbitMQ, applied to Postgres exactly once and in order, result events out.
//!
//! The modules stand in reading order: what a message means, how it is written, where it comes
//! from and is kept, who joins all that, and how people use it.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod domain;

pub mod message;
pub mod periodic;
pub mod wire;

pub mod broker;

pub mod store;

pub mod worker;

pub mod usecases;

pub mod console;

pub mod cli;

pub mod clock;
pub mod config;
pub mod failpoint;
pub mod retry;
pub mod telemetry;
