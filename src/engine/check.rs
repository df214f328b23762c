//! The preflight: everything that a renewal and a deployment need, tried without doing either.
//!
//! What it changes: it sets one scratch TXT record for each name, noted in the store before and removed
//! after, like any challenge record. Where there is no store yet it makes none: what it has to note meanwhile goes
//! into a temporary one.

mod alerting;
mod reach;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use store::Used;

use super::{Credential, Engine, Event, Listener, StartError};
use crate::acme::{self, Glance};
use crate::config::Config;
use crate::model::clock::{FAR_OFF, OFF};
use crate::model::desired::Issuer;
use crate::model::name::{HostName, IssuerName};
use crate::model::plan::{Request, minute};
use crate::model::problem::{Diagnose, Problem, plain};

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// As it should be.
    Ok,
    /// Worth a look; certificates can be renewed nevertheless.
    Warn,
    /// Renewing or deploying will fail.
    Fail,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How it stands.
    pub standing: Standing,
    /// What was tried.
    pub subject: String,
    /// What came of it, safe to show.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The code of the problem.
    pub code: Option<String>,
}

impl Finding {
    fn ok(subject: impl Into<String>, what: impl Into<String>) -> Self {
        Self { standing: Standing::Ok, subject: subject.into(), what: what.into(), hint: None, code: None }
    }

    fn warn(subject: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { standing: Standing::Warn, hint: Some(hint.into()), ..Self::ok(subject, what) }
    }

    fn fail(subject: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { standing: Standing::Fail, ..Self::warn(subject, what, hint) }
    }

    fn of(standing: Standing, subject: impl Into<String>, problem: Problem) -> Self {
        let what = problem.one_line();
        let hint = problem.hint.unwrap_or_else(|| match problem.code.as_str() {
            "acme.unreachable" | "acme.timeout" | "acme.server-error" => {
                "see whether the CA is down (its status page), or the way to it (`curl` from here)".to_owned()
            }
            code => format!("README says what `{code}` means"),
        });
        Self { standing, subject: subject.into(), what, hint: Some(hint), code: Some(problem.code) }
    }

    fn failed(subject: impl Into<String>, error: &dyn Diagnose) -> Self {
        Self::of(Standing::Fail, subject, Problem::of(error))
    }
}

/// Tries everything; until `stop` resolves. The order of the findings is that of certs.toml's parts.
pub async fn check(config: Arc<Config>, stop: impl Future<Output = ()>) -> Vec<Finding> {
    let mut findings = vec![read_well(&config)];
    findings.extend(secrets(&config).await);
    let (store, state) = store::state(&config);
    findings.extend(state);
    findings
        .extend(alerting::alerting(&config, store.as_ref().filter(|store| store.stays()).map(Used::store)));
    let Some(used) = store else {
        findings.push(Finding::warn(
            "everything else",
            "not tried: without a store nothing can be noted before it is done",
            "mend the store first",
        ));
        return findings;
    };
    let store = used.store().clone();
    let engine = match Engine::new(config, store, Arc::new(Nobody), Duration::ZERO) {
        Ok(engine) => engine,
        Err(error) => {
            findings.push(not_started(&error));
            return findings;
        }
    };
    tokio::pin!(stop);
    tokio::select! {
        found = engine.try_everything() => findings.extend(found),
        () = &mut stop => {
            let left = engine.clean_up_everything(&Request::default()).await;
            findings.extend(left.into_iter().map(|problem| Finding::of(Standing::Fail, "records", problem)));
            findings.push(Finding::fail("everything else", "not tried: told to end", "run it again"));
        }
    }
    engine.connections.close().await;
    findings.extend(used.left());
    findings
}

/// Nobody is told of what happens: the findings say it.
struct Nobody;

impl Listener for Nobody {
    fn notice(&self, _: &Event) {}
}

fn not_started(error: &StartError) -> Finding {
    match error {
        StartError::Resolver(error) => Finding::failed("resolver", error),
        StartError::Roots(issuer, error) => Finding::failed(format!("issuer {issuer}: roots"), error),
        StartError::Store(error) => Finding::failed("state", error),
    }
}

/// A certificate with which we come to hosts.
fn of_credential(credential: &Credential, now: Timestamp) -> Finding {
    let subject = format!("ssh certificate {}", plain(&credential.file.display().to_string()));
    let hosts: Vec<&str> = credential.hosts.iter().map(HostName::as_str).collect();
    let ours = format!("with which we come to {}", hosts.join(", "));
    let until = minute(credential.until);
    let hint = "have the key signed again (`ssh-keygen -s CA -n USER …`), best by a timer";
    match () {
        () if credential.until == Timestamp::MAX => {
            Finding::ok(subject, format!("{ours}: it holds for ever"))
        }
        () if credential.until <= now => Finding::warn(subject, format!("{ours}: it ended on {until}"), hint),
        () if credential.ends_soon(now) => {
            Finding::warn(subject, format!("{ours}: it ends on {until}"), hint)
        }
        () => Finding::ok(subject, format!("{ours}: it holds until {until}")),
    }
}

