//! Stories of planner and report: `tests/scenarios/*.txt`, each a transcript.
//!
//! ```text
//! # what the story shows
//! at TIME                                     now; the first step; again to let time pass
//! given STEP                                  a fact, which holds from here on (grammar below)
//! $ certfleet plan [NAME]…                    what a pass would do; the indented lines that
//!   …                                         follow are its whole expected output
//! $ certfleet renew [NAME]… [--force] [--no-deploy] [--override-limits] [--allow-downgrade]
//! $ certfleet deploy [NAME]… [--host HOST]… [--force] [--allow-downgrade]
//! $ certfleet report                          standings; absent problems are left out
//! ```
//!
//! `renew` and `deploy` print what the command would begin with. TIME is `2026-06-01 12:00` (UTC),
//! `now`, `3d ago` or `in 3d`, counted from the last `at`; an AGE is `90d`, `12h` or `4m`. Steps:
//!
//! ```text
//! certificate NAME [domains D…] [hosts H…] [issuer I…] [key rsa-2048] [verify none] [renew-before AGE]
//!             [canary H…] [batch N]
//! no certificate NAME                         the entry is removed from certs.toml
//! no version N of NAME                        the store has dropped it
//! no failure of NAME                          issuing it worked
//! no dns ACCOUNT                              that too; `zone` is there from the start
//! version N of NAME issued TIME for AGE [from TIME] [domains D…] [issuer I] [key K] [untrusted]
//! version N of NAME was revoked TIME
//! window of NAME TIME .. TIME [version N]     the CA's renewal window, for the newest version
//! issuing NAME [at ISSUER] failed N times, last TIME [retry TIME] [until changed]
//! deploying NAME to HOST failed N times, last TIME [with version N]
//! deploying NAME to HOST is under way         in this pass; `nothing is under way` ends all
//! order of NAME [domains D…] [issuer I]                 an order is open at the CA
//! record of NAME by ACCOUNT                   a challenge record was left
//! NAME changed                                something else in its entry in certs.toml
//! HOST has NAME version N since TIME [pending] [unproven]
//! HOST serves NAME version N [on ADDRESS]     seen now; without `on`: its only address
//! HOST serves NAME other from TIME for AGE [distrusted] [on ADDRESS]
//! HOST is silent about NAME [on ADDRESS]
//! ```
//!
//! Alerts: `$ certfleet run --once` is a pass that changes nothing, and prints what people are told;
//! `$ certfleet alert list`, `$ certfleet alert ack <1>` are as they are. Steps:
//!
//! ```text
//! channels NAME…                              told in this order
//! channel NAME fails | works
//! pass by daemon | timer
//! chain of NAME ends TIME                     the certificate above its newest leaf
//! unreadable NAME                             what the store has of a certificate
//! refused certs.toml
//! ```
//!
//! Fingerprints are printed as `<NAME N>` and `<other>`. `UPDATE_SCENARIOS=1 cargo test scenarios`
//! writes what is printed into the files; read the diff before you believe it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use certfleet::model::cert::ChainEnd;
use certfleet::model::desired::{Desired, KeyType, Margin};
use certfleet::model::name::{CertName, Domain, Fingerprint, HostName, VersionNumber};
use certfleet::model::observed::{Look, Observed, Seen, Served};
use certfleet::model::plan::{Action, Begun, Deploying, Issuing, Request, minute, plan};
use certfleet::model::problem::Retry;
use certfleet::model::report::{HostReport, Report, report};
use certfleet::model::state::{Failure, Installed, OpenOrder, Reason, RenewalInfo, Revoked, State, TxtDebt};
use jiff::{SignedDuration, Timestamp};

use crate::facts;

mod alerts;

