//! Work in tasks of its own, so that a disk that is slow to sync, or a large key that takes seconds, holds up
//! nobody else: a pass itself never waits for a disk.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// For tasks that were told to stop: what they can be in the middle of is a write.
const LAST_WRITE: Duration = Duration::from_secs(3);

/// The tasks of one pass.
pub(super) struct Apart {
    alive: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Apart {
    pub(super) fn new() -> Self {
        let (alive, ended) = mpsc::channel(1);
        Self { alive, ended }
    }

    /// Begins a task; it is stopped when the future that waits for it is dropped.
    pub(super) fn begin<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Stopping<T> {
        let alive = self.alive.clone();
        let task = tokio::spawn(async move {
            // Let go of only with the work.
            let _alive = alive;
            work.await
        });
        Stopping(task)
    }

    /// Waits until every task has let go of what it held: locks, above all.
    pub(super) async fn ended(self) {
        let Self { alive, mut ended } = self;
        drop(alive);
        // Nothing is ever sent: it is over when the last sender is gone.
        let _ = tokio::time::timeout(LAST_WRITE, ended.recv()).await;
    }
}

/// A task that is waited for.
pub(super) struct Stopping<T>(JoinHandle<T>);

impl<T> Future for Stopping<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match Pin::new(&mut self.0).poll(context) {
            Poll::Ready(Ok(value)) => Poll::Ready(value),
            Poll::Ready(Err(error)) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only the end of the runtime takes a task away that is still waited for.
                Err(_) => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<T> Drop for Stopping<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs what waits for the disk or takes long to compute; other tasks go on meanwhile.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
