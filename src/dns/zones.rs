//! Natural batching: changes to one zone that wait at the same time go out in one update.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::error::{Error, SharedError};
use super::{Account, Change};
use crate::model::name::DnsAccountName;

/// The DNS changes of this process: one worker for each account and zone that has any.
///
/// There is no timer. The first change goes out at once; whatever comes while it is under way
/// goes out together after it.
#[derive(Clone, Default)]
pub struct Zones {
    queues: Arc<Mutex<Queues>>,
}

/// There is a queue exactly as long as there is a worker for it.
type Queues = HashMap<Key, Vec<Waiting>>;
type Key = (DnsAccountName, String);

struct Waiting {
    account: Arc<Account>,
    change: Change,
    done: oneshot::Sender<Result<(), SharedError>>,
}

impl fmt::Debug for Zones {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Zones").finish_non_exhaustive()
    }
}

impl Zones {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes one change and waits for its own result.
    ///
    /// Changes of one zone are made in the order of these calls. Once this has been polled the
    /// change will be made even if the future is dropped. Must be called within a tokio runtime.
    pub async fn change(&self, account: &Arc<Account>, change: Change) -> Result<(), SharedError> {
        let key = (account.name.clone(), change.record().zone.clone());
        let (done, result) = oneshot::channel();
        let waiting = Waiting { account: Arc::clone(account), change, done };
        let first = match lock(&self.queues).entry(key.clone()) {
            Entry::Occupied(mut queue) => {
                queue.get_mut().push(waiting);
                false
            }
            Entry::Vacant(place) => {
                place.insert(vec![waiting]);
                true
            }
        };
        if first {
            tokio::spawn(Worker { queues: Arc::clone(&self.queues), key, finished: false }.run());
        }
        result.await.unwrap_or_else(|_| Err(Error::Interrupted.into()))
    }
}

struct Worker {
    queues: Arc<Mutex<Queues>>,
    key: Key,
    finished: bool,
}

impl Worker {
    async fn run(mut self) {
        while let Some(batch) = self.next() {
            self.make(batch).await;
        }
    }

    /// All that waits; at the end of work, the end of the queue.
    fn next(&mut self) -> Option<Vec<Waiting>> {
        let mut queues = lock(&self.queues);
        let queue = queues.get_mut(&self.key)?;
        let Some(first) = queue.first() else {
            queues.remove(&self.key);
            self.finished = true;
            return None;
        };
        // After a change of certs.toml an account may be there in two versions.
        let account = Arc::clone(&first.account);
        let end = queue.iter().position(|other| !Arc::ptr_eq(&other.account, &account));
        let later = queue.split_off(end.unwrap_or(queue.len()));
        Some(std::mem::replace(queue, later))
    }

    async fn make(&self, batch: Vec<Waiting>) {
        let Some(account) = batch.first().map(|first| Arc::clone(&first.account)) else { return };
        if !account.provider.batches() {
            return self.one_by_one(&account, batch).await;
        }
        let changes: Vec<Change> = batch.iter().map(|waiting| waiting.change.clone()).collect();
        match account.provider.apply(&self.key.1, &changes).await {
            Ok(()) => answer_all(batch, &Ok(())),
            Err(error) if error.is_refusal() && batch.len() > 1 => self.one_by_one(&account, batch).await,
            Err(error) => answer_all(batch, &Err(error.into())),
        }
    }

    /// So that one bad change does not take the others with it.
    async fn one_by_one(&self, account: &Account, batch: Vec<Waiting>) {
        let mut batch = batch.into_iter();
        while let Some(waiting) = batch.next() {
            let result = account.provider.apply(&self.key.1, std::slice::from_ref(&waiting.change)).await;
            match result {
                // Nobody there any more: a deadline for each of the others would be too long.
                Err(error) if !error.is_refusal() => {
                    let mut rest = vec![waiting];
                    rest.extend(batch);
                    return answer_all(rest, &Err(error.into()));
                }
                result => answer_all(vec![waiting], &result.map_err(SharedError::from)),
            }
        }
    }
}

impl Drop for Worker {
    /// After a panic in a provider: whoever waits gets an error, the next change a new worker.
    fn drop(&mut self) {
        if !self.finished {
            lock(&self.queues).remove(&self.key);
        }
    }
}

fn answer_all(batch: Vec<Waiting>, result: &Result<(), SharedError>) {
    for waiting in batch {
        // Who has gone away does not want to know.
        let _ = waiting.done.send(result.clone());
    }
}

