//! Use-cases that more than one front end offers: what is done, not how it is asked for.
//!
//! Deliberately absent: arguments, tables and pages (`cli` has those), and the worker's loop.

pub mod dead_letters;
pub mod documents;
pub mod import;
pub mod import_customers;
pub mod installation;
pub mod priority;
pub mod publish;
pub mod routing;
