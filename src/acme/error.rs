//! How issuing fails.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;

use super::call::CallError;
use super::check::CheckError;
use super::key::KeyError;
use super::problem::{Listed, Refusal, strictest};
use crate::model::name::IssuerName;
use crate::model::problem::{Blame, Diagnose, Retry, plain};

/// Why there is no certificate, or no answer about one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The issuer's `directory-ca` cannot be read.
    #[error("cannot read the `directory-ca` of `{issuer}`, {}", path.display())]
    DirectoryCa {
        /// The issuer.
        issuer: IssuerName,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The issuer's `directory-ca` holds no certificate.
    #[error("the `directory-ca` of `{issuer}`, {}, holds no certificate in PEM that can be used", path.display())]
    NoDirectoryCa {
        /// The issuer.
        issuer: IssuerName,
        /// The file.
        path: PathBuf,
    },
    /// This machine trusts nobody.
    #[error("this machine has no root certificates to check `{issuer}` with")]
    NoRoots {
        /// The issuer.
        issuer: IssuerName,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The account's credentials could not be loaded or saved.
    #[error("cannot {verb} our account at `{issuer}`")]
    Accounts {
        /// The issuer.
        issuer: IssuerName,
        /// `load` or `save`.
        verb: &'static str,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// The stored credentials are damaged or belong to another directory.
    #[error("the stored account at `{issuer}` cannot be used: {reason}")]
    Credentials {
        /// The issuer.
        issuer: IssuerName,
        /// What is wrong with them.
        reason: CredentialsFault,
    },
    /// What a new account is to be bound to cannot be read.
    #[error("cannot read the external account key of `{issuer}`")]
    NoBinding {
        /// The issuer.
        issuer: IssuerName,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// The CA does not take what a new account is to be bound to.
    #[error("`{issuer}` does not take the external account key (eab) of certs.toml")]
    Binding {
        /// The issuer.
        issuer: IssuerName,
        /// Its words.
        #[source]
        cause: CallError,
    },
    /// The CA does not offer the profile.
    #[error("`{issuer}` does not offer the profile `{}`, {}", plain(.profile), offers(.offered))]
    Profile {
        /// The issuer.
        issuer: IssuerName,
        /// What was asked for.
        profile: String,
        /// What it offers, safe to show.
        offered: Vec<String>,
    },
    /// A request to the CA came to nothing.
    #[error("cannot {doing} at `{issuer}`")]
    Call {
        /// The issuer.
        issuer: IssuerName,
        /// Which one.
        doing: Doing,
        /// What came of it.
        #[source]
        cause: CallError,
    },
    /// The CA calls the order invalid.
    #[error("`{issuer}` ended the order without a certificate")]
    Invalid {
        /// The issuer.
        issuer: IssuerName,
        /// What it said about each name.
        #[source]
        reasons: Reasons,
    },
    /// The order to go on with is no longer there.
    #[error("`{issuer}` no longer has the order that was under way")]
    OrderGone {
        /// The issuer.
        issuer: IssuerName,
        /// Its words; `None` when it calls the order invalid.
        #[source]
        cause: Option<CallError>,
    },
    /// The CA took too long.
    #[error("`{issuer}` was not done after {} s; it was time to {doing}", after.as_secs())]
    Timeout {
        /// The issuer.
        issuer: IssuerName,
        /// What we were at.
        doing: Doing,
        /// How long we gave it in all.
        after: Duration,
    },
    /// The order's URL could not be recorded.
    #[error("cannot record the order")]
    Journal(#[source] Cause),
    /// The challenges could not be answered.
    #[error("cannot answer the challenges of `{issuer}`")]
    Solver {
        /// The issuer.
        issuer: IssuerName,
        /// Why.
        #[source]
        cause: Cause,
    },
    /// What the CA issued is not what was asked for.
    #[error("what `{issuer}` issued is not accepted")]
    Certificate {
        /// The issuer.
        issuer: IssuerName,
        /// Why.
        #[source]
        cause: CheckError,
    },
    /// The certificate's key cannot be used.
    #[error("cannot use the certificate's private key")]
    Key(#[from] KeyError),
    /// Asked for renewal information that the CA does not offer, or of an odd certificate.
    #[error("`{issuer}` has no renewal information for this certificate")]
    NoRenewalInfo {
        /// The issuer.
        issuer: IssuerName,
    },
}

fn offers(profiles: &[String]) -> String {
    match profiles {
        [] => "it has no profiles".to_owned(),
        profiles => format!("it has {}", profiles.join(", ")),
    }
}

/// A step of the conversation with the CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Fetch the directory.
    Directory,
    /// Create the account.
    Register,
    /// Create the order.
    Order,
    /// Fetch an order made earlier.
    Resume,
    /// Fetch the authorizations.
    Authorize,
    /// Say that the challenges are answered.
    Ready,
    /// Follow the order.
    Poll,
    /// Send the certificate signing request.
    Finalize,
    /// Fetch the certificate.
    Download,
    /// Ask for renewal information.
    RenewalInfo,
    /// Revoke a certificate.
    Revoke,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Directory => "read the ACME directory",
            Self::Register => "register an account",
            Self::Order => "place the order",
            Self::Resume => "look up the order",
            Self::Authorize => "fetch the authorizations",
            Self::Ready => "announce the answered challenges",
            Self::Poll => "follow the order",
            Self::Finalize => "finalize the order",
            Self::Download => "fetch the certificate",
            Self::RenewalInfo => "ask for renewal information",
            Self::Revoke => "revoke the certificate",
        })
    }
}

/// What is wrong with stored credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialsFault {
    /// Not the JSON that we wrote.
    Damaged,
    /// Of another directory.
    OtherDirectory,
}

