//! What a pass should do, and why, and why not. Pure: the same facts give the same plan.
//!
//! An action is planned only when its preconditions already hold: a deployment appears in the
//! next plan, once the version is in the store. So resuming after a crash needs no code of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::desired::{Certificate, Desired};
use super::name::{CertName, DnsAccountName, Fingerprint, HostName, VersionNumber};
use super::observed::{Observed, Seen, Served};
use super::problem::Problem;
use super::schedule::{self, NextAttempt, Rule, after};
use super::state::{CertState, State, TxtDebt, Version};

/// What the plan may contain.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Only these certificates; `None` = all.
    pub only: Option<BTreeSet<CertName>>,
    /// Only these hosts; `None` = all.
    pub hosts: Option<BTreeSet<HostName>>,
    /// Whether to issue.
    pub issuing: Issuing,
    /// Whether to deploy.
    pub deploying: Deploying,
    /// Replace a trusted certificate by an untrusted one of ours.
    pub allow_downgrade: bool,
    /// Issue beyond the duplicate limit that the CA is known to have.
    pub override_limits: bool,
}

/// Which certificates are issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Issuing {
    /// None.
    No,
    /// Those that are due.
    #[default]
    Due,
    /// All, unless a version was stored since the person asked (two of them may ask at once).
    Forced(Timestamp),
}

/// Where certificates are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Deploying {
    /// Nowhere.
    No,
    /// Where they are lacking.
    #[default]
    Lacking,
    /// Everywhere, foreign certificates included.
    Forced,
}

/// The result of planning.
#[must_use = "a plan that nobody reads changes nothing"]
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What to do now.
    pub actions: Vec<Action>,
    /// What is not done now, and why.
    pub waiting: Vec<Waiting>,
}

impl Plan {
    /// The earliest moment at which something that waits may become an action.
    pub fn wake(&self) -> Option<Timestamp> {
        self.waiting.iter().filter_map(Waiting::until).min()
    }
}

/// One thing to do, with nothing left to decide.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Remove challenge records that an earlier attempt left.
    CleanUp {
        /// The certificate they were set for.
        certificate: CertName,
        /// The records.
        debts: Vec<TxtDebt>,
    },
    /// Obtain a new version.
    Issue {
        /// Of this certificate.
        certificate: CertName,
        /// The reason.
        because: Because,
        /// Whether an order is already open and is taken up again.
        resumes: bool,
    },
    /// Install versions on a host: one connection, one test, one reload.
    Deploy {
        /// The host.
        host: HostName,
        /// What to install there.
        installs: Vec<Install>,
    },
}

/// One version to install.
#[derive(Debug, Clone, PartialEq)]
pub struct Install {
    /// The certificate.
    pub certificate: CertName,
    /// Its version.
    pub version: VersionNumber,
    /// The reason.
    pub lacks: Lacks,
}

/// Why a certificate is issued.
#[derive(Debug, Clone, PartialEq)]
pub enum Because {
    /// There is no version yet.
    Missing,
    /// certs.toml asks for other domains than the newest version has.
    DomainsChanged,
    /// certs.toml asks for another type of key.
    KeyChanged,
    /// certs.toml names another issuer.
    IssuerChanged,
    /// Its time has come.
    Due(Timestamp, Rule),
    /// A person asked.
    Forced,
}

/// Why a host gets a version.
#[derive(Debug, Clone, PartialEq)]
pub enum Lacks {
    /// We never installed a version of it there.
    Never,
    /// Another version of ours is installed there.
    Older(VersionNumber),
    /// Something else is served there, until this time.
    Serves(Fingerprint, Timestamp),
    /// It is installed, but nothing answers.
    Silent,
    /// A person asked.
    Forced,
}

