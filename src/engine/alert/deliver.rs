//! Emptying the outbox: all channels at the same time, within one deadline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::Session;
use crate::config::Config;
use crate::model::alert::{Letter, Level, Memory, delivered, due_letters, failed, reached};
use crate::model::problem::{Blame, Diagnose, Problem};
use crate::notify::{Channel, Message};

/// For delivering everything that is due.
const DEADLINE: Duration = Duration::from_secs(30);
/// After so many failures one after the other a channel is left alone for a while.
const ENOUGH: usize = 2;

/// The ways to reach people.
#[derive(Debug, Clone)]
pub struct Channels {
    /// Who is told of alerts, first to last.
    pub order: Vec<String>,
    /// All there are.
    pub by_name: BTreeMap<String, Arc<dyn Channel>>,
}

/// A notice that could not be delivered.
#[derive(Debug, Clone)]
pub struct Undelivered {
    /// To this channel.
    pub channel: String,
    /// How bad it is.
    pub level: Level,
    /// What it should have said.
    pub title: String,
    /// Why not; `None` when it waits behind others that could not be.
    pub problem: Option<Problem>,
    /// When it is tried again.
    pub next: Option<Timestamp>,
}

/// A channel that has not come back in time.
#[derive(Debug, thiserror::Error)]
#[error("the channel `{channel}` did not come to an end in time")]
struct TooSlow {
    channel: String,
}

impl Diagnose for TooSlow {
    fn code(&self) -> &'static str {
        "channel.timeout"
    }

    fn blame(&self) -> Blame {
        Blame::Network
    }
}

/// What is said of a channel that has not come back in time.
pub fn too_slow(channel: &str) -> Problem {
    Problem::of(&TooSlow { channel: channel.to_owned() })
}

impl Channels {
    /// Those of certs.toml.
    pub fn of(config: &Config) -> Self {
        let order = config.alert_order.iter().map(ToString::to_string).collect();
        let by_name = config.channels.iter().map(|(name, channel)| (name.to_string(), channel.clone()));
        Self { order, by_name: by_name.collect() }
    }
}

/// What came of one letter.
enum Outcome {
    /// It has arrived; not for those of whom the problem speaks.
    Arrived(Option<Problem>),
    /// It has not, or was not even tried.
    Failed(Option<Problem>),
}

impl Session<'_> {
    pub(super) async fn deliver(&mut self, memory: &mut Memory) {
        let mut by_channel: BTreeMap<String, Vec<Letter>> = BTreeMap::new();
        for letter in due_letters(memory, Timestamp::now()) {
            by_channel.entry(letter.channel.clone()).or_default().push(letter);
        }
        let deadline = Instant::now() + DEADLINE;
        let rounds = by_channel.into_iter().filter_map(|(name, letters)| {
            let channel = self.channels.by_name.get(&name)?;
            Some(async move { deliver_by(&name, channel.as_ref(), letters, deadline).await })
        });
        let outcomes: Vec<(Letter, Outcome)> = join_all(rounds).await.into_iter().flatten().collect();
        for (letter, outcome) in outcomes {
            let (channel, alert, now) = (&letter.channel, &letter.notice.alert, Timestamp::now());
            match outcome {
                Outcome::Arrived(missed) => {
                    delivered(memory, channel, alert, now);
                    reached(memory, channel, missed.as_ref(), now);
                    self.attended.delivered += 1;
                    self.note(&letter, now);
                }
                Outcome::Failed(problem) => failed(memory, channel, alert, problem.as_ref(), now),
            }
        }
        self.attended.undelivered = memory.outbox.iter().map(Undelivered::of).collect();
    }
}

impl Undelivered {
    fn of(letter: &Letter) -> Self {
        Self {
            channel: letter.channel.clone(),
            level: letter.notice.level,
            title: letter.notice.title.clone(),
            problem: letter.problem.clone(),
            next: letter.not_before,
        }
    }
}

async fn deliver_by(
    name: &str,
    channel: &dyn Channel,
    letters: Vec<Letter>,
    deadline: Instant,
) -> Vec<(Letter, Outcome)> {
    let (mut outcomes, mut failures) = (Vec::new(), 0);
    for letter in letters {
        if failures >= ENOUGH || Instant::now() >= deadline {
            outcomes.push((letter, Outcome::Failed(None)));
            continue;
        }
        let message = Message::Notice(Box::new(letter.notice.clone()));
        let outcome = match timeout_at(deadline, channel.send(&message)).await {
            Ok(Ok(id)) => {
                tracing::info!(channel = name, alert = letter.notice.alert, id, "told");
                Outcome::Arrived(None)
            }
            Ok(Err(error)) if error.is_partly() => Outcome::Arrived(Some(Problem::of(&error))),
            Ok(Err(error)) => Outcome::Failed(Some(Problem::of(&error))),
            Err(_) => Outcome::Failed(Some(too_slow(name))),
        };
        failures = if matches!(outcome, Outcome::Arrived(_)) { 0 } else { failures + 1 };
        outcomes.push((letter, outcome));
    }
    outcomes
}
