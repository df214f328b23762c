//! How urgent it is: by the share of its life that is left of what visitors get.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::{AddressReport, CertReport, HostReport, HostStanding, Report, Serving, Standing};
use crate::model::alert::Level;
use crate::model::name::{CertName, HostName};

/// From how much time left each level holds, for a certificate of this life.
///
/// A quarter, a sixth, and a twelfth, the last at least 48 hours where that is no more than a sixth of the
/// life. All of it in fractions: lives shrink, fixed days would break.
pub fn ladder(life: SignedDuration) -> [(Level, SignedDuration); 3] {
    let emergency = (life / 12).max(SignedDuration::from_hours(48).min(life / 6));
    [(Level::Emergency, emergency), (Level::Critical, life / 6), (Level::Warning, life / 4)]
}

/// How urgent the end of a certificate is.
pub fn ending(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> Option<Level> {
    let life = not_before.duration_until(not_after).max(SignedDuration::ZERO);
    let left = now.duration_until(not_after);
    ladder(life).into_iter().find(|(_, limit)| left <= *limit).map(|(level, _)| level)
}

/// The end of a certificate, and where it matters.
#[derive(Debug, Clone, PartialEq)]
pub struct End<'a> {
    /// Which certificate.
    pub certificate: &'a CertName,
    /// The host that serves it; none where it is the newest in the store.
    pub host: Option<&'a HostName>,
    /// Start of its validity.
    pub not_before: Timestamp,
    /// End of its validity.
    pub not_after: Timestamp,
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
        let standing = match self.standing {
            Standing::Expired => Some(Level::Critical),
            Standing::Blocked | Standing::Failing | Standing::Missing => Some(Level::Warning),
            // The next pass renews it.
            Standing::Due | Standing::Valid => None,
        };
        let hosts = self.hosts.iter().map(|host| host.urgency(now));
        hosts
            .chain(self.stored_end().map(|end| ending(end.not_before, end.not_after, now)))
            .fold(standing, Ord::max)
    }

    /// What of it ends first: of all that is served, else of what the store has.
    pub fn end(&self) -> Option<End<'_>> {
        self.ends().into_iter().min_by_key(|end| end.not_after)
    }

    /// Everything that is served, else the newest version in the store.
    fn ends(&self) -> Vec<End<'_>> {
        let served = self.hosts.iter().flat_map(|host| {
            host.served().map(|serving| End {
                certificate: &self.name,
                host: Some(&host.host),
                not_before: serving.not_before,
                not_after: serving.not_after,
            })
        });
        served.chain(self.stored_end()).collect()
    }

    /// Of the newest version, where nothing was seen.
    fn stored_end(&self) -> Option<End<'_>> {
        let unseen = self.hosts.iter().all(|host| host.served().next().is_none());
        let (not_before, not_after) = self.not_before.zip(self.not_after).filter(|_| unseen)?;
        Some(End { certificate: &self.name, host: None, not_before, not_after })
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
        let endings = self.served().map(|serving| ending(serving.not_before, serving.not_after, now));
        endings.fold(standing, Ord::max)
    }

    /// What its addresses serve.
    fn served(&self) -> impl Iterator<Item = &Serving> {
        self.addresses.iter().filter_map(|address| address.serving.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(life: i64, left: i64) -> Option<Level> {
        let at = |hours: i64| Timestamp::from_second(hours * 3600).unwrap();
        ending(at(0), at(life), at(life - left))
    }

    #[test]
    fn the_ladder_is_in_fractions_of_the_life() {
        let day = 24;
        let steps = [
            (23, None),
            (22, Some(Level::Warning)),
            (15, Some(Level::Critical)),
            (7, Some(Level::Emergency)),
        ];
        for (left, expected) in steps {
            assert_eq!(level(90 * day, left * day), expected, "{left} of 90 days left");
        }
        assert_eq!(level(90 * day, -1), Some(Level::Emergency));
        assert_eq!(level(160, 41), None);
        assert_eq!(level(160, 40), Some(Level::Warning));
        assert_eq!(level(160, 26), Some(Level::Emergency), "48 hours are more than a sixth of it");
    }

    #[test]
    fn the_last_two_days_are_an_emergency_where_the_life_allows_it() {
        assert_eq!(level(20 * 24, 48), Some(Level::Emergency));
        assert_eq!(level(20 * 24, 49), Some(Level::Critical));
    }
}