/// Why something is not done now.
#[derive(Debug, Clone, PartialEq)]
pub enum Waiting {
    /// The certificate is good until then.
    NotDue(CertName, Timestamp, Rule),
    /// Issuing failed; the next attempt is at that time.
    Backoff(CertName, Timestamp, u32, Problem),
    /// Issuing failed in a way that only a change of certs.toml can mend.
    NeedsChange(CertName, Problem),
    /// The CA would refuse another certificate of these names before that time.
    DuplicateLimit(CertName, usize, Timestamp),
    /// A host serves a valid certificate that is not ours, after ours was served there.
    Foreign(CertName, HostName, Fingerprint, Timestamp),
    /// Ours would not be trusted, what is served there is.
    Downgrade(CertName, HostName, String),
    /// The newest version has fewer domains than certs.toml asks for.
    Narrower(CertName, HostName),
    /// Installed; nothing on the host uses it yet.
    Pending(CertName, HostName),
    /// The newest version is valid only from that time.
    NotYetValid(CertName, Timestamp),
    /// TXT records are left, and the account that could remove them is not in certs.toml.
    Stranded(CertName, DnsAccountName, usize),
}

impl Waiting {
    /// The moment at which it may become an action by itself.
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::NotDue(_, until, _)
            | Self::Backoff(_, until, ..)
            | Self::DuplicateLimit(_, _, until)
            | Self::NotYetValid(_, until) => Some(*until),
            _ => None,
        }
    }

    /// Whether a person has to do something.
    pub fn needs_person(&self) -> bool {
        matches!(
            self,
            Self::NeedsChange(..)
                | Self::Foreign(..)
                | Self::Downgrade(..)
                | Self::DuplicateLimit(..)
                | Self::Stranded(..)
        )
    }

    /// The host it is about, where it is about one.
    pub fn host(&self) -> Option<&HostName> {
        match self {
            Self::Foreign(_, host, ..) | Self::Downgrade(_, host, _) | Self::Narrower(_, host) | Self::Pending(_, host) => Some(host),
            _ => None,
        }
    }

    /// The certificate it is about.
    pub fn certificate(&self) -> &CertName {
        match self {
            Self::NotDue(name, ..)
            | Self::Backoff(name, ..)
            | Self::NeedsChange(name, ..)
            | Self::DuplicateLimit(name, ..)
            | Self::Foreign(name, ..)
            | Self::Downgrade(name, ..)
            | Self::Narrower(name, ..)
            | Self::Pending(name, ..)
            | Self::NotYetValid(name, ..)
            | Self::Stranded(name, ..) => name,
        }
    }
}

/// Decides what to do.
pub fn plan(
    desired: &Desired,
    state: &State,
    observed: &Observed,
    request: &Request,
    now: Timestamp,
) -> Plan {
    let mut plan = Plan::default();
    let mut deploys: BTreeMap<&HostName, Vec<Install>> = BTreeMap::new();
    let nothing = CertState::default();
    for certificate in desired.certificates.values() {
        if !request.selects(&certificate.name) {
            continue;
        }
        let known = state.certificates.get(&certificate.name).unwrap_or(&nothing);
        match issuing(certificate, known, desired, request, now) {
            Decision::Act(because) => plan.actions.push(Action::Issue {
                certificate: certificate.name.clone(),
                because,
                resumes: known.order.as_ref().is_some_and(|order| order.url.is_some()),
            }),
            Decision::Wait(waiting) => plan.waiting.push(waiting),
            Decision::Nothing => {}
        }
        let Some((number, version)) = known.newest() else { continue };
        if request.deploying == Deploying::No || version.not_after <= now {
            continue;
        }
        if version.not_before > now {
            plan.waiting.push(Waiting::NotYetValid(certificate.name.clone(), version.not_before));
            continue;
        }
        for host in certificate
            .hosts
            .iter()
            .filter(|host| request.hosts.as_ref().is_none_or(|only| only.contains(host)))
        {
            match deploying(certificate, host, number, version, known, state, observed, request, now) {
                Decision::Act(lacks) => {
                    deploys.entry(host).or_default().push(Install {
                        certificate: certificate.name.clone(),
                        version: number,
                        lacks,
                    });
                }
                Decision::Wait(waiting) => plan.waiting.push(waiting),
                Decision::Nothing => {}
            }
        }
    }
    clean_ups(desired, state, request, &mut plan);
    plan.actions
        .extend(deploys.into_iter().map(|(host, installs)| Action::Deploy { host: host.clone(), installs }));
    plan
}

