//! The smallest facts that the planner takes, for tests to vary.

use certfleet::model::desired::{Certificate, Desired, Host, Issuer, KeyType};
use certfleet::model::name::{CertName, Domain, Fingerprint, HostName, IssuerName, VersionNumber};
use certfleet::model::problem::{Blame, Problem, Retry};
use certfleet::model::state::Version;
use jiff::{SignedDuration, Timestamp};

/// The directory of an issuer: Let's Encrypt's own for `letsencrypt`, since its limits are known.
pub(crate) fn directory(issuer: &str) -> String {
    match issuer {
        "letsencrypt" => "https://acme-v02.api.letsencrypt.org/directory".to_owned(),
        other => format!("https://{other}.example/directory"),
    }
}

pub(crate) fn issuer(name: &str) -> Issuer {
    Issuer {
        name: name.parse().expect("a valid name"),
        directory: directory(name),
        contact: Vec::new(),
        directory_ca: None,
        roots: None,
        profile: None,
        preferred_chain: None,
    }
}

pub(crate) fn host(name: &HostName) -> Host {
    Host {
        name: name.clone(),
        address: name.to_string(),
        port: 22,
        user: "root".to_owned(),
        via: None,
        access: Default::default(),
        sudo: false,
        receiver: false,
        local: false,
        identity: Vec::new(),
        host_key: Vec::new(),
        known_hosts: Vec::new(),
        directory: "/etc/letsencrypt/live".to_owned(),
        layout: Default::default(),
        files: Vec::new(),
        test: "nginx -t".to_owned(),
        reload: "systemctl reload nginx".to_owned(),
        verify: Vec::new(),
    }
}

/// Of `letsencrypt`, by the dns account `zone`, with names that are probed.
pub(crate) fn certificate(name: CertName, domains: Vec<Domain>, hosts: Vec<HostName>) -> Certificate {
    Certificate {
        name,
        verify_names: domains.iter().filter(|domain| !domain.is_wildcard()).take(1).cloned().collect(),
        domains,
        issuer: "letsencrypt".parse().expect("a valid name"),
        fallback: Vec::new(),
        dns: "zone".parse().expect("a valid name"),
        hosts,
        key: KeyType::default(),
        rollout: None,
        reuse_key: false,
        profile: None,
        preferred_chain: None,
        renew_before: None,
        revision: "1".to_owned(),
    }
}

pub(crate) fn fingerprint(name: &CertName, number: VersionNumber) -> Fingerprint {
    Fingerprint::of(format!("{name} {number}").as_bytes())
}

/// What the certificate's entry asks for, issued at `issued` and valid from then on.
pub(crate) fn version(
    certificate: &Certificate,
    number: VersionNumber,
    issued: Timestamp,
    life: SignedDuration,
) -> Version {
    Version {
        domains: certificate.domains.clone(),
        issuer: certificate.issuer.clone(),
        directory: directory(certificate.issuer.as_str()),
        key: certificate.key,
        serial: format!("{number:02}", number = number.0),
        fingerprint: fingerprint(&certificate.name, number),
        not_before: issued,
        not_after: issued.checked_add(life).unwrap_or(Timestamp::MAX),
        issued_at: issued,
        ari_id: None,
        revoked: None,
    }
}

pub(crate) fn problem(code: &str, retry: Retry) -> Problem {
    Problem {
        code: code.to_owned(),
        blame: Blame::Operator,
        retry,
        message: format!("{code} happened"),
        causes: Vec::new(),
        hint: None,
    }
}

/// Issuers and the dns account `zone`; no certificates.
pub(crate) fn desired(issuers: &[&str]) -> Desired {
    Desired {
        issuers: issuers
            .iter()
            .map(|name| (name.parse::<IssuerName>().expect("a valid name"), issuer(name)))
            .collect(),
        dns: ["zone".parse().expect("a valid name")].into(),
        ..Desired::default()
    }
}
