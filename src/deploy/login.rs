//! Logging in: with the keys of files and their certificates, or with those of an agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use russh::client::{AuthResult, Handle};
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::ssh_encoding::Encode;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKey, signature};
use russh::{AgentAuthError, Signer};
use tokio::net::UnixStream;

use super::connect::Client;
use super::error::ConnectError;
use super::identity::{self, Credential, IdentityError, Key};
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
    keys: Vec<Credential>,
    handle: &mut Handle<Client>,
) -> Result<(), ConnectError> {
    let ended = |source| ConnectError::Ended { host: host.name.to_string(), stage: "the login", source };
    let mut left = ATTEMPTS;
    let (mut tried, mut first, mut doubt, mut unusable) = (Vec::new(), None, None, None);
    for Credential { path, key, certificate } in keys {
        if left == 0 {
            break;
        }
        let public = key.public().clone();
        let mut signer = match key {
            Key::Whole(key) => Signing::ByFile(key),
            Key::InAgent(key, error) => match agent_with(&key).await {
                Some(agent) => Signing::ByAgent(Box::new(agent), key),
                None => {
                    unusable.get_or_insert(error);
                    continue;
                }
            },
        };
        first.get_or_insert_with(|| public.clone());
        let hash = hash_for(public.algorithm(), handle).await.map_err(ended)?;
        let beside = identity::beside(&path);
        match certificate {
            Ok(Some(certificate)) => {
                left -= 1;
                let user = host.user.as_str();
                let result = handle.authenticate_certificate_with(user, certificate, hash, &mut signer).await;
                if is_in(result, &beside).map_err(ended)? {
                    return Ok(());
                }
                tried.push(beside.display().to_string());
                if left == 0 {
                    break;
                }
            }
            Ok(None) => {}
            Err(why) => {
                doubt.get_or_insert_with(|| {
                    format!("{} was not shown: {}", beside.display(), plain(&why.to_string()))
                });
            }
        }
        left -= 1;
        let result = match &mut signer {
            // Signed at once: that is one round trip less.
            Signing::ByFile(key) => {
                let key = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
                handle.authenticate_publickey(&host.user, key).await.map_err(SignError::Ended)
            }
            signer => handle.authenticate_publickey_with(&host.user, public, hash, signer).await,
        };
        if is_in(result, &path).map_err(ended)? {
            return Ok(());
        }
        tried.push(path.display().to_string());
    }
    Err(match (first, unusable) {
        (None, Some(error)) => error.into(),
        (first, _) => ConnectError::KeyRefused {
            host: host.name.to_string(),
            user: host.user.clone(),
            tried,
            public: first.map(|key| identity::public_line(&key)).unwrap_or_default(),
            doubt,
        },
    })
}

/// Whether an attempt has let us in; one that could not be signed has not.
fn is_in(result: Result<AuthResult, SignError>, file: &Path) -> Result<bool, russh::Error> {
    match result {
        Ok(AuthResult::Success) => Ok(true),
        Ok(AuthResult::Failure { .. }) => Ok(false),
        Err(SignError::Ended(source)) => Err(source),
        Err(error) => {
            tracing::debug!("{}: {error}", file.display());
            Ok(false)
        }
    }
}

/// The agent, if it has this key.
async fn agent_with(key: &PublicKey) -> Option<AgentClient<UnixStream>> {
    let mut agent = AgentClient::connect_env().await.ok()?;
    let has = agent.request_identities().await.ok()?;
    has.iter().any(|one| one.public_key().key_data() == key.key_data()).then_some(agent)
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

/// Signs with a key, also for its certificate: of a file russh does so by itself, but for RSA with SHA-1 only.
enum Signing {
    ByFile(Arc<PrivateKey>),
    ByAgent(Box<AgentClient<UnixStream>>, Box<PublicKey>),
}

#[derive(Debug, thiserror::Error)]
enum SignError {
    #[error("the connection ended")]
    Ended(#[source] russh::Error),
    #[error("the key does not sign: {0}")]
    Key(#[source] signature::Error),
    #[error("the agent does not sign: {0}")]
    Agent(#[source] AgentAuthError),
}

impl From<russh::SendError> for SignError {
    fn from(_: russh::SendError) -> Self {
        Self::Ended(russh::Error::SendError)
    }
}

impl Signer for Signing {
    type Error = SignError;

    async fn auth_sign(
        &mut self,
        _: &AgentIdentity,
        hash: Option<HashAlg>,
        mut text: Vec<u8>,
    ) -> Result<Vec<u8>, SignError> {
        let signature = match self {
            Self::ByAgent(agent, key) => {
                // With the key itself: that the agent has its certificate, too, is not asked for.
                let key = AgentIdentity::from(PublicKey::clone(key));
                return agent.auth_sign(&key, hash, text).await.map_err(SignError::Agent);
            }
            Self::ByFile(key) => match key.key_data() {
                KeypairData::Rsa(key) => signature::Signer::try_sign(&(key, hash), text.as_slice()),
                key => signature::Signer::try_sign(key, text.as_slice()),
            },
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
