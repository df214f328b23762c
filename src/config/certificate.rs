//! `[[certificate]]`

mod issuers;
mod rollout;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::DeValue;

use super::{account, defined, host, issuer, said};
use crate::kind::{Context, Item, Refusal, Remedy, Section, Value, listed, quoted};
use crate::model::desired::{Certificate, KeyType};
use crate::model::name::{CertName, Domain, HostName, NameError};
use crate::model::problem::plain;

/// A table to copy where there is none.
pub(super) const SAMPLE: &str = "[[certificate]]\ndomains = [\"www.example.org\"]\nhosts = []";

/// The most names that Let's Encrypt takes in one certificate; others take no more.
const MOST_DOMAINS: usize = 100;

/// What certificates can refer to: by the name as written, also where its table has mistakes.
#[derive(Default)]
pub(super) struct Scope {
    /// Issuers, with what their tables say.
    pub(super) issuers: BTreeMap<String, String>,
    /// Their directories, and the profiles that they ask for.
    pub(super) orders: BTreeMap<String, (String, Option<String>)>,
    /// DNS accounts, with what their tables say.
    pub(super) accounts: BTreeMap<String, String>,
    /// Hosts, with their places.
    pub(super) hosts: BTreeMap<String, Range<usize>>,
    /// Groups, with their hosts.
    pub(super) groups: BTreeMap<String, Vec<HostName>>,
}

/// What the tables read so far have in common.
#[derive(Default)]
struct Seen {
    /// Names in lower case, with the name as written and its place.
    names: BTreeMap<String, (CertName, Range<usize>)>,
    /// Domains, with the certificate that has them and their place.
    domains: BTreeMap<Domain, (String, Range<usize>)>,
    /// Hosts that a certificate names.
    used: BTreeSet<HostName>,
    /// "There is no issuer at all" is said once.
    without: Vec<&'static str>,
}

/// Reads all certificates.
pub(super) fn read_all(
    top: &mut Section<'_>,
    scope: &Scope,
    context: &Context<'_>,
) -> BTreeMap<CertName, Certificate> {
    let mut certificates = BTreeMap::new();
    let shape = || Remedy::Hint("write [[certificate]], with two brackets, for each of them".to_owned());
    let tables = match top.take("certificate").map(|value| (value.span(), value.into_inner())) {
        None => {
            let at = top.at();
            context.warning(at, "no certificate is asked for", format!("add\n{SAMPLE}"));
            return certificates;
        }
        Some((_, DeValue::Array(tables))) => tables,
        Some((at, _)) => {
            context.mistake(at, "`certificate` must be a list of tables", shape());
            return certificates;
        }
    };
    let mut seen = Seen::default();
    for (number, table) in tables.into_iter().enumerate() {
        let at = table.span();
        let said = said(table.get_ref());
        let DeValue::Table(table) = table.into_inner() else {
            context.mistake(at, "each `certificate` must be a table", shape());
            continue;
        };
        let title = format!("certificate {}", number + 1);
        let section = Section::new("certificate", title, at, table, top.context());
        let certificate = read(section, number, &said, scope, &mut seen);
        certificates.extend(certificate.map(|certificate| (certificate.name.clone(), certificate)));
    }
    let used: BTreeSet<&str> = seen.used.iter().map(HostName::as_str).collect();
    for (host, at) in scope.hosts.iter().filter(|(host, _)| !used.contains(host.as_str())) {
        context.warning(
            at.clone(),
            format!("host {} is in no certificate", quoted(host)),
            "add it to `hosts` of a certificate, or remove it",
        );
    }
    certificates
}

