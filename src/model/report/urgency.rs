//! How urgent it is: by the share of its life that is left of what visitors get.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{AddressReport, CertReport, HostReport, HostStanding, Report, Serving};
use crate::model::alert::{Level, level};
use crate::model::name::{CertName, HostName};

/// The end of a certificate, and where it matters.
#[derive(Debug, Clone, PartialEq)]
pub struct End<'a> {
    /// Which certificate.
    pub certificate: &'a CertName,
    /// The host that serves it; none where it is the newest in the store.
    pub host: Option<&'a HostName>,
    /// How long its validity is.
    pub life: SignedDuration,
    /// From when on visitors refuse it.
    pub not_after: Timestamp,
    /// Whether that is because what it is served with ends before it.
    pub of_chain: bool,
}

impl End<'_> {
    /// How urgent it is.
    pub fn urgency(&self, now: Timestamp) -> Option<Level> {
        level(self.life, now.duration_until(self.not_after))
    }
}

/// The report in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers<'a> {
    /// Certificates that are well.
    pub fine: usize,
    /// Those that somebody should look at in the next days.
    pub warning: usize,
    /// Those that somebody has to act on.
    pub critical: usize,
    /// Those that visitors see errors of, or will very soon.
    pub emergency: usize,
    /// Hosts that certificates are to be served by.
    pub hosts: usize,
    /// The next end of something that visitors get, or would.
    pub next_end: Option<End<'a>>,
}

impl Report {
    /// The certificates, most urgent first; of two alike, the one that ends first.
    pub fn by_urgency(&self) -> Vec<&CertReport> {
        let mut all: Vec<&CertReport> = self.certificates.iter().collect();
        all.sort_by_key(|certificate| {
            let end = certificate.end().map(|end| end.not_after);
            (std::cmp::Reverse(certificate.urgency(self.generated_at)), end.is_none(), end)
        });
        all
    }

    /// The report in numbers.
    pub fn numbers(&self) -> Numbers<'_> {
        let now = self.generated_at;
        let count = |level| self.certificates.iter().filter(|one| one.urgency(now) == level).count();
        let hosts: BTreeSet<&HostName> =
            self.certificates.iter().flat_map(|one| &one.hosts).map(|host| &host.host).collect();
        Numbers {
            fine: count(None),
            warning: count(Some(Level::Warning)),
            critical: count(Some(Level::Critical)),
            emergency: count(Some(Level::Emergency)),
            hosts: hosts.len(),
            next_end: self
                .certificates
                .iter()
                .flat_map(CertReport::ends)
                .filter(|end| end.not_after > now)
                .min_by_key(|end| end.not_after),
        }
    }
}

impl CertReport {
    /// How urgent it is, with all its hosts.
    pub fn urgency(&self, now: Timestamp) -> Option<Level> {
        let standing = self.standing.urgency().max(self.problem.as_ref().map(|_| Level::Warning));
        let hosts = self.hosts.iter().map(|host| host.urgency(now));
        hosts.chain(self.stored_end().map(|end| end.urgency(now))).fold(standing, Ord::max)
    }

    /// What of it ends first: of all that is served, else of what the store has.
    pub fn end(&self) -> Option<End<'_>> {
        self.ends().into_iter().min_by_key(|end| end.not_after)
    }

    /// Everything that is served, else the newest version in the store.
    fn ends(&self) -> Vec<End<'_>> {
        let served = self.hosts.iter().flat_map(|host| host.ends(&self.name));
        served.chain(self.stored_end()).collect()
    }

    /// Of the newest version, where nothing was seen.
    fn stored_end(&self) -> Option<End<'_>> {
        let unseen = self.hosts.iter().all(|host| host.served().next().is_none());
        let (not_before, not_after) = self.not_before.zip(self.not_after).filter(|_| unseen)?;
        let life = not_before.duration_until(not_after);
        Some(End { certificate: &self.name, host: None, life, not_after, of_chain: false })
    }
}

impl HostReport {
    /// How urgent it is there.
    pub fn urgency(&self, now: Timestamp) -> Option<Level> {
        let standing = match self.standing {
            HostStanding::Foreign | HostStanding::Unreachable | HostStanding::Stale => Some(Level::Warning),
            _ if self.failed() => Some(Level::Warning),
            HostStanding::Serving | HostStanding::Pending | HostStanding::Unknown => None,
        };
        let rejected = |address: &AddressReport| {
            address.standing == HostStanding::Stale
                && address.serving.as_ref().is_some_and(|serving| serving.distrust.is_some())
        };
        // Visitors see an error, though not for want of time.
        let standing = standing.max(self.addresses.iter().any(rejected).then_some(Level::Critical));
        let endings = self.served().map(|serving| {
            let life = serving.not_before.duration_until(serving.not_after);
            level(life, now.duration_until(serving.chain_ends.unwrap_or(serving.not_after)))
        });
        endings.fold(standing, Ord::max)
    }

    /// The ends of what its addresses serve.
    fn ends<'a>(&'a self, certificate: &'a CertName) -> impl Iterator<Item = End<'a>> {
        self.served().map(move |serving| End {
            certificate,
            host: Some(&self.host),
            life: serving.not_before.duration_until(serving.not_after),
            not_after: serving.chain_ends.unwrap_or(serving.not_after),
            of_chain: serving.chain_ends.is_some(),
        })
    }

    /// What its addresses serve.
    fn served(&self) -> impl Iterator<Item = &Serving> {
        self.addresses.iter().filter_map(|address| address.serving.as_ref())
    }
}
