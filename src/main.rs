//! The `certfleet` command.
fn main() {}
