//! Certificates made here: for Pebble's own HTTPS, and for hosts that have a past.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};

use super::look::now;

/// One day, in seconds.
pub(crate) const DAY: i64 = 86_400;

/// A private key and the certificates that go with it, in PEM.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    /// The key, in PKCS#8.
    pub(crate) key: String,
    /// The leaf.
    pub(crate) leaf: String,
    /// The certificates above the leaf; empty for a self-signed one.
    pub(crate) chain: String,
}

/// A certificate authority that exists for as long as its tests.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one with this common name.
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let mut params = CertificateParams::new(Vec::new()).map_err(text)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_life(&mut params, -3650 * DAY, 3650 * DAY);
        let key = KeyPair::generate().map_err(text)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(text)?;
        Ok(Self { issuer })
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate for these names, valid between these times (seconds from now).
    pub(crate) fn issue(&self, domains: &[&str], from: i64, until: i64) -> Result<Pair, String> {
        pair(leaf(domains, from, until)?, Some(&self.issuer), self.issuer.pem())
    }

    /// Issues one for a server on this machine: this address, and localhost.
    pub(crate) fn issue_for_address(&self, address: IpAddr) -> Result<Pair, String> {
        let mut params = leaf(&["localhost"], -DAY, 3650 * DAY)?;
        params.subject_alt_names.push(SanType::IpAddress(address));
        pair(params, Some(&self.issuer), self.issuer.pem())
    }
}

/// A certificate that vouches for itself.
pub(crate) fn self_signed(domains: &[&str], from: i64, until: i64) -> Result<Pair, String> {
    pair(leaf(domains, from, until)?, None, String::new())
}

/// Puts a pair where certbot would: numbered files in `archive/NAME`, links to the newest in `live/NAME`.
pub(crate) fn install_as_certbot(root: &Path, name: &str, pair: &Pair) -> Result<(), String> {
    let (archive, live) = (root.join("archive").join(name), root.join("live").join(name));
    for folder in [&archive, &live] {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let number = (1..).find(|n| !archive.join(format!("cert{n}.pem")).exists()).unwrap_or(1);
    let fullchain = format!("{}{}", pair.leaf, pair.chain);
    let files =
        [("privkey", &pair.key), ("cert", &pair.leaf), ("chain", &pair.chain), ("fullchain", &fullchain)];
    for (part, content) in files {
        write_private(&archive.join(format!("{part}{number}.pem")), content)?;
        let (link, fresh) = (live.join(format!("{part}.pem")), live.join(format!(".{part}.new")));
        symlink(format!("../../archive/{name}/{part}{number}.pem"), &fresh)
            .and_then(|()| fs::rename(&fresh, &link))
            .map_err(|e| format!("{}: {e}", link.display()))?;
    }
    Ok(())
}

/// Writes a new file that only its owner may read.
pub(crate) fn write_private(path: &Path, content: &str) -> Result<(), String> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|e| format!("{}: {e}", path.display()))
}

fn leaf(domains: &[&str], from: i64, until: i64) -> Result<CertificateParams, String> {
    let domains: Vec<String> = domains.iter().map(|domain| (*domain).to_owned()).collect();
    let mut params = CertificateParams::new(domains).map_err(text)?;
    // rcgen would call it "rcgen self signed cert"; public CAs leave the subject of a leaf empty.
    params.distinguished_name.remove(DnType::CommonName);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    set_life(&mut params, from, until);
    Ok(params)
}

fn pair(
    params: CertificateParams,
    issuer: Option<&Issuer<'_, KeyPair>>,
    chain: String,
) -> Result<Pair, String> {
    let key = KeyPair::generate().map_err(text)?;
    let leaf = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    Ok(Pair { key: key.serialize_pem(), leaf: leaf.map_err(text)?.pem(), chain })
}

/// Sets the life of a certificate: both times in seconds from now.
fn set_life(params: &mut CertificateParams, from: i64, until: i64) {
    // Added to a date, because we have no other use for the crate of rcgen's type.
    let date = |offset: i64| date_time_ymd(1970, 1, 1) + Duration::from_secs((now() + offset).unsigned_abs());
    (params.not_before, params.not_after) = (date(from), date(until));
}

fn text(error: rcgen::Error) -> String {
    format!("making a certificate: {error}")
}
