//! Where every certificate and host stands: derived from facts, never stored.
//!
//! The JSON form is an interface: fields are added, never renamed.

mod alerts;
mod drift;
mod held;
mod host;
mod standing;
mod urgency;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

pub use alerts::{Acknowledged, AlertReport};
pub(in crate::model) use host::trusted_by;
pub use standing::{HostStanding, Standing};
pub use urgency::{End, Numbers};

use super::desired::{Certificate, Desired};
use super::history::How;
use super::name::{CertName, Domain, Fingerprint, HostName, IssuerName, VersionNumber};
use super::observed::Observed;
use super::passes::{Ended, Silence};
use super::plan::{Place, failing, minute, reason};
use super::problem::Problem;
use super::schedule::{self, NextAttempt};
use super::state::{CertState, State};

/// The expiry report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// When it was made.
    pub generated_at: Timestamp,
    /// When passes ended, by what had them run.
    pub passes: Vec<PassReport>,
    /// That nobody makes passes any more, so that what is said here is old.
    pub problem: Option<ProblemReport>,
    /// The alerts that are open; `None` where what people were told is not known.
    pub alerts: Option<Vec<AlertReport>>,
    /// Every certificate of certs.toml.
    pub certificates: Vec<CertReport>,
    /// What certs.toml no longer names, and nobody renews or replaces.
    pub orphaned: Vec<Orphan>,
}

/// The last passes that a daemon, a timer or a person made.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct PassReport {
    /// What had them run.
    pub how: How,
    /// The end of the last, of whatever kind.
    pub last: Timestamp,
    /// The end of the last over all certificates and hosts.
    pub complete: Option<Timestamp>,
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
    /// When its disk was last compared with what we installed; none where that was never done.
    pub disk_checked_at: Option<Timestamp>,
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
    /// Common name of who issued it, as the certificate says.
    pub issued_by: String,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
    /// Whole days until then, rounded down.
    pub days_left: i64,
    /// Why a visitor would not trust it.
    pub distrust: Option<String>,
    /// When what comes with it ends, where that is earlier and visitors refuse it from then on.
    pub chain_ends: Option<Timestamp>,
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
    let pass = |(how, ended): (How, Ended)| PassReport { how, last: ended.last, complete: ended.complete };
    Report {
        generated_at: now,
        passes: state.passes.iter().map(pass).collect(),
        problem: unwatched(desired, state, now),
        alerts: None,
        certificates,
        orphaned: orphaned(desired, state),
    }
}

/// That nobody makes passes: a report of hosts that were looked at long ago is no comfort.
fn unwatched(desired: &Desired, state: &State, now: Timestamp) -> Option<ProblemReport> {
    let message = match state.passes.silent_since(desired.interval, now)? {
        Silence::Since(at) => format!("no pass has got through everything since {}", minute(at)),
        Silence::Ever => "no pass has got through everything yet".to_owned(),
    };
    Some(ProblemReport {
        code: "pass.silent".into(),
        message,
        next: Some("nothing is renewed, deployed or looked at until there is one".into()),
        hint: Some(
            "see the log of the daemon or timer: `systemctl status certfleet certfleet-renew.timer`".into(),
        ),
    })
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
        problem: unreadable.map(left_alone).or(problem).or_else(|| revoked(certificate, known)),
        hosts: places
            .iter()
            .map(|place| {
                let unreadable = state.unreadable_hosts.get(place.host);
                let host = host::host_report(place, now);
                HostReport { problem: unreadable.map(left_alone).or(host.problem), ..host }
            })
            .collect(),
    }
}

/// That visitors may refuse what is served: a version that is due for no lack of time.
fn revoked(certificate: &Certificate, known: &CertState) -> Option<ProblemReport> {
    let (name, (number, version)) = (&certificate.name, known.newest()?);
    let at = minute(version.revoked.as_ref()?.at);
    Some(ProblemReport {
        code: "acme.revoked".into(),
        message: format!("version {number} of `{name}` was revoked on {at}; visitors may refuse it"),
        next: Some("the next pass replaces it".into()),
        hint: Some(format!("run `certfleet renew {name}` to have it replaced now")),
    })
}

fn problem_report(problem: &Problem, next: String) -> ProblemReport {
    ProblemReport {
        code: problem.code.clone(),
        message: problem.one_line(),
        next: Some(next),
        hint: problem.hint.clone(),
    }
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