impl Request {
    /// Whether it is about this certificate.
    pub fn selects(&self, name: &CertName) -> bool {
        self.only.as_ref().is_none_or(|only| only.contains(name))
    }
}

/// What was decided about one thing.
enum Decision<T> {
    Act(T),
    Wait(Waiting),
    Nothing,
}

fn issuing(
    certificate: &Certificate,
    known: &CertState,
    desired: &Desired,
    request: &Request,
    now: Timestamp,
) -> Decision<Because> {
    let name = || certificate.name.clone();
    let newest = known.newest().map(|(_, version)| version);
    let because = match (request.issuing, newest) {
        (Issuing::No, _) => return Decision::Nothing,
        (Issuing::Forced(asked), Some(version)) if version.issued_at < asked => Because::Forced,
        (Issuing::Forced(_), None) => Because::Missing,
        _ => match reason(certificate, newest, known, desired, now) {
            Ok(because) => because,
            Err(waiting) => return Decision::Wait(waiting),
        },
    };
    if let (false, Some(until)) = (request.override_limits, duplicate_until(certificate, known, desired, now))
    {
        let (count, until) = until;
        return Decision::Wait(Waiting::DuplicateLimit(name(), count, until));
    }
    // A person who asks in an incident has mended something, or wants to see the error again.
    if matches!(request.issuing, Issuing::Forced(_)) {
        return Decision::Act(because);
    }
    match &known.failure {
        Some(failure) => match schedule::next_attempt(failure, &certificate.revision, newest) {
            NextAttempt::AfterChange => Decision::Wait(Waiting::NeedsChange(name(), failure.problem.clone())),
            NextAttempt::At(at) if at > now => {
                Decision::Wait(Waiting::Backoff(name(), at, failure.count, failure.problem.clone()))
            }
            NextAttempt::At(_) => Decision::Act(because),
        },
        None => Decision::Act(because),
    }
}

/// The reason to issue without being asked, or why there is none.
fn reason(
    certificate: &Certificate,
    newest: Option<&Version>,
    known: &CertState,
    desired: &Desired,
    now: Timestamp,
) -> Result<Because, Waiting> {
    let Some(version) = newest else { return Ok(Because::Missing) };
    if !same_domains(certificate, version) {
        return Ok(Because::DomainsChanged);
    }
    if certificate.key != version.key {
        return Ok(Because::KeyChanged);
    }
    if desired.issuers.get(&certificate.issuer).is_some_and(|issuer| issuer.directory != version.directory) {
        return Ok(Because::IssuerChanged);
    }
    let (at, rule) = schedule::renews_at(certificate, version, known.renewal_info.as_ref());
    if at <= now {
        Ok(Because::Due(at, rule))
    } else {
        Err(Waiting::NotDue(certificate.name.clone(), at, rule))
    }
}

/// When the CA will issue these names again, if it would refuse now, and how many it has issued.
fn duplicate_until(
    certificate: &Certificate,
    known: &CertState,
    desired: &Desired,
    now: Timestamp,
) -> Option<(usize, Timestamp)> {
    let issuer = desired.issuers.get(&certificate.issuer)?;
    let (limit, span) = schedule::duplicate_limit(&issuer.directory)?;
    let mut ends: Vec<Timestamp> = known
        .versions
        .values()
        .filter(|version| version.directory == issuer.directory && same_domains(certificate, version))
        .map(|version| after(version.issued_at, span))
        .filter(|end| *end > now)
        .collect();
    ends.sort_unstable();
    let count = ends.len();
    (count >= limit).then(|| (count, ends[count - limit]))
}

