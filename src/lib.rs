//! certfleet keeps TLS certificates renewed, installed and proven on every host that serves them.

pub mod acme;
pub mod config;
pub mod dns;
pub mod kind;
pub mod dns;
pub mod model;
pub mod probe;
pub mod secret;
pub mod store;
