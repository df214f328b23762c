//! All tests against real parts, in one binary.
#[test]
fn placeholder() {}
