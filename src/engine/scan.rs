//! What certificates exist on hosts, whoever put them there. Only looks.

mod nginx;

use std::collections::{BTreeMap, BTreeSet};

use futures::future::join_all;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::connections::Connections;
use crate::config::Config;
use crate::deploy::{Inventory, NginxConfig, Place};
use crate::model::cert::Leaf;
use crate::model::desired::Host;
use crate::model::name::{CertName, Domain, Fingerprint, HostName};
use crate::model::problem::{Problem, plain};
use crate::model::state::State;
use nginx::Server;

/// What a host has.
#[derive(Debug, Clone)]
pub struct HostScan {
    /// The host.
    pub host: HostName,
    /// Why it could not be looked at.
    pub problem: Option<Problem>,
    /// Why the configuration of its web server is not known, so that nobody knows what is used.
    pub no_config: Option<String>,
    /// Its certificates, by path.
    pub certificates: Vec<FoundCertificate>,
    /// Names of servers that no certificate there is valid for.
    pub uncovered: Vec<Uncovered>,
    /// Files that the configuration names and that cannot be read; safe to show.
    pub unreadable: Vec<String>,
    /// Whether there was more than could be taken.
    pub cut: bool,
}

/// One certificate on a host.
#[derive(Debug, Clone)]
pub struct FoundCertificate {
    /// Where it is, safe to show.
    pub path: String,
    /// Its name in certs.toml, or the store, if it is ours.
    pub name: Option<CertName>,
    /// Its domains.
    pub domains: Vec<Domain>,
    /// Who issued it, safe to show.
    pub issuer: String,
    /// SHA-256 of it.
    pub fingerprint: Fingerprint,
    /// The end of its life.
    pub not_after: Timestamp,
    /// The names of the servers that use it, safe to show.
    pub used_by: Vec<String>,
    /// Other hosts with the same certificate.
    pub elsewhere: Vec<HostName>,
    /// What there is to say of it.
    pub flags: BTreeSet<Flag>,
}

/// What there is to say of a certificate on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flag {
    /// It is ours, and certs.toml sends it there.
    Managed,
    /// certs.toml has a certificate for this place, which will take its place.
    ToReplace,
    /// It is ours, but certs.toml does not send it there: it will run out there.
    NotListed,
    /// It is not ours.
    Unmanaged,
    /// Its life is over.
    Expired,
    /// No configuration names it.
    Orphaned,
    /// Another one there is for the same domains.
    Duplicate,
    /// Its private key belongs to another certificate.
    KeyMismatch,
    /// Its private key was not found.
    NoKey,
}

impl Flag {
    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::ToReplace => "to-be-replaced",
            Self::NotListed => "not-listed",
            Self::Unmanaged => "unmanaged",
            Self::Expired => "expired",
            Self::Orphaned => "orphaned",
            Self::Duplicate => "duplicate",
            Self::KeyMismatch => "key-mismatch",
            Self::NoKey => "no-key",
        }
    }
}

/// A name that a server is configured for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Uncovered {
    /// The name.
    pub name: Domain,
    /// Whether the server speaks TLS for it, with a certificate for other names; else it has none at all.
    pub tls: bool,
}

/// Looks at these hosts, all at the same time.
pub async fn scan(config: &Config, state: &State, hosts: &BTreeSet<HostName>) -> Vec<HostScan> {
    let scans = hosts.iter().filter_map(|name| config.desired.hosts.get(name));
    let connections = Connections::default();
    let mut scans = join_all(scans.map(|host| one(config, &connections, state, host))).await;
    connections.close().await;
    let mut places: BTreeMap<Fingerprint, BTreeSet<HostName>> = BTreeMap::new();
    for scan in &scans {
        for found in &scan.certificates {
            places.entry(found.fingerprint).or_default().insert(scan.host.clone());
        }
    }
    for scan in &mut scans {
        for found in &mut scan.certificates {
            let all = places.get(&found.fingerprint).into_iter().flatten();
            found.elsewhere = all.filter(|host| **host != scan.host).cloned().collect();
        }
    }
    scans
}

async fn one(config: &Config, connections: &Connections, state: &State, host: &Host) -> HostScan {
    let mut scan = HostScan {
        host: host.name.clone(),
        problem: None,
        no_config: None,
        certificates: Vec::new(),
        uncovered: Vec::new(),
        unreadable: Vec::new(),
        cut: false,
    };
    match look(config, connections, host).await {
        Ok((nginx, inventory)) => {
            let servers = match nginx {
                NginxConfig::Text(text) => nginx::servers(&text),
                NginxConfig::None => {
                    scan.no_config = Some("there is no nginx".to_owned());
                    Vec::new()
                }
                NginxConfig::Broken(said) => {
                    scan.no_config = Some(format!("nginx cannot load its configuration: {said}"));
                    Vec::new()
                }
            };
            judge(&mut scan, config, state, host, &servers, &inventory);
        }
        Err(problem) => scan.problem = Some(problem),
    }
    scan
}

