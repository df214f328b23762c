//! What certs.toml asks for, as the planner sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use super::name::{CertName, DnsAccountName, Domain, HostName, IssuerName};

/// Everything that is wanted.
#[derive(Debug, Clone, Default)]
pub struct Desired {
    /// The certificates, by name.
    pub certificates: BTreeMap<CertName, Certificate>,
    /// The hosts, by name.
    pub hosts: BTreeMap<HostName, Host>,
    /// The issuers, by name.
    pub issuers: BTreeMap<IssuerName, Issuer>,
    /// The names of the DNS accounts.
    pub dns: BTreeSet<DnsAccountName>,
    /// The time between two passes of the daemon.
    pub interval: SignedDuration,
}

impl Desired {
    /// The issuer of a certificate that has this directory, if it is still one of those that may issue it.
    pub fn issuer_at(&self, certificate: &Certificate, directory: &str) -> Option<&Issuer> {
        certificate
            .issuers()
            .filter_map(|name| self.issuers.get(name))
            .find(|issuer| issuer.directory == directory)
    }
}

/// One certificate that is renewed for ever.
#[derive(Debug, Clone, PartialEq)]
pub struct Certificate {
    /// Its name: of the lineage, of its folder in the store and on hosts.
    pub name: CertName,
    /// The domains it covers: at least one, none twice, in the order of certs.toml.
    pub domains: Vec<Domain>,
    /// Who issues it, if it can.
    pub issuer: IssuerName,
    /// Who else may, in order of preference; none of them twice.
    pub fallback: Vec<IssuerName>,
    /// The DNS account that answers its challenges.
    pub dns: DnsAccountName,
    /// Where it is installed; groups are resolved, none twice.
    pub hosts: Vec<HostName>,
    /// How a new version comes to them; `None` is to all at once.
    pub rollout: Option<Rollout>,
    /// The type of its key.
    pub key: KeyType,
    /// Whether a renewal keeps the key.
    pub reuse_key: bool,
    /// The profile of its orders; goes before the issuer's.
    pub profile: Option<String>,
    /// The common name of who should have signed the top of its chain; goes before the issuer's.
    pub preferred_chain: Option<String>,
    /// The names (SNI) that hosts are probed with; never a wildcard; empty = not probed.
    pub verify_names: Vec<Domain>,
    /// When to renew, in place of ARI and the fractions of the life.
    pub renew_before: Option<Margin>,
    /// Changes whenever the entry, its issuer or its dns account changes in certs.toml:
    /// what a person had to mend may then be mended.
    pub revision: String,
}

/// How a new version takes the place of the one before: not everywhere at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// The hosts that get it first.
    pub canary: Vec<HostName>,
    /// To how many hosts it may be on its way at the same time; `None` = all.
    pub batch: Option<NonZeroUsize>,
}

/// The type of a certificate's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyType {
    /// NIST P-256.
    #[default]
    EcdsaP256,
    /// NIST P-384.
    EcdsaP384,
    /// RSA of 2048 bits.
    #[serde(rename = "rsa-2048")]
    Rsa2048,
    /// RSA of 4096 bits.
    #[serde(rename = "rsa-4096")]
    Rsa4096,
}

/// A time before the end of a certificate's life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Margin {
    /// A fixed time.
    Time(SignedDuration),
    /// A fraction of the certificate's life, above 0 and below 1.
    Fraction(f64),
}

/// A certificate authority and our account there.
#[derive(Debug, Clone, PartialEq)]
pub struct Issuer {
    /// Its name in certs.toml.
    pub name: IssuerName,
    /// The URL of the ACME directory (https).
    pub directory: String,
    /// `mailto:` URIs for the account.
    pub contact: Vec<String>,
    /// PEM file trusted for the directory's own HTTPS, in place of the system's roots.
    pub directory_ca: Option<PathBuf>,
    /// PEM file of the roots that served chains should lead to, in place of the system's.
    pub roots: Option<PathBuf>,
    /// The profile of its orders, where the certificate names none.
    pub profile: Option<String>,
    /// Who should have signed the top of its chains, where the certificate does not say.
    pub preferred_chain: Option<String>,
}

impl Certificate {
    /// Everybody who may issue it, in order of preference.
    pub fn issuers(&self) -> impl Iterator<Item = &IssuerName> {
        std::iter::once(&self.issuer).chain(&self.fallback)
    }