fn read(
    mut section: Section<'_>,
    number: usize,
    said: &str,
    scope: &Scope,
    seen: &mut Seen,
) -> Option<Certificate> {
    let context = section.context();
    let name = section.optional::<Spanned<Name>>("name");
    let before = context.count();
    let domains = section.take("domains").map(|value| {
        let at = value.span();
        let items = Item::new("domains", value, context).items("\"www.example.org\"").unwrap_or_default();
        let read = items.into_iter().filter_map(|item| {
            let at = item.at.clone();
            Some(Spanned::new(at, item.parsed("\"www.example.org\"", domain)?))
        });
        (at, read.collect::<Vec<_>>())
    });
    let absent = domains.is_none();
    let (domains_at, domains) = domains.unwrap_or_else(|| (section.at(), Vec::new()));
    let name = pick_name(name, &domains, &section, seen);
    let who = match (&name, domains.first()) {
        (Some(name), _) => format!("certificate \"{name}\""),
        (None, Some(domain)) => format!("certificate \"{}\"", domain.get_ref()),
        (None, None) => format!("certificate {}", number + 1),
    };
    if domains.is_empty() && context.count() == before {
        let message = format!("{who} has no domains");
        let remedy = Remedy::Hint("add `domains = [\"www.example.org\"]`".to_owned());
        match absent {
            true => section.missing("domains", message, remedy),
            false => context.mistake(domains_at.clone(), message, remedy),
        }
    }
    check_domains(&domains, &who, domains_at.clone(), context, seen);

    let issuers = issuers::issuers(&mut section, &scope.issuers, &who, seen);
    let account = reference("dns", &mut section, &scope.accounts, account::SAMPLE, &who, seen);
    let key = section.parsed("key", "\"ecdsa-p256\"", key_type).unwrap_or_default();
    let reuse_key = section.optional("reuse-key").unwrap_or_default();
    let profile = section.parsed("profile", "\"shortlived\"", issuer::profile);
    let preferred_chain = section.parsed("preferred-chain", "\"ISRG Root X1\"", issuer::preferred_chain);
    issuers::check_profile(
        &domains,
        profile.as_deref(),
        issuers.as_deref(),
        scope,
        domains_at,
        &who,
        context,
    );
    let renew_before = section.optional("renew-before");
    let hosts = hosts(&mut section, scope, &who);
    seen.used.extend(hosts.iter().cloned());
    let rollout = rollout::rollout(&mut section, &hosts, scope, &who);
    let verify_names = verify_names(&mut section, &domains, !hosts.is_empty(), &who);
    section.finish();

    let mut issuers = issuers?.into_iter();
    let (issuer, issuer_said) = issuers.next()?;
    let (fallback, others_said): (Vec<String>, Vec<&str>) = issuers.unzip();
    let (account, account_said) = account?;
    Some(Certificate {
        name: name?,
        domains: domains.into_iter().map(Spanned::into_inner).collect(),
        issuer: issuer.parse().ok()?,
        fallback: fallback.iter().filter_map(|name| name.parse().ok()).collect(),
        dns: account.parse().ok()?,
        hosts,
        rollout,
        key,
        reuse_key,
        profile,
        preferred_chain,
        verify_names,
        renew_before,
        revision: revision(&[&[said, issuer_said, account_said][..], &others_said].concat()),
    })
}

/// The name of a certificate.
struct Name(CertName);

impl Value for Name {
    fn read(item: Item<'_>) -> Option<Self> {
        item.parsed("\"shop\"", |text| {
            let hint =
                "it becomes a folder: use letters, digits, `-`, `_` and `.`, as in \"www.example.org\"";
            text.parse().map(Self).map_err(|error: NameError| Refusal::new(plain(&error.to_string()), hint))
        })
    }
}

/// The name as written, else as certbot would; no two are alike, in any case of letters.
fn pick_name(
    given: Option<Spanned<Name>>,
    domains: &[Spanned<Domain>],
    section: &Section<'_>,
    seen: &mut Seen,
) -> Option<CertName> {
    let (name, at) = match given {
        Some(given) => (given.get_ref().0.clone(), given.span()),
        None => {
            let first = domains.first()?;
            // A domain may be longer than a folder of ours.
            match first.get_ref().base().parse() {
                Ok(name) => (name, first.span()),
                Err(_) => {
                    let message =
                        format!("{} is too long to name a certificate", quoted(first.get_ref().base()));
                    section.mistake(first.span(), message, Remedy::Hint("add `name = \"…\"`".to_owned()));
                    return None;
                }
            }
        }
    };
    let Some((other, place)) = seen.names.get(&name.as_str().to_ascii_lowercase()) else {
        seen.names.insert(name.as_str().to_ascii_lowercase(), (name.clone(), at));
        return Some(name);
    };
    let line = section.context().line(place);
    let message = if *other == name {
        format!("two certificates have the name \"{name}\", the other is at line {line}")
    } else {
        format!("\"{name}\" differs from \"{other}\" at line {line} in the case of letters only")
    };
    section.mistake(
        at,
        message,
        Remedy::Hint(format!("give this one a name of its own: `name = \"{name}-2\"`")),
    );
    Some(name)
}

