//! `certfleet providers`: what can write challenge records, and how to set it up.

use std::fmt::Write as _;

use clap::Args;
use serde_json::json;

use super::{Exit, Refusal, put};
use crate::dns::{KINDS, Provider};
use crate::kind::{Kind, near};
use crate::model::problem::plain;

#[derive(Debug, Args)]
pub(super) struct ProvidersArgs {
    /// Show a table for certs.toml, and the narrowest rights that do
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

/// Prints all providers, or one of them. Needs no certs.toml.
pub(super) fn run(args: &ProvidersArgs, as_json: bool) -> Result<Exit, Refusal> {
    let Some(name) = &args.name else {
        if as_json {
            put(&format!("{:#}", json!(KINDS.iter().map(as_value).collect::<Vec<_>>())));
        } else {
            put(list().trim_end());
        }
        return Ok(Exit::Done);
    };
    let wanted = name.to_ascii_lowercase();
    let kind = KINDS.iter().find(|kind| kind.name == wanted).ok_or_else(|| unknown(name))?;
    if as_json {
        put(&format!("{:#}", as_value(kind)))
    } else {
        put(table(kind).trim_end())
    }
    Ok(Exit::Done)
}

fn list() -> String {
    let width = KINDS.iter().map(|kind| kind.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for kind in KINDS {
        let _ = writeln!(text, "{:width$}  {}", kind.name, kind.summary);
    }
    text + "\n`certfleet providers NAME` prints its table for certs.toml, and the rights that it needs.\n\
            Any other provider is reached by a program (exec), by a web service (httpreq), or by one CNAME\n\
            record to a zone at one of these; certfleet follows it by itself.\n"
}

/// To be pasted into certs.toml as it is.
fn table(kind: &Kind<dyn Provider>) -> String {
    format!(
        "# {}\n# rights: {}\n[dns.main]\nprovider = \"{}\"\n{}",
        kind.summary, kind.rights, kind.name, kind.example
    )
}

fn as_value(kind: &Kind<dyn Provider>) -> serde_json::Value {
    json!({ "name": kind.name, "summary": kind.summary, "rights": kind.rights, "example": kind.example })
}

fn unknown(name: &str) -> Refusal {
    let names = || KINDS.iter().map(|kind| kind.name);
    let hint = match near(name, names()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`certfleet providers` lists them; `exec`, `httpreq` or a CNAME record reach every other"
            .to_owned(),
    };
    Refusal::usage(format!("error: there is no provider `{}`\n  hint: {hint}", plain(name)))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    #[test]
    fn every_table_can_be_pasted() {
        for kind in KINDS {
            let text = format!(
                "[issuer.letsencrypt]\ncontact = [\"ops@example.org\"]\naccept-terms = true\n{}\n\
                 [[certificate]]\ndomains = [\"www.example.org\"]\nhosts = []\n",
                table(kind)
            );
            let config = config::parse(&text, Path::new("/etc/certfleet/certs.toml"));
            let config = config.unwrap_or_else(|mistakes| panic!("{}: {mistakes}", kind.name));
            assert!(config.warnings.is_empty(), "{}: {:?}", kind.name, config.warnings);
            assert_eq!(config.dns.len(), 1);
        }
    }

    #[test]
    fn every_provider_says_what_it_is_and_what_it_may() {
        for kind in KINDS {
            for text in [kind.summary, kind.rights] {
                assert!(!text.is_empty() && !text.contains('\n') && !text.ends_with('.'), "{}", kind.name);
            }
            assert!(list().contains(&format!("{}  ", kind.name)));
        }
    }
}
