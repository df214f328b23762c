//! certs.toml: read once, into types that cannot be wrong.
//!
//! Every mistake of a file is reported, each with line, column, the line itself and what to do.
//! Nothing outside the file is looked at: secrets are read when they are needed, hosts and
//! directories are looked up by those who talk to them.

mod account;
mod alert;
mod certificate;
mod daemon;
mod file;
mod host;
mod issuer;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use crate::kind::{Keys, Mistake, Mistakes, Remedy, Severity};
pub use daemon::{Daemon, Listen};
pub use file::{LoadError, digest, find, load};

use crate::dns::Account;
use crate::kind::{Context, Item, Section, address, listed, near, quoted};
use crate::model::desired::Desired;
use crate::model::name::{ChannelName, DnsAccountName, GroupName, HostName, IssuerName, NameError};
use crate::notify::Channel;
use crate::secret::Secret;

/// What certs.toml says.
#[derive(Clone)]
pub struct Config {
    /// The file, absolute.
    pub path: PathBuf,
    /// The folder of the store.
    pub store: PathBuf,
    /// How often the daemon looks, and where it can be asked.
    pub daemon: Daemon,
    /// The name servers that are asked; empty = the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Certificates, hosts and issuers.
    pub desired: Desired,
    /// The DNS accounts.
    pub dns: BTreeMap<DnsAccountName, Arc<Account>>,
    /// What new accounts are bound to, where an issuer wants that.
    pub external_accounts: BTreeMap<IssuerName, ExternalAccount>,
    /// The passphrases of identities that have one, by host.
    pub passphrases: BTreeMap<HostName, Secret>,
    /// The groups of hosts; certificates have them resolved already.
    pub groups: BTreeMap<GroupName, Vec<HostName>>,
    /// The ways to reach people.
    pub channels: BTreeMap<ChannelName, Arc<dyn Channel>>,
    /// Which of them are told of alerts, first to last.
    pub alert_order: Vec<ChannelName>,
    /// The address that is called after each complete pass.
    pub heartbeat: Option<Secret>,
    /// The secrets that the file names: line, key, and where each is.
    pub secrets: Vec<(usize, String, Secret)>,
    /// What a person should look at.
    pub warnings: Vec<Mistake>,
}

/// An account that a person made on a CA's web site, for ours to be bound to (RFC 8555 section 7.3.4).
#[derive(Debug, Clone)]
pub struct ExternalAccount {
    /// The CA's name for it.
    pub key_id: String,
    /// Its MAC key, in base64url.
    pub hmac_key: Secret,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("path", &self.path)
            .field("store", &self.store)
            .field("daemon", &self.daemon)
            .field("nameservers", &self.nameservers)
            .field("desired", &self.desired)
            .field("dns", &self.dns.keys().collect::<Vec<_>>())
            .field("groups", &self.groups)
            .field("alert_order", &self.alert_order)
            .finish_non_exhaustive()
    }
}

/// Reads the text of the file `path`; relative paths in it start at the file's folder.
pub fn parse(text: &str, path: &Path) -> Result<Config, Mistakes> {
    parse_with_keys(text, path).map(|(config, _)| config)
}

/// As [`parse`], with the keys that the reader asked for and those that the file has.
pub fn parse_with_keys(text: &str, path: &Path) -> Result<(Config, Keys), Mistakes> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Fails for an empty path only.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let base = absolute.parent().unwrap_or_else(|| Path::new("/")).to_owned();
    let context = Context::new(&path.display().to_string(), text, &base);
    let config = read(text, absolute, &context);
    let (warnings, keys) = context.finish()?;
    Ok((Config { warnings, secrets: keys.secrets.clone(), ..config }, keys))
}

