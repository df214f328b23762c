//! HTTP under ACME: one client for each issuer, a session for each order.
//!
//! instant-acme's own client has no deadlines, a fixed user agent, and loses the status, the
//! `Retry-After` header and every answer that is not JSON. So every answer is read here first:
//! what passes on to instant-acme is a success or a refused nonce, nothing else.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::call::{CallError, Violation};
use super::header::{alternates, clock, retry_after};
use super::nonces::Nonces;
use super::problem::Refusal;
use crate::model::clock::Reading;
use crate::model::problem::plain;

/// A connection to one issuer, whose directory has been read.
#[derive(Clone)]
pub(super) struct Http(Arc<Inner>);

struct Inner {
    client: reqwest::Client,
    directory_url: Uri,
    directory: Directory,
    directory_body: Bytes,
    /// The profiles that its orders can have, safe to show.
    profiles: Vec<String>,
    /// What time it was at the CA when it last answered.
    clock: Mutex<Option<Reading>>,
    nonces: Nonces,
}

/// What we need of an ACME directory (RFC 8555 section 7.1.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Directory {
    new_nonce: String,
    new_account: String,
    new_order: String,
    revoke_cert: Option<String>,
    key_change: Option<String>,
    renewal_info: Option<String>,
    #[serde(default)]
    meta: Meta,
}

/// What a directory says of the CA.
#[derive(Default, Deserialize)]
struct Meta {
    /// By name, each with a description (draft-ietf-acme-profiles).
    #[serde(default)]
    profiles: BTreeMap<String, serde_json::Value>,
}

