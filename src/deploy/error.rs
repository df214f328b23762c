//! What can go wrong between us and a host.

mod put_back;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

pub use put_back::NotPutBack;
pub use stop::Stop;

use super::host_key::HostKeyError;
use super::identity::IdentityError;
use super::protocol::{Malformed, NoRandomness, Record};
use crate::model::desired::Host;
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

fn through(via: Option<&str>) -> String {
    via.map_or_else(String::new, |via| format!(": so was the one to `{via}`, through which it goes"))
}

/// The line of a sudoers file that lets a user run transactions. Whoever may run `sh` may do everything.
pub fn sudoers_line(user: &str) -> String {
    format!("{user} ALL=(root) NOPASSWD: /bin/sh, /usr/bin/sh")
}

/// Why a transaction has no answer. Of what happened on the host it is only known that the web server there
/// can start: the next pass looks, and goes on.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// This machine has no random numbers.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The host opens no channel on the connection.
    #[error("`{host}` opens no session on the connection")]
    Channel {
        /// The host's name.
        host: String,
        /// Why.
        #[source]
        source: russh::Error,
    },
    /// This machine does not start the shell.
    #[error("cannot start /bin/sh for `{host}`, which is this machine")]
    Start {
        /// The host's name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Root does not answer at its socket.
    #[error("root, at {}, does not answer for `{host}`", super::relay::SOCKET)]
    Socket {
        /// The host's name.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The host runs no commands for this user.
    #[error("`{host}` runs no commands for `{user}`")]
    NoCommand {
        /// The host's name.
        host: String,
        /// The user.
        user: String,
    },
    /// Nothing was heard for long in the middle of it.
    #[error("`{host}` said nothing for {seconds} s, in {step}")]
    Silent {
        /// The host's name.
        host: String,
        /// The step it was in.
        step: String,
        /// How long.
        seconds: u64,
    },
    /// It did not end.
    #[error("`{host}` was not done after {seconds} s, in {step}")]
    TooLong {
        /// The host's name.
        host: String,
        /// The step it was in.
        step: String,
        /// How long.
        seconds: u64,
    },
    /// More was said than any answer takes.
    #[error("`{host}` said more than any answer takes")]
    TooMuch {
        /// The host's name.
        host: String,
    },
    /// The connection is lost.
    #[error("the connection to `{host}` was lost in {step}{}", through(via.as_deref()))]
    Lost {
        /// The host's name.
        host: String,
        /// The host that it is behind, where the connection to that is lost.
        via: Option<String>,
        /// The step it was in.
        step: String,
    },
    /// The command ended without an answer.
    #[error("`{host}` gave no answer ({status}, in {step}): {said}")]
    NoAnswer {
        /// The host's name.
        host: String,
        /// The step it was in.
        step: String,
        /// How the command ended.
        status: String,
        /// The last that was said there; safe to show.
        said: String,
    },
    /// The user may not become root there.
    #[error("`{user}` cannot become root on `{host}`: {said}")]
    Sudo {
        /// The host's name.
        host: String,
        /// The user.
        user: String,
        /// What sudo, or the lack of it, said; safe to show.
        said: String,
    },
    /// What should take the request there does not.
    #[error("certfleet-receive on `{host}` gave no answer ({status}): {said}")]
    NoReceiver {
        /// The host's name.
        host: String,
        /// How the command ended.
        status: String,
        /// The last that was said there; safe to show.
        said: String,
    },
    /// Our key brings certificates there and cannot look.
    #[error("`{host}` takes certificates only (`receiver = true`)")]
    TakesOnly {
        /// The host's name.
        host: String,
    },
    /// The answer makes no sense.
    #[error("`{host}` gave an answer that makes no sense")]
    Malformed {
        /// The host's name.
        host: String,
        /// Why not.
        #[source]
        source: Malformed,
    },
    /// The transaction stopped itself.
    #[error("`{host}`: {}: {reason}", what.as_text())]
    Stopped {
        /// The host's name.
        host: String,
        /// At what.
        what: Stop,
        /// Why; safe to show.
        reason: String,
    },
    /// The connection was lost when a certificate had to be put back, and could not be made again.
    #[error("the connection to `{host}` was lost, and not to be had again")]
    Reconnect {
        /// The host's name.
        host: String,
        /// Why not.
        #[source]
        source: Box<ConnectError>,
    },
}

impl InstallError {
    /// The stop that a transaction's records tell of.
    pub(super) fn stopped(host: &Host, records: &[Record]) -> Result<(), Self> {
        let Some(record) = records.iter().find(|record| record.word == "failed") else { return Ok(()) };
        Err(Self::stop(host, &record.version, record.text.clone()))
    }

    /// The stop that a host names.
    pub(super) fn stop(host: &Host, at: &str, reason: String) -> Self {
        let Some(what) = Stop::named(at) else {
            return Self::malformed(host, Malformed::Word(at.to_owned()));
        };
        Self::Stopped { host: host.name.to_string(), what, reason }
    }

    /// Whether a command that should have run by sudo was stopped by it.
    pub(super) fn is_of_sudo(said: &str) -> bool {
        // "sudo: a password is required", "sudo: sorry, you must have a tty", "sh: sudo: not found";
        // "Sorry, user x is not allowed to execute", "x is not in the sudoers file".
        ["sudo", "Sorry, user ", "is not allowed to execute"].iter().any(|words| said.contains(words))
    }

    pub(super) fn malformed(host: &Host, source: Malformed) -> Self {
        Self::Malformed { host: host.name.to_string(), source }
    }
}

impl InstallError {
    /// Whether the host may serve something else than before, for all that is known.
    pub fn may_have_switched(&self) -> bool {
        !matches!(
            self,
            Self::NoRandomness(_)
                | Self::Channel { .. }
                | Self::Start { .. }
                | Self::NoCommand { .. }
                | Self::Sudo { .. }
                | Self::TakesOnly { .. }
                | Self::Stopped { .. }
        )
    }
}

impl Diagnose for InstallError {
    fn code(&self) -> &'static str {
        match self {
            Self::NoRandomness(_) => "machine.random",
            Self::Channel { .. } => "ssh.channel",
            Self::Start { .. } | Self::Socket { .. } => "deploy.start",
            Self::NoCommand { .. } => "ssh.command",
            Self::Silent { .. } | Self::TooLong { .. } => "deploy.timeout",
            Self::TooMuch { .. } | Self::Malformed { .. } => "deploy.answer",
            Self::Lost { .. } => "ssh.lost",
            Self::NoAnswer { .. } => "deploy.no-answer",
            Self::Sudo { .. } => "ssh.sudo",
            Self::Stopped { what, .. } => what.code(),
            Self::NoReceiver { .. } | Self::TakesOnly { .. } => "deploy.receiver",
            Self::Reconnect { source, .. } => source.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoRandomness(_) | Self::Start { .. } => Blame::Machine,
            Self::Lost { .. } | Self::Stopped { what: Stop::Input, .. } => Blame::Network,
            Self::TakesOnly { .. } => Blame::Operator,
            Self::Reconnect { source, .. } => source.blame(),
            _ => Blame::Host,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Channel { .. } => Some("MaxSessions in its sshd_config may be too small".into()),
            Self::NoCommand { user, .. } => Some(format!(
                "sshd_config or authorized_keys allow `{user}` no commands (ForceCommand, internal-sftp)"
            )),
            Self::NoAnswer { step, .. } if step == super::protocol::AT_THE_START => {
                Some("its login shell must be able to run `sh`, with dd and eval, and no ForceCommand in between".into())
            }
            // By the shell or by `env`.
            Self::Sudo { host, said, .. } if said.contains("not found") || said.starts_with("env: ") => {
                Some(format!("install sudo there, or set `user = \"root\"` in [host.{host}]"))
            }
            Self::Sudo { host, user, .. } => Some(format!(
                "add this line there with `visudo -f /etc/sudoers.d/certfleet`: {}; it makes `{user}` root in all but \
                 name. Where `{user}` can do everything without root, set `sudo = false` in [host.{host}]",
                sudoers_line(user)
            )),
            // A step is named as soon as our own commands run.
            Self::Silent { step, .. } if step == super::protocol::AT_THE_START => Some(
                "does a login script there (`.bashrc`, `.profile`) read its input or start another shell, or sudo wait?"
                    .into(),
            ),
            Self::NoAnswer { .. } | Self::Silent { .. } | Self::TooLong { .. } | Self::Lost { .. } => Some(
                "once it has begun to switch the host goes on by itself; the answer is in \
                 .certfleet/.last-answer in its directory"
                    .into(),
            ),
            Self::Socket { .. } => {
                Some("`journalctl -u certfleet-local.socket -u 'certfleet-local@*'` says why".into())
            }
            Self::Stopped { host, what, .. } => Some(what.hint(host)),
            Self::NoReceiver { host, .. } => Some(Stop::Receiver.hint(host)),
            Self::TakesOnly { .. } => Some("look there yourself, with a key of your own".into()),
            Self::TooMuch { .. } | Self::Malformed { .. } => Some(
                "whatever answers there is not our script: look for ForceCommand in its sshd_config, `command=` in \
                 authorized_keys, and login scripts that never end"
                    .into(),
            ),
            Self::Reconnect { source, .. } => source.hint(),
            Self::NoRandomness(_) | Self::Start { .. } => None,
        }
    }
}
