//! HTTP APIs of providers: one way to call them all, whatever they answer.
//!
//! A provider reads an [`Api`] from its table, sends [`Call`]s and judges [`Answer`]s. Deadlines, sizes,
//! redirects, rate limits, and keeping secrets out of every message are handled here.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use reqwest::Url;
use toml::de::DeValue;
use zeroize::Zeroizing;

use super::Provider;
use crate::kind::{Item, Kind, Refusal, Remedy, Section, Value, duration};
use crate::model::problem::plain;
use crate::secret::Secret;

mod answer;
mod call;
mod error;

pub use answer::Answer;
pub use call::{Call, segment};
pub use error::ApiError;

/// The HTTP API of one account.
pub struct Api {
    about: Arc<About>,
    base: Url,
    timeout: Duration,
    /// Made when it is needed first: finding the machine's roots takes a while.
    client: OnceLock<reqwest::Client>,
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
        Self { about: Arc::new(about), base, timeout, client: OnceLock::new() }
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
        let Some(wait) = limited(&answer) else { return Ok(answer) };
        let again = match wait.filter(|wait| *wait <= PATIENCE.min(self.timeout)) {
            Some(wait) => {
                tokio::time::sleep(wait).await;
                self.send_once(&call).await?
            }
            None => answer,
        };
        match limited(&again) {
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
        let started = Instant::now();
        let url = self.url(&call.path);
        let target = Url::parse(&url).map_err(|_| self.broken_url(&url))?;
        // A path of a hostile API cannot lead the token elsewhere.
        if target.origin() != self.base.origin() {
            return Err(self.broken_url(&url));
        }
        let mut request = self.client()?.request(call.method.clone(), target).headers(self.headers(call)?);
        if let Some(body) = &call.body {
            request = request.body(body.clone());
        }
        let failed = |error| self.transport(error);
        let mut reply = request.send().await.map_err(failed)?;
        let (status, headers) = (reply.status(), std::mem::take(reply.headers_mut()));
        let mut body = BytesMut::new();
        while let Some(chunk) = reply.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(ApiError::TooLarge {
                    account: self.about.account.clone(),
                    host: self.host(),
                    limit: MAX_BODY,
                });
            }
            body.extend_from_slice(&chunk);
        }
        tracing::debug!(method = %call.method, path = plain(&call.path), status = status.as_u16(), took = ?started.elapsed(), "dns api");
        let answer =
            Answer::new(Arc::clone(&self.about), self.host(), call.secrets(), status, headers, body.freeze());
        if status.is_redirection() { Err(answer.redirected()) } else { Ok(answer) }
    }

    fn headers(&self, call: &Call) -> Result<HeaderMap, ApiError> {
        let mut headers = HeaderMap::new();
        for header in &call.headers {
            let mut value = HeaderValue::from_str(&header.value).map_err(|_| ApiError::BadHeader {
                account: self.about.account.clone(),
                header: header.name.as_str().to_owned(),
            })?;
            value.set_sensitive(header.secret);
            headers.insert(header.name.clone(), value);
        }
        Ok(headers)
    }

    fn client(&self) -> Result<&reqwest::Client, ApiError> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls()?)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("certfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .pool_idle_timeout(IDLE_TIMEOUT)
            .timeout(self.timeout);
        // Only on this machine: a proxy would see the secrets.
        if self.base.scheme() == "http" {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|error| ApiError::Client(error.into()))?;
        Ok(self.client.get_or_init(|| client))
    }

    fn transport(&self, error: reqwest::Error) -> ApiError {
        let (account, provider, host) = (self.about.account.clone(), self.about.provider, self.host());
        if let Some(source) = error::untrusted(&error) {
            return ApiError::Untrusted { account, provider, host, source };
        }
        if error.is_timeout() {
            let within = if error.is_connect() { CONNECT_TIMEOUT.min(self.timeout) } else { self.timeout };
            return ApiError::Timeout { account, provider, host, within };
        }
        ApiError::Transport { account, provider, host, source: error.into() }
    }

    fn broken_url(&self, url: &str) -> ApiError {
        ApiError::Url { account: self.about.account.clone(), url: url.to_owned() }
    }

    fn host(&self) -> String {
        let host = self.base.host_str().unwrap_or_default();
        self.base.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

/// Reads `timeout`: how long the provider may take for one answer.
pub(super) fn timeout(section: &mut Section<'_>, default: Duration) -> Duration {
    let example = format!("\"{}s\"", default.as_secs());
    let read = |text: &str| {
        let time = duration(text)?;
        if (SignedDuration::from_secs(1)..=SignedDuration::from_mins(5)).contains(&time) {
            return Ok(time.unsigned_abs());
        }
        Err(Refusal::new("it goes from 1 second to 5 minutes", format!("as in `timeout = {example}`")))
    };
    section.parsed("timeout", &example, read).unwrap_or(default)
}

/// An address that secrets may be sent to.
struct Base(Url);

impl Value for Base {
    fn read(item: Item<'_>) -> Option<Self> {
        let (at, key, context) = (item.at.clone(), item.key.clone(), item.context);
        // People do write credentials there, and then they are not to be shown.
        if matches!(&item.value, DeValue::String(text) if text.contains(['@', '?', '#'])) {
            context.hide(at.clone());
            let hint = "write the address alone; secrets have keys of their own".to_owned();
            let message = format!("`{key}` must not contain a user, a password, a query or a fragment");
            context.mistake(at, message, Remedy::Hint(hint));
            return None;
        }
        item.parsed("\"https://dns.example.org/api\"", base).map(Self)
    }
}

/// https, or http that does not leave this machine.
fn base(text: &str) -> Result<Url, Refusal> {
    let url = Url::parse(text)
        .map_err(|_| Refusal::new("it is not a URL", "as in \"https://dns.example.org/api\""))?;
    let here = url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    });
    if url.scheme() == "https" || (url.scheme() == "http" && here) {
        return Ok(url);
    }
    Err(Refusal::new(
        "secrets go over https only, or over http within this machine",
        "put a TLS proxy before it, or reach it by an SSH tunnel as http://127.0.0.1:PORT",
    ))
}

