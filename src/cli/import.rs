//! `certfleet import`: taking over certbot's lineages.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Exit, Output, Refusal};
use crate::config::Config;
use crate::engine::{self, Found, Lineage, Stored};
use crate::model::desired::KeyType;
use crate::model::name::Domain;
use crate::model::plan::minute;
use crate::model::problem::{Problem, plain};
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// certbot's folder, mostly /etc/letsencrypt, or a copy of it
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// Take over the ACME accounts, too, for issuers of certs.toml with the same directory
    #[arg(long)]
    accounts: bool,
}

impl Output {
    /// Without a configuration it only shows what is there, and what to write into one.
    pub(super) fn import(&self, config: Option<&Config>, args: &ImportArgs) -> Result<Exit, Refusal> {
        let store = config.map(|config| Store::open(&config.store)).transpose();
        let store = store.map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        let found = engine::import(&args.path, config, store.as_ref(), args.accounts)
            .map_err(|error| Refusal::usage(format!("error: {error}\n  hint: {}", error.hint())))?;
        self.print(&text(&found), &json(&found));
        let wrong = |lineage: &Lineage| matches!(lineage.stored, Stored::Failed(_) | Stored::Unusable);
        Ok(if found.lineages.iter().any(wrong) { Exit::Failed } else { Exit::Done })
    }
}

fn text(found: &Found) -> String {
    let mut text = String::new();
    if found.lineages.is_empty() {
        text.push_str("there are no lineages\n");
    }
    for lineage in &found.lineages {
        match &lineage.content {
            Ok(content) => {
                let _ = writeln!(
                    text,
                    "{}: {}, {}, valid until {}: {}",
                    lineage.name,
                    listed(&content.domains),
                    key_word(content.key),
                    minute(content.not_after),
                    outcome(&lineage.stored)
                );
            }
            Err((why, hint)) => {
                let _ = writeln!(text, "{}: cannot be taken over: {why}\n  hint: {hint}", lineage.name);
            }
        }
    }
    for account in &found.accounts {
        let path = plain(&account.path.display().to_string());
        let _ = match &account.taken {
            Ok(issuer) => writeln!(text, "account {path}: used for {issuer} from now on"),
            Err(why) => writeln!(text, "account {path}: {why}"),
        };
    }
    let missing: Vec<String> = found.lineages.iter().filter_map(entry).collect();
    if !missing.is_empty() {
        let _ = write!(
            text,
            "\nadd these to certs.toml, name the `hosts` that serve each, and run this again:\n\n{}",
            missing.join("\n")
        );
    }
    text
}

fn outcome(stored: &Stored) -> String {
    match stored {
        Stored::Now => "taken over as version 1".to_owned(),
        Stored::HasVersions => "left alone, the store has versions of it already".to_owned(),
        Stored::NotInConfig => "not in certs.toml yet".to_owned(),
        Stored::Differs(why) => format!("left alone, it would be issued anew: {why}"),
        Stored::Failed(problem) => format!("FAILED: {}", problem.one_line()),
        Stored::Unusable => "unusable".to_owned(),
    }
}

/// The entry for certs.toml, for a lineage that it has none for.
fn entry(lineage: &Lineage) -> Option<String> {
    let content = lineage.content.as_ref().ok().filter(|_| lineage.stored == Stored::NotInConfig)?;
    let mut text = certificate_entry(&lineage.name, &content.domains, Some(content.key));
    if let Some(issuer) = &content.issuer {
        let _ = writeln!(text, "issuer = \"{issuer}\"");
    } else if let Some(server) = &content.server {
        let _ = writeln!(text, "# issued by {server}");
    }
    Some(text)
}

/// A `[[certificate]]` for these domains, to paste.
pub(super) fn certificate_entry(name: &str, domains: &[Domain], key: Option<KeyType>) -> String {
    let quoted: Vec<String> = domains.iter().map(|domain| format!("\"{domain}\"")).collect();
    let mut text = format!("[[certificate]]\ndomains = [{}]\n", quoted.join(", "));
    if domains.first().is_none_or(|first| first.default_cert_name().as_str() != name) {
        let _ = writeln!(text, "name = \"{name}\"");
    }
    if let Some(key) = key.filter(|key| *key != KeyType::default()) {
        let _ = writeln!(text, "key = \"{}\"", key_word(key));
    }
    text
}

fn json(found: &Found) -> Value {
    let lineage = |lineage: &Lineage| {
        let content = lineage.content.as_ref().ok();
        json!({
            "name": lineage.name,
            "domains": content.map(|content| content.domains.clone()),
            "key": content.map(|content| key_word(content.key)),
            "not-after": content.map(|content: &_| -> Timestamp { content.not_after }),
            "server": content.and_then(|content| content.server.clone()),
            "taken-over": lineage.stored == Stored::Now,
            "outcome": match &lineage.content {
                Ok(_) => outcome(&lineage.stored),
                Err((why, _)) => why.clone(),
            },
            "hint": lineage.content.as_ref().err().map(|(_, hint)| hint),
            "entry": entry(lineage),
        })
    };
    json!({
        "lineages": found.lineages.iter().map(lineage).collect::<Vec<_>>(),
        "accounts": found.accounts.iter().map(|account| json!({
            "path": plain(&account.path.display().to_string()),
            "issuer": account.taken.as_ref().ok(),
            "problem": account.taken.as_ref().err(),
        })).collect::<Vec<_>>(),
    })
}

fn listed(domains: &[Domain]) -> String {
    domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn key_word(key: KeyType) -> &'static str {
    match key {
        KeyType::EcdsaP256 => "ecdsa-p256",
        KeyType::EcdsaP384 => "ecdsa-p384",
        KeyType::Rsa2048 => "rsa-2048",
        KeyType::Rsa4096 => "rsa-4096",
    }
}
