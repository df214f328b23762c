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
                prop_assert!(!(served && installs), "{} on {}", certificate.name, host.host);
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

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).expect("near now")
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    let far = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        Just(Timestamp::UNIX_EPOCH),
        (-400 * DAY..400 * DAY).prop_map(at),
        far.prop_map(|seconds| Timestamp::from_second(seconds).expect("within its range")),
    ]
}

fn any_retry() -> impl Strategy<Value = Retry> {
    prop_oneof![
        3 => Just(Retry::Backoff),
        1 => (0..10 * DAY).prop_map(|time| Retry::NotBefore(at(time))),
        1 => Just(Retry::AfterChange),
    ]
}

fn cert_names() -> [CertName; 3] {
    ["a.example.org", "b.example.org", "c.example.org"].map(|name| name.parse().expect("a name"))
}

fn host_names() -> [HostName; 3] {
    ["web1", "web2", "web3"].map(|name| name.parse().expect("a name"))
}

fn any_key() -> impl Strategy<Value = KeyType> {
    prop_oneof![4 => Just(KeyType::EcdsaP256), 1 => Just(KeyType::Rsa2048)]
}

/// Mostly what the certificate has today.
fn any_domains(name: &CertName) -> impl Strategy<Value = Vec<Domain>> + use<> {
    let own: Domain = name.as_str().parse().expect("a domain");
    let more: Domain = format!("*.{own}").parse().expect("a domain");
    prop_oneof![3 => Just(vec![own.clone()]), 1 => Just(vec![more, own])]
}

#[derive(Debug, Clone)]
struct VersionPlan {
    age: i64,
    life: i64,
    starts: i64,
    key: KeyType,
    domains: Vec<Domain>,
    issuer: &'static str,
    untrusted: bool,
}

fn any_version(name: &CertName) -> impl Strategy<Value = VersionPlan> + use<> {
    let life = prop_oneof![3 => Just(90 * DAY), 2 => Just(6 * DAY), 1 => 60..400 * DAY];
    let issuer = prop_oneof![4 => Just("letsencrypt"), 1 => Just("staging")];
    let starts = prop_oneof![6 => Just(-3600_i64), 1 => 0..400 * DAY];
    (0..100 * DAY, life, starts, any_key(), any_domains(name), issuer, prop::bool::weighted(0.2)).prop_map(
        |(age, life, starts, key, domains, issuer, untrusted)| VersionPlan {
            age,
            life,
            starts,
            key,
            domains,
            issuer,
            untrusted,
        },
    )
}

fn any_failure() -> impl Strategy<Value = Failure> {
    (1_u32..8, 0..3 * DAY, any_retry(), prop_oneof![4 => Just("1"), 1 => Just("0")]).prop_map(
        |(count, ago, retry, revision)| Failure {
            count,
            first: at(-ago),
            last: at(-ago),
            problem: facts::problem("acme.refused", retry),
            revision: revision.to_owned(),
        },
    )
}

/// What one address shows: a version of ours by its place (or none), and trust.
#[derive(Debug, Clone)]
enum Shown {
    Ours(usize, bool),
    Other { age: i64, life: i64, distrust: bool },
    Nothing,
}

fn any_shown() -> impl Strategy<Value = Shown> {
    prop_oneof![
        3 => (0_usize..4, prop::bool::weighted(0.2)).prop_map(|(place, bad)| Shown::Ours(place, bad)),
        2 => (0..100 * DAY, 60..400 * DAY, any::<bool>())
            .prop_map(|(age, life, distrust)| Shown::Other { age, life, distrust }),
        2 => Just(Shown::Nothing),
    ]
}

/// What is on one host: what our facts say was installed (place, pending, proven), what is shown.
type PlacePlan = (Option<(usize, bool, bool)>, Vec<Shown>);

#[derive(Debug, Clone)]
struct CertPlan {
    hosts: Vec<HostName>,
    domains: Vec<Domain>,
    key: KeyType,
    margin: Option<Margin>,
    versions: Vec<VersionPlan>,
    failure: Option<Failure>,
    window: Option<(i64, i64, bool)>,
    order: bool,
    debts: Vec<bool>,
    places: Vec<PlacePlan>,
    rollout: Option<Rollout>,
    /// Where the newest version was found wanting.
    rejected: Vec<HostName>,
}

