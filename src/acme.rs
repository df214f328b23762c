//! Issuing by ACME (RFC 8555) with dns-01, and renewal information (RFC 9773).
//!
//! [`Ca`] is one issuer with our account there. [`Ca::issue`] takes one order to its end, or goes
//! on with one that an earlier run began: wherever a run is cut off, the order's URL and the key
//! are durable before the CA can issue, so that the next run fetches the same certificate.

mod account;
mod budget;
mod call;
mod chain;
mod check;
mod error;
mod glance;
mod header;
mod http;
mod key;
mod nonces;
mod order;
mod problem;
mod proof;
mod take_over;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use instant_acme::{Account, AccountCredentials, CertificateIdentifier};
use jiff::Timestamp;
use serde::Deserialize;
use zeroize::Zeroizing;

pub use account::{AccountFacts, account_facts};
pub use call::{CallError, RootCause, Violation};
pub use check::CheckError;
pub use error::{Cause, CredentialsFault, Doing, Error, Reasons};
pub use glance::{Glance, glance};
pub use key::{KeyError, new_key};
pub use problem::Refusal;
pub use take_over::{AccountKeyError, TakeOverError, TakenOver, credentials_of_jwk, look_over, take_over};

use self::call::{Tries, Twice};
use self::http::{Http, Session};
use crate::model::cert::Leaf;
use crate::model::clock::Reading;
use crate::model::desired::{Issuer, KeyType};
use crate::model::name::{Domain, IssuerName};
use crate::model::problem::{Diagnose, plain};
use crate::model::state::Proof;

/// A connection to one issuer, with our account there.
///
/// Cheap to clone; any number of orders may run at once.
#[derive(Clone)]
pub struct Ca(Arc<Inner>);

struct Inner {
    issuer: IssuerName,
    http: Http,
    credentials: Zeroizing<String>,
}

/// What ties a new account to one that a person made on the CA's web site (RFC 8555 section 7.3.4).
pub struct Binding {
    /// The CA's name for it.
    pub key_id: String,
    /// The MAC key, decoded.
    pub hmac_key: Zeroizing<Vec<u8>>,
}

/// Where the credentials of our accounts are kept. Short, blocking calls.
#[async_trait]
pub trait Accounts: Send + Sync {
    /// The credentials (JSON, secret) saved for that issuer's directory.
    fn load(
        &self,
        issuer: &IssuerName,
        directory: &str,
    ) -> Result<Option<Zeroizing<String>>, Box<dyn Diagnose + Send + Sync>>;

    /// Keeps credentials; durable before it returns.
    fn save(
        &self,
        issuer: &IssuerName,
        directory: &str,
        credentials: &str,
    ) -> Result<(), Box<dyn Diagnose + Send + Sync>>;

    /// What a new account is bound to, if certs.toml says so; asked only when one is registered.
    async fn binding(&self, issuer: &IssuerName) -> Result<Option<Binding>, Box<dyn Diagnose + Send + Sync>> {
        let _ = issuer;
        Ok(None)
    }
}

/// Where the order under way is recorded. Short, blocking calls.
pub trait Journal: Send + Sync {
    /// Records the order's URL; durable before it returns.
    fn ordered(&self, url: &str) -> Result<(), Box<dyn Diagnose + Send + Sync>>;
}

/// For an order that nobody goes on with.
pub struct Nowhere;

impl Journal for Nowhere {
    fn ordered(&self, _url: &str) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
        Ok(())
    }
}

/// Answers challenges.
#[async_trait]
pub trait Solver: Send + Sync {
    /// Makes every value visible to the CA and returns when it may look; has deadlines of its own.
    /// Values for the same domain stand side by side.
    async fn present(&self, challenges: &[Challenge]) -> Result<(), Box<dyn Diagnose + Send + Sync>>;
}

/// A TXT record that proves control of a domain (RFC 8555 section 8.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Challenge {
    /// The domain, never a wildcard; the record's name is `_acme-challenge.` and this.
    pub domain: Domain,
    /// The record's value.
    pub value: String,
    /// What the value is made from.
    pub proof: Proof,
}

/// A certificate that is asked for.
pub struct Wanted {
    /// Its domains, exactly.
    pub domains: Vec<Domain>,
    /// The type of its key.
    pub key: KeyType,
    /// The profile that the CA is to issue it by, one of those that it offers.
    pub profile: Option<String>,
    /// Who should have signed the top of the chain (common name); another chain is taken where none is.
    pub preferred_chain: Option<String>,
    /// ARI identifier of the certificate it replaces, from the same CA and account.
    pub replaces: Option<String>,
    /// URL of an order for the same domains and key that an earlier run began.
    pub resume: Option<String>,
    /// The key, made by [`new_key`] and already durable.
    pub key_pem: Zeroizing<String>,
}