fn check_domains(
    domains: &[Spanned<Domain>],
    who: &str,
    at: Range<usize>,
    context: &Context<'_>,
    seen: &mut Seen,
) {
    if domains.len() > MOST_DOMAINS {
        let message = format!("{who} has {} domains, CAs take at most {MOST_DOMAINS}", domains.len());
        context.mistake(at, message, Remedy::Hint("make several certificates of it".to_owned()));
        return;
    }
    for (place, domain) in domains.iter().enumerate() {
        let (at, domain) = (domain.span(), domain.get_ref());
        let others = || domains.iter().enumerate().filter(|(other, _)| *other != place);
        if others().any(|(other, this)| other < place && this.get_ref() == domain) {
            let hint = "remove one of the two; `Ä` and `xn--…` are the same name".to_owned();
            context.mistake(at, format!("{who} has the domain \"{domain}\" twice"), Remedy::Hint(hint));
            continue;
        }
        if let Some((_, wildcard)) =
            others().find(|(_, other)| other.get_ref() != domain && other.get_ref().covers(domain))
        {
            context.mistake(
                at,
                format!("{who} has \"{domain}\", which \"{}\" covers already", wildcard.get_ref()),
                Remedy::Hint(format!("remove \"{domain}\": CAs refuse a certificate with both")),
            );
            continue;
        }
        if let Some((other, place)) = seen.domains.get(domain) {
            context.warning(
                at,
                format!("\"{domain}\" is in {who} and in {other}, at line {}", context.line(place)),
                "keep it in one of them, unless the two have different keys or hosts",
            );
            continue;
        }
        seen.domains.insert(domain.clone(), (who.to_owned(), at));
    }
}

fn domain(text: &str) -> Result<Domain, Refusal> {
    // IDNA drops some of them, so that two names look alike and are alike.
    if !text.is_ascii() && plain(text) != text {
        return Err(Refusal::new("it has characters that cannot be seen", "type the name anew"));
    }
    let last = text.rsplit('.').next().unwrap_or_default();
    let number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    if number && text.contains('.') && text.parse::<std::net::IpAddr>().is_err() && !text.contains(':') {
        return Err(Refusal::new("no domain ends in a number", "write the domain name that visitors use"));
    }
    text.parse().map_err(|error: NameError| {
        let hint = match &error {
            _ if text.contains("://") || text.contains(['/', ':', '@']) => {
                "write the name alone, without scheme, user, port and path"
            }
            _ if text.ends_with('.') => "write it without the dot at its end",
            _ if text.trim() != text => "remove the space around it",
            NameError::BadWildcard | NameError::WildcardTooWide => {
                "a wildcard stands for one label below your own domain, as in \"*.example.org\""
            }
            NameError::BadDomainCharacter('_') => "no CA issues for names with `_`; rename the service",
            NameError::BadIdna(_) => {
                "emoji and symbols are no letters of a domain name; write it as its registry does, or in its `xn--` form"
            }
            NameError::IpAddress(_) => "write the domain name that visitors use",
            NameError::TooLong(..) | NameError::LongLabel(_) => {
                "use a shorter name: DNS cannot hold this one"
            }
            NameError::SingleLabel(_) => "write the full name, as in \"www.example.org\"",
            _ => "write a full domain name, as in \"www.example.org\"",
        };
        Refusal::new(plain(&error.to_string()), hint)
    })
}

/// The issuer or DNS account of a certificate: its name and what its table says.
fn reference<'s>(
    key: &'static str,
    section: &mut Section<'_>,
    known: &'s BTreeMap<String, String>,
    sample: &str,
    who: &str,
    seen: &mut Seen,
) -> Option<(String, &'s str)> {
    let context = section.context();
    let names = || known.keys().map(String::as_str);
    let Some(value) = section.take(key) else {
        let mut all = known.iter();
        match (all.next(), all.next()) {
            (Some((name, said)), None) => return Some((name.clone(), said)),
            (None, _) if seen.without.contains(&key) => {}
            (None, _) => {
                seen.without.push(key);
                let message = format!("{who} has no `{key}`: none is defined");
                section.missing(key, message, Remedy::Hint(sample.to_owned()));
            }
            (Some((name, _)), Some(_)) => {
                let message = format!("{who} does not say which `{key}` it uses");
                let hint = format!("add `{key} = \"{name}\"`; defined are {}", listed(names()));
                section.missing(key, message, Remedy::Hint(hint));
            }
        }
        return None;
    };
    let name: Spanned<String> = Spanned::read(Item::new(key, value, context))?;
    if !defined(name.get_ref(), names(), &name.span(), who, key, sample, context) {
        return None;
    }
    let said = known.get(name.get_ref())?;
    Some((name.into_inner(), said))
}

