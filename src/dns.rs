//! DNS accounts: where challenge records are written.

pub mod rfc2136;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::kind::Kind;
use crate::model::name::DnsAccountName;

/// The providers. To add one: write dns/NAME.rs with a `KIND`, add it here.
pub const KINDS: &[Kind<dyn Provider>] = &[rfc2136::KIND];

/// Writes challenge records.
pub trait Provider: Send + Sync {}

/// A named provider account.
#[derive(Clone)]
pub struct Account {
    /// Its name in certs.toml.
    pub name: DnsAccountName,
    /// What writes the records.
    pub provider: Arc<dyn Provider>,
    /// The time to live of the records, in seconds.
    pub ttl: u32,
    /// Who is asked whether a record has arrived.
    pub check: PropagationCheck,
    /// Asked in place of the zone's name servers; empty = these.
    pub authoritative: Vec<SocketAddr>,
    /// How long a record may take to arrive.
    pub propagation_timeout: Duration,
    /// How long to wait after it has arrived.
    pub propagation_delay: Duration,
}

/// Who is asked whether a record has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PropagationCheck {
    /// Every name server of the zone.
    #[default]
    Authoritative,
    /// The resolver.
    Resolver,
    /// Nobody.
    Off,
}
