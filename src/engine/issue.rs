//! Issuing one certificate: one attempt, under its lock, with everything durable before its effect.

mod error;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use zeroize::Zeroizing;

use self::error::Error;
use super::apart::blocking;
use super::solve::Answers;
use super::{Engine, Event, lock};
use crate::acme::{self, Ca, Issued, Journal, Step, Wanted};
use crate::model::desired::{Certificate, Issuer};
use crate::model::name::{CertName, IssuerName, VersionNumber};
use crate::model::plan::{Action, Because, Deploying, Issuing, Request, plan};
use crate::model::problem::{Diagnose, Problem};
use crate::model::schedule::{self, NextAttempt};
use crate::model::state::{CertState, Failure, OpenOrder, Reason, State, Version};
use crate::secret::Secret;
use crate::store::{CertLock, SaveError, VersionFiles};

/// For one order, from the first request to the certificate; the CA's own steps have shorter ones.
const ORDER: Duration = Duration::from_secs(15 * 60);

/// What one attempt came to.
pub(super) enum Outcome {
    /// A new version is in the store.
    Issued { number: VersionNumber, known: CertState },
    /// It was not needed any more once the lock was ours.
    AlreadyDone { known: CertState },
    /// The order that a run had left open is over without a certificate, and nothing else is due.
    OrderOver { known: CertState },
    /// No new version; noted in the store where that was possible.
    Failed { problem: Problem, next: Option<Timestamp>, known: Option<CertState> },
    /// Another process kept the lock for longer than we wait.
    Locked(String),
}

impl Engine {
    /// One attempt at a new version of a certificate.
    pub(super) async fn issue(&self, name: &CertName, request: &Request) -> Outcome {
        let certificate = &self.config.desired.certificates[name];
        let turn = match self.turn(name, "renewing").await {
            Ok(Some(turn)) => turn,
            Ok(None) => return Outcome::Locked(self.holder(name)),
            Err(error) => return failed(&Error::Lock(name.clone(), error)),
        };
        let (began, cert_lock) = (Instant::now(), &turn.cert_lock);
        let known = match self.store.certificate(name) {
            Ok(known) => known,
            Err(error) => return failed(&Error::Load(name.clone(), error)),
        };
        let Some((because, issuer)) = self.still_wanted(name, &known, request) else {
            // The process that was faster may have died before it removed its records.
            if let Err(problem) = self.clean_up_of(name).await {
                self.tell(Event::CleanUpFailed(name.clone(), problem));
            }
            return already_done(known, request);
        };
        let issuer = &self.config.desired.issuers[&issuer];
        let attempt = Attempt {
            engine: self,
            certificate,
            issuer,
            cert_lock,
            known: Mutex::new(known),
            may_order: because != Because::Unfinished,
        };
        let result = match tokio::time::timeout(ORDER, attempt.run()).await {
            Ok(result) => result,
            Err(_) => Err(Error::Deadline { certificate: name.clone() }),
        };
        // Success or not, our records go; what cannot be removed stays noted and is a later action.
        if let Err(problem) = self.clean_up_of(name).await {
            self.tell(Event::CleanUpFailed(name.clone(), problem));
        }
        let known = attempt.known.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        match result {
            Ok(None) => match self.store.save_certificate(cert_lock, &known) {
                Ok(()) => Outcome::OrderOver { known },
                Err(error) => failed(&Error::Save(name.clone(), error)),
            },
            Ok(Some(number)) => {
                if let Some(version) = known.versions.get(&number) {
                    self.tell(Event::Issued(name.clone(), number, version.not_after, began.elapsed()));
                }
                Outcome::Issued { number, known }
            }
            Err(error) => self.note_failure(certificate, issuer, cert_lock, known, &error),
        }
    }

