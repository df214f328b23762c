//! Hosts on whose disk lies something else than what they should serve.

use super::{ProblemReport, problem_report};
use crate::model::disk::{Disk, Lies};
use crate::model::plan::{Place, Waiting, minute};

/// What is wrong with what lies on the disk, and what becomes of it.
pub(super) fn on_disk(place: &Place<'_>, waiting: Option<&Waiting>) -> Option<ProblemReport> {
    let facts = place.facts?;
    let (installed, Disk { lies, .. }) = facts.found()?;
    let (name, host) = (&place.certificate.name, place.host);
    if place.known.newest().is_none_or(|(_, version)| version.fingerprint != installed.fingerprint) {
        return None;
    }
    let what = match lies {
        Lies::Right => return None,
        Lies::Unseen(since, problem) => {
            let next = format!(
                "what lies on its disk is not known since {}; every pass tries again",
                minute(*since)
            );
            return Some(problem_report(problem, next));
        }
        Lies::Damaged(what) | Lies::Open(what) => what.clone(),
        Lies::Other(other) => place.known.words_for(other, place.now),
    };
    let (code, message) = match (lies, waiting) {
        (Lies::Other(other), Some(Waiting::ForeignOnDisk(..))) => (
            "host.foreign-on-disk",
            format!(
                "on the disk of `{host}` is a certificate for `{name}` that is not ours: {}…, issued by {}, until {}",
                other.fingerprint.short(),
                other.issuer,
                minute(other.not_after)
            ),
        ),
        _ => ("host.drifted", format!("on the disk of `{host}`, of `{name}`: {what}")),
    };
    let hint = Some(format!("run `certfleet deploy {name} --host {host} --force` to put ours there"));
    let next = match (waiting, &facts.failure) {
        (Some(Waiting::ForeignOnDisk(..)), _) => {
            "nothing is changed there; ours is served until the server starts anew".to_owned()
        }
        (Some(Waiting::Downgrade(..) | Waiting::Narrower(..)), _) => {
            format!("nothing is changed on `{host}`")
        }
        (_, Some(failure)) => {
            return Some(problem_report(
                &failure.problem,
                format!("{message}; tried again in every pass, last at {}", minute(failure.last)),
            ));
        }
        _ => {
            return Some(ProblemReport {
                code: code.into(),
                message,
                next: Some("the next pass mends it".to_owned()),
                hint: None,
            });
        }
    };
    Some(ProblemReport { code: code.into(), message, next: Some(next), hint })
}
