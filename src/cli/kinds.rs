//! What certs.toml can name, listed, and each with a table to paste.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::{Exit, Refusal, put};
use crate::kind::{Kind, near};
use crate::model::problem::plain;

#[derive(Debug, Args)]
pub(super) struct KindArgs {
    /// Show a table for certs.toml, and what it needs
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// One family of kinds, and how people speak of it.
pub(super) struct Catalogue<T: ?Sized + 'static> {
    pub(super) kinds: &'static [Kind<T>],
    /// One of them: `provider`.
    pub(super) word: &'static str,
    /// The table with its first key: `[dns.main]`, `provider`.
    pub(super) table: (&'static str, &'static str),
    /// What is said below the list.
    pub(super) after: &'static str,
    /// What to do where a name is not known.
    pub(super) other: &'static str,
}

impl<T: ?Sized> Catalogue<T> {
    /// Prints all, or one of them. Needs no certs.toml.
    pub(super) fn run(&self, args: &KindArgs, as_json: bool) -> Result<Exit, Refusal> {
        let Some(name) = &args.name else {
            if as_json {
                put(&format!("{:#}", json!(self.kinds.iter().map(as_value).collect::<Vec<_>>())));
            } else {
                put(self.list().trim_end());
            }
            return Ok(Exit::Done);
        };
        let wanted = name.to_ascii_lowercase();
        let kind = self.kinds.iter().find(|kind| kind.name == wanted).ok_or_else(|| self.unknown(name))?;
        if as_json {
            put(&format!("{:#}", as_value(kind)));
        } else {
            put(self.table(kind).trim_end());
        }
        Ok(Exit::Done)
    }

    fn list(&self) -> String {
        let width = self.kinds.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for kind in self.kinds {
            let _ = writeln!(text, "{:width$}  {}", kind.name, kind.summary);
        }
        format!("{text}\n{}\n", self.after)
    }

    /// To be pasted into certs.toml as it is.
    fn table(&self, kind: &Kind<T>) -> String {
        let (table, key) = self.table;
        format!(
            "# {}\n# needs: {}\n{table}\n{key} = \"{}\"\n{}",
            kind.summary, kind.rights, kind.name, kind.example
        )
    }

    fn unknown(&self, name: &str) -> Refusal {
        let hint = match near(name, self.kinds.iter().map(|kind| kind.name)) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => self.other.to_owned(),
        };
        Refusal::usage(format!("error: there is no {} `{}`\n  hint: {hint}", self.word, plain(name)))
    }
}

fn as_value<T: ?Sized>(kind: &Kind<T>) -> serde_json::Value {
    json!({ "name": kind.name, "summary": kind.summary, "rights": kind.rights, "example": kind.example })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{channels, providers};
    use super::*;
    use crate::config::{self, Config};

    fn pasted(table: &str) -> Config {
        let text = format!(
            "[issuer.letsencrypt]\ncontact = [\"ops@example.org\"]\naccept-terms = true\n\
             [dns.zone]\nprovider = \"exec\"\ncommand = \"/etc/certfleet/dns-hook\"\n{table}\n\
             [[certificate]]\ndomains = [\"www.example.org\"]\nhosts = []\ndns = \"zone\"\n"
        );
        let config = config::parse(&text, Path::new("/etc/certfleet/certs.toml"));
        let config = config.unwrap_or_else(|mistakes| panic!("{table}: {mistakes}"));
        assert!(config.warnings.is_empty(), "{table}: {:?}", config.warnings);
        config
    }

    #[test]
    fn every_table_can_be_pasted() {
        for kind in providers::ALL.kinds {
            assert_eq!(pasted(&providers::ALL.table(kind)).dns.len(), 2);
        }
        for kind in channels::ALL.kinds {
            assert_eq!(pasted(&channels::ALL.table(kind)).alert_order, ["ops".parse().unwrap()]);
        }
    }

    #[test]
    fn every_kind_says_what_it_is_and_what_it_needs() {
        fn check<T: ?Sized>(all: &Catalogue<T>) {
            for kind in all.kinds {
                for text in [kind.summary, kind.rights] {
                    assert!(
                        !text.is_empty() && !text.contains('\n') && !text.ends_with('.'),
                        "{}",
                        kind.name
                    );
                }
                assert!(all.list().contains(&format!("{}  ", kind.name)));
            }
        }
        check(&providers::ALL);
        check(&channels::ALL);
    }
}
