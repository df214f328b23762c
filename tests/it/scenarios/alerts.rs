//! What people are told, as a part of the stories.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use certfleet::model::alert::{
    Circumstances, Level, Memory, Notice, Occasion, conditions, delivered, due_letters, failed, findings,
    step,
};
use certfleet::model::cert::ChainEnd;
use certfleet::model::history::How;
use certfleet::model::problem::{Problem, Retry};
use certfleet::model::report::report;
use certfleet::render;
use jiff::Timestamp;

use super::{Words, World};
use crate::facts;

/// Channels, and what was said by them.
#[derive(Default)]
pub(super) struct Alerting {
    memory: Memory,
    order: Vec<String>,
    dead: BTreeSet<String>,
    /// The names of alerts, in the order in which they came.
    names: Vec<String>,
    refused: Option<Problem>,
}

impl World {
    /// `given channels …` and its like; false when it is none of these.
    pub(super) fn given_alerting(&mut self, words: &mut Words<'_>, now: Timestamp) -> Result<bool, String> {
        let alerting = &mut self.alerting;
        match words.peek() {
            Some("channels") => {
                words.next()?;
                alerting.order.clear();
                while words.peek().is_some() {
                    alerting.order.push(words.next()?.to_owned());
                }
            }
            Some("channel") => {
                words.next()?;
                let channel = words.next()?.to_owned();
                match words.next()? {
                    "fails" => drop(alerting.dead.insert(channel)),
                    "works" => drop(alerting.dead.remove(&channel)),
                    other => return Err(format!("a channel fails or works, not `{other}`")),
                }
            }
            Some("pass") => {
                words.next()?;
                words.expect("by")?;
                match words.next()? {
                    "daemon" => self.state.passes.note(How::Daemon, now, true),
                    "timer" => self.state.passes.note(How::Timer, now, true),
                    other => return Err(format!("`{other}` makes no passes: daemon, timer")),
                }
            }
            Some("chain") => {
                words.next()?;
                words.expect("of")?;
                let name = words.parse()?;
                words.expect("ends")?;
                let end = ChainEnd { name: "Intermediate X1".to_owned(), not_after: words.time(now)? };
                let known = self.state.certificates.get(&name).and_then(|known| known.newest());
                let (_, version) = known.ok_or("no version yet")?;
                alerting.memory.chains.insert(version.fingerprint, Some(end));
            }
            Some("unreadable") => {
                words.next()?;
                let problem = facts::problem("store.damaged", Retry::Backoff);
                self.state.unreadable.insert(words.parse()?, problem);
            }
            Some("refused") => {
                words.next()?;
                words.expect("certs.toml")?;
                alerting.refused = Some(facts::problem("config.mistakes", Retry::AfterChange));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// A complete pass that changes nothing, and what people are told after it.
    pub(super) fn tell(&mut self, now: Timestamp) -> Vec<String> {
        let report = report(&self.desired, &self.state, &self.observed, now);
        let alerting = &mut self.alerting;
        // What another process would read of it.
        let text = serde_json::to_string(&alerting.memory).expect("it can be written");
        alerting.memory = serde_json::from_str(&text).expect("it can be read");
        let memory = &mut alerting.memory;
        let circumstances = Circumstances {
            desired: &self.desired,
            state: &self.state,
            observed: &self.observed,
            report: &report,
            damages: &[],
            clock: None,
            refused: alerting.refused.as_ref(),
            unusable: None,
            endings: &[],
            now,
        };
        let mut said = Vec::new();
        // Twice, as the engine does it when something could not be delivered.
        for _ in 0..2 {
            let found = findings(&circumstances, memory);
            let (conditions, _) = conditions(memory, found, now);
            step(memory, conditions, &alerting.order, true, now);
            for letter in due_letters(memory, now) {
                let (channel, alert) = (&letter.channel, &letter.notice.alert);
                if !alerting.names.contains(alert) {
                    alerting.names.push(alert.clone());
                }
                if alerting.dead.contains(channel) {
                    let problem = facts::problem("notify.refused", Retry::Backoff);
                    failed(memory, channel, alert, Some(&problem), now);
                } else {
                    delivered(memory, channel, alert, now);
                    said.push(shown(channel, &letter.notice));
                }
            }
        }
        if said.is_empty() {
            said.push("nobody is told anything".to_owned());
        }
        if !memory.outbox.is_empty() {
            said.push(format!("{} notices wait", memory.outbox.len()));
        }
        self.alerting.named(&said.join("\n"))
    }

    pub(super) fn alert(&mut self, words: &mut Words<'_>, now: Timestamp) -> Result<Vec<String>, String> {
        match words.next()? {
            "list" => {
                let alerting = &self.alerting;
                Ok(alerting.named(&render::alerts_text(&alerting.memory, &alerting.order, now)))
            }
            "ack" => {
                let word = words.next()?;
                let number =
                    word.strip_prefix('<').and_then(|word| word.strip_suffix('>')?.parse::<usize>().ok());
                let name = number.and_then(|number| self.alerting.names.get(number.checked_sub(1)?)).cloned();
                let result = self.alerting.memory.acknowledge(name.as_deref().unwrap_or(word), "eva", now);
                if let (Ok(()), Some(name)) = (&result, &name) {
                    self.alerting.memory.alerts[name].removed().for_each(|how| self.state.passes.forget(how));
                }
                Ok(self
                    .alerting
                    .named(&result.map_or_else(|error| error.to_string(), |()| "taken on".to_owned())))
            }
            other => Err(format!("no command `alert {other}`: list, ack")),
        }
    }
}

impl Alerting {
    /// As lines, with `<1>` in place of the name of the first alert.
    fn named(&self, text: &str) -> Vec<String> {
        let names: BTreeMap<_, _> = self.names.iter().zip(1..).collect();
        let text = names.iter().fold(text.to_owned(), |text, (name, number)| {
            text.replace(name.as_str(), &format!("<{number}>"))
        });
        text.lines().map(str::to_owned).collect()
    }
}

fn shown(channel: &str, notice: &Notice) -> String {
    let level = match notice.level {
        Level::Warning => "warning",
        Level::Critical => "CRITICAL",
        Level::Emergency => "EMERGENCY",
    };
    let occasion = format!("{:?}", notice.occasion).to_lowercase();
    let mut text = format!("{channel}: {level} {occasion} {}: {}", notice.alert, notice.title);
    if notice.subjects.len() > 1 {
        let named = notice.subjects.iter().take(3);
        named.for_each(|subject| write!(text, "\n  - {}", subject.text).expect("a String takes everything"));
        let more = notice.subjects.len().saturating_sub(3) + notice.more;
        if more > 0 {
            let _ = write!(text, "\n  - and {more} more");
        }
    }
    if matches!(notice.occasion, Occasion::Raised | Occasion::Worsened) {
        for (name, line) in [("why", &notice.reason), ("next", &notice.next), ("do", &notice.remedy)] {
            let _ = line.as_ref().map(|line| write!(text, "\n  {name}: {line}"));
        }
    }
    text
}
