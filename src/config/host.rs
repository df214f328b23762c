//! `[host.NAME]` and `[host-defaults]`

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use std::path::{Path, PathBuf};

mod access;
mod local;
mod service;

use russh::keys::PublicKey;
use russh::keys::ssh_key::Algorithm;

use access::{mode, owner};
use service::{SERVICES, Service, command, files, layout, service};

use crate::kind::{Context, Item, OneOrMore, Refusal, Remedy, Section, Value, address};
use crate::model::desired::{Host, KeyAccess, Layout, MadeFile};
use crate::model::name::HostName;
use crate::secret::Secret;

/// A table to copy where there is none.
pub(super) const SAMPLE: &str = "add a table for each host, as [host.web1]";

/// The keys that a host and `[host-defaults]` have in common.
#[derive(Default)]
pub(super) struct Settings {
    port: Option<u16>,
    user: Option<String>,
    sudo: Option<bool>,
    receiver: Option<bool>,
    via: Option<HostName>,
    identity: Option<Vec<PathBuf>>,
    passphrase: Option<Secret>,
    host_key: Option<Vec<String>>,
    known_hosts: Option<Vec<PathBuf>>,
    owner: Option<String>,
    group: Option<String>,
    mode: Option<u32>,
    directory: Option<String>,
    layout: Option<Layout>,
    files: Option<Vec<MadeFile>>,
    service: Option<&'static Service>,
    test: Option<String>,
    reload: Option<String>,
    verify: Option<Vec<SocketAddr>>,
}

impl Settings {
    fn take(section: &mut Section<'_>) -> Self {
        Self {
            port: section.optional("port"),
            user: section.parsed("user", "\"root\"", user),
            sudo: section.optional("sudo"),
            receiver: section.optional("receiver"),
            via: section.parsed("via", "\"bastion\"", |text| {
                text.parse().map_err(|error| Refusal::new(format!("{error}"), "name another [host.NAME]"))
            }),
            identity: access::identity(section),
            passphrase: section.optional("passphrase"),
            host_key: section
                .optional("host-key")
                .map(|OneOrMore(keys)| keys.into_iter().map(|HostKey(key)| key).collect()),
            known_hosts: section.optional("known-hosts").map(|OneOrMore(paths)| paths),
            owner: section.parsed("owner", "\"haproxy\"", owner),
            group: section.parsed("group", "\"ssl-cert\"", owner),
            mode: section.parsed("mode", "\"0640\"", mode),
            directory: section.parsed("directory", "\"/etc/letsencrypt/live\"", directory),
            layout: section.parsed("layout", "\"include\"", layout),
            files: files(section),
            service: section.parsed("service", "\"nginx\"", service),
            test: section.parsed("test", "\"nginx -t\"", command),
            reload: section.parsed("reload", "\"systemctl reload nginx\"", command),
            verify: verify(section),
        }
    }

    /// The table `[host-defaults]`.
    pub(super) fn defaults(mut section: Section<'_>) -> Self {
        let settings = Self::take(&mut section);
        for key in ["address", "kind"] {
            if let Some(value) = section.take(key) {
                section.mistake(
                    value.span(),
                    format!("`{key}` cannot be the same for all hosts"),
                    Remedy::Hint("move it to the [host.NAME] it belongs to".to_owned()),
                );
            }
        }
        section.finish();
        settings
    }
}

/// Reads the table of the host `name`; with it where the passphrase of its identity is.
pub(super) fn read(name: HostName, mut section: Section<'_>, defaults: &Settings) -> (Host, Option<Secret>) {
    let here = local::take(&mut section);
    let address = section.parsed("address", "\"web1.example.org\"", host_address);
    let own = Settings::take(&mut section);
    let base = section.context().base();
    section.finish();
    // A host's own service counts more than the commands of the defaults.
    let (commands, service) = match own.service {
        Some(service) => (None, service),
        None => (Some(defaults), defaults.service.unwrap_or(&SERVICES[0])),
    };
    let group = own.group.or_else(|| defaults.group.clone());
    // A group is named to let it read.
    let usual = if group.is_some() { 0o640 } else { 0o600 };
    let access = KeyAccess {
        owner: own.owner.or_else(|| defaults.owner.clone()),
        mode: own.mode.or(defaults.mode).unwrap_or(usual),
        group,
    };
    let user = own.user.or_else(|| defaults.user.clone()).unwrap_or_else(|| "root".to_owned());
    // What the defaults say of all hosts cannot hold for the jump host itself.
    let via = own.via.or_else(|| defaults.via.clone().filter(|via| *via != name));
    let passphrase = own.passphrase.or_else(|| defaults.passphrase.clone());
    let sudo = own.sudo.or(defaults.sudo);
    let host = Host {
        local: false,
        address: address.unwrap_or_else(|| name.as_str().to_owned()),
        name,
        port: own.port.or(defaults.port).unwrap_or(22),
        sudo: sudo.unwrap_or(user != "root"),
        receiver: own.receiver.or(defaults.receiver).unwrap_or(false),
        user,
        via,
        identity: own.identity.or_else(|| defaults.identity.clone()).unwrap_or_default(),
        host_key: own.host_key.or_else(|| defaults.host_key.clone()).unwrap_or_default(),
        known_hosts: own
            .known_hosts
            .or_else(|| defaults.known_hosts.clone())
            .unwrap_or_else(|| known_hosts(base)),
        access,
        directory: own
            .directory
            .or_else(|| defaults.directory.clone())
            .unwrap_or_else(|| "/etc/letsencrypt/live".to_owned()),
        layout: own.layout.or(defaults.layout).unwrap_or_default(),
        files: own.files.or_else(|| commands?.files.clone()).unwrap_or_else(|| service.files()),
        test: own.test.or_else(|| commands?.test.clone()).unwrap_or_else(|| service.test.to_owned()),
        reload: own.reload.or_else(|| commands?.reload.clone()).unwrap_or_else(|| service.reload.to_owned()),
        verify: own.verify.or_else(|| defaults.verify.clone()).unwrap_or_default(),
    };
    match here {
        true => (local::this_machine(host, sudo == Some(true)), None),
        false => (host, passphrase),
    }
}

