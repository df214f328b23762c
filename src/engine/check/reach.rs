//! The preflight of what is far away: name servers, CAA records, hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{self, StreamExt};
use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;

use super::{Finding, Standing};
use crate::acme::{self, Glance};
use crate::deploy::receiver::{self, Difference, Installed};
use crate::dns::{Change, PropagationCheck, TxtRecord, Verdict};
use crate::engine::Engine;
use crate::engine::clean::NoAccount;
use crate::model::desired::{Certificate, Host};
use crate::model::name::{CertName, Domain, IssuerName};
use crate::model::observed::{Look, Seen};
use crate::model::plan::{Request, minute};
use crate::model::problem::{Problem, plain};
use crate::model::state::TxtDebt;
use crate::store::LockError;

/// Names that are tried at once.
const NAMES: usize = 32;
/// A host that says nothing has deadlines of its own; this is for all of them together.
const HOST: Duration = Duration::from_secs(90);

impl Engine {
    /// One scratch record for each name: written, seen by every server that is asked, removed.
    pub(super) async fn try_records(&self) -> Vec<Finding> {
        let certificates = self.config.desired.certificates.values();
        stream::iter(certificates.map(|certificate| self.try_records_of(certificate)))
            .buffered(NAMES)
            .concat()
            .await
    }

    /// What worked is one finding, and each name of which it did not has its own.
    async fn try_records_of(&self, certificate: &Certificate) -> Vec<Finding> {
        // A name and its wildcard are proven at the same place. The first stays the first.
        let mut seen = BTreeSet::new();
        let names = certificate.domains.iter().map(Domain::base).filter(|base| seen.insert(*base));
        let bases: Vec<&str> = names.collect();
        let subject = |base: &str| format!("dns {}: {base}", certificate.dns);
        let first = subject(bases.first().copied().unwrap_or_default());
        let name = &certificate.name;
        let _held = match self.store.lock_certificate(name, "checking", Timestamp::now()) {
            Ok(held) => held,
            Err(LockError::Held(_)) => {
                return vec![Finding::warn(
                    first,
                    format!("not tried: another process is at work on `{name}`"),
                    "run this again when it is done",
                )];
            }
            Err(error) => return vec![Finding::failed(first, &error)],
        };
        let began = Instant::now();
        let tried = join_all(bases.iter().map(|base| self.write_and_read_back(certificate, base))).await;
        let took = began.elapsed().as_secs_f64();
        let removed = self.clean_up_of(name).await;
        let (mut worked, mut findings) = (Vec::new(), Vec::new());
        for (base, tried) in bases.iter().zip(tried) {
            match tried {
                Ok(what) => worked.push((subject(base), what)),
                Err(problem) if problem.code == "dns.no-proof" => {
                    return vec![Finding::warn(
                        first,
                        "not tried: in `mode = \"raw\"` a record is made from what only a CA gives",
                        "see with a staging issuer whether it works",
                    )];
                }
                Err(problem) => findings.push(Finding::of(Standing::Fail, subject(base), problem)),
            }
        }
        let others = match worked.len() {
            0 | 1 => String::new(),
            all => format!("; {} of {} names alike", all, bases.len()),
        };
        match (worked.into_iter().next(), removed) {
            (Some((subject, what)), Ok(_)) => {
                findings.insert(0, Finding::ok(subject, format!("{what}, removed ({took:.1} s){others}")));
            }
            (Some((subject, _)), Err(problem)) => findings.push(Finding {
                what: format!("a record was written and seen, but not removed: {}", problem.one_line()),
                ..Finding::of(Standing::Fail, subject, problem)
            }),
            (None, _) => {}
        }
        findings
    }

    async fn write_and_read_back(&self, certificate: &Certificate, base: &str) -> Result<String, Problem> {
        let account =
            self.account(&certificate.dns).ok_or_else(|| Problem::of(&NoAccount(certificate.dns.clone())))?;
        let place = self.lookup.challenge(base).await.map_err(|error| Problem::of(&error))?;
        let debt = TxtDebt {
            certificate: certificate.name.clone(),
            dns: certificate.dns.clone(),
            zone: place.zone.clone(),
            owner: place.owner.clone(),
            value: scratch(),
            since: Timestamp::now(),
            proof: None,
        };
        self.store.add_debt(&debt).map_err(|error| Problem::of(&error))?;
        let record = TxtRecord {
            zone: debt.zone,
            owner: debt.owner,
            value: debt.value.clone(),
            ttl: account.ttl,
            proof: None,
        };
        self.zones.change(account, Change::Add(record)).await.map_err(|error| Problem::of(&error))?;
        let values = [debt.value];
        self.lookup
            .propagated(account, &place.zone, &place.owner, &values)
            .await
            .map_err(|error| Problem::of(&error))?;
        let owner = plain(place.owner.trim_end_matches('.'));
        let seen = match account.check {
            PropagationCheck::Authoritative => "every name server answers with it",
            PropagationCheck::Resolver => "the resolver answers with it",
            PropagationCheck::Off => "`propagation-check` is off, nobody was asked for it",
        };
        Ok(format!("a record at {owner} was written, {seen}"))
    }