impl fmt::Display for CredentialsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Damaged => "the file is damaged",
            Self::OtherDirectory => "it belongs to another ACME directory",
        })
    }
}

/// What a CA said about the names of an invalid order.
#[derive(Debug)]
pub struct Reasons(pub(super) Vec<Refusal>);

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("it did not say why"),
            refusals => Listed(refusals).fmt(f),
        }
    }
}

impl std::error::Error for Reasons {}

/// An error from another part of the program, with its diagnosis.
pub struct Cause(Box<dyn Diagnose + Send + Sync>);

impl Cause {
    fn diagnosis(&self) -> &dyn Diagnose {
        &*self.0
    }
}

impl From<Box<dyn Diagnose + Send + Sync>> for Cause {
    fn from(error: Box<dyn Diagnose + Send + Sync>) -> Self {
        Self(error)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&plain(&self.0.to_string()))
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

impl Error {
    /// Whether the order is of no more use: forget it, the next attempt makes a new one.
    /// Otherwise the next attempt should go on with it.
    pub fn order_is_over(&self) -> bool {
        match self {
            Self::OrderGone { .. } | Self::Invalid { .. } => true,
            // Another key or other names are needed, so another order.
            Self::Call { doing: Doing::Finalize, .. } => self.retry() == Retry::AfterChange,
            Self::Certificate { cause, .. } => cause.is_final(),
            Self::Key(KeyError::Read(_) | KeyError::OtherType) => true,
            _ => false,
        }
    }

    /// Whether it is this issuer that failed, so that another may do better: it is down, refuses, limits us,
    /// or does not know us. Not when our own side failed, or our DNS as the CA sees it; and not while it still
    /// works on the order.
    pub fn is_of_the_issuer(&self) -> bool {
        match self {
            Self::DirectoryCa { .. }
            | Self::NoDirectoryCa { .. }
            | Self::Accounts { .. }
            | Self::Credentials { .. }
            | Self::NoBinding { .. }
            | Self::Binding { .. }
            | Self::Profile { .. }
            | Self::OrderGone { .. }
            | Self::Timeout { .. }
            | Self::Certificate { .. } => true,
            Self::Call { cause, .. } => !matches!(cause, CallError::NotYet { .. } | CallError::Client(_)),
            Self::Invalid { .. } => self.blame() != Blame::Dns,
            Self::NoRoots { .. }
            | Self::Tls(_)
            | Self::Journal(_)
            | Self::Solver { .. }
            | Self::Key(_)
            | Self::NoRenewalInfo { .. } => false,
        }
    }

    /// Not before this time, where the CA named one.
    pub fn not_before(&self) -> Option<Timestamp> {
        match self.retry() {
            Retry::NotBefore(until) => Some(until),
            _ => None,
        }
    }

