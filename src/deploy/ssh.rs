//! A connection to one host, and transactions over it.

use std::borrow::Borrow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use russh::client::Handle;
use russh::{ChannelMsg, Disconnect};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::connect::{Client, connect};
use super::error::{ConnectError, InstallError, NotPutBack};
use super::local::way;
use super::outcome::Answer;
use super::payload::Payload;
use super::protocol::{Conversation, RawRecord, Record, public_text};
use super::receiver;
use super::{Bundle, PutBack};
use crate::model::desired::Host;
use crate::model::problem::plain;
use crate::probe::{Patience, TooLate};
use crate::secret::Secret;

/// Without a word from the host: its script shows each step, and no command of the host's may take longer.
const IDLE: Duration = Duration::from_secs(30);
/// A whole transaction.
const TRANSACTION: Duration = Duration::from_secs(120);
/// What a host that is slow needs longer for each certificate, in a step and in all: steps are done for all of them.
const EACH: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(2));
/// So many are reckoned with.
const MANY: u32 = 1000;
/// Saying good-bye.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
/// What a host may say on its standard error.
const COMPLAINT_LIMIT: usize = 16 * 1024;

/// How to come to a host and into it.
#[derive(Clone)]
pub struct Login {
    /// The files of private keys, tried in this order; where none is there the agent of `$SSH_AUTH_SOCK` is asked.
    pub identity: Vec<PathBuf>,
    /// Where their passphrase is, if they have one.
    pub passphrase: Option<Secret>,
    /// The session with the host through which this one is reached.
    pub via: Option<Arc<Session>>,
}

impl Login {
    /// With the key in this file, directly.
    pub fn with(identity: &Path) -> Self {
        Self { identity: vec![identity.to_owned()], passphrase: None, via: None }
    }
}

/// What carries transactions to a host.
pub(super) enum Carrier {
    /// A connection, logged in, its host key matched.
    Ssh(Handle<Client>),
    /// None is needed: the host is this machine.
    Local,
    /// It is this machine, and root listens at a socket.
    Socket,
}

/// The way to one host.
pub struct Session {
    carrier: Carrier,
    /// Keeps the connection to the jump host, too.
    login: Login,
}

impl Session {
    /// Connects and logs in. The host's key is judged before anything of ours is shown to it, and there are
    /// no more attempts to log in than sshd takes of everybody: hosts lock out who tries more.
    pub async fn open(host: &Host, login: Login) -> Result<Self, ConnectError> {
        let carrier = match host.local {
            true => way(host)?,
            false => Carrier::Ssh(connect(host, &login).await?),
        };
        Ok(Self { carrier, login })
    }

    /// The connection; `None` for this machine itself.
    pub(super) fn handle(&self) -> Option<&Handle<Client>> {
        match &self.carrier {
            Carrier::Ssh(handle) => Some(handle),
            Carrier::Local | Carrier::Socket => None,
        }
    }

    /// Whether the connection is lost, or the one that it goes through.
    pub fn is_closed(&self) -> bool {
        self.handle().is_some_and(Handle::is_closed)
            || self.login.via.as_ref().is_some_and(|via| via.is_closed())
    }

    /// Installs certificates in one transaction: one test, one reload. The answer has an outcome for each, in
    /// the same order.
    pub async fn install<B: Borrow<Bundle>>(
        &self,
        host: &Host,
        bundles: &[B],
    ) -> Result<Answer, InstallError> {
        let payload = Payload::of(&host.files, bundles);
        let conversation = Conversation::announce(host, &payload)?;
        let records = self.converse(host, conversation, Some(payload)).await?;
        Answer::of(&records, bundles).map_err(|source| InstallError::malformed(host, source))
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
        let records = match self.converse(host, Conversation::put_back(host, what)?, None).await {
            Err(InstallError::Lost { .. } | InstallError::Channel { .. }) => {
                let again = Self::open(host, self.login.clone()).await.map_err(|source| {
                    InstallError::Reconnect { host: host.name.to_string(), source: Box::new(source) }
                })?;
                let records = again.converse(host, Conversation::put_back(host, what)?, None).await;
                again.close().await;
                records?
            }
            records => records?,
        };
        Ok(what.iter().map(|one| NotPutBack::judge(&records, host, &one.certificate)).collect())
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.hang_up().await;
    }

    async fn hang_up(&self) {
        if let Some(handle) = self.handle() {
            // What is lost by now need not be ended.
            let _ = timeout(GOODBYE, handle.disconnect(Disconnect::ByApplication, "", "")).await;
        }
    }

    async fn converse(
        &self,
        host: &Host,
        conversation: Conversation,
        payload: Option<Payload<'_>>,
    ) -> Result<Vec<Record>, InstallError> {
        match self.exchange(host, conversation, payload).await?.records() {
            Err(InstallError::Lost { host: name, step, .. }) => {
                Err(InstallError::Lost { host: name, via: self.lost_way(host).await, step })
            }
            records => records,
        }
    }