fn key_type(text: &str) -> Result<KeyType, Refusal> {
    const KNOWN: [(&str, KeyType); 4] = [
        ("ecdsa-p256", KeyType::EcdsaP256),
        ("ecdsa-p384", KeyType::EcdsaP384),
        ("rsa-2048", KeyType::Rsa2048),
        ("rsa-4096", KeyType::Rsa4096),
    ];
    let found = KNOWN.iter().find(|(name, _)| *name == text).map(|(_, key)| *key);
    found.ok_or_else(|| {
        let names = KNOWN.iter().map(|(name, _)| *name);
        Refusal::new("it is not known", format!("known are {}", listed(names)))
    })
}

/// The hosts of a certificate, groups resolved, none twice.
fn hosts(section: &mut Section<'_>, scope: &Scope, who: &str) -> Vec<HostName> {
    let context = section.context();
    let Some(value) = section.take("hosts") else {
        if !scope.hosts.is_empty() {
            context.warning(
                section.at(),
                format!("{who} names no hosts"),
                "add `hosts = […]`, or `hosts = []` if it is kept in the store only",
            );
        }
        return Vec::new();
    };
    let words: Vec<Spanned<String>> = Value::read(Item::new("hosts", value, context)).unwrap_or_default();
    let mut hosts: Vec<HostName> = Vec::new();
    for word in words {
        let (at, word) = (word.span(), word.into_inner());
        if let Some(group) = scope.groups.get(&word) {
            hosts.extend(group.iter().cloned());
            continue;
        }
        let known = scope.hosts.keys().chain(scope.groups.keys()).map(String::as_str);
        if defined(&word, known, &at, who, "host", host::SAMPLE, context) {
            hosts.extend(word.parse::<HostName>());
        }
    }
    let mut once = BTreeSet::new();
    hosts.retain(|host| once.insert(host.clone()));
    hosts
}

/// The names that hosts are probed with.
fn verify_names(
    section: &mut Section<'_>,
    domains: &[Spanned<Domain>],
    has_hosts: bool,
    who: &str,
) -> Vec<Domain> {
    let context = section.context();
    let Some(given) = section.parsed_list("verify-names", "\"www.example.org\"", domain) else {
        let first = domains.iter().map(Spanned::get_ref).find(|domain| !domain.is_wildcard());
        if let (None, Some(wildcard), true) = (first, domains.first(), has_hosts) {
            context.mistake(
                section.at(),
                format!("{who} has wildcards only: nobody knows which name its hosts serve"),
                Remedy::Hint(format!(
                    "add `verify-names = [\"www.{}\"]`, or `verify-names = []` to install it unproven",
                    wildcard.get_ref().base()
                )),
            );
        }
        return first.into_iter().cloned().collect();
    };
    let mut names: Vec<Domain> = Vec::new();
    for name in given {
        let (at, name) = (name.span(), name.into_inner());
        if name.is_wildcard() {
            let hint = format!("name a host below it, as in \"www.{}\"", name.base());
            context.mistake(
                at,
                format!("{who} cannot be probed for the wildcard \"{name}\""),
                Remedy::Hint(hint),
            );
        } else if !domains.is_empty() && !domains.iter().any(|domain| domain.get_ref().covers(&name)) {
            context.mistake(
                at,
                format!("{who} is probed for \"{name}\", which none of its domains covers"),
                Remedy::Hint(format!("add \"{name}\" to `domains`, or remove it here")),
            );
        } else if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The first 16 hex digits of a hash over what the tables say.
fn revision(said: &[&str]) -> String {
    let mut hash = Sha256::new();
    for text in said {
        hash.update(text.len().to_be_bytes());
        hash.update(text.as_bytes());
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