/// Reads the file as far as it can be understood; what cannot is recorded in `context`.
fn read<'a>(text: &'a str, path: PathBuf, context: &'a Context<'a>) -> Config {
    let mut config = Config {
        path,
        store: PathBuf::new(),
        daemon: Daemon::default(),
        nameservers: Vec::new(),
        desired: Desired::default(),
        dns: BTreeMap::new(),
        external_accounts: BTreeMap::new(),
        passphrases: BTreeMap::new(),
        groups: BTreeMap::new(),
        channels: BTreeMap::new(),
        alert_order: Vec::new(),
        heartbeat: None,
        secrets: Vec::new(),
        warnings: Vec::new(),
    };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !syntax(text, &errors, context) {
        return config;
    }
    let document = document.into_inner();
    if document.is_empty() {
        let sample = format!("{}\n\n{}\n\n{}", issuer::SAMPLE, &account::SAMPLE[4..], certificate::SAMPLE);
        context.mistake(0..0, "the file asks for nothing", Remedy::Hint(sample));
        return config;
    }
    let mut top = Section::new("", "certs.toml", 0..0, document, context);

    if let Some(store) = sole(&mut top, "store") {
        config.store = store::read(store).unwrap_or_default();
    }
    if config.store.as_os_str().is_empty() {
        config.store = default_store();
    }
    if let Some(daemon) = sole(&mut top, "daemon") {
        config.daemon = Daemon::read(daemon);
    }
    config.desired.interval = config.daemon.interval;
    if let Some(mut resolver) = sole(&mut top, "resolver") {
        let servers = resolver.parsed_list("nameservers", "\"192.0.2.53\"", |text| address(text, 53));
        config.nameservers = servers.unwrap_or_default().into_iter().map(Spanned::into_inner).collect();
        resolver.finish();
    }

    let mut scope = certificate::Scope::default();
    for Named { text, name, section, said } in named(&mut top, "issuer") {
        scope.issuers.insert(text, said);
        let Some((issuer, account)) = name.and_then(|name| issuer::read(name, section)) else { continue };
        config.external_accounts.extend(account.map(|account| (issuer.name.clone(), account)));
        scope.orders.insert(issuer.name.to_string(), (issuer.directory.clone(), issuer.profile.clone()));
        config.desired.issuers.insert(issuer.name.clone(), issuer);
    }
    for Named { text, name, section, said } in named(&mut top, "dns") {
        scope.accounts.insert(text, said);
        let account = name.and_then(|name| account::read(name, section));
        config.dns.extend(account.map(|account| (account.name.clone(), Arc::new(account))));
    }
    let defaults = sole(&mut top, "host-defaults").map(host::Settings::defaults).unwrap_or_default();
    for Named { text, name, section, .. } in named(&mut top, "host") {
        scope.hosts.insert(text, section.at());
        let Some((host, passphrase)) = name.map(|name| host::read(name, section, &defaults)) else {
            continue;
        };
        config.passphrases.extend(passphrase.map(|passphrase| (host.name.clone(), passphrase)));
        config.desired.hosts.insert(host.name.clone(), host);
    }
    host::check_ways(&config.desired.hosts, &scope.hosts, context);
    host::warn_of_twins(
        &config
            .desired
            .hosts
            .iter()
            .filter_map(|(name, host)| Some((scope.hosts.get(name.as_str())?.clone(), host)))
            .collect::<Vec<_>>(),
        context,
    );
    config.groups = groups(&mut top, &mut scope, context);
    config.desired.dns = config.dns.keys().cloned().collect();
    config.desired.certificates = certificate::read_all(&mut top, &scope, context);
    let alert::Alerting { channels, order, heartbeat } = alert::read(&mut top);
    (config.channels, config.alert_order, config.heartbeat) = (channels, order, heartbeat);
    top.finish();
    config
}

/// Records what the TOML parser says; whether the tree can be read nevertheless.
fn syntax(text: &str, errors: &[toml::de::Error], context: &Context<'_>) -> bool {
    let mut sound = true;
    let mut lines = BTreeSet::new();
    for error in errors {
        let at = error.span().unwrap_or(text.len()..text.len());
        let duplicate = error.message() == "duplicate key";
        let header = text[..text.floor_char_boundary(at.start)]
            .rsplit('\n')
            .next()
            .is_some_and(|line| line.trim_start().starts_with('['));
        // After a second header the first table is lost, after a second key nothing is.
        sound &= duplicate && !header;
        // One slip makes the parser stumble several times.
        if !lines.insert(context.line(&at)) {
            continue;
        }
        let hint = match (duplicate, header) {
            (true, true) => "merge the two tables, or give one another name",
            (true, false) => "remove one of the two",
            _ if error.message().contains("recurs") => {
                "nothing in this file is nested that deep: write it flat"
            }
            _ => "a line is `key = value` or `[table]`; texts stand in double quotes; see https://toml.io",
        };
        context.mistake(at, error.message(), Remedy::Hint(hint.to_owned()));
    }
    sound
}

/// A named table, `[issuer.NAME]`.
struct Named<'a, N> {
    /// The name as written.
    text: String,
    /// The name, if it is one.
    name: Option<N>,
    section: Section<'a>,
    /// What the table says, however it is laid out.
    said: String,
}

/// The named tables of one kind.
fn named<'a, N: FromStr<Err = NameError>>(top: &mut Section<'a>, kind: &'static str) -> Vec<Named<'a, N>> {
    let context = top.context();
    let Some(value) = top.take(kind) else { return Vec::new() };
    let hint = || Remedy::Hint(format!("give it a name, as in [{kind}.NAME]"));
    let at = value.span();
    let DeValue::Table(tables) = value.into_inner() else {
        context.mistake(at, format!("`{kind}` must be a table with a name"), hint());
        return Vec::new();
    };
    let mut found = Vec::new();
    for (key, value) in tables {
        let text = key.get_ref().to_string();
        let place = key.span();
        let at = value.span();
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            context.hide_texts(&value);
            context.mistake(place, format!("{} stands directly in [{kind}]", quoted(&text)), hint());
            continue;
        }
        let said = said(value.get_ref());
        let DeValue::Table(table) = value.into_inner() else { continue };
        let name = text.parse::<N>().map_err(|error| {
            context.mistake(
                place,
                format!("{} cannot name a table of [{kind}]: {error}", quoted(&text)),
                Remedy::Hint("use letters, digits, `-`, `_` and `.`, as in [".to_owned() + kind + ".main]"),
            );
        });
        let section = Section::new(kind, format!("{kind} {}", quoted(&text)), at, table, context);
        found.push(Named { text, name: name.ok(), section, said });
    }
    found
}