    /// The jump host, if the connection to it does not carry any more.
    async fn lost_way(&self, host: &Host) -> Option<String> {
        let handle = self.login.via.as_deref()?.handle()?;
        let answered = matches!(timeout(GOODBYE, handle.send_ping()).await, Ok(Ok(())));
        let alive = answered && !handle.is_closed();
        host.via.as_ref().filter(|_| !alive).map(ToString::to_string)
    }

    /// As [`converse`](Self::converse), for questions that change nothing.
    pub(super) async fn ask(
        &self,
        host: &Host,
        conversation: Conversation,
    ) -> Result<Vec<RawRecord>, InstallError> {
        if host.receiver && !conversation.is_check() {
            return Err(InstallError::TakesOnly { host: host.name.to_string() });
        }
        self.exchange(host, conversation, None).await?.raw_records(public_text)
    }

    /// As [`ask`](Self::ask), where the texts of the answer are secrets.
    pub(super) async fn ask_for_secrets(
        &self,
        host: &Host,
        conversation: Conversation,
    ) -> Result<Vec<RawRecord<Zeroizing<Vec<u8>>>>, InstallError> {
        if host.receiver {
            return Err(InstallError::TakesOnly { host: host.name.to_string() });
        }
        self.exchange(host, conversation, None).await?.raw_records(|text| Zeroizing::new(text.to_vec()))
    }

    /// Whether root does here what we may not.
    pub(super) fn is_by_root(&self) -> bool {
        matches!(self.carrier, Carrier::Socket)
    }

    async fn exchange<'a>(
        &self,
        host: &'a Host,
        mut conversation: Conversation,
        mut payload: Option<Payload<'_>>,
    ) -> Result<Exchange<'a>, InstallError> {
        if self.handle().is_none()
            && let Some(payload) = payload.take()
        {
            // For one machine the copy is small.
            conversation.take_in(payload);
        }
        let many = u32::try_from(conversation.count()).unwrap_or(u32::MAX).min(MANY);
        let mut exchange = Exchange {
            host,
            conversation,
            complaint: Vec::new(),
            status: None,
            ended: false,
            silence: IDLE + EACH.0 * many,
            whole: TRANSACTION + EACH.1 * many,
            left: Patience::of(TRANSACTION + EACH.1 * many),
        };
        let result = match &self.carrier {
            Carrier::Ssh(handle) => exchange.run(handle, payload).await,
            Carrier::Local => exchange.run_here().await,
            Carrier::Socket => exchange.run_by_root().await,
        };
        if let Err(
            InstallError::TooMuch { .. } | InstallError::Silent { .. } | InstallError::TooLong { .. },
        ) = result
        {
            // Whatever goes on in that channel, nobody listens to it any more.
            self.hang_up().await;
        }
        result?;
        Ok(exchange)
    }
}

/// One transaction as it goes on.
pub(super) struct Exchange<'a> {
    host: &'a Host,
    pub(super) conversation: Conversation,
    complaint: Vec<u8>,
    pub(super) status: Option<u32>,
    /// The host ended the channel; without that it is the connection that ended.
    pub(super) ended: bool,
    /// How long it may say nothing; like all times here only while we run, to listen.
    pub(super) silence: Duration,
    whole: Duration,
    /// What is left of the whole.
    pub(super) left: Patience,
}

