//! What is wrong on hosts: what they serve, and that they do not answer.

use jiff::{SignedDuration, Timestamp};

use super::expiry::{counted, ends, level, level_of};
use super::finding::{Circumstances, Finding};
use super::{Level, Memory, Subject};
use crate::model::cert::ChainEnd;
use crate::model::desired::Certificate;
use crate::model::disk::Lies;
use crate::model::name::HostName;
use crate::model::observed::{Look, Seen, Served};
use crate::model::plan::minute;
use crate::model::report::{CertReport, HostReport, HostStanding, trusted_by};
use crate::model::state::{CertState, HostFacts};

/// For so long a host may lag behind: a pass is under way, or its web server is slow.
const LAG: SignedDuration = SignedDuration::from_hours(1);
/// Hosts are rebooted, moved and repaired.
const AWAY: SignedDuration = SignedDuration::from_hours(24);

/// One certificate on its hosts.
pub(super) fn of_certificate(
    facts: &Circumstances<'_>,
    memory: &Memory,
    certificate: &Certificate,
    known: &CertState,
    report: &CertReport,
    found: &mut Vec<Finding>,
) {
    let newest = known.newest().and_then(|(_, version)| memory.chains.get(&version.fingerprint)?.as_ref());
    for host in &report.hosts {
        if facts.state.unreadable_hosts.contains_key(&host.host) {
            continue;
        }
        let place = Place {
            facts,
            certificate,
            known,
            report: host,
            done: facts.state.hosts.get(&host.host).and_then(|of| of.get(&certificate.name)),
            looks: facts.observed.looks(&host.host, &certificate.name),
            chain: newest,
        };
        let ends = place.ends_soon();
        let lags = place.lags().map(|lags| {
            let muted = ends.as_ref().is_some_and(|ends| ends.level >= lags.level);
            Finding { muted, ..lags }
        });
        found.extend(ends);
        found.extend(lags);
        found.extend(place.untrusted());
        found.extend(place.chain_ends());
        found.extend(place.drifted());
    }
}

/// Addresses that do not answer: one finding each, however many certificates should be served there.
pub(super) fn silent(facts: &Circumstances<'_>, found: &mut Vec<Finding>) {
    for (host, certificates) in &facts.observed.looks {
        if !facts.desired.hosts.contains_key(host) {
            continue;
        }
        let wanted =
            |name: &_| facts.desired.certificates.get(name).is_some_and(|of| of.hosts.contains(host));
        let looks = || certificates.iter().filter(|(name, _)| wanted(name)).flat_map(|(_, looks)| looks);
        let mut silent: Vec<&Look> =
            looks().filter(|look| matches!(look.seen, Seen::Unreachable(_))).collect();
        silent.sort_by_key(|look| look.address);
        silent.dedup_by_key(|look| look.address);
        for look in silent {
            let Seen::Unreachable(problem) = &look.seen else { continue };
            // An address that answers for one name answers.
            if looks().any(|other| other.address == look.address && matches!(other.seen, Seen::Serving(_))) {
                continue;
            }
            let nowhere = look.address.ip().is_unspecified();
            let (key, text) = match nowhere {
                true => (host.to_string(), format!("`{host}` cannot be found")),
                false => (
                    format!("{host} {}", look.address),
                    format!("`{host}` does not answer at {}", look.address),
                ),
            };
            found.push(Finding {
                patience: AWAY,
                next: Some(
                    "looked at again in every pass; what it lacks is deployed when it is back".to_owned(),
                ),
                remedy: problem.hint.clone().or_else(|| {
                    Some(format!(
                        "see whether `{host}` runs; if it is gone for good, remove it from certs.toml"
                    ))
                }),
                ..Finding::new("host.unreachable", "", key, text).because(problem).on(host)
            });
        }
    }
}

/// Hosts that cannot be looked into: one finding each.
pub(super) fn closed(facts: &Circumstances<'_>, found: &mut Vec<Finding>) {
    for (host, of) in facts.state.hosts.iter().filter(|(host, _)| facts.desired.hosts.contains_key(host)) {
        let wanted =
            |name: &_| facts.desired.certificates.get(name).is_some_and(|of| of.hosts.contains(host));
        let unseen = of.iter().filter(|(name, _)| wanted(name)).filter_map(|(_, facts)| facts.unseen());
        let Some((since, problem)) = unseen.min_by_key(|(since, _)| *since) else { continue };
        let text = format!("what lies on the disk of `{host}` cannot be seen");
        found.push(Finding {
            since: Some(since),
            patience: AWAY,
            next: Some("every pass tries again; a renewed certificate may not get there either".to_owned()),
            remedy: problem.hint.clone().or_else(|| Some("run `certfleet check`".to_owned())),
            ..Finding::new("host.closed", "", host.as_str(), text).because(problem).on(host)
        });
    }
}

