//! What a pass should do, and why, and why not. Pure: the same facts give the same plan.
//!
//! An action is planned only when its preconditions already hold: a deployment appears in the
//! next plan, once the version is in the store. So resuming after a crash needs no code of its own.

mod place;
mod request;
mod rollout;
mod turn;
mod undeployed;
mod waiting;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::desired::{Certificate, Desired};
use super::disk;
use super::name::{CertName, DnsAccountName, Fingerprint, HostName, IssuerName, VersionNumber};
use super::observed::Observed;
use super::schedule::{self, Rule, after};
use super::state::{CertState, OpenOrder, State, TxtDebt, Version};
use turn::{Turn, turn};

pub(super) use place::Place;
pub use request::{Deploying, Issuing, Request};
pub use rollout::Begun;
pub(super) use rollout::{Rolling, decisions};
pub(super) use turn::failing;
pub use undeployed::undeployed;
pub use waiting::{Stop, Waiting};
pub use words::minute;

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
        /// By this issuer.
        issuer: IssuerName,
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
    /// See what lies on the disk of a host, where nobody has looked for a day.
    Look {
        /// The host.
        host: HostName,
        /// The certificates that are compared with what we have installed.
        certificates: Vec<CertName>,
        /// Since when nobody knows.
        since: Timestamp,
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
    /// What would have held it back, were what is served there not close to its end.
    pub despite: Option<Box<Waiting>>,
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
    /// certs.toml names other issuers.
    IssuerChanged,
    /// The newest version was revoked at that time.
    Revoked(Timestamp),
    /// Its time has come.
    Due(Timestamp, Rule),
    /// A run that was cut off has left an order open: the CA may have issued already.
    Unfinished,
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
    /// What is served there ended at this time.
    Expired(Fingerprint, Timestamp),
    /// What is served there is not trusted, and why.
    Distrusted(Fingerprint, String),
    /// It is installed, but nothing answers.
    Silent,
    /// It is served, but something else lies on the disk for the server's next start: what.
    OnDisk(String),
    /// It is served, but a transaction was cut off from us: it may have left something behind.
    Unfinished,
    /// A person asked.
    Forced,
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
    for certificate in request.selected(desired) {
        if let Some(problem) = state.unreadable.get(&certificate.name) {
            let (name, problem) = (certificate.name.clone(), problem.clone());
            plan.waiting.push(Waiting::Unreadable(name, None, problem));
            continue;
        }
        let known = state.certificates.get(&certificate.name).unwrap_or(&nothing);
        match issuing(certificate, known, desired, request, now) {
            Decision::Act((because, issuer)) => plan.actions.push(Action::Issue {
                certificate: certificate.name.clone(),
                issuer: issuer.clone(),
                because,
                resumes: known
                    .order
                    .as_ref()
                    .is_some_and(|order| is_for(order, certificate, issuer, desired)),
            }),
            Decision::Wait(waiting) => plan.waiting.push(waiting),
            Decision::Nothing => {}
        }
        if request.deploying == Deploying::No {
            continue;
        }
        let mut hosts = certificate.hosts.iter().filter(|host| request.reaches(host)).peekable();
        let newest = known.newest();
        let Some((number, version)) = newest.filter(|(_, version)| version.not_after > now) else {
            if request.issuing == Issuing::No && hosts.peek().is_some() {
                let ended = newest.map(|(_, version)| version.not_after);
                plan.waiting.push(Waiting::NothingToDeploy(certificate.name.clone(), ended));
            }
            continue;
        };
        if let Some(revoked) = &version.revoked {
            if request.issuing == Issuing::No && hosts.peek().is_some() {
                plan.waiting.push(Waiting::Revoked(certificate.name.clone(), revoked.at));
            }
            continue;
        }
        if version.not_before > now {
            plan.waiting.push(Waiting::NotYetValid(certificate.name.clone(), version.not_before));
            continue;
        }
        let rolling = Rolling { certificate, known, state, observed, now };
        for (host, decision) in decisions(&rolling, number, version, request) {
            match decision {
                Decision::Act((lacks, despite)) => {
                    deploys.entry(host).or_default().push(Install {
                        certificate: certificate.name.clone(),
                        version: number,
                        lacks,
                        despite,
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
    if request.deploying == Deploying::Lacking {
        plan.actions.extend(desired.hosts.keys().filter_map(|host| {
            let since = disk::due(desired, state, observed, request, host, now)?;
            let certificates = disk::comparable(desired, state, request, host);
            let certificates = certificates.map(|(name, _)| name.clone()).collect();
            Some(Action::Look { host: host.clone(), certificates, since })
        }));
    }
    plan
}

/// What was decided about one thing.
pub(super) enum Decision<T> {
    Act(T),
    Wait(Waiting),
    Nothing,
}

impl<T> Decision<T> {
    fn map<U>(self, act: impl FnOnce(T) -> U) -> Decision<U> {
        match self {
            Self::Act(what) => Decision::Act(act(what)),
            Self::Wait(waiting) => Decision::Wait(waiting),
            Self::Nothing => Decision::Nothing,
        }
    }
}

fn issuing<'a>(
    certificate: &'a Certificate,
    known: &CertState,
    desired: &Desired,
    request: &Request,
    now: Timestamp,
) -> Decision<(Because, &'a IssuerName)> {
    let name = || certificate.name.clone();
    let newest = known.newest().map(|(_, version)| version);
    let because = match (request.issuing, newest) {
        (Issuing::No, _) => return Decision::Nothing,
        (Issuing::Forced(asked), Some(version)) if version.issued_at < asked => Because::Forced,
        _ => match reason(certificate, known, desired, now) {
            Ok(because) => because,
            Err((at, rule)) => {
                let not_due = Decision::Wait(Waiting::NotDue(name(), at, rule));
                let Some(issuer) = cut_off(known, certificate, desired) else { return not_due };
                return match turn(certificate, known, desired, request, now) {
                    Turn::Of(of) if of == issuer => Decision::Act((Because::Unfinished, issuer)),
                    // Only the one that has the order can end it.
                    Turn::Of(_) => not_due,
                    Turn::Nobody(waiting) => Decision::Wait(waiting),
                };
            }
        },
    };
    match turn(certificate, known, desired, request, now) {
        Turn::Of(issuer) => Decision::Act((because, issuer)),
        Turn::Nobody(waiting) => Decision::Wait(waiting),
    }
}

/// The reason to issue without being asked, or when there will be one.
pub(super) fn reason(
    certificate: &Certificate,
    known: &CertState,
    desired: &Desired,
    now: Timestamp,
) -> Result<Because, (Timestamp, Rule)> {
    let Some((_, version)) = known.newest() else { return Ok(Because::Missing) };
    if let Some(revoked) = &version.revoked {
        return Ok(Because::Revoked(revoked.at));
    }
    if !same_domains(certificate, version) {
        return Ok(Because::DomainsChanged);
    }
    if certificate.key != version.key {
        return Ok(Because::KeyChanged);
    }
    // Any of the listed will do: that a better one is back is no reason to issue again.
    if desired.issuer_at(certificate, &version.directory).is_none() {
        return Ok(Because::IssuerChanged);
    }
    let (at, rule) = schedule::renews_at(certificate, version, known.renewal_info.as_ref());
    let at = at.max(schedule::settled_at(version, now));
    if at <= now { Ok(Because::Due(at, rule)) } else { Err((at, rule)) }
}

/// Whether an open order is at this CA already, and for what certs.toml asks for now.
fn is_for(order: &OpenOrder, certificate: &Certificate, issuer: &IssuerName, desired: &Desired) -> bool {
    let ordered: BTreeSet<_> = order.domains.iter().collect();
    order.url.is_some()
        && order.key == certificate.key
        && ordered == certificate.domains.iter().collect()
        && desired.issuers.get(issuer).is_some_and(|issuer| {
            issuer.directory == order.directory && certificate.profile(issuer) == order.profile.as_deref()
        })
}

/// Who has an order whose run has not lived to see how it ends. One that failed is not taken up before the
/// certificate is due: what failed is told, and may need somebody.
fn cut_off<'a>(known: &CertState, certificate: &'a Certificate, desired: &Desired) -> Option<&'a IssuerName> {
    let order = known.order.as_ref()?;
    let failed = known.last_failure().is_some_and(|failure| failure.last >= order.started);
    certificate.issuers().find(|issuer| !failed && is_for(order, certificate, issuer, desired))
}

/// When the CA will issue these names again, if it would refuse now, and how many it has issued.
fn duplicate_until(
    certificate: &Certificate,
    known: &CertState,
    issuer: &IssuerName,
    desired: &Desired,
    now: Timestamp,
) -> Option<(usize, Timestamp)> {
    let issuer = desired.issuers.get(issuer)?;
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

/// Records left by attempts that ended; those of a certificate that is being issued are removed
/// by its own attempt.
fn clean_ups(desired: &Desired, state: &State, request: &Request, plan: &mut Plan) {
    let mut left: BTreeMap<&CertName, Vec<TxtDebt>> = BTreeMap::new();
    let mut stranded: BTreeMap<(&CertName, &DnsAccountName), usize> = BTreeMap::new();
    for debt in state.debts.iter().filter(|debt| request.selects(&debt.certificate)) {
        if desired.dns.contains(&debt.dns) {
            left.entry(&debt.certificate).or_default().push(debt.clone());
        } else {
            *stranded.entry((&debt.certificate, &debt.dns)).or_default() += 1;
        }
    }
    for ((certificate, dns), count) in stranded {
        plan.waiting.push(Waiting::Stranded(certificate.clone(), dns.clone(), count));
    }
    for (certificate, debts) in left {
        let issued = plan
            .actions
            .iter()
            .any(|action| matches!(action, Action::Issue { certificate: name, .. } if name == certificate));
        if !issued {
            plan.actions.push(Action::CleanUp { certificate: certificate.clone(), debts });
        }
    }
}
