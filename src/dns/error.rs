//! What can go wrong with DNS, and what people can do about it.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_resolver::net::NetError;

use super::key::KeyError;
use super::propagation::{Sighting, View};
use crate::model::problem::{Blame, Diagnose, Retry, plain};
use crate::secret::SecretError;

/// Why a challenge record could not be placed, written or seen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a name that DNS can carry.
    #[error("`{}` is not a DNS name", plain(.name))]
    BadName {
        /// The text.
        name: String,
        /// Why not.
        source: ProtoError,
    },
    /// The resolver cannot be set up.
    #[error("the name servers of this machine cannot be found out")]
    Resolver(#[source] Box<NetError>),
    /// The resolver gave no usable answer.
    #[error("cannot look up the {kind} record of `{}`", plain(.name))]
    Lookup {
        /// The name.
        name: String,
        /// The record type.
        kind: String,
        /// Why not.
        source: Box<NetError>,
    },
    /// The resolver gave no answer at all within our deadline.
    #[error("no answer for the {kind} record of `{}` within {} s", plain(.name), .within.as_secs())]
    LookupTimeout {
        /// The name.
        name: String,
        /// The record type.
        kind: String,
        /// How long was waited.
        within: Duration,
    },
    /// A chain of CNAME records that comes back to itself.
    #[error("the CNAME records from `{}` go round in a circle: {}", plain(.name), plain(&.via.join(" → ")))]
    CnameLoop {
        /// Where it starts.
        name: String,
        /// The chain, with the repeated name at the end.
        via: Vec<String>,
    },
    /// A chain of CNAME records too long to be meant.
    #[error("more than {limit} CNAME records in a row from `{}`: {}", plain(.name), plain(&.via.join(" → ")))]
    CnameDepth {
        /// Where it starts.
        name: String,
        /// The chain as far as it was followed.
        via: Vec<String>,
        /// How many are followed.
        limit: usize,
    },
    /// No zone has the name.
    #[error("no DNS zone has the name `{}`", plain(.0))]
    NoZone(String),
    /// A zone without NS records.
    #[error("the zone `{}` has no name servers", plain(.0))]
    NoNameServer(String),
    /// A name server that has no address.
    #[error("the name server `{}` of `{}` has no address", plain(.server), plain(.zone))]
    NoAddress {
        /// The zone.
        zone: String,
        /// The name server.
        server: String,
    },
    /// A name server with no address that this machine has a route to.
    #[error("this machine has no route to the name server `{}` of `{}`", plain(.server), plain(.zone))]
    NoRoute {
        /// The zone.
        zone: String,
        /// The name server.
        server: String,
    },
    /// Not every name server answered with the values in time.
    #[error("the DNS record did not reach all name servers of `{}`", plain(.zone))]
    NotPropagated {
        /// The zone.
        zone: String,
        /// The account, for the hint.
        account: String,
        /// Who lags.
        source: Lagging,
    },
    /// Servers that the zone names as its own answered without authority.
    #[error("not all name servers of `{}` are in charge of it", plain(.zone))]
    Lame {
        /// The zone.
        zone: String,
        /// The account, for the hint.
        account: String,
        /// Who is lame.
        source: Lagging,
    },
    /// The secret of the TSIG key cannot be had.
    #[error("cannot read the secret of the TSIG key `{key}`")]
    Secret {
        /// The key's name.
        key: String,
        /// Why not.
        source: SecretError,
    },
    /// The secret is there and is no TSIG key.
    #[error("the secret of the TSIG key `{key}` is not usable")]
    SecretFormat {
        /// The key's name.
        key: String,
        /// Why not.
        source: KeyError,
    },
    /// The update cannot be written or signed.
    #[error("cannot make the update of the zone `{}`", plain(.zone))]
    Encode {
        /// The zone.
        zone: String,
        /// Why not.
        source: ProtoError,
    },
    /// The address of the server that takes updates cannot be found.
    #[error("cannot find the address of the DNS server `{server}`")]
    ServerAddress {
        /// The server, as in certs.toml.
        server: String,
        /// Why not.
        source: io::Error,
    },
    /// No connection to the server that takes updates.
    #[error("cannot connect to the DNS server `{server}`")]
    Connect {
        /// The server, as in certs.toml.
        server: String,
        /// Why not, of the last address that was tried.
        source: io::Error,
    },
    /// The connection broke before the answer.
    #[error("the connection to the DNS server `{server}` broke before it answered")]
    Broken {
        /// The server, as in certs.toml.
        server: String,
        /// How.
        source: io::Error,
    },
    /// No answer in time.
    #[error("the DNS server `{server}` did not answer within {} s", .within.as_secs())]
    Timeout {
        /// The server, as in certs.toml.
        server: String,
        /// How long was waited.
        within: Duration,
    },
    /// The answer is no DNS message, or not to our update.
    #[error("the DNS server `{server}` answered with something else than an answer to our update")]
    BadReply {
        /// The server, as in certs.toml.
        server: String,
    },
    /// "Done", but without a signature: it may be from anybody.
    #[error("the DNS server `{server}` did not sign its answer")]
    UnsignedReply {
        /// The server, as in certs.toml.
        server: String,
    },
    /// "Done", but with a signature that is not of our key.
    #[error("the answer of the DNS server `{server}` has a wrong signature")]
    ForgedReply {
        /// The server, as in certs.toml.
        server: String,
    },
    /// TSIG error BADKEY.
    #[error("the DNS server `{server}` does not know the TSIG key `{key}` with {algorithm}")]
    TsigBadKey {
        /// The server, as in certs.toml.
        server: String,
        /// The key's name.
        key: String,
        /// Its algorithm.
        algorithm: String,
    },
    /// TSIG error BADSIG.
    #[error("the DNS server `{server}` has another secret for the TSIG key `{key}`")]
    TsigBadSignature {
        /// The server, as in certs.toml.
        server: String,
        /// The key's name.
        key: String,
    },
    /// TSIG error BADTIME.
    #[error("the clock of the DNS server `{server}` is {} s {} this machine's", .ahead.unsigned_abs(), if *.ahead < 0 { "behind" } else { "ahead of" })]
    TsigBadTime {
        /// The server, as in certs.toml.
        server: String,
        /// How far its clock is ahead of ours, in seconds.
        ahead: i64,
    },
    /// Another TSIG error.
    #[error("the DNS server `{server}` refuses the signature with TSIG error {code}")]
    TsigOther {
        /// The server, as in certs.toml.
        server: String,
        /// The number (RFC 8945 section 3).
        code: u16,
    },
    /// NOTAUTH without a TSIG error.
    #[error("the DNS server `{server}` is not in charge of the zone `{}`", plain(.zone))]
    NotAuthoritative {
        /// The server, as in certs.toml.
        server: String,
        /// The zone.
        zone: String,
    },
    /// REFUSED.
    #[error("the DNS server `{server}` does not let the key `{key}` change TXT of `{}` in `{}`", plain(.owner), plain(.zone))]
    Refused {
        /// The server, as in certs.toml.
        server: String,
        /// The key's name.
        key: String,
        /// The (first) owner name of the update.
        owner: String,
        /// The zone.
        zone: String,
    },
    /// NOTZONE, or seen before asking: the name is not in the zone.
    #[error("`{}` is not in the zone `{}`", plain(.owner), plain(.zone))]
    NotInZone {
        /// The (first) owner name of the update.
        owner: String,
        /// The zone.
        zone: String,
    },
    /// Another response code.
    #[error("the DNS server `{server}` answered the update of `{}` with {code}", plain(.zone))]
    Rejected {
        /// The server, as in certs.toml.
        server: String,
        /// The zone.
        zone: String,
        /// The response code's name.
        code: String,
    },
    /// The change was given up without an answer: the program is ending, or a provider panicked.
    #[error("the DNS change was given up half-way")]
    Interrupted,
}

