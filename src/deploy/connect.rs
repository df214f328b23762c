//! Connecting to a host and logging in.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use russh::client::{self, Handle};
use russh::keys::PublicKeyOrCertificate;
use russh::{AlgorithmKind, Preferred, compression};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::ConnectError;
use super::host_key::{Expectation, HostKeyError, Shown};
use super::identity;
use super::login::{by_agent, with_keys};
use super::ssh::{Login, Session};
use crate::model::desired::Host;
use crate::model::problem::plain;
use crate::probe::Patience;

/// Looking up the address and connecting to it.
const CONNECT: Duration = Duration::from_secs(10);
/// From the first byte to being logged in.
const LOGIN: Duration = Duration::from_secs(15);

/// Connects to a host and logs in. The host's key is judged before anything of ours is shown.
pub(super) async fn connect(host: &Host, login: &Login) -> Result<Handle<Client>, ConnectError> {
    let keys = match identity::by_agent(&login.identity) {
        true => None,
        false => Some(identity::read_all(&login.identity, login.passphrase.as_ref())?),
    };
    let expected = Expectation::of(host)?;
    let stream = Overheard { stream: dial(host, login.via.as_deref()).await?, greeting: Arc::default() };
    let greeting = Arc::clone(&stream.greeting);
    let mut stage = "the key exchange";
    let coming = async {
        let config = Arc::new(config(&expected));
        let mut handle = client::connect_stream(config, stream, Client { expected: expected.clone() })
            .await
            .map_err(|error| refusal(host, &expected, &greeting, error))?;
        stage = "the login";
        match keys {
            Some(keys) => with_keys(host, keys, &mut handle).await?,
            None => by_agent(host, &login.identity, &mut handle).await?,
        }
        Ok(handle)
    };
    Patience::of(LOGIN).wait(coming).await.unwrap_or_else(|_| {
        Err(ConnectError::Timeout { host: host.name.to_string(), stage, seconds: LOGIN.as_secs() })
    })
}

/// The key that a host shows, in the light of what is known of it.
#[derive(Debug)]
pub enum Presented {
    /// It is one of those expected, which are these.
    Known(String),
    /// Nothing is known of the host.
    Unknown {
        /// What known-hosts files call it.
        address: String,
        /// The key.
        key: Box<Shown>,
    },
}

/// Connects to a host for the sake of its key and shows it nothing of ours. A key that is not one of those
/// expected is an error.
pub async fn presented(host: &Host, via: Option<&Session>) -> Result<Presented, ConnectError> {
    let expected = Expectation::of(host)?;
    let stream = Overheard { stream: dial(host, via).await?, greeting: Arc::default() };
    let greeting = Arc::clone(&stream.greeting);
    let client = Client { expected: expected.clone() };
    let exchange = client::connect_stream(Arc::new(config(&expected)), stream, client);
    let late = |_| ConnectError::Timeout {
        host: host.name.to_string(),
        stage: "the key exchange",
        seconds: LOGIN.as_secs(),
    };
    match Patience::of(LOGIN).wait(exchange).await.map_err(late)? {
        Ok(_) => Ok(Presented::Known(expected.to_string())),
        Err(ClientError::HostKey(HostKeyError::Unknown { address, presented, .. })) => {
            Ok(Presented::Unknown { address, key: presented })
        }
        Err(error) => Err(refusal(host, &expected, &greeting, error)),
    }
}

/// What russh asks us.
pub(super) struct Client {
    expected: Expectation,
}

/// Why the protocol ended.
#[derive(Debug)]
pub(super) enum ClientError {
    HostKey(HostKeyError),
    Ssh(russh::Error),
}

impl From<russh::Error> for ClientError {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl client::Handler for Client {
    type Error = ClientError;

