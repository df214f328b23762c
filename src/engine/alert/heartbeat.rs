//! The heartbeat: a watcher outside hears from us after every complete pass, and alarms when it does not.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Url;

use super::{Ended, Session};
use crate::http::Call;
use crate::model::alert::{Memory, Trouble};
use crate::model::problem::{Problem, plain};
use crate::notify::{self, Hook};

const TIMEOUT: Duration = Duration::from_secs(10);

impl Session<'_> {
    /// Calls the address of `[heartbeat]` if all went as it should; else says that it did not.
    pub(super) async fn call_heartbeat(&mut self, memory: &mut Memory, ended: Ended) {
        let Some(secret) = self.config.heartbeat.clone() else {
            memory.heartbeat = None;
            return;
        };
        let advice = "make a new check there, and put its address into the secret of [heartbeat]";
        let hook = Hook::new("heartbeat", secret, TIMEOUT, advice);
        if let Some(wrong) = self.wrong(ended) {
            // A watcher that does not hear this hears nothing, which is as good.
            if let Err(error) = fail(&hook, &wrong).await {
                tracing::warn!("the heartbeat's watcher could not be told of a failure: {error}");
            }
            return;
        }
        match succeed(&hook).await {
            Ok(()) => memory.heartbeat = None,
            Err(error) => {
                let problem = Problem::of(&error);
                let now = Timestamp::now();
                let trouble = memory.heartbeat.get_or_insert_with(|| Trouble {
                    since: now,
                    failures: 0,
                    problem: problem.clone(),
                });
                trouble.failures = trouble.failures.saturating_add(1);
                trouble.problem = problem.clone();
                self.attended.heartbeat = Some(problem);
            }
        }
    }

    /// Why this was not a time to say that all is well with us.
    fn wrong(&self, ended: Ended) -> Option<String> {
        if !ended.complete {
            return Some("the last pass was not complete".to_owned());
        }
        if let Some(problem) = self.attended.problems.first() {
            return Some(problem.one_line());
        }
        let waiting = &self.attended.undelivered;
        let first = waiting.first()?;
        let why =
            first.problem.as_ref().map_or_else(String::new, |problem| format!(": {}", problem.one_line()));
        Some(format!(
            "{} notices could not be delivered, the first to `{}`{why}",
            waiting.len(),
            first.channel
        ))
    }
}

async fn succeed(hook: &Hook) -> Result<(), notify::Error> {
    let url = hook.url().await?;
    hook.send(url, Call::get("")).await.map(drop)
}

/// As Healthchecks.io has it, and those who do as it does; Uptime Kuma has one address for both.
async fn fail(hook: &Hook, why: &str) -> Result<(), notify::Error> {
    let (url, why) = (hook.url().await?, plain(why));
    let call = if is_kuma(&url) {
        Call::get("")
    } else {
        Call::post("").text("text/plain; charset=utf-8", why.clone())
    };
    hook.send(failing(url, &why), call).await.map(drop)
}

fn is_kuma(url: &Url) -> bool {
    url.path().starts_with("/api/push/")
}

fn failing(mut url: Url, why: &str) -> Url {
    if is_kuma(&url) {
        url.query_pairs_mut().clear().append_pair("status", "down").append_pair("msg", why);
    } else {
        let path = format!("{}/fail", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    url
}

#[cfg(test)]
mod tests {
    use super::failing;

    #[test]
    fn a_failure_goes_where_watchers_expect_it() {
        for (url, expected) in [
            ("https://hc-ping.com/1f8a", "https://hc-ping.com/1f8a/fail"),
            (
                "https://hc.example/ping/key/certfleet/?create=1",
                "https://hc.example/ping/key/certfleet/fail?create=1",
            ),
            (
                "https://kuma.example/api/push/abc?status=up&msg=OK&ping=",
                "https://kuma.example/api/push/abc?status=down&msg=a+b",
            ),
        ] {
            assert_eq!(failing(url.parse().unwrap(), "a b").as_str(), expected);
        }
    }
}
