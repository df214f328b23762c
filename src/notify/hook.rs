//! Addresses that are secrets themselves: whoever knows a webhook can use it.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;
use zeroize::Zeroizing;

use super::Error;
use crate::http::{self, Call, Client, Reply, timeout};
use crate::kind::Section;
use crate::secret::Secret;

/// Something to call whose address is a secret. Debug shows where the secret is, not what it says.
#[derive(Debug)]
pub struct Hook {
    table: String,
    secret: Secret,
    client: Client,
    advice: &'static str,
}

impl Hook {
    /// A hook of the table `table` of certs.toml, whose key `url` is `secret`. A call ends within `timeout`;
    /// `advice` is what to do where the other side does not know the address (any more).
    pub fn new(table: impl Into<String>, secret: Secret, timeout: Duration, advice: &'static str) -> Self {
        Self { table: table.into(), secret, client: Client::new(timeout), advice }
    }

    /// Reads `url`, `ca` and `timeout` of a table.
    pub(super) fn read(section: &mut Section<'_>, advice: &'static str) -> Option<Self> {
        let secret: Option<Secret> = section.required("url", "{ file = \"/etc/certfleet/secrets/url\" }");
        let ca: Option<PathBuf> = section.optional("ca");
        let client = Client::new(timeout(section, TIMEOUT)).trusting(ca);
        Some(Self { table: section.path(), secret: secret?, client, advice })
    }

    /// The table in certs.toml, as `alert.ops`.
    pub fn table(&self) -> &str {
        &self.table
    }

    /// The address, read anew: to be changed perhaps, to be given to [`Self::send`], never to be shown.
    pub async fn url(&self) -> Result<Url, Error> {
        let text = secret(&self.table, "url", &self.secret).await?;
        let refuse = |why: String| Error::Url { table: self.table.clone(), why };
        http::address(text.trim()).map_err(|refusal| refuse(refusal.why))
    }

    /// One call to `url`; a success is an answer with 2xx. No error shows the address.
    pub async fn send(&self, url: Url, call: Call) -> Result<Reply, Error> {
        let host = http::host(&url);
        let table = || self.table.clone();
        let reply = self.client.send(url.clone(), &hiding(call, &url)).await;
        let reply = reply.map_err(|source| Error::Http { table: table(), host: host.clone(), source })?;
        let status = reply.status().as_u16();
        let words = || reply.words();
        if let Some(wait) = reply.limited(Timestamp::now()) {
            let until = Timestamp::now() + wait.unwrap_or(PAUSE).min(PAUSE_MAX);
            return Err(Error::RateLimited { table: table(), host, until, words: words() });
        }
        match status {
            200..300 => Ok(reply),
            401 | 403 | 404 | 410 => {
                Err(Error::Unknown { table: table(), host, status, words: words(), advice: self.advice })
            }
            _ => Err(Error::Refused { table: table(), host, status, words: words() }),
        }
    }
}

/// The call, none of whose errors shows the address: a part of it is as good as the whole.
fn hiding(call: Call, url: &Url) -> Call {
    // Shorter ones are words, as `api`.
    const TELLING: usize = 8;
    let call = call
        .hiding(url.as_str())
        .hiding(url.path().trim_matches('/'))
        .hiding(url.query().unwrap_or_default());
    let written = url.query().into_iter().flat_map(|query| query.split(['&', '=']));
    let read = url.query_pairs().flat_map(|(name, value)| [name, value]);
    let parts = url.path_segments().into_iter().flatten().chain(written).map(Cow::Borrowed).chain(read);
    parts.filter(|part| part.len() >= TELLING).fold(call, |call, part| call.hiding(&part))
}

/// Reads a secret of a table, anew for every use.
pub(super) async fn secret(
    table: &str,
    key: &'static str,
    secret: &Secret,
) -> Result<Zeroizing<String>, Error> {
    let secret = secret.clone();
    // It may be the output of a command.
    match tokio::task::spawn_blocking(move || secret.read()).await {
        Ok(Ok(text)) => Ok(text),
        Ok(Err(source)) => Err(Error::Secret { table: table.to_owned(), key, source: Box::new(source) }),
        Err(_) => Err(Error::Interrupted { table: table.to_owned() }),
    }
}

/// For one message, unless `timeout` says otherwise.
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// When we are limited and not told until when, and the limit of what we believe.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(3600);
