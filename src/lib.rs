//! certfleet.
