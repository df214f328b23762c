//! All tests against real parts, in one binary.

mod config;
