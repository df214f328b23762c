//! DNS accounts: where challenge records are written, and how one knows that they have arrived.
//!
//! A challenge takes three steps: [`Lookup::challenge`] finds where the record belongs,
//! [`Zones::change`] writes it through the account's [`Provider`], [`Lookup::propagated`] waits
//! until the world can see it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::kind::Kind;
use crate::model::name::DnsAccountName;
use crate::model::state::Proof;
use crate::secret::Secret;

pub mod acme_dns;
mod bearer;
mod caa;
pub mod cloudflare;
pub mod desec;
mod diagnose;
pub mod digitalocean;
mod error;
pub mod exec;
pub mod gandi;
pub mod hetzner;
pub mod http;
pub mod httpreq;
pub mod linode;
pub mod lookup;
mod mode;
pub mod ovh;
pub mod powerdns;
mod propagation;
pub mod rfc2136;
pub mod route53;
mod rrset;
mod servers;
mod sighting;
mod wire;
pub mod zones;

pub use caa::{Caa, CaaSet, Verdict};
pub use error::{Error, SharedError};
pub use lookup::{ChallengeName, Lookup};
pub use sighting::{Lagging, Sighting, View};
pub use zones::Zones;

/// The providers. To add one: write dns/NAME.rs with a `KIND`, add it here, and its bench to tests/it/providers.rs.
pub const KINDS: &[Kind<dyn Provider>] = &[
    rfc2136::KIND,
    cloudflare::KIND,
    route53::KIND,
    digitalocean::KIND,
    hetzner::KIND,
    linode::KIND,
    gandi::KIND,
    ovh::KIND,
    desec::KIND,
    powerdns::KIND,
    acme_dns::KIND,
    exec::KIND,
    httpreq::KIND,
];

/// A named provider account.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its name in certs.toml.
    pub name: DnsAccountName,
    /// What writes the records.
    pub provider: Arc<dyn Provider>,
    /// The secrets that the provider is going to read.
    pub secrets: Vec<Secret>,
    /// The time to live of the records, in seconds.
    pub ttl: u32,
    /// Who is asked whether a record has arrived.
    pub check: PropagationCheck,
    /// Asked in place of the zone's name servers; empty = these.
    pub authoritative: Vec<SocketAddr>,
    /// How long a record may take to arrive.
    pub propagation_timeout: Duration,
    /// How long to wait besides: after the record was seen, or (with `resolver`) before looking.
    pub propagation_delay: Duration,
}

/// Who is asked whether a record has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PropagationCheck {
    /// Every name server of the zone, each of its addresses, directly.
    #[default]
    Authoritative,
    /// The configured resolver, for networks that let no other DNS out.
    ///
    /// A resolver remembers that a name did not exist, and finding the place of the challenge
    /// asks it for that name before the record is there. It may then go on denying the record
    /// for the zone's negative TTL (the last number of its SOA record), so the account's
    /// `propagation-timeout` has to be longer than that.
    Resolver,
    /// Nobody: only the delay is waited.
    Off,
}

/// A text that names no way to check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("known are `authoritative`, `resolver` and `off`")]
pub struct UnknownCheck;

impl FromStr for PropagationCheck {
    type Err = UnknownCheck;

    fn from_str(text: &str) -> Result<Self, UnknownCheck> {
        match text {
            "authoritative" => Ok(Self::Authoritative),
            "resolver" => Ok(Self::Resolver),
            "off" => Ok(Self::Off),
            _ => Err(UnknownCheck),
        }
    }
}

/// One TXT record of ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TxtRecord {
    /// The zone it is in: lower case, with final dot.
    pub zone: String,
    /// Its owner name after all CNAMEs: lower case, with final dot.
    pub owner: String,
    /// Its value.
    pub value: String,
    /// Its time to live in seconds.
    pub ttl: u32,
    /// What the value is made from, where that is known.
    pub proof: Option<Proof>,
}

/// What is to become of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The record shall be there, beside whatever else its owner has.
    Add(TxtRecord),
    /// The record with exactly this value shall be gone; others of its owner stay.
    Remove(TxtRecord),
}

impl Change {
    /// The record in question.
    pub fn record(&self) -> &TxtRecord {
        match self {
            Self::Add(record) | Self::Remove(record) => record,
        }
    }
}

/// Writes challenge records.
#[async_trait]
pub trait Provider: Send + Sync + fmt::Debug {
    /// Applies changes to one zone, in their order.
    ///
    /// Idempotent: what is there already, or gone already, is success. Ends within a deadline
    /// of the provider's own. After an error some of the changes may have been applied.
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error>;

    /// How long a record may take to reach the provider's name servers, where certs.toml does not say.
    fn propagation_timeout(&self) -> Duration {
        Duration::from_secs(120)
    }

    /// Whether several changes at once are cheaper than one after the other. Where they are not, each
    /// is given alone: it then has a result of its own, and is never made twice because another failed.
    fn batches(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_named_as_in_certs_toml() {
        assert_eq!("authoritative".parse(), Ok(PropagationCheck::Authoritative));
        assert_eq!("resolver".parse(), Ok(PropagationCheck::Resolver));
        assert_eq!("off".parse(), Ok(PropagationCheck::Off));
        assert_eq!("false".parse::<PropagationCheck>(), Err(UnknownCheck));
    }
}
