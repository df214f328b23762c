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
use std::path::Path;

use certfleet::model::desired::Desired;
use certfleet::model::name::{Fingerprint, HostName};
use certfleet::model::observed::Observed;
use certfleet::model::plan::{Action, Begun, Deploying, Issuing, Request, minute, plan};
use certfleet::model::report::{HostReport, Report, report};
use certfleet::model::state::State;
use jiff::Timestamp;

use crate::facts;

mod alerts;
mod given;
mod words;

use words::Words;

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
