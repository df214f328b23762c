//! `certfleet check`: the preflight.

use std::sync::Arc;

use super::{Exit, Output, told_to_end};
use crate::config::Config;
use crate::engine::{self, Standing};
use crate::render;

impl Output {
    pub(super) async fn check(&self, config: Config) -> Exit {
        let findings = engine::check(Arc::new(config), told_to_end()).await;
        self.print(&render::check_text(&findings), &render::check_json(&findings));
        match findings.iter().any(|finding| finding.standing == Standing::Fail) {
            true => Exit::Failed,
            false => Exit::Done,
        }
    }
}
