//! `[alert.NAME]`, `[alerting]` and `[heartbeat]`

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;

use crate::kind::{OneOrMore, Remedy, Section, listed, near, quoted};
use crate::model::name::ChannelName;
use crate::notify::{Channel, KINDS, journal};
use crate::secret::Secret;

/// A table to copy where there is none.
const SAMPLE: &str =
    "add\n[alert.ops]\nchannel = \"discord\"\nurl = { file = \"/etc/certfleet/secrets/discord\" }";

/// The channel that there is without a table.
const DEFAULT: &str = "journal";

/// Who is told, and in which order.
#[derive(Debug, Default)]
pub(super) struct Alerting {
    pub(super) channels: BTreeMap<ChannelName, Arc<dyn Channel>>,
    pub(super) order: Vec<ChannelName>,
    pub(super) heartbeat: Option<Secret>,
}

/// Reads all tables about alerts.
pub(super) fn read(top: &mut Section<'_>) -> Alerting {
    let mut alerting = Alerting::default();
    let mut tables = super::named::<ChannelName>(top, "alert");
    // The file's order is the order in which they are told.
    tables.sort_by_key(|table| table.section.at().start);
    let mut known: Vec<String> = Vec::new();
    for table in tables {
        known.push(table.text);
        let Some((name, channel)) = table.name.zip(channel(table.section)) else { continue };
        alerting.order.push(name.clone());
        alerting.channels.insert(name, channel);
    }
    if let (false, Ok(name)) = (known.iter().any(|name| name == DEFAULT), DEFAULT.parse::<ChannelName>()) {
        // Told where nobody else is; besides, there for who asks for it.
        if known.is_empty() {
            alerting.order.push(name.clone());
        }
        known.push(DEFAULT.to_owned());
        alerting.channels.insert(name, journal::default());
    }
    if let Some(mut section) = super::sole(top, "alerting") {
        if let Some(OneOrMore(order)) = section.optional("order") {
            alerting.order = in_order(order, &known, &section);
        }
        section.finish();
    }
    if let Some(mut section) = super::sole(top, "heartbeat") {
        alerting.heartbeat = section.required("url", "{ file = \"/etc/certfleet/secrets/heartbeat\" }");
        section.finish();
    }
    alerting
}

fn channel(mut section: Section<'_>) -> Option<Arc<dyn Channel>> {
    // Without a channel the other keys are nobody's, and nobody's fault.
    let channel: Spanned<String> = section.required("channel", "\"discord\"")?;
    let Some(kind) = KINDS.iter().find(|kind| kind.name == channel.get_ref()) else {
        let names = || KINDS.iter().map(|kind| kind.name);
        let remedy = match near(channel.get_ref(), names()) {
            Some(meant) => Remedy::DidYouMean(meant.to_owned()),
            None => Remedy::Hint(format!("known are {}", listed(names()))),
        };
        section.mistake(channel.span(), format!("unknown channel {}", quoted(channel.get_ref())), remedy);
        return None;
    };
    let built = (kind.build)(&mut section);
    section.finish();
    built
}

fn in_order(wanted: Vec<Spanned<String>>, known: &[String], section: &Section<'_>) -> Vec<ChannelName> {
    let mut order: Vec<ChannelName> = Vec::new();
    for entry in wanted {
        let (at, text) = (entry.span(), entry.into_inner());
        let names = known.iter().map(String::as_str);
        if !super::defined(&text, names, &at, "`order`", "channel", SAMPLE, section.context()) {
            continue;
        }
        let Ok(name) = text.parse::<ChannelName>() else { continue };
        if order.contains(&name) {
            let hint = "each is told once: remove one of the two".to_owned();
            section.mistake(at, format!("`order` names channel {} twice", quoted(&text)), Remedy::Hint(hint));
            continue;
        }
        order.push(name);
    }
    order
}