struct Place<'a> {
    facts: &'a Circumstances<'a>,
    certificate: &'a Certificate,
    known: &'a CertState,
    report: &'a HostReport,
    done: Option<&'a HostFacts>,
    looks: &'a [Look],
    /// What is told of the newest version's own chain.
    chain: Option<&'a ChainEnd>,
}

impl Place<'_> {
    fn host(&self) -> &HostName {
        &self.report.host
    }

    fn finding(&self, code: &'static str, text: String) -> Finding {
        let key = format!("{} {}", self.host(), self.certificate.name);
        let found = Finding::new(code, "", key, text).of(&self.certificate.name).on(self.host());
        let problem = self.report.problem.as_ref();
        Finding {
            reason: problem.map(|problem| problem.message.clone()),
            next: problem
                .and_then(|problem| problem.next.clone())
                .or_else(|| Some("every pass tries again".to_owned())),
            remedy: problem.and_then(|problem| problem.hint.clone()).or_else(|| {
                Some(format!("run `certfleet deploy {} --host {}`", self.certificate.name, self.host()))
            }),
            ..found
        }
    }

    fn newest(&self, served: &Served) -> bool {
        self.known.newest().is_some_and(|(_, version)| version.fingerprint == served.fingerprint)
    }

    fn served(&self) -> impl Iterator<Item = (&Look, &Served)> {
        self.looks.iter().filter_map(|look| match &look.seen {
            Seen::Serving(served) => Some((look, served)),
            Seen::Unreachable(_) => None,
        })
    }

    /// Whether a certificate of ours was ever served there: then visitors depend on it.
    fn proven(&self) -> bool {
        self.done.is_some_and(|done| done.proven_at.is_some())
    }

    /// Another than the newest version is served, and ends soon. What nobody can see is judged by what we know.
    fn ends_soon(&self) -> Option<Finding> {
        if self.report.standing == HostStanding::Pending {
            return None;
        }
        let (now, host, name) = (self.facts.now, self.host(), &self.certificate.name);
        let others = self.served().filter(|(_, served)| !self.newest(served));
        let worst = others
            .filter_map(|(look, served)| {
                Some((level_of(served.not_before, served.not_after, now)?, look.address, served))
            })
            .max_by_key(|(level, _, served)| (*level, std::cmp::Reverse(served.not_after)));
        if let Some((level, address, served)) = worst {
            let text = format!(
                "`{host}` ({address}) serves {}… for `{name}`, which {}",
                served.fingerprint.short(),
                ends(served.not_after, now)
            );
            return Some(self.expiring(level, served.not_after, text));
        }
        let blind = self.looks.iter().all(|look| matches!(look.seen, Seen::Unreachable(_)));
        let installed = self.done.and_then(|done| done.installed.as_ref()).filter(|_| blind)?;
        let (newest, _) = self.known.newest()?;
        let version = self.known.versions.get(&installed.version).filter(|_| installed.version != newest)?;
        let level = level_of(version.not_before, version.not_after, now)?;
        let text = format!(
            "`{host}` has version {} of `{name}`, as far as is known, which {}",
            installed.version,
            ends(version.not_after, now)
        );
        Some(self.expiring(level, version.not_after, text))
    }

    /// What comes with the certificate ends soon, and before it does; that of our own chain is told once for all hosts.
    fn chain_ends(&self) -> Option<Finding> {
        let (now, host, name) = (self.facts.now, self.host(), &self.certificate.name);
        let found = self.served().filter_map(|(look, served)| {
            let end =
                served.chain_end.as_ref().filter(|end| !self.newest(served) || self.chain != Some(end))?;
            let life = served.not_before.duration_until(served.not_after);
            Some((level(life, now.duration_until(end.not_after))?, end, look, served))
        });
        let (level, end, look, served) = found.min_by_key(|(_, end, _, _)| end.not_after)?;
        let text = format!(
            "`{host}` ({}) serves {}… for `{name}` with `{}` above it, which {}",
            look.address,
            served.fingerprint.short(),
            end.name,
            ends(end.not_after, now)
        );
        Some(Finding {
            level,
            until: Some(end.not_after),
            reason: Some("what it sends with the certificate ends before the certificate does".to_owned()),
            next: Some("from then on visitors refuse it, unless it is renewed before".to_owned()),
            remedy: Some(format!(
                "see which chain `{host}` is told to send; `certfleet deploy {name} --host {host} --force` puts ours there again"
            )),
            ..self.finding("served.chain-ends", text)
        })
    }

    fn expiring(&self, level: Level, end: Timestamp, text: String) -> Finding {
        Finding { level, until: Some(end), ..self.finding("served.expires", text) }
    }

    /// There is a newer version than what is served; or another certificate has taken its place.
    fn lags(&self) -> Option<Finding> {
        let (now, host, name) = (self.facts.now, self.host(), &self.certificate.name);
        let (number, version) = self.known.newest()?;
        let failed = self.done.and_then(|done| done.failure.as_ref());
        match self.report.standing {
            HostStanding::Foreign => {
                let (_, served) = self.served().find(|(_, served)| !self.newest(served))?;
                let text = format!(
                    "`{host}` serves a certificate for `{name}` that is not ours: {}…, issued by {}, until {}",
                    served.fingerprint.short(),
                    served.issuer,
                    minute(served.not_after)
                );
                let found = self.finding("host.foreign", text);
                let reason = "another program, or a person, has replaced ours".to_owned();
                return Some(Finding { until: Some(served.not_after), reason: Some(reason), ..found });
            }
            HostStanding::Stale => {}
            HostStanding::Pending if failed.is_some() => {}
            _ => return None,
        }
        let worst = self
            .served()
            .filter(|(_, served)| !self.newest(served))
            .min_by_key(|(_, served)| served.not_after);
        let wanted = format!("not version {number} ({}…)", version.fingerprint.short());
        let text = match worst {
            Some((look, served)) => format!(
                "`{host}` ({}) serves {}… for `{name}`, which {}, {wanted}",
                look.address,
                served.fingerprint.short(),
                ends(served.not_after, now)
            ),
            None => format!("`{host}` has another version of `{name}`, {wanted}"),
        };
        let found = self.finding("host.stale", text);
        let found = Finding {
            since: failed.map(|failure| failure.first),
            patience: LAG,
            until: worst.map(|(_, served)| served.not_after),
            ..found
        };
        let broken = self
            .served()
            .find(|(_, served)| !self.newest(served) && served.distrust.is_some() && served.not_after > now);
        let Some((_, served)) = broken.filter(|_| self.proven()) else { return Some(found) };
        // Visitors see errors now, where ours was served before.
        let why = served.distrust.as_deref().unwrap_or_default();
        let text = format!("{}; visitors do not trust it: {why}", found.subject.text);
        let subject = Subject { text, ..found.subject };
        Some(Finding { level: Level::Emergency, patience: SignedDuration::ZERO, subject, ..found })
    }

    /// What is served is right, and what its server would start with is not.
    fn drifted(&self) -> Option<Finding> {
        let problem = self.report.problem.as_ref()?;
        let (_, disk) = self.done?.found()?;
        let (host, name) = (self.host(), &self.certificate.name);
        let foreign = problem.code == "host.foreign-on-disk";
        let code = match &disk.lies {
            Lies::Right | Lies::Unseen(..) => return None,
            _ if self.report.standing > HostStanding::Unknown => return None,
            _ if foreign => "host.foreign-on-disk",
            _ => "host.drifted",
        };
        let text = format!("on the disk of `{host}` is not what it serves for `{name}`");
        let since = self.done.and_then(|done| done.failure.as_ref()).map_or(disk.at, |failure| failure.first);
        // What the next pass mends is nobody's business.
        let patience = if foreign { SignedDuration::ZERO } else { LAG };
        Some(Finding { since: Some(since), patience, ..self.finding(code, text) })
    }

    /// What is served is ours and the newest, and visitors would not trust it.
    fn untrusted(&self) -> Option<Finding> {
        let now = self.facts.now;
        let (look, served) = self
            .served()
            .find(|(_, served)| self.newest(served) && served.distrust.is_some() && served.not_after > now)?;
        let why = served.distrust.clone();
        let text = format!(
            "`{}` ({}) serves the newest version of `{}`, and visitors would not trust it",
            self.host(),
            look.address,
            self.certificate.name
        );
        let found = self.finding("served.untrusted", text);
        Some(Finding {
            patience: LAG,
            reason: why,
            next: Some("nothing changes by itself".to_owned()),
            remedy: Some(trusted_by(&self.certificate.issuer)),
            ..found
        })
    }
}

/// How many hosts.
pub(super) fn hosts(count: usize) -> String {
    counted(i64::try_from(count).unwrap_or(i64::MAX), "host")
}
