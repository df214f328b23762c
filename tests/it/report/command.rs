//! `certfleet report`, as people and monitoring run it.