/// How far an order is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The order stands.
    Ordered,
    /// So many challenges are being answered.
    Presenting(usize),
    /// The CA looks at the answers.
    Validating,
    /// The signing request is on its way.
    Finalizing,
    /// The certificate is being fetched.
    Downloading,
}

/// A certificate that passed every check. All texts are PEM with certificates only.
#[derive(Debug, Clone, PartialEq)]
pub struct Issued {
    /// Facts of the leaf.
    pub leaf: Leaf,
    /// The leaf.
    pub cert: String,
    /// What vouches for it; empty if the CA sent the leaf alone.
    pub chain: String,
    /// Both, leaf first.
    pub fullchain: String,
    /// Common name of who signed the last certificate of the chain, safe to show.
    pub top: String,
    /// Who signed the tops of the chains that were offered, when the preferred was not among them.
    pub offered: Vec<String>,
}

/// When a CA suggests to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    /// Start and end; `None` when the end is not after the start.
    pub window: Option<(Timestamp, Timestamp)>,
    /// A page that explains the window, safe to show.
    pub explanation: Option<String>,
    /// When to ask again: between a minute and a day.
    pub ask_again_in: Duration,
}

impl Ca {
    /// Connects: one request for the directory; the first time ever also registers the account.
    pub async fn open(issuer: &Issuer, accounts: &dyn Accounts) -> Result<Self, Error> {
        let http = connect(issuer).await?;
        let loaded = accounts.load(&issuer.name, &issuer.directory).map_err(|cause| Error::Accounts {
            issuer: issuer.name.clone(),
            verb: "load",
            cause: cause.into(),
        })?;
        let credentials = match loaded {
            Some(credentials) => credentials,
            None => account::register(&http, issuer, accounts).await?,
        };
        Self::with(issuer, http, credentials)
    }

    fn with(issuer: &Issuer, http: Http, credentials: Zeroizing<String>) -> Result<Self, Error> {
        match serde_json::from_str(&credentials) {
            Ok(Saved { directory: Some(saved) }) if saved == issuer.directory => {}
            Ok(_) => return Err(bad_credentials(&issuer.name, CredentialsFault::OtherDirectory)),
            Err(_) => return Err(bad_credentials(&issuer.name, CredentialsFault::Damaged)),
        }
        Ok(Self(Arc::new(Inner { issuer: issuer.name.clone(), http, credentials })))
    }

    /// What time it was at the CA when it last answered, if it said so.
    pub fn clock(&self) -> Option<Reading> {
        self.0.http.clock()
    }

    /// Takes one order to its end.
    ///
    /// Creates at most one order (none when `wanted.resume` is still good), records its URL before
    /// anything else, and gives up [`ORDER_DEADLINE`] after the start, the solver's time not counted.
    pub async fn issue(
        &self,
        wanted: &Wanted,
        journal: &dyn Journal,
        solver: &dyn Solver,
        progress: &(dyn Fn(Step) + Sync),
    ) -> Result<Issued, Error> {
        self.run(wanted, journal, solver, progress, async |run| run.finish().await).await
    }

    /// Takes one order as far as to valid authorizations, and leaves it there: whether the CA would issue.
    /// The deadline is that of [`Ca::issue`]; the order is recorded nowhere, and the key is not used.
    pub async fn rehearse(
        &self,
        wanted: &Wanted,
        solver: &dyn Solver,
        progress: &(dyn Fn(Step) + Sync),
    ) -> Result<(), Error> {
        self.run(wanted, &Nowhere, solver, progress, async |run| run.rehearse().await).await
    }

