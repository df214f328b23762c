//! HTTP APIs of providers: one way to call them all, whatever they answer.
//!
//! A provider reads an [`Api`] from its table, sends [`Call`]s and judges [`Answer`]s. Rate limits, and whose
//! API it is, are handled here; all else in [`crate::http`].

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use zeroize::Zeroizing;

use super::Provider;
use crate::http::{self, Base, Client, timeout};
use crate::kind::{Kind, Section};
use crate::secret::Secret;

mod answer;
mod error;

pub use crate::http::{Call, segment};
pub use answer::Answer;
pub use error::ApiError;

/// The HTTP API of one account.
pub struct Api {
    about: Arc<About>,
    base: Url,
    client: Client,
}

/// Whose API it is, for messages.
#[derive(Debug)]
struct About {
    /// The account's table, `dns.main`.
    account: String,
    /// The provider's name in certs.toml.
    provider: &'static str,
    /// The narrowest rights that do.
    rights: &'static str,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("about", &self.about).field("base", &self.base.as_str()).finish()
    }
}

impl Api {
    /// Reads `api` (the default is the provider's own) and `timeout` of an account.
    pub fn read(section: &mut Section<'_>, kind: &'static Kind<dyn Provider>, default: &str) -> Option<Self> {
        let base = section.optional("api").map(|Base(url)| url);
        let timeout = timeout(section, TIMEOUT);
        let base = base.or_else(|| Url::parse(default).ok())?;
        Some(Self::new(section, kind, base, timeout))
    }

    /// The same, where the address is a key that every account must have.
    pub fn read_required(
        section: &mut Section<'_>,
        kind: &'static Kind<dyn Provider>,
        key: &'static str,
        example: &str,
    ) -> Option<Self> {
        let base = section.required(key, example).map(|Base(url)| url);
        let timeout = timeout(section, TIMEOUT);
        Some(Self::new(section, kind, base?, timeout))
    }

    fn new(section: &Section<'_>, kind: &Kind<dyn Provider>, base: Url, timeout: Duration) -> Self {
        let about = About { account: section.path(), provider: kind.name, rights: kind.rights };
        Self { about: Arc::new(about), base, client: Client::new(timeout) }
    }

    /// The URL of a path below the API's own, with or without a query: what a [`Call`] goes to.
    pub fn url(&self, path: &str) -> String {
        let base = self.base.as_str().trim_end_matches('/');
        if path.is_empty() { base.to_owned() } else { format!("{base}/{}", path.trim_start_matches('/')) }
    }

    /// The account's table in certs.toml, as `dns.main`.
    pub fn account(&self) -> &str {
        &self.about.account
    }

    /// Reads a secret of the account, anew for every use; `key` is its key in certs.toml.
    pub async fn secret(&self, key: &'static str, secret: &Secret) -> Result<Zeroizing<String>, ApiError> {
        let secret = secret.clone();
        // It may be the output of a command.
        match tokio::task::spawn_blocking(move || secret.read()).await {
            Ok(Ok(text)) => Ok(text),
            Ok(Err(source)) => {
                Err(ApiError::Secret { account: self.about.account.clone(), key, source: Box::new(source) })
            }
            Err(_) => Err(ApiError::Interrupted { account: self.about.account.clone() }),
        }
    }

    /// Sends a call and reads the answer, whatever its status, but for redirects and rate limits.
    ///
    /// Where the API asks to wait, and not for long, it is waited for, once.
    pub async fn send(&self, call: Call) -> Result<Answer, ApiError> {
        let answer = self.send_once(&call).await?;
        let Some(wait) = answer.limited() else { return Ok(answer) };
        let again = match wait.filter(|wait| *wait <= PATIENCE.min(self.client.timeout())) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                self.send_once(&call).await?
            }
            None => answer,
        };
        match again.limited() {
            None => Ok(again),
            Some(wait) => Err(again.rate_limited(Timestamp::now() + wait.unwrap_or(PAUSE).min(PAUSE_MAX))),
        }
    }

    /// The zone is not one of the account's.
    pub fn no_zone(&self, zone: &str) -> ApiError {
        self.no_zone_among(zone, Vec::new())
    }

    /// The zone is not one of the account's, which has others.
    pub fn no_zone_among(&self, zone: &str, others: Vec<String>) -> ApiError {
        ApiError::NoZone {
            account: self.about.account.clone(),
            provider: self.about.provider,
            zone: zone.trim_end_matches('.').to_owned(),
            others,
            rights: self.about.rights,
        }
    }

    /// Somebody else writes the same records, so that ours do not stay as they were written.
    pub fn contended(&self, name: &str) -> ApiError {
        ApiError::Contended {
            account: self.about.account.clone(),
            provider: self.about.provider,
            name: name.to_owned(),
        }
    }

    /// The provider took a change and has not made it in time.
    pub fn unfinished(&self, within: Duration) -> ApiError {
        ApiError::Unfinished { account: self.about.account.clone(), provider: self.about.provider, within }
    }

    async fn send_once(&self, call: &Call) -> Result<Answer, ApiError> {
        let url = self.url(call.path());
        let target = Url::parse(&url).map_err(|_| self.broken_url(&url))?;
        // A path of a hostile API cannot lead the token elsewhere.
        if target.origin() != self.base.origin() {
            return Err(self.broken_url(&url));
        }
        let reply = self.client.send(target, call).await.map_err(|error| self.failed(error))?;
        Ok(Answer::new(Arc::clone(&self.about), self.host(), reply))
    }

    fn failed(&self, error: http::Error) -> ApiError {
        let (account, provider, host) = (self.about.account.clone(), self.about.provider, self.host());
        match error {
            http::Error::BadHeader(header) => ApiError::BadHeader { account, header },
            error @ (http::Error::Ca(..) | http::Error::Tls(_) | http::Error::Client(_)) => {
                ApiError::Client { account, source: error }
            }
            http::Error::Transport(source) => ApiError::Transport { account, provider, host, source },
            http::Error::Untrusted(source) => ApiError::Untrusted { account, provider, host, source },
            http::Error::Timeout(within) => ApiError::Timeout { account, provider, host, within },
            http::Error::TooLarge(limit) => ApiError::TooLarge { account, host, limit },
            http::Error::Redirect(to) => ApiError::Redirect { account, host, to },
        }
    }

    fn broken_url(&self, url: &str) -> ApiError {
        ApiError::Url { account: self.about.account.clone(), url: url.to_owned() }
    }

    /// The host, with its port where that is not the usual one.
    pub fn host(&self) -> String {
        http::host(&self.base)
    }
}

/// For one call, unless `timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that is waited within an attempt; for more there is another attempt.
const PATIENCE: Duration = Duration::from_secs(20);
/// When an API limits us and does not say until when, and the limit of what we believe.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(86_400);