async fn look(
    config: &Config,
    connections: &Connections,
    host: &Host,
) -> Result<(NginxConfig, Inventory), Problem> {
    let session = connections
        .session(config, &config.ssh_identity(), host)
        .await
        .map_err(|error| Problem::of(&*error))?;
    let looked = async {
        let nginx = session.nginx_config(host).await?;
        let mut places = BTreeSet::from([(Place::Folders, host.directory.clone())]);
        if let NginxConfig::Text(text) = &nginx {
            for (certificate, key) in nginx::servers(text).into_iter().flat_map(|server| server.pairs) {
                // What depends on the visitor has no one place.
                for path in std::iter::once(certificate).chain(key) {
                    let plain = !path.contains(|c: char| c == '$' || c.is_control())
                        && path.len() < 4096
                        && !path.starts_with("data:");
                    let folder = path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
                    let listed = folder.as_deref().and_then(|folder| folder.rsplit_once('/'));
                    if plain && listed.is_none_or(|(above, _)| above != host.directory) {
                        places.extend(folder.map(|folder| (Place::Folder, folder)));
                        places.insert((Place::File, path));
                    }
                }
            }
        }
        let places: Vec<(Place, String)> = places.into_iter().take(PLACES).collect();
        let inventory = session.inventory(host, &places).await?;
        Ok::<_, crate::deploy::InstallError>((nginx, inventory))
    }
    .await;
    looked.map_err(|error| Problem::of(&error))
}

fn judge(
    scan: &mut HostScan,
    config: &Config,
    state: &State,
    host: &Host,
    servers: &[Server],
    inventory: &Inventory,
) {
    let now = Timestamp::now();
    scan.cut = inventory.cut;
    scan.unreadable = inventory.unreadable.iter().map(|path| plain(path)).collect();
    // One certificate is in several files of a folder: cert.pem, fullchain.pem.
    let mut found: BTreeMap<(String, Fingerprint), (Leaf, BTreeSet<String>)> = BTreeMap::new();
    for (path, pem) in &inventory.certificates {
        let first = rustls_pemfile::certs(&mut pem.as_bytes()).next().and_then(Result::ok);
        let Some(leaf) = first.and_then(|der| Leaf::parse(&der).ok()).filter(|leaf| !leaf.is_ca) else {
            continue;
        };
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let entry = found.entry((folder, leaf.fingerprint)).or_insert_with(|| (leaf, BTreeSet::new()));
        entry.1.insert(path.clone());
    }
    let keys = Keys::of(inventory);
    let mut users_of: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (at, server) in servers.iter().enumerate() {
        for (certificate, _) in &server.pairs {
            users_of.entry(certificate).or_default().insert(at);
        }
    }
    for ((folder, fingerprint), (leaf, paths)) in &found {
        let users: BTreeSet<usize> =
            paths.iter().filter_map(|path| users_of.get(path.as_str())).flatten().copied().collect();
        let users: Vec<&Server> = users.into_iter().map(|at| &servers[at]).collect();
        let used_by: BTreeSet<String> =
            users.iter().flat_map(|server| &server.names).map(|name| plain(name)).collect();
        let (name, whose) = whose(config, state, host, folder, fingerprint);
        let mut flags = BTreeSet::from([whose]);
        if leaf.not_after <= now {
            flags.insert(Flag::Expired);
        }
        if users.is_empty() && scan.no_config.is_none() {
            flags.insert(Flag::Orphaned);
        }
        flags.extend(key_flag(folder, paths, leaf, &users, &keys));
        scan.certificates.push(FoundCertificate {
            path: plain(
                paths
                    .iter()
                    .find(|path| path.contains("fullchain"))
                    .or_else(|| paths.first())
                    .map_or("", |path| path),
            ),
            name,
            domains: leaf.domains.clone(),
            issuer: leaf.issuer.clone(),
            fingerprint: *fingerprint,
            not_after: leaf.not_after,
            used_by: used_by.into_iter().collect(),
            elsewhere: Vec::new(),
            flags,
        });
    }
    mark_duplicates(&mut scan.certificates);
    scan.certificates.sort_by(|a, b| a.path.cmp(&b.path));
    scan.uncovered = uncovered(servers, &found);
}

