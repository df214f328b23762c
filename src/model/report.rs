//! Where every certificate and host stands: derived from facts, never stored.
//!
//! The JSON form is an interface: fields are added, never renamed.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::desired::{Certificate, Desired};
use super::name::{CertName, Domain, Fingerprint, HostName, IssuerName, VersionNumber};
use super::observed::{Look, Observed, Seen, Served};
use super::plan::{minute, same_domains};
use super::problem::Problem;
use super::schedule::{self, NextAttempt};
use super::state::{CertState, HostFacts, State, Version};

/// The expiry report.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// When it was made.
    pub generated_at: Timestamp,
    /// Every certificate of certs.toml.
    pub certificates: Vec<CertReport>,
    /// Certificates in the store that certs.toml no longer names.
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
    /// The issuer's name in certs.toml.
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

/// A certificate that certs.toml no longer names: kept, renewed no more.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Orphan {
    /// Its name.
    pub name: CertName,
    /// End of its newest version's validity.
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
                    .any(|host| host.problem.is_some() || host.standing >= HostStanding::Unreachable)
        })
    }
}

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
    let orphaned = state
        .certificates
        .iter()
        .filter(|(name, known)| !desired.certificates.contains_key(name) && !known.versions.is_empty())
        .map(|(name, known)| Orphan {
            name: name.clone(),
            not_after: known.newest().map(|(_, version)| version.not_after),
            hosts: state
                .hosts
                .iter()
                .filter(|(_, of)| of.contains_key(name))
                .map(|(host, _)| host.clone())
                .collect(),
        })
        .collect();
    Report { generated_at: now, certificates, orphaned }
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
    let renews_at =
        version.map(|version| schedule::renews_at(certificate, version, known.renewal_info.as_ref()).0);
    let next =
        known.failure.as_ref().map(|failure| schedule::next_attempt(failure, &certificate.revision, version));
    let changed = version.is_some_and(|version| {
        !same_domains(certificate, version)
            || certificate.key != version.key
            || desired
                .issuers
                .get(&certificate.issuer)
                .is_some_and(|issuer| issuer.directory != version.directory)
    });
    let standing = match (version, next) {
        (Some(version), _) if version.not_after <= now => Standing::Expired,
        (_, Some(NextAttempt::AfterChange)) => Standing::Blocked,
        (_, Some(NextAttempt::At(_))) => Standing::Failing,
        (None, None) => Standing::Missing,
        (Some(_), None) if changed || renews_at.is_some_and(|at| at <= now) => Standing::Due,
        (Some(_), None) => Standing::Valid,
    };
    let problem = known.failure.as_ref().zip(next).map(|(failure, next)| {
        let next = match next {
            NextAttempt::AfterChange => {
                "not tried again until certs.toml changes, or with --force".to_owned()
            }
            NextAttempt::At(at) if at <= now => {
                format!("tried {}, again in the next pass", times(failure.count))
            }
            NextAttempt::At(at) => format!("tried {}, again at {}", times(failure.count), minute(at)),
        };
        let margin = version.map_or_else(
            || "there is no certificate in the store yet".to_owned(),
            |version| margin(version.not_after, now),
        );
        problem_report(&failure.problem, format!("{next}; {margin}"))
    });
    CertReport {
        name: certificate.name.clone(),
        domains: certificate.domains.clone(),
        standing,
        issuer: certificate.issuer.clone(),
        version: newest.map(|(number, _)| number),
        serial: version.map(|version| version.serial.clone()),
        fingerprint: version.map(|version| version.fingerprint),
        not_before: version.map(|version| version.not_before),
        not_after: version.map(|version| version.not_after),
        days_left: version.map(|version| days_left(version.not_after, now)),
        renews_at,
        problem,
        hosts: certificate
            .hosts
            .iter()
            .map(|host| {
                let facts = state.hosts.get(host).and_then(|of| of.get(&certificate.name));
                host_report(
                    certificate,
                    host,
                    version,
                    known,
                    facts,
                    observed.looks(host, &certificate.name),
                    now,
                )
            })
            .collect(),
    }
}

