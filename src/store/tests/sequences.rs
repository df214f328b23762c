//! Any sequence of changes reads back as the same changes made in memory.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::model::state::{Failure, OpenOrder};

#[derive(Debug, Clone)]
enum Change {
    State(u8, Vec<u32>, bool),
    Version(u8, u32, u32),
    Prune(u8, Vec<u32>),
    Host(u8, u8, Option<u32>),
    Owe(u8),
    Settle(u8),
    OrderKey(u8, bool),
    Reopen,
}

fn change() -> impl Strategy<Value = Change> {
    let numbers = || prop::collection::vec(1u32..6, 0..4);
    prop_oneof![
        (0u8..3, numbers(), any::<bool>()).prop_map(|(c, n, order)| Change::State(c, n, order)),
        (0u8..3, 1u32..6, any::<u32>()).prop_map(|(c, n, seed)| Change::Version(c, n, seed)),
        (0u8..3, numbers()).prop_map(|(c, n)| Change::Prune(c, n)),
        (0u8..2, 0u8..3, prop::option::of(1u32..6)).prop_map(|(h, c, v)| Change::Host(h, c, v)),
        (0u8..4).prop_map(Change::Owe),
        (0u8..4).prop_map(Change::Settle),
        (0u8..3, any::<bool>()).prop_map(|(c, there)| Change::OrderKey(c, there)),
        Just(Change::Reopen),
    ]
}

/// What the store should hold.
#[derive(Debug, Default)]
struct Expected {
    states: BTreeMap<CertName, CertState>,
    files: BTreeMap<CertName, BTreeMap<VersionNumber, VersionFiles>>,
    hosts: BTreeMap<HostName, BTreeMap<CertName, HostFacts>>,
    debts: BTreeSet<TxtDebt>,
    keys: BTreeSet<CertName>,
}

fn with_order(numbers: &[u32], order: bool) -> CertState {
    let order = order.then(|| OpenOrder {
        url: Some("https://ca.example/order/1".to_owned()),
        domains: vec!["*.example.org".parse().unwrap()],
        issuer: "letsencrypt".parse().unwrap(),
        directory: "https://ca.example/directory".to_owned(),
        key: KeyType::Rsa4096,
        profile: None,
        started: NOW,
    });
    let failure = order.as_ref().map(|_| Failure {
        count: 3,
        first: NOW,
        last: NOW,
        problem: crate::model::problem::Problem::of(&Oddity::Stranger("/x\n\"y".into())),
        revision: "r".to_owned(),
    });
    CertState { order, failure, ..state(numbers) }
}

fn apply(store: &mut Store, expected: &mut Expected, change: Change, pem: &str) {
    let cert = |number: u8| name(&format!("cert-{number}.example.org"));
    match change {
        Change::State(c, numbers, order) => {
            let lock = store.lock_certificate(&cert(c), "test", NOW).unwrap();
            let state = with_order(&numbers, order);
            store.save_certificate(&lock, &state).unwrap();
            expected.states.insert(cert(c), state);
        }
        Change::Version(c, number, seed) => {
            let lock = store.lock_certificate(&cert(c), "test", NOW).unwrap();
            let number = VersionNumber(number);
            let recorded = expected.states.get(&cert(c)).is_some_and(|of| of.versions.contains_key(&number));
            let files = expected.files.entry(cert(c)).or_default();
            let result = store.save_version(&lock, number, &pems(seed));
            match recorded && files.get(&number) != Some(&pems(seed)) {
                true => assert!(result.is_err()),
                false => {
                    result.unwrap();
                    files.insert(number, pems(seed));
                    expected.states.entry(cert(c)).or_default();
                }
            }
        }
        Change::Prune(c, numbers) => {
            let lock = store.lock_certificate(&cert(c), "test", NOW).unwrap();
            let keep: Vec<_> = numbers.into_iter().map(VersionNumber).collect();
            store.prune_versions(&lock, &keep).unwrap();
            expected.files.entry(cert(c)).or_default().retain(|number, _| keep.contains(number));
        }
        Change::Host(h, c, version) => {
            let host: HostName = format!("web{h}").parse().unwrap();
            let set = |facts: &mut BTreeMap<CertName, HostFacts>| match version {
                Some(number) => {
                    let installed = Installed {
                        version: VersionNumber(number),
                        fingerprint: Fingerprint::of(&[c]),
                        at: NOW,
                        pending: c == 0,
                    };
                    facts.entry(cert(c)).or_default().installed = Some(installed);
                }
                None => drop(facts.remove(&cert(c))),
            };
            store.update_host(&host, set).unwrap();
            set(expected.hosts.entry(host).or_default());
        }
        Change::Owe(n) => {
            store.add_debt(&debt(&n.to_string())).unwrap();
            expected.debts.insert(debt(&n.to_string()));
        }
        Change::Settle(n) => {
            store.settle_debt(&debt(&n.to_string())).unwrap();
            expected.debts.remove(&debt(&n.to_string()));
        }
        Change::OrderKey(c, there) => {
            let lock = store.lock_certificate(&cert(c), "test", NOW).unwrap();
            if there {
                store.save_order_key(&lock, pem).unwrap();
                expected.keys.insert(cert(c));
            } else {
                store.drop_order_key(&lock).unwrap();
                expected.keys.remove(&cert(c));
            }
        }
        Change::Reopen => *store = Store::open(store.path()).unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_sequence_of_changes_is_read_back(changes in prop::collection::vec(change(), 1..25)) {
        let (_folder, mut store) = fresh();
        let mut expected = Expected::default();
        let pem = key_pem();
        for change in changes {
            apply(&mut store, &mut expected, change, &pem);
        }
        let loaded = store.load(NOW).unwrap();
        prop_assert!(loaded.unreadable.is_empty() && loaded.unreadable_hosts.is_empty());
        expected.states.retain(|_, state| *state != CertState::default());
        expected.hosts.retain(|_, facts| !facts.is_empty());
        let mut hosts = loaded.state.hosts;
        hosts.retain(|_, facts| !facts.is_empty());
        prop_assert_eq!(loaded.state.certificates, expected.states);
        prop_assert_eq!(hosts, expected.hosts);
        prop_assert_eq!(loaded.state.debts, expected.debts.into_iter().collect::<Vec<_>>());
        for (certificate, versions) in expected.files {
            let on_disk = versions::numbers(&store.certificate_folder(&certificate)).unwrap();
            prop_assert_eq!(on_disk.len(), versions.len());
            for (number, files) in versions {
                prop_assert_eq!(store.version(&certificate, number).unwrap(), files);
            }
        }
        for number in 0..3 {
            let certificate = name(&format!("cert-{number}.example.org"));
            let there = store.order_key(&certificate).unwrap().is_some();
            prop_assert_eq!(there, expected.keys.contains(&certificate));
        }
    }
}
