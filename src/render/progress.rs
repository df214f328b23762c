//! Events as they happen: a line per certificate and host on a terminal, plain lines elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::problem;
use super::rehearsal::{HOST_TESTED, tried_words};
use crate::engine::{Event, Listener, Step};
use crate::model::name::HostName;
use crate::model::plan::minute;
use crate::model::problem::{Problem, Retry};

/// Shows events on standard error.
pub struct Progress {
    terminal: Option<Terminal>,
}

struct Terminal {
    all: MultiProgress,
    lines: Mutex<HashMap<String, ProgressBar>>,
}

/// What an event means for its line.
pub(super) enum Line {
    /// Something begins or goes on.
    Doing(String, String),
    /// It has ended well.
    Done(String, String),
    /// It has ended, and the text stands for itself.
    Ended(String, String),
    /// Worth a line of its own.
    Said(String),
}

impl Line {
    /// As it stands by itself.
    pub(super) fn text(self) -> String {
        match self {
            Self::Doing(subject, text) | Self::Done(subject, text) => format!("{subject}: {text}"),
            Self::Ended(_, text) | Self::Said(text) => text,
        }
    }
}

impl Progress {
    /// Moving lines when standard error is a terminal, else plain ones.
    pub fn new() -> Self {
        let moving =
            std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let terminal = moving.then(|| Terminal { all: MultiProgress::new(), lines: Mutex::default() });
        Self { terminal }
    }

    fn show(&self, line: Line) {
        match (&self.terminal, line) {
            (Some(terminal), line) => terminal.show(line),
            (None, line) => say(&line.text()),
        }
    }

