//! The report in all its forms: of a fleet in trouble, of a large one, of hostile text; and the command.
//!
//! `UPDATE_REPORTS=1 cargo test report` writes what is rendered into `tests/reports/`; read the diff before you
//! believe it.

mod command;
mod fleet;
mod judges;
mod shown;
