//! `certfleet unit-failed UNIT`: what certfleet-alert@.service runs when systemd has seen a unit of ours fail.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;

use super::{Exit, alert, complain};
use crate::config;
use crate::engine::Channels;
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
    let runs = what_runs(unit);
    // It has told people by itself why it ends with that.
    if runs == Some(How::Timer) && result == "exit-code" && status == "1" {
        return Exit::Done;
    }
    let known = [result, status].into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let known = if known.is_empty() { "nothing is known of how".to_owned() } else { known };
    let problem = Problem::of(&UnitFailed { unit: plain(unit), how: known });
    let config = config::find(path).and_then(|path| config::load(&path));
    let (channels, hindrance) = match (&config, runs) {
        (Ok(config), Some(how)) => {
            let store = Store::open(&config.store).ok();
            alert::no_pass(config, store.as_ref(), &problem, how).await;
            return Exit::Done;
        }
        (Ok(config), None) => (Channels::of(config), None),
        (Err(error), _) => {
            (Channels { order: Vec::new(), by_name: BTreeMap::new() }, Some(Problem::of(error)))
        }
    };
    let message = Message::Notice(Box::new(notice(problem, hindrance)));
    let order = channels.order.iter().filter_map(|name| channels.by_name.get(name));
    let last = journal::default();
    for channel in order.chain([&last]) {
        match channel.send(&message).await {
            Ok(_) => return Exit::Done,
            Err(error) if error.is_partly() => return Exit::Done,
            Err(error) => complain(&render::problem(&Problem::of(&error), None)),
        }
    }
    Exit::Failed
}

/// What is said of it, once. With no configuration nothing is renewed either.
fn notice(problem: Problem, hindrance: Option<Problem>) -> Notice {
    let now = Timestamp::now();
    let next = match hindrance {
        Some(_) => "nothing is renewed, and no channel of certs.toml can be told",
        None => "it is started again when its time has come; renewals go on without it",
    };
    Notice {
        alert: "unit".to_owned(),
        occasion: Occasion::Raised,
        level: if hindrance.is_some() { Level::Critical } else { Level::Warning },
        at: now,
        since: now,
        code: problem.code,
        title: problem.message,
        subjects: Vec::new(),
        more: 0,
        reason: hindrance.as_ref().map(Problem::one_line),
        next: Some(next.to_owned()),
        remedy: hindrance.and_then(|hindrance| hindrance.hint).or(problem.hint),
    }
}

/// Whose passes are missing because of it, if any are.
fn what_runs(unit: &str) -> Option<How> {
    match unit {
        "certfleet.service" => Some(How::Daemon),
        "certfleet-renew.service" => Some(How::Timer),
        _ => None,
    }
}
