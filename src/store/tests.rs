//! Tests of the store: what is saved comes back, what is damaged is refused, nothing is shown to others.

mod damage;
mod sequences;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::model::desired::KeyType;
use crate::model::name::{Fingerprint, HostName, VersionNumber};
use crate::model::problem::Diagnose;
use crate::model::state::{HostFacts, Installed, TxtDebt, Version};

const NOW: Timestamp = Timestamp::constant(1_790_000_000, 0);

fn fresh() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn name(text: &str) -> CertName {
    text.parse().unwrap()
}

fn version(seed: u32) -> Version {
    Version {
        domains: vec!["shop.example.org".parse().unwrap()],
        issuer: "letsencrypt".parse().unwrap(),
        directory: "https://ca.example/directory".to_owned(),
        key: KeyType::EcdsaP256,
        serial: format!("{seed:08x}"),
        fingerprint: Fingerprint::of(&seed.to_be_bytes()),
        not_before: NOW,
        not_after: NOW + SignedDuration::from_hours(24 * 90),
        issued_at: NOW,
        ari_id: None,
        revoked: None,
    }
}

fn state(seeds: &[u32]) -> CertState {
    let versions = seeds.iter().map(|seed| (VersionNumber(*seed), version(*seed))).collect();
    CertState { versions, ..CertState::default() }
}

fn pems(seed: u32) -> VersionFiles {
    VersionFiles {
        privkey: Zeroizing::new(format!("key {seed}\n")),
        fullchain: format!("leaf {seed}\nchain\n"),
        cert: format!("leaf {seed}\n"),
        chain: "chain\n".to_owned(),
    }
}

fn key_pem() -> String {
    rcgen::KeyPair::generate().unwrap().serialize_pem()
}

fn debt(value: &str) -> TxtDebt {
    TxtDebt {
        certificate: name("shop"),
        dns: "main".parse().unwrap(),
        zone: "example.org.".to_owned(),
        owner: "_acme-challenge.shop.example.org.".to_owned(),
        value: value.to_owned(),
        since: NOW,
        proof: None,
    }
}

/// Every path below a folder.
fn everything(root: &Path) -> Vec<PathBuf> {
    let mut paths = vec![root.to_owned()];
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => paths.extend(everything(&path)),
            false => paths.push(path),
        }
    }
    paths
}

/// Uses all parts of a store.
fn use_all(store: &Store) {
    let shop = name("shop");
    let lock = store.lock_certificate(&shop, "renewing", NOW).unwrap();
    store.save_certificate(&lock, &state(&[])).unwrap();
    store.save_order_key(&lock, &key_pem()).unwrap();
    store.save_version(&lock, VersionNumber(1), &pems(1)).unwrap();
    store.save_certificate(&lock, &state(&[1])).unwrap();
    store.add_debt(&debt("value")).unwrap();
    let installed =
        Installed { version: VersionNumber(1), fingerprint: Fingerprint::of(b"1"), at: NOW, pending: false };
    store
        .update_host(&"web1".parse().unwrap(), |facts| {
            facts.entry(shop.clone()).or_default().installed = Some(installed);
        })
        .unwrap();
    let issuer = "letsencrypt".parse().unwrap();
    drop(store.lock_account(&issuer, "https://ca.example/directory", "registering", NOW).unwrap());
    store.save_account(&issuer, "https://ca.example/directory", "{\"key\": 1}").unwrap();
    store.save_observed(&crate::model::observed::Observed::default()).unwrap();
    drop(store.lock_daemon("running", NOW).unwrap());
}

