//! Mail, by SMTP with TLS.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::Mailbox;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};

use super::hook::{self, secret};
use super::{Channel, Error, Message};
use crate::kind::{Kind, Section};
use crate::secret::Secret;

mod error;
mod keys;
mod letter;

pub use error::MailError;
use keys::{Encryption, Server};

/// The table entry.
pub const KIND: Kind<dyn Channel> = Kind {
    name: "email",
    summary: "mail, by any SMTP server with STARTTLS or TLS",
    example: "server = \"smtp.example.org:587\"\nfrom = \"certfleet@example.org\"\nto = [\"ops@example.org\"]\nusername = \"certfleet@example.org\"\npassword = { file = \"/etc/certfleet/secrets/smtp\" }\n",
    rights: "a login that may send as `from`, or none where the server takes mail from this machine",
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
    let timeout = crate::http::timeout(section, hook::TIMEOUT);
    let table = section.path();
    let (server, from, to) = (server?, from?, to?);
    Some(Arc::new(Email { table, server, encryption, ca, login: login?, from, to, timeout }))
}

#[async_trait]
impl Channel for Email {
    async fn send(&self, message: &Message) -> Result<Option<String>, Error> {
        let failed =
            |source| Error::Mail { table: self.table.clone(), server: self.server.to_string(), source };
        let credentials = match &self.login {
            Some((user, password)) => {
                let password = secret(&self.table, "password", password).await?;
                Some(Credentials::new(user.clone(), password.to_string()))
            }
            None => None,
        };
        let (letter, id) = letter::write(message, &self.from, &self.to).map_err(failed)?;
        let transport = self.transport(credentials).map_err(failed)?;
        // lettre's own limit is for the connection only.
        match tokio::time::timeout(self.timeout, transport.send(letter)).await {
            Ok(Ok(_)) => Ok(Some(id)),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(_) => Err(failed(MailError::Timeout(self.timeout))),
        }
    }
}

impl Email {
    fn transport(
        &self,
        credentials: Option<Credentials>,
    ) -> Result<AsyncSmtpTransport<Tokio1Executor>, MailError> {
        let tls = match self.encryption {
            Encryption::None => Tls::None,
            Encryption::StartTls => Tls::Required(self.tls()?),
            Encryption::Tls => Tls::Wrapper(self.tls()?),
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.server.host)
            .port(self.server.port)
            .timeout(Some(self.timeout))
            .tls(tls);
        Ok(match credentials {
            Some(credentials) => builder.credentials(credentials).build(),
            None => builder.build(),
        })
    }

    fn tls(&self) -> Result<TlsParameters, MailError> {
        let mut builder = TlsParameters::builder(self.server.host.clone());
        if let Some(path) = &self.ca {
            let pem = std::fs::read(path).map_err(|source| MailError::Ca(path.clone(), source))?;
            builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(MailError::Tls)?);
        }
        builder.build().map_err(MailError::Tls)
    }
}
