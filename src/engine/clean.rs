//! Removing challenge records: after every attempt, and those that an earlier run left.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::apart::blocking;
use super::{Engine, Event};
use crate::dns::{Account, Change, PropagationCheck, SharedError, TxtRecord, View};
use crate::model::name::{CertName, DnsAccountName};
use crate::model::plan::Request;
use crate::model::problem::{Blame, Diagnose, Problem, Retry, plain};
use crate::model::state::TxtDebt;
use crate::store::LockError;

/// For removing the records of one certificate.
const CLEAN_UP: Duration = Duration::from_secs(30);

/// The same, when a run is told to end.
const LAST_CLEAN_UP: Duration = Duration::from_secs(20);

/// The account that is needed is not in certs.toml.
#[derive(Debug, thiserror::Error)]
#[error("the account [dns.{0}] is not in certs.toml")]
pub(super) struct NoAccount(pub(super) DnsAccountName);

impl Diagnose for NoAccount {
    fn code(&self) -> &'static str {
        "dns.no-account"
    }

    fn blame(&self) -> Blame {
        Blame::Operator
    }

    fn retry(&self) -> Retry {
        Retry::AfterChange
    }
}

/// One of them could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("the challenge record at `{owner}` could not be removed")]
struct NotRemoved {
    owner: String,
    source: SharedError,
}

impl Diagnose for NotRemoved {
    fn code(&self) -> &'static str {
        self.source.code()
    }

    fn blame(&self) -> Blame {
        self.source.blame()
    }

    fn retry(&self) -> Retry {
        self.source.retry()
    }

    fn hint(&self) -> Option<String> {
        self.source.hint()
    }
}

/// Removing took too long.
#[derive(Debug, thiserror::Error)]
#[error("the challenge records of `{certificate}` could not be removed within {} s{}", .limit.as_secs(), stays(.owners))]
struct TooSlow {
    certificate: CertName,
    limit: Duration,
    owners: BTreeSet<String>,
}

/// What stays for now, where that is known.
fn stays(owners: &BTreeSet<String>) -> String {
    let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
    match owners.as_slice() {
        [] => String::new(),
        [one] => format!(": the record at `{one}` stays"),
        some => format!(": those at `{}` stay", some.join("`, `")),
    }
}

impl Diagnose for TooSlow {
    fn code(&self) -> &'static str {
        "dns.clean-up-timeout"
    }

    fn blame(&self) -> Blame {
        Blame::Dns
    }
}

impl Engine {
    /// Removes what an earlier run left. Another process that is using the records holds the
    /// certificate's lock: then they are not left, and this does nothing.
    pub(super) async fn clean_up(&self, name: &CertName) -> Result<usize, Problem> {
        match self.store.lock_certificate(name, "removing challenge records", Timestamp::now()) {
            Ok(_held) => self.clean_up_of(name).await,
            Err(LockError::Held(_)) => Ok(0),
            Err(error) => Err(Problem::of(&error)),
        }
    }

    /// Removes every noted record of a certificate whose lock is ours; tells how many.
    pub(super) async fn clean_up_of(&self, name: &CertName) -> Result<usize, Problem> {
        let removed = tokio::time::timeout(CLEAN_UP, self.remove(name)).await;
        removed.unwrap_or_else(|_| Err(self.too_slow(name, CLEAN_UP)))
    }

    fn too_slow(&self, name: &CertName, limit: Duration) -> Problem {
        let (debts, _unreadable) = self.store.debts().unwrap_or_default();
        let own = debts.into_iter().filter(|debt| debt.certificate == *name);
        let owners = own.map(|debt| plain(debt.owner.trim_end_matches('.'))).collect();
        Problem::of(&TooSlow { certificate: name.clone(), limit, owners })
    }

    async fn remove(&self, name: &CertName) -> Result<usize, Problem> {
        let (debts, _unreadable) = self.store.debts().map_err(|error| Problem::of(&error))?;
        let (own, others): (Vec<TxtDebt>, Vec<TxtDebt>) =
            debts.into_iter().partition(|debt| debt.certificate == *name);
        let removals = own.iter().map(|debt| {
            // The CA may hand two orders the same token; the record goes with the last of them.
            let shared = others.iter().any(|other| {
                (&other.zone, &other.owner, &other.value) == (&debt.zone, &debt.owner, &debt.value)
            });
            async move {
                if !shared {
                    let account =
                        self.account(&debt.dns).ok_or_else(|| Problem::of(&NoAccount(debt.dns.clone())))?;
                    let record = TxtRecord {
                        zone: debt.zone.clone(),
                        owner: debt.owner.clone(),
                        value: debt.value.clone(),
                        ttl: account.ttl,
                        proof: debt.proof.clone(),
                    };
                    if let Err(error) = self.zones.change(account, Change::Remove(record)).await {
                        // What we may not remove we may not have set either: then it is not there.
                        if !(error.error().is_refusal() && self.is_nowhere(account, debt).await) {
                            let owner = plain(debt.owner.trim_end_matches('.'));
                            return Err(Problem::of(&NotRemoved { owner, source: error }));
                        }
                    }
                }
                blocking(|| self.store.settle_debt(debt)).map_err(|error| Problem::of(&error))
            }
        });
        let results = futures::future::join_all(removals).await;
        let count = results.len();
        results.into_iter().collect::<Result<Vec<()>, Problem>>().map(|_| count)
    }

    /// Whether every name server of the zone answers without the record.
    async fn is_nowhere(&self, account: &Account, debt: &TxtDebt) -> bool {
        // A resolver may only remember that there was nothing.
        if account.check == PropagationCheck::Resolver {
            return false;
        }
        let values = std::slice::from_ref(&debt.value);
        match self.lookup.seen(account, &debt.zone, &debt.owner, values).await {
            Ok(seen) => !seen.is_empty() && seen.iter().all(|sighting| sighting.view == View::Without),
            Err(_) => false,
        }
    }

    /// On the way out: everything of ours, as far as its lock is free. What stays is said, and why is returned; it
    /// is noted, and the next run removes it.
    pub(super) async fn clean_up_everything(&self, request: &Request) -> Vec<Problem> {
        let debts = match self.store.debts() {
            Ok((debts, _unreadable)) => debts,
            Err(error) => {
                let problem = Problem::of(&error);
                self.tell(Event::Oddity(problem.clone()));
                return vec![problem];
            }
        };
        let names: BTreeSet<CertName> =
            debts.into_iter().map(|debt| debt.certificate).filter(|name| request.selects(name)).collect();
        let cleaned = futures::future::join_all(names.iter().map(|name| async move {
            let cleaned = tokio::time::timeout(LAST_CLEAN_UP, self.clean_up(name)).await;
            let problem = cleaned.unwrap_or_else(|_| Err(self.too_slow(name, LAST_CLEAN_UP))).err()?;
            self.tell(Event::CleanUpFailed(name.clone(), problem.clone()));
            Some(problem)
        }));
        cleaned.await.into_iter().flatten().collect()
    }
}
