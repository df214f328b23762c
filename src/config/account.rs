//! `[dns.NAME]`

use std::time::Duration;

use jiff::SignedDuration;
use toml::Spanned;
use toml::de::DeValue;

use crate::dns::{Account, KINDS, PropagationCheck};
use crate::kind::{Item, Refusal, Remedy, Section, Value, address, listed, near, quoted};
use crate::model::name::DnsAccountName;

/// A table to copy where there is none.
pub(super) const SAMPLE: &str = "add\n[dns.main]\nprovider = \"rfc2136\"\nserver = \"ns1.example.org:53\"\n\
                                 key-name = \"certfleet\"\nsecret = { file = \"/etc/certfleet/secrets/tsig\" }";

/// Low: a challenge record lives for a minute, and what resolvers keep of it is in the way.
const TTL: u32 = 60;

/// Reads the table of the account `name`.
pub(super) fn read(name: DnsAccountName, mut section: Section<'_>) -> Option<Account> {
    let provider: Option<Spanned<String>> = section.required("provider", "\"rfc2136\"");
    let ttl = section.optional("ttl").map_or(TTL, |Seconds(ttl)| ttl);
    let check_at = section.at();
    let check = section.parsed("propagation-check", "\"authoritative\"", check).unwrap_or_default();
    let authoritative: Vec<_> = section
        .parsed_list("authoritative", "\"192.0.2.1:53\"", |text| address(text, 53))
        .unwrap_or_default()
        .into_iter()
        .map(Spanned::into_inner)
        .collect();
    let timeout = section.optional("propagation-timeout").map(|Wait(time)| time);
    let delay = section.optional("propagation-delay").map_or(Duration::ZERO, |Wait(time)| time);
    if timeout == Some(Duration::ZERO) {
        section.mistake(
            section.at(),
            format!("{} gives its records no time: `propagation-timeout` is zero", section.title()),
            Remedy::Hint("as in `propagation-timeout = \"2m\"`, or `propagation-check = \"off\"`".to_owned()),
        );
    }
    if check != PropagationCheck::Authoritative && !authoritative.is_empty() {
        section.context().warning(
            check_at,
            format!("{} names `authoritative` servers that are not asked", section.title()),
            "remove it, or write `propagation-check = \"authoritative\"`",
        );
    }

    // Without a provider the other keys are nobody's, and nobody's fault.
    let provider = provider?;
    let Some(kind) = KINDS.iter().find(|kind| kind.name == provider.get_ref()) else {
        let names = || KINDS.iter().map(|kind| kind.name);
        let remedy = match near(provider.get_ref(), names()) {
            Some(meant) => Remedy::DidYouMean(meant.to_owned()),
            None => Remedy::Hint(format!("known are {}", listed(names()))),
        };
        section.mistake(provider.span(), format!("unknown provider {}", quoted(provider.get_ref())), remedy);
        return None;
    };
    let before = section.context().secrets().len();
    let provider = (kind.build)(&mut section);
    let secrets = section.context().secrets().split_off(before);
    section.finish();
    let provider = provider?;
    Some(Account {
        name,
        ttl,
        check,
        authoritative,
        propagation_timeout: timeout.unwrap_or_else(|| provider.propagation_timeout()),
        provider,
        secrets,
        propagation_delay: delay,
    })
}

fn check(text: &str) -> Result<PropagationCheck, Refusal> {
    match text {
        "authoritative" => Ok(PropagationCheck::Authoritative),
        "resolver" => Ok(PropagationCheck::Resolver),
        "off" => Ok(PropagationCheck::Off),
        _ => Err(Refusal::new(
            "it is not known",
            "\"authoritative\" (asks every name server of the zone), \"resolver\" or \"off\"",
        )),
    }
}

/// A time to live: seconds, or a duration.
struct Seconds(u32);

impl Value for Seconds {
    fn read(item: Item<'_>) -> Option<Self> {
        let (shown, seconds) = match &item.value {
            DeValue::Integer(number) => {
                (quoted(&number.to_string()), i64::from_str_radix(number.as_str(), number.radix()).ok())
            }
            DeValue::String(text) => match crate::kind::duration(text) {
                Ok(time) => (quoted(text), Some(time.as_secs())),
                Err(refusal) => return item.refuse(&quoted(text), refusal),
            },
            _ => return item.mismatch("a number of seconds", "60"),
        };
        // RFC 2181 section 8 would allow more, but a challenge record is gone within minutes.
        match seconds.and_then(|seconds| u32::try_from(seconds).ok()) {
            Some(seconds @ 1..=86_400) => Some(Self(seconds)),
            _ => item.refuse(
                &shown,
                Refusal::new("a time to live goes from 1 second to one day", "as in `ttl = 60`"),
            ),
        }
    }
}

/// A time that somebody waits, a day at most.
struct Wait(Duration);

impl Value for Wait {
    fn read(item: Item<'_>) -> Option<Self> {
        let (at, context, key) = (item.at.clone(), item.context, item.key.clone());
        let time = SignedDuration::read(item)?;
        match Duration::try_from(time) {
            Ok(time) if time <= Duration::from_secs(86_400) => Some(Self(time)),
            _ => {
                context.mistake(
                    at,
                    format!("`{key}` is longer than a day"),
                    Remedy::Hint(format!("as in `{key} = \"2m\"`")),
                );
                None
            }
        }
    }
}
