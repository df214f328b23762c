//! Records written by a program of yours that speaks the protocol of lego's `exec`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::mode::{Mode, proof};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Section};
use crate::model::problem::{Blame, Diagnose};
use crate::program::{self, Program};

/// The table entry.
pub const KIND: Kind<dyn Provider> = Kind {
    name: "exec",
    summary: "a program of yours, called as lego calls it: `COMMAND present|cleanup FQDN VALUE`",
    example: r#"command = "/etc/certfleet/dns-hook"
"#,
    rights: "the program runs as certfleet's user: let what it logs in with change TXT of the challenge names only",
    build,
};

/// A program and how it is called.
#[derive(Debug)]
struct Exec {
    program: Program,
    mode: Mode,
    /// Held while it runs: lego never runs it twice at the same time, so programs may count on that.
    turn: Mutex<()>,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let command = section.required("command", "\"/etc/certfleet/dns-hook\"");
    let mode = Mode::read(section);
    let timeout = crate::http::timeout(section, TIMEOUT);
    let program = Program { owner: section.path(), command: command?, timeout };
    Some(Arc::new(Exec { program, mode: mode?, turn: Mutex::new(()) }))
}

impl Exec {
    /// What follows the program's name, as lego writes it.
    fn arguments(&self, change: &Change) -> Result<Vec<String>, Error> {
        let verb = match change {
            Change::Add(_) => "present",
            Change::Remove(_) => "cleanup",
        };
        let record = change.record();
        Ok(match self.mode {
            Mode::Default => vec![verb.to_owned(), record.owner.clone(), record.value.clone()],
            Mode::Raw => {
                let proof = proof(record, &self.program.owner)?;
                [verb, "--", &proof.domain.to_string(), &proof.token, &proof.key_authorization]
                    .map(str::to_owned)
                    .to_vec()
            }
        })
    }
}

#[async_trait]
impl Provider for Exec {
    async fn apply(&self, _zone: &str, changes: &[Change]) -> Result<(), Error> {
        for change in changes {
            let arguments = self.arguments(change)?;
            let _turn = self.turn.lock().await;
            self.program.run(&arguments).await.map_err(ExecError)?;
        }
        Ok(())
    }

    fn batches(&self) -> bool {
        false
    }
}

/// Why a program did not write a record.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ExecError(program::Error);

impl ExecError {
    /// Whether it looked at this one change and did not like it.
    pub(crate) fn is_refusal(&self) -> bool {
        self.0.is_refusal()
    }
}

impl Diagnose for ExecError {
    fn code(&self) -> &'static str {
        match self.0 {
            program::Error::Missing { .. }
            | program::Error::NotAFile { .. }
            | program::Error::Start { .. } => "dns.command",
            program::Error::WorldWritable { .. } => "dns.command-unsafe",
            program::Error::Failed { .. } => "dns.command-failed",
            program::Error::Slow { .. } => "dns.timeout",
        }
    }

    fn blame(&self) -> Blame {
        match self.0 {
            program::Error::Failed { .. } | program::Error::Slow { .. } => Blame::Dns,
            _ => Blame::Operator,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(self.0.hint())
    }
}

/// For one call, unless `timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
