//! Why a look showed no certificate.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustls::{AlertDescription, InvalidMessage};

use super::Question;
use super::stream::Watched;
use crate::model::cert::ParseError;
use crate::model::name::Domain;
use crate::model::problem::{Blame, Diagnose, plain};

/// How far a look came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Opening the connection.
    Connect,
    /// The TLS handshake.
    Handshake,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connection",
            Self::Handshake => "TLS handshake",
        })
    }
}

/// Why a look showed no certificate.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// Nothing listens there.
    #[error("{0} refuses connections")]
    Refused(SocketAddr),
    /// There is no way to that address, from here or at all.
    #[error("there is no route to {address}")]
    NoRoute {
        /// The server.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection failed in another way.
    #[error("cannot connect to {address}")]
    Connect {
        /// The server.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("no {step} with {address} within {} s", after.as_secs_f64().ceil())]
    Timeout {
        /// The server.
        address: SocketAddr,
        /// How far it came.
        step: Step,
        /// The limit.
        after: Duration,
    },
    /// The connection was cut (TCP reset).
    #[error("{0} reset the connection during the TLS handshake")]
    Reset(SocketAddr),
    /// The connection was closed without a certificate.
    #[error("{0} closed the connection during the TLS handshake")]
    Closed(SocketAddr),
    /// Something else than TLS is spoken there.
    #[error("{address} does not speak TLS: it answers {answer:?}")]
    NotTls {
        /// The server.
        address: SocketAddr,
        /// How its answer begins, made safe to show.
        answer: String,
    },
    /// More bytes than an honest handshake has.
    #[error("{0} sends more than a TLS handshake may have")]
    TooMuch(SocketAddr),
    /// The server or we gave up on the handshake.
    #[error("the TLS handshake with {address} for `{name}` failed")]
    Handshake {
        /// The server.
        address: SocketAddr,
        /// The name asked for.
        name: Domain,
        /// Why.
        #[source]
        source: Box<rustls::Error>,
    },
    /// The server has nothing for that name.
    #[error("{address} has no certificate for `{name}`")]
    NoCertificate {
        /// The server.
        address: SocketAddr,
        /// The name asked for.
        name: Domain,
    },
    /// What it serves cannot be read.
    #[error("what {address} serves for `{name}` cannot be read")]
    BadCertificate {
        /// The server.
        address: SocketAddr,
        /// The name asked for.
        name: Domain,
        /// Why.
        #[source]
        source: ParseError,
    },
}

impl LookError {
    pub(super) fn connecting(address: SocketAddr, error: io::Error) -> Self {
        use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
        match error.kind() {
            ConnectionRefused => Self::Refused(address),
            HostUnreachable | NetworkUnreachable => Self::NoRoute { address, source: error },
            _ => Self::Connect { address, source: error },
        }
    }

    pub(super) fn shaking_hands(question: &Question<'_>, error: io::Error, watched: &Watched) -> Self {
        let address = question.address;
        let name = question.name.clone();
        if watched.is_flooded() {
            return Self::TooMuch(address);
        }
        if watched.is_not_tls() {
            let head = String::from_utf8_lossy(watched.head());
            return Self::NotTls { address, answer: plain(head.lines().next().unwrap_or_default()) };
        }
        let kind = error.kind();
        match error.downcast::<rustls::Error>() {
            Ok(rustls::Error::AlertReceived(AlertDescription::UnrecognisedName))
            | Ok(rustls::Error::NoCertificatesPresented) => Self::NoCertificate { address, name },
            Ok(rustls::Error::InvalidMessage(
                InvalidMessage::HandshakePayloadTooLarge
                | InvalidMessage::CertificatePayloadTooLarge
                | InvalidMessage::MessageTooLarge,
            )) => Self::TooMuch(address),
            Ok(source) => Self::Handshake { address, name, source: Box::new(source) },
            Err(_) if kind == io::ErrorKind::UnexpectedEof => Self::Closed(address),
            Err(_) if matches!(kind, io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Self::Reset(address)
            }
            Err(source) => Self::Connect { address, source },
        }
    }
}

impl Diagnose for LookError {
    fn code(&self) -> &'static str {
        match self {
            Self::Refused(_) => "probe.refused",
            Self::NoRoute { .. } => "probe.no-route",
            Self::Connect { .. } => "probe.connect",
            Self::Timeout { .. } => "probe.timeout",
            Self::Reset(_) => "probe.reset",
            Self::NotTls { .. } => "probe.not-tls",
            Self::Closed(_) | Self::Handshake { .. } => "probe.handshake",
            Self::TooMuch(_) => "probe.too-much",
            Self::NoCertificate { .. } => "probe.no-certificate",
            Self::BadCertificate { .. } => "probe.bad-certificate",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoRoute { .. } | Self::Connect { .. } | Self::Timeout { .. } => Blame::Network,
            _ => Blame::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Refused(address) => format!(
                "see whether the web server runs and listens there: `ss -ltn 'sport = :{}'` on the host",
                address.port()
            ),
            Self::NoRoute { .. } => {
                "set `verify` of the host to addresses that this machine can reach".to_owned()
            }
            Self::Timeout { .. } => {
                "check the firewall, or set `verify` of the host to where it listens".to_owned()
            }
            Self::NotTls { address, .. } => {
                format!("add `ssl` to `listen {}` in the web server's configuration", address.port())
            }
            Self::NoCertificate { address, name }
            | Self::BadCertificate { address, name, .. }
            | Self::Handshake { address, name, .. } => {
                format!("look for yourself: `openssl s_client -connect {address} -servername {name}`")
            }
            Self::Connect { .. } | Self::Reset(_) | Self::Closed(_) | Self::TooMuch(_) => return None,
        })
    }
}
