//! What went wrong, as data: said once by the error, shown the same everywhere.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Whose move it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Blame {
    /// certs.toml, a secret, a right: somebody here must change something.
    Operator,
    /// The certificate authority.
    Issuer,
    /// The DNS provider or a name server.
    Dns,
    /// The host that certificates go to.
    Host,
    /// Something between us and them.
    Network,
    /// This machine: disk, permissions, clock.
    Machine,
}

/// When another attempt makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Retry {
    /// By our own schedule: 1, 10, 100 minutes, then daily.
    Backoff,
    /// Not before the time that the other side named.
    NotBefore(Timestamp),
    /// Only after certs.toml (or what it names) has changed, or with `--force`.
    AfterChange,
}

/// What the engine knows of an error: implemented by the error enum of each operation.
pub trait Diagnose: std::error::Error {
    /// A stable code, as `dns.not-propagated`; README explains each.
    fn code(&self) -> &'static str;
    /// Whose move it is.
    fn blame(&self) -> Blame;
    /// When another attempt makes sense.
    fn retry(&self) -> Retry {
        Retry::Backoff
    }
    /// One command to run or one key to change.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// An error as stored and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// The stable code.
    pub code: String,
    /// Whose move it is.
    pub blame: Blame,
    /// When another attempt makes sense.
    pub retry: Retry,
    /// What failed, without control characters.
    pub message: String,
    /// Why, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    /// The problem that an error describes, with its chain of causes.
    pub fn of(error: &dyn Diagnose) -> Self {
        let mut causes = Vec::new();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            let text = plain(&cause.to_string());
            if causes.last() != Some(&text) {
                causes.push(text);
            }
            source = cause.source();
        }
        Self {
            code: error.code().to_owned(),
            blame: error.blame(),
            retry: error.retry(),
            message: plain(&error.to_string()),
            causes,
            hint: error.hint(),
        }
    }

    /// Message and causes in one line.
    pub fn one_line(&self) -> String {
        std::iter::once(self.message.as_str())
            .chain(self.causes.iter().map(String::as_str))
            .collect::<Vec<_>>()
            .join(": ")
    }
}

/// Text from outside made safe to show: control and direction characters escaped, capped.
pub fn plain(text: &str) -> String {
    // Enough for any honest message; a hostile one is cut.
    const LIMIT: usize = 600;
    let mut shown = String::new();
    for (count, c) in text.trim().chars().enumerate() {
        if count == LIMIT {
            shown.push('…');
            break;
        }
        match c {
            '\n' | '\r' | '\t' => shown.push(' '),
            c if c.is_control() || is_format(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// A text of several lines from outside made safe to show: as [`plain`], but lines stay lines, and all is kept.
pub fn clean(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.trim_end().chars() {
        match c {
            '\n' => shown.push(c),
            '\r' => {}
            '\t' => shown.push(' '),
            c if c.is_control() || is_format(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    shown
}

/// Characters that are invisible or turn the direction of what follows.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn hostile_text_is_data() {
        assert_eq!(plain("a\u{1b}[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c d");
        assert_eq!(plain(&"x".repeat(10_000)).chars().count(), 601);
    }
}
