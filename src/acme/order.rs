//! One order, from its creation (or wherever it was left) to the certificate.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, Identifier, NewOrder, Order, OrderStatus,
};
use jiff::Timestamp;

use super::budget::{Budget, Stop};
use super::call::{CallError, Tries, Twice, Violation};
use super::check;
use super::error::{Doing, Error, Reasons};
use super::http::{Session, https};
use super::key::Key;
use super::problem::Refusal;
use super::proof::announce;
use super::{Challenge, Issued, Journal, Solver, Step, Wanted};
use crate::model::name::IssuerName;

/// An order under way.
pub(super) struct Run<'a> {
    pub(super) issuer: &'a IssuerName,
    pub(super) account: &'a Account,
    pub(super) session: &'a Session,
    pub(super) wanted: &'a Wanted,
    pub(super) journal: &'a dyn Journal,
    pub(super) solver: &'a dyn Solver,
    pub(super) progress: &'a (dyn Fn(Step) + Sync),
}

impl Run<'_> {
    /// Does whatever the order's state asks for, until there is a certificate.
    pub(super) async fn finish(&self) -> Result<Issued, Error> {
        // First of all, because without the key an order is worth nothing.
        let key = Key::read(&self.wanted.key_pem, self.wanted.key)?;
        let request = key.request(&self.wanted.domains)?;
        let mut time = Budget::new(self.issuer);
        let mut order = self.begin(&mut time).await?;
        self.prove(&mut order, &mut time).await?;
        let mut finalized = false;
        loop {
            match order.state().status {
                OrderStatus::Ready if !finalized => {
                    (self.progress)(Step::Finalizing);
                    time.spend(Doing::Finalize, finalize(&mut order, &request)).await?;
                    finalized = true;
                }
                OrderStatus::Pending | OrderStatus::Ready | OrderStatus::Processing => {
                    time.spend(Doing::Poll, self.follow(&mut order)).await?;
                }
                OrderStatus::Valid => {
                    (self.progress)(Step::Downloading);
                    let pem = time.spend(Doing::Download, download(&mut order)).await?;
                    let alternates = self.session.alternates();
                    let issued = self.accept(&pem, &key)?;
                    return Ok(self.prefer(issued, &alternates, &key).await);
                }
                OrderStatus::Invalid => return Err(self.invalid(&mut order, &mut time).await?),
            }
        }
    }

    /// Only until the CA would issue: the order is left as it is then.
    pub(super) async fn rehearse(&self) -> Result<(), Error> {
        let mut time = Budget::new(self.issuer);
        let mut order = self.begin(&mut time).await?;
        self.prove(&mut order, &mut time).await
    }

    async fn begin(&self, time: &mut Budget<'_>) -> Result<Order, Error> {
        let order = match &self.wanted.resume {
            Some(url) => time.spend(Doing::Resume, self.resume(url)).await?,
            None => time.spend(Doing::Order, self.create()).await?,
        };
        (self.progress)(Step::Ordered);
        Ok(order)
    }

    /// Proves control of every name that the CA does not remember.
    async fn prove(&self, order: &mut Order, time: &mut Budget<'_>) -> Result<(), Error> {
        let mut answered = false;
        loop {
            match order.state().status {
                OrderStatus::Pending if !answered => {
                    let mut parts = time.spend(Doing::Authorize, self.parts(order)).await?;
                    let open = self.open_challenges(&mut parts);
                    let challenges = time.spend(Doing::Authorize, open).await?;
                    self.present(challenges).await?;
                    (self.progress)(Step::Validating);
                    time.spend(Doing::Ready, announce(&mut parts)).await?;
                    answered = true;
                }
                OrderStatus::Pending => time.spend(Doing::Poll, self.follow(order)).await?,
                OrderStatus::Ready | OrderStatus::Processing | OrderStatus::Valid => return Ok(()),
                OrderStatus::Invalid => return Err(self.invalid(order, time).await?),
            }
        }
    }

    async fn invalid(&self, order: &mut Order, time: &mut Budget<'_>) -> Result<Error, Error> {
        let reasons = time.spend(Doing::Poll, reasons(order)).await?;
        Ok(Error::Invalid { issuer: self.issuer.clone(), reasons: Reasons(reasons) })
    }

    /// Creates the order. Nothing here is sent twice that might create a second one.
    async fn create(&self) -> Result<Order, Stop> {
        let identifiers: Vec<Identifier> =
            self.wanted.domains.iter().map(|domain| Identifier::Dns(domain.to_string())).collect();
        let mut replaces =
            self.wanted.replaces.as_deref().filter(|_| self.session.has_ari()).and_then(ari_id);
        let mut tries = Tries::new();
        loop {
            let mut new = NewOrder::new(&identifiers);
            if let Some(id) = &replaces {
                new = new.replaces(id.clone());
            }
            if let Some(profile) = &self.wanted.profile {
                new = new.profile(profile);
            }
            let error = match self.account.new_order(&new).await {
                Ok(order) => {
                    self.record(order.url())?;
                    return Ok(order);
                }
                Err(error) => error,
            };
            if let Some(url) = self.session.created() {
                // The order stands; some CAs only do not repeat `replaces` in the answer, which
                // instant-acme takes for a failure.
                self.record(&url)?;
                return self.fetch(&url).await.map_err(Stop::from);
            }
            let error = CallError::from(error);
            let may_be_replaces = |refusal: &Refusal| NOT_REPLACEABLE.iter().any(|name| refusal.is(name));
            if replaces.is_some() && error.refusal().is_some_and(may_be_replaces) {
                replaces = None;
            } else {
                tries.again(error, Twice::Harmful).await?;
            }
        }
    }

    fn record(&self, url: &str) -> Result<(), Stop> {
        https(url)?;
        self.journal.ordered(url).map_err(|cause| Error::Journal(cause.into()).into())
    }

    /// Finds the order that an earlier run began.
    async fn resume(&self, url: &str) -> Result<Order, Stop> {
        let gone = |cause| Stop::Other(Error::OrderGone { issuer: self.issuer.clone(), cause });
        https(url).map_err(|error| gone(Some(error.into())))?;
        match self.fetch(url).await {
            Ok(mut order) => match order.state().status {
                OrderStatus::Invalid => Err(gone(None)),
                _ => Ok(order),
            },
            Err(error) if error.is_gone() => Err(gone(Some(error))),
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch(&self, url: &str) -> Result<Order, CallError> {
        let mut tries = Tries::new();
        loop {
            match self.account.order(url.to_owned()).await {
                Ok(order) => return Ok(order),
                Err(error) => tries.again(error, Twice::Harmless).await?,
            }
        }
    }

    async fn present(&self, challenges: Vec<Challenge>) -> Result<(), Error> {
        if challenges.is_empty() {
            return Ok(());
        }
        (self.progress)(Step::Presenting(challenges.len()));
        self.solver
            .present(&challenges)
            .await
            .map_err(|cause| Error::Solver { issuer: self.issuer.clone(), cause: cause.into() })
    }

    /// Looks at the order until its status changes.
    async fn follow(&self, order: &mut Order) -> Result<(), CallError> {
        let before = order.state().status;
        let since = self.session.sent().map_or(Duration::ZERO, |sent| sent.elapsed());
        let (mut pause, mut wait) = match before {
            // While the last answer was on its way, the CA has begun to look.
            OrderStatus::Pending => (POLL_FIRST, POLL_FIRST.saturating_sub(since)),
            // One that is slow to answer is busy: issuing will take it longer, too.
            _ => (POLL_ISSUING, POLL_ISSUING.max(since)),
        };
        loop {
            tokio::time::sleep(wait).await;
            refresh(order).await?;
            if order.state().status != before {
                return Ok(());
            }
            pause = (pause * 3 / 2).min(POLL_LAST);
            wait = self.session.retry_after().map_or(pause, |wait| wait.max(pause));
            if wait > POLL_PATIENCE {
                let wait = wait.min(COME_BACK_MAX);
                return Err(CallError::NotYet { until: Timestamp::now() + wait });
            }
        }
    }

    pub(super) fn accept(&self, pem: &str, key: &Key) -> Result<Issued, Error> {
        check::check(pem, &self.wanted.domains, &key.public(), Timestamp::now())
            .map_err(|cause| Error::Certificate { issuer: self.issuer.clone(), cause })
    }
}

/// Sends the signing request. When an answer is lost, the order tells whether it arrived.
async fn finalize(order: &mut Order, request: &[u8]) -> Result<(), CallError> {
    let mut tries = Tries::new();
    loop {
        let error = match order.finalize_csr(request).await {
            Ok(()) => return Ok(()),
            Err(error) => CallError::from(error),
        };
        let maybe_done = error.maybe_done();
        tries.again(error, Twice::Harmless).await?;
        if maybe_done {
            refresh(order).await?;
            if order.state().status != OrderStatus::Ready {
                return Ok(());
            }
        }
    }
}

async fn refresh(order: &mut Order) -> Result<(), CallError> {
    let mut tries = Tries::new();
    while let Err(error) = order.refresh().await {
        tries.again(error, Twice::Harmless).await?;
    }
    Ok(())
}

async fn download(order: &mut Order) -> Result<String, CallError> {
    let mut tries = Tries::new();
    if order.state().certificate.is_none() {
        return Err(Violation::NoCertificate.into());
    }
    loop {
        match order.certificate().await {
            Ok(Some(pem)) => return Ok(pem),
            Ok(None) => return Err(Violation::NoCertificate.into()),
            Err(error) => tries.again(error, Twice::Harmless).await?,
        }
    }
}

/// What the CA says about each name of an invalid order, or else about the order.
async fn reasons(order: &mut Order) -> Result<Vec<Refusal>, CallError> {
    let mut reasons = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(next) = authorizations.next().await {
        // The reasons of the others are better than none.
        let Ok(mut authorization) = next else { continue };
        if authorization.status == AuthorizationStatus::Pending {
            let mut tries = Tries::new();
            while let Err(error) = authorization.refresh().await {
                if tries.again(error, Twice::Harmless).await.is_err() {
                    break;
                }
            }
        }
        let name = authorization.identifier().to_string();
        let problems = authorization.challenges.iter().filter_map(|challenge| challenge.error.clone());
        reasons.extend(problems.map(|problem| Refusal::from(problem).about(&name)));
    }
    if reasons.is_empty() {
        reasons.extend(order.state().error.clone().map(Refusal::from));
    }
    Ok(reasons)
}

/// An ARI identifier (RFC 9773 section 4.1) taken apart; `None` if it is none.
pub(super) fn ari_id(text: &str) -> Option<CertificateIdentifier<'_>> {
    let (authority, serial) = text.split_once('.')?;
    let base64url = |text: &str| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (base64url(authority) && base64url(serial))
        .then(|| CertificateIdentifier { authority_key_identifier: authority.into(), serial: serial.into() })
}

/// Types with which CAs refuse an order because of its `replaces` (RFC 9773 section 5; Boulder
/// says `unauthorized` for a certificate of another account, `malformed` for an unknown one; Pebble
/// `serverInternal` when it does not find it).
const NOT_REPLACEABLE: [&str; 4] = ["alreadyReplaced", "malformed", "unauthorized", "serverInternal"];
const POLL_FIRST: Duration = Duration::from_millis(50);
/// Pebble 2.10 can hang when it is asked for an order at the very moment in which it issues.
const POLL_ISSUING: Duration = Duration::from_millis(100);
const POLL_LAST: Duration = Duration::from_secs(5);
/// Who is asked to wait for longer comes back in another attempt.
const POLL_PATIENCE: Duration = Duration::from_secs(60);
const COME_BACK_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ari_identifier_has_two_parts_of_base64url() {
        let id = ari_id("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE").unwrap();
        assert_eq!(id.to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        for bad in ["", ".", "a", "a.", ".b", "a.b.c", "../x.y", "a/b.c", "a.b?c"] {
            assert!(ari_id(bad).is_none(), "{bad}");
        }
    }
}
