//! What else ends beside leaves: the certificates above them, and the roots that we were told to trust.

use std::path::Path;

use jiff::Timestamp;

use crate::config::Config;
use crate::engine::credentials::{Credential, credentials};
use crate::model::alert::{Ending, Memory};
use crate::model::cert::{ChainEnd, authority};
use crate::model::desired::Desired;
use crate::model::name::HostName;
use crate::store::Store;

use super::Known;

/// Reads the chains of the newest versions, each once.
pub(super) fn remember(memory: &mut Memory, desired: &Desired, known: &Known, store: &Store) {
    let newest = |name| known.state.certificates.get(name).and_then(|known| known.newest());
    let mut chains = std::mem::take(&mut memory.chains);
    for name in desired.certificates.keys() {
        let Some((number, version)) = newest(name) else { continue };
        let end = match chains.remove(&version.fingerprint) {
            Some(end) => end,
            None => match store.version(name, number) {
                Ok(files) => first_end(files.fullchain.as_bytes()),
                // Whoever needs them says that they cannot be read.
                Err(_) => continue,
            },
        };
        memory.chains.insert(version.fingerprint, end);
    }
}

/// The certificate above the leaf that ends first.
fn first_end(fullchain: &[u8]) -> Option<ChainEnd> {
    let mut rest = fullchain;
    ChainEnd::first(rustls_pemfile::certs(&mut rest).filter_map(Result::ok).skip(1))
}

/// When the files of roots end that certs.toml names, with the last root in each; and our own certificates for SSH.
pub(super) fn endings(config: &Config, store: Option<&Store>) -> Vec<Ending> {
    let own = store.map(Store::ssh_identity).unwrap_or_default();
    let mut found: Vec<Ending> = credentials(config, &own).into_iter().filter_map(of_ssh).collect();
    for issuer in config.desired.issuers.values() {
        for (key, path) in [("directory-ca", &issuer.directory_ca), ("roots", &issuer.roots)] {
            let Some(path) = path else { continue };
            found.extend(ending(path, &format!("`{key}` of [issuer.{}]", issuer.name)));
        }
    }
    found
}

fn of_ssh(credential: Credential) -> Option<Ending> {
    let hosts: Vec<&str> = credential.hosts.iter().map(HostName::as_str).collect();
    (credential.until < Timestamp::MAX).then(|| Ending {
        what: format!("the SSH certificate {} for {},", credential.file.display(), hosts.join(", ")),
        not_before: credential.from,
        not_after: credential.until,
        remedy: format!(
            "have the key beside it signed again, and put the result at {}",
            credential.file.display()
        ),
    })
}

fn ending(path: &Path, key: &str) -> Option<Ending> {
    // One that cannot be read is told of by whoever needs it.
    let bytes = std::fs::read(path).ok()?;
    let mut rest = bytes.as_slice();
    let roots = rustls_pemfile::certs(&mut rest).filter_map(Result::ok);
    let lives = roots.filter_map(|der| authority(&der).ok());
    let (name, not_before, not_after) = lives.max_by_key(|(_, _, not_after)| *not_after)?;
    Some(Ending {
        what: format!("{key}, `{name}` in {},", path.display()),
        not_before,
        not_after,
        remedy: format!("ask who runs that CA for its next root, and add it to {}", path.display()),
    })
}
