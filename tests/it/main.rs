//! All tests against real servers, in one binary, so that it is linked and its servers are
//! started once.

#[cfg(not(feature = "failpoints"))]
compile_error!("these tests need the worker's failpoints: cargo test --all-features");

#[cfg(test)]
mod checker;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod model;

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod brokers;
#[cfg(test)]
mod changing_facts;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod console;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod holding;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod installation;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod links;
#[cfg(test)]
mod memory;
#[cfg(test)]
mod model_based;
#[cfg(test)]
mod ordering;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod publishing;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod replies;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod smoke;

#[cfg(test)]
mod show;

#[cfg(test)]
mod store;

#[cfg(test)]
mod supervision;
#[cfg(test)]
mod tiers;
#[cfg(test)]
mod twins;

#[cfg(test)]
mod import;

#[cfg(test)]
mod demo;

#[cfg(test)]
mod protocol;
