//! The annotated certs.toml is complete and true.

use std::path::Path;

use certfleet::config::{Config, parse, parse_with_keys};
use certfleet::dns::{KINDS, PropagationCheck};
use certfleet::model::desired::{Desired, KeyType, Margin};

use super::{GOOD, read};

const REFERENCE: &str = include_str!("../../../certs.toml");

/// The reference with its `#key = value` lines uncommented: all, or those that show a default.
fn uncommented(examples: bool) -> String {
    REFERENCE
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if setting.starts_with(' ') || setting.is_empty() => line,
            Some(setting) if examples || !setting.ends_with("# example") => setting,
            _ => line,
        })
        .collect::<Vec<_>>()
        .join("\n")
}

fn parsed(text: &str) -> Config {
    let config =
        parse(text, Path::new("/etc/certfleet/certs.toml")).unwrap_or_else(|error| panic!("{error}"));
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    config
}

/// All that two files can differ in; the revision follows the text, not its meaning.
fn meaning(config: &Config) -> impl PartialEq + std::fmt::Debug + use<> {
    let Desired { mut certificates, hosts, issuers, dns: _, interval: _ } = config.desired.clone();
    for certificate in certificates.values_mut() {
        certificate.revision.clear();
    }
    let accounts: Vec<_> = config
        .dns
        .values()
        .map(|account| {
            let times = (account.ttl, account.propagation_timeout, account.propagation_delay);
            (account.name.clone(), account.check, account.authoritative.clone(), times)
        })
        .collect();
    let rest =
        (config.store.clone(), config.daemon.clone(), config.nameservers.clone(), config.groups.clone());
    let told = (format!("{:?}", config.channels), config.alert_order.clone(), config.heartbeat.clone());
    (certificates, hosts, issuers, accounts, rest, told)
}

#[test]
fn the_reference_is_taken_as_shipped() {
    let config = parsed(REFERENCE);
    let certificate = config.desired.certificates.values().next().unwrap();
    assert_eq!(certificate.name.as_str(), "media.hachyderm.io");
    assert_eq!(certificate.hosts.len(), 4);
}

#[test]
fn the_defaults_that_it_shows_are_the_defaults() {
    assert_ne!(uncommented(false), REFERENCE.trim_end());
    assert_eq!(meaning(&parsed(REFERENCE)), meaning(&parsed(&uncommented(false))));
}

#[test]
fn every_line_of_it_can_be_uncommented() {
    let config = parsed(&uncommented(true));
    let certificate = config.desired.certificates.values().next().unwrap();
    assert!(matches!(certificate.renew_before, Some(Margin::Time(_))));
    assert!(config.desired.hosts.values().all(|host| host.host_key.len() == 1 && host.verify.len() == 2));
    assert_eq!(config.nameservers.len(), 2);
    assert_eq!((config.channels.len(), config.alert_order.len()), (certfleet::notify::KINDS.len(), 1));
    assert!(config.heartbeat.is_some());
}

#[test]
fn every_known_key_is_in_it() {
    let text = uncommented(true);
    let (_, keys) = parse_with_keys(&text, Path::new("/etc/certfleet/certs.toml")).unwrap();
    for (kind, key) in &keys.known {
        assert!(
            keys.used.contains(&(*kind, (*key).to_owned())),
            "`{key}` of [{kind}] is missing in certs.toml"
        );
    }
    assert!(keys.known.len() > 30);
    for form in ["{ file = ", "{ env = ", "{ credential = ", "{ command = "] {
        assert!(REFERENCE.contains(form), "{form}");
    }
}

#[test]
fn every_default_has_its_documented_value() {
    let config = read(GOOD).unwrap();
    let certificate = config.desired.certificates.values().next().unwrap();
    assert_eq!((certificate.key, certificate.renew_before), (KeyType::EcdsaP256, None));
    assert_eq!(certificate.verify_names, ["www.example.org".parse().unwrap()]);
    let host = config.desired.hosts.values().next().unwrap();
    assert_eq!((host.address.as_str(), host.port, host.user.as_str()), ("web1", 22, "root"));
    assert_eq!((host.identity.len(), host.host_key.len(), host.verify.len()), (0, 0, 0));
    assert_eq!(
        host.known_hosts,
        [Path::new("/etc/certfleet/known_hosts"), Path::new("/etc/ssh/ssh_known_hosts")]
    );
    assert_eq!(host.directory, "/etc/letsencrypt/live");
    assert_eq!((host.test.as_str(), host.reload.as_str()), ("nginx -t", "systemctl reload nginx"));
    let account = config.dns.values().next().unwrap();
    assert_eq!((account.ttl, account.check), (60, PropagationCheck::Authoritative));
    assert_eq!((account.propagation_timeout.as_secs(), account.propagation_delay.as_secs()), (120, 0));
    let issuer = config.desired.issuers.values().next().unwrap();
    assert_eq!(issuer.directory, "https://acme-v02.api.letsencrypt.org/directory");
    assert_eq!(issuer.contact, ["mailto:ops@example.org"]);
}

#[test]
fn the_examples_of_the_providers_are_taken() {
    for kind in KINDS {
        let own = format!("provider = \"{}\"\n{}", kind.name, kind.example);
        let start = GOOD.find("provider").unwrap();
        let end = GOOD.find("[host.web1]").unwrap();
        let text = format!("{}{own}\n{}", &GOOD[..start], &GOOD[end..]);
        assert!(read(&text).is_ok(), "{}: {}", kind.name, read(&text).unwrap_err());
        assert!(!kind.summary.is_empty());
    }
}