    /// Asks the plan again after the lock is ours: another process may have been faster. Why, and who is to
    /// issue it?
    fn still_wanted(
        &self,
        name: &CertName,
        known: &CertState,
        request: &Request,
    ) -> Option<(Because, IssuerName)> {
        let state = State { certificates: [(name.clone(), known.clone())].into(), ..State::default() };
        let request =
            Request { only: Some([name.clone()].into()), deploying: Deploying::No, ..request.clone() };
        let plan = plan(
            &self.config.desired,
            &state,
            &crate::model::observed::Observed::default(),
            &request,
            Timestamp::now(),
        );
        plan.actions.into_iter().find_map(|action| match action {
            Action::Issue { because, issuer, .. } => Some((because, issuer)),
            _ => None,
        })
    }

    fn note_failure(
        &self,
        certificate: &Certificate,
        issuer: &Issuer,
        cert_lock: &CertLock,
        mut known: CertState,
        error: &Error,
    ) -> Outcome {
        let problem = Problem::of(error);
        let now = Timestamp::now();
        let own = error.is_of_the_issuer();
        let earlier = if own { known.failures.remove(&issuer.name) } else { known.failure.take() }
            .filter(|failure| failure.revision == certificate.revision);
        let failure = Failure {
            count: earlier.as_ref().map_or(1, |failure| failure.count.saturating_add(1)),
            first: earlier.map_or(now, |failure| failure.first),
            last: now,
            problem: problem.clone(),
            revision: certificate.revision.clone(),
        };
        let newest = known.newest().map(|(_, version)| version);
        let next = match schedule::next_attempt(&failure, &certificate.revision, newest) {
            NextAttempt::At(at) => Some(at),
            NextAttempt::AfterChange => None,
        };
        match own {
            true => drop(known.failures.insert(issuer.name.clone(), failure)),
            false => known.failure = Some(failure),
        }
        let saved = blocking(|| self.store.save_certificate(cert_lock, &known));
        if let Err(error) = saved {
            // The first problem is the one to mend; that it could not be noted is said beside it.
            self.tell(Event::NotNoted(Problem::of(&error)));
        }
        Outcome::Failed { problem, next, known: Some(known) }
    }
}

/// One attempt under way.
struct Attempt<'a> {
    engine: &'a Engine,
    certificate: &'a Certificate,
    issuer: &'a Issuer,
    cert_lock: &'a CertLock,
    known: Mutex<CertState>,
    /// False when only the order that is open already is to be brought to its end.
    may_order: bool,
}

/// The key of an open order, and where the order is if the CA has answered.
struct OpenKey {
    key_pem: Zeroizing<String>,
    url: Option<String>,
}

