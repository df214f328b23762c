//! A pass under way: what was learnt, what is planned next, what runs.

mod looks;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use jiff::Timestamp;

use super::apart::Apart;
use super::{Engine, Event, Summary, deploy, issue, look};
use crate::model::name::{CertName, HostName, IssuerName, VersionNumber};
use crate::model::observed::{Look, Observed};
use crate::model::plan::{
    Action, Because, Begun, Deploying, Install, Issuing, Plan, Request, Waiting, plan, undeployed,
};
use crate::model::problem::Problem;
use crate::model::state::State;

/// What one of the things under way came to.
pub(super) enum Done {
    Observed(HostName, BTreeMap<CertName, Vec<Look>>),
    /// The CA was asked for its renewal window; the state in the store is new if it answered.
    Asked(CertName),
    Issued(CertName, Box<issue::Outcome>),
    CleanedUp(CertName, Result<usize, Problem>),
    Deployed(HostName, Vec<deploy::Outcome>),
    /// What lies on its disk.
    Looked(HostName, look::Looked),
}

/// A pass under way.
pub(super) struct Pass<'a> {
    pub(super) engine: &'a Arc<Engine>,
    request: &'a Arc<Request>,
    work: Apart,
    pub(super) state: State,
    observed: Observed,
    seen: BTreeSet<HostName>,
    /// Certificates whose issuing is under way.
    issuing: BTreeSet<CertName>,
    /// One attempt each: what was tried in this pass is not tried again in it.
    tried: BTreeSet<(CertName, HostName, VersionNumber)>,
    tried_issuing: BTreeSet<(CertName, IssuerName)>,
    /// Of certificates that are rolled out in steps: what was begun, so that the next step waits for it.
    begun: Begun,
    /// Installs that wait for the transaction now under way on their host.
    queues: BTreeMap<HostName, Vec<Install>>,
    busy: BTreeSet<HostName>,
    /// Hosts whose disk is to be looked at when nothing is to be deployed there, and those where somebody has looked.
    to_look: BTreeSet<HostName>,
    looked: BTreeSet<HostName>,
    pub(super) running: FuturesUnordered<BoxFuture<'a, Done>>,
    pub(super) summary: Summary,
}

impl<'a> Pass<'a> {
    pub(super) fn new(engine: &'a Arc<Engine>, request: &'a Arc<Request>, state: State) -> Self {
        let observed = engine.observer.judge_ours(&engine.store, &state, request);
        Self {
            engine,
            request,
            work: Apart::new(),
            state,
            observed,
            seen: BTreeSet::new(),
            issuing: BTreeSet::new(),
            tried: BTreeSet::new(),
            tried_issuing: BTreeSet::new(),
            begun: Begun::default(),
            queues: BTreeMap::new(),
            busy: BTreeSet::new(),
            to_look: BTreeSet::new(),
            looked: BTreeSet::new(),
            running: FuturesUnordered::new(),
            summary: Summary::default(),
        }
    }

    /// Everything that can begin at once: looking at hosts, asking the CA, issuing, cleaning up.
    pub(super) fn start(&mut self) {
        let engine = self.engine;
        let hosts = engine.observer.hosts_of(self.request);
        if self.request.deploying != Deploying::No {
            engine.tell(Event::Observing(hosts.len()));
            for (host, certificates) in hosts {
                let engine = Arc::clone(engine);
                self.running.push(Box::pin(self.work.begin(async move {
                    let looks = engine.observer.look_at(&host, &certificates).await;
                    Done::Observed(host, looks)
                })));
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
                let engine = Arc::clone(engine);
                self.running.push(Box::pin(self.work.begin(async move {
                    engine.ask_renewal_info(&name).await;
                    Done::Asked(name)
                })));
            } else {
                self.plan_issuing(&name);
            }
        }
        self.plan_clean_up();
    }

