//! `certfleet unit-failed UNIT`: what certfleet-alert@.service runs when systemd has seen a unit of ours fail.

use std::path::Path;

use jiff::Timestamp;

use super::{Exit, alert, complain};
use crate::config;
use crate::model::alert::{Level, Notice, Occasion};
use crate::model::history::How;
use crate::model::problem::{Blame, Diagnose, Problem, plain};
use crate::notify::{Message, journal};
use crate::render;
use crate::store::Store;

/// A unit that systemd gave up on.
#[derive(Debug, thiserror::Error)]
#[error("the unit `{unit}` has failed ({how})")]
struct UnitFailed {
    unit: String,
    /// As systemd has it: `exit-code`, `signal`, `watchdog`, and with which.
    how: String,
}

impl Diagnose for UnitFailed {
    fn code(&self) -> &'static str {
        "machine.unit-failed"
    }

    fn blame(&self) -> Blame {
        Blame::Machine
    }

    fn hint(&self) -> Option<String> {
        Some(format!("`journalctl -u {}` says why", self.unit))
    }
}

/// Tells people through the channels of certs.toml; where that cannot be used, the journal.
pub(super) async fn run(unit: &str, path: Option<&Path>) -> Exit {
    // What failed and how, for the units that OnFailure= starts (systemd.exec(5)).
    let monitor = |name: &str| plain(&std::env::var(format!("MONITOR_{name}")).unwrap_or_default());
    let (result, status) = (monitor("SERVICE_RESULT"), monitor("EXIT_STATUS"));
    let how = match what_runs(unit) {
        // It has told people by itself why it ends with that.
        How::Timer if result == "exit-code" && status == "1" => return Exit::Done,
        how => how,
    };
    let known = [result, status].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let known = if known.is_empty() { "nothing is known of how".to_owned() } else { known };
    let problem = Problem::of(&UnitFailed { unit: plain(unit), how: known });
    let config = config::find(path).and_then(|path| config::load(&path));
    let hindrance = match &config {
        Ok(config) => {
            let store = Store::open(&config.store).ok();
            alert::no_pass(config, store.as_ref(), &problem, how).await;
            return Exit::Done;
        }
        Err(error) => Problem::of(error),
    };
    let now = Timestamp::now();
    let notice = Notice {
        alert: "unit".to_owned(),
        occasion: Occasion::Raised,
        level: Level::Critical,
        at: now,
        since: now,
        code: problem.code.clone(),
        title: problem.message.clone(),
        subjects: Vec::new(),
        more: 0,
        reason: Some(hindrance.one_line()),
        next: Some("nothing is renewed, and no channel of certs.toml can be told".to_owned()),
        remedy: hindrance.hint.or(problem.hint),
    };
    match journal::default().send(&Message::Notice(Box::new(notice))).await {
        Ok(_) => Exit::Done,
        Err(error) => {
            complain(&render::problem(&Problem::of(&error), None));
            Exit::Failed
        }
    }
}

/// Whose passes are missing because of it.
fn what_runs(unit: &str) -> How {
    if unit == "certfleet.service" { How::Daemon } else { How::Timer }
}
