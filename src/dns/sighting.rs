//! What name servers say of a record, and what is said of those that lag.

use std::fmt;
use std::time::Duration;

use crate::model::problem::plain;

/// What one server says of a TXT record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// The server: name and address, or address and port.
    pub server: String,
    /// What it says.
    pub view: View,
}

/// What an authoritative server, or a resolver, says of a TXT record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// It has all the values.
    With,
    /// It lacks at least one.
    Without,
    /// It answers without authority (RFC 1912 section 2.8), or something on the way answers.
    Lame,
    /// It answers with this response code.
    Code(String),
    /// No answer in time.
    Silent,
    /// The network says no.
    Unreachable(String),
    /// Its answer is no DNS message.
    Garbled,
}

/// The servers that do not answer as they should, at the deadline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lagging {
    /// The name that was asked for.
    pub owner: String,
    /// How long was waited.
    pub waited: Duration,
    /// The servers, each with the last that was seen of it.
    pub servers: Vec<Sighting>,
}

impl std::error::Error for Lagging {}

impl fmt::Display for Lagging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to know whom to ask.
        const SHOWN: usize = 3;
        let owner = plain(self.owner.trim_end_matches('.'));
        for (at, Sighting { server, view }) in self.servers.iter().take(SHOWN).enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            match view {
                View::With => write!(f, "{server} answers with the value for {owner}")?,
                View::Without => write!(f, "{server} still answers without the value for {owner}")?,
                View::Lame => write!(f, "{server} still answers without authority for {owner}")?,
                View::Code(code) => write!(f, "{server} still answers {code} for {owner}")?,
                View::Silent => write!(f, "{server} still does not answer")?,
                View::Unreachable(why) => write!(f, "{server} still cannot be reached ({why})")?,
                View::Garbled => write!(f, "{server} still answers with something that is not DNS")?,
            }
        }
        if let Some(more @ 1..) = self.servers.len().checked_sub(SHOWN) {
            write!(f, " and {more} more")?;
        }
        // Rounded: the last try may end a few milliseconds late.
        write!(f, " after {} s", self.waited.as_secs_f64().round())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(server: &str, view: View) -> Sighting {
        Sighting { server: server.to_owned(), view }
    }

    #[test]
    fn many_lagging_servers_are_counted() {
        let lagging = Lagging {
            owner: "_acme-challenge.a.example.".to_owned(),
            waited: Duration::from_secs(1),
            servers: (1..=5).map(|n| sighting(&format!("ns{n}"), View::Silent)).collect(),
        };
        assert!(lagging.to_string().ends_with("ns3 still does not answer and 2 more after 1 s"));
    }
}
