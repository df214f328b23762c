//! A connection to one host, and transactions over it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::client::{self, AuthResult, Handle};
use russh::keys::{HashAlg, PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{
    AlgorithmKind, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Disconnect, Preferred, compression,
};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{ConnectError, InstallError, NotPutBack};
use super::host_key::{Expectation, HostKeyError};
use super::identity;
use super::outcome::{self, Answer};
use super::protocol::{Conversation, RawRecord, Record};
use super::{Bundle, PutBack};
use crate::model::desired::Host;
use crate::model::problem::plain;

/// Looking up the address and connecting to it.
const CONNECT: Duration = Duration::from_secs(10);
/// From the first byte to being logged in.
const LOGIN: Duration = Duration::from_secs(15);
/// Without a word from the host in the middle of a transaction. Its script shows a step at least as often.
const IDLE: Duration = Duration::from_secs(30);
/// A whole transaction.
const TRANSACTION: Duration = Duration::from_secs(120);
/// Saying good-bye.
const GOODBYE: Duration = Duration::from_secs(1);
/// What a host may say on its standard error.
const COMPLAINT_LIMIT: usize = 16 * 1024;

/// A connection to one host, logged in, its host key matched.
pub struct Session {
    handle: Handle<Client>,
    identity: PathBuf,
}

impl Session {
    /// Connects and logs in. The host's key is judged before anything of ours is shown to it, and there is
    /// one attempt to log in, with one key: hosts lock out who tries more.
    pub async fn open(host: &Host, identity: &Path) -> Result<Self, ConnectError> {
        let key = Arc::new(identity::read(identity)?);
        let expected = Expectation::of(host)?;
        let stream = dial(host).await?;
        let mut stage = "the greeting";
        let login = async {
            let mut first = [0; 64];
            let length = stream.peek(&mut first).await.unwrap_or(0);
            let greeting = plain(&String::from_utf8_lossy(&first[..length]));
            let config = Arc::new(config(&expected));
            stage = "the key exchange";
            let client = Client { expected: expected.clone() };
            let mut handle = client::connect_stream(config, stream, client)
                .await
                .map_err(|error| refusal(host, &expected, &greeting, error))?;
            stage = "the login";
            log_in(host, identity, &mut handle, &key).await?;
            Ok(handle)
        };
        let handle = timeout(LOGIN, login).await.unwrap_or_else(|_| {
            Err(ConnectError::Timeout { host: host.name.to_string(), stage, seconds: LOGIN.as_secs() })
        })?;
        Ok(Self { handle, identity: identity.to_owned() })
    }

    /// Whether the connection is lost.
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Installs certificates in one transaction: one test, one reload. The answer has an outcome for each, in
    /// the same order.
    pub async fn install(&self, host: &Host, bundles: &[Bundle]) -> Result<Answer, InstallError> {
        let conversation = Conversation::install(host, bundles)?;
        let records = self.converse(host, conversation).await?;
        outcome::answer(&records, bundles).map_err(|source| InstallError::malformed(host, source))
    }

    /// Puts certificates back to the versions before, tests, reloads. Where the connection is lost by now, it
    /// connects again: a certificate that is not served must not stay only because a cable was pulled.
    ///
    /// The answer has an entry for each, in the same order.
    pub async fn put_back(
        &self,
        host: &Host,
        what: &[PutBack],
    ) -> Result<Vec<Result<(), NotPutBack>>, InstallError> {
        let records = match self.converse(host, Conversation::put_back(host, what)?).await {
            Err(InstallError::Lost { .. } | InstallError::Channel { .. }) => {
                let again = Self::open(host, &self.identity)
                    .await
                    .map_err(|source| InstallError::Reconnect { host: host.name.to_string(), source })?;
                let records = again.converse(host, Conversation::put_back(host, what)?).await;
                again.close().await;
                records?
            }
            records => records?,
        };
        Ok(what.iter().map(|one| NotPutBack::judge(&records, host, &one.certificate)).collect())
    }

    /// Ends the connection.
    pub async fn close(self) {
        // What is lost by now need not be ended.
        let _ = timeout(GOODBYE, self.handle.disconnect(Disconnect::ByApplication, "", "")).await;
    }

    async fn converse(&self, host: &Host, conversation: Conversation) -> Result<Vec<Record>, InstallError> {
        self.exchange(host, conversation).await?.records()
    }

    /// As [`converse`](Self::converse), for questions that change nothing.
    pub(super) async fn ask(
        &self,
        host: &Host,
        conversation: Conversation,
    ) -> Result<Vec<RawRecord>, InstallError> {
        self.exchange(host, conversation).await?.raw_records()
    }

    async fn exchange<'a>(
        &self,
        host: &'a Host,
        conversation: Conversation,
    ) -> Result<Exchange<'a>, InstallError> {
        let mut exchange = Exchange {
            host,
            conversation,
            complaint: Vec::new(),
            status: None,
            ended: false,
            deadline: Instant::now() + TRANSACTION,
        };
        let result = exchange.run(&self.handle).await;
        if let Err(
            InstallError::TooMuch { .. } | InstallError::Silent { .. } | InstallError::TooLong { .. },
        ) = result
        {
            // Whatever goes on in that channel, nobody listens to it any more.
            let _ = timeout(GOODBYE, self.handle.disconnect(Disconnect::ByApplication, "", "")).await;
        }
        result?;
        Ok(exchange)
    }
}