fn host_report(
    certificate: &Certificate,
    host: &HostName,
    version: Option<&Version>,
    known: &CertState,
    facts: Option<&HostFacts>,
    looks: &[Look],
    now: Timestamp,
) -> HostReport {
    let mut addresses: BTreeMap<SocketAddr, AddressReport> = BTreeMap::new();
    let mut worst: Option<(&Look, HostStanding)> = None;
    for look in looks {
        let standing = look_standing(look, version, known, facts, now);
        let serving = match &look.seen {
            Seen::Serving(served) => Some(serving(served, now)),
            Seen::Unreachable(_) => None,
        };
        let here = AddressReport { address: look.address, standing, serving };
        match addresses.get(&look.address) {
            Some(known) if known.standing >= standing => {}
            _ => {
                addresses.insert(look.address, here);
            }
        }
        if worst.is_none_or(|(_, known)| standing > known) {
            worst = Some((look, standing));
        }
    }
    let standing = match worst {
        Some((_, standing)) => standing,
        None if certificate.verify_names.is_empty()
            && facts.is_some_and(|facts| facts.installed.is_some()) =>
        {
            HostStanding::Unknown
        }
        None if facts.is_some_and(|facts| facts.installed.is_some()) => HostStanding::Unknown,
        None => HostStanding::Pending,
    };
    HostReport {
        host: host.clone(),
        standing,
        serving: worst.and_then(|(look, _)| match &look.seen {
            Seen::Serving(served) => Some(serving(served, now)),
            Seen::Unreachable(_) => None,
        }),
        addresses: addresses.into_values().collect(),
        checked_at: looks.iter().map(|look| look.at).max(),
        problem: host_problem(certificate, host, facts, worst, standing, now),
    }
}

fn look_standing(
    look: &Look,
    version: Option<&Version>,
    known: &CertState,
    facts: Option<&HostFacts>,
    now: Timestamp,
) -> HostStanding {
    let installed = facts.and_then(|facts| facts.installed.as_ref());
    let pending = installed.is_some_and(|installed| {
        installed.pending && version.is_some_and(|version| version.fingerprint == installed.fingerprint)
    });
    match &look.seen {
        Seen::Serving(served) if version.is_some_and(|version| version.fingerprint == served.fingerprint) => {
            HostStanding::Serving
        }
        _ if pending => HostStanding::Pending,
        Seen::Unreachable(_) => HostStanding::Unreachable,
        Seen::Serving(served) => {
            let ours = known.versions.values().any(|version| version.fingerprint == served.fingerprint);
            let good = served.distrust.is_none() && served.not_after > now;
            let proven = facts.is_some_and(|facts| facts.proven_at.is_some());
            if proven && good && !ours { HostStanding::Foreign } else { HostStanding::Stale }
        }
    }
}

fn host_problem(
    certificate: &Certificate,
    host: &HostName,
    facts: Option<&HostFacts>,
    worst: Option<(&Look, HostStanding)>,
    standing: HostStanding,
    now: Timestamp,
) -> Option<ProblemReport> {
    let name = &certificate.name;
    if standing == HostStanding::Serving {
        return None;
    }
    if let Some(failure) = facts.and_then(|facts| facts.failure.as_ref()) {
        let margin = match worst.map(|(look, _)| &look.seen) {
            Some(Seen::Serving(served)) => format!("; what it serves {}", ends(served.not_after, now)),
            _ => String::new(),
        };
        return Some(problem_report(
            &failure.problem,
            format!("tried again in every pass, last at {}{margin}", minute(failure.last)),
        ));
    }
    let (look, _) = worst?;
    match (standing, &look.seen) {
        (HostStanding::Foreign, Seen::Serving(served)) => Some(ProblemReport {
            code: "host.foreign".into(),
            message: format!(
                "`{host}` serves a certificate for `{name}` that is not ours: {}…, issued by {}, until {}",
                served.fingerprint.short(),
                served.issuer,
                minute(served.not_after)
            ),
            next: Some(format!("nothing is changed on `{host}`")),
            hint: Some(format!("run `certfleet deploy {name} --host {host} --force` to replace it")),
        }),
        (_, Seen::Unreachable(problem)) if standing == HostStanding::Unreachable => {
            Some(problem_report(problem, "looked at again in every pass".into()))
        }
        (HostStanding::Pending, _) if facts.is_some_and(|facts| facts.installed.is_some()) => {
            Some(ProblemReport {
                code: "host.pending".into(),
                message: format!("nothing on `{host}` uses `{name}` yet"),
                next: Some("it is installed; the next pass looks again".into()),
                hint: Some(format!(
                    "name its files in the web server's configuration on `{host}`, then reload it"
                )),
            })
        }
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

fn serving(served: &Served, now: Timestamp) -> Serving {
    Serving {
        fingerprint: served.fingerprint,
        serial: served.serial.clone(),
        not_after: served.not_after,
        days_left: days_left(served.not_after, now),
    }
}

/// Whole days until a moment, rounded down; negative when it has passed.
pub fn days_left(until: Timestamp, now: Timestamp) -> i64 {
    now.duration_until(until).as_secs().div_euclid(SignedDuration::from_hours(24).as_secs())
}

fn margin(not_after: Timestamp, now: Timestamp) -> String {
    format!("the certificate in use {}", ends(not_after, now))
}

fn ends(not_after: Timestamp, now: Timestamp) -> String {
    match days_left(not_after, now) {
        _ if not_after <= now => format!("expired on {}", minute(not_after)),
        0 => format!("expires today, {}", minute(not_after)),
        1 => "is valid for 1 more day".to_owned(),
        days => format!("is valid for {days} more days"),
    }
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}
