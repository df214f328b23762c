//! Which hosts get a new version now, and which wait until it is proven on others.
//!
//! Held back is only what would take a good certificate from visitors: where there is none, or its end is close,
//! no step is waited for. So the worst that a roll-out can do is to keep what works.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Decision, Deploying, Lacks, Place, Request, Stop, Waiting};
use crate::model::desired::{Certificate, Rollout};
use crate::model::name::{CertName, HostName, VersionNumber};
use crate::model::observed::{Observed, Seen};
use crate::model::schedule;
use crate::model::state::{CertState, State, Version};

/// What a pass has begun of certificates that are rolled out in steps.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Begun {
    /// On its way; or what became of it is not known, and will be seen in the next pass.
    pub under_way: BTreeSet<(CertName, HostName)>,
    /// It was tried, and is not tried again in this pass.
    pub over: BTreeSet<(CertName, HostName)>,
}

/// What is known of one certificate everywhere.
pub(in crate::model) struct Rolling<'a> {
    pub(in crate::model) certificate: &'a Certificate,
    pub(in crate::model) known: &'a CertState,
    pub(in crate::model) state: &'a State,
    pub(in crate::model) observed: &'a Observed,
    pub(in crate::model) now: Timestamp,
}

/// To install it there, and what would have held it back.
type Act = (Lacks, Option<Box<Waiting>>);

/// What is to be done on each of its hosts that the request reaches.
pub(in crate::model) fn decisions<'a>(
    rolling: &Rolling<'a>,
    number: VersionNumber,
    version: &Version,
    request: &Request,
) -> Vec<(&'a HostName, Decision<Act>)> {
    let certificate = rolling.certificate;
    let forced = matches!(request.deploying, Deploying::Forced(_));
    let rollout = certificate.rollout.as_ref().filter(|_| !forced);
    let mut step = rollout.map(|rollout| Step::of(rolling, rollout, number, version, request));
    let mut decisions = Vec::new();
    let mut hosts: Vec<&HostName> = certificate.hosts.iter().filter(|host| request.reaches(host)).collect();
    if let Some(rollout) = rollout {
        // Where it failed it is tried first; then where it begins.
        hosts.sort_by_key(|host| (!rolling.rejects(host, number, version), !rollout.canary.contains(host)));
    }
    for host in hosts {
        let name = || certificate.name.clone();
        if let Some(problem) = rolling.state.unreadable_hosts.get(host) {
            let waiting = Waiting::Unreadable(name(), Some(host.clone()), problem.clone());
            decisions.push((host, Decision::Wait(waiting)));
            continue;
        }
        let place = rolling.place(host);
        let decision = match (place.decide(number, version, request), &mut step) {
            (Decision::Act(lacks), Some(step)) => step.decide(&place, lacks),
            (Decision::Act(lacks), None) => Decision::Act((lacks, None)),
            (Decision::Wait(waiting), _) => Decision::Wait(waiting),
            (Decision::Nothing, _) => Decision::Nothing,
        };
        decisions.push((host, decision));
    }
    decisions
}

impl Place<'_> {
    /// Why a pass leaves it as it is.
    pub(in crate::model) fn waits(&self) -> Option<Waiting> {
        let (number, version) = self.known.newest()?;
        let Place { certificate, known, state, observed, now, .. } = *self;
        let request = Request::default();
        let decision = match certificate.rollout {
            None => self.decide(number, version, &request).map(drop),
            Some(_) => {
                let rolling = Rolling { certificate, known, state, observed, now };
                let mut all = decisions(&rolling, number, version, &request).into_iter();
                all.find(|(host, _)| *host == self.host)?.1.map(drop)
            }
        };
        match decision {
            Decision::Wait(waiting) => Some(waiting),
            Decision::Act(()) | Decision::Nothing => None,
        }
    }
}

impl<'a> Rolling<'a> {
    fn place(&self, host: &'a HostName) -> Place<'a> {
        Place::new(self.certificate, host, self.known, self.state, self.observed, self.now)
    }

    /// Whether the newest version was found wanting there, and is not served by every address after all: one that
    /// is silent now may be the one that failed.
    fn rejects(&self, host: &'a HostName, number: VersionNumber, version: &Version) -> bool {
        let place = self.place(host);
        place.facts.is_some_and(|facts| facts.rejected == Some(number))
            && !(all_answer(&place) && is_proven(&place, version))
    }
}

/// How far a roll-out is.
struct Step<'a> {
    rollout: &'a Rollout,
    begun: &'a Begun,
    /// The canary that is waited for.
    canary: Option<&'a HostName>,
    /// Where it failed.
    stopped: Option<Stop>,
    /// The hosts where it is on its way.
    under_way: usize,
}