/// One transaction as it goes on.
struct Exchange<'a> {
    host: &'a Host,
    conversation: Conversation,
    complaint: Vec<u8>,
    status: Option<u32>,
    /// The host ended the channel; without that it is the connection that ended.
    ended: bool,
    deadline: Instant,
}

impl Exchange<'_> {
    /// Runs the transaction until its answer is complete or the channel ends.
    async fn run(&mut self, handle: &Handle<Client>) -> Result<(), InstallError> {
        let opening = async {
            let channel = handle.channel_open_session().await?;
            channel.exec(true, self.conversation.command()).await?;
            Ok(channel)
        };
        let channel = timeout(IDLE, opening)
            .await
            .map_err(|_| self.silent())?
            .map_err(|source| InstallError::Channel { host: self.name(), source })?;
        let (mut read, write) = channel.split();
        // Wiped when russh lets go of it.
        let input = Bytes::from_owner(self.conversation.take_input());
        let send = async {
            write.data_bytes(input).await?;
            write.eof().await
        };
        tokio::pin!(send);
        let mut sent = false;
        loop {
            let quiet = (Instant::now() + IDLE).min(self.deadline);
            tokio::select! {
                // What could not be sent was not wanted: the answer says why.
                _ = &mut send, if !sent => sent = true,
                heard = timeout_at(quiet, read.wait()) => match heard {
                    Err(_) if Instant::now() >= self.deadline => return Err(self.too_long()),
                    Err(_) => return Err(self.silent()),
                    Ok(None) => break,
                    Ok(Some(message)) => {
                        if self.hear(message)? {
                            break;
                        }
                    }
                },
            }
        }
        self.leave(&mut read, &write).await;
        Ok(())
    }

    /// True when the answer is complete.
    fn hear(&mut self, message: ChannelMsg) -> Result<bool, InstallError> {
        match message {
            ChannelMsg::Data { data } => {
                return self
                    .conversation
                    .hear(&data)
                    .map_err(|_| InstallError::TooMuch { host: self.name() });
            }
            ChannelMsg::ExtendedData { data, .. } => {
                if self.complaint.len() + data.len() > COMPLAINT_LIMIT {
                    return Err(InstallError::TooMuch { host: self.name() });
                }
                self.complaint.extend_from_slice(&data);
            }
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(exit_status),
            ChannelMsg::Failure => {
                return Err(InstallError::NoCommand { host: self.name(), user: self.host.user.clone() });
            }
            ChannelMsg::Eof | ChannelMsg::Close => self.ended = true,
            _ => {}
        }
        Ok(false)
    }

    async fn leave(&self, read: &mut ChannelReadHalf, write: &ChannelWriteHalf<client::Msg>) {
        // A process that the host's reload left behind may keep the channel open for ever.
        let _ = timeout(GOODBYE, async {
            let _ = write.close().await;
            while read.wait().await.is_some() {}
        })
        .await;
    }

    /// The records, now that nothing more is to come.
    fn records(self) -> Result<Vec<Record>, InstallError> {
        let records = self.conversation.records().ok_or_else(|| self.no_answer())?;
        let records = records.map_err(|source| InstallError::malformed(self.host, source))?;
        InstallError::stopped(self.host, &records)?;
        Ok(records)
    }

    fn raw_records(self) -> Result<Vec<RawRecord>, InstallError> {
        let records = self.conversation.raw_records().ok_or_else(|| self.no_answer())?;
        let records = records.map_err(|source| InstallError::malformed(self.host, source))?;
        match records.iter().find(|record| record.word == "failed") {
            Some(record) => Err(InstallError::stop(self.host, &record.detail, plain(&record.text))),
            None => Ok(records),
        }
    }

    fn no_answer(&self) -> InstallError {
        if !self.ended {
            return InstallError::Lost { host: self.name(), step: self.step() };
        }
        let status = self.status.map_or_else(|| "killed".to_owned(), |code| format!("exit status {code}"));
        let complaint = plain(&String::from_utf8_lossy(&self.complaint));
        let said = if complaint.is_empty() { self.conversation.tail() } else { complaint };
        InstallError::NoAnswer { host: self.name(), status, said }
    }

    fn silent(&self) -> InstallError {
        InstallError::Silent { host: self.name(), step: self.step(), seconds: IDLE.as_secs() }
    }

    fn too_long(&self) -> InstallError {
        InstallError::TooLong { host: self.name(), step: self.step(), seconds: TRANSACTION.as_secs() }
    }

    fn name(&self) -> String {
        self.host.name.to_string()
    }

    fn step(&self) -> String {
        self.conversation.step().unwrap_or_else(|| "the start".to_owned())
    }
}

