//! One certificate on one host: what is there, and whether the newest version should be.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::{Decision, Deploying, Lacks, Request, Waiting};
use crate::model::desired::Certificate;
use crate::model::disk::Lies;
use crate::model::name::{HostName, VersionNumber};
use crate::model::observed::{Look, Observed, Seen, Served};
use crate::model::state::{CertState, HostFacts, Installed, State, Version};

/// What is known of one certificate on one host.
pub(in crate::model) struct Place<'a> {
    /// As certs.toml asks for it.
    pub(in crate::model) certificate: &'a Certificate,
    /// The host.
    pub(in crate::model) host: &'a HostName,
    /// What the store has of the certificate.
    pub(in crate::model) known: &'a CertState,
    /// What we did there.
    pub(in crate::model) facts: Option<&'a HostFacts>,
    /// What was seen there.
    pub(in crate::model) looks: &'a [Look],
    untrusted: Option<&'a BTreeMap<VersionNumber, String>>,
    /// All that is remembered.
    pub(in crate::model) state: &'a State,
    pub(super) observed: &'a Observed,
    pub(in crate::model) now: Timestamp,
}

impl<'a> Place<'a> {
    /// Everything known of this certificate on this host.
    pub(in crate::model) fn new(
        certificate: &'a Certificate,
        host: &'a HostName,
        known: &'a CertState,
        state: &'a State,
        observed: &'a Observed,
        now: Timestamp,
    ) -> Self {
        Self {
            certificate,
            host,
            known,
            facts: state.hosts.get(host).and_then(|of| of.get(&certificate.name)),
            looks: observed.looks(host, &certificate.name),
            untrusted: observed.untrusted.get(&certificate.name),
            state,
            observed,
            now,
        }
    }

    /// Whether this version, the newest, is to be installed.
    pub(in crate::model) fn decide(
        &self,
        number: VersionNumber,
        version: &Version,
        request: &Request,
    ) -> Decision<Lacks> {
        let decision = self.by_looks(number, version, request);
        match decision {
            // What visitors get is as it should be; that says nothing of what the server would start with.
            Decision::Nothing | Decision::Wait(Waiting::Pending(..) | Waiting::Unreachable(..)) => {
                self.by_disk(number, version, request).unwrap_or(decision)
            }
            decision => decision,
        }
    }

    /// The same by what lies on the disk, where that is not as we left it.
    fn by_disk(
        &self,
        number: VersionNumber,
        version: &Version,
        request: &Request,
    ) -> Option<Decision<Lacks>> {
        let (installed, disk) = self.facts?.found()?;
        if installed.fingerprint != version.fingerprint {
            return None;
        }
        let act = |what| Some(Decision::Act(Lacks::OnDisk(what)));
        let served = match &disk.lies {
            Lies::Right | Lies::Unseen(..) => return None,
            Lies::Damaged(what) | Lies::Open(what) => return act(what.clone()),
            Lies::Other(served) => served,
        };
        if self.is_foreign(served) && !self.ends_soon(served.not_before, served.not_after) {
            return Some(Decision::Wait(Waiting::ForeignOnDisk(
                self.certificate.name.clone(),
                self.host.clone(),
                served.fingerprint,
                served.not_after,
            )));
        }
        match self.worse(number, version, &[served], request) {
            Some(waiting) => Some(Decision::Wait(waiting)),
            None => act(self.known.words_for(served, self.now)),
        }
    }

    fn by_looks(&self, number: VersionNumber, version: &Version, request: &Request) -> Decision<Lacks> {
        let name = || self.certificate.name.clone();
        let host = || self.host.clone();
        let installed = self.installed();
        let current = installed.filter(|installed| installed.fingerprint == version.fingerprint);
        let others: Vec<&Served> =
            self.served().filter(|served| served.fingerprint != version.fingerprint).collect();
        let silent =
            self.looks.iter().find(|look| matches!(look.seen, Seen::Unreachable(_))).map(|look| look.address);
        if let Deploying::Forced(asked) = request.deploying
            && current.is_none_or(|current| current.at < asked)
        {
            // A person may replace what is foreign; what makes things worse has its own flag.
            return self
                .worse(number, version, &others, request)
                .map_or(Decision::Act(Lacks::Forced), Decision::Wait);
        }
        if others.is_empty() && self.served().next().is_some() {
            if self.is_unfinished(version) {
                return Decision::Act(Lacks::Unfinished);
            }
            // Where one address serves it, it is installed; another silent one is not cured by that.
            return silent.map_or(Decision::Nothing, |address| {
                Decision::Wait(Waiting::Unreachable(name(), host(), address))
            });
        }
        // Where ours was served before and nothing answers now, it is not the first use that is missing.
        let down = !self.looks.is_empty() && self.served().next().is_none() && self.is_proven();
        if current.is_some_and(|current| current.pending) && !down {
            return Decision::Wait(Waiting::Pending(name(), host()));
        }
        if let Some(waiting) = self.foreign(&others).or_else(|| self.worse(number, version, &others, request))
        {
            return Decision::Wait(waiting);
        }
        match others.iter().min_by_key(|served| served.not_after) {
            Some(served) => Decision::Act(self.instead_of(served)),
            None => match (current, installed) {
                (Some(_), _) if silent.is_none() => Decision::Nothing,
                (Some(_), _) => Decision::Act(Lacks::Silent),
                (None, Some(older)) => Decision::Act(Lacks::Older(older.version)),
                (None, None) => Decision::Act(Lacks::Never),
            },
        }
    }

