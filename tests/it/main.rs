//! All tests of the crate from outside, against real parts where there are any; in one binary.

#[path = "../world/mod.rs"]
mod world;

mod acme;
mod alert;
mod architecture;
mod canary;
mod certificates;
mod channels;
mod chaos;
mod check;
mod config;
mod contract;
mod daemon;
mod deploy;
mod dns;
mod drift;
mod facts;
mod faults;
mod first_set_up;
mod fleet;
mod haproxy;
mod history;
mod hosts;
mod import;
mod kill;
mod lifecycle;
mod moving;
mod notify;
mod package;
mod planner_properties;
mod providers;
mod receiver;
mod reference;
mod report;
mod rollout;
mod scan;
mod scenarios;
mod systemd;
mod together;
mod tool;
mod transaction;
mod trouble;
mod units;
mod world_itself;
