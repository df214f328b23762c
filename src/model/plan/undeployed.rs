//! What a deployment alone could still bring to visitors, without a new order.

use jiff::Timestamp;

use super::same_domains;
use crate::model::desired::Certificate;
use crate::model::name::{HostName, VersionNumber};
use crate::model::state::State;

/// The newest version, and those of its hosts on which another one is, by our facts. None where a deployment
/// would help nobody: there is no version, it has ended, was revoked, or is not what certs.toml asks for.
pub fn undeployed<'a>(
    certificate: &'a Certificate,
    state: &State,
    now: Timestamp,
) -> Option<(VersionNumber, Vec<&'a HostName>)> {
    let name = &certificate.name;
    let (number, version) = state.certificates.get(name)?.newest()?;
    let good = version.not_before <= now
        && now < version.not_after
        && version.revoked.is_none()
        && version.key == certificate.key
        && same_domains(certificate, version);
    let has_it = |host: &&HostName| {
        let facts = state.hosts.get(*host).and_then(|of| of.get(name));
        facts
            .and_then(|facts| facts.installed.as_ref())
            .is_some_and(|installed| installed.fingerprint == version.fingerprint)
    };
    let hosts: Vec<&HostName> = certificate.hosts.iter().filter(|host| !has_it(host)).collect();
    (good && !hosts.is_empty()).then_some((number, hosts))
}
