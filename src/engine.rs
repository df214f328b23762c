//! The shell around the planner: a pass observes, plans, executes, records, until nothing is left
//! but waiting.
//!
//! Nothing here decides what ought to be done; it asks [`plan`](crate::model::plan) about the certificate or host that
//! something was just learnt of, starts the actions, and goes on when the first of them ends. So a
//! slow or dead CA, host or name server holds up nothing but its own.

mod alert;
mod apart;
mod ca;
mod check;
mod clean;
mod connections;
mod credentials;
pub mod daemon;
mod deploy;
mod endpoint;
mod event;
mod history;
mod import;
mod issue;
mod learn;
mod look;
mod observe;
mod pass;
mod rehearse;
mod revoke;
mod scan;
mod shelf;
mod solve;
mod turn;

pub use alert::{Attended, Channels, Ended, Known, Undelivered, attend, attend_hindered, too_slow};
pub use check::{Finding, Standing, check};
pub use credentials::{Credential, credentials};
pub use event::{Event, Listener, Step, Summary};
pub use history::{author, note};
pub use import::{
    AccountFound, Found, HostTree, Lineage, NotFetched, Stored, Unreadable, fetch, import, import_from,
};
pub use observe::Observer;
pub use rehearse::{Rehearsal, Tried};
pub use revoke::RevokeError;
pub use scan::{Flag, FoundCertificate, HostScan, Uncovered, scan};

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::StreamExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use self::pass::Pass;
use crate::acme::{self, Ca};
use crate::config::Config;
use crate::dns::Zones;
use crate::dns::lookup::Lookup;
use crate::model::history::How;
use crate::model::name::{DnsAccountName, IssuerName};
use crate::model::observed::Observed;
use crate::model::plan::Request;
use crate::model::problem::{Blame, Diagnose};
use crate::store::Store;

/// Orders under way at once. Each does nothing but wait for others nearly all the time; more than about so many requests
/// at once Let's Encrypt turns away.
const ORDERS: usize = 100;

/// Everything a pass needs.
pub struct Engine {
    config: Arc<Config>,
    store: Store,
    observer: Observer,
    listener: Arc<history::Told>,
    /// How long to wait for a lock that another process holds.
    lock_wait: Duration,
    lookup: Lookup,
    zones: Zones,
    orders: Semaphore,
    cas: Mutex<HashMap<(IssuerName, String), OpeningCa>>,
    connections: connections::Connections,
    shelf: shelf::Shelf,
    /// What the last pass has learnt.
    left: Mutex<Option<Known>>,
}

type OpeningCa = Shared<BoxFuture<'static, Result<Ca, Arc<acme::Error>>>>;

/// Why a pass could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The resolver cannot be set up.
    #[error("cannot set up the resolver")]
    Resolver(#[source] crate::dns::Error),
    /// The roots of an issuer cannot be read.
    #[error("cannot read the roots of issuer `{0}`")]
    Roots(IssuerName, #[source] crate::probe::RootsError),
    /// The store cannot be read.
    #[error("cannot read the store")]
    Store(#[source] crate::store::LoadError),
}

impl StartError {
    fn of(&self) -> &dyn Diagnose {
        match self {
            Self::Resolver(error) => error,
            Self::Roots(_, error) => error,
            Self::Store(error) => error,
        }
    }
}

impl Diagnose for StartError {
    fn code(&self) -> &'static str {
        self.of().code()
    }

    fn blame(&self) -> Blame {
        self.of().blame()
    }

    fn hint(&self) -> Option<String> {
        self.of().hint()
    }
}

impl Engine {
    /// Prepares a pass over this configuration and store.
    pub fn new(
        config: Arc<Config>,
        store: Store,
        listener: Arc<dyn Listener>,
        lock_wait: Duration,
    ) -> Result<Self, StartError> {
        Ok(Self {
            lookup: Lookup::new(&config.nameservers).map_err(StartError::Resolver)?,
            observer: Observer::new(config.clone())?,
            config,
            listener: Arc::new(history::Told::new(listener, store.clone())),
            store,
            lock_wait,
            zones: Zones::new(),
            orders: Semaphore::new(ORDERS),
            cas: Mutex::default(),
            connections: connections::Connections::default(),
            shelf: shelf::Shelf::default(),
            left: Mutex::default(),
        })
    }

    /// Says what has this program run, for the history; without it somebody at the command line.
    #[must_use]
    pub fn run_by(self, how: How) -> Self {
        self.listener.run_by(how);
        self
    }

    /// One pass to its end: until `stop` resolves or nothing is left but waiting. Within a runtime of several
    /// threads, certificates and hosts do not wait for each other's writes to the disk.
    pub async fn pass(
        self: &Arc<Self>,
        request: &Request,
        stop: impl Future<Output = ()>,
    ) -> Result<Summary, StartError> {
        let loaded = self.store.load(Timestamp::now()).map_err(StartError::Store)?;
        let unreadable = loaded.unreadable.values().chain(loaded.unreadable_hosts.values());
        for problem in unreadable.chain(&loaded.unreadable_debts).chain(&loaded.warnings) {
            self.tell(Event::Oddity(problem.clone()));
        }
        let request = &Arc::new(request.clone());
        let mut known = Known::of(loaded, Observed::default());
        let mut pass = Pass::new(self, request, std::mem::take(&mut known.state));
        pass.summary.unreadable_debts.clone_from(&known.damages);
        pass.start();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                done = pass.running.next() => match done {
                    Some(done) => pass.take(done),
                    None => break,
                },
                () = &mut stop => {
                    self.listener.notice(&Event::Ending);
                    pass.summary.interrupted = true;
                    break;
                }
            }
        }
        let interrupted = pass.summary.interrupted;
        let (mut summary, mut state, observed, work) = pass.end();
        work.ended().await;
        if interrupted {
            // The work has let go of its locks; what was presented is in the journal.
            self.clean_up_everything(request).await;
        }
        self.connections.close().await;
        self.shelf.clear();
        summary.complete = request.is_complete() && !summary.interrupted;
        let (how, ended) = (self.listener.how(), Timestamp::now());
        match self.store.note_pass(how, ended, summary.complete) {
            Ok(passes) => state.passes = passes,
            Err(error) => {
                tracing::warn!("cannot note the end of the pass: {error}");
                state.passes.note(how, ended, summary.complete);
            }
        }
        let observed = self.observer.record(&self.store, request, observed);
        *lock(&self.left) = Some(Known { state, observed, read: self.clock(), ..known });
        Ok(summary)
    }

    fn tell(&self, event: Event) {
        self.listener.notice(&event);
    }

    fn account(&self, name: &DnsAccountName) -> Option<&Arc<crate::dns::Account>> {
        self.config.dns.get(name)
    }
}

/// Locks a mutex whose holders never panic while holding it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
