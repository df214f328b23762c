//! One address of a host, and how many look at it at a time.

use std::sync::OnceLock;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::model::observed::{Look, Seen};
use crate::model::problem::Problem;
use crate::probe::Question;

/// What says that nobody is there at all.
const SILENT: [&str; 4] = ["probe.refused", "probe.no-route", "probe.connect", "probe.timeout"];

/// Looks at one address at a time, once it has answered.
pub(super) const ABREAST: usize = 8;

/// An address that many names are asked of.
///
/// Until it has answered once there is one look at a time: of an address that is silent one look is enough, and it
/// takes nobody else's turn.
pub(super) struct Endpoint {
    turns: Semaphore,
    /// What the first look came to: `None` = an answer.
    first: OnceLock<Option<Problem>>,
}

impl Endpoint {
    pub(super) fn new() -> Self {
        Self { turns: Semaphore::new(1), first: OnceLock::new() }
    }

    /// Takes a look when it is its turn; what silence the first look met holds for all.
    pub(super) async fn look(&self, question: Question<'_>, look: impl Future<Output = Look>) -> Look {
        // Closed only with the endpoint.
        let _turn = self.turns.acquire().await.ok();
        if let Some(Some(problem)) = self.first.get() {
            return Look {
                address: question.address,
                name: question.name.clone(),
                at: Timestamp::now(),
                seen: Seen::Unreachable(problem.clone()),
            };
        }
        let look = look.await;
        let silence = match &look.seen {
            // That it has nothing for this name says nothing of the next.
            Seen::Unreachable(problem) if SILENT.contains(&problem.code.as_str()) => Some(problem.clone()),
            _ => None,
        };
        if self.first.set(silence).is_ok() {
            self.turns.add_permits(ABREAST - 1);
        }
        look
    }
}