    pub(super) fn take(&mut self, done: Done) {
        match done {
            Done::Observed(host, looks) => {
                self.learn_what_is_served(&looks);
                self.engine.note_served(&host, &looks, &mut self.state);
                self.observed.looks.insert(host.clone(), looks);
                self.seen.insert(host.clone());
                self.plan_deploying(None, &BTreeSet::from([host.clone()]));
                self.roll_out(self.in_steps_on(&host));
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
            Done::CleanedUp(_, Ok(0)) => {}
            Done::CleanedUp(name, Ok(count)) => self.engine.tell(Event::CleanedUp(name, count)),
            Done::CleanedUp(name, Err(problem)) => {
                self.engine.tell(Event::CleanUpFailed(name.clone(), problem.clone()));
                self.summary.failed.push((name, None, problem));
            }
            Done::Deployed(host, outcomes) => {
                self.busy.remove(&host);
                // Who is there looks around; where nobody got in nobody tries again in this pass.
                match outcomes.iter().any(deploy::Outcome::been_there) {
                    true => self.to_look.insert(host.clone()),
                    false => self.to_look.remove(&host),
                };
                let deployed: Vec<_> =
                    outcomes.iter().map(|it| (it.certificate.clone(), it.version)).collect();
                for outcome in outcomes {
                    self.take_deployed(&host, outcome);
                }
                let in_steps = deployed.iter().map(|(name, _)| name.clone());
                self.roll_out(in_steps.filter(|name| self.goes_in_steps(name)).collect());
                // Another process may have put a newer one there just before: ours must not stay on top.
                for (name, version) in deployed {
                    if self.learn(&name, Some(version)) {
                        let seen = self.seen.clone();
                        self.plan_deploying(Some(&name), &seen);
                    }
                }
                self.feed(&host);
            }
            Done::Looked(host, looked) => self.take_looked(&host, looked),
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

    pub(super) fn judge(&mut self, name: &CertName) {
        self.engine.observer.judge_one(&self.engine.store, name, &self.state, &mut self.observed);
    }

    fn take_deployed(&mut self, host: &HostName, outcome: deploy::Outcome) {
        let deploy::Outcome { certificate, version, facts, looks, result } = outcome;
        let this = (certificate.clone(), host.clone());
        // What nobody knows the end of is under way until somebody has looked.
        if !matches!(result, deploy::Result::Unknown(_)) && self.begun.under_way.remove(&this) {
            self.begun.over.insert(this);
        }
        if let Some(facts) = facts {
            self.state.hosts.entry(host.clone()).or_default().insert(certificate.clone(), facts);
        }
        if let (deploy::Result::Served, Some(why)) = (&result, looks.iter().find_map(Look::distrust)) {
            self.summary.untrusted.push((certificate.clone(), host.clone(), why.to_owned()));
        }
        let mut seen: Vec<SocketAddr> = looks.iter().map(|look| look.address).collect();
        seen.dedup();
        if !looks.is_empty() {
            self.observed.looks.entry(host.clone()).or_default().insert(certificate.clone(), looks);
        }
        match result {
            deploy::Result::Served => self.summary.served.push((certificate, host.clone(), version, seen)),
            deploy::Result::Pending(problem) => {
                self.summary.pending.push((certificate, host.clone(), problem))
            }
            deploy::Result::Failed(problem) | deploy::Result::Unknown(problem) => {
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
        let mut request = Request::clone(self.request);
        request.issuing = issuing;
        request.deploying = deploying;
        request.begun = self.begun.clone();
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
        if self.request.issuing == Issuing::No {
            return;
        }
        let plan = self.ask(Some(name), None, self.request.issuing, Deploying::No);
        for action in plan.actions {
            if let Action::Issue { certificate, issuer, because, .. } = action
                && self.tried_issuing.insert((certificate.clone(), issuer.clone()))
            {
                self.issuing.insert(certificate.clone());
                if because == Because::Forced {
                    self.tell_undeployed(&certificate);
                }
                let (engine, request) = (Arc::clone(self.engine), Arc::clone(self.request));
                engine.tell(Event::Issuing(certificate.clone(), issuer, because));
                self.running.push(Box::pin(self.work.begin(async move {
                    let outcome = engine.issue(&certificate, &request).await;
                    Done::Issued(certificate, Box::new(outcome))
                })));
            }
        }
    }

    /// What is asked for may be there already, in the store.
    fn tell_undeployed(&self, name: &CertName) {
        let certificate = &self.engine.config.desired.certificates[name];
        if let Some((version, hosts)) = undeployed(certificate, &self.state, Timestamp::now()) {
            let hosts = hosts.into_iter().cloned().collect();
            self.engine.tell(Event::DeployWouldDo(name.clone(), version, hosts));
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
                let engine = Arc::clone(self.engine);
                self.running.push(Box::pin(self.work.begin(async move {
                    let result = engine.clean_up(&certificate).await;
                    Done::CleanedUp(certificate, result)
                })));
            }
        }
    }

    fn plan_deploying(&mut self, only: Option<&CertName>, hosts: &BTreeSet<HostName>) {
        for host in self.enqueue(only, hosts) {
            self.feed(&host);
        }
    }

    /// Puts what hosts lack into their queues; which hosts got something.
    fn enqueue(&mut self, only: Option<&CertName>, hosts: &BTreeSet<HostName>) -> BTreeSet<HostName> {
        let mut fed = BTreeSet::new();
        if self.request.deploying == Deploying::No {
            return fed;
        }
        let plan = self.ask(only, Some(hosts.clone()), Issuing::No, self.request.deploying);
        let forced = matches!(self.request.issuing, Issuing::Forced(_));
        for action in plan.actions {
            let (host, installs) = match action {
                Action::Deploy { host, installs } => (host, installs),
                Action::Look { host, .. } if only.is_none() => {
                    self.to_look.insert(host.clone());
                    fed.insert(host);
                    continue;
                }
                _ => continue,
            };
            for install in installs {
                // What is being issued by force is about to be replaced: no host gets it twice.
                let replaced = forced && self.issuing.contains(&install.certificate);
                if !replaced
                    && self.may_roll(&install.certificate)
                    && self.tried.insert((install.certificate.clone(), host.clone(), install.version))
                {
                    self.note_step(&install, &host);
                    self.queues.entry(host.clone()).or_default().push(install);
                    fed.insert(host.clone());
                }
            }
        }
        fed
    }

    /// Starts one transaction for everything that waits for a host, unless one is under way.
    fn feed(&mut self, host: &HostName) {
        if self.busy.contains(host) {
            return;
        }
        let (mut installs, mut others) = (Vec::new(), BTreeSet::new());
        for install in self.queues.remove(host).unwrap_or_default() {
            // It may have waited for long.
            if self.learn(&install.certificate, Some(install.version)) {
                let seen = self.seen.clone();
                others.extend(self.enqueue(Some(&install.certificate), &seen));
            } else {
                installs.push(install);
            }
        }
        installs.extend(self.queues.remove(host).unwrap_or_default());
        match installs.is_empty() {
            true => self.look(host),
            false => self.start_deploying(host.clone(), installs),
        }
        others.remove(host);
        for other in others {
            self.feed(&other);
        }
    }

    fn start_deploying(&mut self, host: HostName, installs: Vec<Install>) {
        self.busy.insert(host.clone());
        let engine = Arc::clone(self.engine);
        let force = matches!(self.request.deploying, Deploying::Forced(_));
        let before = self.observed.looks.get(&host).cloned().unwrap_or_default();
        engine.tell(Event::Deploying(host.clone(), installs.clone()));
        self.running.push(Box::pin(self.work.begin(async move {
            let outcomes = engine.deploy(&host, installs, before, force).await;
            Done::Deployed(host, outcomes)
        })));
    }

    /// What it came to; what waits is what a new plan would still leave waiting.
    pub(super) fn end(mut self) -> (Summary, State, Observed, Apart) {
        let plan = self.ask(None, None, self.request.issuing, self.request.deploying);
        self.summary.wake = plan.wake();
        self.summary.asks = self.engine.next_question(&self.state);
        for waiting in plan.waiting {
            match waiting {
                // Asked for, and not done.
                Waiting::Unreadable(name, host, problem) => self.summary.failed.push((name, host, problem)),
                waiting => self.summary.waiting.push(waiting),
            }
        }
        (self.summary, self.state, self.observed, self.work)
    }
}
