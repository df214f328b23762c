//! At what a transaction stopped itself.

/// At what a transaction stopped itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Another transaction is under way.
    Lock,
    /// A program is missing.
    Tools,
    /// The host's `directory` is not safe to use.
    Directory,
    /// The new files could not be written: disk full, read-only.
    Staging,
    /// A link could not be renamed, or put back.
    Switch,
    /// The input did not arrive as it was sent.
    Input,
    /// What root allows on this machine is something else.
    Refused,
    /// The receiver there is set up for something else, or is of another version.
    Receiver,
}

impl Stop {
    /// By the word of the script.
    pub(super) fn named(word: &str) -> Option<Self> {
        Some(match word {
            "lock" => Self::Lock,
            "tools" => Self::Tools,
            "directory" => Self::Directory,
            "staging" => Self::Staging,
            "switch" => Self::Switch,
            "input" => Self::Input,
            "refused" => Self::Refused,
            "receiver" => Self::Receiver,
            _ => return None,
        })
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Lock => "deploy.lock",
            Self::Tools => "deploy.tools",
            Self::Directory => "deploy.directory",
            Self::Staging => "deploy.staging",
            Self::Switch => "deploy.switch",
            Self::Input => "deploy.input",
            Self::Refused => "deploy.rights",
            Self::Receiver => "deploy.receiver",
        }
    }

    /// What to do about it; what is to be done to a path or a package is in the reason.
    pub(super) fn hint(self, host: &str) -> String {
        match self {
            Self::Lock => {
                "let it end; if it hangs, look there what that process waits for: the lock goes with it"
                    .into()
            }
            Self::Tools => format!("install it on `{host}`; the next pass goes on by itself"),
            Self::Directory => format!(
                "`directory` of [host.{host}] has to be a real directory that its user may write to, and that nobody \
                 else can change"
            ),
            Self::Staging => "make room, or the file system writable".into(),
            Self::Switch => {
                "see what keeps it from being renamed (disk, rights); every pass tries to put it right".into()
            }
            Self::Input => {
                "the next pass sends it again; if that is lost too, what is between us and its sshd?".into()
            }
            Self::Refused => "`journalctl -u 'certfleet-local@*'` has root's side of it".into(),
            Self::Receiver => format!(
                "`certfleet host setup {host}` prints all that is needed there: the script, its configuration, and the \
                 line of authorized_keys with `command=`"
            ),
        }
    }

    pub(super) fn as_text(self) -> &'static str {
        match self {
            Self::Lock => "another transaction is under way, nothing was changed",
            Self::Tools => "a program is missing, nothing was changed",
            Self::Directory => "its directory cannot be used, nothing was changed",
            Self::Staging => "the new files cannot be written, what is in use was not changed",
            Self::Switch => "the new version could not be put in place",
            Self::Input => "what was sent did not arrive as it was sent, nothing was changed",
            Self::Receiver => "certfleet-receive there does not take it, nothing was changed",
            Self::Refused => "root does not allow it, nothing was changed",
        }
    }
}
