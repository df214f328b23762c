//! Accounts whose API takes one token in the `Authorization` header.

use std::future::Future;
use std::time::Duration;

use futures::stream::{self, TryStreamExt};
use http::header::AUTHORIZATION;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::http::{Answer, Api, ApiError, Call};
use super::rrset::Wanted;
use super::{Error, Provider};
use crate::kind::{Kind, Section};
use crate::secret::Secret;

/// An API and its token.
#[derive(Debug)]
pub(super) struct Bearer {
    api: Api,
    token: Secret,
    scheme: &'static str,
}

impl Bearer {
    /// Reads `token`, `api` and `timeout`.
    pub(super) fn read(
        section: &mut Section<'_>,
        kind: &'static Kind<dyn Provider>,
        base: &str,
        scheme: &'static str,
    ) -> Option<Self> {
        let api = Api::read(section, kind, base);
        let example = format!("{{ file = \"/etc/certfleet/secrets/{}\" }}", kind.name);
        let token = section.required("token", &example);
        Some(Self { api: api?, token: token?, scheme })
    }

    /// Where the API is.
    pub(super) fn host(&self) -> String {
        self.api.host()
    }

    /// Does some work with the token, which is read for it.
    pub(super) async fn work<'a, T, F>(&'a self, work: impl FnOnce(Session<'a>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let token = self.api.secret("token", &self.token).await?;
        let header = Zeroizing::new(format!("{} {}", self.scheme, *token));
        in_time(&self.api, work(Session { api: &self.api, token, header })).await
    }
}

/// An account at work.
pub(super) struct Session<'a> {
    /// The API.
    pub(super) api: &'a Api,
    token: Zeroizing<String>,
    header: Zeroizing<String>,
}

impl Session<'_> {
    /// Sends a call and reads the answer, whatever its status.
    pub(super) async fn send(&self, call: Call) -> Result<Answer, ApiError> {
        self.api.send(call.secret_header(AUTHORIZATION, &self.header, &self.token)).await
    }

    /// What a successful answer says.
    pub(super) async fn get<T: DeserializeOwned>(&self, call: Call) -> Result<T, ApiError> {
        self.send(call).await?.success()?.json()
    }

    /// What a successful answer says; `None` if there is no such thing.
    pub(super) async fn find<T: DeserializeOwned>(&self, call: Call) -> Result<Option<T>, ApiError> {
        match self.send(call).await? {
            answer if answer.status() == 404 => Ok(None),
            answer => answer.success()?.json().map(Some),
        }
    }

    /// A call whose success says nothing.
    pub(super) async fn make(&self, call: Call) -> Result<(), ApiError> {
        self.send(call).await?.success().map(drop)
    }

    /// Deletes something that may be gone already.
    pub(super) async fn delete(&self, path: String) -> Result<(), ApiError> {
        match self.send(Call::delete(path)).await? {
            answer if answer.status() == 404 => Ok(()),
            answer => answer.success().map(drop),
        }
    }
}

/// Gives some work the time that all changes of one zone may take together.
pub(super) async fn in_time<T>(api: &Api, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    timeout(DEADLINE, work).await.unwrap_or_else(|_| Err(api.unfinished(DEADLINE).into()))
}

/// Does the work for each owner name, a few at the same time; the first failure ends it.
pub(super) async fn each<'w, F>(all: &'w [Wanted], work: impl Fn(&'w Wanted) -> F) -> Result<(), Error>
where
    F: Future<Output = Result<(), Error>>,
{
    stream::iter(all.iter().map(Ok)).try_for_each_concurrent(AT_ONCE, work).await
}

/// For all changes that wait for one zone; the slowest APIs need about a second for each name.
const DEADLINE: Duration = Duration::from_secs(180);
/// Enough to be quick, and far below what APIs count as too many.
const AT_ONCE: usize = 4;
