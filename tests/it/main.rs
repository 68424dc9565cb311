//! All tests against real servers, in one binary, so that it is linked and its servers are
//! started once.

#[cfg(test)]
mod harness;

#[cfg(test)]
mod cli;

#[cfg(test)]
mod smoke;

#[cfg(test)]
mod show;