/// What russh asks us.
struct Client {
    expected: Expectation,
}

/// Why the protocol ended.
#[derive(Debug)]
enum ClientError {
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
        // Certificates are not asked for: one that comes nevertheless is judged by its key.
        self.expected.judge(&presented.public_key()).map_err(ClientError::HostKey)?;
        Ok(true)
    }
}

fn config(expected: &Expectation) -> client::Config {
    client::Config {
        nodelay: true,
        keepalive_interval: Some(Duration::from_secs(10)),
        keepalive_max: 3,
        preferred: Preferred {
            key: expected.algorithms().into(),
            // Nothing here is worth a decompressor that a hostile host can feed.
            compression: vec![compression::NONE].into(),
            ..Preferred::DEFAULT
        },
        ..client::Config::default()
    }
}

/// Connects to the first address that answers.
async fn dial(host: &Host) -> Result<TcpStream, ConnectError> {
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
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                ConnectError::Refused { host: name.clone(), at }
            }
            Ok(Err(source)) => ConnectError::Unreachable { host: name.clone(), at, source },
            Err(_) => late(),
        };
    }
    Err(last)
}

fn refusal(host: &Host, expected: &Expectation, greeting: &str, error: ClientError) -> ConnectError {
    let name = host.name.to_string();
    match error {
        ClientError::HostKey(error) => error.into(),
        ClientError::Ssh(russh::Error::NoCommonAlgo { kind: AlgorithmKind::Key, theirs, .. }) => {
            expected.other_kind(&theirs).into()
        }
        ClientError::Ssh(_) if !greeting.is_empty() && !greeting.contains("SSH-") => {
            ConnectError::NotSsh { host: name, greeting: greeting.to_owned() }
        }
        ClientError::Ssh(source) => ConnectError::Ended { host: name, stage: "the key exchange", source },
    }
}

async fn log_in(
    host: &Host,
    identity: &Path,
    handle: &mut Handle<Client>,
    key: &Arc<PrivateKey>,
) -> Result<(), ConnectError> {
    let ended = |source| ConnectError::Ended { host: host.name.to_string(), stage: "the login", source };
    // SHA-1 is what a server wants that does not say what it wants; none of them is still in use.
    let hash = if key.algorithm().is_rsa() {
        handle.best_supported_rsa_hash().await.map_err(ended)?.flatten().or(Some(HashAlg::Sha256))
    } else {
        None
    };
    let signer = PrivateKeyWithHashAlg::new(Arc::clone(key), hash);
    match handle.authenticate_publickey(&host.user, signer).await.map_err(ended)? {
        AuthResult::Success => Ok(()),
        AuthResult::Failure { .. } => {
            let mut public = key.public_key().clone();
            if public.comment().is_empty() {
                public.set_comment("certfleet");
            }
            Err(ConnectError::KeyRefused {
                host: host.name.to_string(),
                user: host.user.clone(),
                identity: identity.to_owned(),
                public: plain(&public.to_openssh().unwrap_or_default()),
            })
        }
    }
}