/// A table that there is one of.
fn sole<'a>(top: &mut Section<'a>, kind: &'static str) -> Option<Section<'a>> {
    let value = top.take(kind)?;
    let at = value.span();
    let table = Item::new(kind, value, top.context()).table()?;
    // The keys of [host-defaults] are those of a host.
    let keys = if kind == "host-defaults" { "host" } else { kind };
    Some(Section::new(keys, format!("[{kind}]"), at, table, top.context()))
}

/// The table `[group]`.
fn groups(
    top: &mut Section<'_>,
    scope: &mut certificate::Scope,
    context: &Context<'_>,
) -> BTreeMap<GroupName, Vec<HostName>> {
    let mut groups = BTreeMap::new();
    let Some(tables) = top.take("group").and_then(|value| Item::new("group", value, top.context()).table())
    else {
        return groups;
    };
    let names: BTreeSet<String> = tables.keys().map(|key| key.get_ref().to_string()).collect();
    for (key, value) in tables {
        let text = key.get_ref().to_string();
        let shown = quoted(&text);
        let name = text.parse::<GroupName>().map_err(|error| {
            let hint = "use letters, digits, `-`, `_` and `.`, as in `cdn = [\"web1\", \"web2\"]`".to_owned();
            context.mistake(key.span(), format!("{shown} cannot name a group: {error}"), Remedy::Hint(hint));
        });
        if scope.hosts.contains_key(&text) {
            let message = format!("{shown} is the name of a host and of a group");
            context.mistake(key.span(), message, Remedy::Hint("give one of them another name".to_owned()));
        }
        let key = if name.is_ok() { text.clone() } else { "group".to_owned() };
        let members: Vec<Spanned<String>> =
            crate::kind::Value::read(Item::new(key, value, top.context())).unwrap_or_default();
        let mut hosts: Vec<HostName> = Vec::new();
        for member in members {
            let (at, member) = (member.span(), member.into_inner());
            if !scope.hosts.contains_key(&member) && names.contains(&member) {
                let message = format!("group {shown} names the group {}", quoted(&member));
                context.mistake(at, message, Remedy::Hint("groups hold hosts only: name these".to_owned()));
                continue;
            }
            let known = scope.hosts.keys().map(String::as_str);
            if !defined(&member, known, &at, &format!("group {shown}"), "host", host::SAMPLE, context) {
                continue;
            }
            let host = member.parse().ok().filter(|host| !hosts.contains(host));
            hosts.extend(host);
        }
        scope.groups.insert(text, hosts.clone());
        groups.extend(name.map(|name| (name, hosts)));
    }
    groups
}

/// Whether `word` is one of the names `known`; else a mistake of `who`, who names it.
fn defined<'k>(
    word: &str,
    known: impl Iterator<Item = &'k str> + Clone,
    at: &Range<usize>,
    who: &str,
    what: &str,
    sample: &str,
    context: &Context<'_>,
) -> bool {
    if known.clone().any(|name| name == word) {
        return true;
    }
    // web3 is no slip for web1.
    let letters = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    let remedy = match near(word, known.clone()) {
        Some(meant) if letters(meant) != letters(word) => Remedy::DidYouMean(meant.to_owned()),
        _ if known.clone().next().is_none() => Remedy::Hint(sample.to_owned()),
        _ => Remedy::Hint(format!("defined are {}", listed(known))),
    };
    context.mistake(at.clone(), format!("{who} names {what} {}, which is not defined", quoted(word)), remedy);
    false
}

/// What a value says, whatever its layout, comments and order of keys.
fn said(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let list: Vec<String> = list.iter().map(|value| said(value.get_ref())).collect();
            format!("[{}]", list.join(","))
        }
        DeValue::Table(table) => {
            let table: BTreeMap<&str, String> =
                table.iter().map(|(key, value)| (&**key.get_ref(), said(value.get_ref()))).collect();
            format!("{table:?}")
        }
    }
}

impl Config {
    /// The SSH key that certfleet makes for itself.
    pub fn ssh_identity(&self) -> PathBuf {
        self.store.join("ssh").join("id_ed25519")
    }
}

/// systemd's folder for us, else the usual one.
fn default_store() -> PathBuf {
    let state = std::env::var_os("STATE_DIRECTORY").unwrap_or_default();
    match std::env::split_paths(&state).find(|path| !path.as_os_str().is_empty()) {
        Some(path) => path,
        None => PathBuf::from("/var/lib/certfleet"),
    }
}
