//! Everything that can be decided without touching the world.
//!
//! No I/O, no clock, no randomness: `now` is a parameter, chance is a hash of a name.
//! `tests/it/architecture.rs` holds this folder to it.

pub mod alert;
pub mod cert;
pub mod clock;
pub mod desired;
pub mod disk;
pub mod history;
pub mod name;
pub mod observed;
pub mod pace;
pub mod passes;
pub mod plan;
pub mod problem;
pub mod report;
pub mod schedule;
pub mod state;