#[test]
fn what_is_saved_is_read_back() {
    let (_folder, store) = fresh();
    use_all(&store);
    let again = Store::open_existing(store.path()).unwrap().unwrap();
    let loaded = again.load(NOW).unwrap();
    assert!(loaded.unreadable.is_empty() && loaded.unreadable_hosts.is_empty(), "{loaded:?}");
    assert!(loaded.warnings.is_empty() && loaded.unreadable_debts.is_empty(), "{loaded:?}");
    assert_eq!(loaded.state.certificates[&name("shop")], state(&[1]));
    assert_eq!(loaded.state.debts, [debt("value")]);
    let facts = &loaded.state.hosts[&"web1".parse::<HostName>().unwrap()][&name("shop")];
    assert_eq!(facts.installed.as_ref().unwrap().version, VersionNumber(1));
    assert_eq!(again.version(&name("shop"), VersionNumber(1)).unwrap(), pems(1));
    let issuer = "letsencrypt".parse().unwrap();
    let account = again.account(&issuer, "https://ca.example/directory").unwrap().unwrap();
    assert_eq!(*account, "{\"key\": 1}");
    assert!(again.account(&issuer, "https://other.example/directory").unwrap().is_none());
    let lock = again.lock_certificate(&name("shop"), "cleaning", NOW).unwrap();
    assert!(again.order_key(&name("shop")).unwrap().unwrap().contains("PRIVATE KEY"));
    again.drop_order_key(&lock).unwrap();
    again.drop_order_key(&lock).unwrap();
    assert!(again.order_key(&name("shop")).unwrap().is_none());
    again.settle_debt(&debt("value")).unwrap();
    again.settle_debt(&debt("value")).unwrap();
    assert!(again.load(NOW).unwrap().state.debts.is_empty());
}

#[test]
fn nothing_is_open_to_others_whatever_the_umask() {
    const PATH: &str = "CERTFLEET_TEST_STORE";
    if let Some(path) = std::env::var_os(PATH) {
        // The child: its umask was set by the shell that started it.
        use_all(&Store::open(Path::new(&path)).unwrap());
        for path in everything(Path::new(&path)) {
            let facts = fs::metadata(&path).unwrap();
            let wanted = if facts.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(facts.permissions().mode() & 0o7777, wanted, "{}", path.display());
        }
        return;
    }
    for umask in ["000", "022", "077", "177"] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::nothing_is_open_to_others_whatever_the_umask"])
            .env(PATH, folder.path().join("store"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "umask {umask}: {text}");
    }
}

