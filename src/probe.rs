//! Looks from outside: which certificate does this address serve for this name, right now.
//!
//! A look is one fresh TLS handshake, as a visitor makes it. Any certificate is taken, since the
//! point is to see it; but the server must prove that it holds the key. Whether a visitor would
//! trust the chain is judged afterwards, by [`Roots`], at a time that is a parameter.
//!
//! Servers are hostile until shown otherwise: bytes and time of a look are limited.

mod addresses;
mod error;
mod patience;
mod roots;
mod stream;
mod turns;
mod verifier;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::model::cert::{ChainEnd, Leaf};
use crate::model::desired::KeyType;
use crate::model::name::{Domain, Fingerprint};
use crate::model::observed::{Look, Seen, Served};
use crate::model::problem::Problem;
pub use addresses::{AddressError, addresses, has_route};
pub use error::{LookError, Step};
pub use patience::{Patience, TooLate};
pub use roots::{Roots, RootsError};
use stream::Watched;
pub use turns::Turns;
use verifier::AnyCertificate;

/// What is asked of which server.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The server: no name is looked up, no proxy asked.
    pub address: SocketAddr,
    /// The name asked for (SNI); for a wildcard, some name under it.
    pub name: &'a Domain,
    /// The type of key wanted: a host may have an RSA and an ECDSA certificate for one name.
    pub key: Option<KeyType>,
    /// What the chain should lead to.
    pub roots: &'a Roots,
}

/// What a server is waited for to serve.
#[derive(Debug, Clone, Copy)]
pub struct Until<'a> {
    /// The leaf.
    pub fingerprint: Fingerprint,
    /// How many looks in a row must show it; [`TIMES`] unless other looks say the same of the same server.
    pub times: u32,
    /// When to give up: after so long without any name's progress at this address.
    pub within: Duration,
    /// Whose turn it is to look; nothing is held between looks.
    pub turns: &'a Turns<'a>,
}

/// Makes looks; to be made once and used by all.
#[derive(Debug, Clone)]
pub struct Probe {
    any: Arc<ClientConfig>,
    ecdsa: Arc<ClientConfig>,
    rsa: Arc<ClientConfig>,
    deadline: Duration,
}

impl Probe {
    /// A probe whose looks take five seconds at most.
    pub fn new() -> Self {
        Self {
            any: client(AnyCertificate::all()),
            ecdsa: client(AnyCertificate::ecdsa()),
            rsa: client(AnyCertificate::rsa()),
            deadline: Duration::from_secs(5),
        }
    }

    /// Another limit for the whole of a look.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// One look.
    ///
    /// A server that has no certificate for the wanted type of key is asked again for any: what
    /// it serves instead is what its visitors get.
    pub async fn look(&self, question: Question<'_>, now: impl Fn() -> Timestamp + Send + Sync) -> Look {
        self.look_within(question, self.deadline, &now).await
    }

    /// Looks until what is waited for was served so many times in a row, within the deadline; the last look tells
    /// what was seen, `Err` when it came to nothing.
    ///
    /// In a row, because for a moment after a reload old and new workers both answer. The first of a row is alone, the
    /// others look together a moment later: however many they are, it takes no longer, and two servers that share an
    /// address hardly agree by chance. Where another certificate is seen although ours is served there under some
    /// name, it takes [`TIMES`]; and twice as many each time that another is seen after ours.
    pub async fn until_serves(
        &self,
        question: Question<'_>,
        until: Until<'_>,
        now: impl Fn() -> Timestamp + Send + Sync,
    ) -> Result<Look, Look> {
        let is_wanted = |look: &Look| matches!(&look.seen, Seen::Serving(served) if served.fingerprint == until.fingerprint);
        let (turns, mut times, mut pause) = (until.turns, until.times, FIRST_PAUSE);
        let mut scout = turns.scout().await;
        let mut looks = 0;
        loop {
            let first = self.look_in_turn(question, until, &now).await;
            let begun = is_wanted(&first);
            looks += 1;
            if begun || looks == SCOUTING || !matches!(first.seen, Seen::Serving(_)) {
                drop(scout.take());
            }
            let mut row = vec![first];
            if begun && times > 1 {
                turns.spend(sleep(FIRST_PAUSE)).await;
                let others = (1..times).map(|_| self.look_in_turn(question, until, &now));
                row.extend(join_all(others).await);
            }
            let other = row.iter().position(|look| !is_wanted(look));
            let look = row.swap_remove(other.unwrap_or(0));
            if other.is_none() {
                turns.progressed();
                return Ok(look);
            }
            times = match begun {
                true => (times.max(TIMES) * 2).min(MOST_TIMES),
                // As long as ours is served under no name, nothing was loaded yet.
                false if turns.has_progressed() => times.max(TIMES),
                false => times,
            };
            pause = (if begun { FIRST_PAUSE } else { pause } * 3 / 2).min(LONGEST_PAUSE);
            if pause >= turns.left(until.within) {
                return Err(look);
            }
            turns.spend(sleep(pause)).await;
        }
    }

