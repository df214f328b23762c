//! `certfleet account`

use std::fmt::Write;
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::{Exit, Output, Refusal, unknown};
use crate::acme::account_facts;
use crate::config::Config;
use crate::engine::Engine;
use crate::model::name::IssuerName;
use crate::model::problem::Problem;
use crate::render::Progress;
use crate::store::Store;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub(super) enum Account {
    /// The account at each issuer, with its URL, as CAA records name it; asks nobody
    Show,
    /// Register an account now, in place of at the first order
    Register {
        /// The issuer, by its name in certs.toml
        issuer: String,
        /// Also where there is an account: a new one takes its place
        #[arg(long)]
        replace: bool,
    },
}

impl Output {
    pub(super) async fn account(&self, config: Config, what: &Account) -> Result<Exit, Refusal> {
        match what {
            Account::Show => self.show_accounts(&config),
            Account::Register { issuer, replace } => self.register(config, issuer, *replace).await,
        }
    }

    fn show_accounts(&self, config: &Config) -> Result<Exit, Refusal> {
        let store =
            Store::open_existing(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        let (mut text, mut list) = (String::new(), Vec::new());
        for issuer in config.desired.issuers.values() {
            let saved = match &store {
                Some(store) => store
                    .account(&issuer.name, &issuer.directory)
                    .map_err(|error| Refusal::problem(&Problem::of(&error)))?,
                None => None,
            };
            let id = saved.and_then(|saved| account_facts(&saved)).map(|facts| facts.id);
            let shown = id.as_deref().unwrap_or("none yet; the first order registers it");
            let _ = writeln!(
                text,
                "{}: {shown}\n  directory {}\n  contact   {}",
                issuer.name,
                issuer.directory,
                issuer.contact.join(", ")
            );
            list.push(json!({
                "issuer": issuer.name, "directory": issuer.directory, "account": id, "contact": issuer.contact,
            }));
        }
        self.print(&text, &json!({ "accounts": list }));
        Ok(Exit::Done)
    }

    async fn register(&self, config: Config, issuer: &str, replace: bool) -> Result<Exit, Refusal> {
        let issuers = &config.desired.issuers;
        let Some(issuer) = issuers.values().find(|known| known.name.as_str() == issuer).cloned() else {
            return Err(unknown("issuer", issuer, issuers.keys().map(IssuerName::as_str)));
        };
        let store = Store::open(&config.store).map_err(|error| Refusal::problem(&Problem::of(&error)))?;
        let account = || {
            let saved = store.account(&issuer.name, &issuer.directory);
            saved.map_err(|error| Refusal::problem(&Problem::of(&error)))
        };
        if account()?.is_some() && !replace {
            return Err(Refusal::usage(format!(
                "error: there is an account at `{}` already\n  hint: `certfleet account show` shows it; --replace \
                 registers another in its place",
                issuer.name
            )));
        }
        let engine = Engine::new(Arc::new(config), store.clone(), Arc::new(Progress::new()), self.wait)
            .map_err(|error| Refusal::failed(&error))?;
        engine.register(&issuer.name).await.map_err(|error| Refusal::problem(&Problem::of(&*error)))?;
        let id = account()?.and_then(|saved| account_facts(&saved)).map(|facts| facts.id).unwrap_or_default();
        let text = format!("{}: registered {id}\n", issuer.name);
        self.print(&text, &json!({ "issuer": issuer.name, "account": id }));
        Ok(Exit::Done)
    }
}
