//! What the daemon answers to those who read: health, metrics, the report. Nothing can be changed by asking.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::model::plan::minute;
use crate::model::report;
use crate::render;
use crate::store::Store;

/// What the answers are made of.
pub(super) struct Pages {
    store: Store,
    now: Mutex<Now>,
    /// Reading the store is work: one reader at a time, however many there are.
    turn: Semaphore,
}

struct Now {
    config: Arc<Config>,
    started: Timestamp,
    /// When the last complete pass ended, by both clocks.
    complete: Option<(Timestamp, Instant)>,
}

/// Who may ask, by the name that they ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Names {
    /// Only addresses and `localhost`: a web page that has its own name lead here reads nothing.
    Local,
    /// Any.
    All,
}

impl Pages {
    pub(super) fn new(store: Store, config: Arc<Config>) -> Self {
        let now = Now { config, started: Timestamp::now(), complete: None };
        Self { store, now: Mutex::new(now), turn: Semaphore::new(1) }
    }

    pub(super) fn config(&self) -> Arc<Config> {
        self.now().config.clone()
    }

    pub(super) fn reloaded(&self, config: &Arc<Config>) {
        self.now().config = config.clone();
    }

    pub(super) fn passed(&self) {
        self.now().complete = Some((Timestamp::now(), Instant::now()));
    }

    fn now(&self) -> std::sync::MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn answer<B>(
        self: Arc<Self>,
        request: Request<B>,
        names: Names,
    ) -> Response<Full<Bytes>> {
        let mut response = self.page(&request, names).await;
        let headers = response.headers_mut();
        for (name, value) in [
            (header::CACHE_CONTROL, "no-store"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "no-referrer"),
            (
                header::CONTENT_SECURITY_POLICY,
                "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn page<B>(self: Arc<Self>, request: &Request<B>, names: Names) -> Response<Full<Bytes>> {
        if names == Names::Local && !is_local(request.headers()) {
            let text = "this is read by its address or as localhost, not by that name\n";
            return plain(StatusCode::MISDIRECTED_REQUEST, text.to_owned());
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refusal = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match request.uri().path() {
            "/healthz" => self.health(),
            "/" => self.report(|report| Some(render::report_html(report)), "text/html; charset=utf-8").await,
            "/report.json" => {
                self.report(|report| render::report_json(report).ok(), "application/json").await
            }
            "/metrics" => {
                let content = "text/plain; version=0.0.4; charset=utf-8";
                self.report(|report| Some(render::report_prometheus(report)), content).await
            }
            _ => plain(StatusCode::NOT_FOUND, "there is /, /report.json, /metrics and /healthz\n".to_owned()),
        }
    }

    fn health(&self) -> Response<Full<Bytes>> {
        let now = self.now();
        let Some((at, instant)) = now.complete else {
            let text = format!("no pass has been completed since the start at {}\n", minute(now.started));
            return plain(StatusCode::SERVICE_UNAVAILABLE, text);
        };
        // The one stands still in suspend, the other can be set.
        let rested = SignedDuration::try_from(instant.elapsed()).unwrap_or(SignedDuration::MAX);
        let age = Timestamp::now().duration_since(at).max(rested);
        let status = match age <= now.config.daemon.interval * 2 {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        plain(status, format!("the last complete pass ended at {}\n", minute(at)))
    }

    async fn report(
        self: Arc<Self>,
        render: fn(&report::Report) -> Option<String>,
        content: &'static str,
    ) -> Response<Full<Bytes>> {
        // Closed only with the daemon.
        let _turn = self.turn.acquire().await.ok();
        let pages = self.clone();
        let made = tokio::task::spawn_blocking(move || {
            let (config, now) = (pages.config(), Timestamp::now());
            let state = pages.store.load(now).ok()?.state;
            let report = report::report(&config.desired, &state, &pages.store.observed(), now);
            render(&match pages.store.alerts() {
                Ok(memory) => report.with_alerts(&memory),
                // Whoever tells people has said it.
                Err(_) => report,
            })
        });
        // A task that panicked has been logged by then, and is answered like a store that cannot be read.
        match made.await.ok().flatten() {
            Some(text) => {
                let mut response = Response::new(Full::from(text));
                response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
                response
            }
            None => {
                let text = "the store cannot be read; the daemon's log says why\n";
                plain(StatusCode::INTERNAL_SERVER_ERROR, text.to_owned())
            }
        }
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Whether the request asks for an address or for `localhost`, of any port.
fn is_local(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, _)) => inside,
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_of_another_name_is_not_local() {
        let local = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            is_local(&headers)
        };
        for host in ["localhost", "LocalHost:9469", "127.0.0.1", "127.0.0.1:9469", "[::1]:9469", "[::1]"] {
            assert!(local(host), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9469",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            "[::1",
        ] {
            assert!(!local(host), "{host}");
        }
        assert!(!is_local(&HeaderMap::new()));
    }
}
