//! All tests of the crate from outside, against real parts where there are any; in one binary.

#[path = "../world/mod.rs"]
mod world;

mod acme;
mod architecture;
mod check;
mod config;
mod dns;
mod facts;
mod history;
mod import;
mod lifecycle;
mod planner_properties;
mod scan;
mod scenarios;
mod tool;
mod world_itself;
