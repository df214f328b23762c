//! All tests against real parts, in one binary.

#[path = "../world/mod.rs"]
mod world;

mod acme;
mod config;
mod dns;
mod lifecycle;
mod tool;
mod world_itself;
