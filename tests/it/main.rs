//! All tests of the crate from outside, in one binary.

mod architecture;
mod facts;
mod planner_properties;
mod scenarios;
