//! What people are told: how bad it is, of what, what happens next, what to do; to whom, and when again.
//!
//! [`findings`] are what is wrong by the facts; those with one cause are one [`Condition`]; a condition that lasts
//! is an [`Alert`], and [`step`] is the ladder that it climbs. All of it is pure: what was told is a fact of
//! [`Memory`], which the store keeps.

mod condition;
mod expiry;
mod finding;
mod hosts;
mod ladder;
mod letters;
mod memory;
mod rollouts;
mod watching;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::name::{CertName, HostName};
pub use condition::{Condition, conditions};
pub use expiry::{level, level_of, limits};
pub use finding::{Circumstances, Ending, Finding, findings};
pub use ladder::{next_step, over_at, step};
pub use letters::{delivered, due_letters, failed, next_letter, reached};
pub use memory::{Ack, AckError, Affected, Alert, Letter, Memory, OffClock, Told, Trouble};
pub use watching::{JOURNAL, compared};

/// How bad it is, from bad to worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Somebody should look at it in the next days.
    Warning,
    /// Somebody has to act.
    Critical,
    /// Visitors see errors, or will very soon.
    Emergency,
}

/// Why a notice is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Occasion {
    /// It is new.
    Raised,
    /// It got worse.
    Worsened,
    /// It goes on, and its period is over.
    Repeated,
    /// Nobody acknowledged it, so that this channel is told too.
    Escalated,
    /// It is over.
    Over,
    /// A person tries the channel.
    Test,
}

/// One thing that a notice speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Subject {
    /// The certificate, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertName>,
    /// The host, if it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostName>,
    /// What is so, with names, dates, zone and days left; without control characters, but otherwise
    /// as hostile as its source: a channel escapes it.
    pub text: String,
}

/// One message to people: everything that one cause has led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Notice {
    /// The alert's own, short, the same for its whole life: what `alert ack` takes.
    pub alert: String,
    /// Why it is sent.
    pub occasion: Occasion,
    /// How bad it is; of one that is over, how bad it was.
    pub level: Level,
    /// When this was found.
    pub at: Timestamp,
    /// When the alert began.
    pub since: Timestamp,
    /// The stable code of the condition, as `served.expires`; README explains each.
    pub code: String,
    /// All of it in one line.
    pub title: String,
    /// What it is about; a grouped notice names at most fifty.
    pub subjects: Vec<Subject>,
    /// How many more there are than it names.
    #[serde(default)]
    pub more: usize,
    /// Why it is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What happens next, and when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// The command to run, or what else to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}