/// There is a configuration, or we would not be here.
fn read_well(config: &Config) -> Finding {
    let counted = |count: usize, thing: &str| format!("{count} {thing}{}", if count == 1 { "" } else { "s" });
    let what = format!(
        "{}: {}, {}, no mistakes",
        config.path.display(),
        counted(config.desired.certificates.len(), "certificate"),
        counted(config.desired.hosts.len(), "host")
    );
    match config.warnings.len() {
        0 => Finding::ok("config", what),
        some => {
            let what = format!("{what}, {}", counted(some, "warning"));
            Finding::warn("config", what, "see the warnings above")
        }
    }
}

async fn secrets(config: &Config) -> Vec<Finding> {
    join_all(config.secrets.iter().map(|(line, key, secret)| {
        let subject = format!("secret `{key}` of line {line}");
        let secret = secret.clone();
        async move {
            // It may be the output of a command; it has a deadline of its own.
            match tokio::task::spawn_blocking(move || secret.read().map(drop)).await {
                Ok(Ok(())) => Finding::ok(subject, "can be read"),
                Ok(Err(error)) => Finding::failed(subject, &error),
                Err(_) => Finding::fail(subject, "reading it was interrupted", "run this again"),
            }
        }
    }))
    .await
}

impl Engine {
    async fn try_everything(&self) -> Vec<Finding> {
        let (issuers, hosts) = tokio::join!(self.try_issuers_and_names(), self.try_hosts());
        let credentials = super::credentials(&self.config, &self.config.ssh_identity());
        let credentials = credentials.iter().map(|credential| of_credential(credential, Timestamp::now()));
        issuers.into_iter().chain(credentials).chain(hosts).collect()
    }

    async fn try_issuers_and_names(&self) -> Vec<Finding> {
        let desired = &self.config.desired;
        let used: BTreeSet<&IssuerName> = desired.certificates.values().flat_map(|of| of.issuers()).collect();
        let issuers: Vec<&Issuer> =
            desired.issuers.values().filter(|issuer| used.contains(&issuer.name)).collect();
        let (glances, records) = tokio::join!(
            join_all(
                issuers.iter().map(|issuer| async move { (acme::glance(issuer).await, Timestamp::now()) })
            ),
            self.try_records()
        );
        let mut findings = Vec::new();
        let mut seen: BTreeMap<&IssuerName, Glance> = BTreeMap::new();
        for (issuer, (glance, _)) in issuers.iter().zip(&glances) {
            if let Ok(glance) = glance {
                seen.insert(&issuer.name, glance.clone());
            }
        }
        findings.push(clock(issuers.iter().copied().zip(&glances)));
        for (issuer, (glance, _)) in issuers.iter().zip(&glances) {
            let subject = format!("issuer {}", issuer.name);
            findings.push(match glance {
                Ok(_) => Finding::ok(subject, format!("{} answers", plain(&issuer.directory))),
                Err(error) => Finding::failed(subject, error),
            });
            findings.push(self.account_of(issuer, glance.as_ref().ok()));
        }
        findings.extend(records);
        findings.extend(self.try_caa(&seen).await);
        findings
    }

    fn account_of(&self, issuer: &Issuer, glance: Option<&Glance>) -> Finding {
        let subject = format!("account at {}", issuer.name);
        match self.store.account(&issuer.name, &issuer.directory) {
            Ok(Some(credentials)) => match acme::account_facts(&credentials) {
                Some(facts) => Finding::ok(subject, format!("{} is in the store", facts.id)),
                None => Finding::fail(
                    subject,
                    "what the store has of it is no account",
                    "restore the file in `accounts/` of the store from a backup, or move it away",
                ),
            },
            Ok(None)
                if glance.is_some_and(|glance| glance.needs_external_account)
                    && !self.config.external_accounts.contains_key(&issuer.name) =>
            {
                Finding::warn(
                    subject,
                    "there is none yet, and this CA wants accounts bound to one made on its web site",
                    format!("make one there and set `eab` in [issuer.{}]", issuer.name),
                )
            }
            Ok(None) => Finding::ok(subject, "there is none yet; the first order makes it"),
            Err(error) => Finding::failed(subject, &error),
        }
    }
}

type Answer = (Result<Glance, acme::Error>, Timestamp);

/// Our clock beside that of the CAs.
fn clock<'a>(answers: impl Iterator<Item = (&'a Issuer, &'a Answer)>) -> Finding {
    let mut least: Option<(SignedDuration, &IssuerName)> = None;
    for (issuer, (glance, here)) in answers {
        let Some(there) = glance.as_ref().ok().and_then(|glance| glance.date) else { continue };
        let off = here.duration_since(there);
        // Where they differ one of them is right, or so we hope: the nearest.
        if least.is_none_or(|(least, _)| off.abs() < least.abs()) {
            least = Some((off, &issuer.name));
        }
    }
    let Some((off, issuer)) = least else {
        return Finding::warn("clock", "not compared: no CA said what time it is", "see `timedatectl`");
    };
    let way = if off.is_negative() { "behind" } else { "ahead of" };
    let hint = "set it: `timedatectl set-ntp true`";
    let text = format!("{} s {way} that of {issuer}", off.abs().as_secs());
    match off.abs() {
        far if far > FAR_OFF => Finding::fail("clock", text, hint),
        some if some > OFF => Finding::warn("clock", text, hint),
        _ => Finding::ok("clock", format!("agrees with that of {issuer}")),
    }
}
