//! The console as people use it: in a real browser, and by the requests that no browser sends.

mod bodies;
mod browser;
mod exports;
mod stage;

mod access;
mod acting;
mod hostile;
mod looking;
mod requests;