impl Error {
    /// Whether a server (or program) looked at the changes and said no: fewer of them at once may
    /// then be welcome. Without an answer, or without a key, they are not.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(
            self,
            // Knot says BADKEY where an acl does not allow one of the changes.
            Self::TsigBadKey { .. }
                | Self::NotAuthoritative { .. }
                | Self::Refused { .. }
                | Self::NotInZone { .. }
                | Self::Rejected { .. }
                | Self::BadName { .. }
                | Self::Encode { .. }
        )
    }
}

impl Diagnose for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::BadName { .. } => "dns.bad-name",
            Self::Resolver(_) => "dns.resolver",
            Self::Lookup { .. } | Self::LookupTimeout { .. } => "dns.lookup",
            Self::CnameLoop { .. } | Self::CnameDepth { .. } => "dns.cname-loop",
            Self::NoZone(_) => "dns.no-zone",
            Self::NoNameServer(_) | Self::NoAddress { .. } => "dns.no-name-server",
            Self::NoRoute { .. } => "dns.no-route",
            Self::NotPropagated { .. } => "dns.not-propagated",
            Self::Lame { .. } => "dns.lame",
            Self::Secret { .. } | Self::SecretFormat { .. } => "dns.secret",
            Self::Encode { .. } => "dns.encode",
            Self::ServerAddress { .. } => "dns.server-address",
            Self::Connect { .. } | Self::Broken { .. } => "dns.connection",
            Self::Timeout { .. } => "dns.timeout",
            Self::BadReply { .. } | Self::UnsignedReply { .. } | Self::ForgedReply { .. } => "dns.bad-reply",
            Self::TsigBadKey { .. } => "dns.tsig-bad-key",
            Self::TsigBadSignature { .. } => "dns.tsig-bad-signature",
            Self::TsigBadTime { .. } => "dns.tsig-bad-time",
            Self::TsigOther { .. } => "dns.tsig",
            Self::NotAuthoritative { .. } => "dns.not-authoritative",
            Self::Refused { .. } => "dns.refused",
            Self::NotInZone { .. } => "dns.not-in-zone",
            Self::Rejected { .. } => "dns.rejected",
            Self::Interrupted => "dns.interrupted",
        }
    }

    fn blame(&self) -> Blame {
        match self {
            Self::BadName { .. }
            | Self::CnameLoop { .. }
            | Self::CnameDepth { .. }
            | Self::NoZone(_)
            | Self::Secret { .. }
            | Self::SecretFormat { .. }
            | Self::TsigBadKey { .. }
            | Self::TsigBadSignature { .. }
            | Self::NotAuthoritative { .. }
            | Self::Refused { .. } => Blame::Operator,
            Self::Resolver(_) | Self::Encode { .. } | Self::TsigBadTime { .. } | Self::Interrupted => {
                Blame::Machine
            }
            Self::NoRoute { .. }
            | Self::LookupTimeout { .. }
            | Self::ServerAddress { .. }
            | Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Timeout { .. } => Blame::Network,
            Self::Lookup { .. }
            | Self::NoNameServer(_)
            | Self::NoAddress { .. }
            | Self::NotPropagated { .. }
            | Self::Lame { .. }
            | Self::BadReply { .. }
            | Self::UnsignedReply { .. }
            | Self::ForgedReply { .. }
            | Self::TsigOther { .. }
            | Self::NotInZone { .. }
            | Self::Rejected { .. } => Blame::Dns,
        }
    }

    /// What people mend at a name server we would not notice, so almost everything is tried again.
    fn retry(&self) -> Retry {
        match self {
            Self::SecretFormat { .. } => Retry::AfterChange,
            _ => Retry::Backoff,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Resolver(_) => {
                "name them in certs.toml: `[resolver] nameservers = [\"192.0.2.53:53\"]`".to_owned()
            }
            Self::NoZone(name) => {
                format!(
                    "register or delegate the domain, or correct it: `dig SOA {}` finds none",
                    plain(name)
                )
            }
            Self::CnameLoop { via, .. } | Self::CnameDepth { via, .. } => match via.first() {
                Some(first) => format!("correct the CNAME record of `{}`", plain(first)),
                None => return None,
            },
            Self::NoAddress { .. } | Self::NoRoute { .. } | Self::NoNameServer(_) => {
                "name the servers to ask in `authoritative` of the dns account".to_owned()
            }
            Self::NotPropagated { account, .. } => {
                format!("raise `dns.{account}.propagation-timeout`, or see why that server lags")
            }
            Self::Lame { account, .. } => format!(
                "take it out of the zone's NS records, or name the servers to ask in `dns.{account}.authoritative`"
            ),
            Self::SecretFormat { .. } => {
                "it is the text after `secret` in what `tsig-keygen` prints, or all of that".to_owned()
            }
            Self::TsigBadKey { key, .. } => format!(
                "BIND: `include` the file with `key \"{key}\"`; Knot: name the key and the zone's owner names in an `acl`"
            ),
            Self::TsigBadSignature { key, .. } => {
                format!("copy the `secret` of `key \"{key}\"` from the name server again")
            }
            Self::TsigBadTime { .. } => "set the clock that is wrong: `timedatectl` shows it".to_owned(),
            Self::NotAuthoritative { zone, .. } => {
                format!("`server` must be the primary of the zone: `dig SOA {}` names it first", plain(zone))
            }
            Self::Refused { key, owner, zone, .. } => {
                let (owner, zone) = (plain(owner), plain(zone));
                format!("BIND: add `grant {key} name {owner} TXT;` to `update-policy` of the zone `{zone}`")
            }
            Self::Rejected { .. } => {
                "the log of the name server says why; often it may not write in its zone directory".to_owned()
            }
            _ => return None,
        })
    }
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

