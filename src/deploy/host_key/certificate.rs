//! Whether a host certificate is good for a host (OpenSSH's PROTOCOL.certkeys).

use jiff::Timestamp;
use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate};

use super::pattern::glob;
use crate::model::plan::minute;
use crate::model::problem::plain;

/// Why a certificate of an authority that may vouch for a host does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// It is for logging in.
    #[error("it is the certificate of a user, not of a host")]
    OfUser,
    /// It is not signed by whom it names.
    #[error("its signature is wrong")]
    Signature,
    /// Its signature can be forged.
    #[error("it is signed with {0}, which proves nothing any more")]
    Weak(String),
    /// It does not hold yet.
    #[error("it holds from {}", minute(*.0))]
    NotYet(Timestamp),
    /// It held until then.
    #[error("it ended on {}", minute(*.0))]
    Ended(Timestamp),
    /// It is for nobody.
    #[error("it names no host")]
    Nobody,
    /// It is for others.
    #[error("it is not for `{name}`, but for {others}")]
    Others {
        /// The host's address.
        name: String,
        /// The names in it; safe to show.
        others: String,
    },
    /// It is good only under conditions that we do not know.
    #[error("it has conditions that are not known here: {0}")]
    Critical(String),
}

impl CertificateFault {
    /// What to do about it.
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Ended(_) => {
                "have the host's key signed again (`ssh-keygen -s CA -h -n NAME …`), and reload its \
                               sshd"
                    .to_owned()
            }
            Self::NotYet(_) => "are the clocks of this machine and of who signed it right?".to_owned(),
            Self::Others { name, .. } => format!(
                "sign it for `{name}` too (`ssh-keygen -s CA -h -n {name},…`), or set `address` to a name that it has"
            ),
            Self::OfUser | Self::Signature | Self::Weak(_) | Self::Nobody | Self::Critical(_) => {
                "have the host's key signed anew: `ssh-keygen -s CA -h -n NAME …`".to_owned()
            }
        }
    }
}

/// Judges a certificate whose authority is known to speak for this host, by its name without the port.
pub(super) fn check(certificate: &Certificate, name: &str, now: Timestamp) -> Result<(), CertificateFault> {
    if certificate.cert_type() != CertType::Host {
        return Err(CertificateFault::OfUser);
    }
    certificate.verify_signature().map_err(|_| CertificateFault::Signature)?;
    if let Algorithm::Dsa | Algorithm::Rsa { hash: None } = certificate.signature().algorithm() {
        return Err(CertificateFault::Weak(certificate.signature().algorithm().to_string()));
    }
    let (from, until) = (moment(certificate.valid_after()), moment(certificate.valid_before()));
    if now < from {
        return Err(CertificateFault::NotYet(from));
    }
    if now >= until {
        return Err(CertificateFault::Ended(until));
    }
    let names = certificate.valid_principals();
    if names.is_empty() {
        return Err(CertificateFault::Nobody);
    }
    if !names.iter().any(|pattern| glob(pattern.as_bytes(), name.as_bytes())) {
        let others: Vec<String> = names.iter().map(|name| format!("`{}`", plain(name))).take(8).collect();
        return Err(CertificateFault::Others { name: name.to_owned(), others: others.join(", ") });
    }
    let conditions: Vec<String> =
        certificate.critical_options().keys().map(|option| plain(option)).take(8).collect();
    if !conditions.is_empty() {
        return Err(CertificateFault::Critical(conditions.join(", ")));
    }
    Ok(())
}

/// Seconds since 1970; "forever" is the end of the calendar.
pub(in crate::deploy) fn moment(seconds: u64) -> Timestamp {
    i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok()).unwrap_or(Timestamp::MAX)
}
