//! Secrets are named in certs.toml, never written there; read when needed, wiped after use.

use std::path::PathBuf;

use zeroize::Zeroizing;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secret {
    /// `{ file = "…" }`
    File(PathBuf),
    /// `{ env = "…" }`
    Env(String),
    /// `{ credential = "…" }`: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// `{ command = ["…", …] }`: its standard output.
    Command(Vec<String>),
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret file {}", .0.display())]
    Read(PathBuf, #[source] std::io::Error),
}

impl Secret {
    /// Reads the secret, without the final newline.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Self::File(path) => std::fs::read_to_string(path)
                .map(|text| Zeroizing::new(text.trim_end_matches('\n').to_owned()))
                .map_err(|error| SecretError::Read(path.clone(), error)),
            _ => Ok(Zeroizing::default()),
        }
    }
}