/// An error that several callers get, because one update served them all.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct SharedError(Arc<Error>);

impl SharedError {
    /// The error itself.
    pub fn error(&self) -> &Error {
        &self.0
    }
}

impl From<Error> for SharedError {
    fn from(error: Error) -> Self {
        Self(Arc::new(error))
    }
}

impl Diagnose for SharedError {
    fn code(&self) -> &'static str {
        self.0.code()
    }

    fn blame(&self) -> Blame {
        self.0.blame()
    }

    fn retry(&self) -> Retry {
        self.0.retry()
    }

    fn hint(&self) -> Option<String> {
        self.0.hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::problem::Problem;

    fn sighting(server: &str, view: View) -> Sighting {
        Sighting { server: server.to_owned(), view }
    }

    #[test]
    fn the_error_at_the_deadline_names_server_name_time_and_key() {
        let error = Error::NotPropagated {
            zone: "example.net.".to_owned(),
            account: "corp".to_owned(),
            source: Lagging {
                owner: "_acme-challenge.shop.example.net.".to_owned(),
                waited: Duration::from_millis(120_003),
                servers: vec![sighting("ns2.example.net", View::Without)],
            },
        };
        let problem = Problem::of(&error);
        assert_eq!(
            problem.causes,
            [
                "ns2.example.net still answers without the value for _acme-challenge.shop.example.net after 120 s"
            ]
        );
        assert!(problem.hint.is_some_and(|hint| hint.contains("`dns.corp.propagation-timeout`")));
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

    #[test]
    fn clocks_are_compared_in_words() {
        let error = |ahead| Error::TsigBadTime { server: "ns1:53".to_owned(), ahead }.to_string();
        assert_eq!(error(-900), "the clock of the DNS server `ns1:53` is 900 s behind this machine's");
        assert_eq!(error(900), "the clock of the DNS server `ns1:53` is 900 s ahead of this machine's");
    }

    #[test]
    fn a_shared_error_is_the_error() {
        let refused = || Error::Refused {
            server: "ns1:53".to_owned(),
            key: "certfleet".to_owned(),
            owner: "_acme-challenge.a.example.".to_owned(),
            zone: "a.example.".to_owned(),
        };
        assert_eq!(Problem::of(&SharedError::from(refused())), Problem::of(&refused()));
        assert!(
            refused()
                .hint()
                .is_some_and(|hint| hint.contains("grant certfleet name _acme-challenge.a.example. TXT;"))
        );
    }
}
