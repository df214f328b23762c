//! What holds for the planner in every world, found by trying many.
//!
//! A generated world is small (three certificates, three hosts) but any facts meet in it: versions
//! of all ages, other certificates on the hosts, failures, records left, orders under way.

use std::collections::{BTreeMap, BTreeSet};

use certfleet::model::desired::{Desired, KeyType, Margin, Rollout};
use certfleet::model::disk::{Disk, Lies};
use certfleet::model::name::{CertName, Domain, Fingerprint, HostName, VersionNumber};
use certfleet::model::observed::{Look, Observed, Seen, Served};
use certfleet::model::plan::{Action, Begun, Deploying, Install, Issuing, Lacks, Plan, Request, plan};
use certfleet::model::problem::Retry;
use certfleet::model::report::{HostStanding, report};
use certfleet::model::schedule::{NextAttempt, next_attempt};
use certfleet::model::state::{
    Failure, HostFacts, Installed, OpenOrder, RenewalInfo, State, TxtDebt, Version,
};
use jiff::{SignedDuration, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::facts;

#[path = "planner_properties/rollout.rs"]
mod rollout;
mod worlds;

use worlds::{any_retry, any_time, any_world, host_names};

const DAY: i64 = 24 * 3600;
/// 2026-06-01 12:00 UTC.
const NOW: i64 = 1_780_315_200;
/// Rounds within which a pass with success comes to rest.
const ROUNDS: usize = 8;

#[derive(Debug, Clone)]
struct World {
    desired: Desired,
    state: State,
    observed: Observed,
    request: Request,
    now: Timestamp,
}

impl World {
    fn plan(&self) -> Plan {
        plan(&self.desired, &self.state, &self.observed, &self.request, self.now)
    }

    /// The selected certificates with the hosts that are selected.
    fn selected(&self) -> impl Iterator<Item = (&CertName, BTreeSet<&HostName>)> {
        self.desired.certificates.values().filter(|certificate| self.request.selects(&certificate.name)).map(
            |certificate| {
                let hosts = certificate.hosts.iter().filter(|host| self.request.reaches(host)).collect();
                (&certificate.name, hosts)
            },
        )
    }

    fn newest(&self, name: &CertName) -> Option<(VersionNumber, &Version)> {
        self.state.certificates.get(name)?.newest()
    }

    fn is_served(&self, host: &HostName, name: &CertName) -> bool {
        let Some((_, version)) = self.newest(name) else { return false };
        let looks = self.observed.looks(host, name);
        let installed = self.state.hosts.get(host).and_then(|of| of.get(name)?.installed.as_ref());
        match looks {
            [] => installed.is_some_and(|installed| installed.fingerprint == version.fingerprint),
            looks => looks.iter().all(|look| {
                matches!(&look.seen, Seen::Serving(served) if served.fingerprint == version.fingerprint)
            }),
        }
    }

    /// Everything planned works, and is seen at once.
    fn succeed(&mut self, action: &Action) {
        match action {
            Action::CleanUp { debts, .. } => self.state.debts.retain(|debt| !debts.contains(debt)),
            Action::Look { host, certificates, .. } => self.look(host, certificates, &Lies::Right),
            Action::Issue { certificate: name, .. } => {
                let entry = &self.desired.certificates[name];
                let known = self.state.certificates.entry(name.clone()).or_default();
                let number = known.newest().map_or(VersionNumber::FIRST, |(number, _)| number.next());
                let version = facts::version(entry, number, self.now, SignedDuration::from_secs(90 * DAY));
                known.versions.insert(number, version);
                known.failure = None;
                known.order = None;
                // Its own attempt removes its records, what is left of earlier ones too.
                let accounts = &self.desired.dns;
                self.state.debts.retain(|debt| debt.certificate != *name || !accounts.contains(&debt.dns));
            }
            Action::Deploy { host, installs } => {
                for Install { certificate: name, version: number, .. } in installs {
                    let version = self.state.certificates[name].versions[number].clone();
                    let of = self.state.hosts.entry(host.clone()).or_default();
                    let facts = of.entry(name.clone()).or_default();
                    facts.installed = Some(Installed {
                        version: *number,
                        fingerprint: version.fingerprint,
                        at: self.now,
                        pending: false,
                    });
                    facts.proven_at = Some(self.now);
                    (facts.failure, facts.rejected, facts.disk) = (None, None, None);
                    let looks = self.observed.looks.get_mut(host).and_then(|of| of.get_mut(name));
                    for look in looks.into_iter().flatten() {
                        look.seen = Seen::Serving(served(&version, None));
                    }
                }
            }
        }
    }

    fn look(&mut self, host: &HostName, certificates: &[CertName], lies: &Lies) {
        let of = self.state.hosts.get_mut(host).expect("something is installed there");
        for name in certificates {
            let facts = of.get_mut(name).expect("it is installed there");
            facts.disk = Some(Disk { at: self.now, lies: lies.clone() });
        }
    }

    /// Everything planned fails.
    fn fail(&mut self, action: &Action, retry: Retry) {
        let last = self.now;
        match action {
            Action::CleanUp { .. } => {}
            Action::Look { host, certificates, .. } => {
                let problem = facts::problem("ssh.refused", Retry::Backoff);
                self.look(host, certificates, &Lies::Unseen(self.now, problem));
            }
            Action::Issue { certificate: name, .. } => {
                let revision = self.desired.certificates[name].revision.clone();
                let known = self.state.certificates.entry(name.clone()).or_default();
                let count = known.failure.as_ref().map_or(1, |failure| failure.count.saturating_add(1));
                let problem = facts::problem("acme.refused", retry);
                known.failure = Some(Failure { count, first: last, last, problem, revision });
            }
            Action::Deploy { host, installs } => {
                let of = self.state.hosts.entry(host.clone()).or_default();
                for install in installs {
                    let problem = facts::problem("deploy.unreachable", Retry::Backoff);
                    let revision = self.desired.certificates[&install.certificate].revision.clone();
                    of.entry(install.certificate.clone()).or_default().failure =
                        Some(Failure { count: 1, first: last, last, problem, revision });
                }
            }
        }
    }
}

fn served(version: &Version, distrust: Option<String>) -> Served {
    Served {
        fingerprint: version.fingerprint,
        serial: version.serial.clone(),
        not_before: version.not_before,
        not_after: version.not_after,
        issuer: "Some CA".to_owned(),
        distrust,
        chain_end: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_facts_give_the_same_plan(world in any_world()) {
        prop_assert_eq!(world.plan(), world.clone().plan());
    }

    #[test]
    fn success_comes_to_rest(mut world in any_world()) {
        for _ in 0..ROUNDS {
            let plan = world.plan();
            plan.actions.iter().for_each(|action| world.succeed(action));
        }
        prop_assert_eq!(world.plan().actions, Vec::new());
    }

    #[test]
    fn the_same_issue_is_not_planned_before_its_back_off(
        mut world in any_world(),
        retry in any_retry(),
        steps in vec(30_i64..12 * 3600, 1..30),
    ) {
        for step in steps {
            let plan = world.plan();
            for action in &plan.actions {
                if let Action::Issue { certificate: name, .. } = action
                    && let Some(known) = world.state.certificates.get(name)
                    && let Some(failure) = known.failure.as_ref().filter(|failure| failure.last <= world.now)
                    && !matches!(world.request.issuing, Issuing::Forced(asked) if failure.last < asked)
                {
                    let revision = &world.desired.certificates[name].revision;
                    let newest = known.newest().map(|(_, version)| version);
                    match next_attempt(failure, revision, newest) {
                        NextAttempt::At(at) => prop_assert!(at <= world.now, "{name} before {at}"),
                        NextAttempt::AfterChange => prop_assert!(false, "{name} without a change"),
                    }
                }
            }
            plan.actions.iter().for_each(|action| world.fail(action, retry));
            let again = world.plan();
            let issues = again.actions.iter().any(|action| matches!(action, Action::Issue { .. }));
            prop_assert!(!issues, "again at once");
            world.now += SignedDuration::from_secs(step);
        }
    }

    #[test]
    fn only_the_newest_version_is_installed_and_never_when_it_is_not_valid(world in any_world()) {
        for action in world.plan().actions {
            let Action::Deploy { installs, .. } = action else { continue };
            for install in installs {
                let (number, version) = world.newest(&install.certificate).expect("what is installed exists");
                prop_assert_eq!(install.version, number);
                prop_assert!(version.not_before <= world.now && world.now < version.not_after);
            }
        }
    }

    #[test]
    fn no_trusted_certificate_is_replaced_by_one_that_is_not(world in any_world()) {
        if world.request.allow_downgrade {
            return Ok(());
        }
        for action in world.plan().actions {
            let Action::Deploy { host, installs } = action else { continue };
            for install in installs {
                let distrust = world.observed.untrusted.get(&install.certificate);
                let trusted = world.observed.looks(&host, &install.certificate).iter().any(|look| {
                    matches!(&look.seen, Seen::Serving(served)
                        if served.distrust.is_none()
                            && served.not_after > world.now
                            && world.newest(&install.certificate).unwrap().1.fingerprint != served.fingerprint)
                });
                prop_assert!(!trusted || distrust.is_none_or(|of| !of.contains_key(&install.version)));
            }
        }
    }

    #[test]
    fn every_certificate_and_host_is_accounted_for(world in any_world()) {
        let plan = world.plan();
        let acts = |name: &CertName, host: &HostName| {
            plan.actions.iter().any(|action| match action {
                Action::Deploy { host: at, installs } => {
                    at == host && installs.iter().any(|install| install.certificate == *name)
                }
                _ => false,
            })
        };
        let issues = |name: &CertName| {
            plan.actions
                .iter()
                .any(|action| matches!(action, Action::Issue { certificate, .. } if certificate == name))
        };
        for (name, hosts) in world.selected() {
            let waits = plan.waiting.iter().any(|waiting| {
                waiting.certificate() == name
                    && waiting.host().is_none()
                    && !matches!(waiting, certfleet::model::plan::Waiting::Stranded(..))
            });
            if world.request.issuing != Issuing::No {
                prop_assert!(waits || issues(name), "{name}");
            }
            if world.request.deploying == Deploying::No {
                continue;
            }
            let can = world.newest(name).is_some_and(|(_, version)| {
                version.not_before <= world.now && world.now < version.not_after
            });
            for host in hosts {
                let here = plan.waiting.iter().any(|w| w.certificate() == name && w.host() == Some(host));
                let done = acts(name, host) || here || world.is_served(host, name);
                prop_assert!(if can { done } else { waits || issues(name) }, "{name} on {host}");
            }
        }
    }

    #[test]
    fn nothing_is_planned_beyond_what_was_asked(world in any_world()) {
        let plan = world.plan();
        for action in &plan.actions {
            match action {
                Action::CleanUp { certificate, .. } => prop_assert!(world.request.selects(certificate)),
                Action::Issue { certificate, .. } => {
                    prop_assert!(world.request.selects(certificate));
                    prop_assert_ne!(world.request.issuing, Issuing::No);
                }
                Action::Deploy { host, installs } => {
                    prop_assert!(world.request.reaches(host) && world.request.deploying != Deploying::No);
                    let mut names = BTreeSet::new();
                    for install in installs {
                        prop_assert!(world.request.selects(&install.certificate));
                        prop_assert!(world.desired.certificates[&install.certificate].hosts.contains(host));
                        prop_assert!(names.insert(&install.certificate), "twice in one transaction");
                    }
                }
                Action::Look { host, certificates, .. } => {
                    prop_assert!(world.request.reaches(host) && world.request.deploying != Deploying::No);
                    prop_assert!(!certificates.is_empty());
                    prop_assert!(certificates.iter().all(|name| world.request.selects(name)));
                }
            }
        }
        for waiting in &plan.waiting {
            prop_assert!(world.request.selects(waiting.certificate()));
            prop_assert!(waiting.host().is_none_or(|host| world.request.reaches(host)));
        }
    }

    #[test]
    fn what_waits_for_a_time_waits_for_one_to_come(world in any_world()) {
        if let Some(wake) = world.plan().wake() {
            prop_assert!(wake > world.now);
        }
    }

    #[test]
    fn plan_and_report_agree(mut world in any_world()) {
        world.request = Request::default();
        let plan = world.plan();
        let report = report(&world.desired, &world.state, &world.observed, world.now);
        for certificate in &report.certificates {
            for host in &certificate.hosts {
                let served = host.standing == HostStanding::Serving;
                let installs = plan.actions.iter().any(|action| match action {
                    Action::Deploy { host: at, installs } => *at == host.host && installs.iter().any(|install| {
                        install.certificate == certificate.name && install.lacks != Lacks::Forced
                    }),
                    _ => false,
                });
                // Where it is served something is done only if the report says what is not as it should be.
                prop_assert!(!(served && installs) || host.problem.is_some(), "{} on {}", certificate.name, host.host);
                let looks = world.observed.looks(&host.host, &certificate.name);
                let waits = plan.waiting.iter().find(|waiting| {
                    waiting.certificate() == &certificate.name && waiting.host() == Some(&host.host)
                });
                if let Some(certfleet::model::plan::Waiting::Foreign(..)) = waits {
                    prop_assert_eq!(host.standing, HostStanding::Foreign);
                    prop_assert!(host.problem.is_some() && !looks.is_empty());
                }
            }
        }
    }

    #[test]
    fn no_moment_and_no_life_makes_it_panic(mut world in any_world(), times in vec(any_time(), 40)) {
        let mut times = times.into_iter().cycle();
        let mut time = || times.next().expect("a cycle has no end");
        world.now = time();
        for known in world.state.certificates.values_mut() {
            for version in known.versions.values_mut() {
                (version.not_before, version.not_after, version.issued_at) = (time(), time(), time());
            }
            if let Some(failure) = &mut known.failure {
                (failure.last, failure.problem.retry) = (time(), Retry::NotBefore(time()));
            }
            if let Some(info) = &mut known.renewal_info {
                info.window = Some((time(), time()));
            }
        }
        for look in world.observed.looks.values_mut().flat_map(BTreeMap::values_mut).flatten() {
            if let Seen::Serving(served) = &mut look.seen {
                (served.not_before, served.not_after) = (time(), time());
            }
        }
        let plan = world.plan();
        plan.waiting.iter().for_each(|waiting| drop(waiting.to_string()));
        for action in &plan.actions {
            if let Action::Issue { because, .. } = action {
                drop(because.to_string());
            }
        }
        let report = report(&world.desired, &world.state, &world.observed, world.now);
        for certificate in report.certificates {
            if let (Some(renews), Some(end)) = (certificate.renews_at, certificate.not_after) {
                prop_assert!(renews <= end, "{} renews after its end", certificate.name);
            }
        }
    }
}