    fn instead_of(&self, served: &Served) -> Lacks {
        match &served.distrust {
            _ if served.not_after <= self.now => Lacks::Expired(served.fingerprint, served.not_after),
            Some(why) => Lacks::Distrusted(served.fingerprint, why.clone()),
            None => Lacks::Serves(served.fingerprint, served.not_after),
        }
    }

    /// What our last transaction left there.
    pub(in crate::model) fn installed(&self) -> Option<&'a Installed> {
        self.facts.and_then(|facts| facts.installed.as_ref())
    }

    /// Whether every address that answers serves this version, and no transaction of ours has told us that it brought
    /// it: one was cut off, and may have left behind what the next one clears away.
    pub(in crate::model) fn is_unfinished(&self, version: &Version) -> bool {
        let installed = self.installed();
        let tried = installed.is_some() || self.facts.is_some_and(|facts| facts.failure.is_some());
        let mut served = self.served().peekable();
        tried
            && installed.is_none_or(|installed| installed.fingerprint != version.fingerprint)
            && served.peek().is_some()
            && served.all(|served| served.fingerprint == version.fingerprint)
    }

    /// Whether this is a valid certificate of somebody else, where ours was served before.
    pub(in crate::model) fn is_foreign(&self, served: &Served) -> bool {
        let ours = self.known.versions.values().any(|version| version.fingerprint == served.fingerprint)
            // A version so old that the store has dropped it.
            || self.known.newest().zip(self.installed()).is_some_and(|((newest, _), installed)| {
                installed.fingerprint == served.fingerprint && installed.version < newest
            });
        self.is_proven() && !ours && self.is_good(served)
    }

    /// Whether a certificate of ours was ever served there.
    fn is_proven(&self) -> bool {
        self.facts.is_some_and(|facts| facts.proven_at.is_some())
    }

    /// Whether visitors can use it.
    pub(super) fn is_good(&self, served: &Served) -> bool {
        served.distrust.is_none() && served.not_after > self.now
    }

    /// What its addresses serve.
    pub(in crate::model) fn served(&self) -> impl Iterator<Item = &'a Served> + use<'a> {
        self.looks.iter().filter_map(|look| match &look.seen {
            Seen::Serving(served) => Some(served),
            Seen::Unreachable(_) => None,
        })
    }

    /// A foreign certificate that stays.
    fn foreign(&self, others: &[&Served]) -> Option<Waiting> {
        // Where anything served is broken, ours is better than leaving it.
        let served = others
            .iter()
            .filter(|_| others.iter().all(|served| self.is_good(served)))
            .find(|served| self.is_foreign(served) && !self.ends_soon(served.not_before, served.not_after))?;
        Some(Waiting::Foreign(
            self.certificate.name.clone(),
            self.host.clone(),
            served.fingerprint,
            served.not_after,
        ))
    }

    /// Why this version would be worse than what is there.
    fn worse(
        &self,
        number: VersionNumber,
        version: &Version,
        others: &[&Served],
        request: &Request,
    ) -> Option<Waiting> {
        if request.allow_downgrade {
            return None;
        }
        let name = || self.certificate.name.clone();
        let host = || self.host.clone();
        // The lives of the trusted certificates that visitors would lose.
        let mut good: Vec<(Timestamp, Timestamp)> = others
            .iter()
            .filter(|served| self.is_good(served))
            .map(|served| (served.not_before, served.not_after))
            .collect();
        if others.is_empty()
            && let Some(installed) =
                self.installed().filter(|installed| installed.fingerprint != version.fingerprint)
            && let Some(unseen) = self.known.versions.get(&installed.version)
            && unseen.not_after > self.now
            && self.distrust(installed.version).is_none()
        {
            good.push((unseen.not_before, unseen.not_after));
        }
        if let Some(why) = self.distrust(number).filter(|_| !good.is_empty()) {
            return Some(Waiting::Downgrade(name(), host(), why.clone()));
        }
        let has: BTreeSet<_> = version.domains.iter().collect();
        let narrower = !self.certificate.domains.iter().all(|domain| has.contains(domain));
        // Some of the names are better than none of them.
        let keep = good.iter().any(|(not_before, not_after)| !self.ends_soon(*not_before, *not_after));
        (narrower && keep).then(|| Waiting::Narrower(name(), host()))
    }

    /// Why visitors would not trust a version of ours.
    fn distrust(&self, number: VersionNumber) -> Option<&'a String> {
        self.untrusted.and_then(|of| of.get(&number))
    }

    /// The last sixth of a life, or 48 hours: then ours is better than whatever is served.
    fn ends_soon(&self, not_before: Timestamp, not_after: Timestamp) -> bool {
        let life = not_before.duration_until(not_after);
        self.now.duration_until(not_after) < (life / 6).max(SignedDuration::from_hours(48).min(life / 4))
    }
}