    async fn look_in_turn(
        &self,
        question: Question<'_>,
        until: Until<'_>,
        now: &(impl Fn() -> Timestamp + Send + Sync),
    ) -> Look {
        let turns = until.turns;
        let _turn = turns.take().await;
        // Once it is served, the deadline does not cut the counting short. Where other names are served right, the host
        // is there.
        let least = if turns.has_progressed() { FAIR_CHANCE } else { LAST_CHANCE };
        let limit = turns.left(until.within).max(least).min(self.deadline);
        turns.spend(self.look_within(question, limit, now)).await
    }

    async fn look_within(
        &self,
        question: Question<'_>,
        deadline: Duration,
        now: &(impl Fn() -> Timestamp + Send + Sync),
    ) -> Look {
        // Apart, so that those who wait for their turn to look, by the thousand, are small.
        let seen = match Box::pin(self.chain(&question, deadline)).await {
            Ok(chain) => served(&chain, &question, now()),
            Err(error) => Err(error),
        };
        Look {
            address: question.address,
            name: question.name.clone(),
            at: now(),
            seen: match seen {
                Ok(served) => Seen::Serving(served),
                Err(error) => Seen::Unreachable(Problem::of(&error)),
            },
        }
    }

    /// The chain that is served, leaf first.
    async fn chain(&self, question: &Question<'_>, deadline: Duration) -> Result<Vec<Vec<u8>>, LookError> {
        let mut patience = Patience::of(deadline);
        let wanted = match question.key {
            None => &self.any,
            Some(KeyType::EcdsaP256 | KeyType::EcdsaP384) => &self.ecdsa,
            Some(KeyType::Rsa2048 | KeyType::Rsa4096) => &self.rsa,
        };
        let result = handshake(wanted, question, &mut patience, deadline).await;
        match &result {
            // The server's way to say that it has no such certificate; but maybe another one.
            Err(LookError::Handshake { source, .. })
                if matches!(**source, rustls::Error::AlertReceived(_)) && !Arc::ptr_eq(wanted, &self.any) =>
            {
                handshake(&self.any, question, &mut patience, deadline).await
            }
            _ => result,
        }
    }
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

async fn handshake(
    config: &Arc<ClientConfig>,
    question: &Question<'_>,
    patience: &mut Patience,
    deadline: Duration,
) -> Result<Vec<Vec<u8>>, LookError> {
    let address = question.address;
    let late = |step| move |_| LookError::Timeout { address, step, after: deadline };
    let connection = patience
        .wait(TcpStream::connect(address))
        .await
        .map_err(late(Step::Connect))?
        .map_err(|error| LookError::connecting(address, error))?;
    // Else each flight of TLS 1.2 waits 40 ms for a delayed acknowledgement.
    connection.set_nodelay(true).map_err(|error| LookError::connecting(address, error))?;
    let connecting = TlsConnector::from(config.clone())
        .connect(server_name(question.name), Watched::new(connection))
        .into_fallible();
    let stream = patience
        .wait(connecting)
        .await
        .map_err(late(Step::Handshake))?
        .map_err(|(error, watched)| LookError::shaking_hands(question, error, &watched))?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    if chain.is_empty() {
        return Err(LookError::NoCertificate { address, name: question.name.clone() });
    }
    Ok(chain.iter().map(|certificate| certificate.to_vec()).collect())
}

/// What a chain is to a visitor.
fn served(chain: &[Vec<u8>], question: &Question<'_>, at: Timestamp) -> Result<Served, LookError> {
    let leaf = Leaf::parse(&chain[0]).map_err(|source| LookError::BadCertificate {
        address: question.address,
        name: question.name.clone(),
        source,
    })?;
    let distrust = question.roots.distrust(chain, question.name, at);
    let end = ChainEnd::first(chain[1..].iter()).filter(|end| end.not_after < leaf.not_after);
    // There may be another way to a root, without what ends: then nobody is hurt.
    let last = leaf.not_after.saturating_sub(SignedDuration::from_secs(1));
    let hurts = |_: &ChainEnd| {
        distrust.is_some() || question.roots.distrust(chain, question.name, last.unwrap_or(at)).is_some()
    };
    Ok(Served { chain_end: end.filter(hurts), ..Served::of(leaf, distrust.clone()) })
}

fn client(verifier: AnyCertificate) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(verifier.provider())
        .with_safe_default_protocol_versions()
        .expect("the provider has cipher suites for TLS 1.2 and 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    // A resumed session would show the certificate of another day.
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

/// The name to ask for; a wildcard cannot be asked for, but a name under it can.
fn server_name(name: &Domain) -> ServerName<'static> {
    let text = match name.is_wildcard() {
        true => format!("any.{}", name.base()),
        false => name.base().to_owned(),
    };
    ServerName::try_from(text)
        .or_else(|_| ServerName::try_from(name.base().to_owned()))
        .expect("a domain is a valid DNS name")
}

/// So many looks in a row must agree about a server.
pub const TIMES: u32 = 5;
/// What it comes to where two certificates take turns.
const MOST_TIMES: u32 = 24;
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// So often one name looks for all, which takes half a second.
const SCOUTING: u32 = 5;
/// The least time that a look gets.
const LAST_CHANCE: Duration = Duration::from_millis(500);
/// The same where other names of the address have come to what was waited for.
const FAIR_CHANCE: Duration = Duration::from_secs(2);
