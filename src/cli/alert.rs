//! `certfleet alert`: trying channels, what is wrong and who was told, taking it on. And saying, after a pass,
//! what could not be told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Subcommand;
use futures::future::join_all;
use jiff::Timestamp;

use super::{Exit, Output, Refusal, complain, unknown};
use crate::config::Config;
use crate::engine::{self, Attended, Channels, Engine, StartError, Summary};
use crate::model::alert::{AckError, Alert, Level, Memory, Notice, Occasion, reached};
use crate::model::history::{Entry, How, What};
use crate::model::plan::minute;
use crate::model::problem::{Problem, plain};
use crate::notify::{Channel, Message, journal};
use crate::render;
use crate::store::{AlertLock, LockError, Store};

#[derive(Debug, Subcommand)]
pub(super) enum AlertCommand {
    /// Send a notice through every channel, or one, to see whether it arrives; ends with 1 if it does not
    Test {
        /// Only through this one
        #[arg(value_name = "CHANNEL")]
        channel: Option<String>,
    },
    /// What is wrong now: since when, who was told, who is told next and when, who has taken it on
    List,
    /// Take an alert on: silence until it gets worse
    ///
    /// Nobody is told of it again, and no further channel, until something in it reaches the next level or something
    /// new joins it. That it is over is told nevertheless. Of a timer or daemon that makes no passes any more it says
    /// that it was removed for good.
    Ack {
        /// The alert, as notices and `alert list` name it
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// For one channel; each has a shorter deadline of its own.
const PATIENCE: Duration = Duration::from_secs(60);

impl Output {
    pub(super) async fn alert(&self, config: &Config, what: &AlertCommand) -> Result<Exit, Refusal> {
        match what {
            AlertCommand::Test { channel } => self.test_channels(config, channel.as_deref()).await,
            AlertCommand::List => self.list_alerts(config),
            AlertCommand::Ack { id } => self.acknowledge(config, id),
        }
    }

    async fn test_channels(&self, config: &Config, only: Option<&str>) -> Result<Exit, Refusal> {
        let channels = Channels::of(config);
        let names: Vec<&String> = match only {
            // Also those that nobody is told by, because they are not in `order`: but for the journal, which is there
            // without a table as well.
            None => {
                let told_by_none =
                    |name: &&String| !channels.order.contains(name) && *name != journal::KIND.name;
                channels.order.iter().chain(channels.by_name.keys().filter(told_by_none)).collect()
            }
            Some(only) => {
                let known = || channels.by_name.keys();
                let found = known().find(|name| *name == only);
                vec![found.ok_or_else(|| unknown("channel", only, known().map(String::as_str)))?]
            }
        };
        let now = Timestamp::now();
        let tries = names.into_iter().filter_map(|name| Some((name, channels.by_name.get(name)?)));
        let results = join_all(tries.map(|(name, channel)| try_channel(name, channel, now))).await;
        let failed = results.iter().any(|tried| tried.result.is_err());
        if let Err(problem) = self.note_reached(config, &results) {
            complain(&render::problem(&problem, None));
        }
        self.print(&render::tried_channels(&results), &render::tried_channels_json(&results));
        Ok(if failed { Exit::Failed } else { Exit::Done })
    }

    /// Nobody is missed any more by a channel that reaches everybody now.
    fn note_reached(&self, config: &Config, results: &[TriedChannel]) -> Result<(), Problem> {
        let store = Store::open_existing(&config.store).map_err(|error| Problem::of(&error))?;
        let Some(store) = store else { return Ok(()) };
        let well = results.iter().filter(|tried| tried.result.is_ok());
        let well: Vec<&str> = well.map(|tried| tried.name.as_str()).collect();
        let missed = |memory: &Memory| well.iter().any(|name| memory.partly.contains_key(*name));
        // Whoever cannot read it says so when it matters.
        if !store.alerts().is_ok_and(|memory| missed(&memory)) {
            return Ok(());
        }
        let lock = self.alert_lock(&store).map_err(|error| Problem::of(&error))?;
        let mut memory = store.alerts().map_err(|error| Problem::of(&error))?;
        well.iter().for_each(|name| reached(&mut memory, name, None, Timestamp::now()));
        store.save_alerts(&lock, &memory).map_err(|error| Problem::of(&error))
    }

    fn list_alerts(&self, config: &Config) -> Result<Exit, Refusal> {
        let refused = |problem: Problem| Refusal::problem(&problem);
        let store = Store::open_existing(&config.store).map_err(|error| refused(Problem::of(&error)))?;
        let memory = store.map(|store| store.alerts()).transpose();
        let memory = memory.map_err(|error| refused(Problem::of(&error)))?.unwrap_or_default();
        let order = Channels::of(config).order;
        let now = Timestamp::now();
        self.print(&render::alerts_text(&memory, &order, now), &render::alerts_json(&memory, &order, now));
        Ok(Exit::Done)
    }

    fn acknowledge(&self, config: &Config, id: &str) -> Result<Exit, Refusal> {
        let refused = |problem: Problem| Refusal::problem(&problem);
        let store = Store::open(&config.store).map_err(|error| refused(Problem::of(&error)))?;
        let lock = match self.alert_lock(&store) {
            Err(LockError::Held(holder)) => {
                let who = holder.map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
                let text = format!(
                    "error: alerts are in use by {who}\n  hint: try again, or wait longer with --wait"
                );
                return Err(Refusal { text, exit: Exit::Locked });
            }
            result => result.map_err(|error| refused(Problem::of(&error)))?,
        };
        let mut memory = store.alerts().map_err(|error| refused(Problem::of(&error)))?;
        let by = engine::author(How::Cli);
        let who = by.sudo_user.clone().unwrap_or_else(|| by.user.clone());
        let now = Timestamp::now();
        memory.acknowledge(id, &who, now).map_err(|error| not_acknowledged(&error, &memory))?;
        let alert = memory.alerts.get(id);
        let title = alert.map_or_else(String::new, |alert| alert.title.clone());
        store.save_alerts(&lock, &memory).map_err(|error| refused(Problem::of(&error)))?;
        for how in alert.into_iter().flat_map(Alert::removed) {
            store.forget_passes(how).map_err(|error| refused(Problem::of(&error)))?;
        }
        let detail = Some(plain(&format!("alert {id}: {title}")));
        engine::note(&store, &Entry { detail, ..Entry::new(now, What::Acknowledged, by) });
        let text =
            format!("`{id}` is yours, {who}: {title}\nnobody is told again before it gets worse, or is over");
        self.print(&text, &serde_json::json!({ "alert": id, "acknowledged-by": who, "at": now }));
        Ok(Exit::Done)
    }

    /// Waits for others who tell people just now.
    fn alert_lock(&self, store: &Store) -> Result<AlertLock, LockError> {
        let started = Instant::now();
        loop {
            match store.lock_alerts("acknowledging an alert", Timestamp::now()) {
                Err(LockError::Held(_)) if started.elapsed() < self.wait => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                result => return result,
            }
        }
    }
}

/// What came of trying a channel.
pub(crate) use crate::render::TriedChannel;

async fn try_channel(name: &str, channel: &Arc<dyn Channel>, now: Timestamp) -> TriedChannel {
    let notice = Notice {
        alert: "test".to_owned(),
        occasion: Occasion::Test,
        level: Level::Warning,
        at: now,
        since: now,
        code: "alerts.test".to_owned(),
        title: format!("certfleet can reach you by `{name}`"),
        subjects: Vec::new(),
        more: 0,
        reason: Some("somebody has run `certfleet alert test`".to_owned()),
        next: Some("nothing; nothing is wrong".to_owned()),
        remedy: None,
    };
    let started = Instant::now();
    let message = Message::Notice(Box::new(notice));
    let result = match tokio::time::timeout(PATIENCE, channel.send(&message)).await {
        Ok(Ok(answer)) => Ok(answer.map(|answer| plain(&answer))),
        Ok(Err(error)) => Err(Problem::of(&error)),
        Err(_) => Err(engine::too_slow(name)),
    };
    TriedChannel { name: name.to_owned(), took: started.elapsed(), result }
}

fn not_acknowledged(error: &AckError, memory: &Memory) -> Refusal {
    let open: Vec<String> = memory.open().map(|(id, alert)| format!("\n  {id}  {}", alert.title)).collect();
    let open = match open.is_empty() {
        true => "nothing is wrong now".to_owned(),
        false => format!("open are{}", open.concat()),
    };
    Refusal { text: format!("error: {error}\n  hint: {open}"), exit: Exit::Usage }
}

/// After a pass: tells people, and says here what they could not be told.
pub(super) async fn after_pass(engine: &Engine, summary: &Summary) -> Attended {
    let attended = engine.attend(summary).await;
    say(&attended);
    attended
}

/// No pass could begin: the timer is the only one who knows.
pub(super) async fn no_pass(config: &Config, store: Option<&Store>, problem: &Problem, how: How) {
    if how != How::Cli {
        let channels = Channels::of(config);
        say(&engine::attend_hindered(config, &channels, store, problem, how).await);
    }
}

/// As [`no_pass`], and what the command ends with.
pub(super) async fn not_begun(config: &Config, store: &Store, error: &StartError, how: How) -> Refusal {
    no_pass(config, Some(store), &Problem::of(error), how).await;
    Refusal::failed(error)
}

fn say(attended: &Attended) {
    for (text, _) in untold(attended) {
        complain(&text);
    }
}

/// What people could not be told, and why, each with the code of the problem.
pub(super) fn untold(attended: &Attended) -> Vec<(String, Option<&str>)> {
    let mut said = Vec::new();
    for problem in &attended.problems {
        let next = "the next pass tells people again what they are to know";
        said.push((render::problem(problem, Some(next)), Some(problem.code.as_str())));
    }
    if let Some(problem) = &attended.heartbeat {
        let next = "called again after the next complete pass; until then the watcher outside hears nothing";
        said.push((render::problem(problem, Some(next)), Some(problem.code.as_str())));
    }
    for letter in &attended.undelivered {
        let next = match letter.next {
            Some(next) => format!("tried again from {} on", minute(next)),
            None => "tried again".to_owned(),
        };
        let mut text = format!("error: `{}` could not be told: {}", letter.channel, letter.title);
        if let Some(problem) = &letter.problem {
            text = format!("{text}\n  cause: {}", problem.one_line());
        }
        let hint = letter.problem.as_ref().and_then(|problem| problem.hint.clone());
        let hint = hint.unwrap_or_else(|| format!("run `certfleet alert test {}`", letter.channel));
        let code = letter.problem.as_ref().map(|problem| problem.code.as_str());
        said.push((format!("{text}\n  next: {next}\n  hint: {hint}"), code));
    }
    said
}
