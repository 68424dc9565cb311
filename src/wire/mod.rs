//! Bytes to domain and back: what messages look like (`docs/contract.md`, all sections on messages).
//!
//! This module alone knows the JSON and the properties of messages. Deliberately absent: AMQP
//! itself (`broker`), and the rules for what a command says (`domain`): this module only refuses
//! what can't be read. Nothing here panics, whatever a publisher sends, and no text that it
//! makes for people quotes a value, which may be personal data.

pub mod envelope;

mod date;
pub mod decode;
mod json;
mod reader;

mod own_headers;

pub mod customer_keys;
pub mod cut_body;
pub mod dead_letter;
pub mod frame;
pub mod lane_marker;
pub mod parked;
pub mod parked_event;
pub mod rejected;
pub mod replay;
pub mod result;
pub mod unavailable;
