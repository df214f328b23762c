//! Where one certificate stands on one host.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;

use super::{
    AddressReport, HostReport, HostStanding, PENDING, ProblemReport, Serving, days_left, ends, problem_report,
};
use super::{drift, held};
use crate::model::name::IssuerName;
use crate::model::observed::{Look, Seen, Served};
use crate::model::plan::{Place, Waiting, minute};
use crate::model::state::HostFacts;

pub(super) fn host_report(place: &Place<'_>, now: Timestamp) -> HostReport {
    let waiting = place.waits();
    let judged: Vec<(&Look, HostStanding)> =
        place.looks.iter().map(|look| (look, look_standing(look, place, waiting.as_ref()))).collect();
    let mut addresses: BTreeMap<SocketAddr, Vec<(&Look, HostStanding)>> = BTreeMap::new();
    for (look, standing) in &judged {
        addresses.entry(look.address).or_default().push((look, *standing));
    }
    let worst = worst(&judged);
    let standing = worst.map_or_else(|| unseen_standing(place), |(_, standing)| standing);
    HostReport {
        host: place.host.clone(),
        standing,
        serving: worst.and_then(|(look, _)| serving(look, now)),
        addresses: addresses
            .into_iter()
            .filter_map(|(address, judged)| {
                let (look, standing) = self::worst(&judged)?;
                Some(AddressReport { address, standing, serving: serving(look, now) })
            })
            .collect(),
        checked_at: place.looks.iter().map(|look| look.at).max(),
        disk_checked_at: place.facts.and_then(HostFacts::compared_at),
        problem: host_problem(place, worst, standing, waiting.as_ref(), now),
    }
}

/// The worst of some looks; of two alike, the one whose certificate ends first.
fn worst<'a>(judged: &[(&'a Look, HostStanding)]) -> Option<(&'a Look, HostStanding)> {
    let end = |look: &Look| served(look).map(|served| served.not_after);
    judged.iter().copied().max_by_key(|(look, standing)| (*standing, Reverse(end(look))))
}

fn look_standing(look: &Look, place: &Place<'_>, waiting: Option<&Waiting>) -> HostStanding {
    let newest = place.known.newest().map(|(_, version)| version.fingerprint);
    match (&look.seen, waiting) {
        (Seen::Serving(served), _) if newest == Some(served.fingerprint) => HostStanding::Serving,
        (_, Some(Waiting::Pending(..))) => HostStanding::Pending,
        (Seen::Unreachable(_), _) => HostStanding::Unreachable,
        _ if is_unreadable(place) => HostStanding::Unknown,
        (Seen::Serving(served), Some(Waiting::Foreign(..))) if place.is_foreign(served) => {
            HostStanding::Foreign
        }
        (Seen::Serving(_), _) => HostStanding::Stale,
    }
}

/// Whether nobody knows what should be there: the facts of the certificate are damaged.
fn is_unreadable(place: &Place<'_>) -> bool {
    place.known.newest().is_none() && place.state.unreadable.contains_key(&place.certificate.name)
}

/// Where a host stands that was not looked at.
fn unseen_standing(place: &Place<'_>) -> HostStanding {
    let newest = place.known.newest().map(|(_, version)| version.fingerprint);
    match place.installed() {
        _ if is_unreadable(place) => HostStanding::Unknown,
        None => HostStanding::Pending,
        Some(installed) if newest.is_some_and(|newest| newest != installed.fingerprint) => {
            HostStanding::Stale
        }
        Some(_) => HostStanding::Unknown,
    }
}

fn host_problem(
    place: &Place<'_>,
    worst: Option<(&Look, HostStanding)>,
    standing: HostStanding,
    waiting: Option<&Waiting>,
    now: Timestamp,
) -> Option<ProblemReport> {
    if standing == HostStanding::Serving {
        return untrusted_problem(place, now)
            .or_else(|| drift::on_disk(place, waiting))
            .or_else(|| unfinished_problem(place));
    }
    let (name, host) = (&place.certificate.name, place.host);
    let stays = Some(format!("nothing is changed on `{host}`"));
    match (waiting, worst.map(|(look, _)| &look.seen)) {
        (Some(Waiting::Foreign(..)), Some(Seen::Serving(served))) => Some(ProblemReport {
            code: "host.foreign".into(),
            message: format!(
                "`{host}` serves a certificate for `{name}` that is not ours: {}…, issued by {}, until {}",
                served.fingerprint.short(),
                served.issuer,
                minute(served.not_after)
            ),
            next: stays,
            hint: Some(format!("run `certfleet deploy {name} --host {host} --force` to replace it")),
        }),
        (Some(Waiting::Downgrade(_, _, why)), _) => Some(ProblemReport {
            code: "host.downgrade".into(),
            message: format!("`{host}` has a trusted certificate for `{name}`, and ours would not be: {why}"),
            next: stays,
            hint: Some(format!("run `certfleet renew {name} --allow-downgrade` to replace it")),
        }),
        (Some(Waiting::Narrower(..)), _) => Some(ProblemReport {
            code: "host.narrower".into(),
            message: format!("the newest version of `{name}` has not all domains of certs.toml"),
            next: Some(format!("`{host}` keeps what it has until there is one, or until that ends")),
            hint: None,
        }),
        (waiting, _) => failed_problem(place, worst, now)
            .or_else(|| held::in_a_roll_out(waiting?))
            .or_else(|| drift::on_disk(place, waiting))
            .or_else(|| seen_problem(place, worst, standing)),
    }
}

