//! All tests against real parts, in one binary.

#[path = "../world/mod.rs"]
mod world;

mod deploy;
mod transaction;
mod world_itself;
