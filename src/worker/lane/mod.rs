//! One lane, from its connections to the ack of a batch, in the order of a delivery's way.
//!
//! Deliberately absent: any state that outlives a generation and that work would depend on.

pub(crate) mod batches;
pub(crate) mod context;
pub(crate) mod generation;
pub(crate) mod run;

pub(crate) mod connect;
pub(crate) mod preflight;
pub(crate) mod routing;

pub(crate) mod facts;
pub(crate) mod look_ahead;
pub(crate) mod priority;
pub(crate) mod receive;

pub(crate) mod acquire;
pub(crate) mod attempts;
pub(crate) mod canary;
pub(crate) mod executor;
pub(crate) mod executors;
pub(crate) mod process;
pub(crate) mod retry;
pub(crate) mod side_transactions;
pub(crate) mod split;

pub(crate) mod apply;
pub(crate) mod evaluation_deadline;
pub(crate) mod replay_check;

pub(crate) mod answer;
pub(crate) mod dead_letter;
pub(crate) mod direct_reply;
pub(crate) mod lost_replies;
pub(crate) mod outgoing;
pub(crate) mod outgoing_message;
pub(crate) mod publish;
pub(crate) mod reply_queue;
pub(crate) mod unpublishable;

pub(crate) mod error;

#[cfg(feature = "failpoints")]
mod failpoints;
