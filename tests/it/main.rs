//! All tests of the crate from outside, against real parts where there are any; in one binary.

#[path = "../world/mod.rs"]
mod world;

mod acme;
mod architecture;
mod config;
mod dns;
mod facts;
mod kill;
mod lifecycle;
mod planner_properties;
mod reference;
mod scenarios;
mod together;
mod tool;
mod world_itself;
