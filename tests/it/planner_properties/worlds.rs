//! Worlds of all kinds, likely and not.

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(NOW + seconds).expect("near now")
}

pub(super) fn any_time() -> impl Strategy<Value = Timestamp> {
    let far = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    prop_oneof![
        Just(Timestamp::MIN),
        Just(Timestamp::MAX),
        Just(Timestamp::UNIX_EPOCH),
        (-400 * DAY..400 * DAY).prop_map(at),
        far.prop_map(|seconds| Timestamp::from_second(seconds).expect("within its range")),
    ]
}

pub(super) fn any_retry() -> impl Strategy<Value = Retry> {
    prop_oneof![
        3 => Just(Retry::Backoff),
        1 => (0..10 * DAY).prop_map(|time| Retry::NotBefore(at(time))),
        1 => Just(Retry::AfterChange),
    ]
}

fn cert_names() -> [CertName; 3] {
    ["a.example.org", "b.example.org", "c.example.org"].map(|name| name.parse().expect("a name"))
}

pub(super) fn host_names() -> [HostName; 3] {
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

pub(super) fn any_world() -> impl Strategy<Value = World> {
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