/// It is the newest version, and visitors see an error nevertheless.
fn untrusted_problem(place: &Place<'_>, now: Timestamp) -> Option<ProblemReport> {
    let mut seen = place.looks.iter().filter_map(served);
    let served = seen.find(|served| served.distrust.is_some() && served.not_after > now)?;
    let (name, host, why) = (&place.certificate.name, place.host, served.distrust.as_ref()?);
    Some(ProblemReport {
        code: "served.untrusted".into(),
        message: format!(
            "`{host}` serves the newest version of `{name}`, and visitors would not trust it: {why}"
        ),
        next: Some("nothing changes by itself".into()),
        hint: Some(trusted_by(&place.certificate.issuer)),
    })
}

/// It is the newest version, and nobody knows whether all is done there.
fn unfinished_problem(place: &Place<'_>) -> Option<ProblemReport> {
    let (_, version) = place.known.newest()?;
    if !place.is_unfinished(version) {
        return None;
    }
    let what = "it is served, but how its transaction ended is not known";
    let failure = place.facts.and_then(|facts| facts.failure.as_ref());
    Some(match failure {
        Some(failure) => problem_report(
            &failure.problem,
            format!("{what}: tried again in every pass, last at {}", minute(failure.last)),
        ),
        None => ProblemReport {
            code: "host.unfinished".into(),
            message: format!(
                "`{}` serves the newest version of `{}`, but how its transaction ended is not known",
                place.host, place.certificate.name
            ),
            next: Some("the next pass runs it once more, which ends what was left half done".into()),
            hint: None,
        },
    })
}

/// What makes certificates of an issuer trusted.
pub(in crate::model) fn trusted_by(issuer: &IssuerName) -> String {
    format!(
        "if [issuer.{issuer}] is a staging CA, change `issuer` to the real one; if its roots are your own, set `roots`"
    )
}

/// How deploying failed.
fn failed_problem(
    place: &Place<'_>,
    worst: Option<(&Look, HostStanding)>,
    now: Timestamp,
) -> Option<ProblemReport> {
    let failure = place.facts?.failure.as_ref()?;
    let margin = worst
        .and_then(|(look, _)| served(look))
        .map_or_else(String::new, |served| format!("; what it serves {}", ends(served.not_after, now)));
    Some(problem_report(
        &failure.problem,
        format!("tried again in every pass, last at {}{margin}", minute(failure.last)),
    ))
}

/// What is wrong by what was seen alone.
fn seen_problem(
    place: &Place<'_>,
    worst: Option<(&Look, HostStanding)>,
    standing: HostStanding,
) -> Option<ProblemReport> {
    let (name, host) = (&place.certificate.name, place.host);
    match (standing, &worst?.0.seen) {
        (HostStanding::Unreachable, Seen::Unreachable(problem)) => {
            Some(problem_report(problem, "looked at again in every pass".into()))
        }
        (HostStanding::Pending, _) => Some(ProblemReport {
            code: PENDING.into(),
            message: format!("nothing on `{host}` uses `{name}` yet"),
            next: Some("it is installed; the next pass looks again".into()),
            hint: Some(format!(
                "name its files in the web server's configuration on `{host}`, then reload it"
            )),
        }),
        _ => None,
    }
}

fn served(look: &Look) -> Option<&Served> {
    match &look.seen {
        Seen::Serving(served) => Some(served),
        Seen::Unreachable(_) => None,
    }
}

fn serving(look: &Look, now: Timestamp) -> Option<Serving> {
    served(look).map(|served| Serving {
        fingerprint: served.fingerprint,
        serial: served.serial.clone(),
        issued_by: served.issuer.clone(),
        not_before: served.not_before,
        not_after: served.not_after,
        days_left: days_left(served.not_after, now),
        distrust: served.distrust.clone(),
        chain_ends: served.chain_end.as_ref().map(|end| end.not_after),
    })
}
