//! Reading everything at once; facts of hosts, TXT debts, and the cache of what was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

use super::document::{self, hex};
use super::error::{LoadError, Oddity, SaveError};
use super::files::{self, Survives};
use super::{DOCUMENT_LIMIT, Store, locks, open};
use crate::model::name::{CertName, HostName, VersionNumber};
use crate::model::observed::Observed;
use crate::model::problem::Problem;
use crate::model::state::{CertState, ConfigRefused, HostFacts, State, TxtDebt};

/// What was read, and what could not be.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Everything that could be read.
    pub state: State,
    /// Certificates whose facts cannot be read: nothing may be issued for them.
    pub unreadable: BTreeMap<CertName, Problem>,
    /// Hosts whose facts cannot be read.
    pub unreadable_hosts: BTreeMap<HostName, Problem>,
    /// TXT debts that cannot be read: a record may stay in DNS until they are restored.
    pub unreadable_debts: Vec<Problem>,
    /// What is odd but hinders nothing.
    pub warnings: Vec<Problem>,
}

impl Store {
    /// Changes what is remembered of a host. Reads, changes and writes under the short lock.
    ///
    /// Waits at most ten seconds for other processes.
    pub fn update_host(
        &self,
        host: &HostName,
        change: impl FnOnce(&mut BTreeMap<CertName, HostFacts>),
    ) -> Result<(), SaveError> {
        let _turn = self.turn.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _lock = self.short_lock()?;
        let path = self.host_path(host);
        let before: BTreeMap<CertName, HostFacts> = self.host(host)?;
        let mut after = before.clone();
        change(&mut after);
        match before == after {
            true => Ok(()),
            false => self.save(&path, &document::encode(&after)),
        }
    }

    /// The versions of a certificate that hosts have, as far as we know.
    pub fn installed_versions(&self, certificate: &CertName) -> Result<BTreeSet<VersionNumber>, LoadError> {
        let mut versions = BTreeSet::new();
        for name in files::names(&self.root.join("hosts"))? {
            if let Some(host) = name.strip_suffix(".json").and_then(|host| host.parse::<HostName>().ok()) {
                let facts = self.host(&host)?.remove(certificate);
                versions.extend(facts.and_then(|facts| facts.installed).map(|installed| installed.version));
            }
        }
        Ok(versions)
    }

    /// Notes a TXT record before it is set. The same record twice is one debt.
    pub fn add_debt(&self, debt: &TxtDebt) -> Result<(), SaveError> {
        self.check_same()?;
        Ok(files::write(&self.debt_path(debt), &document::encode(debt), Survives::PowerCut)?)
    }

    /// Forgets a TXT record: it is gone, for all that we know. One that is not noted is fine.
    pub fn settle_debt(&self, debt: &TxtDebt) -> Result<(), SaveError> {
        Ok(files::remove(&self.debt_path(debt))?)
    }

    /// The TXT records that may still be in DNS, and what could not be read of them.
    pub fn debts(&self) -> Result<(Vec<TxtDebt>, Vec<Problem>), LoadError> {
        let folder = self.root.join("txt");
        let (mut debts, mut unreadable) = (Vec::new(), Vec::new());
        for name in files::names(&folder)? {
            if name.starts_with(files::UNFINISHED) {
                continue;
            }
            let path = folder.join(name);
            match files::read(&path, DOCUMENT_LIMIT)
                .map(|bytes| bytes.map(|bytes| document::decode(&path, &bytes)))
            {
                // Settled between the listing and the reading.
                Ok(None) => {}
                Ok(Some(Ok(debt))) => debts.push(debt),
                Ok(Some(Err(error))) | Err(error) => unreadable.push(Problem::of(&error)),
            }
        }
        debts.sort();
        Ok((debts, unreadable))
    }

    /// Notes that the daemon goes on with an old configuration; `None` when it has the one that is there.
    pub fn save_config_refused(&self, refused: Option<&ConfigRefused>) -> Result<(), SaveError> {
        self.check_same()?;
        let path = self.root.join(CONFIG_REFUSED);
        match refused {
            Some(refused) => files::write(&path, &document::encode(refused), Survives::PowerCut)?,
            None => files::remove(&path)?,
        }
        Ok(())
    }

    /// Whether the daemon goes on with an old configuration, and why.
    pub fn config_refused(&self) -> Result<Option<ConfigRefused>, LoadError> {
        let path = self.root.join(CONFIG_REFUSED);
        let bytes = files::read(&path, DOCUMENT_LIMIT)?;
        bytes.map(|bytes| document::decode(&path, &bytes)).transpose()
    }

    /// Keeps what a pass saw, for `report`. A cache: not synced.
    pub fn save_observed(&self, observed: &Observed) -> Result<(), SaveError> {
        self.check_same()?;
        let path = self.root.join("observed.json");
        let bytes = document::encode(observed);
        if bytes.len() as u64 > OBSERVED_LIMIT {
            return Err(SaveError::TooLarge(path, OBSERVED_LIMIT));
        }
        Ok(files::write(&path, &bytes, Survives::Exit)?)
    }