fn any_certificate(name: &CertName) -> impl Strategy<Value = CertPlan> + use<> {
    let hosts = prop::sample::subsequence(host_names().to_vec(), 0..=3);
    let margin = option::weighted(
        0.2,
        prop_oneof![
            (0..200 * DAY).prop_map(|time| Margin::Time(SignedDuration::from_secs(time))),
            (0.01..0.99).prop_map(Margin::Fraction),
        ],
    );
    let window = option::weighted(0.4, (-40 * DAY..40 * DAY, 0..5 * DAY, any::<bool>()));
    let place = (option::of((0_usize..4, any::<bool>(), any::<bool>())), vec(any_shown(), 0..3));
    (
        (hosts, any_domains(name), any_key(), margin),
        vec(any_version(name), 0..7),
        option::weighted(0.4, any_failure()),
        window,
        prop::bool::weighted(0.2),
        vec(any::<bool>(), 0..3),
        vec(place, 3),
        (option::of(rollout::any_rollout()), prop::sample::subsequence(host_names().to_vec(), 0..=1)),
    )
        .prop_map(
            |((hosts, domains, key, margin), versions, failure, window, order, debts, places, steps)| {
                let (rollout, rejected) = steps;
                CertPlan {
                    hosts,
                    domains,
                    key,
                    margin,
                    versions,
                    failure,
                    window,
                    order,
                    debts,
                    places,
                    rollout,
                    rejected,
                }
            },
        )
}

fn any_request() -> impl Strategy<Value = Request> {
    let asked = || prop_oneof![Just(at(0)), (-DAY..0).prop_map(at)];
    (
        option::weighted(0.3, prop::sample::subsequence(cert_names().to_vec(), 0..=3)),
        option::weighted(0.3, prop::sample::subsequence(host_names().to_vec(), 0..=3)),
        prop_oneof![
            3 => Just(Issuing::Due),
            1 => Just(Issuing::No),
            1 => asked().prop_map(Issuing::Forced),
        ],
        prop_oneof![
            3 => Just(Deploying::Lacking),
            1 => Just(Deploying::No),
            1 => asked().prop_map(Deploying::Forced),
        ],
        any::<(bool, bool)>(),
    )
        .prop_map(|(only, hosts, issuing, deploying, (allow_downgrade, override_limits))| Request {
            only: only.map(BTreeSet::from_iter),
            hosts: hosts.map(BTreeSet::from_iter),
            issuing,
            deploying,
            allow_downgrade,
            override_limits,
            begun: Begun::default(),
        })
}

fn any_world() -> impl Strategy<Value = World> {
    let [a, b, c] = cert_names();
    (any_certificate(&a), any_certificate(&b), any_certificate(&c), prop::bool::weighted(0.8), any_request())
        .prop_map(|(a, b, c, listed, request)| {
            let mut world = World {
                desired: facts::desired(&["letsencrypt", "staging"]),
                state: State::default(),
                observed: Observed::default(),
                request,
                now: at(0),
            };
            for (place, (name, plan)) in cert_names().into_iter().zip([a, b, c]).enumerate() {
                add(&mut world, &name, &plan);
                // The last one is sometimes an orphan.
                if place == 2 && !listed {
                    world.desired.certificates.remove(&name);
                }
            }
            world
        })
}