    /// Whether the CAA records of every domain let its issuer in.
    pub(super) async fn try_caa(&self, glances: &BTreeMap<&IssuerName, Glance>) -> Vec<Finding> {
        let certificates = self.config.desired.certificates.values();
        let pairs = certificates.flat_map(|of| of.issuers().map(move |issuer| (of, issuer)));
        let tried = stream::iter(pairs.map(|(certificate, issuer)| async move {
            let found = self.caa_at(certificate, issuer, glances.get(issuer)).await;
            let first = *issuer == certificate.issuer;
            // Another issuer can do it: worth a look, no more.
            let standing =
                |found: &Finding| if first { found.standing } else { found.standing.min(Standing::Warn) };
            found.into_iter().map(|found| Finding { standing: standing(&found), ..found }).collect::<Vec<_>>()
        }));
        tried.buffered(NAMES).concat().await
    }

    async fn caa_at(
        &self,
        certificate: &Certificate,
        issuer: &IssuerName,
        glance: Option<&Glance>,
    ) -> Vec<Finding> {
        let subject = format!("caa {}", certificate.name);
        let Some(glance) = glance else {
            return vec![Finding::warn(
                subject,
                format!("not tried: {issuer} does not answer"),
                "mend that first",
            )];
        };
        if glance.caa_identities.is_empty() {
            let what = format!("{issuer} does not say by which names it is let in; not compared");
            return vec![Finding::ok(subject, what)];
        }
        let domains = certificate.domains.iter();
        let looked = join_all(domains.map(|domain| self.caa_of(certificate, issuer, domain, glance))).await;
        let wrong: Vec<Finding> = looked.into_iter().flatten().collect();
        match wrong.is_empty() {
            true => vec![Finding::ok(subject, format!("{issuer} may issue"))],
            false => wrong,
        }
    }

    async fn caa_of(
        &self,
        certificate: &Certificate,
        issuer: &IssuerName,
        domain: &Domain,
        glance: &Glance,
    ) -> Option<Finding> {
        let subject = format!("caa {}", certificate.name);
        let set = match self.lookup.caa(domain).await {
            Ok(set) => set?,
            Err(error) => return Some(Finding::failed(subject, &error)),
        };
        let issuer = self.config.desired.issuers.get(issuer)?;
        let account = self.store.account(&issuer.name, &issuer.directory).ok().flatten();
        let account = account.and_then(|credentials| acme::account_facts(&credentials)).map(|facts| facts.id);
        let owner = plain(set.owner.trim_end_matches('.'));
        let tag = if domain.is_wildcard() { "issuewild" } else { "issue" };
        let identity = &glance.caa_identities[0];
        let add = format!("add the record `{owner}. CAA 0 {tag} \"{identity}\"`, or use another `issuer`");
        Some(match set.judge(domain, &glance.caa_identities, account.as_deref()) {
            Verdict::Allowed => return None,
            Verdict::Forbidden(others) => Finding::fail(
                subject,
                format!(
                    "the CAA records of {owner} let {} not issue for {domain}, only {}",
                    issuer.name,
                    if others.iter().all(|other| other == ";") {
                        "nobody".to_owned()
                    } else {
                        listed(&others)
                    }
                ),
                add,
            ),
            Verdict::OtherMethod => Finding::fail(
                subject,
                format!("the CAA records of {owner} do not let {} prove {domain} by dns-01", issuer.name),
                add,
            ),
            Verdict::OtherAccount if account.is_none() => Finding::warn(
                subject,
                format!(
                    "the CAA records of {owner} name an account at {}, and we have none yet",
                    issuer.name
                ),
                "put our account's URL there once it is made",
            ),
            Verdict::OtherAccount => Finding::fail(
                subject,
                format!(
                    "the CAA records of {owner} let another account at {} issue for {domain}, not ours",
                    issuer.name
                ),
                format!("set `accounturi` there to {}", plain(account.as_deref().unwrap_or_default())),
            ),
        })
    }

    /// Every host that a certificate names: login, what a transaction needs, config test, what is served.
    pub(super) async fn try_hosts(&self) -> Vec<Finding> {
        let hosts = self.observer.hosts_of(&Request::default());
        let tried = join_all(hosts.into_iter().map(|(name, certificates)| async move {
            let host = &self.config.desired.hosts[&name];
            let (inside, outside) = tokio::join!(
                async {
                    let late = || {
                        let what = format!("not done after {} s", HOST.as_secs());
                        let hint = if host.local {
                            "see what it is busy with"
                        } else {
                            "see what its sshd is busy with"
                        };
                        vec![Finding::fail(format!("host {name}"), what, hint)]
                    };
                    tokio::time::timeout(HOST, self.try_host(host)).await.unwrap_or_else(|_| late())
                },
                self.try_probe(host, &certificates)
            );
            [inside, outside].concat()
        }));
        tried.await.concat()
    }

