//! The steps that say what the world is like: `given …`.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use certfleet::model::cert::ChainEnd;
use certfleet::model::desired::Margin;
use certfleet::model::name::{CertName, Domain, Fingerprint, HostName, VersionNumber};
use certfleet::model::observed::{Look, Seen, Served};
use certfleet::model::plan::Begun;
use certfleet::model::problem::Retry;
use certfleet::model::state::{Installed, OpenOrder, Reason, RenewalInfo, Revoked, TxtDebt};
use jiff::Timestamp;

use super::{Words, World};
use crate::facts;

impl World {
    /// What a step says of the world.
    pub(super) fn given(&mut self, words: &mut Words<'_>, now: Timestamp) -> Result<(), String> {
        match words.next()? {
            "certificate" => self.given_certificate(words),
            "version" => self.given_version(words, now),
            "no" => {
                match words.next()? {
                    "certificate" => drop(self.desired.certificates.remove(&words.parse()?)),
                    "version" => {
                        let number = VersionNumber(words.parse()?);
                        words.expect("of")?;
                        let known = self.state.certificates.get_mut(&words.parse()?);
                        known.and_then(|known| known.versions.remove(&number)).ok_or("no such version")?;
                    }
                    "dns" => drop(self.desired.dns.remove(&words.parse()?)),
                    "failure" => {
                        words.expect("of")?;
                        let known = self.state.certificates.entry(words.parse()?).or_default();
                        (known.failure, known.failures) = (None, BTreeMap::new());
                    }
                    other => return Err(format!("`no {other}`? certificate, version, failure, dns")),
                }
                Ok(())
            }
            "window" => {
                words.expect("of")?;
                let name: CertName = words.parse()?;
                let start = words.time(now)?;
                words.expect("..")?;
                let end = words.time(now)?;
                let known = self.state.certificates.entry(name.clone()).or_default();
                let number = match words.eat("version") {
                    true => VersionNumber(words.parse()?),
                    false => known.newest().ok_or("no version yet")?.0,
                };
                known.renewal_info = Some(RenewalInfo {
                    fingerprint: facts::fingerprint(&name, number),
                    window: Some((start, end)),
                    explanation: None,
                    ask_again: now,
                });
                Ok(())
            }
            "issuing" => {
                let name: CertName = words.parse()?;
                let issuer = if words.eat("at") { Some(words.parse()?) } else { None };
                let revision =
                    self.desired.certificates.get(&name).ok_or("no such certificate")?.revision.clone();
                let failure = words.failure("acme.refused", revision, now)?;
                let known = self.state.certificates.entry(name).or_default();
                match issuer {
                    Some(issuer) => drop(known.failures.insert(issuer, failure)),
                    None => known.failure = Some(failure),
                }
                Ok(())
            }
            "nothing" => {
                words.expect("is")?;
                words.expect("under")?;
                words.expect("way")?;
                self.begun = Begun::default();
                Ok(())
            }
            "deploying" => {
                let name: CertName = words.parse()?;
                words.expect("to")?;
                let host: HostName = words.parse()?;
                if words.eat("is") {
                    words.expect("under")?;
                    words.expect("way")?;
                    self.begun.under_way.insert((name, host));
                    return Ok(());
                }
                let failure = words.failure("deploy.unreachable", String::new(), now)?;
                let facts = self.state.hosts.entry(host).or_default().entry(name).or_default();
                facts.failure = Some(failure);
                if words.eat("with") {
                    words.expect("version")?;
                    facts.rejected = Some(VersionNumber(words.parse()?));
                }
                Ok(())
            }
            "order" => {
                words.expect("of")?;
                let name: CertName = words.parse()?;
                let entry = self.desired.certificates.get(&name).ok_or("no such certificate")?;
                let domains = if words.eat("domains") { words.list()? } else { entry.domains.clone() };
                let issuer = if words.eat("issuer") { words.parse()? } else { entry.issuer.clone() };
                self.state.certificates.entry(name).or_default().order = Some(OpenOrder {
                    url: Some("https://ca.example/order/1".to_owned()),
                    domains,
                    directory: facts::directory(issuer.as_str()),
                    issuer,
                    key: entry.key,
                    profile: None,
                    started: now,
                });
                Ok(())
            }
            "record" => {
                words.expect("of")?;
                let certificate: CertName = words.parse()?;
                words.expect("by")?;
                self.state.debts.push(TxtDebt {
                    owner: format!("_acme-challenge.{certificate}."),
                    certificate,
                    dns: words.parse()?,
                    zone: "example.org.".to_owned(),
                    value: format!("value {}", self.state.debts.len()),
                    since: now,
                    proof: None,
                });
                Ok(())
            }
            subject if words.eat("changed") => {
                let name: CertName = subject.parse().map_err(|error| format!("`{subject}`: {error}"))?;
                let entry = self.desired.certificates.get_mut(&name).ok_or("no such certificate")?;
                entry.revision.push('+');
                Ok(())
            }
            subject => {
                let host = subject.parse().map_err(|error| format!("`{subject}`: {error}"))?;
                self.given_host(host, words, now)
            }
        }
    }

