//! A pass in which nothing is due.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use certfleet::model::cert::Leaf;
use certfleet::model::name::{CertName, VersionNumber};
use certfleet::model::state::{CertState, RenewalInfo, Version};
use certfleet::store::{Store, VersionFiles};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use super::world::World;
use super::world::made::{DAY, self_signed};
use super::{Failed, Line, command};

/// `run --once` over so many certificates, without hosts.
pub(crate) fn line(count: usize) -> Result<Line, Failed> {
    let (_world, config) = prepare(count)?;
    let mut peak = 0;
    let seconds = super::median(|| {
        let began = Instant::now();
        let mut child = command(&config, &["run", "--once"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        while child.try_wait()?.is_none() {
            peak = peak.max(memory(child.id(), "VmHWM:"));
            thread::sleep(Duration::from_millis(1));
        }
        Ok(began.elapsed().as_secs_f64())
    })?;
    Ok(Line { ours: seconds, others: Vec::new(), note: format!("peak memory {} MB", peak / 1024) })
}

/// A world and a store with so many certificates of which none is due.
pub(crate) fn prepare(count: usize) -> Result<(World, PathBuf), Failed> {
    let world = World::builder().start()?;
    let mut tables = String::new();
    for number in 0..count {
        write!(tables, "[[certificate]]\ndomains = [\"n{number}.social.test\"]\n")?;
    }
    let config = world.config(&tables)?;
    let store = Store::open(&world.store())?;
    for number in 0..count {
        fill(&store, &format!("n{number}.social.test"), &world.pebble.directory)?;
    }
    Ok((world, config))
}

/// A certificate with nothing to do for a month.
fn fill(store: &Store, name: &str, directory: &str) -> Result<(), Failed> {
    let pair = self_signed(&[name], -DAY, 89 * DAY)?;
    let der = rustls_pemfile::certs(&mut pair.leaf.as_bytes()).next().ok_or("no leaf")??;
    let leaf = Leaf::parse(&der)?;
    let name: CertName = name.parse()?;
    let now = Timestamp::now();
    let month = SignedDuration::from_hours(24 * 30);
    let held = store.lock_certificate(&name, "filling", now)?;
    let files = VersionFiles {
        privkey: Zeroizing::new(pair.key.clone()),
        fullchain: pair.leaf.clone(),
        cert: pair.leaf.clone(),
        chain: String::new(),
    };
    store.save_version(&held, VersionNumber::FIRST, &files)?;
    let version = Version {
        domains: leaf.domains,
        issuer: "pebble".parse()?,
        directory: directory.to_owned(),
        key: certfleet::model::desired::KeyType::EcdsaP256,
        serial: leaf.serial,
        fingerprint: leaf.fingerprint,
        not_before: leaf.not_before,
        not_after: leaf.not_after,
        issued_at: now,
        ari_id: None,
        revoked: None,
    };
    let info = RenewalInfo {
        fingerprint: leaf.fingerprint,
        window: None,
        explanation: None,
        ask_again: now + month,
    };
    let known = CertState {
        versions: [(VersionNumber::FIRST, version)].into(),
        renewal_info: Some(info),
        ..CertState::default()
    };
    Ok(store.save_certificate(&held, &known)?)
}

/// A line of a process's status file, in KB; zero once it has ended.
pub(crate) fn memory(pid: u32, which: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