fn lock(queues: &Mutex<Queues>) -> MutexGuard<'_, Queues> {
    // Nothing panics while it holds the lock.
    queues.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::super::{PropagationCheck, Provider, TxtRecord};
    use super::*;
    use crate::model::problem::Diagnose;

    /// Notes each batch; refuses the value `bad`, drops dead at `panic`; waits at `wait`.
    #[derive(Debug, Default)]
    struct Notes {
        batches: Mutex<Vec<Vec<String>>>,
        go: Notify,
        alone: bool,
    }

    #[async_trait]
    impl Provider for Arc<Notes> {
        async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
            let values: Vec<String> = changes.iter().map(|change| change.record().value.clone()).collect();
            self.batches.lock().unwrap().push(values.clone());
            let has = |value: &str| values.iter().any(|other| other == value);
            assert!(!has("panic"), "asked for");
            if has("wait") {
                self.go.notified().await;
            }
            match () {
                () if has("bad") => Err(Error::NotInZone { owner: "bad".to_owned(), zone: zone.to_owned() }),
                () if has("silent") => {
                    Err(Error::Timeout { server: "ns1:53".to_owned(), within: Duration::ZERO })
                }
                () => Ok(()),
            }
        }

        fn batches(&self) -> bool {
            !self.alone
        }
    }

    fn world() -> (Arc<Notes>, Arc<Account>, Zones) {
        world_of(Notes::default())
    }

    fn world_of(notes: Notes) -> (Arc<Notes>, Arc<Account>, Zones) {
        let notes = Arc::new(notes);
        let account = Account {
            name: "main".parse().unwrap(),
            provider: Arc::new(Arc::clone(&notes)),
            ttl: 60,
            check: PropagationCheck::Off,
            authoritative: Vec::new(),
            propagation_timeout: Duration::ZERO,
            secrets: Vec::new(),
            propagation_delay: Duration::ZERO,
        };
        (notes, Arc::new(account), Zones::new())
    }

    fn add(zone: &str, value: &str) -> Change {
        Change::Add(TxtRecord {
            zone: zone.to_owned(),
            owner: format!("_acme-challenge.{zone}"),
            value: value.to_owned(),
            ttl: 60,
            proof: None,
        })
    }

    /// Codes of the results, empty for success; the first change holds the worker up until all wait.
    async fn after_a_first(values: &[&str]) -> (Vec<Vec<String>>, Vec<&'static str>) {
        let (notes, account, zones) = world();
        let (first, rest) = tokio::join!(zones.change(&account, add("a.", "wait")), async {
            tokio::task::yield_now().await;
            let rest = values.iter().map(|value| zones.change(&account, add("a.", value)));
            tokio::join!(join_all(rest), async { notes.go.notify_one() }).0
        });
        assert!(first.is_ok());
        assert!(lock(&zones.queues).is_empty());
        let batches = notes.batches.lock().unwrap().clone();
        let code = |result: &Result<(), SharedError>| result.as_ref().err().map_or("", |error| error.code());
        (batches, rest.iter().map(code).collect())
    }

    #[tokio::test]
    async fn what_waits_together_goes_together() {
        let (batches, results) = after_a_first(&["1", "2", "3"]).await;
        assert_eq!(batches, [vec!["wait"], vec!["1", "2", "3"]]);
        assert_eq!(results, ["", "", ""]);
    }

    #[tokio::test]
    async fn one_bad_change_does_not_take_the_others_with_it() {
        let (batches, results) = after_a_first(&["1", "bad", "3"]).await;
        assert_eq!(batches, [vec!["wait"], vec!["1", "bad", "3"], vec!["1"], vec!["bad"], vec!["3"]]);
        assert_eq!(results, ["", "dns.not-in-zone", ""]);
    }

    #[tokio::test]
    async fn a_server_that_is_silent_is_not_asked_again_for_each() {
        let (batches, results) = after_a_first(&["1", "silent", "3"]).await;
        assert_eq!(batches.len(), 2);
        assert_eq!(results, ["dns.timeout"; 3]);
        let (batches, results) = after_a_first(&["1", "bad", "silent", "4"]).await;
        assert_eq!(batches.len(), 5);
        assert_eq!(results, ["", "dns.not-in-zone", "dns.timeout", "dns.timeout"]);
    }

    #[tokio::test]
    async fn without_batches_each_change_is_made_once_and_has_its_own_result() {
        let (notes, account, zones) = world_of(Notes { alone: true, ..Notes::default() });
        let codes = async |values: &[&str]| {
            let changes = values.iter().map(|value| zones.change(&account, add("a.", value)));
            let results = join_all(changes).await;
            results.iter().map(|result| result.as_ref().err().map_or("", Diagnose::code)).collect::<Vec<_>>()
        };
        assert_eq!(codes(&["1", "bad", "3"]).await, ["", "dns.not-in-zone", ""]);
        assert_eq!(codes(&["4", "silent", "6"]).await, ["", "dns.timeout", "dns.timeout"]);
        let batches = notes.batches.lock().unwrap().clone();
        assert_eq!(batches, [["1"], ["bad"], ["3"], ["4"], ["silent"]]);
    }

    #[tokio::test]
    async fn zones_do_not_wait_for_each_other() {
        let (notes, account, zones) = world();
        let held = zones.change(&account, add("a.", "wait"));
        let free = async {
            tokio::task::yield_now().await;
            assert!(zones.change(&account, add("b.", "1")).await.is_ok());
            notes.go.notify_one();
        };
        assert!(tokio::join!(held, free).0.is_ok());
    }

    #[tokio::test]
    async fn two_versions_of_an_account_do_not_mix() {
        let (notes, account, zones) = world();
        let newer = Arc::new(Account::clone(&account));
        let (held, _, _) = tokio::join!(
            zones.change(&account, add("a.", "wait")),
            zones.change(&account, add("a.", "old")),
            async {
                let newer = zones.change(&newer, add("a.", "new"));
                tokio::join!(newer, async { notes.go.notify_one() }).0
            }
        );
        assert!(held.is_ok());
        let batches = notes.batches.lock().unwrap().clone();
        assert_eq!(batches, [vec!["wait", "old"], vec!["new"]]);
    }

    #[tokio::test]
    async fn a_panic_of_a_provider_blocks_nobody() {
        let (_, account, zones) = world();
        let error = zones.change(&account, add("a.", "panic")).await.unwrap_err();
        assert_eq!(error.code(), "dns.interrupted");
        assert!(zones.change(&account, add("a.", "1")).await.is_ok());
    }

    #[tokio::test]
    async fn a_change_is_made_even_if_nobody_waits_for_it() {
        let (notes, account, zones) = world();
        {
            let change = std::pin::pin!(zones.change(&account, add("a.", "1")));
            assert!(futures::poll!(change).is_pending());
        }
        assert!(zones.change(&account, add("a.", "2")).await.is_ok());
        assert_eq!(notes.batches.lock().unwrap().concat(), ["1", "2"]);
    }
}
