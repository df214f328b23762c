//! certfleet keeps TLS certificates renewed, installed and proven on every host that serves them.

pub mod deploy;
pub mod model;
pub mod secret;
