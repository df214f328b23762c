//! certfleet keeps TLS certificates renewed, installed and proven on every host that serves them.
//!
//! ```text
//!  certs.toml     store       the world
//!      |            |             |
//!    config       state        observe            model: no I/O, no clock, no randomness
//!      '-----> plan(desired, state, observed, now) ----> actions + waiting (each with its reason)
//!                                                           |
//!                       acme · dns · deploy · probe  <-- execute --> recorded in the store
//! ```
//!
//! - [`model`]: everything that can be decided without touching the world; [`model::plan`] is its heart.
//! - [`config`]: certs.toml into types that cannot be wrong, all its mistakes at once; [`kind`] reads tables,
//!   [`secret`] what they only name.
//! - [`http`], [`program`]: requests to services that are given secrets, and programs of people.
//! - [`notify`]: telling people, one channel each.
//! - [`store`]: what is remembered, as files; facts only.
//! - [`acme`], [`dns`], [`deploy`], [`probe`]: one attempt each at what the plan says. None knows another, but
//!   that a deployment ends with a proof.
//! - [`engine`]: the pass: observe, plan, execute, record, until nothing is left but waiting.
//! - [`cli`] and [`render`]: arguments in; text, JSON and exit codes out.
//!
//! Decisions that are not argued again in the code:
//!
//! - *Derived, not stored.* Where a certificate stands is computed in each pass, so it cannot be stuck.
//! - *Verification is observation.* The look that proves a deployment is the look of every pass.
//! - *Retries belong to the planner.* Adapters make one attempt; failures are facts, so a restart changes nothing.
//! - *Time and chance are inputs.* Jitter is a hash of the certificate's name.
//! - *Record before effect* where the effect needs cleaning up (key, order, TXT record); *effect before record*
//!   where it can be observed (a deployment). A crash anywhere is an early end of a pass.

pub mod acme;
pub mod cli;
pub mod config;
pub mod deploy;
pub mod dns;
pub mod engine;
pub mod http;
pub mod kind;
pub mod model;
pub mod notify;
pub mod probe;
pub mod program;
pub mod render;
pub mod secret;
pub mod store;
