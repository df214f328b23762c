//! Who issues a certificate, and what they are known to take.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

use super::super::{defined, issuer};
use super::{Scope, Seen, reference};
use crate::kind::{Context, Item, OneOrMore, Remedy, Section, Value, quoted};
use crate::model::name::Domain;

/// The issuers of a certificate, in order of preference.
pub(super) fn issuers<'s>(
    section: &mut Section<'_>,
    known: &'s BTreeMap<String, String>,
    who: &str,
    seen: &mut Seen,
) -> Option<Vec<(String, &'s str)>> {
    let context = section.context();
    let is_list = |value: &DeValue<'_>| matches!(value, DeValue::Array(_));
    if !section.peek("issuer").is_some_and(is_list) {
        return reference("issuer", section, known, issuer::SAMPLE, who, seen).map(|issuer| vec![issuer]);
    }
    let value = section.take("issuer")?;
    let OneOrMore(names) = OneOrMore::<Spanned<String>>::read(Item::new("issuer", value, context))?;
    let mut issuers: Vec<(String, &str)> = Vec::new();
    for name in names {
        let all = known.keys().map(String::as_str);
        if !defined(name.get_ref(), all, &name.span(), who, "issuer", issuer::SAMPLE, context) {
            continue;
        }
        if issuers.iter().any(|(other, _)| other == name.get_ref()) {
            let message = format!("{who} names issuer {} twice", quoted(name.get_ref()));
            context.mistake(name.span(), message, Remedy::Hint("remove one of the two".to_owned()));
            continue;
        }
        let said = known.get(name.get_ref())?;
        issuers.push((name.into_inner(), said));
    }
    Some(issuers)
}

/// Let's Encrypt's newer profiles take fewer names (its profiles page, 2026): said before it refuses.
pub(super) fn check_profile(
    domains: &[Spanned<Domain>],
    profile: Option<&str>,
    issuers: Option<&[(String, &str)]>,
    scope: &Scope,
    at: Range<usize>,
    who: &str,
    context: &Context<'_>,
) {
    const FEWER: [&str; 2] = ["tlsserver", "shortlived"];
    const MOST: usize = 25;
    let asked = issuers.unwrap_or_default().iter().filter_map(|(name, _)| scope.orders.get(name)).find_map(
        |(directory, own)| {
            let profile = profile.or(own.as_deref())?;
            let fewer = FEWER.contains(&profile) && directory.contains(".api.letsencrypt.org/");
            fewer.then_some(profile)
        },
    );
    if let Some(profile) = asked.filter(|_| domains.len() > MOST) {
        context.warning(
            at,
            format!(
                "{who} has {} domains, Let's Encrypt takes at most {MOST} with the profile \"{profile}\"",
                domains.len()
            ),
            "make several certificates of it, or use the profile \"classic\"",
        );
    }
}