impl Http {
    /// Fetches the directory with a client that trusts `tls`.
    pub(super) async fn open(directory: &str, tls: rustls::ClientConfig) -> Result<Self, CallError> {
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("certfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .build()
            .map_err(CallError::Client)?;
        let directory_url = https(directory)?;
        let request = Request::get(&directory_url)
            .body(BodyWrapper::default())
            .map_err(|_| Violation::Url(plain(directory)))?;
        let (status, headers, body, clock) = exchange(&client, request).await?;
        judge(&plain(directory), status, &headers, &body)?;
        let directory: Directory =
            serde_json::from_slice(&body).map_err(|error| CallError::Garbled(plain(&error.to_string())))?;
        // instant-acme would panic on some of them.
        for url in [&directory.new_nonce, &directory.new_account, &directory.new_order] {
            https(url)?;
        }
        for url in [&directory.revoke_cert, &directory.key_change, &directory.renewal_info] {
            url.as_deref().map_or(Ok(()), |url| https(url).map(drop))?;
        }
        let profiles = directory.meta.profiles.keys().take(MAX_PROFILES).map(|name| plain(name)).collect();
        Ok(Self(Arc::new(Inner {
            client,
            directory_url,
            profiles,
            directory,
            directory_body: body,
            clock: Mutex::new(clock),
            nonces: Nonces::default(),
        })))
    }

    /// Whether the CA offers renewal information (RFC 9773).
    pub(super) fn has_ari(&self) -> bool {
        self.0.directory.renewal_info.is_some()
    }

    /// The profiles that the CA offers.
    pub(super) fn profiles(&self) -> &[String] {
        &self.0.profiles
    }

    /// The directory as it came.
    pub(super) fn directory_body(&self) -> &[u8] {
        &self.0.directory_body
    }

    /// What time it was at the CA when it last answered, if it said so.
    pub(super) fn clock(&self) -> Option<Reading> {
        *self.0.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_clock(&self, clock: Option<Reading>) {
        if clock.is_some() {
            *self.0.clock.lock().unwrap_or_else(PoisonError::into_inner) = clock;
        }
    }

    /// A client for one conversation, whose requests follow each other.
    pub(super) fn session(&self) -> Session {
        Session { http: self.clone(), seen: Arc::default() }
    }
}

/// One conversation with the CA; clones belong to the same.
#[derive(Clone)]
pub(super) struct Session {
    http: Http,
    seen: Arc<Mutex<Seen>>,
}

/// What instant-acme does not tell.
#[derive(Default)]
struct Seen {
    requests: u32,
    retry_after: Option<Duration>,
    location: Option<String>,
    sent: Option<Instant>,
    /// Other chains to the same leaf.
    alternates: Vec<String>,
    /// The body of the last answer, while it is asked for.
    body: Option<Bytes>,
    keeps_body: bool,
    /// What the next request is answered with, without being sent.
    pretended: Option<String>,
}

impl Session {
    /// Whether the CA offers renewal information (RFC 9773).
    pub(super) fn has_ari(&self) -> bool {
        self.http.has_ari()
    }

    /// How many requests went over the network.
    pub(super) fn requests(&self) -> u32 {
        self.with(|seen| seen.requests)
    }

    /// When the last request was sent.
    pub(super) fn sent(&self) -> Option<Instant> {
        self.with(|seen| seen.sent)
    }

    /// How long the last answer asked us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        self.with(|seen| seen.retry_after)
    }

    /// The URL of what the last request created, once.
    pub(super) fn created(&self) -> Option<String> {
        self.with(|seen| seen.location.take())
    }

    /// Where the last answer says that the same is to be had with another chain (RFC 8555 section 7.4.2).
    pub(super) fn alternates(&self) -> Vec<String> {
        self.with(|seen| seen.alternates.clone())
    }

    /// Answers the next request with that, without sending it.
    pub(super) fn pretend(&self, answer: String) {
        self.with(|seen| seen.pretended = Some(answer));
    }

    /// From now on keeps what instant-acme would not pass on: an answer that is not JSON.
    pub(super) fn keep_body(&self) {
        self.with(|seen| (seen.keeps_body, seen.body) = (true, None));
    }

    /// The answer that was kept, once.
    pub(super) fn kept_body(&self) -> Option<Bytes> {
        self.with(|seen| {
            seen.keeps_body = false;
            seen.body.take()
        })
    }

    async fn answer(&self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, CallError> {
        let inner = &self.http.0;
        if request.method() == Method::GET && *request.uri() == inner.directory_url {
            return Ok(response(StatusCode::OK, HeaderMap::new(), inner.directory_body.clone()));
        }
        if self.with(|seen| seen.pretended.is_some()) {
            // What is not sent is signed nevertheless, with a nonce that is asked for first.
            if request.method() == Method::HEAD {
                return Ok(nonce_answer(HeaderValue::from_static("none")));
            }
            let answer = self.with(|seen| seen.pretended.take()).unwrap_or_default();
            return Ok(response(StatusCode::OK, HeaderMap::new(), answer.into()));
        }
        if request.method() == Method::HEAD {
            return self.nonce(request.uri()).await.map(nonce_answer);
        }
        let renewal_info = inner.directory.renewal_info.as_deref();
        let is_post = request.method() == Method::POST;
        let is_renewal_info = request.method() == Method::GET
            && renewal_info.is_some_and(|base| request.uri().to_string().starts_with(base));
        self.with(|seen| {
            seen.requests += 1;
            seen.sent = Some(Instant::now());
            (seen.retry_after, seen.location) = (None, None);
        });
        let url = plain(&request.uri().to_string());
        let (status, mut headers, body, clock) = exchange(&inner.client, request).await?;
        self.http.note_clock(clock);
        let verdict = judge(&url, status, &headers, &body);
        // That of a refused nonce is for the next try, any other for whoever sends next.
        let refused_nonce = verdict.is_ok() && !status.is_success();
        if !refused_nonce && let Some(nonce) = headers.remove(&REPLAY_NONCE) {
            inner.nonces.keep(nonce);
        }
        verdict?;
        let wait = headers.remove(RETRY_AFTER).and_then(|value| retry_after(&value, Timestamp::now()));
        if is_renewal_info {
            // instant-acme refuses an answer without, and panics on an absurd one.
            let ask_again =
                wait.unwrap_or(super::ASK_AGAIN).clamp(super::ASK_AGAIN_MIN, super::ASK_AGAIN_MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(ask_again.as_secs()));
        }
        self.with(|seen| {
            seen.retry_after = wait;
            if is_post && status.is_success() {
                seen.alternates = alternates(&headers);
                seen.body = seen.keeps_body.then(|| body.clone());
            }
            if status == StatusCode::CREATED {
                seen.location = headers.get(LOCATION).and_then(|url| url.to_str().ok()).map(str::to_owned);
            }
        });
        Ok(response(status, headers, body))
    }

    /// One that is left over, else a new one. A CA that is asked for too many at once says so: then those that
    /// others leave over do as well.
    async fn nonce(&self, new_nonce: &Uri) -> Result<HeaderValue, CallError> {
        let inner = &self.http.0;
        let mut tries = NONCE_TRIES;
        loop {
            if let Some(nonce) = inner.nonces.take() {
                return Ok(nonce);
            }
            self.with(|seen| seen.requests += 1);
            let request = Request::head(new_nonce).body(BodyWrapper::default());
            let request = request.map_err(|_| Violation::Url(plain(&new_nonce.to_string())))?;
            let url = plain(&new_nonce.to_string());
            let (status, mut headers, body, clock) = exchange(&inner.client, request).await?;
            self.http.note_clock(clock);
            match (judge(&url, status, &headers, &body), headers.remove(&REPLAY_NONCE)) {
                (Ok(()), Some(nonce)) => return Ok(nonce),
                (Ok(()), None) => return Err(Violation::NoNonce.into()),
                (Err(CallError::RateLimited { pause: Some(pause), .. }), _) if tries > 0 => {
                    tries -= 1;
                    inner.nonces.wait(pause).await;
                }
                (Err(error), _) => return Err(error),
            }
        }
    }

    fn with<T>(&self, access: impl FnOnce(&mut Seen) -> T) -> T {
        access(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HttpClient for Session {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let session = self.clone();
        Box::pin(async move {
            session.answer(request).await.map_err(|error| instant_acme::Error::Other(Box::new(error)))
        })
    }
}

/// Sends one request and reads the answer, whatever it is.
async fn exchange(
    client: &reqwest::Client,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<(StatusCode, HeaderMap, Bytes, Option<Reading>), CallError> {
    let (started, here) = (Instant::now(), Timestamp::now());
    let (mut parts, body) = request.into_parts();
    // instant-acme sets its own, and the client adds ours only where there is none.
    parts.headers.remove(USER_AGENT);
    let url = plain(&parts.uri.to_string());
    https(&parts.uri.to_string())?;
    let method = parts.method.clone();
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(never) => match never {},
    };
    let failed = |error: reqwest::Error| CallError::transport(&url, &method, error);
    let request = reqwest::Request::try_from(Request::from_parts(parts, body)).map_err(failed)?;
    let mut answer = client.execute(request).await.map_err(failed)?;
    let status = answer.status();
    let headers = std::mem::take(answer.headers_mut());
    let received = Timestamp::now();
    // In between the machine may have slept, or its clock been set.
    let at_once = here.duration_until(received).abs() <= SignedDuration::from_mins(1);
    let clock = clock(&headers, received).filter(|_| at_once);
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(CallError::TooLarge { url, limit: MAX_BODY });
        }
        body.extend_from_slice(&chunk);
    }
    tracing::debug!(%method, url, status = status.as_u16(), took = ?started.elapsed(), "acme");
    Ok((status, headers, body.freeze(), clock))
}

/// Lets a success pass, and a refused nonce, which instant-acme handles; all else is an error.
fn judge(url: &str, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<(), CallError> {
    if status.is_success() {
        return Ok(());
    }
    let refusal = Refusal::parse(body, status.as_u16());
    let limited = refusal.as_ref().is_some_and(|refusal| refusal.is("rateLimited"));
    let wait = headers.get(RETRY_AFTER).map(|value| retry_after(value, Timestamp::now()));
    if limited
        || status == StatusCode::TOO_MANY_REQUESTS
        || (status == StatusCode::SERVICE_UNAVAILABLE && wait.is_some())
    {
        let wait = wait.flatten();
        let pause = wait.filter(|wait| status == StatusCode::SERVICE_UNAVAILABLE && *wait <= PAUSE_MAX);
        let wait = wait.unwrap_or(RATE_LIMIT_WAIT).clamp(RATE_LIMIT_MIN, RATE_LIMIT_MAX);
        let words = match &refusal {
            Some(refusal) => refusal.to_string(),
            None => format!("`{url}` answers {status}"),
        };
        return Err(CallError::RateLimited { until: Timestamp::now() + wait, words, pause });
    }
    match refusal {
        Some(refusal) if status == StatusCode::BAD_REQUEST && refusal.is("badNonce") => Ok(()),
        Some(refusal) => Err(CallError::Refused(Box::new(refusal))),
        None => Err(CallError::Status {
            url: url.to_owned(),
            status: status.as_u16(),
            snippet: super::check::snippet(&String::from_utf8_lossy(body)),
        }),
    }
}

fn nonce_answer(nonce: HeaderValue) -> BytesResponse {
    response(StatusCode::OK, HeaderMap::from_iter([(REPLAY_NONCE, nonce)]), Bytes::new())
}

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> BytesResponse {
    let (mut parts, ()) = http::Response::new(()).into_parts();
    (parts.status, parts.headers) = (status, headers);
    BytesResponse { parts, body: Box::new(body) }
}

/// Accepts URLs that a CA may send us to: https, with a host, of sane length.
///
/// Any host: CAs do spread their service over several. A hostile one gains little, since each
/// connection must present a certificate for that host that we trust, and redirects are off.
pub(super) fn https(url: &str) -> Result<Uri, Violation> {
    match url.parse::<Uri>() {
        Ok(uri) if uri.scheme_str() == Some("https") && uri.host().is_some() && url.len() <= MAX_URL => {
            Ok(uri)
        }
        _ => Err(Violation::Url(plain(url))),
    }
}

const REPLAY_NONCE: http::HeaderName = http::HeaderName::from_static("replay-nonce");
/// Covers name lookup, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For the whole of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection that was idle for longer may be dead without our knowing: then an order would
/// get no answer, and could not be sent again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// An order with a hundred names is 20 KiB.
const MAX_BODY: usize = 1024 * 1024;
const MAX_URL: usize = 2048;
/// Those in use have up to four.
const MAX_PROFILES: usize = 20;
/// How often a CA that is asked for too many nonces at once is asked again for one.
const NONCE_TRIES: u32 = 10;
/// When a CA limits us and does not say until when.
const RATE_LIMIT_WAIT: Duration = Duration::from_secs(3600);
/// A CA that has too many requests at this very moment is ready again after so long; more is a limit of another kind.
const PAUSE_MAX: Duration = Duration::from_secs(10);
const RATE_LIMIT_MIN: Duration = Duration::from_secs(60);
const RATE_LIMIT_MAX: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_followed() {
        https("https://acme.example/dir?x=1").unwrap();
        for url in [
            "",
            "http://acme.example/",
            "file:///etc/passwd",
            "https://",
            "/relative",
            "https://[bad/",
            "https://a.example/\n",
            "ftp://a.example/",
        ] {
            assert!(https(url).is_err(), "{url}");
        }
        assert!(https(&format!("https://a.example/{}", "x".repeat(3000))).is_err());
    }
}
