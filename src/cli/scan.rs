//! `certfleet scan`: what certificates exist on the hosts.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use jiff::Timestamp;

use super::import::certificate_entry;
use super::{Exit, Output, Refusal, read_store, unknown};
use crate::config::Config;
use crate::engine::{self, Flag, FoundCertificate, HostScan};
use crate::model::name::{Domain, HostName};
use crate::render;

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// Only these hosts of certs.toml
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
}

impl Output {
    pub(super) async fn scan(&self, config: &Config, args: &ScanArgs) -> Result<Exit, Refusal> {
        let known = config.desired.hosts.keys();
        let mut hosts: BTreeSet<HostName> = BTreeSet::new();
        for name in &args.hosts {
            let host = known.clone().find(|host| host.as_str() == name);
            hosts.insert(
                host.cloned().ok_or_else(|| unknown("host", name, known.clone().map(HostName::as_str)))?,
            );
        }
        if hosts.is_empty() {
            hosts.extend(known.cloned());
        }
        let (_, loaded) = read_store(config)?;
        let scans = engine::scan(config, &loaded.state, &hosts).await;
        let now = Timestamp::now();
        let entries = entries(config, &scans);
        let mut text = render::scan_text(&scans, now);
        if !entries.is_empty() {
            text.push_str("\nto have certfleet renew what it does not, add to certs.toml:\n\n");
            text.push_str(&entries.join("\n"));
        }
        self.print(&text, &render::scan_json(&scans, &entries, now));
        Ok(if scans.iter().any(|scan| scan.problem.is_some()) { Exit::Failed } else { Exit::Done })
    }
}

/// Entries for what is used on hosts and nobody renews: one for each set of domains.
fn entries(config: &Config, scans: &[HostScan]) -> Vec<String> {
    let known: BTreeSet<BTreeSet<&Domain>> =
        config.desired.certificates.values().map(|entry| entry.domains.iter().collect()).collect();
    let mut wanted: BTreeMap<BTreeSet<&Domain>, (&FoundCertificate, BTreeSet<&HostName>)> = BTreeMap::new();
    for scan in scans {
        for found in &scan.certificates {
            let domains: BTreeSet<&Domain> = found.domains.iter().collect();
            let used = found.flags.contains(&Flag::Unmanaged) && !found.flags.contains(&Flag::Orphaned);
            if used && !known.contains(&domains) && !domains.is_empty() {
                wanted.entry(domains).or_insert_with(|| (found, BTreeSet::new())).1.insert(&scan.host);
            }
        }
    }
    // Two certificates may have the same first domain; then the second needs a name of its own.
    let mut taken: BTreeSet<String> = config.desired.certificates.keys().map(ToString::to_string).collect();
    let one = |(found, hosts): (&FoundCertificate, BTreeSet<&HostName>)| {
        let mut seen = BTreeSet::new();
        let mut domains: Vec<Domain> =
            found.domains.iter().filter(|domain| seen.insert(*domain)).cloned().collect();
        // A name without `*.` first: the certificate is called after it.
        domains.sort_by_key(Domain::is_wildcard);
        let usual = domains.first().map(|domain| domain.default_cert_name().to_string()).unwrap_or_default();
        let numbered = (2..).map(|number| format!("{usual}-{number}"));
        let name = std::iter::once(usual.clone()).chain(numbered).find(|name| taken.insert(name.clone()));
        let hosts: Vec<String> = hosts.iter().map(|host| format!("\"{host}\"")).collect();
        let entry = certificate_entry(&name.unwrap_or(usual), &domains, None);
        format!("{entry}hosts = [{}]\n{}{}", hosts.join(", "), probed(found), choices(config))
    };
    wanted.into_values().map(one).collect()
}

/// The name to probe with, for a certificate that has wildcards only and so has no default.
fn probed(found: &FoundCertificate) -> String {
    if !found.domains.iter().all(Domain::is_wildcard) {
        return String::new();
    }
    let names = found.used_by.iter().filter_map(|name| name.parse::<Domain>().ok());
    match names.filter(|name| !name.is_wildcard()).find(|name| found.domains.iter().any(|d| d.covers(name))) {
        Some(name) => format!("verify-names = [\"{name}\"]\n"),
        None => "verify-names = [] # not probed: name what visitors use\n".to_owned(),
    }
}

/// Issuer and account, where there is no default because there are several.
fn choices(config: &Config) -> String {
    let issuers: Vec<&str> = config.desired.issuers.keys().map(|name| name.as_str()).collect();
    let accounts: Vec<&str> = config.dns.keys().map(|name| name.as_str()).collect();
    let choice = |(key, names): (&str, Vec<&str>)| match names.as_slice() {
        [first, others @ ..] if !others.is_empty() => {
            Some(format!("{key} = \"{first}\" # or {}\n", others.join(", ")))
        }
        _ => None,
    };
    [("issuer", issuers), ("dns", accounts)].into_iter().filter_map(choice).collect()
}