/// Whose a certificate is, and its name in certs.toml or the store.
fn whose(
    config: &Config,
    state: &State,
    host: &Host,
    folder: &str,
    fingerprint: &Fingerprint,
) -> (Option<CertName>, Flag) {
    let sent = |name: &CertName| {
        config.desired.certificates.get(name).is_some_and(|entry| entry.hosts.contains(&host.name))
    };
    let known = state
        .certificates
        .iter()
        .find(|(_, known)| known.versions.values().any(|version| version.fingerprint == *fingerprint));
    if let Some((name, _)) = known {
        let flag = if sent(name) { Flag::Managed } else { Flag::NotListed };
        return (Some(name.clone()), flag);
    }
    let place =
        folder.strip_prefix(host.directory.trim_end_matches('/')).and_then(|rest| rest.strip_prefix('/'));
    match place.and_then(|place| place.parse::<CertName>().ok()).filter(sent) {
        Some(name) => (Some(name), Flag::ToReplace),
        None => (None, Flag::Unmanaged),
    }
}

/// The private keys of a host: the hashes of their public halves, where those are known.
#[derive(Default)]
struct Keys<'a> {
    by_path: BTreeMap<&'a str, Option<&'a str>>,
    by_folder: BTreeMap<&'a str, BTreeSet<Option<&'a str>>>,
}

impl<'a> Keys<'a> {
    fn of(inventory: &'a Inventory) -> Self {
        let mut keys = Self::default();
        for (path, hash) in &inventory.keys {
            keys.by_path.insert(path, hash.as_deref());
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            keys.by_folder.entry(folder).or_default().insert(hash.as_deref());
        }
        keys
    }
}

/// What is wrong with the key that a certificate is used with, or that lies beside it.
fn key_flag(
    folder: &str,
    paths: &BTreeSet<String>,
    leaf: &Leaf,
    users: &[&Server],
    keys: &Keys<'_>,
) -> Option<Flag> {
    let own: String = Sha256::digest(&leaf.public_key).iter().map(|byte| format!("{byte:02x}")).collect();
    let fits = |hash: &Option<&str>| hash.is_none_or(|hash| hash == own);
    let named = users.iter().flat_map(|server| &server.pairs).filter(|(path, _)| paths.contains(path));
    let mut verdicts: BTreeSet<Option<bool>> = named
        .filter_map(|(_, key)| key.as_deref())
        .filter(|key| !key.contains('$'))
        .map(|key| keys.by_path.get(key).map(fits))
        .collect();
    if verdicts.is_empty() {
        // Of several keys in a folder one is enough.
        verdicts.insert(keys.by_folder.get(folder).map(|beside| beside.iter().any(fits)));
    }
    match () {
        () if verdicts.contains(&Some(false)) => Some(Flag::KeyMismatch),
        () if verdicts.contains(&None) => Some(Flag::NoKey),
        () => None,
    }
}

fn mark_duplicates(certificates: &mut [FoundCertificate]) {
    let key = |found: &FoundCertificate| found.domains.iter().cloned().collect::<BTreeSet<Domain>>();
    let mut counts: BTreeMap<BTreeSet<Domain>, usize> = BTreeMap::new();
    for found in certificates.iter().filter(|found| !found.domains.is_empty()) {
        *counts.entry(key(found)).or_default() += 1;
    }
    for found in certificates {
        if counts.get(&key(found)).is_some_and(|count| *count > 1) {
            found.flags.insert(Flag::Duplicate);
        }
    }
}

fn uncovered(
    servers: &[Server],
    found: &BTreeMap<(String, Fingerprint), (Leaf, BTreeSet<String>)>,
) -> Vec<Uncovered> {
    let mut all: BTreeSet<&Domain> = BTreeSet::new();
    let mut by_path: BTreeMap<&str, BTreeSet<&Domain>> = BTreeMap::new();
    for (leaf, paths) in found.values() {
        all.extend(&leaf.domains);
        for path in paths {
            by_path.entry(path).or_default().extend(&leaf.domains);
        }
    }
    let covers = |domains: &BTreeSet<&Domain>, name: &Domain| {
        domains.contains(name) || name.wildcard_above().is_some_and(|above| domains.contains(&above))
    };
    let mut missing = BTreeSet::new();
    for server in servers {
        let tls = server.tls || !server.pairs.is_empty();
        let own = server.pairs.iter().filter_map(|(path, _)| by_path.get(path.as_str()));
        // `_`, patterns and the like are no names.
        for name in server.names.iter().filter_map(|name| name.parse::<Domain>().ok()) {
            // A server without TLS mostly sends its visitors to the one with it.
            let covered = match tls {
                true => own.clone().any(|domains| covers(domains, &name)),
                false => covers(&all, &name),
            };
            if !covered {
                missing.insert(Uncovered { name, tls });
            }
        }
    }
    missing.into_iter().collect()
}

/// Files and folders that are asked for at most.
const PLACES: usize = 2000;
