//! certfleet keeps TLS certificates renewed, installed and proven on every host that serves them.

pub mod dns;
pub mod model;
pub mod secret;
