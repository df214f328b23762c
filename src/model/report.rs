//! Where every certificate and host stands: derived from facts, never stored.
//!
//! The JSON form is an interface: fields are added, never renamed.

mod held;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::desired::{Certificate, Desired};
use super::name::{CertName, Domain, Fingerprint, HostName, IssuerName, VersionNumber};
use super::observed::{Look, Observed, Seen, Served};
use super::plan::{Place, Waiting, failing, minute, reason};
use super::problem::Problem;
use super::schedule::{self, NextAttempt};
use super::state::{CertState, State};

/// The expiry report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// When it was made.
    pub generated_at: Timestamp,
    /// Every certificate of certs.toml.
    pub certificates: Vec<CertReport>,
    /// What certs.toml no longer names, and nobody renews or replaces.
    pub orphaned: Vec<Orphan>,
}

/// One certificate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CertReport {
    /// Its name.
    pub name: CertName,
    /// The domains that certs.toml asks for.
    pub domains: Vec<Domain>,
    /// Where it stands.
    pub standing: Standing,
    /// The name in certs.toml of who issued it, else of who is to.
    pub issuer: IssuerName,
    /// The newest version.
    pub version: Option<VersionNumber>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// Start of its validity.
    pub not_before: Option<Timestamp>,
    /// End of its validity.
    pub not_after: Option<Timestamp>,
    /// Whole days until then, rounded down.
    pub days_left: Option<i64>,
    /// When it is due.
    pub renews_at: Option<Timestamp>,
    /// What is wrong with issuing it.
    pub problem: Option<ProblemReport>,
    /// Where it is to be served.
    pub hosts: Vec<HostReport>,
}

/// One certificate on one host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HostReport {
    /// The host's name.
    pub host: HostName,
    /// The worst standing of its addresses.
    pub standing: HostStanding,
    /// What the worst address serves.
    pub serving: Option<Serving>,
    /// Each address.
    pub addresses: Vec<AddressReport>,
    /// When it was last looked at.
    pub checked_at: Option<Timestamp>,
    /// What is wrong there.
    pub problem: Option<ProblemReport>,
}

/// One address of a host.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AddressReport {
    /// Address and port.
    pub address: SocketAddr,
    /// Where it stands.
    pub standing: HostStanding,
    /// What it serves.
    pub serving: Option<Serving>,
}

/// A certificate as served.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Serving {
    /// SHA-256 of the leaf.
    pub fingerprint: Fingerprint,
    /// Serial number.
    pub serial: String,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Whole days until then, rounded down.
    pub days_left: i64,
}

/// Something wrong, as reported.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProblemReport {
    /// A stable code.
    pub code: String,
    /// What failed and why.
    pub message: String,
    /// What happens next.
    pub next: Option<String>,
    /// What to do.
    pub hint: Option<String>,
}

/// A certificate that certs.toml no longer names, or no longer for these hosts: nothing is deleted,
/// nothing is renewed there.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Orphan {
    /// Its name.
    pub name: CertName,
    /// End of the validity of the newest version that they have, or the store.
    pub not_after: Option<Timestamp>,
    /// Hosts that we installed it on.
    pub hosts: Vec<HostName>,
}

/// Where a certificate stands; the first that holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// The newest version has ended.
    Expired,
    /// Not tried again until a person changes something.
    Blocked,
    /// Issuing failed and is tried again.
    Failing,
    /// Its renewal time has come.
    Due,
    /// There is no version yet.
    Missing,
    /// All is well.
    Valid,
}

/// Where a host stands, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostStanding {
    /// The newest version is what visitors get.
    Serving,
    /// Installed, but nothing uses it yet; or there is nothing to install yet.
    Pending,
    /// Never looked at.
    Unknown,
    /// No answer.
    Unreachable,
    /// Something else than the newest version is served.
    Stale,
    /// A valid certificate that is not ours, after ours.
    Foreign,
}

impl Report {
    /// Whether a person or a pass has something to do: exit code 3 of `report`.
    pub fn needs_attention(&self) -> bool {
        self.certificates.iter().any(|certificate| {
            certificate.standing != Standing::Valid
                || certificate
                    .hosts
                    .iter()
                    .any(|host| host.standing >= HostStanding::Unreachable || host.failed())
        })
    }
}

impl HostReport {
    /// Whether something went wrong there; that nothing uses a certificate yet is no failure.
    fn failed(&self) -> bool {
        self.problem.as_ref().is_some_and(|problem| problem.code != PENDING)
    }
}

/// The code of a certificate that is installed and that nothing on the host uses yet.
const PENDING: &str = "host.pending";

/// Derives the report.
pub fn report(desired: &Desired, state: &State, observed: &Observed, now: Timestamp) -> Report {
    let nothing = CertState::default();
    let certificates = desired
        .certificates
        .values()
        .map(|certificate| {
            let known = state.certificates.get(&certificate.name).unwrap_or(&nothing);
            certificate_report(certificate, known, desired, state, observed, now)
        })
        .collect();
    Report { generated_at: now, certificates, orphaned: orphaned(desired, state) }
}

