//! `certfleet revoke`

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;

use super::{Exit, Output, Refusal, complain, unknown};
use crate::config::Config;
use crate::engine::{Engine, RevokeError};
use crate::model::name::{CertName, VersionNumber};
use crate::model::plan::minute;
use crate::model::problem::Problem;
use crate::model::state::Reason;
use crate::render::Progress;
use crate::store::Store;

/// What to revoke, and why.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The certificate, by its name; also one that certs.toml no longer names
    name: String,
    /// Its version [default: the newest]
    #[arg(long = "version", value_name = "N")]
    number: Option<u32>,
    /// Why; after key-compromise its key is not used again
    #[arg(long, default_value = "unspecified", value_parser = reason())]
    reason: Reason,
    /// Do not ask: it cannot be undone
    #[arg(long)]
    yes: bool,
}

fn reason() -> impl TypedValueParser<Value = Reason> {
    PossibleValuesParser::new(Reason::ALL.map(|(name, _)| name)).map(|text| {
        let found = Reason::ALL.iter().find(|(name, _)| *name == text);
        found.map_or(Reason::Unspecified, |(_, reason)| *reason)
    })
}

impl Output {
    pub(super) async fn revoke(&self, config: Config, args: &Arguments) -> Result<Exit, Refusal> {
        let problem = |error: &dyn crate::model::problem::Diagnose| Refusal::problem(&Problem::of(error));
        let store = Store::open(&config.store).map_err(|error| problem(&error))?;
        let state = store.load(Timestamp::now()).map_err(|error| problem(&error))?.state;
        let mut names = state.certificates.keys().chain(config.desired.certificates.keys());
        let Some(name) = names.find(|name| name.as_str() == args.name).cloned() else {
            return Err(unknown("certificate", &args.name, state.certificates.keys().map(CertName::as_str)));
        };
        confirm(&name, args.yes)?;
        let engine = Engine::new(Arc::new(config), store, Arc::new(Progress::new()), self.wait)
            .map_err(|error| Refusal::failed(&error))?;
        let (number, version) = match engine.revoke(&name, args.number.map(VersionNumber), args.reason).await
        {
            Ok(revoked) => revoked,
            Err(error) => {
                let exit = if matches!(error, RevokeError::Locked(..)) { Exit::Locked } else { Exit::Failed };
                return Err(Refusal { exit, ..problem(&error) });
            }
        };
        let (at, reason) = match &version.revoked {
            Some(revoked) => (revoked.at, revoked.reason),
            None => (Timestamp::now(), args.reason),
        };
        let newest = state.certificates.get(&name).and_then(|known| known.newest()).map(|(number, _)| number);
        let mut text = format!(
            "{name}: version {number} (serial {}) was revoked on {}, {}\n",
            version.serial,
            minute(at),
            reason
        );
        if newest == Some(number) {
            text.push_str(&format!("next: a pass replaces it; at once: `certfleet renew {name}`\n"));
        }
        let json = serde_json::json!({
            "certificate": name, "version": number, "serial": version.serial, "revoked-at": at, "reason": reason,
        });
        self.print(&text, &json);
        Ok(Exit::Done)
    }
}

/// Visitors may be locked out by it, and nothing brings it back: a person says so, or `--yes` does.
fn confirm(name: &CertName, yes: bool) -> Result<(), Refusal> {
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Refusal::usage(format!(
            "error: revoking `{name}` cannot be undone, and there is nobody to ask\n  hint: add --yes"
        )));
    }
    complain(&format!("revoking `{name}` cannot be undone; type its name to go on:"));
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    match read {
        Ok(_) if line.trim() == name.as_str() => Ok(()),
        _ => Err(Refusal::usage("error: that is not its name, nothing was revoked")),
    }
}
