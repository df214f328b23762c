//! Logging in: with the keys of files and their certificates, or with those of an agent.

use std::path::PathBuf;
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, signature};
use russh::{AgentAuthError, Signer};
use tokio::net::UnixStream;

use super::connect::Client;
use super::error::ConnectError;
use super::identity::{self, Credential, IdentityError};
use crate::model::desired::Host;
use crate::model::problem::plain;

/// Attempts of one login: at the sixth refusal OpenSSH hangs up (MaxAuthTries), and what watches for
/// break-ins counts them.
const ATTEMPTS: usize = 5;
/// Keys of an agent that are tried.
const AGENT_KEYS: usize = 3;

/// Logs in with the first key that the host takes, its certificate first, as ssh does it.
pub(super) async fn with_keys(
    host: &Host,
    keys: &[Credential],
    handle: &mut Handle<Client>,
) -> Result<(), ConnectError> {
    let ended = |source| ConnectError::Ended { host: host.name.to_string(), stage: "the login", source };
    let mut left = ATTEMPTS;
    let mut tried = Vec::new();
    for Credential { path, key, certificate } in keys {
        if left == 0 {
            break;
        }
        let hash = hash_for(key.algorithm(), handle).await.map_err(ended)?;
        if let Ok(Some(certificate)) = certificate {
            left -= 1;
            let mut signer = FromFile(Arc::clone(key));
            let result = handle
                .authenticate_certificate_with(&host.user, certificate.clone(), hash, &mut signer)
                .await;
            match result {
                Ok(AuthResult::Success) => return Ok(()),
                Ok(AuthResult::Failure { .. }) => {}
                Err(SignError::Ended(source)) => return Err(ended(source)),
                Err(SignError::Key(why)) => tracing::debug!("{} does not sign: {why}", path.display()),
            }
            tried.push(identity::beside(path).display().to_string());
            if left == 0 {
                break;
            }
        }
        left -= 1;
        let signer = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
        match handle.authenticate_publickey(&host.user, signer).await.map_err(ended)? {
            AuthResult::Success => return Ok(()),
            AuthResult::Failure { .. } => tried.push(path.display().to_string()),
        }
    }
    let doubt = keys.iter().find_map(|key| {
        let why = key.certificate.as_ref().err()?;
        Some(format!("{} was not shown: {}", identity::beside(&key.path).display(), plain(&why.to_string())))
    });
    let first = keys.first().map(|key| identity::public_line(key.key.public_key()));
    Err(ConnectError::KeyRefused {
        host: host.name.to_string(),
        user: host.user.clone(),
        tried,
        public: first.unwrap_or_default(),
        doubt,
    })
}

/// The hash that the host takes from RSA keys; SHA-1 is what a server wants that does not say what it wants, and
/// none of them is still in use.
async fn hash_for(
    algorithm: Algorithm,
    handle: &mut Handle<Client>,
) -> Result<Option<HashAlg>, russh::Error> {
    Ok(match algorithm.is_rsa() {
        true => handle.best_supported_rsa_hash().await?.flatten().or(Some(HashAlg::Sha256)),
        false => None,
    })
}

/// Signs for a certificate with the key of a file. russh does so by itself, but for RSA with SHA-1 only.
struct FromFile(Arc<PrivateKey>);

#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("the connection ended")]
    Ended(#[source] russh::Error),
    #[error("the key does not sign")]
    Key(#[source] signature::Error),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Ended(russh::Error::SendError)
    }
}

impl Signer for FromFile {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut text: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let signature = match self.0.key_data() {
            KeypairData::Rsa(key) => signature::Signer::try_sign(&(key, hash), text.as_slice()),
            key => signature::Signer::try_sign(key, text.as_slice()),
        };
        let signature = signature.map_err(SignError::Key)?;
        let encoded = Vec::<u8>::try_from(signature)
            .and_then(|signature| Ok(signature.encode(&mut text)?))
            .map_err(|error| SignError::Key(signature::Error::from_source(error)));
        encoded.map(|()| text)
    }
}

/// Logs in with one of the keys of the agent; `files` are those that are not there.
pub(super) async fn by_agent(
    host: &Host,
    files: &[PathBuf],
    handle: &mut Handle<Client>,
) -> Result<(), ConnectError> {
    let path = || files.first().cloned().unwrap_or_default();
    let ended = |source| ConnectError::Ended { host: host.name.to_string(), stage: "the login", source };
    let silent = |source| IdentityError::Agent { path: path(), source };
    let mut agent = AgentClient::connect_env().await.map_err(silent)?;
    let keys = agent.request_identities().await.map_err(silent)?;
    let mut refused = None;
    for identity in keys.into_iter().take(AGENT_KEYS) {
        let key = identity.public_key().into_owned();
        let hash = hash_for(key.algorithm(), handle).await.map_err(ended)?;
        let result = one_of_agent(&host.user, identity, hash, &mut agent, handle).await;
        match result {
            Ok(AuthResult::Success) => return Ok(()),
            // One that the agent does not sign with, or the host does not take: the next one may do.
            Ok(AuthResult::Failure { .. }) => {}
            Err(error) => {
                tracing::debug!("the agent does not sign with {}: {error}", key.fingerprint(HashAlg::Sha256));
            }
        }
        refused.get_or_insert(key);
    }
    Err(match refused {
        Some(key) => ConnectError::KeyRefused {
            host: host.name.to_string(),
            user: host.user.clone(),
            tried: vec!["of the agent".to_owned()],
            public: identity::public_line(&key),
            doubt: None,
        },
        None => IdentityError::EmptyAgent { path: path() }.into(),
    })
}

async fn one_of_agent(
    user: &str,
    identity: AgentIdentity,
    hash: Option<HashAlg>,
    agent: &mut AgentClient<UnixStream>,
    handle: &mut Handle<Client>,
) -> Result<AuthResult, AgentAuthError> {
    match identity {
        AgentIdentity::PublicKey { key, .. } => {
            handle.authenticate_publickey_with(user, key, hash, agent).await
        }
        AgentIdentity::Certificate { certificate, .. } => {
            handle.authenticate_certificate_with(user, certificate, hash, agent).await
        }
    }
}
