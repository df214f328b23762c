//! How long an order may take at the CA.

use std::time::{Duration, Instant};

use super::ORDER_DEADLINE;
use super::call::{CallError, Violation};
use super::error::{Doing, Error};
use crate::model::name::IssuerName;

/// The time that the CA is given, in all.
pub(super) struct Budget<'a> {
    issuer: &'a IssuerName,
    left: Duration,
}

impl<'a> Budget<'a> {
    /// The whole of [`ORDER_DEADLINE`].
    pub(super) fn new(issuer: &'a IssuerName) -> Self {
        Self { issuer, left: ORDER_DEADLINE }
    }

    /// Runs one step within the time that is left.
    pub(super) async fn spend<T, E: Into<Stop>>(
        &mut self,
        doing: Doing,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let result = tokio::time::timeout(self.left, work).await;
        self.left = self.left.saturating_sub(started.elapsed());
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(stop)) => Err(match stop.into() {
                Stop::Call(cause) => Error::Call { issuer: self.issuer.clone(), doing, cause },
                Stop::Other(error) => error,
            }),
            Err(_) => Err(Error::Timeout { issuer: self.issuer.clone(), doing, after: ORDER_DEADLINE }),
        }
    }
}

/// Why a step did not succeed.
pub(super) enum Stop {
    /// A request came to nothing: said with the step's name.
    Call(CallError),
    /// Something else, said as it is.
    Other(Error),
}

impl From<CallError> for Stop {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<Violation> for Stop {
    fn from(error: Violation) -> Self {
        Self::Call(error.into())
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_ca_that_never_answers_costs_the_deadline_and_no_more() {
        let issuer = "ca".parse().unwrap();
        let mut time = Budget { issuer: &issuer, left: Duration::from_millis(20) };
        time.spend(Doing::Order, async { Ok::<_, Stop>(()) }).await.unwrap();
        let silent = std::future::pending::<Result<(), Stop>>();
        let error = time.spend(Doing::Poll, silent).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { doing: Doing::Poll, .. }));
        assert_eq!(error.to_string(), "`ca` was not done after 300 s; it was time to follow the order");
        assert!(!error.order_is_over());
        assert_eq!(time.left, Duration::ZERO);
    }
}
