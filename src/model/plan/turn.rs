//! Who issues next: the first issuer of the list that nothing speaks against.

use jiff::Timestamp;

use super::{Issuing, Request, Waiting, duplicate_until, is_for};
use crate::model::desired::{Certificate, Desired};
use crate::model::name::IssuerName;
use crate::model::schedule::{self, NextAttempt};
use crate::model::state::{CertState, Failure};

/// What came of asking whose turn it is.
pub(super) enum Turn<'a> {
    /// This issuer's.
    Of(&'a IssuerName),
    /// Nobody's yet: why not, of the issuer that comes first.
    Nobody(Waiting),
}

/// Whose turn it is to issue a certificate that is wanted.
pub(super) fn turn<'a>(
    certificate: &'a Certificate,
    known: &CertState,
    desired: &Desired,
    request: &Request,
    now: Timestamp,
) -> Turn<'a> {
    let asked = match request.issuing {
        Issuing::Forced(asked) => Some(asked),
        Issuing::No | Issuing::Due => None,
    };
    let has_order = |issuer: &IssuerName| {
        known.order.as_ref().is_some_and(|order| is_for(order, certificate, issuer, desired))
    };
    // What is under way is ended first: a better issuer would be a second order.
    let mut issuers: Vec<&IssuerName> = certificate.issuers().collect();
    issuers.sort_by_key(|issuer| !has_order(issuer));
    let mut first: Option<Waiting> = None;
    for issuer in issuers {
        let Some(waiting) = against(certificate, known, issuer, desired, request, asked, now) else {
            return Turn::Of(issuer);
        };
        let comes = |waiting: &Waiting| (waiting.until().is_none(), waiting.until());
        first = Some(match first {
            Some(first) if comes(&first) <= comes(&waiting) => first,
            _ => waiting,
        });
    }
    // The list has at least one.
    first.map_or(Turn::Of(&certificate.issuer), Turn::Nobody)
}

/// Why an issuer is not asked now.
fn against(
    certificate: &Certificate,
    known: &CertState,
    issuer: &IssuerName,
    desired: &Desired,
    request: &Request,
    asked: Option<Timestamp>,
    now: Timestamp,
) -> Option<Waiting> {
    let name = || certificate.name.clone();
    if !request.override_limits
        && let Some((count, until)) = duplicate_until(certificate, known, issuer, desired, now)
    {
        return Some(Waiting::DuplicateLimit(name(), count, until));
    }
    // A person who asks in an incident has mended something, or wants to see the error again: once.
    let (failure, next) =
        obstacle(certificate, known, issuer, |failure| asked.is_none_or(|asked| failure.last >= asked))?;
    match next {
        NextAttempt::AfterChange => Some(Waiting::NeedsChange(name(), failure.problem.clone())),
        // A failure in the future tells of a clock that was wrong, not of a pause to keep.
        NextAttempt::At(at) if at > now && failure.last <= now => {
            Some(Waiting::Backoff(name(), at, failure.count, failure.problem.clone()))
        }
        NextAttempt::At(_) => None,
    }
}

/// The failure that holds for longest: one of this issuer, or one that concerns all of them.
fn obstacle<'a>(
    certificate: &Certificate,
    known: &'a CertState,
    issuer: &IssuerName,
    counts: impl Fn(&Failure) -> bool,
) -> Option<(&'a Failure, NextAttempt)> {
    let newest = known.newest().map(|(_, version)| version);
    [known.failure.as_ref(), known.failures.get(issuer)]
        .into_iter()
        .flatten()
        .filter(|failure| counts(failure))
        .map(|failure| (failure, schedule::next_attempt(failure, &certificate.revision, newest)))
        .max_by_key(|(_, next)| *next)
}

/// How issuing fails, when no issuer is left that has not failed: the failure after which it is tried next.
pub(in crate::model) fn failing<'a>(
    certificate: &Certificate,
    known: &'a CertState,
) -> Option<(&'a Failure, NextAttempt)> {
    let all: Option<Vec<_>> =
        certificate.issuers().map(|issuer| obstacle(certificate, known, issuer, |_| true)).collect();
    all?.into_iter().min_by_key(|(_, next)| *next)
}
