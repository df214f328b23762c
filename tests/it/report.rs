//! The report in all its forms: of a fleet in trouble, of a large one, of hostile text; and the command.
//!
//! `UPDATE_REPORTS=1 cargo test report` writes what is rendered into `tests/reports/`; read the diff before you
//! believe it. README's picture of the page is made by hand, and then made small:
//!
//! ```sh
//! chromium --headless --hide-scrollbars --window-size=1200,1160 --screenshot=tests/pictures/report.png tests/reports/story.html
//! ```

mod command;
mod fleet;
mod judges;
mod shown;
