//! What operators do with dead letters, however they ask for it.
//!
//! A bulk job is a row that says what to do with which letters, why and how far it is. Its runner
//! goes through the letters in the order of death, each claimed before it is touched. So
//! two operations never replay the same letter, and one whose runner died is taken over by another.
//! Deliberately absent: any judgement of what a command asks for. A replay keeps the command's id,
//! so the inbox decides whether it has an effect.

pub mod error;

pub mod eligible;
pub mod filter_check;
mod history_check;
pub mod selection;

pub mod edit;
pub mod export;
mod heartbeat;
pub mod json_text;
pub mod mask;
pub mod rejections;
pub mod run;
mod sender;
mod steps;

pub mod job_recovery;
