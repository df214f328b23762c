//! Time as it counts against others: what a busy machine of ours has lost itself does not.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout};

/// However late this process gets to run again, no more than this has passed for those that it waits for.
pub(super) const PIECE: Duration = Duration::from_millis(100);

/// How much longer somebody is waited for.
#[derive(Debug)]
pub struct Patience {
    left: Duration,
}

/// The other side has had its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLate;

impl Patience {
    /// For so long.
    pub fn of(limit: Duration) -> Self {
        Self { left: limit }
    }

    /// Waits for one step, in what the steps before it have left.
    pub async fn wait<T>(&mut self, work: impl Future<Output = T>) -> Result<T, TooLate> {
        let mut work = pin!(work);
        loop {
            let piece = Piece { most: self.left.min(PIECE), began: Instant::now(), left: &mut self.left };
            let done = timeout(piece.most, &mut work).await;
            drop(piece);
            match done {
                Ok(done) => return Ok(done),
                Err(_) if self.left.is_zero() => return Err(TooLate),
                Err(_) => {}
            }
        }
    }
}

/// Time that is counted when it ends, also when nobody waits any more.
struct Piece<'a> {
    most: Duration,
    began: Instant,
    left: &'a mut Duration,
}

impl Drop for Piece<'_> {
    fn drop(&mut self) {
        *self.left -= self.began.elapsed().min(self.most);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn what_we_lose_ourselves_is_not_held_against_others() {
        let busy = async {
            thread::sleep(PIECE * 5);
            tokio::task::yield_now().await;
        };
        assert_eq!(Patience::of(PIECE * 3).wait(busy).await, Ok(()));
        let mut patience = Patience::of(PIECE / 2);
        assert_eq!(patience.wait(std::future::pending::<()>()).await, Err(TooLate));
        assert_eq!(patience.wait(std::future::ready(7)).await, Ok(7));
    }

    #[tokio::test]
    async fn time_counts_although_something_else_comes_between() {
        let mut patience = Patience::of(PIECE);
        while patience.left > Duration::ZERO {
            tokio::select! {
                waited = patience.wait(std::future::pending::<()>()) => assert_eq!(waited, Err(TooLate)),
                () = tokio::time::sleep(PIECE / 10) => {}
            }
        }
    }
}