impl Exchange<'_> {
    /// Runs the transaction until its answer is complete or the channel ends.
    async fn run(
        &mut self,
        handle: &Handle<Client>,
        payload: Option<Payload<'_>>,
    ) -> Result<(), InstallError> {
        let (command, input) = match self.host.receiver {
            true => (receiver::COMMAND.to_owned(), receiver::request(&mut self.conversation)),
            false => (self.conversation.command(), self.conversation.take_input()),
        };
        let opening = async {
            let channel = handle.channel_open_session().await?;
            channel.exec(true, command).await?;
            Ok(channel)
        };
        let channel = Patience::of(self.silence)
            .wait(opening)
            .await
            .map_err(|_| self.silent())?
            .map_err(|source| InstallError::Channel { host: self.name(), source })?;
        let (mut read, write) = channel.split();
        // Wiped when russh lets go of it.
        let input = Bytes::from_owner(input);
        let send = async {
            write.data_bytes(input).await?;
            // Each is made when the host has room for it.
            for piece in payload.into_iter().flatten() {
                write.data_bytes(Bytes::from_owner(piece)).await?;
            }
            write.eof().await
        };
        tokio::pin!(send);
        let mut sent = false;
        loop {
            let mut quiet = Patience::of(self.silence);
            tokio::select! {
                // What could not be sent was not wanted: the answer says why.
                _ = &mut send, if !sent => sent = true,
                heard = self.left.wait(quiet.wait(read.wait())) => match heard {
                    Err(TooLate) => return Err(self.too_long()),
                    Ok(Err(TooLate)) => return Err(self.silent()),
                    Ok(Ok(None)) => break,
                    Ok(Ok(Some(message))) => {
                        if self.hear(message)? {
                            break;
                        }
                    }
                },
            }
        }
        // Its end is not waited for: a process that the host's reload left behind may keep the channel open for
        // ever, and of two that close it at the same time one may never hear of it.
        let _ = timeout(GOODBYE, write.close()).await;
        Ok(())
    }

    /// True when the answer is complete.
    fn hear(&mut self, message: ChannelMsg) -> Result<bool, InstallError> {
        match message {
            ChannelMsg::Data { data } => {
                return self.hear_output(&data);
            }
            ChannelMsg::ExtendedData { data, .. } => self.hear_complaint(&data)?,
            ChannelMsg::ExitStatus { exit_status } => self.status = Some(exit_status),
            ChannelMsg::Failure => {
                return Err(InstallError::NoCommand { host: self.name(), user: self.host.user.clone() });
            }
            ChannelMsg::Eof | ChannelMsg::Close => self.ended = true,
            _ => {}
        }
        Ok(false)
    }

    /// What comes on standard output; true when the answer is complete.
    pub(super) fn hear_output(&mut self, data: &[u8]) -> Result<bool, InstallError> {
        self.conversation
            .hear(data)
            .map_err(|_| InstallError::TooMuch { host: self.name(), here: self.host.local })
    }

    /// What comes on standard error.
    pub(super) fn hear_complaint(&mut self, data: &[u8]) -> Result<(), InstallError> {
        if self.complaint.len() + data.len() > COMPLAINT_LIMIT {
            return Err(InstallError::TooMuch { host: self.name(), here: self.host.local });
        }
        self.complaint.extend_from_slice(data);
        Ok(())
    }

    /// The records, now that nothing more is to come.
    fn records(self) -> Result<Vec<Record>, InstallError> {
        let records = self.conversation.records().ok_or_else(|| self.no_answer())?;
        let records = records.map_err(|source| InstallError::malformed(self.host, source))?;
        InstallError::stopped(self.host, &records)?;
        Ok(records)
    }

    fn raw_records<T: AsRef<[u8]>>(self, make: fn(&[u8]) -> T) -> Result<Vec<RawRecord<T>>, InstallError> {
        let records = self.conversation.raw_records(make).ok_or_else(|| self.no_answer())?;
        let records = records.map_err(|source| InstallError::malformed(self.host, source))?;
        match records.iter().find(|record| record.word == "failed") {
            Some(record) => {
                let reason = plain(&public_text(record.text.as_ref()));
                Err(InstallError::stop(self.host, &record.detail, reason))
            }
            None => Ok(records),
        }
    }

    fn no_answer(&self) -> InstallError {
        if !self.ended {
            return InstallError::Lost { host: self.name(), via: None, step: self.step() };
        }
        let status = self.status.map_or_else(|| "killed".to_owned(), |code| format!("exit status {code}"));
        let complaint = plain(&String::from_utf8_lossy(&self.complaint));
        // The sudoers line of a receiver is another: what is printed for it has all.
        if self.host.sudo && !self.host.receiver && InstallError::is_of_sudo(&complaint) {
            let (host, user, here) = (self.name(), self.host.user.clone(), self.host.local);
            return InstallError::Sudo { host, here, user, said: complaint };
        }
        let tail = self.conversation.tail();
        let said = [complaint, tail].into_iter().find(|said| !said.is_empty());
        let said = said.unwrap_or_else(|| "it said nothing".to_owned());
        match self.host.receiver {
            true => InstallError::NoReceiver { host: self.name(), status, said },
            false => InstallError::NoAnswer {
                host: self.name(),
                step: self.step(),
                here: self.host.local,
                status,
                said,
            },
        }
    }

    pub(super) fn silent(&self) -> InstallError {
        let (host, here) = (self.name(), self.host.local);
        InstallError::Silent { host, here, step: self.step(), seconds: self.silence.as_secs() }
    }

    pub(super) fn too_long(&self) -> InstallError {
        let (host, here) = (self.name(), self.host.local);
        InstallError::TooLong { host, here, step: self.step(), seconds: self.whole.as_secs() }
    }

    pub(super) fn name(&self) -> String {
        self.host.name.to_string()
    }

    fn step(&self) -> String {
        self.conversation.step().unwrap_or_else(|| super::protocol::AT_THE_START.to_owned())
    }
}