    async fn try_host(&self, host: &Host) -> Vec<Finding> {
        let subject = |what: &str| format!("host {}: {what}", host.name);
        let session = match self.session(host).await {
            Ok(session) => session,
            Err(error) => return vec![Finding::failed(subject("login"), &*error)],
        };
        let way = match host.local {
            true => "this machine, no login is needed".to_owned(),
            false => format!("lets us in as {}", host.user),
        };
        let mut findings = vec![Finding::ok(subject("login"), way)];
        let tested = match session.check(host).await {
            Ok(tested) => tested,
            Err(error) => {
                findings.push(Finding::failed(subject("commands"), &error));
                return findings;
            }
        };
        findings.push(match tested.missing.as_slice() {
            [] => Finding::ok(subject("commands"), "everything a deployment needs is there"),
            missing => Finding::fail(
                subject("commands"),
                format!("missing: {}", listed(missing)),
                "install coreutils and util-linux there",
            ),
        });
        if host.receiver {
            findings.extend(self.installed(host, tested.installed.as_ref()));
        }
        findings.push(match &tested.closed {
            None => Finding::ok(subject("directory"), format!("{} can be written", host.directory)),
            Some(place) => Finding::fail(
                subject("directory"),
                format!("{} may not write in {place}", host.user),
                format!("give it to {}, or set `directory` in [host.{}]", host.user, host.name),
            ),
        });
        findings.push(match &tested.broken {
            None => Finding::ok(subject("test"), format!("`{}` passes", plain(&host.test))),
            Some(said) => Finding::fail(
                subject("test"),
                format!("`{}` fails: {said}", plain(&host.test)),
                "mend the configuration there: until then nothing is deployed to this host",
            ),
        });
        findings
    }

    /// What is installed on a host that judges for itself, beside what `host setup` would print now.
    fn installed(&self, host: &Host, installed: Option<&Installed>) -> Vec<Finding> {
        let subject = format!("host {}: certfleet-receive", host.name);
        let Some(installed) = installed else {
            let what = "the program there is of an earlier edition, which does not say what it allows";
            return vec![Finding::warn(subject, what, receiver::install_again(host))];
        };
        let program = match receiver::is_ours(installed) {
            true => Finding::ok(subject, "the program there is that of this certfleet"),
            false => Finding::warn(
                subject,
                "the program there is of another edition, or was changed",
                receiver::install_again(host),
            ),
        };
        let subject = || format!("host {}: {}", host.name, installed.conf);
        let differences = receiver::differences(&self.config.desired, host, installed);
        let as_asked =
            differences.is_empty().then(|| Finding::ok(subject(), "allows what certs.toml asks for"));
        let lines = differences.into_iter().map(|Difference { stops, what, remedy }| match stops {
            true => Finding::fail(subject(), what, remedy),
            false => Finding::warn(subject(), what, remedy),
        });
        [program].into_iter().chain(as_asked).chain(lines).collect()
    }

    async fn try_probe(&self, host: &Host, certificates: &[CertName]) -> Vec<Finding> {
        let looks = self.observer.look_at(&host.name, certificates).await;
        // Several certificates may be probed by one name; one line for each place is enough.
        let mut done = BTreeSet::new();
        let mut findings = Vec::new();
        for look in looks.into_values().flatten() {
            if done.insert((look.address, look.name.clone())) {
                findings.push(probed(host, look));
            }
        }
        findings
    }
}

fn probed(host: &Host, look: Look) -> Finding {
    let subject = format!("probe {}: {} at {}", host.name, look.name, look.address);
    match look.seen {
        Seen::Unreachable(problem) => Finding::of(Standing::Warn, subject, problem),
        Seen::Serving(served) => {
            let what = format!(
                "serves {} of {}, valid until {}",
                served.fingerprint.short(),
                served.issuer,
                minute(served.not_after)
            );
            match served.distrust {
                None => Finding::ok(subject, what),
                Some(why) => {
                    Finding::warn(subject, format!("{what}; not trusted: {why}"), "a renewal replaces it")
                }
            }
        }
    }
}

/// A value that no other run has, and that says what it is to whoever finds it.
fn scratch() -> String {
    let mut random = [0; 16];
    // Without random numbers the time will do: nothing is proven with it.
    if aws_lc_rs::default_provider().secure_random.fill(&mut random).is_err() {
        random = Timestamp::now().as_nanosecond().to_be_bytes();
    }
    let token: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    // As long as every value is (RFC 8555 section 8.4): some providers take no other.
    format!("certfleet-check-{token}").chars().take(43).collect()
}

fn listed(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
