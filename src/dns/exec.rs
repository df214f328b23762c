//! Records written by a program of yours that speaks the protocol of lego's `exec`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::mode::{Mode, proof};
use super::{Change, Error, Provider};
use crate::kind::{Kind, Section};

mod error;
mod run;

pub use error::ExecError;

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
    /// The account's table, `dns.main`.
    account: String,
    command: PathBuf,
    mode: Mode,
    timeout: Duration,
    /// Held while it runs: lego never runs it twice at the same time, so programs may count on that.
    turn: Mutex<()>,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Provider>> {
    let command = section.required("command", "\"/etc/certfleet/dns-hook\"");
    let mode = Mode::read(section);
    let timeout = crate::http::timeout(section, TIMEOUT);
    let account = section.path();
    Some(Arc::new(Exec { account, command: command?, mode: mode?, timeout, turn: Mutex::new(()) }))
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
                let proof = proof(record, &self.account)?;
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
            run::run(&self.account, &self.command, &arguments, self.timeout).await?;
        }
        Ok(())
    }

    fn batches(&self) -> bool {
        false
    }
}

/// For one call, unless `timeout` says otherwise.
const TIMEOUT: Duration = Duration::from_secs(60);