    fn inner(&self) -> Option<&dyn Diagnose> {
        match self {
            Self::Call { cause, .. } => Some(cause),
            Self::Accounts { cause, .. }
            | Self::NoBinding { cause, .. }
            | Self::Solver { cause, .. }
            | Self::Journal(cause) => Some(cause.diagnosis()),
            Self::Key(cause) => Some(cause),
            _ => None,
        }
    }
}

impl Diagnose for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::DirectoryCa { .. } | Self::NoDirectoryCa { .. } => "acme.directory-ca",
            Self::NoRoots { .. } => "acme.no-roots",
            Self::Tls(_) => "acme.client",
            Self::Credentials { .. } => "acme.credentials",
            Self::Binding { .. } => "acme.external-account-refused",
            Self::Profile { .. } => "acme.invalid-profile",
            Self::Invalid { reasons, .. } => strictest(&reasons.0).map_or("acme.invalid", |kind| kind.code),
            Self::OrderGone { .. } => "acme.order-gone",
            Self::Timeout { .. } => "acme.timeout",
            Self::Certificate { .. } => "acme.wrong-certificate",
            Self::NoRenewalInfo { .. } => "acme.no-renewal-info",
            Self::Call { .. }
            | Self::Accounts { .. }
            | Self::NoBinding { .. }
            | Self::Solver { .. }
            | Self::Journal(_)
            | Self::Key(_) => self.inner().map_or("acme.refused", Diagnose::code),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::DirectoryCa { .. }
            | Self::NoDirectoryCa { .. }
            | Self::Binding { .. }
            | Self::Profile { .. } => Blame::Operator,
            Self::NoRoots { .. } | Self::Tls(_) | Self::Credentials { .. } => Blame::Machine,
            Self::Invalid { reasons, .. } => strictest(&reasons.0).map_or(Blame::Issuer, |kind| kind.blame),
            _ => self.inner().map_or(Blame::Issuer, Diagnose::blame),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Invalid { reasons, .. } if strictest(&reasons.0).is_some_and(|kind| kind.after_change) => {
                Retry::AfterChange
            }
            Self::Profile { .. } => Retry::AfterChange,
            _ => self.inner().map_or(Retry::Backoff, Diagnose::retry),
        }
    }

    fn hint(&self) -> Option<String> {
        let issuer = match self {
            Self::Call { issuer, .. } | Self::Invalid { issuer, .. } | Self::Credentials { issuer, .. } => {
                issuer
            }
            Self::NoRoots { issuer } => {
                return Some(format!(
                    "install the system's CA certificates, or set `issuer.{issuer}.directory-ca`"
                ));
            }
            Self::Binding { issuer, .. } => {
                return Some(format!(
                    "a key can be used once: make a new one on the CA's web site, put it into `issuer.{issuer}.eab`"
                ));
            }
            Self::Profile { issuer, offered, .. } => {
                return Some(match offered.is_empty() {
                    true => format!("remove `profile` where it concerns `{issuer}`"),
                    false => format!("set `profile` to one of {}, or remove it", offered.join(", ")),
                });
            }
            _ => return self.inner().and_then(Diagnose::hint),
        };
        match self.code() {
            "acme.unauthorized" if matches!(self, Self::Call { doing: Doing::Revoke, .. }) => {
                Some("only the account that it was issued to may revoke it".to_owned())
            }
            "acme.untrusted" => Some(format!(
                "if the CA is a private one, set `issuer.{issuer}.directory-ca` to the PEM file of its root"
            )),
            "acme.unreachable" | "acme.timeout" | "acme.server-error" => Some(format!(
                "see whether the CA is down (its status page) or the way to it (`curl` from here); with a second \
                 one, `issuer = [\"{issuer}\", …]`, that is asked meanwhile"
            )),
            "acme.account-unknown" => Some(format!(
                "if the CA lost it, run `certfleet account register {issuer} --replace`; CAA records that name the old account must follow"
            )),
            "acme.rejected-identifier" | "acme.unsupported-identifier" => {
                Some("remove the name from `domains`, or use another `issuer`".to_owned())
            }
            "acme.caa" => {
                Some("let the CA in by the domain's CAA records, then `certfleet renew --force`; or use another `issuer`".to_owned())
            }
            "acme.bad-csr" | "acme.bad-public-key" => {
                Some("use another `key` or another `issuer`".to_owned())
            }
            "acme.invalid-contact" => Some(format!("correct `issuer.{issuer}.contact`")),
            "acme.user-action-required" => Some("read what the CA asks for on the page it names".to_owned()),
            "acme.external-account-required" => Some(format!(
                "get a key id and an HMAC key on the CA's web site, and add to [issuer.{issuer}] \
                 `eab = {{ key-id = \"…\", hmac-key = {{ file = \"…\" }} }}`"
            )),
            "acme.invalid-profile" => Some("set `profile` to one that the CA offers, or remove it".to_owned()),
            _ => None,
        }
    }
}
