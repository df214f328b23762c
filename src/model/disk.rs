//! What lies on the disk of a host: what its server would load when it starts anew, whatever it serves from memory.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::desired::Desired;
use super::name::{CertName, HostName};
use super::observed::{Observed, Seen, Served};
use super::pace::share;
use super::plan::{Request, minute};
use super::problem::Problem;
use super::schedule::after;
use super::state::{CertState, HostFacts, Installed, State};

/// A host is not visited more often than this only to be looked at.
const EVERY: SignedDuration = SignedDuration::from_hours(24);
/// So that hosts that were deployed to in one minute are not looked at in one minute.
const SPREAD: SignedDuration = SignedDuration::from_hours(2);

/// One certificate on the disk of one host, as it was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Disk {
    /// When it was looked at, or should have been.
    pub at: Timestamp,
    /// What was found.
    pub lies: Lies,
}

/// What lies where we have installed a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lies {
    /// That version, readable for those who should.
    Right,
    /// Files of it are missing or changed, and it is no other certificate: which, safe to show.
    Damaged(String),
    /// Another certificate.
    Other(Served),
    /// That version, with owners or modes that it should not have: which, safe to show.
    Open(String),
    /// Nobody knows: since when the host could not be looked into, and why.
    Unseen(Timestamp, Problem),
}

impl HostFacts {
    /// What was found on the disk since we last installed something there.
    pub fn found(&self) -> Option<(&Installed, &Disk)> {
        let installed = self.installed.as_ref()?;
        let disk = self.disk.as_ref().filter(|disk| disk.at >= installed.at)?;
        Some((installed, disk))
    }

    /// When somebody last knew what is there.
    fn known_at(&self) -> Option<Timestamp> {
        let installed = self.installed.as_ref()?.at;
        Some(match self.found() {
            Some((_, Disk { lies: Lies::Unseen(..), .. })) | None => installed,
            Some((_, disk)) => disk.at,
        })
    }

    /// When what lies there was last compared with what we installed.
    pub fn compared_at(&self) -> Option<Timestamp> {
        let disk = self.found()?.1;
        (!matches!(disk.lies, Lies::Unseen(..))).then_some(disk.at)
    }

    /// Since when the host could not be looked into, and why.
    pub fn unseen(&self) -> Option<(Timestamp, &Problem)> {
        match &self.found()?.1.lies {
            Lies::Unseen(since, problem) => Some((*since, problem)),
            _ => None,
        }
    }
}

impl CertState {
    /// What to call a certificate that lies in the place of the newest version.
    pub fn words_for(&self, other: &Served, now: Timestamp) -> String {
        let mut versions = self.versions.iter();
        let ours = versions.find(|(_, version)| version.fingerprint == other.fingerprint);
        let fingerprint = other.fingerprint.short();
        match (ours, &other.distrust) {
            (Some((number, _)), _) => format!("there is version {number}"),
            _ if other.not_after <= now => {
                format!("there is {fingerprint}…, which expired on {}", minute(other.not_after))
            }
            (None, Some(why)) => format!("there is {fingerprint}…, which is not trusted ({why})"),
            (None, None) => format!("there is {fingerprint}…, valid until {}", minute(other.not_after)),
        }
    }
}

/// The certificates of a host that a look at its disk can tell something of: whose newest version we have installed.
/// None where our key lets us do nothing but bring certificates.
pub fn comparable<'a>(
    desired: &'a Desired,
    state: &'a State,
    request: &'a Request,
    host: &'a HostName,
) -> impl Iterator<Item = (&'a CertName, &'a HostFacts)> {
    let takes_only = desired.hosts.get(host).is_none_or(|entry| entry.receiver);
    let facts = state.hosts.get(host).filter(|_| !takes_only && request.reaches(host));
    let selected = facts.into_iter().flatten().filter(|(name, _)| request.selects(name));
    selected.filter(move |(name, facts)| {
        let wanted = desired.certificates.get(name).is_some_and(|of| of.hosts.contains(host));
        let newest = state.certificates.get(name).and_then(|known| known.newest());
        let has = newest.zip(facts.installed.as_ref());
        wanted && has.is_some_and(|((_, new), has)| new.fingerprint == has.fingerprint)
    })
}

/// Whether it is time to look at the disk of a host, and since when nobody has. Not while it is down.
pub fn due(
    desired: &Desired,
    state: &State,
    observed: &Observed,
    request: &Request,
    host: &HostName,
    now: Timestamp,
) -> Option<Timestamp> {
    let last = comparable(desired, state, request, host).filter_map(|(_, facts)| facts.known_at()).min()?;
    let period = EVERY + SPREAD.mul_f64(share(host.as_str()));
    // A moment in the future tells of a clock that was wrong.
    let is_due = last > now || after(last, period) <= now;
    let mut looks = observed.looks.get(host).into_iter().flatten().flat_map(|(_, looks)| looks).peekable();
    let down = looks.peek().is_some() && looks.all(|look| matches!(look.seen, Seen::Unreachable(_)));
    (is_due && !down).then_some(last)
}