    fn given_certificate(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        let name: CertName = words.parse()?;
        let mut entry = match self.desired.certificates.remove(&name) {
            Some(entry) => entry,
            None => facts::certificate(name.clone(), vec![words.parse_text(name.as_str())?], Vec::new()),
        };
        while let Some(word) = words.peek() {
            words.next()?;
            match word {
                "domains" => entry.domains = words.list()?,
                "hosts" => entry.hosts = words.list()?,
                "canary" => entry.rollout.get_or_insert_default().canary = words.list()?,
                "batch" => entry.rollout.get_or_insert_default().batch = Some(words.parse()?),
                "issuer" => {
                    entry.issuer = words.parse()?;
                    entry.fallback = words.list()?;
                }
                "key" => entry.key = words.key()?,
                "verify" => {
                    words.expect("none")?;
                    entry.verify_names.clear();
                }
                "renew-before" => entry.renew_before = Some(Margin::Time(words.age()?)),
                other => return Err(format!("`{other}` is nothing a certificate has")),
            }
        }
        for host in &entry.hosts {
            self.desired.hosts.entry(host.clone()).or_insert_with(|| facts::host(host));
        }
        self.desired.certificates.insert(name, entry);
        Ok(())
    }

    fn given_version(&mut self, words: &mut Words<'_>, now: Timestamp) -> Result<(), String> {
        let number = VersionNumber(words.parse()?);
        words.expect("of")?;
        let name: CertName = words.parse()?;
        if words.eat("was") {
            words.expect("revoked")?;
            let revoked = Revoked { at: words.time(now)?, reason: Reason::Unspecified };
            let known = self.state.certificates.get_mut(&name);
            let version = known.and_then(|known| known.versions.get_mut(&number)).ok_or("no such version")?;
            version.revoked = Some(revoked);
            return Ok(());
        }
        words.expect("issued")?;
        let issued = words.time(now)?;
        words.expect("for")?;
        let life = words.age()?;
        let entry = match self.desired.certificates.get(&name) {
            Some(entry) => entry.clone(),
            None => facts::certificate(name.clone(), vec![words.parse_text(name.as_str())?], Vec::new()),
        };
        let mut version = facts::version(&entry, number, issued, life);
        while let Some(word) = words.peek() {
            words.next()?;
            match word {
                "from" => version.not_before = words.time(now)?,
                "domains" => version.domains = words.list()?,
                "issuer" => {
                    version.issuer = words.parse()?;
                    version.directory = facts::directory(version.issuer.as_str());
                }
                "key" => version.key = words.key()?,
                "untrusted" => {
                    let why = "its root is not trusted".to_owned();
                    self.observed.untrusted.entry(name.clone()).or_default().insert(number, why);
                }
                other => return Err(format!("`{other}` is nothing a version has")),
            }
        }
        self.labels.insert(version.fingerprint, format!("<{name} {number}>"));
        let known = self.state.certificates.entry(name).or_default();
        known.versions.insert(number, version);
        known.failure = None;
        Ok(())
    }

    fn given_host(&mut self, host: HostName, words: &mut Words<'_>, now: Timestamp) -> Result<(), String> {
        let seen = match words.next()? {
            "has" => {
                let name: CertName = words.parse()?;
                words.expect("version")?;
                let version = VersionNumber(words.parse()?);
                words.expect("since")?;
                let at = words.time(now)?;
                let pending = words.eat("pending");
                let facts = self.state.hosts.entry(host).or_default().entry(name.clone()).or_default();
                let fingerprint = facts::fingerprint(&name, version);
                facts.installed = Some(Installed { version, fingerprint, at, pending });
                facts.rejected = None;
                facts.proven_at = (!pending && !words.eat("unproven")).then_some(at);
                return Ok(());
            }
            "serves" => None,
            "is" => {
                words.expect("silent")?;
                words.expect("about")?;
                Some(Seen::Unreachable(facts::problem("probe.refused", Retry::Backoff)))
            }
            other => {
                return Err(format!("`{other}` is nothing that a host does: has, serves, is silent about"));
            }
        };
        let name: CertName = words.parse()?;
        let seen = match seen {
            Some(seen) => seen,
            None => Seen::Serving(self.served(&name, words, now)?),
        };
        let address: SocketAddr = match words.eat("on") {
            true => format!("{}:443", words.next()?).parse().map_err(|_| "no address")?,
            false => SocketAddr::from(([192, 0, 2, 1], 443)),
        };
        let entry = self.desired.certificates.get(&name).ok_or("no such certificate")?;
        let asked: Domain = entry.verify_names.first().unwrap_or(&entry.domains[0]).clone();
        let looks = self.observed.looks.entry(host).or_default().entry(name).or_default();
        looks.retain(|look| look.address != address);
        looks.push(Look { address, name: asked, at: now, seen });
        Ok(())
    }

    fn served(&mut self, name: &CertName, words: &mut Words<'_>, now: Timestamp) -> Result<Served, String> {
        if words.eat("version") {
            let number = VersionNumber(words.parse()?);
            let known = self.state.certificates.get(name).and_then(|known| known.versions.get(&number));
            let version = known.ok_or("no such version")?;
            let distrust = self.observed.untrusted.get(name).and_then(|of| of.get(&number)).cloned();
            let chain_end = match words.eat("chain") {
                true => {
                    words.expect("ends")?;
                    Some(ChainEnd { name: "Intermediate X2".to_owned(), not_after: words.time(now)? })
                }
                false => None,
            };
            return Ok(Served {
                fingerprint: version.fingerprint,
                serial: version.serial.clone(),
                not_before: version.not_before,
                not_after: version.not_after,
                issuer: version.issuer.to_string(),
                distrust,
                chain_end,
            });
        }
        words.expect("other")?;
        words.expect("from")?;
        let not_before = words.time(now)?;
        words.expect("for")?;
        let not_after = not_before + words.age()?;
        let fingerprint = Fingerprint::of(b"other");
        self.labels.insert(fingerprint, "<other>".to_owned());
        let distrust = words.eat("distrusted").then(|| "self-signed".to_owned());
        Ok(Served {
            fingerprint,
            serial: "ff".to_owned(),
            not_before,
            not_after,
            issuer: "Somebody CA".to_owned(),
            distrust,
            chain_end: None,
        })
    }
}