/// Whether the API asks us to wait, and for how long if it says so.
fn limited(answer: &Answer) -> Option<Option<Duration>> {
    let wait = answer.header(RETRY_AFTER.as_str()).and_then(|text| retry_after(text, Timestamp::now()));
    match StatusCode::from_u16(answer.status()) {
        Ok(StatusCode::TOO_MANY_REQUESTS) => Some(wait),
        Ok(StatusCode::SERVICE_UNAVAILABLE) if wait.is_some() => Some(wait),
        _ => None,
    }
}

/// How long a `Retry-After` header asks us to wait (RFC 9110 section 10.2.3); `None` if it says nothing.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

/// TLS that trusts what this machine trusts.
fn tls() -> Result<rustls::ClientConfig, ApiError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ApiError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A preconfigured TLS is taken as it is: without this all would be HTTP/1.1.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Covers name lookup, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one call, unless `timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BODY: usize = 1024 * 1024;
/// The longest that is waited within an attempt; for more there is another attempt.
const PATIENCE: Duration = Duration::from_secs(20);
/// When an API limits us and does not say until when, and the limit of what we believe.
const PAUSE: Duration = Duration::from_secs(60);
const PAUSE_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_leave_the_machine_by_https_only() {
        for good in
            ["https://api.example.org/v1", "http://127.0.0.1:8081", "http://[::1]:1/", "http://localhost"]
        {
            assert!(base(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "api.example.org",
            "http://192.0.2.1",
            "http://localhost.example.org",
            "http://127.0.0.1.example.org/",
            "ftp://127.0.0.1",
        ] {
            assert!(base(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn waits_are_seconds_or_dates() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(37)));
        for garbage in ["", "-5", "soon", "1.5"] {
            assert_eq!(retry_after(garbage, now), None, "{garbage}");
        }
    }
}