/// Every way to a host begins here: its jump hosts are hosts, and none of them is reached through itself.
pub(super) fn check_ways(
    hosts: &BTreeMap<HostName, Host>,
    places: &BTreeMap<String, Range<usize>>,
    context: &Context<'_>,
) {
    for (name, host) in hosts {
        let Some(via) = &host.via else { continue };
        let at = places.get(name.as_str()).cloned().unwrap_or(0..0);
        let known = hosts.keys().map(HostName::as_str);
        if !super::defined(
            via.as_str(),
            known,
            &at,
            &format!("`via` of host \"{name}\""),
            "host",
            SAMPLE,
            context,
        ) {
            continue;
        }
        if hosts.get(via).is_some_and(|via| via.local) {
            let message = format!("host \"{name}\" is reached via \"{via}\", which is this machine itself");
            context.mistake(
                at,
                message,
                Remedy::Hint("remove `via`: no jump is needed from here".to_owned()),
            );
            continue;
        }
        let way: Vec<&HostName> = std::iter::successors(Some(via), |via| hosts.get(*via)?.via.as_ref())
            .take(hosts.len() + 1)
            .collect();
        if way.contains(&name) {
            let message =
                format!("host \"{name}\" is reached via \"{via}\", and that through \"{name}\" itself");
            context.mistake(at, message, Remedy::Hint("one of them must be reached directly".to_owned()));
        }
    }
}

fn known_hosts(base: &Path) -> Vec<PathBuf> {
    vec![base.join("known_hosts"), PathBuf::from("/etc/ssh/ssh_known_hosts")]
}

fn host_address(text: &str) -> Result<String, Refusal> {
    let hint = "as in \"web1.example.org\", \"192.0.2.1\" or \"2001:db8::1\"";
    let refuse = |why: &str, hint: &str| Err(Refusal::new(why, hint));
    if let Ok(ip) = text.parse::<IpAddr>() {
        let nobody = ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        return if nobody {
            refuse("it is the address of no single machine", hint)
        } else {
            Ok(text.to_owned())
        };
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if let Some((ip, zone)) = text.split_once('%') {
        // RFC 4007 section 11: a link-local address with its interface.
        if ip.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(fits) {
            return Ok(text.to_owned());
        }
    }
    if text.contains("://") {
        return refuse("it is a URL", hint);
    }
    if text.contains('@') {
        return refuse("the user is a key of its own", "write `user = \"…\"` and the address without it");
    }
    if text.starts_with('-') {
        return refuse("an address cannot start with `-`", "options of ssh have no place here");
    }
    if text.contains(char::is_whitespace) {
        return refuse("an address has no spaces", "commands go to `test` and `reload`, the port to `port`");
    }
    if text.contains([':', '[', ']']) {
        return refuse("the port is a key of its own", "write `port = …` and the address without it");
    }
    if text.is_empty() || text.len() > 253 || !text.chars().all(fits) {
        return refuse("it is neither an IP address nor a host name", hint);
    }
    let mut labels = text.strip_suffix('.').unwrap_or(text).split('.');
    if labels.clone().any(str::is_empty) {
        return refuse("a label between two dots is empty", hint);
    }
    // What the system would make of `127.1` or `192.0.2.256` is not for this file.
    if labels.all(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return refuse("it is a number, but no IP address", hint);
    }
    Ok(text.to_owned())
}

fn user(text: &str) -> Result<String, Refusal> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if !text.is_empty() && text.len() <= 64 && !text.starts_with(['-', '.']) && text.chars().all(fits) {
        return Ok(text.to_owned());
    }
    Err(Refusal::new(
        "a user name has letters, digits, `.`, `-` and `_` only, and starts with neither `.` nor `-`",
        "write the name alone; the host goes to `address`",
    ))
}