fn orphaned(desired: &Desired, state: &State) -> Vec<Orphan> {
    let installed = state.hosts.values().flat_map(BTreeMap::keys);
    let names: BTreeSet<&CertName> = state.certificates.keys().chain(installed).collect();
    let orphan = |name: &CertName| {
        let wanted = desired.certificates.get(name);
        let versions = state.certificates.get(name).map(|known| &known.versions);
        let hosts: BTreeMap<&HostName, VersionNumber> = state
            .hosts
            .iter()
            .filter(|(host, _)| wanted.is_none_or(|certificate| !certificate.hosts.contains(host)))
            .filter_map(|(host, of)| Some((host, of.get(name)?.installed.as_ref()?.version)))
            .collect();
        let newest = match wanted {
            Some(_) => hosts.values().max().copied(),
            None => versions.and_then(|versions| versions.keys().next_back().copied()),
        };
        let is_orphaned = !hosts.is_empty() || (wanted.is_none() && newest.is_some());
        is_orphaned.then(|| Orphan {
            name: name.clone(),
            not_after: newest.and_then(|number| Some(versions?.get(&number)?.not_after)),
            hosts: hosts.into_keys().cloned().collect(),
        })
    };
    names.into_iter().filter_map(orphan).collect()
}

fn certificate_report(
    certificate: &Certificate,
    known: &CertState,
    desired: &Desired,
    state: &State,
    observed: &Observed,
    now: Timestamp,
) -> CertReport {
    let newest = known.newest();
    let version = newest.map(|(_, version)| version);
    let issued_by = version
        .and_then(|version| desired.issuer_at(certificate, &version.directory))
        .map(|issuer| &issuer.name);
    let renews_at =
        version.map(|version| schedule::renews_at(certificate, version, known.renewal_info.as_ref()).0);
    let wanted = reason(certificate, known, desired, now).is_ok();
    // A failure of a renewal that is not wanted (any more) is history: nothing is tried again.
    let failing = failing(certificate, known).filter(|_| wanted);
    let unreadable = state.unreadable.get(&certificate.name);
    let standing = match (version, failing) {
        _ if unreadable.is_some() => Standing::Blocked,
        (Some(version), _) if version.not_after <= now => Standing::Expired,
        (_, Some((_, NextAttempt::AfterChange))) => Standing::Blocked,
        (_, Some((_, NextAttempt::At(_)))) => Standing::Failing,
        (None, None) => Standing::Missing,
        (Some(_), None) if wanted => Standing::Due,
        (Some(_), None) => Standing::Valid,
    };
    let places: Vec<Place<'_>> = certificate
        .hosts
        .iter()
        .map(|host| Place::new(certificate, host, known, state, observed, now))
        .collect();
    let problem = failing.map(|(failure, next)| {
        let next = match next {
            NextAttempt::AfterChange => {
                "not tried again until certs.toml changes, or with --force".to_owned()
            }
            NextAttempt::At(at) if at <= now || failure.last > now => {
                format!("tried {}, again in the next pass", times(failure.count))
            }
            NextAttempt::At(at) => format!("tried {}, again at {}", times(failure.count), minute(at)),
        };
        // What visitors get, where that was seen; somebody's self-signed one is not in use.
        let served = places
            .iter()
            .flat_map(Place::served)
            .filter(|served| served.distrust.is_none() || served.not_after <= now)
            .map(|served| served.not_after)
            .min();
        let margin = match served.or_else(|| version.map(|version| version.not_after)) {
            Some(end) => format!("the certificate in use {}", ends(end, now)),
            None => "there is no certificate in the store yet".to_owned(),
        };
        problem_report(&failure.problem, format!("{next}; {margin}"))
    });
    let left_alone =
        |problem: &Problem| problem_report(problem, "left alone until it can be read".to_owned());
    CertReport {
        name: certificate.name.clone(),
        domains: certificate.domains.clone(),
        standing,
        issuer: issued_by.unwrap_or(&certificate.issuer).clone(),
        version: newest.map(|(number, _)| number),
        serial: version.map(|version| version.serial.clone()),
        fingerprint: version.map(|version| version.fingerprint),
        not_before: version.map(|version| version.not_before),
        not_after: version.map(|version| version.not_after),
        days_left: version.map(|version| days_left(version.not_after, now)),
        renews_at,
        problem: unreadable.map(left_alone).or(problem),
        hosts: places
            .iter()
            .map(|place| {
                let unreadable = state.unreadable_hosts.get(place.host);
                let host = host_report(place, now);
                HostReport { problem: unreadable.map(left_alone).or(host.problem), ..host }
            })
            .collect(),
    }
}

fn host_report(place: &Place<'_>, now: Timestamp) -> HostReport {
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
        (Seen::Serving(served), Some(Waiting::Foreign(..))) if place.is_foreign(served) => {
            HostStanding::Foreign
        }
        (Seen::Serving(_), _) => HostStanding::Stale,
    }
}

/// Where a host stands that was not looked at.
fn unseen_standing(place: &Place<'_>) -> HostStanding {
    let newest = place.known.newest().map(|(_, version)| version.fingerprint);
    match place.installed() {
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
        return None;
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
            .or_else(|| seen_problem(place, worst, standing)),
    }
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

fn problem_report(problem: &Problem, next: String) -> ProblemReport {
    ProblemReport {
        code: problem.code.clone(),
        message: problem.one_line(),
        next: Some(next),
        hint: problem.hint.clone(),
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
        not_after: served.not_after,
        days_left: days_left(served.not_after, now),
    })
}

/// Whole days until a moment, rounded down; negative when it has passed.
pub fn days_left(until: Timestamp, now: Timestamp) -> i64 {
    now.duration_until(until).as_secs().div_euclid(SignedDuration::from_hours(24).as_secs())
}

fn ends(not_after: Timestamp, now: Timestamp) -> String {
    match days_left(not_after, now) {
        _ if not_after <= now => format!("expired on {}", minute(not_after)),
        0 => format!("expires in less than a day, {}", minute(not_after)),
        1 => "is valid for 1 more day".to_owned(),
        days => format!("is valid for {days} more days"),
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
