//! Why a certificate was not put back.

use crate::deploy::protocol::Record;
use crate::model::desired::Host;
use crate::model::name::CertName;
use crate::model::problem::{Blame, Diagnose, plain};

/// Why a certificate was not put back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPutBack {
    /// It was left as it is.
    #[error("`{certificate}` on `{host}` was left as it is: {reason}")]
    Kept {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// Why; safe to show.
        reason: String,
    },
    /// Its files are back, but the reload failed.
    #[error("the files of `{certificate}` are back on `{host}`, but the reload failed: {output}")]
    Reload {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
        /// What it said; safe to show.
        output: String,
    },
    /// The host says nothing about it.
    #[error("`{host}` does not say what became of `{certificate}`")]
    Silent {
        /// The certificate.
        certificate: CertName,
        /// The host's name.
        host: String,
    },
}

impl NotPutBack {
    /// What the records of a transaction say about one certificate.
    pub(in crate::deploy) fn judge(
        records: &[Record],
        host: &Host,
        certificate: &CertName,
    ) -> Result<(), Self> {
        let certificate = certificate.clone();
        let host = host.name.to_string();
        let Some(record) = records.iter().find(|record| record.name == certificate.as_str()) else {
            return Err(Self::Silent { certificate, host });
        };
        if record.word != "put-back" {
            let reason = match record.text.as_str() {
                "" => format!("it answers `{}`", plain(&record.word)),
                text => text.to_owned(),
            };
            return Err(Self::Kept { certificate, host, reason });
        }
        match records.iter().find(|record| record.word == "reload" && record.version == "failed") {
            Some(reload) => Err(Self::Reload { certificate, host, output: reload.text.clone() }),
            None => Ok(()),
        }
    }
}

impl Diagnose for NotPutBack {
    fn code(&self) -> &'static str {
        "deploy.not-put-back"
    }

    fn blame(&self) -> Blame {
        Blame::Host
    }
}
