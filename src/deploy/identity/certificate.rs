//! OpenSSH user certificates: a key's statement by an authority that its holder may come in.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Certificate, PublicKey};

use crate::deploy::host_key::moment;
use crate::model::plan::minute;

/// More than any certificate has.
const LIMIT: u64 = 64 * 1024;

/// The file of a key's certificate, where ssh looks for it: `id_ed25519` has `id_ed25519-cert.pub`.
pub fn beside(key: &Path) -> PathBuf {
    // That of a public key, where only the agent has the private one, is called the same.
    let stem = if key.extension().is_some_and(|ending| ending == "pub") {
        key.with_extension("")
    } else {
        key.to_owned()
    };
    super::with_ending(&stem, "-cert.pub")
}

/// Why a certificate beside a key is not shown to hosts.
#[derive(Debug, thiserror::Error)]
pub(in crate::deploy) enum Doubt {
    #[error("it cannot be read: {0}")]
    Unreadable(io::Error),
    #[error("it is no certificate: {0}")]
    NotACertificate(russh::keys::ssh_key::Error),
    #[error("it is the certificate of a host")]
    OfHost,
    #[error("it is the certificate of another key")]
    OfAnother,
    #[error("it holds from {}", minute(*.0))]
    NotYet(Timestamp),
    #[error("it ended on {}", minute(*.0))]
    Ended(Timestamp),
}

/// The certificate beside a key, if there is one; whether hosts would take it at this time.
pub(in crate::deploy) fn read(
    path: &Path,
    key: &PublicKey,
    now: Timestamp,
) -> Result<Option<Certificate>, Doubt> {
    let Some(certificate) = parse(path)? else { return Ok(None) };
    if certificate.cert_type() != CertType::User {
        return Err(Doubt::OfHost);
    }
    if certificate.public_key() != key.key_data() {
        return Err(Doubt::OfAnother);
    }
    let (from, until) = (moment(certificate.valid_after()), moment(certificate.valid_before()));
    match () {
        () if now < from => Err(Doubt::NotYet(from)),
        () if now >= until => Err(Doubt::Ended(until)),
        () => Ok(Some(certificate)),
    }
}

fn parse(key: &Path) -> Result<Option<Certificate>, Doubt> {
    let mut text = String::new();
    let read = File::open(beside(key)).and_then(|file| file.take(LIMIT).read_to_string(&mut text));
    match read {
        Ok(_) => Certificate::from_openssh(text.trim()).map(Some).map_err(Doubt::NotACertificate),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Doubt::Unreadable(error)),
    }
}

/// The life of the certificate beside a key, from when until when; `None` where there is none, or none that can
/// be read. One that holds for ever ends at [`Timestamp::MAX`].
pub fn life(key: &Path) -> Option<(Timestamp, Timestamp)> {
    let certificate = parse(key).ok().flatten()?;
    Some((moment(certificate.valid_after()), moment(certificate.valid_before())))
}

/// Who signed the certificate beside a key, as authorized_keys takes it, and whom it is for.
pub fn authority(key: &Path) -> Option<(String, Vec<String>)> {
    let certificate = parse(key).ok().flatten()?;
    let signed_by = PublicKey::new(certificate.signature_key().clone(), "");
    Some((super::public_line(&signed_by), certificate.valid_principals().to_vec()))
}
