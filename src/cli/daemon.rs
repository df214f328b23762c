//! `certfleet run`: the daemon, its signals, and what it tells the service manager.

mod notify;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::{Exit, Output, Refusal, complain};
use crate::config::Config;
use crate::engine::daemon::{Audience, Daemon, End, News, Order};
use crate::model::plan::minute;
use crate::model::problem::Problem;
use crate::render::{self, Progress};
use crate::store::{LockError, Store};

impl Output {
    /// Pass after pass, until told to end.
    pub(super) async fn daemon(&self, path: PathBuf, config: Config) -> Result<Exit, Refusal> {
        let mut orders = orders().map_err(|error| Refusal::failed(&error))?;
        let config = Arc::new(config);
        let store = Store::open(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        let _lock = store.lock_daemon("daemon", Timestamp::now()).map_err(|error| match error {
            LockError::Held(_) => Refusal { exit: Exit::Locked, ..Refusal::problem(&Problem::of(&error)) },
            error => Refusal::problem(&Problem::of(&error)),
        })?;
        let told = Told { config: config.clone() };
        notify::ready(&format!("{}; the first pass is under way", told.size()));
        let daemon = Daemon {
            path,
            config,
            store,
            listener: Arc::new(Progress::new()),
            lock_wait: self.wait,
            beat: notify::beat().unwrap_or(Duration::MAX),
        };
        Ok(match daemon.run(&mut orders, &told).await {
            End::InOrder => Exit::Done,
            End::AtOnce => Exit::Failed,
        })
    }
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
                // Eight that wait say all that there is to say.
                let _ = give.try_send(order);
            }
        });
    }
    Ok(take)
}

struct Told {
    config: Arc<Config>,
}

impl Told {
    fn size(&self) -> String {
        let desired = &self.config.desired;
        format!("{} certificates, {} hosts", desired.certificates.len(), desired.hosts.len())
    }
}

impl Audience for Told {
    fn hear(&self, news: News<'_>) {
        match news {
            News::Beat => notify::alive(),
            News::Passed(_, next) => {
                notify::status(&format!("{}; next pass at {}", self.size(), minute(next)))
            }
            News::NotBegun(error, _) => complain(&render::error_chain(error)),
            News::Reloading => notify::reloading(),
            News::Reloaded(_) => notify::ready(&self.size()),
            News::Refused(error) => {
                complain(&Refusal::config(error).text);
                notify::ready(&self.size());
            }
            News::Ending => notify::stopping(),
        }
    }
}