    /// The profile that is asked of this issuer.
    pub fn profile<'a>(&'a self, issuer: &'a Issuer) -> Option<&'a str> {
        self.profile.as_deref().or(issuer.profile.as_deref())
    }

    /// The common name of who should have signed the top of the chain.
    pub fn preferred_chain<'a>(&'a self, issuer: &'a Issuer) -> Option<&'a str> {
        self.preferred_chain.as_deref().or(issuer.preferred_chain.as_deref())
    }
}

/// A machine that serves certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Its name in certs.toml.
    pub name: HostName,
    /// Whether it is this machine itself, to which there is no SSH.
    pub local: bool,
    /// Where SSH finds it: an IP address or a name for the system's resolver.
    pub address: String,
    /// SSH port.
    pub port: u16,
    /// SSH user.
    pub user: String,
    /// Whether that user becomes root by sudo.
    pub sudo: bool,
    /// Whether certificates are taken there by `certfleet-receive`, because our key can do nothing else.
    pub receiver: bool,
    /// The host through whose SSH server this one is reached.
    pub via: Option<HostName>,
    /// The private keys to log in with, in the order in which they are tried; none is `ssh/id_ed25519` in the store.
    pub identity: Vec<PathBuf>,
    /// Pinned host keys, as `ssh-ed25519 AAAA…`; empty = by `known_hosts`.
    pub host_key: Vec<String>,
    /// Known-hosts files that are asked when nothing is pinned, first to last.
    pub known_hosts: Vec<PathBuf>,
    /// Who can read keys there.
    pub access: KeyAccess,
    /// Absolute directory on the host that certificates are installed in.
    pub directory: String,
    /// How the web server's configuration finds them there.
    pub layout: Layout,
    /// Files that are made for each certificate beside the usual four.
    pub files: Vec<MadeFile>,
    /// Command that tests the web server's configuration.
    pub test: String,
    /// Command that makes the web server load the new certificates.
    pub reload: String,
    /// Addresses that are probed; empty = every address of the host at port 443.
    pub verify: Vec<SocketAddr>,
}

/// How a web server's configuration finds the files of a certificate on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Layout {
    /// At fixed paths, as certbot has them: `NAME/fullchain.pem` and `NAME/privkey.pem`.
    #[default]
    Directory,
    /// Also by a file `NAME.conf` to include, which names the key and the chain of one version: whoever reads
    /// it at any moment gets both of the same.
    Include,
}

/// A file that is made for each certificate out of what belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeFile {
    /// Its name: letters, digits, `.`, `_` and `-`; none of the usual four.
    pub name: String,
    /// What is in it, one after the other; never empty.
    pub parts: Vec<Part>,
}

impl MadeFile {
    /// As a word for the scripts: `combined.pem=fullchain,privkey`.
    pub fn line(&self) -> String {
        let parts: Vec<&str> = self.parts.iter().map(|part| part.word()).collect();
        format!("{}={}", self.name, parts.join(","))
    }
}

/// What belongs to a certificate, as PEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The private key.
    Privkey,
    /// The leaf and the certificates that lead to its root.
    Fullchain,
    /// The leaf.
    Cert,
    /// The certificates that lead to its root.
    Chain,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Privkey, Self::Fullchain, Self::Cert, Self::Chain];

    /// Its name, in certs.toml and on hosts.
    pub fn word(self) -> &'static str {
        match self {
            Self::Privkey => "privkey",
            Self::Fullchain => "fullchain",
            Self::Cert => "cert",
            Self::Chain => "chain",
        }
    }
}

/// Who can read the files of a certificate on a host; the default is nobody but the user that installs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyAccess {
    /// The owner of the files, by name or number.
    pub owner: Option<String>,
    /// The group of the files, by name or number.
    pub group: Option<String>,
    /// Their mode; never one that lets everybody read them.
    pub mode: u32,
}

impl Default for KeyAccess {
    fn default() -> Self {
        Self { owner: None, group: None, mode: 0o600 }
    }
}

impl KeyAccess {
    /// The mode of the directories that lead to the files: those who may read them must get there.
    pub fn directory_mode(&self) -> u32 {
        match self {
            Self { owner: Some(_), .. } => 0o711,
            Self { group: Some(_), .. } => 0o710,
            _ => 0o700,
        }
    }
}