/// Whether a version has exactly the domains that certs.toml asks for.
pub fn same_domains(certificate: &Certificate, version: &Version) -> bool {
    let wanted: BTreeSet<_> = certificate.domains.iter().collect();
    wanted == version.domains.iter().collect()
}

#[expect(clippy::too_many_arguments, reason = "each is a separate fact; a struct would only rename them")]
fn deploying(
    certificate: &Certificate,
    host: &HostName,
    number: VersionNumber,
    version: &Version,
    known: &CertState,
    state: &State,
    observed: &Observed,
    request: &Request,
    now: Timestamp,
) -> Decision<Lacks> {
    let name = || certificate.name.clone();
    let facts = state.hosts.get(host).and_then(|of| of.get(&certificate.name));
    let installed = facts.and_then(|facts| facts.installed.as_ref());
    let current = installed.filter(|installed| installed.fingerprint == version.fingerprint);
    if request.deploying == Deploying::Forced {
        return Decision::Act(Lacks::Forced);
    }
    let looks = observed.looks(host, &certificate.name);
    let others: Vec<&Served> = looks
        .iter()
        .filter_map(|look| match &look.seen {
            Seen::Serving(served) if served.fingerprint != version.fingerprint => Some(served),
            _ => None,
        })
        .collect();
    if others.is_empty() {
        let silent = looks.iter().any(|look| matches!(look.seen, Seen::Unreachable(_)));
        return match (current, installed) {
            _ if !silent && !looks.is_empty() => Decision::Nothing,
            (Some(current), _) if current.pending => Decision::Wait(Waiting::Pending(name(), host.clone())),
            (Some(_), _) if looks.is_empty() => Decision::Nothing,
            (Some(_), _) => Decision::Act(Lacks::Silent),
            (None, Some(older)) => Decision::Act(Lacks::Older(older.version)),
            (None, None) => Decision::Act(Lacks::Never),
        };
    }
    let ours =
        |served: &Served| known.versions.values().any(|version| version.fingerprint == served.fingerprint);
    let good = |served: &Served| served.distrust.is_none() && served.not_after > now;
    if current.is_some_and(|current| current.pending) {
        return Decision::Wait(Waiting::Pending(name(), host.clone()));
    }
    let proven = facts.is_some_and(|facts| facts.proven_at.is_some());
    if let Some(served) =
        others.iter().find(|served| proven && good(served) && !ours(served) && !ends_soon(served, now))
    {
        return Decision::Wait(Waiting::Foreign(name(), host.clone(), served.fingerprint, served.not_after));
    }
    if others.iter().any(|served| good(served)) && !request.allow_downgrade {
        let why = observed.untrusted.get(&certificate.name).and_then(|of| of.get(&number));
        if let Some(why) = why {
            return Decision::Wait(Waiting::Downgrade(name(), host.clone(), why.clone()));
        }
        let kept: BTreeSet<_> = version.domains.iter().collect();
        if !certificate.domains.iter().all(|domain| kept.contains(domain)) {
            return Decision::Wait(Waiting::Narrower(name(), host.clone()));
        }
    }
    let served = others[0];
    Decision::Act(Lacks::Serves(served.fingerprint, served.not_after))
}

/// The last sixth of a life, or 48 hours: then ours is better than whatever is served.
fn ends_soon(served: &Served, now: Timestamp) -> bool {
    let life = served.not_before.duration_until(served.not_after);
    now.duration_until(served.not_after) < (life / 6).max(SignedDuration::from_hours(48).min(life / 4))
}

