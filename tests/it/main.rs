//! All tests of the crate from outside, against real parts where there are any; in one binary.

#[path = "../world/mod.rs"]
mod world;

mod acme;
mod architecture;
mod certificates;
mod config;
mod deploy;
mod dns;
mod facts;
mod hosts;
mod lifecycle;
mod planner_properties;
mod reference;
mod scenarios;
mod tool;
mod transaction;
mod world_itself;
