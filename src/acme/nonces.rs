//! The nonces of one CA (RFC 8555 section 6.5), shared by all orders under way there.
//!
//! Every answer brings one. As no order keeps its own while it waits for DNS, many orders get along with few; CAs
//! are strict with those who ask for many (Let's Encrypt: 20 in a second).

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderValue;
use tokio::sync::Notify;

/// Nonces that nobody has used yet.
#[derive(Default)]
pub(super) struct Nonces {
    /// And when they came.
    spare: Mutex<Vec<(HeaderValue, Instant)>>,
    kept: Notify,
}

impl Nonces {
    /// Leaves one to whoever needs the next.
    pub(super) fn keep(&self, nonce: HeaderValue) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MOST {
            spare.push((nonce, Instant::now()));
            self.kept.notify_one();
        }
    }

    /// The newest, unless it is old: after a restart of the CA all older ones are bad.
    pub(super) fn take(&self) -> Option<HeaderValue> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.retain(|(_, since)| since.elapsed() < LIFE);
        spare.pop().map(|(nonce, _)| nonce)
    }

    /// Returns when there may be one again, at the latest after that time.
    pub(super) async fn wait(&self, at_most: Duration) {
        // Whether there is one `take` tells, in time or not.
        let _ = tokio::time::timeout(at_most, self.kept.notified()).await;
    }
}

/// CAs keep nonces for minutes at least; one that is refused costs no more than asking for one.
const LIFE: Duration = Duration::from_secs(60);
const MOST: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_gets_what_another_has_left() {
        let nonces = Nonces::default();
        assert_eq!(nonces.take(), None);
        let wait = nonces.wait(Duration::from_secs(3600));
        tokio::join!(wait, async { nonces.keep(HeaderValue::from_static("a")) });
        nonces.keep(HeaderValue::from_static("b"));
        assert_eq!(nonces.take().unwrap(), "b");
        assert_eq!(nonces.take().unwrap(), "a");
        assert_eq!(nonces.take(), None);
    }
}