/// A directory on the host: a word that every shell takes as it is.
fn directory(text: &str) -> Result<String, Refusal> {
    const SYSTEM: &[&str] = &[
        "",
        "/bin",
        "/boot",
        "/dev",
        "/etc",
        "/home",
        "/lib",
        "/lib64",
        "/proc",
        "/root",
        "/run",
        "/sbin",
        "/sys",
        "/tmp",
        "/usr",
        "/usr/bin",
        "/usr/lib",
        "/usr/sbin",
        "/var",
        "/var/lib",
        "/var/tmp",
    ];
    let refuse = |why: &str| {
        Err(Refusal::new(why, "as in \"/etc/letsencrypt/live\" (the default) or \"/etc/certfleet\""))
    };
    let path = text.trim_end_matches('/');
    if text.starts_with('~') {
        return refuse("`~` is not expanded");
    }
    if !text.starts_with('/') {
        return refuse("it does not start with `/`");
    }
    if !path.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/')) {
        return refuse("only letters, digits, `.`, `_`, `-` and `/` are safe in every shell");
    }
    if path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) && !path.is_empty() {
        return refuse("`..`, `.` and `//` have no place in it");
    }
    if SYSTEM.contains(&path) {
        return refuse("it belongs to the system");
    }
    // PATH_MAX less the names that we put below it.
    if path.len() > 1024 {
        return refuse("it is longer than 1024 characters");
    }
    Ok(path.to_owned())
}

fn verify(section: &mut Section<'_>) -> Option<Vec<SocketAddr>> {
    let value = section.take("verify")?;
    let at = value.span();
    if value.get_ref().as_array().is_some_and(|list| list.is_empty()) {
        section.mistake(
            at,
            "`verify` is empty",
            Remedy::Hint(
                "remove it to probe every address of the host at port 443; a certificate that nobody \
                 can probe has `verify-names = []`"
                    .to_owned(),
            ),
        );
        return None;
    }
    let items = Item::new("verify", value, section.context()).items("\"192.0.2.1:443\"")?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for item in items {
        let read = item.parsed("\"192.0.2.1:443\"", |text| address(text, 443));
        addresses.extend(read.filter(|address| !addresses.contains(address)));
    }
    Some(addresses)
}

/// A pinned host key: type and base64, its comment dropped.
struct HostKey(String);

impl Value for HostKey {
    fn read(item: Item<'_>) -> Option<Self> {
        item.parsed("\"ssh-ed25519 AAAA…\"", host_key).map(Self)
    }
}

fn host_key(text: &str) -> Result<String, Refusal> {
    const HINT: &str = "as in \"ssh-ed25519 AAAA…\": a line of /etc/ssh/ssh_host_*_key.pub on the host";
    let refuse = |why: &str| Err(Refusal::new(why, HINT));
    if text.contains(char::is_control) {
        return refuse("a key is one line without control characters");
    }
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let (algorithm, base64) = match words.as_slice() {
        [algorithm, base64] | [algorithm, base64, _] => (*algorithm, *base64),
        _ => return refuse("a key is its type, its base64 and at most one word of comment"),
    };
    if algorithm.contains('=') || algorithm.contains(',') {
        return refuse("options have no meaning for a host key");
    }
    let Ok(key) = PublicKey::from_openssh(&format!("{algorithm} {base64}")) else {
        return refuse("it is not an OpenSSH public key without options or host name");
    };
    match key.algorithm() {
        Algorithm::Ed25519 | Algorithm::Ecdsa { .. } => {}
        Algorithm::Rsa { .. } => {
            // OpenSSH's own RequiredRSASize is lower; 2048 is what any host made in this century has.
            let bits = key.key_data().rsa().map_or(0, |rsa| rsa.key_size());
            if bits < 2048 {
                return refuse("an RSA key of less than 2048 bits proves nothing any more");
            }
        }
        Algorithm::Dsa => return refuse("DSA keys prove nothing any more"),
        _ => return refuse("only ed25519, ecdsa and rsa keys can be pinned"),
    }
    Ok(format!("{algorithm} {base64}"))
}

/// Two entries that are the same door to the same place fight over it.
pub(super) fn warn_of_twins(hosts: &[(Range<usize>, &Host)], context: &Context<'_>) {
    let mut seen = BTreeMap::new();
    for (at, host) in hosts {
        let door = (host.address.to_ascii_lowercase(), host.port, &host.directory);
        if let Some((other, line)) = seen.insert(door, (&host.name, context.line(at))) {
            context.warning(
                at.clone(),
                format!(
                    "host \"{}\" is the same machine and directory as \"{other}\" at line {line}",
                    host.name
                ),
                "keep one of them, or give each its own `directory`",
            );
        }
    }
}

#[cfg(test)]
mod tests;
