//! The shell around the planner: a pass observes, plans, executes, records, until nothing is left
//! but waiting.
//!
//! Nothing here decides what ought to be done; it asks [`plan`] about the certificate or host that
//! something was just learnt of, starts the actions, and goes on when the first of them ends. So a
//! slow or dead CA, host or name server holds up nothing but its own.

mod ca;
mod check;
mod clean;
mod deploy;
mod event;
mod history;
mod import;
mod issue;
mod observe;
mod rehearse;
mod revoke;
mod scan;
mod solve;

pub use check::{Finding, Standing, check};
pub use event::{Event, Listener, Step, Summary};
pub use history::{author, note};
pub use import::{AccountFound, Found, Lineage, Stored, Unreadable, import};
pub use observe::Observer;
pub use rehearse::{Rehearsal, Tried};
pub use revoke::RevokeError;
pub use scan::{Flag, FoundCertificate, HostScan, Uncovered, scan};

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{BoxFuture, Shared};
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::acme::{self, Ca};
use crate::config::Config;
use crate::deploy::Session;
use crate::dns::Zones;
use crate::dns::lookup::Lookup;
use crate::model::history::How;
use crate::model::name::{CertName, DnsAccountName, HostName, IssuerName};
use crate::model::observed::Observed;
use crate::model::plan::{Action, Deploying, Install, Issuing, Plan, Request, plan};
use crate::model::problem::Problem;
use crate::model::state::State;
use crate::store::{Loaded, Store};

/// Orders under way at once: Let's Encrypt allows 300 new orders in 3 hours, and each waits for DNS.
const ORDERS: usize = 32;
/// For removing our records when a run is told to end.
const LAST_CLEAN_UP: Duration = Duration::from_secs(20);

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
    sessions: Mutex<HashMap<HostName, Arc<Session>>>,
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

/// What one of the things under way came to.
enum Done {
    Observed(HostName, BTreeMap<CertName, Vec<crate::model::observed::Look>>),
    /// The CA was asked for its renewal window; the state in the store is new if it answered.
    Asked(CertName),
    Issued(CertName, Box<issue::Outcome>),
    CleanedUp(CertName, Result<usize, Problem>),
    Deployed(HostName, Vec<deploy::Outcome>),
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
            sessions: Mutex::default(),
        })
    }

    /// Says what has this program run, for the history; without it somebody at the command line.
    #[must_use]
    pub fn run_by(self, how: How) -> Self {
        self.listener.run_by(how);
        self
    }

    /// One pass to its end: until `stop` resolves or nothing is left but waiting.
    pub async fn pass(
        &self,
        request: &Request,
        stop: impl Future<Output = ()>,
    ) -> Result<Summary, StartError> {
        let Loaded { state, unreadable, .. } =
            self.store.load(Timestamp::now()).map_err(StartError::Store)?;
        let mut pass = Pass::new(self, request, state);
        for (name, problem) in unreadable {
            if request.selects(&name) {
                pass.block(name, problem);
            }
        }
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
        let (summary, observed) = pass.end();
        if interrupted {
            // Dropping the work has released the locks; what was presented is in the journal.
            let _ = tokio::time::timeout(LAST_CLEAN_UP, self.clean_up_everything(request)).await;
        }
        self.close_sessions().await;
        self.observer.record(&self.store, observed);
        Ok(summary)
    }

    fn tell(&self, event: Event) {
        self.listener.notice(&event);
    }

    async fn close_sessions(&self) {
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        futures::future::join_all(sessions.into_values().filter_map(Arc::into_inner).map(Session::close))
            .await;
    }

    fn account(&self, name: &DnsAccountName) -> Option<&Arc<crate::dns::Account>> {
        self.config.dns.get(name)
    }
}

/// A pass under way.
struct Pass<'a> {
    engine: &'a Engine,
    request: &'a Request,
    state: State,
    observed: Observed,
    seen: BTreeSet<HostName>,
    /// Certificates whose issuing is under way.
    issuing: BTreeSet<CertName>,
    /// Certificates that nothing is done for: their state cannot be read.
    blocked: BTreeSet<CertName>,
    /// One attempt each: what was tried in this pass is not tried again in it.
    tried: BTreeSet<(CertName, HostName, crate::model::name::VersionNumber)>,
    tried_issuing: BTreeSet<(CertName, IssuerName)>,
    /// Installs that wait for the transaction now under way on their host.
    queues: BTreeMap<HostName, Vec<Install>>,
    busy: BTreeSet<HostName>,
    running: FuturesUnordered<BoxFuture<'a, Done>>,
    summary: Summary,
}