#[test]
fn a_write_that_fails_leaves_the_old_state() {
    const PATH: &str = "CERTFLEET_TEST_FULL_STORE";
    let shop = name("shop");
    if let Some(path) = std::env::var_os(PATH) {
        // The child: it may not write files above one block.
        let store = Store::open_existing(Path::new(&path)).unwrap().unwrap();
        let lock = store.lock_certificate(&shop, "renewing", NOW).unwrap();
        let large: Vec<u32> = (1..100).collect();
        let error = store.save_certificate(&lock, &state(&large)).unwrap_err();
        assert!(error.hint().unwrap().contains("LimitFSIZE"), "{error} {:?}", error.hint());
        let files = VersionFiles { chain: "x".repeat(100_000), ..pems(2) };
        store.save_version(&lock, VersionNumber(2), &files).unwrap_err();
        return;
    }
    let (_folder, store) = fresh();
    use_all(&store);
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::a_write_that_fails_leaves_the_old_state"])
        .env(PATH, store.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert_eq!(store.certificate(&shop).unwrap(), state(&[1]));
    let left: Vec<_> = everything(store.path())
        .into_iter()
        .filter(|path| path.to_string_lossy().contains("/.new-") || path.ends_with("2"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_lock_has_one_holder_who_says_what_is_done() {
    let (_folder, store) = fresh();
    let other = Store::open(store.path()).unwrap();
    let lock = store.lock_certificate(&name("shop"), "renewing shop", NOW).unwrap();
    lock.doing("waiting for the CA\u{1b}[2J", NOW);
    let Err(LockError::Held(Some(holder))) = other.lock_certificate(&name("shop"), "deploying", NOW) else {
        panic!("two have the lock");
    };
    assert_eq!((holder.pid, holder.since), (std::process::id(), NOW));
    assert_eq!(holder.doing, "waiting for the CA\\u{1b}[2J");
    other.lock_certificate(&name("blog"), "renewing", NOW).unwrap();
    drop(lock);
    other.lock_certificate(&name("shop"), "deploying", NOW).unwrap();
    let daemon = store.lock_daemon("running", NOW).unwrap();
    assert!(matches!(other.lock_daemon("running", NOW), Err(LockError::Held(Some(_)))));
    drop(daemon);
    other.lock_daemon("running", NOW).unwrap();
}

#[test]
fn the_death_of_a_holder_frees_the_lock() {
    const PATH: &str = "CERTFLEET_TEST_LOCKED_STORE";
    if let Some(path) = std::env::var_os(PATH) {
        let store = Store::open(Path::new(&path)).unwrap();
        let _lock = store.lock_certificate(&name("shop"), "dying", NOW).unwrap();
        fs::write(store.certificate_folder(&name("shop")).join(".new-left"), "x").unwrap();
        // No destructor runs, as with a kill.
        std::process::exit(0);
    }
    let (_folder, store) = fresh();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::tests::the_death_of_a_holder_frees_the_lock"])
        .env(PATH, store.path())
        .status()
        .unwrap();
    assert!(status.success());
    let folder = store.certificate_folder(&name("shop"));
    assert!(folder.join("lock.holder").exists() && folder.join(".new-left").exists());
    let _lock = store.lock_certificate(&name("shop"), "renewing", NOW).unwrap();
    assert!(!folder.join(".new-left").exists(), "what the dead left is gone");
}

#[test]
fn a_recorded_version_never_changes_and_a_leftover_is_replaced() {
    let (_folder, store) = fresh();
    let shop = name("shop");
    let lock = store.lock_certificate(&shop, "renewing", NOW).unwrap();
    store.save_version(&lock, VersionNumber(1), &pems(1)).unwrap();
    store.save_version(&lock, VersionNumber(1), &pems(7)).unwrap();
    assert_eq!(store.version(&shop, VersionNumber(1)).unwrap(), pems(7));
    store.save_certificate(&lock, &state(&[1])).unwrap();
    let error = store.save_version(&lock, VersionNumber(1), &pems(8)).unwrap_err();
    assert!(matches!(error, SaveError::VersionExists(VersionNumber(1))), "{error}");
    store.save_version(&lock, VersionNumber(1), &pems(7)).unwrap();
    store.save_version(&lock, VersionNumber(2), &pems(2)).unwrap();
    store.prune_versions(&lock, &[VersionNumber(2)]).unwrap();
    assert!(matches!(store.version(&shop, VersionNumber(1)), Err(LoadError::Missing(_))));
    assert_eq!(store.version(&shop, VersionNumber(2)).unwrap(), pems(2));
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{:?}", pems(41));
    assert!(!shown.contains("key 41"), "{shown}");
}

#[test]
fn threads_do_not_lose_each_others_facts_of_a_host() {
    let (_folder, store) = fresh();
    let other = Store::open(store.path()).unwrap();
    let host: HostName = "web1".parse().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = if thread % 2 == 0 { &store } else { &other };
            let host = &host;
            scope.spawn(move || {
                for number in 0..5 {
                    let certificate = name(&format!("cert-{thread}-{number}"));
                    store
                        .update_host(host, |facts| {
                            facts.insert(certificate, HostFacts::default());
                        })
                        .unwrap();
                }
            });
        }
    });
    assert_eq!(store.load(NOW).unwrap().state.hosts[&host].len(), 40);
}

#[test]
fn unfinished_files_are_removed_when_they_are_old() {
    let (_folder, store) = fresh();
    let (old, young) = (store.path().join("txt/.new-old"), store.path().join("txt/.new-young"));
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    fs::File::create(&old).unwrap().set_modified(long_ago).unwrap();
    fs::write(&young, "").unwrap();
    Store::open(store.path()).unwrap();
    assert!(!old.exists() && young.exists());
    assert!(store.load(NOW).unwrap().unreadable_debts.is_empty());
}
