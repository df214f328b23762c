//! What certs.toml and known-hosts files say of a host, and the verdict on what it shows.
//!
//! Known-hosts files are judged as OpenSSH's `check_host_key` judges them with `StrictHostKeyChecking=yes`,
//! its odd corners included: who moves from `ssh` to us is neither locked out nor let down.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use russh::keys::ssh_key::known_hosts::{Entry, Marker};
use russh::keys::{Algorithm, Certificate, EcdsaCurve, HashAlg, PublicKey, PublicKeyOrCertificate};

use super::certificate::{self, CertificateFault};
use super::pattern::matches;
use super::{HostKeyError, Shown};
use crate::model::desired::Host;
use crate::model::problem::plain;

/// The keys that a host may show, and who says so.
#[derive(Debug, Clone)]
pub struct Expectation {
    host: String,
    /// What known-hosts files call it.
    address: String,
    /// What its certificates call it.
    principal: String,
    pins: Vec<PublicKey>,
    /// What the files say of it, by its names: with its port, then without. The second counts only where the
    /// first has nothing.
    said: Vec<Said>,
    searched: Vec<PathBuf>,
}

/// What the files say of one name.
#[derive(Debug, Clone, Default)]
struct Said {
    keys: Vec<PublicKey>,
    authorities: Vec<PublicKey>,
    revoked: Vec<(PublicKey, PathBuf)>,
}

/// Why what is shown is refused.
enum Why {
    Unknown,
    Changed,
    Revoked(PathBuf),
}

impl Expectation {
    /// What certs.toml pins, else what the known-hosts files say. A file that is not there says nothing.
    ///
    /// A key that any of the files revokes stays revoked, also when it is pinned.
    pub(in crate::deploy) fn of(host: &Host) -> Result<Self, HostKeyError> {
        let names = names(host);
        let mut expectation = Self {
            host: host.name.to_string(),
            address: names[0].clone(),
            principal: host.address.to_ascii_lowercase(),
            pins: Vec::new(),
            said: vec![Said::default(); names.len()],
            searched: host.known_hosts.clone(),
        };
        for pin in &host.host_key {
            let key = pin.trim().parse().map_err(|source| HostKeyError::BadPin {
                host: host.name.to_string(),
                entry: plain(pin).chars().take(60).collect(),
                source,
            })?;
            expectation.pins.push(key);
        }
        for path in &host.known_hosts {
            match fs::read(path) {
                Ok(text) => expectation.read(&String::from_utf8_lossy(&text), path, &names),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(HostKeyError::Unreadable { path: path.clone(), source }),
            }
        }
        Ok(expectation)
    }

    fn read(&mut self, text: &str, path: &Path, names: &[String]) {
        for (number, line) in text.lines().enumerate() {
            let line = line.trim_matches([' ', '\t']);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let words = line.split([' ', '\t']).filter(|word| !word.is_empty());
            let entry = words.collect::<Vec<_>>().join(" ").parse::<Entry>();
            // For ssh a marker ends at a space, if there is one in the line: it does not trust this authority.
            // That it does not see such a `@revoked` either is no example to follow.
            let Ok(entry) = entry.map_err(|_| ()).and_then(|entry| match line.find([' ', '\t']) {
                Some(at)
                    if entry.marker() == Some(&Marker::CertAuthority) && !line[at..].starts_with(' ') =>
                {
                    if line.contains(' ') {
                        Err(())
                    } else {
                        Ok(entry)
                    }
                }
                _ => Ok(entry),
            }) else {
                tracing::warn!("{}:{}: not a line of known hosts, left out", path.display(), number + 1);
                continue;
            };
            for (name, said) in names.iter().zip(&mut self.said) {
                if !matches(entry.host_patterns(), name) {
                    continue;
                }
                let key = entry.public_key().clone();
                match entry.marker() {
                    Some(Marker::Revoked) => said.revoked.push((key, path.to_owned())),
                    Some(Marker::CertAuthority) => said.authorities.push(key),
                    None => said.keys.push(key),
                }
            }
        }
    }

    /// The kinds of keys to ask for, in this order. Those that are pinned; else all, so that a refusal can name
    /// the key, with those that the files have first, as ssh does it. Never RSA with SHA-1.
    pub(in crate::deploy) fn algorithms(&self) -> Vec<Algorithm> {
        let mut all = all_kinds();
        let known =
            |kind: &Algorithm, keys: &[PublicKey]| keys.iter().any(|key| same_kind(kind, &key.algorithm()));
        if !self.pins.is_empty() {
            all.retain(|kind| known(kind, &self.pins));
        } else if !known(&all[0], &self.said[0].keys) {
            all.sort_by_key(|kind| !known(kind, &self.said[0].keys));
        }
        all
    }

    /// The kinds of host certificates to ask for. They go before all keys: so where keys are known and nobody may
    /// vouch for others, only certificates of those kinds, lest a key of another kind is shown in their place.
    pub(in crate::deploy) fn certificates(&self) -> Vec<Algorithm> {
        if !self.pins.is_empty() {
            return Vec::new();
        }
        let mut all = all_kinds();
        let keys = &self.said[0].keys;
        let known = |kind: &Algorithm| keys.iter().any(|key| same_kind(kind, &key.algorithm()));
        if !self.knows_an_authority() && !keys.is_empty() && !known(&all[0]) {
            all.retain(known);
        }
        all
    }

