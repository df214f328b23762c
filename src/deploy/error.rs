//! What can go wrong between us and a host.

mod connect;
mod put_back;
mod stop;

use std::io;

pub use connect::ConnectError;
pub use put_back::NotPutBack;
pub use stop::Stop;

use super::protocol::{AT_THE_START, Malformed, NoRandomness, Record};
use crate::model::desired::Host;
use crate::model::problem::{Blame, Diagnose};

fn through(via: Option<&str>) -> String {
    via.map_or_else(String::new, |via| format!(": so was the one to `{via}`, through which it goes"))
}

/// Whether the shell, or `env`, says that there is no sudo.
fn is_missing(said: &str) -> bool {
    said.contains("not found") || said.starts_with("env: ")
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
        /// Whether it is this machine.
        here: bool,
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
        /// Whether it is this machine.
        here: bool,
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
        /// Whether it is this machine.
        here: bool,
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
        /// Whether it is this machine.
        here: bool,
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
        /// Whether it is this machine.
        here: bool,
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
    /// Root, at its socket, gives out what is certbot's and nothing else.
    #[error(
        "root, at {}, gives out {} of `{host}` and no other folder",
        super::relay::SOCKET,
        super::CERTBOT
    )]
    OnlyCertbots {
        /// The host's name.
        host: String,
    },
    /// The answer makes no sense.
    #[error("`{host}` gave an answer that makes no sense")]
    Malformed {
        /// The host's name.
        host: String,
        /// Whether it is this machine.
        here: bool,
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
        Self::Malformed { host: host.name.to_string(), here: host.local, source }
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
                | Self::OnlyCertbots { .. }
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
            Self::Sudo { .. } => "deploy.sudo",
            Self::Stopped { what, .. } => what.code(),
            Self::OnlyCertbots { .. } => "deploy.rights",
            Self::NoReceiver { .. } | Self::TakesOnly { .. } => "deploy.receiver",
            Self::Reconnect { source, .. } => source.code(),
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::NoRandomness(_) | Self::Start { .. } => Blame::Machine,
            Self::Lost { .. } | Self::Stopped { what: Stop::Input, .. } => Blame::Network,
            Self::TakesOnly { .. } | Self::OnlyCertbots { .. } => Blame::Operator,
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
            Self::NoAnswer { step, here: true, .. } if step == AT_THE_START => {
                Some("/bin/sh must be able to run here, and have dd and eval".into())
            }
            Self::NoAnswer { step, .. } if step == AT_THE_START => {
                Some("its login shell must be able to run `sh`, with dd and eval, and no ForceCommand in between".into())
            }
            Self::Sudo { here: true, said, .. } if is_missing(said) => Some(
                "install sudo, or run `systemctl enable --now certfleet-local.socket`, or certfleet as root".into(),
            ),
            Self::Sudo { host, said, .. } if is_missing(said) => {
                Some(format!("install sudo there, or set `user = \"root\"` in [host.{host}]"))
            }
            Self::Sudo { host, user, .. } => Some(format!(
                "add this line there with `visudo -f /etc/sudoers.d/certfleet`: {}; it makes `{user}` root in all but \
                 name. Where `{user}` can do everything without root, set `sudo = false` in [host.{host}]",
                sudoers_line(user)
            )),
            Self::Silent { here: true, .. } | Self::TooLong { here: true, .. } => Some(
                "what it ran was ended, or ends by itself where root runs it; the next pass puts right what is half \
                 done. Does a disk, or sudo, wait for something?"
                    .into(),
            ),
            // A step is named as soon as our own commands run.
            Self::Silent { step, .. } if step == AT_THE_START => Some(
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
            Self::TakesOnly { .. } => {
                Some("look there yourself, with a key of your own; `import PATH` takes a copy of what certbot has".into())
            }
            Self::OnlyCertbots { .. } => {
                Some("copy that folder to where we may read it, and `import` the copy".into())
            }
            Self::TooMuch { here: true, .. } | Self::Malformed { here: true, .. } => Some(
                "what answers here is not our script: see what /bin/sh, dd and sudo are on this machine, and what they \
                 print by themselves"
                    .into(),
            ),
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
