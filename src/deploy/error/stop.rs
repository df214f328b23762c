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