impl<'a> Step<'a> {
    fn of(
        rolling: &Rolling<'a>,
        rollout: &'a Rollout,
        number: VersionNumber,
        version: &Version,
        request: &'a Request,
    ) -> Self {
        let certificate = rolling.certificate;
        let proven = |host: &&HostName| is_proven(&rolling.place(host), version);
        let tried =
            |host: &&HostName| !request.begun.over.contains(&(certificate.name.clone(), (**host).clone()));
        let can_try = |host: &&HostName| {
            tried(host) && matches!(rolling.place(host).decide(number, version, request), Decision::Act(_))
        };
        let waits = || rollout.canary.iter().filter(|host| !proven(host));
        // One that is proven speaks for those that could not be tried.
        let canary = match rollout.canary.iter().any(|host| proven(&host)) {
            true => waits().find(can_try),
            false => waits().next(),
        };
        let stopped =
            certificate.hosts.iter().find(|host| rolling.rejects(host, number, version)).and_then(|host| {
                let facts = rolling.state.hosts.get(host)?.get(&certificate.name)?;
                let failure = facts.failure.as_ref()?;
                Some(Stop { at: host.clone(), when: failure.last, problem: failure.problem.clone() })
            });
        let of_it = request.begun.under_way.iter().filter(|(name, _)| *name == certificate.name);
        Self { rollout, begun: &request.begun, canary, stopped, under_way: of_it.count() }
    }

    /// Whether a host that lacks the version gets it now.
    fn decide(&mut self, place: &Place<'_>, lacks: Lacks) -> Decision<Act> {
        let (name, host) = (&place.certificate.name, place.host);
        if !takes_from_visitors(place) {
            return Decision::Act((lacks, None));
        }
        let most = self.rollout.batch.map_or(usize::MAX, std::num::NonZeroUsize::get);
        let this = (name.clone(), host.clone());
        if self.begun.over.contains(&this) || self.begun.under_way.contains(&this) {
            // It was decided already; whoever asks does not do it twice.
            return Decision::Act((lacks, None));
        }
        let held = match (&self.stopped, self.canary) {
            // Where it failed it is tried again: that it works there is what sets the others free.
            (Some(stop), _) if stop.at == *host => None,
            (Some(stop), _) => Some(Waiting::Stopped(name.clone(), host.clone(), Box::new(stop.clone()))),
            (_, Some(canary)) if !self.rollout.canary.contains(host) => {
                Some(Waiting::Canary(name.clone(), host.clone(), canary.clone()))
            }
            _ => None,
        };
        let despite = match held {
            Some(waiting) if !ends_soon(place) => return Decision::Wait(waiting),
            held => held.map(Box::new),
        };
        if self.under_way >= most {
            return Decision::Wait(Waiting::Batch(name.clone(), host.clone(), most));
        }
        self.under_way += 1;
        Decision::Act((lacks, despite))
    }
}

fn all_answer(place: &Place<'_>) -> bool {
    place.looks.iter().all(|look| matches!(look.seen, Seen::Serving(_)))
}

/// Whether the newest version is what visitors get. Of an address that is silent nobody knows, unless we have proven
/// the host.
fn is_proven(place: &Place<'_>, version: &Version) -> bool {
    let installed = place
        .installed()
        .is_some_and(|installed| installed.fingerprint == version.fingerprint && !installed.pending);
    let mut served = place.served().peekable();
    match served.peek() {
        Some(_) => {
            (installed || all_answer(place)) && served.all(|served| served.fingerprint == version.fingerprint)
        }
        None => installed,
    }
}

/// The lives of the good certificates that visitors would lose.
fn lives(place: &Place<'_>) -> Vec<(Timestamp, Timestamp)> {
    let newest = place.known.newest().map(|(_, version)| version.fingerprint);
    let good: Vec<_> = place
        .served()
        .filter(|served| place.is_good(served) && Some(served.fingerprint) != newest)
        .map(|served| (served.not_before, served.not_after))
        .collect();
    let seen = place.looks.iter().any(|look| matches!(look.seen, Seen::Serving(_)));
    let unseen = place.installed().filter(|_| !seen).and_then(|installed| {
        let version = place.known.versions.get(&installed.version)?;
        let is_old = Some(version.fingerprint) != newest && version.not_after > place.now;
        is_old.then_some((version.not_before, version.not_after))
    });
    good.into_iter().chain(unseen).collect()
}

fn takes_from_visitors(place: &Place<'_>) -> bool {
    !lives(place).is_empty()
}

/// Whether the first of them to end is so close to it that waiting is worse.
fn ends_soon(place: &Place<'_>) -> bool {
    lives(place).into_iter().any(|(from, until)| schedule::emergency(from, until) <= place.now)
}