fn add(world: &mut World, name: &CertName, plan: &CertPlan) {
    let mut entry = facts::certificate(name.clone(), plan.domains.clone(), plan.hosts.clone());
    (entry.key, entry.renew_before) = (plan.key, plan.margin);
    let known = world.state.certificates.entry(name.clone()).or_default();
    for (place, of) in plan.versions.iter().enumerate() {
        let number = VersionNumber(u32::try_from(place).expect("few") + 1);
        let mut version = facts::version(&entry, number, at(-of.age), SignedDuration::from_secs(of.life));
        version.not_before += SignedDuration::from_secs(of.starts);
        (version.key, version.domains) = (of.key, of.domains.clone());
        version.issuer = of.issuer.parse().expect("a name");
        version.directory = facts::directory(of.issuer);
        known.versions.insert(number, version);
        if of.untrusted {
            let of = world.observed.untrusted.entry(name.clone()).or_default();
            of.insert(number, "its root is not trusted".to_owned());
        }
    }
    known.failure = plan.failure.clone();
    known.renewal_info =
        known.newest().zip(plan.window).map(|((_, version), (start, span, own))| RenewalInfo {
            fingerprint: if own { version.fingerprint } else { Fingerprint::of(b"an older one") },
            window: Some((at(start), at(start + span))),
            explanation: None,
            ask_again: at(0),
        });
    known.order = plan.order.then(|| OpenOrder {
        url: Some("https://ca.example/order/1".to_owned()),
        domains: plan.domains.clone(),
        issuer: entry.issuer.clone(),
        directory: facts::directory(entry.issuer.as_str()),
        key: plan.key,
        profile: None,
        started: at(-60),
    });
    for (place, has_account) in plan.debts.iter().enumerate() {
        world.state.debts.push(TxtDebt {
            certificate: name.clone(),
            dns: if *has_account { "zone" } else { "gone" }.parse().expect("a name"),
            zone: "example.org.".to_owned(),
            owner: format!("_acme-challenge.{name}."),
            value: format!("value {place}"),
            since: at(-60),
            proof: None,
        });
    }
    for (host, (installed, shown)) in host_names().into_iter().zip(&plan.places) {
        add_place(world, name, &host, *installed, shown);
    }
    entry.rollout = plan.rollout.clone();
    entry.rollout.iter_mut().for_each(|rollout| rollout.canary.retain(|host| entry.hosts.contains(host)));
    let newest = world.state.certificates[name].newest().map(|(number, version)| (number, version.issued_at));
    for host in plan.rejected.iter().filter(|_| newest.is_some()) {
        let of = world.state.hosts.entry(host.clone()).or_default().entry(name.clone()).or_default();
        let (number, last) = newest.expect("looked for");
        of.rejected = Some(number);
        let problem = facts::problem("deploy.not-served", Retry::Backoff);
        of.failure = Some(Failure { count: 1, first: last, last, problem, revision: String::new() });
    }
    world.desired.hosts.extend(host_names().map(|host| (host.clone(), facts::host(&host))));
    world.desired.certificates.insert(name.clone(), entry);
}

fn add_place(
    world: &mut World,
    name: &CertName,
    host: &HostName,
    installed: Option<(usize, bool, bool)>,
    shown: &[Shown],
) {
    let versions: Vec<(VersionNumber, Version)> = world.state.certificates[name]
        .versions
        .iter()
        .map(|(number, version)| (*number, version.clone()))
        .collect();
    if let Some((place, pending, proven)) = installed
        && let Some((number, version)) = versions.get(place)
    {
        let facts = HostFacts {
            installed: Some(Installed {
                version: *number,
                fingerprint: version.fingerprint,
                at: version.issued_at,
                pending,
            }),
            proven_at: proven.then(|| at(-DAY)),
            failure: None,
            rejected: None,
            disk: None,
        };
        world.state.hosts.entry(host.clone()).or_default().insert(name.clone(), facts);
    }
    let looks = shown.iter().enumerate().map(|(place, shown)| {
        let address = ([192, 0, 2, u8::try_from(place).expect("few")], 443).into();
        let seen = match shown {
            Shown::Ours(place, bad) => versions.get(*place).map(|(_, version)| {
                Seen::Serving(served(version, bad.then(|| "its root is not trusted".to_owned())))
            }),
            Shown::Other { age, life, distrust } => Some(Seen::Serving(Served {
                fingerprint: Fingerprint::of(b"other"),
                serial: "ff".to_owned(),
                not_before: at(-age),
                not_after: at(life - age),
                issuer: "Somebody CA".to_owned(),
                distrust: distrust.then(|| "self-signed".to_owned()),
                chain_end: None,
            })),
            Shown::Nothing => None,
        };
        let silent = || Seen::Unreachable(facts::problem("probe.refused", Retry::Backoff));
        let name = name.as_str().parse().expect("a domain");
        Look { address, name, at: at(0), seen: seen.unwrap_or_else(silent) }
    });
    world.observed.looks.entry(host.clone()).or_default().insert(name.clone(), looks.collect());
}
