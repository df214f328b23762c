//! Hosts that wait for others: a roll-out in steps.

use super::ProblemReport;
use crate::model::plan::{Waiting, minute};

/// Why a host keeps what it has while a new version is on its way.
pub(super) fn in_a_roll_out(waiting: &Waiting) -> Option<ProblemReport> {
    let (code, message, next, hint) = match waiting {
        Waiting::Canary(name, host, canary) => (
            "rollout.waits",
            format!("waits for canary `{canary}`"),
            format!("`{host}` gets the new version of `{name}` once `{canary}` is proven to serve it"),
            format!("`certfleet deploy {name} --force` does not wait"),
        ),
        Waiting::Batch(name, host, most) => (
            "rollout.waits",
            format!("waits for its turn, {most} at once"),
            format!("`{host}` gets the new version of `{name}` once those before it are proven to serve it"),
            format!("`certfleet deploy {name} --force` does not wait"),
        ),
        Waiting::Stopped(name, host, stop) => {
            let at = &stop.at;
            (
                "rollout.stopped",
                format!("stopped: `{at}` failed {}: {}", minute(stop.when), stop.problem.one_line()),
                format!(
                    "`{host}` keeps what it has until `{at}` serves the new version of `{name}`, or until its end is \
                     close; `{at}` is tried again in every pass"
                ),
                format!("mend `{at}`; `certfleet deploy {name} --force` goes on without it"),
            )
        }
        _ => return None,
    };
    Some(ProblemReport { code: code.into(), message, next: Some(next), hint: Some(hint) })
}
