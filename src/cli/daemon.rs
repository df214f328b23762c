//! `certfleet run`: the daemon, its signals, and what it tells the service manager.

mod listen;
mod notify;
mod pages;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::Level;

use self::listen::{Listening, show};
use self::pages::Pages;
use super::{Exit, Output, Refusal, alert, log};
use crate::config::{Config, Listen};
use crate::engine::daemon::{Audience, Daemon, End, News, Occasion, Order};
use crate::engine::{Attended, StartError, Summary};
use crate::model::plan::minute;
use crate::model::problem::{Diagnose, Problem};
use crate::render::{self, Log};
use crate::store::{LockError, Store};

impl Output {
    /// Pass after pass, until told to end.
    pub(super) async fn daemon(&self, path: PathBuf, config: Config) -> Result<Exit, Refusal> {
        let mut orders = orders().map_err(|error| Refusal::failed(&error))?;
        let config = Arc::new(config);
        let store = Store::open(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        let _lock = store.lock_daemon("the daemon", Timestamp::now()).map_err(|error| match error {
            LockError::Held(_) => second_daemon(&config, &error),
            error => Refusal::problem(&Problem::of(&error)),
        })?;
        let log = Arc::new(log::listener(self.journal));
        let pages = Arc::new(Pages::new(store.clone(), config.clone()));
        let front = Front {
            log: log.clone(),
            pages,
            listening: Mutex::default(),
            began: Mutex::new(Instant::now()),
            untold: Mutex::default(),
        };
        front.listen(config.daemon.listen.as_ref()).map_err(|error| Refusal::failed(&error))?;
        let beat = notify::beat().unwrap_or(Duration::MAX);
        front.log.say(
            Level::INFO,
            &format!("certfleet {} looks after {}", env!("CARGO_PKG_VERSION"), render::size(&config.desired)),
            None,
        );
        notify::ready(&format!("{}; the first pass is under way", render::size(&config.desired)));
        let daemon = Daemon::new(path, config, store, log, self.wait, beat);
        Ok(match daemon.run(&mut orders, &front).await {
            End::InOrder => Exit::Done,
            End::AtOnce => Exit::Failed,
        })
    }
}

/// Why there is no second daemon on a store; commands and `--once` go on beside the first.
fn second_daemon(config: &Config, held: &LockError) -> Refusal {
    let hint = held.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    let store = config.store.display();
    let text = format!(
        "error: a daemon looks after the store {store} already\n  cause: {held}\n  next: nothing was changed\n  \
         hint: end it before you start another; `certfleet run --once` and all other commands run beside it{hint}"
    );
    Refusal { exit: Exit::Locked, ..Refusal::usage(text) }
}

/// What signals ask for.
fn orders() -> std::io::Result<mpsc::Receiver<Order>> {
    let (give, take) = mpsc::channel(8);
    for (kind, order) in [
        (SignalKind::hangup(), Order::Reload),
        (SignalKind::terminate(), Order::End),
        (SignalKind::interrupt(), Order::End),
    ] {
        let (mut signal, give) = (signal(kind)?, give.clone());
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                // Whatever was asked for eight times and not heard yet will be.
                let _ = give.try_send(order);
            }
        });
    }
    Ok(take)
}

/// The daemon as it is seen: log, service manager, pages.
struct Front {
    log: Arc<Log>,
    pages: Arc<Pages>,
    listening: Mutex<Option<(Listen, Listening)>>,
    began: Mutex<Instant>,
    /// What people could not be told the last time.
    untold: Mutex<BTreeSet<String>>,
}

impl Front {
    /// Listens there and nowhere else; where that cannot be, all stays as it was.
    fn listen(&self, place: Option<&Listen>) -> Result<(), listen::ListenError> {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if listening.as_ref().map(|(place, _)| place) == place {
            return Ok(());
        }
        *listening = match place {
            Some(place) => {
                let begun = Listening::begin(place, self.pages.clone())?;
                self.log.say(
                    Level::INFO,
                    &format!("metrics, health and report are at {}", show(place)),
                    None,
                );
                Some((place.clone(), begun))
            }
            None => None,
        };
        Ok(())
    }

    fn passed(&self, summary: &Summary, next: Timestamp) {
        self.pages.passed();
        let took = self.began.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        let standing = render::standing(&self.pages.config().desired, summary);
        let text = format!("{}; {standing}; next pass at {}", render::tally(summary, took), minute(next));
        self.log.say(Level::INFO, &text, None);
        notify::status(&standing);
    }

    fn not_begun(&self, error: &StartError, next: Timestamp) {
        let next = format!("tried again at {}", minute(next));
        self.log.complain(&Problem::of(error), Some(&next));
        notify::status(&format!("no pass could begin: {error}; {next}"));
    }

    /// Says what people could not be told: after every pass, and between them what is new.
    fn untold(&self, attended: &Attended, occasion: Occasion) {
        let letters = attended.undelivered.iter().map(|it| format!("{} {}", it.channel, it.title));
        let problems = attended.problems.iter().chain(&attended.heartbeat).map(Problem::one_line);
        let now: BTreeSet<String> = letters.chain(problems).collect();
        let mut before = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        if occasion == Occasion::Pass || !now.is_subset(&before) {
            for (text, code) in alert::untold(attended) {
                self.log.say(Level::ERROR, &text, code);
            }
        }
        *before = now;
    }

    fn reloaded(&self, config: &Arc<Config>) {
        for warning in &config.warnings {
            self.log.say(Level::WARN, &warning.to_string(), None);
        }
        if let Err(error) = self.listen(config.daemon.listen.as_ref()) {
            self.log.say(Level::ERROR, &render::error_chain(&error), None);
        }
        self.pages.reloaded(config);
        let size = render::size(&config.desired);
        self.log.say(Level::INFO, &format!("certs.toml is loaded: {size}"), None);
        notify::ready(&format!("{size}; a pass is under way"));
    }
}

impl Audience for Front {
    fn hear(&self, news: News<'_>) {
        match news {
            News::Beat => notify::alive(),
            News::Begins => *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
            News::Passed(summary, next) => self.passed(summary, next),
            News::NotBegun(error, next) => self.not_begun(error, next),
            News::Told(attended, occasion) => self.untold(attended, occasion),
            News::Differs => self.log.say(
                Level::WARN,
                "warning: certs.toml has changed and is not loaded\n  hint: run `systemctl reload certfleet`, or send SIGHUP",
                None,
            ),
            News::Reloading => notify::reloading(),
            News::Reloaded(config) => self.reloaded(config),
            News::OtherStore(path) => self.log.say(
                Level::WARN,
                &format!("warning: `[store] path` is another folder now, {}: it counts after a restart", path.display()),
                None,
            ),
            News::Refused(error) => {
                let text = Refusal::config(error).text;
                let next = "  next: the configuration that was loaded before stays in use";
                self.log.say(Level::ERROR, &format!("{text}\n{next}"), Some(error.code()));
                notify::ready("certs.toml was refused: the configuration before it stays in use");
            }
            News::NotNoted(error) => self.log.complain(&Problem::of(error), None),
            News::Ending => {
                self.log.say(Level::INFO, "told to end", None);
                notify::stopping();
            }
        }
    }
}
