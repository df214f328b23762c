//! `rollout` of a certificate: which hosts get a new version first.

use std::num::NonZeroUsize;

use super::super::host;
use super::{Scope, defined};
use crate::kind::{Item, OneOrMore, Remedy, Section, quoted};
use crate::model::desired::Rollout;
use crate::model::name::HostName;
use toml::Spanned;

/// How new versions come to these hosts.
pub(super) fn rollout(
    section: &mut Section<'_>,
    hosts: &[HostName],
    scope: &Scope,
    who: &str,
) -> Option<Rollout> {
    let context = section.context();
    let before = context.count();
    let mut table = section.table("rollout", "rollout")?;
    let at = table.at();
    let canaries = table.optional::<OneOrMore<Spanned<String>>>("canary");
    let batch = table.take("batch");
    let batch = batch.and_then(|value| batch_size(Item::new("batch", value, context)));
    table.finish();
    let mut canary: Vec<HostName> = Vec::new();
    for word in canaries.into_iter().flat_map(|OneOrMore(words)| words) {
        let (place, word) = (word.span(), word.into_inner());
        let known = scope.hosts.keys().chain(scope.groups.keys()).map(String::as_str);
        if !defined(&word, known, &place, who, "host", host::SAMPLE, context) {
            continue;
        }
        let named: Vec<HostName> = match scope.groups.get(&word) {
            Some(group) => group.clone(),
            None => word.parse().into_iter().collect(),
        };
        for host in named {
            if !hosts.contains(&host) {
                let message = format!("the canary {} is no host of {who}", quoted(host.as_str()));
                context.mistake(
                    place.clone(),
                    message,
                    Remedy::Hint("add it to `hosts`, or name one of them".to_owned()),
                );
            } else if !canary.contains(&host) {
                canary.push(host);
            }
        }
    }
    if canary.is_empty() && batch.is_none() && context.count() == before {
        context.mistake(
            at,
            format!("`rollout` of {who} says nothing"),
            Remedy::Hint(
                "as in `rollout = { canary = \"web1\", batch = 2 }`; without it all hosts at once".to_owned(),
            ),
        );
        return None;
    }
    Some(Rollout { canary, batch })
}

fn batch_size(item: Item<'_>) -> Option<NonZeroUsize> {
    let text = match &item.value {
        toml::de::DeValue::Integer(number) => number.to_string(),
        _ => return item.mismatch("a whole number", "2"),
    };
    let size = text.parse::<usize>().ok().and_then(NonZeroUsize::new);
    size.or_else(|| item.refuse(&text, crate::kind::Refusal::new("it is a number of hosts", "1 or more")))
}
