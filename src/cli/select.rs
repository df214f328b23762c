//! The certificates and hosts that arguments name.

use std::collections::BTreeSet;

use super::{Refusal, Selection};
use crate::config::Config;
use crate::model::name::{CertName, Domain};

/// The certificates that the arguments name; `None` = all.
pub(super) fn select(config: &Config, selection: &Selection) -> Result<Option<BTreeSet<CertName>>, Refusal> {
    if selection.names.is_empty() {
        return Ok(None);
    }
    let certificates = &config.desired.certificates;
    let mut only = BTreeSet::new();
    for text in &selection.names {
        // As DNS tools print it.
        let domain: Option<Domain> = text.strip_suffix('.').unwrap_or(text).parse().ok();
        let mut found: BTreeSet<CertName> = certificates
            .values()
            .filter(|certificate| {
                certificate.name.as_str() == text
                    || domain.as_ref().is_some_and(|domain| certificate.domains.contains(domain))
            })
            .map(|certificate| certificate.name.clone())
            .collect();
        if let (true, Some(domain)) = (found.is_empty(), &domain) {
            let covering = certificates
                .values()
                .filter(|certificate| certificate.domains.iter().any(|of| of.covers(domain)));
            found.extend(covering.map(|certificate| certificate.name.clone()));
        }
        if found.is_empty() {
            return Err(unknown("certificate", text, certificates.keys().map(CertName::as_str)));
        }
        only.extend(found);
    }
    Ok(Some(only))
}

/// The refusal of a name that certs.toml does not have.
pub(super) fn unknown<'a>(what: &str, text: &str, known: impl Iterator<Item = &'a str>) -> Refusal {
    let known: Vec<&str> = known.collect();
    let text = crate::model::problem::plain(text);
    let near = known
        .iter()
        .filter(|name| strsim::jaro_winkler(name, &text) > 0.8)
        .max_by(|a, b| strsim::jaro_winkler(a, &text).total_cmp(&strsim::jaro_winkler(b, &text)));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("certs.toml defines no {what}"),
        None => format!("certs.toml has {}", known.join(", ")),
    };
    let is = if what == "certificate" { "is or covers" } else { "is named" };
    Refusal::usage(format!("error: no {what} of certs.toml {is} `{text}`\n  hint: {hint}"))
}