impl<'a> Pass<'a> {
    fn new(engine: &'a Engine, request: &'a Request, state: State) -> Self {
        let observed = engine.observer.judge_ours(&engine.store, &state, request);
        Self {
            engine,
            request,
            state,
            observed,
            seen: BTreeSet::new(),
            issuing: BTreeSet::new(),
            blocked: BTreeSet::new(),
            tried: BTreeSet::new(),
            tried_issuing: BTreeSet::new(),
            queues: BTreeMap::new(),
            busy: BTreeSet::new(),
            running: FuturesUnordered::new(),
            summary: Summary::default(),
        }
    }

    /// Everything that can begin at once: looking at hosts, asking the CA, issuing, cleaning up.
    fn start(&mut self) {
        let engine = self.engine;
        let hosts = engine.observer.hosts_of(self.request);
        if self.request.deploying != Deploying::No {
            engine.tell(Event::Observing(hosts.len()));
            for (host, certificates) in hosts {
                self.running.push(Box::pin(async move {
                    let looks = engine.observer.look_at(&host, &certificates).await;
                    Done::Observed(host, looks)
                }));
            }
        }
        let names: Vec<CertName> = engine
            .config
            .desired
            .certificates
            .keys()
            .filter(|name| self.request.selects(name))
            .cloned()
            .collect();
        for name in names {
            if self.request.issuing == Issuing::Due && engine.should_ask(&name, &self.state) {
                self.running.push(Box::pin(async move {
                    engine.ask_renewal_info(&name).await;
                    Done::Asked(name)
                }));
            } else {
                self.plan_issuing(&name);
            }
        }
        self.plan_clean_up();
    }