    /// Accepts exactly what is expected.
    pub(in crate::deploy) fn judge(&self, presented: &PublicKeyOrCertificate) -> Result<(), HostKeyError> {
        let key = presented.public_key();
        let shown = || Box::new(Shown::of(&key));
        let host = || self.host.clone();
        if !self.pins.is_empty() {
            let revoked = self.said.iter().find_map(|said| said.revokes(&key, None));
            return match revoked {
                Some(path) => Err(HostKeyError::Revoked { host: host(), presented: shown(), path }),
                None if has(&self.pins, &key) => Ok(()),
                None => Err(HostKeyError::Mismatch {
                    host: host(),
                    expected: self.to_string(),
                    presented: shown(),
                }),
            };
        }
        let mut fault = None;
        match self.judge_by(&self.said, &key, presented.certificate(), &mut fault) {
            Ok(()) => Ok(()),
            Err(Why::Revoked(path)) => Err(HostKeyError::Revoked { host: host(), presented: shown(), path }),
            Err(Why::Unknown | Why::Changed) if fault.is_some() => Err(HostKeyError::Certificate {
                host: host(),
                source: fault.unwrap_or(CertificateFault::Nobody),
            }),
            Err(Why::Unknown) if !self.knows_an_authority() => Err(HostKeyError::Unknown {
                host: host(),
                address: self.address.clone(),
                presented: shown(),
                searched: self.searched.clone(),
            }),
            Err(Why::Unknown | Why::Changed) => {
                Err(HostKeyError::Mismatch { host: host(), expected: self.to_string(), presented: shown() })
            }
        }
    }

    /// The verdict of the files; `fault` is why a certificate of a known authority did not do.
    fn judge_by(
        &self,
        said: &[Said],
        key: &PublicKey,
        certificate: Option<&Certificate>,
        fault: &mut Option<CertificateFault>,
    ) -> Result<(), Why> {
        let Some((first, others)) = said.split_first() else { return Err(Why::Unknown) };
        if let Some(path) = first.revokes(key, certificate) {
            return Err(Why::Revoked(path));
        }
        if let Some(certificate) = certificate {
            let signed_by = PublicKey::new(certificate.signature_key().clone(), "");
            let vouched = match has(&first.authorities, &signed_by) {
                true => match certificate::check(certificate, &self.principal, Timestamp::now()) {
                    Ok(()) => true,
                    Err(why) => {
                        *fault = Some(why);
                        false
                    }
                },
                false => self.judge_by(others, key, Some(certificate), fault).is_ok(),
            };
            // Nobody vouches for it: then the key in it has to be known by itself.
            return if vouched { Ok(()) } else { self.judge_by(said, key, None, fault) };
        }
        match first.keys.is_empty() {
            _ if has(&first.keys, key) => Ok(()),
            true => self.judge_by(others, key, None, fault),
            false => Err(Why::Changed),
        }
    }

    fn knows_an_authority(&self) -> bool {
        self.said.iter().any(|said| !said.authorities.is_empty())
    }

    /// The refusal of a host that has no key of the kinds asked for.
    pub(in crate::deploy) fn other_kind(&self, offered: &[String]) -> HostKeyError {
        HostKeyError::OtherKind {
            host: self.host.clone(),
            expected: self.to_string(),
            offered: plain(&offered.join(", ")),
        }
    }
}

impl Said {
    /// The file that revokes this key, or who signed its certificate.
    fn revokes(&self, key: &PublicKey, certificate: Option<&Certificate>) -> Option<PathBuf> {
        let is = |revoked: &PublicKey| {
            revoked.key_data() == key.key_data()
                || certificate.is_some_and(|of| of.signature_key() == revoked.key_data())
        };
        self.revoked.iter().find(|(revoked, _)| is(revoked)).map(|(_, path)| path.clone())
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        let mut one = |f: &mut fmt::Formatter<'_>, text: String| {
            let or = if std::mem::take(&mut first) { "" } else { " or " };
            write!(f, "{or}{text}")
        };
        for key in &self.pins {
            one(f, Shown::of(key).to_string())?;
        }
        if !self.pins.is_empty() {
            return f.write_str(" (pinned)");
        }
        // What has the port, and only without any what has not.
        let keys = self.said.iter().map(|said| &said.keys).find(|keys| !keys.is_empty());
        for key in keys.into_iter().flatten() {
            one(f, Shown::of(key).to_string())?;
        }
        for authority in self.said.iter().flat_map(|said| &said.authorities) {
            one(f, format!("one signed by {}", Shown::of(authority)))?;
        }
        f.write_str(" (known hosts)")
    }
}

fn all_kinds() -> Vec<Algorithm> {
    let mut all = vec![Algorithm::Ed25519];
    all.extend(
        [EcdsaCurve::NistP256, EcdsaCurve::NistP384, EcdsaCurve::NistP521]
            .map(|curve| Algorithm::Ecdsa { curve }),
    );
    all.extend([HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }));
    all
}

fn has(keys: &[PublicKey], key: &PublicKey) -> bool {
    keys.iter().any(|one| one.key_data() == key.key_data())
}

fn same_kind(a: &Algorithm, b: &Algorithm) -> bool {
    match (a, b) {
        (Algorithm::Rsa { .. }, Algorithm::Rsa { .. }) => true,
        _ => a == b,
    }
}

/// The names that a known-hosts line can have this host under: a line without a port is good for every port.
fn names(host: &Host) -> Vec<String> {
    let address = host.address.to_ascii_lowercase();
    match host.port {
        22 => vec![address],
        port => vec![format!("[{address}]:{port}"), address],
    }
}