    /// A line that is about no event.
    pub fn say(&self, text: &str) {
        self.show(Line::Said(text.to_owned()));
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    fn show(&self, line: Line) {
        match line {
            Line::Doing(subject, text) => {
                let bar = self.bar(&subject);
                bar.set_message(format!("{subject}: {text}"));
            }
            // What has ended moves up, so that only what is under way moves, however much there is.
            Line::Done(subject, text) => {
                self.end(&subject);
                self.all.suspend(|| say(&format!("{subject}: {text}")));
            }
            Line::Ended(subject, text) => {
                self.end(&subject);
                self.all.suspend(|| say(&text));
            }
            Line::Said(text) => self.all.suspend(|| say(&text)),
        }
    }

    fn end(&self, subject: &str) {
        let bar = self.lines.lock().unwrap_or_else(PoisonError::into_inner).remove(subject);
        if let Some(bar) = bar {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
    }

    fn bar(&self, subject: &str) -> ProgressBar {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = lines.entry(subject.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new_spinner());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        bar.clone()
    }
}

impl Listener for Progress {
    fn notice(&self, event: &Event) {
        if let Some(line) = line(event) {
            self.show(line);
        }
    }
}

/// What is said of an event.
pub(super) fn line(event: &Event) -> Option<Line> {
    Some(match event {
        Event::Observing(0) => return None,
        Event::Observing(count) => {
            Line::Said(format!("looking at {count} {}", if *count == 1 { "host" } else { "hosts" }))
        }
        Event::Locked(name, holder) => Line::Doing(name.to_string(), format!("waits for {holder}")),
        Event::Issuing(name, issuer, because) => {
            Line::Doing(name.to_string(), format!("issuing by {issuer}, {because}"))
        }
        Event::DeployWouldDo(name, version, hosts) => Line::Said(format!(
            "note: {name} version {version} is in the store and not served yet by {}: `certfleet deploy {name}` \
             would do, without a new order",
            some_of(hosts)
        )),
        Event::NextIssuer(name, why) => {
            Line::Said(problem(why, Some(&format!("the next issuer of `{name}` is asked"))))
        }
        Event::Step(name, step) => Line::Doing(name.to_string(), step_words(*step)),
        Event::OtherChain(name, taken, offered) => Line::Said(format!(
            "warning: {name}: the CA does not offer the preferred chain, taken is the one by `{taken}`\n  \
                 hint: set `preferred-chain` to one of {}, or remove it",
            offered.join(", ")
        )),
        Event::Revoked(name, version, reason) => {
            Line::Done(name.to_string(), format!("version {version} is revoked, {reason}"))
        }
        Event::Rehearsed(name, issuer, tried) => {
            Line::Done(name.to_string(), format!("{issuer}: {}", tried_words(*tried)))
        }
        Event::RehearsalFailed(name, why) => Line::Ended(name.to_string(), problem(why, None)),
        Event::HostFailed(host, why) => Line::Ended(host.to_string(), problem(why, None)),
        Event::HostTested(host) => Line::Done(host.to_string(), HOST_TESTED.to_owned()),
        Event::Issued(name, version, not_after, took) => Line::Done(
            name.to_string(),
            format!("version {version} issued in {}, valid until {}", seconds(*took), minute(*not_after)),
        ),
        Event::AlreadyIssued(name) => {
            Line::Done(name.to_string(), "another process has just issued it".into())
        }
        Event::OrderOver(name) => Line::Done(
            name.to_string(),
            "the order that an earlier run left is over without a certificate; none is due".into(),
        ),
        Event::IssueFailed(name, why, next) => {
            let next = match next {
                Some(at) => format!("tried again from {}", minute(*at)),
                None if why.retry == Retry::AfterChange => {
                    "not tried again until certs.toml changes, or with --force".to_owned()
                }
                None => "the next run tries again".to_owned(),
            };
            Line::Ended(name.to_string(), problem(why, Some(&next)))
        }
        Event::CleanedUp(name, count) => {
            let records = if *count == 1 { "record" } else { "records" };
            Line::Said(format!("{name}: {count} challenge {records} of an earlier run removed"))
        }
        Event::NotNoted(why) => Line::Said(problem(
            why,
            Some("it is done nevertheless; the next run sees what is there and notes it"),
        )),
        Event::Oddity(why) => Line::Said(problem(why, None)),
        Event::CleanUpFailed(name, why) => Line::Said(problem(
            why,
            Some(&format!(
                "what stays of the challenge records of `{name}` is noted; the next run removes it"
            )),
        )),
        Event::Deploying(host, installs) => {
            let what: Vec<String> = installs
                .iter()
                .map(|install| format!("{} version {}", install.certificate, install.version))
                .collect();
            let what = if what.len() > 3 { format!("{} certificates", what.len()) } else { what.join(", ") };
            Line::Doing(host.to_string(), format!("deploying {what}"))
        }
        Event::Served(name, host, version, looks, took) => {
            let proof = match looks {
                0 => "installed; not probed (verify-names is empty)".to_owned(),
                1 => format!("serves it, proven by TLS at 1 address, {}", seconds(*took)),
                looks => format!("serves it, proven by TLS in {looks} places, {}", seconds(*took)),
            };
            Line::Ended(host.to_string(), format!("{name} on {host}: version {version}: {proof}"))
        }
        Event::Pending(name, host, version, why) => {
            let hint = why.hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default();
            let why = why.one_line();
            let text = format!("{name} on {host}: version {version} installed, not in use: {why}{hint}");
            Line::Ended(host.to_string(), text)
        }
        Event::DeployFailed(_, host, _, why) | Event::PutBack(_, host, _, why) => {
            Line::Ended(host.to_string(), failed_deploy(why))
        }
        Event::Drifted(name, host, what) => Line::Said(format!("{name} on {host}: on its disk {what}")),
        Event::NotSeen(host, why) => {
            let next = format!("what lies on the disk of `{host}` is not known; every pass tries again");
            Line::Ended(host.to_string(), problem(why, Some(&next)))
        }
        Event::Registered(issuer) => Line::Said(format!("{issuer}: account registered")),
        Event::Ending => Line::Said("ending: removing challenge records first".into()),
    })
}

fn step_words(step: Step) -> String {
    match step {
        Step::Ordered => "ordered".to_owned(),
        Step::Presenting(1) => "setting a challenge record, waiting for every name server".to_owned(),
        Step::Presenting(count) => {
            format!("setting {count} challenge records, waiting for every name server")
        }
        Step::Validating => "the CA looks at the challenge records".to_owned(),
        Step::Finalizing => "the CA signs".to_owned(),
        Step::Downloading => "fetching the certificate".to_owned(),
    }
}

fn failed_deploy(why: &Problem) -> String {
    problem(why, Some("the version stays in the store; every pass tries again, without a new order"))
}

/// Two of them are named, the rest is counted.
fn some_of(hosts: &[HostName]) -> String {
    match hosts {
        [first, second, _, others @ ..] => format!("{first}, {second} and {} more", others.len() + 1),
        hosts => hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(" and "),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// A line on standard error; one that cannot be written is nobody's to read.
fn say(text: &str) {
    let mut error = std::io::stderr().lock();
    let _ = writeln!(error, "{text}");
}