#[test]
fn every_story_goes_as_it_is_told() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let update = std::env::var_os("UPDATE_SCENARIOS").is_some();
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder of scenarios is there")
        .map(|entry| entry.expect("its entries can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 20, "only {} scenarios in {}", paths.len(), folder.display());
    let mut wrong = String::new();
    for path in paths {
        let name = format!("tests/scenarios/{}", path.file_name().unwrap_or_default().to_string_lossy());
        let text = std::fs::read_to_string(&path).expect("a scenario can be read");
        match told(&text) {
            Ok(steps) if update => {
                let new: String = steps.iter().map(Step::actual_text).collect();
                std::fs::write(&path, new).expect("a scenario can be written");
            }
            Ok(steps) => steps.iter().for_each(|step| wrong.push_str(&step.difference(&name))),
            Err((line, why)) => {
                let _ = writeln!(wrong, "{name}:{line}: {why}");
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

/// One line of a scenario that is not output, and what it printed.
struct Step {
    line: usize,
    text: String,
    expected: Vec<String>,
    /// `None`: not a command; whatever followed is kept.
    actual: Option<Vec<String>>,
}

impl Step {
    fn actual_text(&self) -> String {
        let lines = self.actual.as_ref().unwrap_or(&self.expected);
        let blank = if self.actual.is_some() { "\n" } else { "" };
        let mut text = format!("{}\n", self.text);
        lines.iter().for_each(|line| writeln!(text, "  {line}").expect("a String takes everything"));
        text + blank
    }

    fn difference(&self, file: &str) -> String {
        let Some(actual) = self.actual.as_ref().filter(|actual| **actual != self.expected) else {
            return String::new();
        };
        let same =
            actual.iter().zip(&self.expected).take_while(|(actual, expected)| actual == expected).count();
        let mut text = format!("{file}:{}: {}\n", self.line + 1 + same, self.text);
        for line in &actual[..same] {
            let _ = writeln!(text, "    {line}");
        }
        for line in &self.expected[same..] {
            let _ = writeln!(text, "  - {line}");
        }
        for line in &actual[same..] {
            let _ = writeln!(text, "  + {line}");
        }
        text
    }
}

/// Plays a scenario; an error is the line and what is wrong with it.
fn told(text: &str) -> Result<Vec<Step>, (usize, String)> {
    let mut steps: Vec<Step> = Vec::new();
    for (line, text) in text.lines().enumerate().map(|(at, text)| (at + 1, text)) {
        match (text.strip_prefix("  "), steps.last_mut()) {
            (Some(output), Some(step)) => step.expected.push(output.to_owned()),
            (Some(_), None) => return Err((line, "output before the first step".to_owned())),
            // Blank lines after output are written again by `actual_text`.
            (None, Some(step)) if text.is_empty() && step.text.starts_with('$') => {}
            (None, _) => {
                steps.push(Step { line, text: text.to_owned(), expected: Vec::new(), actual: None });
            }
        }
    }
    let mut world = World::new();
    for step in &mut steps {
        step.actual = world.take(&step.text).map_err(|why| (step.line, why))?;
        if step.actual.is_none() && !step.expected.is_empty() {
            return Err((step.line, "only commands have output".to_owned()));
        }
    }
    Ok(steps)
}

struct World {
    now: Option<Timestamp>,
    desired: Desired,
    state: State,
    observed: Observed,
    labels: BTreeMap<Fingerprint, String>,
    begun: Begun,
    alerting: alerts::Alerting,
}

impl World {
    fn new() -> Self {
        Self {
            now: None,
            desired: facts::desired(&["letsencrypt", "staging", "other"]),
            state: State::default(),
            observed: Observed::default(),
            labels: BTreeMap::new(),
            begun: Begun::default(),
            alerting: alerts::Alerting::default(),
        }
    }

    /// Takes one step; a command returns what it prints.
    fn take(&mut self, text: &str) -> Result<Option<Vec<String>>, String> {
        if text.is_empty() || text.starts_with('#') {
            return Ok(None);
        }
        let spaced = text.replace("times,", "times");
        let mut words = Words::new(&spaced);
        match words.next()? {
            "at" => {
                self.now = Some(words.time(self.now.unwrap_or(Timestamp::UNIX_EPOCH))?);
                self.observed.looks.values_mut().flat_map(BTreeMap::values_mut).flatten().for_each(|look| {
                    look.at = self.now.unwrap_or(look.at);
                });
            }
            "given" => {
                let now = self.now.ok_or("the first step is `at`")?;
                if !self.given_alerting(&mut words, now)? {
                    self.given(&mut words, now)?;
                }
            }
            "$" => {
                words.expect("certfleet")?;
                let now = self.now.ok_or("the first step is `at`")?;
                return self.run(&mut words, now).map(Some);
            }
            other => return Err(format!("`{other}` is no step: at, given, $")),
        }
        words.end()?;
        Ok(None)
    }

    fn given(&mut self, words: &mut Words<'_>, now: Timestamp) -> Result<(), String> {
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

    fn run(&mut self, words: &mut Words<'_>, now: Timestamp) -> Result<Vec<String>, String> {
        let command = words.next()?;
        if command == "alert" {
            return self.alert(words, now);
        }
        if command == "run" {
            words.expect("--once")?;
            let said = self.tell(now).join("\n");
            return Ok(self.labelled(said));
        }
        let mut request = Request { begun: self.begun.clone(), ..Request::default() };
        if command == "deploy" {
            request.issuing = Issuing::No;
        }
        while let Some(word) = words.peek() {
            words.next()?;
            match word {
                "--force" if command == "deploy" => request.deploying = Deploying::Forced(now),
                "--force" => request.issuing = Issuing::Forced(now),
                "--no-deploy" => request.deploying = Deploying::No,
                "--override-limits" => request.override_limits = true,
                "--allow-downgrade" => request.allow_downgrade = true,
                "--host" => drop(request.hosts.get_or_insert_default().insert(words.parse()?)),
                name => drop(request.only.get_or_insert_default().insert(words.parse_text(name)?)),
            }
        }
        let text = match command {
            "plan" | "renew" | "deploy" => self.plan_text(&request, now),
            "report" => report_text(&report(&self.desired, &self.state, &self.observed, now)),
            other => return Err(format!("no command `{other}`: plan, renew, deploy, report")),
        };
        Ok(self.labelled(text))
    }

    /// With names in place of fingerprints.
    fn labelled(&self, mut text: String) -> Vec<String> {
        for (fingerprint, label) in &self.labels {
            text = text.replace(&format!("{}…", fingerprint.short()), label);
        }
        text.lines().map(str::to_owned).collect()
    }

    fn plan_text(&self, request: &Request, now: Timestamp) -> String {
        let plan = plan(&self.desired, &self.state, &self.observed, request, now);
        let mut text = String::new();
        for action in &plan.actions {
            match action {
                Action::CleanUp { certificate, debts } => {
                    let _ = writeln!(text, "clean up {certificate}: {} challenge records", debts.len());
                }
                Action::Issue { certificate, issuer, because, resumes } => {
                    let first = &self.desired.certificates[certificate].issuer;
                    let by = if issuer == first { String::new() } else { format!(", by {issuer}") };
                    let resumes = if *resumes { ", takes up the open order" } else { "" };
                    let _ = writeln!(text, "issue {certificate}: {because}{by}{resumes}");
                }
                // What lies on disks is no part of these stories.
                Action::Look { .. } => {}
                Action::Deploy { host, installs } => {
                    for install in installs {
                        let (name, version) = (&install.certificate, install.version);
                        let _ =
                            writeln!(text, "deploy {name} version {version} to {host}: {}", install.lacks);
                        if let Some(despite) = &install.despite {
                            let _ = writeln!(text, "  out of turn: {despite}");
                        }
                    }
                }
            }
        }
        for waiting in &plan.waiting {
            let person = if waiting.needs_person() { " (a person is needed)" } else { "" };
            let _ = writeln!(text, "wait {waiting}{person}");
        }
        if text.is_empty() {
            text.push_str("nothing\n");
        }
        text
    }
}

fn report_text(report: &Report) -> String {
    let mut text = String::new();
    for certificate in &report.certificates {
        let _ = write!(text, "{}: {:?}", certificate.name, certificate.standing);
        if let (Some(version), Some(days), Some(renews)) =
            (certificate.version, certificate.days_left, certificate.renews_at)
        {
            let _ = write!(text, ", version {version}, {days} days left, renews {}", minute(renews));
        }
        text.push('\n');
        if let Some(problem) = &certificate.problem {
            let _ = writeln!(text, "  {}: {}", problem.code, problem.next.as_deref().unwrap_or("nothing"));
        }
        certificate.hosts.iter().for_each(|host| host_text(host, &mut text));
    }
    for orphan in &report.orphaned {
        let hosts: Vec<_> = orphan.hosts.iter().map(HostName::as_str).collect();
        let end = orphan.not_after.map_or_else(|| "unknown".to_owned(), minute);
        let _ = writeln!(text, "orphaned {}, until {end}, on [{}]", orphan.name, hosts.join(" "));
    }
    let verdict = if report.needs_attention() { "needs attention" } else { "all is well" };
    writeln!(text, "{verdict}").expect("a String takes everything");
    text.to_lowercase()
}

fn host_text(host: &HostReport, text: &mut String) {
    let _ = write!(text, "  {}: {:?}", host.host, host.standing);
    if let Some(serving) = &host.serving {
        let _ = write!(text, ", {}…, {} days left", serving.fingerprint.short(), serving.days_left);
    }
    text.push('\n');
    if host.addresses.len() > 1 {
        for address in &host.addresses {
            let _ = writeln!(text, "    {}: {:?}", address.address, address.standing);
        }
    }
    if let Some(problem) = &host.problem {
        let _ = writeln!(text, "    {}: {}", problem.code, problem.next.as_deref().unwrap_or("nothing"));
    }
}

/// The words of one step, taken one after the other.
struct Words<'a> {
    rest: Vec<&'a str>,
}

impl<'a> Words<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.split_whitespace().rev().collect() }
    }

    fn peek(&self) -> Option<&'a str> {
        self.rest.last().copied()
    }

    fn next(&mut self) -> Result<&'a str, String> {
        self.rest.pop().ok_or_else(|| "something is missing at the end".to_owned())
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.peek() == Some(word);
        if found {
            self.rest.pop();
        }
        found
    }

    fn expect(&mut self, word: &str) -> Result<(), String> {
        let found = self.next()?;
        if found == word { Ok(()) } else { Err(format!("`{word}` expected in place of `{found}`")) }
    }

    fn end(&self) -> Result<(), String> {
        self.peek().map_or(Ok(()), |word| Err(format!("`{word}` is too much")))
    }

    fn parse_text<T: std::str::FromStr<Err: std::fmt::Display>>(&self, word: &str) -> Result<T, String> {
        word.parse().map_err(|error| format!("`{word}`: {error}"))
    }

    fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self) -> Result<T, String> {
        let word = self.next()?;
        self.parse_text(word)
    }

    /// Names up to the next word of the grammar.
    fn list<T: std::str::FromStr<Err: std::fmt::Display>>(&mut self) -> Result<Vec<T>, String> {
        const KEYWORDS: [&str; 10] = [
            "domains",
            "hosts",
            "canary",
            "batch",
            "issuer",
            "key",
            "verify",
            "renew-before",
            "untrusted",
            "from",
        ];
        let mut list = Vec::new();
        while self.peek().is_some_and(|word| !KEYWORDS.contains(&word)) {
            list.push(self.parse()?);
        }
        Ok(list)
    }

    fn key(&mut self) -> Result<KeyType, String> {
        match self.next()? {
            "ecdsa-p256" => Ok(KeyType::EcdsaP256),
            "ecdsa-p384" => Ok(KeyType::EcdsaP384),
            "rsa-2048" => Ok(KeyType::Rsa2048),
            other => Err(format!("no key type `{other}`")),
        }
    }

    fn age(&mut self) -> Result<SignedDuration, String> {
        let word = self.next()?;
        let age = |unit: char, minutes: i64| {
            word.strip_suffix(unit)?.parse().ok().map(|count: i64| SignedDuration::from_mins(count * minutes))
        };
        age('d', 24 * 60)
            .or_else(|| age('h', 60))
            .or_else(|| age('m', 1))
            .ok_or_else(|| format!("`{word}` is no age"))
    }

    fn time(&mut self, now: Timestamp) -> Result<Timestamp, String> {
        match self.peek() {
            Some("now") => self.next().map(|_| now),
            Some("in") => {
                self.next()?;
                Ok(now + self.age()?)
            }
            Some(day) if day.contains('-') => {
                self.next()?;
                let clock = self.next()?;
                format!("{day}T{clock}:00Z").parse().map_err(|error| format!("`{day} {clock}`: {error}"))
            }
            _ => {
                let age = self.age()?;
                self.expect("ago")?;
                Ok(now - age)
            }
        }
    }

    fn failure(&mut self, code: &str, revision: String, now: Timestamp) -> Result<Failure, String> {
        self.expect("failed")?;
        let count = self.parse()?;
        self.expect("times")?;
        self.expect("last")?;
        let last = self.time(now)?;
        let retry = if self.eat("retry") {
            Retry::NotBefore(self.time(now)?)
        } else if self.eat("until") {
            self.expect("changed")?;
            Retry::AfterChange
        } else {
            Retry::Backoff
        };
        Ok(Failure { count, first: last, last, problem: facts::problem(code, retry), revision })
    }
}
