//! Where the daemon stands, in a line: for the log, and for `systemctl status`.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::engine::Summary;
use crate::model::desired::Desired;
use crate::model::plan::{Waiting, minute};

/// What there is to look after.
pub fn size(desired: &Desired) -> String {
    format!("{}, {}", count(desired.certificates.len(), "certificate"), count(desired.hosts.len(), "host"))
}

/// What there is to look after, what comes next by itself, and how much is wrong.
pub fn standing(desired: &Desired, summary: &Summary) -> String {
    let next = summary
        .waiting
        .iter()
        .filter_map(|waiting| Some((waiting.until()?, waiting.certificate())))
        .min()
        .map(|(at, name)| format!("; next: {name} at {}", minute(at)));
    let wrong = problems(summary);
    let wrong = if wrong == 0 { String::new() } else { format!("; {}", count(wrong, "problem")) };
    format!("{}{}{wrong}", size(desired), next.unwrap_or_default())
}

/// What a pass did.
pub fn tally(summary: &Summary, took: Duration) -> String {
    let mut done = Vec::new();
    for (number, what) in [
        (summary.issued.len(), "issued"),
        (summary.served.len(), "deployed"),
        (summary.pending.len(), "not in use"),
        (summary.failed.len(), "failed"),
        (summary.locked.len(), "locked by another process"),
    ] {
        if number > 0 {
            done.push(format!("{number} {what}"));
        }
    }
    let done = if done.is_empty() { "nothing to do".to_owned() } else { done.join(", ") };
    format!("pass of {:.1} s: {done}", took.as_secs_f64())
}

/// What is wrong, each certificate and host of it once.
fn problems(summary: &Summary) -> usize {
    let wrong = |waiting: &&Waiting| {
        waiting.needs_person() || matches!(waiting, Waiting::Backoff(..) | Waiting::Unreachable(..))
    };
    let failed = summary.failed.iter().map(|(name, host, _)| (name, host.as_ref()));
    let waiting = summary.waiting.iter().filter(wrong).map(|it| (it.certificate(), it.host()));
    failed.chain(waiting).collect::<BTreeSet<_>>().len() + summary.unreadable_debts.len()
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
