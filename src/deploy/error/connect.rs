//! What can go wrong on the way to a host.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::deploy::host_key::HostKeyError;
use crate::deploy::identity::IdentityError;
use crate::model::problem::{Blame, Diagnose, Retry};

/// Why a host cannot be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Our own key cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// It is not proven to be the host.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// Its name has no address.
    #[error("cannot look up `{address}`, the address of `{host}`")]
    Lookup {
        /// The host's name.
        host: String,
        /// Its `address`.
        address: String,
        /// Why; `None` when the name is known and has no address.
        #[source]
        source: Option<io::Error>,
    },
    /// Nothing listens there.
    #[error("`{host}` refuses connections at {at}")]
    Refused {
        /// The host's name.
        host: String,
        /// Where.
        at: SocketAddr,
    },
    /// There is no way there.
    #[error("cannot reach `{host}` at {at}")]
    Unreachable {
        /// The host's name.
        host: String,
        /// Where.
        at: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not answer in time.
    #[error("`{host}` did not answer within {seconds} s, in {stage}")]
    Timeout {
        /// The host's name.
        host: String,
        /// What was waited for.
        stage: &'static str,
        /// How long.
        seconds: u64,
    },
    /// Something else listens there.
    #[error("no SSH server answers for `{host}`: it says `{greeting}`")]
    NotSsh {
        /// The host's name.
        host: String,
        /// The first that it said; safe to show.
        greeting: String,
    },
    /// It is an SSH server that takes no connection now.
    #[error("`{host}` takes no connection now: it says `{said}`")]
    Busy {
        /// The host's name.
        host: String,
        /// What it said; safe to show.
        said: String,
    },
    /// It ended the connection before we were logged in.
    #[error("`{host}` ended the connection, in {stage}")]
    Ended {
        /// The host's name.
        host: String,
        /// What was going on.
        stage: &'static str,
        /// How.
        #[source]
        source: russh::Error,
    },
    /// The host that it is behind does not lead there.
    #[error("`{via}` does not lead to `{host}` at {address}")]
    Forward {
        /// The host's name.
        host: String,
        /// Its address and port.
        address: String,
        /// The host that it is behind.
        via: String,
        /// Why.
        #[source]
        source: russh::Error,
    },
    /// The host that it is behind cannot be had.
    #[error("`{host}` is reached via `{via}`, and that is not to be had")]
    Via {
        /// The host's name.
        host: String,
        /// The host that it is behind.
        via: String,
        /// Why.
        #[source]
        source: Arc<Self>,
    },
    /// It does not take our keys.
    #[error("`{host}` does not let `{user}` in with the key {}", tried.join(", nor with "))]
    KeyRefused {
        /// The host's name.
        host: String,
        /// The user.
        user: String,
        /// The keys that were tried, by their files; at least one.
        tried: Vec<String>,
        /// The first of them as a line for authorized_keys.
        public: String,
        /// A certificate that could not be shown, and why; safe to show.
        doubt: Option<String>,
    },
    /// It is this machine, and we may not write where certificates go.
    #[error("`{host}` is this machine, and `{user}` may not write in {directory}")]
    Rights {
        /// The host's name.
        host: String,
        /// Who we are.
        user: String,
        /// Its `directory`.
        directory: String,
    },
}

impl Diagnose for ConnectError {
    fn code(&self) -> &'static str {
        match self {
            Self::Identity(error) => error.code(),
            Self::HostKey(error) => error.code(),
            Self::Lookup { .. } => "ssh.lookup",
            Self::Refused { .. } => "ssh.refused",
            Self::Unreachable { .. } => "ssh.unreachable",
            Self::Timeout { .. } => "ssh.timeout",
            Self::NotSsh { .. } => "ssh.not-ssh",
            Self::Ended { .. } | Self::Busy { .. } => "ssh.ended",
            Self::KeyRefused { .. } => "ssh.auth",
            Self::Forward { .. } => "ssh.forward",
            Self::Rights { .. } => "deploy.rights",
            Self::Via { source, .. } => source.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::Identity(error) => error.blame(),
            Self::HostKey(error) => error.blame(),
            Self::Lookup { .. } | Self::NotSsh { .. } | Self::KeyRefused { .. } | Self::Rights { .. } => {
                Blame::Operator
            }
            Self::Refused { .. } | Self::Busy { .. } | Self::Ended { .. } | Self::Forward { .. } => {
                Blame::Host
            }
            Self::Via { source, .. } => source.blame(),
            Self::Unreachable { .. } | Self::Timeout { .. } => Blame::Network,
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Identity(error) => error.retry(),
            Self::HostKey(error) => error.retry(),
            Self::Via { source, .. } => source.retry(),
            _ => Retry::Backoff,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Identity(error) => error.hint(),
            Self::HostKey(error) => error.hint(),
            Self::Lookup { host, .. } => {
                Some(format!("set `address` in [host.{host}], or add the name to /etc/hosts here"))
            }
            Self::Refused { host, .. } => {
                Some(format!("is sshd running there? `port` in [host.{host}] says where"))
            }
            Self::Unreachable { host, .. } | Self::Timeout { host, .. } => {
                Some(format!("is it up, and does a firewall let us through to `port` of [host.{host}]?"))
            }
            Self::NotSsh { host, .. } => Some(format!("set `port` in [host.{host}] to the port of its sshd")),
            Self::Ended { .. } | Self::Busy { .. } => Some(
                "sshd may be restarting, or have too many connections (MaxStartups); its log says why".into(),
            ),
            Self::Forward { via, .. } => Some(format!(
                "is its sshd running? on `{via}`, AllowTcpForwarding must be on in sshd_config, and `restrict` in \
                 authorized_keys needs `port-forwarding` beside it; `certfleet host setup {via}` prints that line"
            )),
            Self::Via { source, .. } => source.hint(),
            Self::Rights { host, .. } => Some(format!(
                "run `systemctl enable --now certfleet-local.socket`, or certfleet as root, or set `sudo = true` in \
                 [host.{host}] (it needs a line in sudoers: `certfleet host setup {host}` prints it)"
            )),
            Self::KeyRefused { doubt: Some(doubt), .. } => {
                Some(format!("{doubt}; have the key signed again, and put the certificate there"))
            }
            Self::KeyRefused { user, public, .. } => {
                Some(format!("add this line to the authorized_keys of `{user}` there: {public}"))
            }
        }
    }
}