impl Attempt<'_> {
    fn name(&self) -> &CertName {
        &self.certificate.name
    }

    /// The new version; none when an open order was to be ended and is over without one.
    async fn run(&self) -> Result<Option<VersionNumber>, Error> {
        let issuer = self.issuer;
        let ca = self.engine.ca(issuer).await.map_err(|error| Error::Ca(self.name().clone(), error))?;
        if let Some(OpenKey { key_pem, url }) = self.open_order(issuer)? {
            let resumed = url.is_some();
            match self.order(&ca, issuer, key_pem, url).await {
                // An order that an earlier run left can have ended meanwhile: then a new one. A new one
                // that ends badly is this attempt's failure: another would only burn the CA's limits.
                Err(Error::Acme(_, error)) if resumed && error.order_is_over() => {}
                result => return result.map(Some),
            }
        }
        if !self.may_order {
            lock(&self.known).order = None;
            return Ok(None);
        }
        self.read_secrets()?;
        let key_pem = blocking(|| self.new_key(issuer))?;
        self.order(&ca, issuer, key_pem, None).await.map(Some)
    }

    /// Without the secrets of its DNS account the order would be spent in vain. A program is not run twice.
    fn read_secrets(&self) -> Result<(), Error> {
        let account = self.engine.account(&self.certificate.dns);
        let secrets = account.iter().flat_map(|account| &account.secrets);
        let read = |secret: &Secret| match secret {
            Secret::Command(_) => Ok(()),
            secret => secret.read().map(drop),
        };
        blocking(|| secrets.into_iter().try_for_each(read)).map_err(|source| Error::Secret {
            certificate: self.name().clone(),
            account: self.certificate.dns.clone(),
            source,
        })
    }

    async fn order(
        &self,
        ca: &Ca,
        issuer: &Issuer,
        key_pem: Zeroizing<String>,
        resume: Option<String>,
    ) -> Result<VersionNumber, Error> {
        let replaces = {
            let known = lock(&self.known);
            let newest = known.newest().map(|(_, version)| version);
            newest
                .filter(|version| version.directory == issuer.directory && ca.has_ari())
                .and_then(|version| version.ari_id.clone())
        };
        let wanted = Wanted {
            domains: self.certificate.domains.clone(),
            key: self.certificate.key,
            profile: self.certificate.profile(issuer).map(str::to_owned),
            preferred_chain: self.certificate.preferred_chain(issuer).map(str::to_owned),
            replaces,
            resume,
            key_pem: key_pem.clone(),
        };
        let answers = Answers { engine: self.engine, certificate: self.certificate };
        let progress = |step: Step| self.engine.tell(Event::Step(self.name().clone(), step));
        let issued = ca.issue(&wanted, self, &answers, &progress).await.map_err(|error| {
            if error.order_is_over() {
                lock(&self.known).order = None;
            }
            Error::Acme(self.name().clone(), error)
        })?;
        if !issued.offered.is_empty() {
            self.engine.tell(Event::OtherChain(
                self.name().clone(),
                issued.top.clone(),
                issued.offered.clone(),
            ));
        }
        blocking(|| self.keep(issuer, issued, key_pem))
    }

    /// The key of the open order, if there is one for just this, and its URL if the CA has given one.
    fn open_order(&self, issuer: &Issuer) -> Result<Option<OpenKey>, Error> {
        let known = lock(&self.known);
        let Some(order) = known.order.as_ref().filter(|order| {
            order.domains == self.certificate.domains
                && order.directory == issuer.directory
                && order.key == self.certificate.key
                && order.profile.as_deref() == self.certificate.profile(issuer)
        }) else {
            return Ok(None);
        };
        let key = self.engine.store.order_key(self.name());
        let key = key.map_err(|error| Error::Load(self.name().clone(), error))?;
        Ok(key.map(|key_pem| OpenKey { key_pem, url: order.url.clone() }))
    }

    /// The key for a new order, durable, with the note that the order is about to be made.
    fn new_key(&self, issuer: &Issuer) -> Result<Zeroizing<String>, Error> {
        let store = &self.engine.store;
        let save = |error| Error::Save(self.name().clone(), error);
        let mut known = lock(&self.known);
        let key = match self.old_key(&known)? {
            Some(key) => key,
            None => {
                acme::new_key(self.certificate.key).map_err(|error| Error::Key(self.name().clone(), error))?
            }
        };
        // The order before, forgotten first: its URL must never stand beside another key.
        known.order = None;
        store.save_certificate(self.cert_lock, &known).map_err(save)?;
        store.save_order_key(self.cert_lock, &key).map_err(save)?;
        known.order = Some(OpenOrder {
            url: None,
            domains: self.certificate.domains.clone(),
            issuer: issuer.name.clone(),
            directory: issuer.directory.clone(),
            key: self.certificate.key,
            profile: self.certificate.profile(issuer).map(str::to_owned),
            started: Timestamp::now(),
        });
        store.save_certificate(self.cert_lock, &known).map_err(save)?;
        Ok(key)
    }

    /// The key of the newest version, where certs.toml asks to keep it, it is of the type asked for, and nobody
    /// else has it.
    fn old_key(&self, known: &CertState) -> Result<Option<Zeroizing<String>>, Error> {
        let Some((number, version)) = known.newest().filter(|_| self.certificate.reuse_key) else {
            return Ok(None);
        };
        if version.key != self.certificate.key {
            return Ok(None);
        }
        let key = |number| match self.engine.store.version(self.name(), number) {
            Ok(files) => Ok(files.privkey),
            Err(error) => Err(Error::Load(self.name().clone(), error)),
        };
        let newest = key(number)?;
        for (number, version) in &known.versions {
            let lost = version.revoked.as_ref().is_some_and(|it| it.reason == Reason::KeyCompromise);
            if lost && key(*number)? == newest {
                return Ok(None);
            }
        }
        Ok(Some(newest))
    }

    /// Files first, then the fact that they are there; the order stays open until then.
    fn keep(
        &self,
        issuer: &Issuer,
        issued: Issued,
        key_pem: Zeroizing<String>,
    ) -> Result<VersionNumber, Error> {
        let store = &self.engine.store;
        let save = |error| Error::Save(self.name().clone(), error);
        let mut known = lock(&self.known);
        let number = known.newest().map_or(VersionNumber::FIRST, |(number, _)| number.next());
        let files = VersionFiles {
            privkey: key_pem,
            fullchain: issued.fullchain,
            cert: issued.cert,
            chain: issued.chain,
        };
        store
            .save_version(self.cert_lock, number, &files)
            .map_err(|error| Error::Keep(self.name().clone(), error))?;
        known.versions.insert(
            number,
            Version {
                domains: self.certificate.domains.clone(),
                issuer: issuer.name.clone(),
                directory: issuer.directory.clone(),
                key: self.certificate.key,
                serial: issued.leaf.serial,
                fingerprint: issued.leaf.fingerprint,
                not_before: issued.leaf.not_before,
                not_after: issued.leaf.not_after,
                issued_at: Timestamp::now(),
                ari_id: issued.leaf.ari_id,
                revoked: None,
            },
        );
        known.order = None;
        known.failure = None;
        known.failures.clear();
        known.renewal_info = None;
        let pruned = self.forget_old(&mut known);
        store.save_certificate(self.cert_lock, &known).map_err(save)?;
        if pruned && let Err(error) = self.prune(&known) {
            tracing::warn!(certificate = %self.name(), "cannot remove old versions: {error}");
        }
        if let Err(error) = store.drop_order_key(self.cert_lock) {
            tracing::warn!(certificate = %self.name(), "cannot remove the key of the finished order: {error}");
        }
        Ok(number)
    }

    /// Leaves out the versions that nobody needs any more; whether there were any.
    fn forget_old(&self, known: &mut CertState) -> bool {
        let now = Timestamp::now();
        if known.disposable(&BTreeSet::new(), now).is_empty() {
            return false;
        }
        // What some host may have is kept, and so is everything while that cannot be known.
        let Ok(installed) = self.engine.store.installed_versions(self.name()) else { return false };
        let disposable = known.disposable(&installed, now);
        known.versions.retain(|number, _| !disposable.contains(number));
        !disposable.is_empty()
    }

    /// Removes the files of all versions that are no longer known.
    fn prune(&self, known: &CertState) -> Result<(), SaveError> {
        let keep: Vec<VersionNumber> = known.versions.keys().copied().collect();
        self.engine.store.prune_versions(self.cert_lock, &keep)
    }
}

impl Journal for Attempt<'_> {
    fn ordered(&self, url: &str) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
        let mut known = lock(&self.known);
        if let Some(order) = &mut known.order {
            order.url = Some(url.to_owned());
        }
        blocking(|| self.engine.store.save_certificate(self.cert_lock, &known)).map_err(boxed)
    }
}

/// Another process was faster: with a new version, or with a failure that is now ours to tell.
fn already_done(known: CertState, request: &Request) -> Outcome {
    let missing = match (request.issuing, known.newest()) {
        (Issuing::Forced(asked), Some((_, version))) => version.issued_at < asked,
        (_, newest) => newest.is_none(),
    };
    match known.last_failure() {
        Some(failure) if missing => {
            Outcome::Failed { problem: failure.problem.clone(), next: None, known: Some(known) }
        }
        _ => Outcome::AlreadyDone { known },
    }
}

/// An error for the adapter that asked.
pub(super) fn boxed(error: impl Diagnose + Send + Sync + 'static) -> Box<dyn Diagnose + Send + Sync> {
    Box::new(error)
}

fn failed(error: &Error) -> Outcome {
    Outcome::Failed { problem: Problem::of(error), next: None, known: None }
}
