//! One pass from the command line: what it came to, and who was told.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Exit, Output, Refusal, alert, told_to_end};
use crate::config::Config;
use crate::engine::{Engine, Summary};
use crate::model::history::How;
use crate::model::plan::{Request, Waiting};
use crate::model::problem::Problem;
use crate::render;
use crate::store::Store;

impl Output {
    /// A pass that a person asked for.
    pub(super) async fn pass(&self, config: Config, request: Request) -> Result<Exit, Refusal> {
        self.pass_by(How::Cli, config, request).await
    }

    /// A pass; then people are told.
    pub(super) async fn pass_by(&self, how: How, config: Config, request: Request) -> Result<Exit, Refusal> {
        let store = match Store::open(&config.store) {
            Ok(store) => store,
            Err(error) => {
                let problem = Problem::of(&error);
                alert::no_pass(&config, None, &problem, how).await;
                return Err(Refusal::problem(&problem));
            }
        };
        let config = Arc::new(config);
        let engine = match Engine::new(config.clone(), store.clone(), self.listener(), self.wait) {
            Ok(engine) => Arc::new(engine.run_by(how)),
            Err(error) => return Err(alert::not_begun(&config, &store, &error, how).await),
        };
        let summary = match engine.pass(&request, told_to_end()).await {
            Ok(summary) => summary,
            Err(error) => return Err(alert::not_begun(&config, &store, &error, how).await),
        };
        let now = Timestamp::now();
        self.print(&render::summary_text(&summary, now), &render::summary_json(&summary, now));
        let attended = alert::after_pass(&engine, &summary).await;
        // Whoever is told nothing must not believe that all is well.
        let untold = how != How::Cli && !attended.is_well();
        Ok(if untold { Exit::Failed } else { exit_of(&summary) })
    }
}

/// The worst that happened decides.
fn exit_of(summary: &Summary) -> Exit {
    // What failed and waits for its next attempt is still not done.
    let failing = |waiting: &Waiting| matches!(waiting, Waiting::Backoff(..));
    let failed = !summary.failed.is_empty() || !summary.unseen.is_empty();
    if failed || summary.interrupted || summary.waiting.iter().any(failing) {
        Exit::Failed
    } else if !summary.locked.is_empty() {
        Exit::Locked
    } else if summary.waiting.iter().any(Waiting::needs_person) || !summary.unreadable_debts.is_empty() {
        Exit::Attention
    } else {
        Exit::Done
    }
}
