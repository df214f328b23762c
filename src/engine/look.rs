//! Looking at what lies on the disk of a host, where the look from outside has nothing to say: the server may go on for
//! months with what it has in memory, and fail to start with what is there by now.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::apart::blocking;
use super::{Engine, Event};
use crate::deploy::{Compared, Installed};
use crate::model::cert::Leaf;
use crate::model::desired::{Certificate, Host};
use crate::model::disk::{Disk, Lies};
use crate::model::name::{CertName, Fingerprint, HostName};
use crate::model::observed::Served;
use crate::model::problem::Problem;
use crate::model::state::{CertState, HostFacts};

/// What a look at a disk came to.
pub(super) struct Looked {
    /// The facts of the host's certificates, as they are now in the store.
    pub(super) facts: BTreeMap<CertName, HostFacts>,
    /// What was found that is not as it should be, in words.
    pub(super) found: Vec<(CertName, String)>,
    /// Why nothing could be seen.
    pub(super) problem: Option<Problem>,
}

impl Engine {
    /// Compares what lies on a host with what we installed there, and keeps what was found.
    pub(super) async fn look_into(&self, name: &HostName, known: BTreeMap<CertName, HostFacts>) -> Looked {
        let host = &self.config.desired.hosts[name];
        let mut installed = Vec::new();
        for (certificate, facts) in &known {
            let Some(there) = &facts.installed else { continue };
            // What the store has lost is told elsewhere.
            if let Ok(bundle) = blocking(|| self.bundle(certificate, there.version, false)) {
                installed.push((certificate, there.fingerprint, Installed::of(host, &bundle)));
            }
        }
        let (names, sums): (Vec<_>, Vec<_>) =
            installed.into_iter().map(|(name, fingerprint, sums)| ((name, fingerprint), sums)).unzip();
        let compared = self.compare(host, &sums).await;
        let now = Timestamp::now();
        let (lies, problem): (Vec<Lies>, _) = match compared {
            Ok(compared) => {
                let judged = names.iter().zip(compared);
                let judged =
                    judged.map(|((name, ours), compared)| self.judge_disk(name, ours, compared, now));
                (judged.collect(), None)
            }
            Err(problem) => {
                let unseen = |(name, _): &(&CertName, Fingerprint)| {
                    let since = known.get(*name).and_then(HostFacts::unseen).map_or(now, |(since, _)| since);
                    Lies::Unseen(since, problem.clone())
                };
                (names.iter().map(unseen).collect(), Some(problem))
            }
        };
        let disks: BTreeMap<&CertName, Disk> = names
            .iter()
            .zip(lies)
            .filter(|((certificate, ours), lies)| {
                matches!(lies, Lies::Right | Lies::Unseen(..)) || !self.went_on(name, certificate, ours)
            })
            .map(|((certificate, _), lies)| (*certificate, Disk { at: now, lies }))
            .collect();
        let found = disks.iter().filter_map(|(name, disk)| Some(((*name).clone(), self.words(name, disk)?)));
        let found: Vec<(CertName, String)> = found.collect();
        let mut facts = known.clone();
        let keep = |facts: &mut BTreeMap<CertName, HostFacts>| {
            for (name, disk) in &disks {
                // Of what somebody has installed meanwhile this says nothing.
                let same =
                    |of: &&mut HostFacts| known.get(*name).is_some_and(|was| was.installed == of.installed);
                if let Some(of) = facts.get_mut(*name).filter(same) {
                    of.disk = Some(disk.clone());
                }
            }
        };
        keep(&mut facts);
        if let Err(error) = blocking(|| self.store.update_host(name, keep)) {
            self.tell(Event::NotNoted(Problem::of(&error)));
        }
        let drifted = |(certificate, what): &(CertName, String)| {
            Event::Drifted(certificate.clone(), name.clone(), what.clone())
        };
        // What is the same as a day ago is no news.
        let is_news = |(name, _): &&(CertName, String)| {
            let before = known.get(name).and_then(|facts| facts.disk.as_ref()).map(|disk| &disk.lies);
            before != disks.get(name).map(|disk| &disk.lies)
        };
        let events: Vec<Event> = found.iter().filter(is_news).map(drifted).collect();
        self.listener.notice_all(&events);
        Looked { facts, found, problem }
    }

    /// Whether another process has issued or installed another version meanwhile: what it is doing there is no drift.
    fn went_on(&self, host: &HostName, name: &CertName, ours: &Fingerprint) -> bool {
        let newest = blocking(|| self.store.certificate(name));
        let facts = blocking(|| self.store.host(host));
        let is_newest =
            |known: CertState| known.newest().is_some_and(|(_, version)| version.fingerprint == *ours);
        let has = |facts: BTreeMap<CertName, HostFacts>| {
            let installed = facts.get(name).and_then(|facts| facts.installed.as_ref());
            installed.is_some_and(|installed| installed.fingerprint == *ours)
        };
        !(newest.is_ok_and(is_newest) && facts.is_ok_and(has))
    }

    async fn compare(&self, host: &Host, installed: &[Installed]) -> Result<Vec<Compared>, Problem> {
        let session = self.session(host).await.map_err(|error| Problem::of(&*error))?;
        session.compare(host, installed).await.map_err(|error| Problem::of(&error))
    }

    fn judge_disk(&self, name: &CertName, ours: &Fingerprint, compared: Compared, now: Timestamp) -> Lies {
        match compared {
            Compared::Same => Lies::Right,
            Compared::Open(what) => Lies::Open(what),
            Compared::Changed(what, pem) => {
                let certificate = &self.config.desired.certificates[name];
                match pem.and_then(|pem| self.other(certificate, &pem, now)) {
                    Some(other) if other.fingerprint != *ours => Lies::Other(other),
                    _ => Lies::Damaged(what),
                }
            }
        }
    }

    /// What visitors would think of a chain, if it were served; `None` if it is none.
    fn other(&self, certificate: &Certificate, pem: &str, now: Timestamp) -> Option<Served> {
        let chain: Vec<Vec<u8>> = rustls_pemfile::certs(&mut pem.as_bytes())
            .filter_map(Result::ok)
            .map(|der| der.to_vec())
            .collect();
        let leaf = Leaf::parse(chain.first()?).ok()?;
        let name = certificate.verify_names.first().or_else(|| certificate.domains.first())?;
        // Nobody is served it: when its chain ends matters when it is.
        Some(Served::of(leaf, self.observer.roots(certificate).distrust(&chain, name, now)))
    }

    /// What is not as it should be.
    fn words(&self, name: &CertName, disk: &Disk) -> Option<String> {
        match &disk.lies {
            Lies::Right | Lies::Unseen(..) => None,
            Lies::Damaged(what) | Lies::Open(what) => Some(what.clone()),
            Lies::Other(other) => {
                let known = self.store.certificate(name).unwrap_or_default();
                Some(known.words_for(other, disk.at))
            }
        }
    }
}