    async fn check_server_key(&mut self, presented: &PublicKeyOrCertificate) -> Result<bool, ClientError> {
        self.expected.judge(presented).map_err(ClientError::HostKey)?;
        Ok(true)
    }
}

fn config(expected: &Expectation) -> client::Config {
    client::Config {
        keepalive_interval: Some(Duration::from_secs(10)),
        keepalive_max: 3,
        preferred: Preferred {
            key: expected.algorithms().into(),
            host_key_certificates: expected.certificates().into(),
            // Nothing here is worth a decompressor that a hostile host can feed.
            compression: vec![compression::NONE].into(),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

/// Opens the way to a host: directly, or through the one that it is behind.
async fn dial(host: &Host, via: Option<&Session>) -> Result<Box<dyn Stream>, ConnectError> {
    let Some(through) = via.and_then(Session::handle) else {
        return Ok(Box::new(dial_directly(host).await?));
    };
    let open = through.channel_open_direct_tcpip(&host.address, host.port.into(), "127.0.0.1", 0);
    match Patience::of(CONNECT).wait(open).await {
        Ok(Ok(channel)) => Ok(Box::new(channel.into_stream())),
        Ok(Err(source)) => Err(ConnectError::Forward {
            host: host.name.to_string(),
            address: format!("{}:{}", host.address, host.port),
            via: host.via.as_ref().map(ToString::to_string).unwrap_or_default(),
            source,
        }),
        Err(_) => Err(ConnectError::Timeout {
            host: host.name.to_string(),
            stage: "connecting through the jump host",
            seconds: CONNECT.as_secs(),
        }),
    }
}

/// Bytes to and fro.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to the first address that answers.
async fn dial_directly(host: &Host) -> Result<TcpStream, ConnectError> {
    let name = host.name.to_string();
    let late =
        || ConnectError::Timeout { host: name.clone(), stage: "connecting", seconds: CONNECT.as_secs() };
    let deadline = Instant::now() + CONNECT;
    let lookup = |source| ConnectError::Lookup { host: name.clone(), address: host.address.clone(), source };
    let found: Vec<SocketAddr> = timeout_at(deadline, lookup_host((host.address.as_str(), host.port)))
        .await
        .map_err(|_| late())?
        .map_err(|source| lookup(Some(source)))?
        .collect();
    let mut last = lookup(None);
    for (index, &at) in found.iter().enumerate() {
        // A silent address must not use up the time of the next.
        let left = u32::try_from(found.len() - index).unwrap_or(u32::MAX);
        let share = deadline.saturating_duration_since(Instant::now()) / left;
        last = match timeout(share, TcpStream::connect(at)).await {
            Ok(Ok(stream)) => {
                // Small messages to and fro: waiting to fill packets would only slow them down.
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                ConnectError::Refused { host: name.clone(), at }
            }
            Ok(Err(source)) => ConnectError::Unreachable { host: name.clone(), at, source },
            Err(_) => late(),
        };
    }
    Err(last)
}

/// What OpenSSH says in place of its version to whom it hangs up on: MaxStartups, PerSourcePenalties.
const BUSY: [&str; 2] = ["Exceeded MaxStartups", "Not allowed at this time"];

fn refusal(
    host: &Host,
    expected: &Expectation,
    greeting: &Mutex<Vec<u8>>,
    error: ClientError,
) -> ConnectError {
    let name = host.name.to_string();
    let greeting = plain(&String::from_utf8_lossy(&greeting.lock().unwrap_or_else(PoisonError::into_inner)));
    match error {
        ClientError::HostKey(error) => error.into(),
        ClientError::Ssh(russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, theirs, .. }) => {
            expected.other_kind(&theirs).into()
        }
        ClientError::Ssh(_) if BUSY.iter().any(|said| greeting.starts_with(said)) => {
            ConnectError::Busy { host: name, said: greeting }
        }
        ClientError::Ssh(_) if !greeting.is_empty() && !greeting.contains("SSH-") => {
            ConnectError::NotSsh { host: name, greeting }
        }
        ClientError::Ssh(source) => ConnectError::Ended { host: name, stage: "the key exchange", source },
    }
}

/// A stream whose first bytes are kept: russh does not tell a web server from a broken SSH server.
struct Overheard {
    stream: Box<dyn Stream>,
    greeting: Arc<Mutex<Vec<u8>>>,
}

/// Enough to see what answers there.
const GREETING: usize = 64;

impl AsyncRead for Overheard {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        let mut greeting = self.greeting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = GREETING - greeting.len();
        greeting.extend(buffer.filled()[before..].iter().take(room));
        drop(greeting);
        result
    }
}

impl AsyncWrite for Overheard {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