    /// What the last pass saw; nothing when that cannot be read, for the next pass looks again.
    pub fn observed(&self) -> Observed {
        let path = self.root.join("observed.json");
        let read = files::read(&path, OBSERVED_LIMIT)
            .and_then(|bytes| bytes.map(|bytes| document::decode(&path, &bytes)).transpose());
        match read {
            Ok(observed) => observed.unwrap_or_default(),
            Err(error) => {
                let problem = Problem::of(&error).one_line();
                tracing::warn!(problem, "what the last pass saw is not known");
                Observed::default()
            }
        }
    }

    /// The facts of one host, as they are now: other processes are at work, too.
    pub fn host(&self, host: &HostName) -> Result<BTreeMap<CertName, HostFacts>, LoadError> {
        let path = self.host_path(host);
        match files::read(&path, DOCUMENT_LIMIT)? {
            Some(bytes) => document::decode(&path, &bytes),
            None => Ok(BTreeMap::new()),
        }
    }

    fn host_path(&self, host: &HostName) -> PathBuf {
        self.root.join("hosts").join(format!("{host}.json"))
    }

    fn debt_path(&self, debt: &TxtDebt) -> PathBuf {
        let mut sum = Sha256::new();
        for part in [debt.dns.as_str(), &debt.zone, &debt.owner, &debt.value, debt.certificate.as_str()] {
            sum.update(part.as_bytes());
            sum.update([0]);
        }
        self.root.join("txt").join(format!("{}.json", hex(&sum.finalize()[..8])))
    }

    pub(super) fn short_lock(&self) -> Result<std::fs::File, SaveError> {
        const PATIENCE: Duration = Duration::from_secs(10);
        let path = self.root.join("lock");
        let started = Instant::now();
        let mut pause = Duration::from_millis(1);
        loop {
            match locks::try_lock(&path).map_err(SaveError::Lock)? {
                Some(file) => return Ok(file),
                None if started.elapsed() >= PATIENCE => {
                    return Err(SaveError::Busy(path, PATIENCE.as_secs()));
                }
                None => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

const CONFIG_REFUSED: &str = "config-refused.json";

pub(super) fn load(store: &Store, now: Timestamp) -> Result<Loaded, LoadError> {
    store.check_same()?;
    open::check_folders(&store.root)?;
    let mut loaded = Loaded::default();
    let folder = store.root.join("certificates");
    for name in files::names(&folder)? {
        match name.parse::<CertName>() {
            Ok(name) => match store.certificate(&name) {
                // A folder without any fact: somebody had the lock and did nothing.
                Ok(state) if state == CertState::default() => {}
                Ok(state) => drop(loaded.state.certificates.insert(name, state)),
                Err(error) => drop(loaded.unreadable.insert(name, Problem::of(&error))),
            },
            Err(_) => loaded.warnings.extend(stranger(folder.join(name))),
        }
    }
    let folder = store.root.join("hosts");
    for name in files::names(&folder)? {
        match name.strip_suffix(".json").and_then(|host| host.parse::<HostName>().ok()) {
            Some(host) => match store.host(&host) {
                Ok(facts) => drop(loaded.state.hosts.insert(host, facts)),
                Err(error) => drop(loaded.unreadable_hosts.insert(host, Problem::of(&error))),
            },
            None => loaded.warnings.extend(stranger(folder.join(name))),
        }
    }
    (loaded.state.debts, loaded.unreadable_debts) = store.debts()?;
    match store.passes() {
        Ok(passes) => loaded.state.passes = passes,
        Err(error) => loaded.warnings.push(Problem::of(&error)),
    }
    loaded.state.unreadable.clone_from(&loaded.unreadable);
    loaded.state.unreadable_hosts.clone_from(&loaded.unreadable_hosts);
    if let Some(fact) = newest_fact(&loaded.state)
        && fact.duration_since(now) > CLOCK_TOLERANCE
    {
        loaded.warnings.push(Problem::of(&Oddity::ClockBehind { fact, now }));
    }
    Ok(loaded)
}

fn stranger(path: PathBuf) -> Option<Problem> {
    let name = path.file_name()?.to_string_lossy();
    let expected = name.starts_with(files::UNFINISHED) || name == "lost+found";
    (!expected).then(|| Problem::of(&Oddity::Stranger(path)))
}

/// The latest moment at which something is said to have happened.
fn newest_fact(state: &State) -> Option<Timestamp> {
    let certificates = state.certificates.values().flat_map(|certificate| {
        let issued = certificate.versions.values().map(|version| version.issued_at);
        let failed = certificate.failure.iter().map(|failure| failure.last);
        issued.chain(failed).chain(certificate.order.iter().map(|order| order.started))
    });
    let hosts = state.hosts.values().flat_map(BTreeMap::values).flat_map(|facts| {
        let installed = facts.installed.iter().map(|installed| installed.at);
        installed.chain(facts.proven_at).chain(facts.failure.iter().map(|failure| failure.last))
    });
    certificates.chain(hosts).chain(state.debts.iter().map(|debt| debt.since)).max()
}

/// Above the drift of clocks that are kept by NTP.
const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// 1,000 certificates on 40 hosts with two addresses each are below 40 MiB.
const OBSERVED_LIMIT: u64 = 128 << 20;