/// Records left by attempts that ended; those of a certificate that is being issued are removed
/// by its own attempt.
fn clean_ups(desired: &Desired, state: &State, request: &Request, plan: &mut Plan) {
    let mut left: BTreeMap<&CertName, Vec<&TxtDebt>> = BTreeMap::new();
    for debt in state.debts.iter().filter(|debt| request.selects(&debt.certificate)) {
        left.entry(&debt.certificate).or_default().push(debt);
    }
    for (certificate, debts) in left {
        let issued = plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Issue { certificate: name, .. } if name == certificate));
        let (debts, stranded): (Vec<&TxtDebt>, _) =
            debts.into_iter().partition(|debt| desired.dns.contains(&debt.dns));
        if let Some(first) = stranded.first() {
            plan.waiting.push(Waiting::Stranded(certificate.clone(), first.dns.clone(), stranded.len()));
        }
        if !issued && !debts.is_empty() {
            plan.actions.push(Action::CleanUp {
                certificate: certificate.clone(),
                debts: debts.into_iter().cloned().collect(),
            });
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is none yet"),
            Self::DomainsChanged => f.write_str("its domains changed in certs.toml"),
            Self::KeyChanged => f.write_str("its key type changed in certs.toml"),
            Self::IssuerChanged => f.write_str("its issuer changed in certs.toml"),
            Self::Due(at, rule) => write!(f, "due since {} ({rule})", minute(*at)),
            Self::Forced => f.write_str("you asked (--force)"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ari(None) => f.write_str("the CA's renewal window"),
            Self::Ari(Some(page)) => write!(f, "the CA's renewal window, see {page}"),
            Self::Lifetime => f.write_str("share of its life left"),
            Self::RenewBefore => f.write_str("renew-before"),
        }
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("not installed there yet"),
            Self::Older(version) => write!(f, "version {version} is installed there"),
            Self::Serves(fingerprint, until) => {
                write!(f, "it serves {}… until {}", fingerprint.short(), minute(*until))
            }
            Self::Silent => f.write_str("nothing answers there"),
            Self::Forced => f.write_str("you asked (--force)"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDue(name, until, rule) => {
                write!(f, "{name}: not due, renews {} ({rule})", minute(*until))
            }
            Self::Backoff(name, until, count, problem) => write!(
                f,
                "{name}: tried {count} {}, next attempt {}: {}",
                if *count == 1 { "time" } else { "times" },
                minute(*until),
                problem.one_line()
            ),
            Self::NeedsChange(name, problem) => {
                write!(
                    f,
                    "{name}: not tried again until certs.toml changes (or --force): {}",
                    problem.one_line()
                )
            }
            Self::DuplicateLimit(name, count, until) => write!(
                f,
                "{name}: the CA has issued {count} certificates for these names this week and would refuse until {}; \
                 `certfleet deploy {name}` pushes the newest again",
                minute(*until)
            ),
            Self::Foreign(name, host, fingerprint, until) => write!(
                f,
                "{name} on {host}: serves {}…, a valid certificate that is not ours, until {}; \
                 `certfleet deploy {name} --host {host} --force` replaces it",
                fingerprint.short(),
                minute(*until)
            ),
            Self::Downgrade(name, host, why) => {
                write!(
                    f,
                    "{name} on {host}: kept, it serves a trusted certificate and ours would not be ({why}); --allow-downgrade replaces it"
                )
            }
            Self::Narrower(name, host) => {
                write!(f, "{name} on {host}: waits for a version with all domains of certs.toml")
            }
            Self::Pending(name, host) => write!(f, "{name} on {host}: installed, nothing there uses it yet"),
            Self::NotYetValid(name, from) => {
                write!(f, "{name}: the newest version is valid from {}", minute(*from))
            }
            Self::Stranded(name, dns, count) => {
                write!(
                    f,
                    "{name}: {count} TXT records are left, and the account [dns.{dns}] that set them is not in certs.toml"
                )
            }
        }
    }
}

/// A moment for people: to the minute, UTC.
pub fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
