//! `certfleet renew --dry-run`

use std::sync::Arc;

use jiff::Timestamp;

use super::renew::Renew;
use super::{Exit, Output, Refusal, select, told_to_end};
use crate::config::Config;
use crate::engine::{Engine, Rehearsal};
use crate::model::plan::{Deploying, Request};
use crate::model::problem::Problem;
use crate::render::{Progress, rehearsal_json, rehearsal_text};
use crate::store::Store;

impl Output {
    pub(super) async fn dry_run(&self, config: Config, args: &Renew) -> Result<Exit, Refusal> {
        let request = Request {
            only: select(&config, &args.selection)?,
            deploying: if args.no_deploy { Deploying::No } else { Deploying::Lacking },
            ..Request::default()
        };
        let store = Store::open(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        let engine = Engine::new(Arc::new(config), store, Arc::new(Progress::new()), self.wait)
            .map_err(|error| Refusal::failed(&error))?;
        let rehearsal = engine.rehearse(&request, told_to_end()).await;
        self.print(&rehearsal_text(&rehearsal), &rehearsal_json(&rehearsal, Timestamp::now()));
        Ok(exit_of(&rehearsal))
    }
}

fn exit_of(rehearsal: &Rehearsal) -> Exit {
    let failed = rehearsal.issued.iter().any(|(.., result)| result.is_err())
        || rehearsal.hosts.iter().any(|(_, result)| result.is_err())
        || !rehearsal.left.is_empty();
    match () {
        () if failed || rehearsal.interrupted => Exit::Failed,
        () if !rehearsal.locked.is_empty() => Exit::Locked,
        () => Exit::Done,
    }
}
