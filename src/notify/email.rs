//! Mail, by SMTP with TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::hook::{self, secret};
use super::{Channel, Error, Message, text};
use crate::http;
use crate::kind::{Kind, Section};
use crate::model::problem::plain;
use crate::secret::Secret;

mod error;
mod keys;
mod letter;
mod smtp;

pub use error::MailError;
use keys::{Encryption, Server};
pub use smtp::Step;
use smtp::{Letter, Login, Talk};

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "email",
    summary: "mail, by any SMTP server with STARTTLS or TLS",
    example: "server = \"smtp.example.org:587\"\nfrom = \"certfleet@example.org\"\nto = [\"ops@example.org\"]\nusername = \"certfleet@example.org\"\npassword = { file = \"/etc/certfleet/secrets/smtp\" }\n",
    rights: "a login that may send as `from` (an app password where the account has two factors), or none where the server takes mail from this machine",
    build,
};

#[derive(Debug)]
struct Email {
    table: String,
    server: Server,
    encryption: Encryption,
    ca: Option<PathBuf>,
    login: Option<(String, Secret)>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
}

fn build(section: &mut Section<'_>) -> Option<Arc<dyn Channel>> {
    let (server, encryption) = keys::server(section);
    let ca = section.optional("ca");
    let login = keys::login(section);
    let (from, to) = keys::addresses(section);
    let timeout = http::timeout(section, hook::TIMEOUT);
    let table = section.path();
    let (server, from, to) = (server?, from?, to?);
    Some(Arc::new(Email { table, server, encryption, ca, login: login?, from, to, timeout }))
}

#[async_trait]
impl Channel for Email {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        let failed =
            |source| Error::Mail { table: self.table.clone(), server: self.server.to_string(), source };
        let login = match &self.login {
            Some((user, password)) => {
                Some(Login { user, password: secret(&self.table, "password", password).await? })
            }
            None => None,
        };
        let (letter, id) = letter::write(message, &self.from, &self.to).map_err(failed)?;
        let letter = Letter {
            from: &self.from.email,
            to: self.to.iter().map(|mailbox| &mailbox.email).collect(),
            text: letter.formatted(),
        };
        let refused = match timeout(self.timeout, self.deliver(&letter, login.as_ref())).await {
            Ok(result) => result.map_err(failed)?,
            Err(_) => return Err(failed(MailError::Timeout(self.timeout))),
        };
        if refused.is_empty() {
            return Ok(Some(id));
        }
        Err(failed(MailError::Partly(plain(&refused.join("; ")))))
    }
}

impl Email {
    /// Those whom the server does not take it for, and why.
    async fn deliver(
        &self,
        letter: &Letter<'_>,
        login: Option<&Login<'_>>,
    ) -> Result<Vec<String>, MailError> {
        let tls = match self.encryption {
            Encryption::None => None,
            Encryption::StartTls | Encryption::Tls => {
                let config = http::tls(self.ca.as_deref()).map_err(MailError::Tls)?;
                Some(TlsConnector::from(Arc::new(config)))
            }
        };
        let mut stream = self.dial().await?;
        let name = our_name(&stream);
        if self.encryption == Encryption::StartTls {
            let mut talk = Talk::new(stream);
            talk.greeted().await?;
            let extensions = talk.hello(&name).await?;
            stream = talk.start_tls(&extensions).await?;
        }
        let Some(tls) = tls else {
            let mut talk = Talk::new(stream);
            talk.greeted().await?;
            return finish(talk, &name, letter, login).await;
        };
        let mut talk = Talk::new(tls.connect(self.server.name.clone(), stream).await?);
        if self.encryption == Encryption::Tls {
            talk.greeted().await?;
        }
        finish(talk, &name, letter, login).await
    }

    /// Connects to the first address that answers.
    async fn dial(&self) -> Result<TcpStream, MailError> {
        let found = lookup_host((self.server.host.as_str(), self.server.port)).await;
        let found: Vec<SocketAddr> = found.map_err(|error| MailError::Lookup(Some(error)))?.collect();
        let mut last = MailError::Lookup(None);
        // A silent address must not use up the time of the next.
        let share = self.timeout / u32::try_from(found.len() + 1).unwrap_or(u32::MAX);
        for at in found {
            last = match timeout(share, TcpStream::connect(at)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => MailError::Connect(at, error),
                Err(_) => MailError::Connect(at, io::ErrorKind::TimedOut.into()),
            };
        }
        Err(last)
    }
}

/// What is left to do in a talk once it is as safe as it will be.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(
    mut talk: Talk<S>,
    name: &str,
    letter: &Letter<'_>,
    login: Option<&Login<'_>>,
) -> Result<Vec<String>, MailError> {
    let extensions = talk.hello(name).await?;
    if let Some(login) = login {
        talk.login(&extensions, login).await?;
    }
    let refused = talk.hand_over(&extensions, letter).await?;
    // It is delivered, whatever comes of the farewell.
    let _ = timeout(FAREWELL, talk.quit()).await;
    Ok(refused)
}

/// What we call ourselves: our name where it is a whole one, else our address (RFC 5321 section 4.1.4).
fn our_name(stream: &TcpStream) -> String {
    let name = text::sender();
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if name.contains('.') && name.chars().all(fits) {
        return name;
    }
    match stream.local_addr().map(|address| address.ip().to_canonical()) {
        Ok(IpAddr::V6(address)) => format!("[IPv6:{address}]"),
        Ok(IpAddr::V4(address)) => format!("[{address}]"),
        Err(_) => "localhost".to_owned(),
    }
}

const FAREWELL: Duration = Duration::from_secs(1);