    async fn run<T>(
        &self,
        wanted: &Wanted,
        journal: &dyn Journal,
        solver: &dyn Solver,
        progress: &(dyn Fn(Step) + Sync),
        work: impl AsyncFnOnce(order::Run<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.check_profile(wanted)?;
        let session = self.0.http.session();
        let account = self.account(&session).await?;
        let run = order::Run {
            issuer: &self.0.issuer,
            account: &account,
            session: &session,
            wanted,
            journal,
            solver,
            progress,
        };
        let result = work(run).await;
        tracing::debug!(issuer = %self.0.issuer, requests = session.requests(), ok = result.is_ok(), "order");
        result
    }

    /// A profile that the CA does not offer costs no request.
    fn check_profile(&self, wanted: &Wanted) -> Result<(), Error> {
        let Some(profile) = &wanted.profile else { return Ok(()) };
        let offered = self.0.http.profiles();
        if offered.contains(profile) {
            return Ok(());
        }
        Err(Error::Profile {
            issuer: self.0.issuer.clone(),
            profile: profile.clone(),
            offered: offered.to_vec(),
        })
    }

    /// Whether the CA offers renewal information.
    pub fn has_ari(&self) -> bool {
        self.0.http.has_ari()
    }

    /// Asks when to renew the certificate with that ARI identifier (RFC 9773 section 4.1).
    pub async fn renewal_info(&self, ari_id: &str) -> Result<Suggestion, Error> {
        let id = self.known(ari_id).ok_or_else(|| Error::NoRenewalInfo { issuer: self.0.issuer.clone() })?;
        let account = self.account(&self.0.http.session()).await?;
        let (info, ask_again_in) = account.renewal_info(&id).await.map_err(|error| Error::Call {
            issuer: self.0.issuer.clone(),
            doing: Doing::RenewalInfo,
            cause: error.into(),
        })?;
        let time = |at: i64| Timestamp::from_second(at).ok();
        let window = time(info.suggested_window.start.unix_timestamp())
            .zip(time(info.suggested_window.end.unix_timestamp()))
            .filter(|(start, end)| end > start);
        Ok(Suggestion {
            window,
            explanation: info.explanation_url.map(|page| plain(&page)),
            ask_again_in: ask_again_in.clamp(ASK_AGAIN_MIN, ASK_AGAIN_MAX),
        })
    }

    /// The account, talking through `session`. No request: the session knows the directory.
    async fn account(&self, session: &Session) -> Result<Account, Error> {
        let bad = |_| bad_credentials(&self.0.issuer, CredentialsFault::Damaged);
        let credentials: AccountCredentials =
            serde_json::from_str(&self.0.credentials).map_err(|_| bad(()))?;
        Account::builder_with_http(Box::new(session.clone()))
            .from_credentials(credentials)
            .await
            .map_err(|_| bad(()))
    }

    fn known<'a>(&self, text: &'a str) -> Option<CertificateIdentifier<'a>> {
        if self.has_ari() { order::ari_id(text) } else { None }
    }
}

/// The one member of the credentials that we look at.
#[derive(Deserialize)]
struct Saved {
    directory: Option<String>,
}

fn bad_credentials(issuer: &IssuerName, reason: CredentialsFault) -> Error {
    Error::Credentials { issuer: issuer.clone(), reason }
}

/// Fetches the directory.
async fn connect(issuer: &Issuer) -> Result<Http, Error> {
    let tls = tls(issuer)?;
    let mut tries = Tries::new();
    loop {
        match Http::open(&issuer.directory, tls.clone()).await {
            Ok(http) => return Ok(http),
            Err(error) => tries.again(error, Twice::Harmless).await.map_err(|cause| Error::Call {
                issuer: issuer.name.clone(),
                doing: Doing::Directory,
                cause,
            })?,
        };
    }
}

/// TLS for the CA's own service: `directory-ca` if set, else what this machine trusts.
fn tls(issuer: &Issuer) -> Result<rustls::ClientConfig, Error> {
    let roots = match &issuer.directory_ca {
        Some(path) => own_roots(issuer, path)?,
        None => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(Error::NoRoots { issuer: issuer.name.clone() });
            }
            roots
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    // A preconfigured TLS is taken as it is: without this all would be HTTP/1.1.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn own_roots(issuer: &Issuer, path: &Path) -> Result<rustls::RootCertStore, Error> {
    let no_ca = || Error::NoDirectoryCa { issuer: issuer.name.clone(), path: path.to_owned() };
    let pem = std::fs::read(path).map_err(|cause| Error::DirectoryCa {
        issuer: issuer.name.clone(),
        path: path.to_owned(),
        cause,
    })?;
    let mut roots = rustls::RootCertStore::empty();
    for der in rustls_pemfile::certs(&mut pem.as_slice()) {
        roots.add(der.map_err(|_| no_ca())?).map_err(|_| no_ca())?;
    }
    if roots.is_empty() { Err(no_ca()) } else { Ok(roots) }
}

/// What an order may take at the CA, in all. A pending order lives for hours, so the next
/// attempt goes on where this one stopped.
pub const ORDER_DEADLINE: Duration = Duration::from_secs(300);

/// RFC 9773 section 4.3: when the CA does not say, and the limits of what we believe.
const ASK_AGAIN: Duration = Duration::from_secs(6 * 3600);
const ASK_AGAIN_MIN: Duration = Duration::from_secs(60);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(86_400);