    /// A certificate whose state cannot be read: reported, and nothing is done for it.
    fn block(&mut self, name: CertName, problem: Problem) {
        self.engine.tell(Event::IssueFailed(name.clone(), problem.clone(), None));
        self.summary.failed.push((name.clone(), None, problem));
        self.blocked.insert(name);
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Observed(host, looks) => {
                self.engine.note_served(&host, &looks, &mut self.state);
                self.observed.looks.insert(host.clone(), looks);
                self.seen.insert(host.clone());
                self.plan_deploying(None, &BTreeSet::from([host]));
            }
            Done::Asked(name) => {
                if let Ok(known) = self.engine.store.certificate(&name) {
                    self.state.certificates.insert(name.clone(), known);
                }
                self.plan_issuing(&name);
            }
            Done::Issued(name, outcome) => {
                self.issuing.remove(&name);
                self.take_issued(&name, *outcome);
                let seen = self.seen.clone();
                self.plan_deploying(Some(&name), &seen);
            }
            Done::CleanedUp(name, Ok(count)) => self.engine.tell(Event::CleanedUp(name, count)),
            Done::CleanedUp(name, Err(problem)) => {
                self.engine.tell(Event::CleanUpFailed(name.clone(), problem.clone()));
                self.summary.failed.push((name, None, problem));
            }
            Done::Deployed(host, outcomes) => {
                self.busy.remove(&host);
                for outcome in outcomes {
                    self.take_deployed(&host, outcome);
                }
                self.feed(&host);
            }
        }
    }

    fn take_issued(&mut self, name: &CertName, outcome: issue::Outcome) {
        match outcome {
            issue::Outcome::Issued { number, known } => {
                if let Some(version) = known.versions.get(&number) {
                    self.summary.issued.push((name.clone(), number, version.not_after));
                }
                self.state.certificates.insert(name.clone(), known);
                self.judge(name);
            }
            issue::Outcome::AlreadyDone { known } => {
                self.engine.tell(Event::AlreadyIssued(name.clone()));
                self.state.certificates.insert(name.clone(), known);
                self.judge(name);
            }
            issue::Outcome::OrderOver { known } => {
                self.engine.tell(Event::OrderOver(name.clone()));
                self.state.certificates.insert(name.clone(), known);
            }
            issue::Outcome::Failed { problem, next, known } => {
                if let Some(known) = known {
                    self.state.certificates.insert(name.clone(), known);
                }
                self.plan_issuing(name);
                if self.issuing.contains(name) {
                    return self.engine.tell(Event::NextIssuer(name.clone(), problem));
                }
                self.engine.tell(Event::IssueFailed(name.clone(), problem.clone(), next));
                self.summary.failed.push((name.clone(), None, problem));
            }
            issue::Outcome::Locked(holder) => self.summary.locked.push((name.clone(), holder)),
        }
    }

    fn judge(&mut self, name: &CertName) {
        self.engine.observer.judge_one(&self.engine.store, name, &self.state, &mut self.observed);
    }

    fn take_deployed(&mut self, host: &HostName, outcome: deploy::Outcome) {
        let deploy::Outcome { certificate, version, facts, looks, result } = outcome;
        if let Some(facts) = facts {
            self.state.hosts.entry(host.clone()).or_default().insert(certificate.clone(), facts);
        }
        if !looks.is_empty() {
            self.observed.looks.entry(host.clone()).or_default().insert(certificate.clone(), looks);
        }
        match result {
            deploy::Result::Served => self.summary.served.push((certificate, host.clone(), version)),
            deploy::Result::Pending(problem) => {
                self.summary.pending.push((certificate, host.clone(), problem))
            }
            deploy::Result::Failed(problem) => {
                self.summary.failed.push((certificate, Some(host.clone()), problem))
            }
        }
    }

    fn ask(
        &self,
        only: Option<&CertName>,
        hosts: Option<BTreeSet<HostName>>,
        issuing: Issuing,
        deploying: Deploying,
    ) -> Plan {
        let mut request = self.request.clone();
        request.issuing = issuing;
        request.deploying = deploying;
        if let Some(name) = only {
            request.only = Some(BTreeSet::from([name.clone()]));
        }
        if let Some(mut hosts) = hosts {
            if let Some(asked) = &self.request.hosts {
                hosts.retain(|host| asked.contains(host));
            }
            request.hosts = Some(hosts);
        }
        plan(&self.engine.config.desired, &self.state, &self.observed, &request, Timestamp::now())
    }

    fn plan_issuing(&mut self, name: &CertName) {
        if self.request.issuing == Issuing::No || self.blocked.contains(name) {
            return;
        }
        let plan = self.ask(Some(name), None, self.request.issuing, Deploying::No);
        for action in plan.actions {
            if let Action::Issue { certificate, issuer, because, .. } = action
                && self.tried_issuing.insert((certificate.clone(), issuer.clone()))
            {
                self.issuing.insert(certificate.clone());
                let (engine, request) = (self.engine, self.request);
                engine.tell(Event::Issuing(certificate.clone(), issuer, because));
                self.running.push(Box::pin(async move {
                    let outcome = engine.issue(&certificate, request).await;
                    Done::Issued(certificate, Box::new(outcome))
                }));
            }
        }
    }

    fn plan_clean_up(&mut self) {
        if self.request.issuing == Issuing::No {
            return;
        }
        let plan = self.ask(None, None, Issuing::No, Deploying::No);
        for action in plan.actions {
            if let Action::CleanUp { certificate, .. } = action
                && !self.issuing.contains(&certificate)
            {
                let engine = self.engine;
                self.running.push(Box::pin(async move {
                    let result = engine.clean_up(&certificate).await;
                    Done::CleanedUp(certificate, result)
                }));
            }
        }
    }

    fn plan_deploying(&mut self, only: Option<&CertName>, hosts: &BTreeSet<HostName>) {
        if self.request.deploying == Deploying::No {
            return;
        }
        let plan = self.ask(only, Some(hosts.clone()), Issuing::No, self.request.deploying);
        let forced = matches!(self.request.issuing, Issuing::Forced(_));
        let mut fed = BTreeSet::new();
        for action in plan.actions {
            let Action::Deploy { host, installs } = action else { continue };
            for install in installs {
                // What is being issued by force is about to be replaced: no host gets it twice.
                let blocked = self.blocked.contains(&install.certificate)
                    || (forced && self.issuing.contains(&install.certificate));
                if !blocked && self.tried.insert((install.certificate.clone(), host.clone(), install.version))
                {
                    self.queues.entry(host.clone()).or_default().push(install);
                    fed.insert(host.clone());
                }
            }
        }
        for host in fed {
            self.feed(&host);
        }
    }

    /// Starts one transaction for everything that waits for a host, unless one is under way.
    fn feed(&mut self, host: &HostName) {
        if self.busy.contains(host) {
            return;
        }
        let Some(installs) = self.queues.remove(host) else { return };
        self.busy.insert(host.clone());
        let engine = self.engine;
        let host = host.clone();
        let force = matches!(self.request.deploying, Deploying::Forced(_));
        let before = self.observed.looks.get(&host).cloned().unwrap_or_default();
        engine.tell(Event::Deploying(host.clone(), installs.clone()));
        self.running.push(Box::pin(async move {
            let outcomes = engine.deploy(&host, installs, before, force).await;
            Done::Deployed(host, outcomes)
        }));
    }

    /// What it came to; what waits is what a new plan would still leave waiting.
    fn end(mut self) -> (Summary, Observed) {
        let issuing = if self.request.issuing == Issuing::No { Issuing::No } else { Issuing::Due };
        let deploying =
            if self.request.deploying == Deploying::No { Deploying::No } else { Deploying::Lacking };
        let plan = self.ask(None, None, issuing, deploying);
        let blocked = &self.blocked;
        self.summary.waiting =
            plan.waiting.into_iter().filter(|waiting| !blocked.contains(waiting.certificate())).collect();
        (self.summary, self.observed)
    }
}

/// Locks a mutex whose holders never panic while holding it.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
