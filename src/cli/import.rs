//! `certfleet import`: taking over certbot's lineages.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Exit, Output, Refusal, unknown};
use crate::config::Config;
use crate::deploy::CERTBOT;
use crate::engine::{self, Found, Lineage, NotFetched, Stored};
use crate::model::desired::KeyType;
use crate::model::name::{Domain, HostName};
use crate::model::plan::minute;
use crate::model::problem::{Problem, plain};
use crate::store::Store;

#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// certbot's folder, mostly /etc/letsencrypt, or a copy of it; else a host of certs.toml, whose folder is read
    /// over its connection
    ///
    /// What has a `/` in it, or is a folder here, is a path. Of a host's private keys those are fetched that certs.toml
    /// has a certificate of the same name for; what the host says of itself is believed.
    #[arg(value_name = "PATH|HOST")]
    place: PathBuf,
    /// certbot's folder on the host [default: /etc/letsencrypt]
    #[arg(long, value_name = "DIR", value_parser = folder)]
    from: Option<String>,
    /// Take over the ACME accounts, too, for issuers of certs.toml with the same directory
    #[arg(long)]
    accounts: bool,
}

impl ImportArgs {
    fn is_path(&self) -> bool {
        let text = self.place.as_os_str().as_encoded_bytes();
        text.contains(&b'/') || self.from.is_none() && self.place.is_dir()
    }
}

/// A folder on a host, as the script there takes it: one line.
fn folder(text: &str) -> Result<String, String> {
    match text {
        _ if !text.starts_with('/') => Err("it has to begin with `/`".to_owned()),
        _ if text.contains(char::is_control) => {
            Err("it has characters that no folder should have".to_owned())
        }
        _ if text.len() > 4000 => Err("it is too long".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

impl Output {
    /// Without a configuration it only shows what is there, and what to write into one.
    pub(super) async fn import(&self, config: Option<&Config>, args: &ImportArgs) -> Result<Exit, Refusal> {
        let found = if args.is_path() { from_path(config, args)? } else { from_host(config, args).await? };
        self.print(&text(&found, args.accounts && config.is_some()), &json(&found));
        let wrong = |lineage: &Lineage| matches!(lineage.stored, Stored::Failed(_) | Stored::Unusable);
        Ok(if found.cut || found.lineages.iter().any(wrong) { Exit::Failed } else { Exit::Done })
    }
}

fn from_path(config: Option<&Config>, args: &ImportArgs) -> Result<Found, Refusal> {
    if args.from.is_some() {
        return Err(Refusal::usage(
            "error: `--from` names a folder on a host, and this is a path\n  hint: a host is named as in certs.toml",
        ));
    }
    let store = config.map(open).transpose()?;
    engine::import(&args.place, config, store.as_ref(), args.accounts)
        .map_err(|error| Refusal::usage(format!("error: {error}\n  hint: {}", error.hint())))
}

async fn from_host(config: Option<&Config>, args: &ImportArgs) -> Result<Found, Refusal> {
    let name = args.place.to_string_lossy();
    let Some(config) = config else {
        return Err(Refusal::usage(format!(
            "error: `{}` is no folder here, and without certs.toml there are no hosts\n  \
             hint: name certbot's folder, mostly /etc/letsencrypt",
            plain(&name)
        )));
    };
    let hosts = &config.desired.hosts;
    let Some(host) = hosts.values().find(|host| host.name.as_str() == name) else {
        let known = unknown("host", &name, hosts.keys().map(HostName::as_str)).text;
        return Err(Refusal::usage(format!(
            "{known}\n  hint: nor is it a folder here; /etc/letsencrypt is one, mostly"
        )));
    };
    let root = args.from.as_deref().unwrap_or(CERTBOT);
    let tree = engine::fetch(config, host, root, args.accounts).await.map_err(|error| match error {
        NotFetched::Problem(problem) => Refusal::problem(&problem),
        NotFetched::NoTree(error, hint) => Refusal::usage(format!("error: {error}\n  hint: {hint}")),
    })?;
    Ok(engine::import_from(&tree, config, &open(config)?, args.accounts))
}

fn open(config: &Config) -> Result<Store, Refusal> {
    Store::open(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))
}

fn text(found: &Found, accounts: bool) -> String {
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
    if accounts && found.accounts.is_empty() {
        text.push_str("there are no accounts\n");
    }
    if found.cut {
        text.push_str(
            "INCOMPLETE: there is more than one answer may have, and nothing was taken of the rest\n  \
             hint: copy the folder here, and import the copy\n",
        );
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
        "incomplete": found.cut,
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
