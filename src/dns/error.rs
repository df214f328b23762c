//! What can go wrong with DNS, and what people can do about it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_resolver::net::NetError;

use super::acme_dns::OtherName;
use super::exec::ExecError;
use super::http::ApiError;
use super::mode::NoProof;
use super::rfc2136::KeyError;
use super::sighting::Lagging;
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
    /// The API of a provider failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The program of an account failed.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// A record that the account has no place for.
    #[error(transparent)]
    OtherName(OtherName),
    /// A record of which too little is known.
    #[error(transparent)]
    NoProof(#[from] NoProof),
    /// The change was given up without an answer: the program is ending, or a provider panicked.
    #[error("the DNS change was given up half-way")]
    Interrupted,
}

impl Error {
    /// Whether a server (or program) looked at the changes and said no: fewer of them at once may
    /// then be welcome. Without an answer, or without a key, they are not.
    pub(crate) fn is_refusal(&self) -> bool {
        match self {
            Self::Api(error) => return error.is_refusal(),
            Self::Exec(error) => return error.is_refusal(),
            _ => {}
        }
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
                | Self::OtherName(_)
                | Self::NoProof(_)
        )
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
