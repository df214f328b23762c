//! Where a host is looked at.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::model::desired::Host;
use crate::model::problem::{Blame, Diagnose};

/// Why a host has no addresses.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The system's resolver found nothing.
    #[error("cannot look up the address `{address}` of `{host}`")]
    Lookup {
        /// The host's name in certs.toml.
        host: String,
        /// Its `address`.
        address: String,
        /// What the resolver said.
        #[source]
        source: io::Error,
    },
    /// The resolver did not answer in time.
    #[error("no answer to the look-up of the address `{address}` of `{host}` within {} s", LOOKUP.as_secs())]
    Timeout {
        /// The host's name in certs.toml.
        host: String,
        /// Its `address`.
        address: String,
    },
    /// The resolver answered with no address.
    #[error("the address `{address}` of `{host}` has no IP address")]
    None {
        /// The host's name in certs.toml.
        host: String,
        /// Its `address`.
        address: String,
    },
}

impl Diagnose for AddressError {
    fn code(&self) -> &'static str {
        "probe.lookup"
    }

    fn blame(&self) -> Blame {
        Blame::Network
    }

    fn hint(&self) -> Option<String> {
        let (Self::Lookup { host, .. } | Self::Timeout { host, .. } | Self::None { host, .. }) = self;
        Some(format!("set `host.{host}.address` to a name or an IP address that this machine can look up"))
    }
}

/// The addresses that a host is looked at: its `verify`, else all it has, at port 443.
pub async fn addresses(host: &Host) -> Result<Vec<SocketAddr>, AddressError> {
    if !host.verify.is_empty() {
        return Ok(host.verify.clone());
    }
    if host.local {
        return Ok(own_addresses(&host.address).await);
    }
    let name = || (host.name.to_string(), host.address.clone());
    let found = match timeout(LOOKUP, lookup_host((host.address.as_str(), 443))).await {
        Ok(Ok(found)) => found,
        Ok(Err(source)) => {
            let (host, address) = name();
            return Err(AddressError::Lookup { host, address, source });
        }
        Err(_) => {
            let (host, address) = name();
            return Err(AddressError::Timeout { host, address });
        }
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) && addresses.len() < MOST {
            addresses.push(address);
        }
    }
    match addresses.is_empty() {
        true => {
            let (host, address) = name();
            Err(AddressError::None { host, address })
        }
        false => Ok(addresses),
    }
}

/// The addresses of this machine by its own name; where it does not know that, the one that it has anyway.
async fn own_addresses(name: &str) -> Vec<SocketAddr> {
    let found = timeout(LOOKUP, lookup_host((name, 443))).await;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.into_iter().flatten().flatten().take(MOST) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        addresses.push((Ipv4Addr::LOCALHOST, 443).into());
    }
    addresses
}

/// Whether this machine knows a way to that address. Nothing is sent.
pub fn has_route(address: &SocketAddr) -> bool {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // Connecting a UDP socket only asks the kernel for a route.
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

const LOOKUP: Duration = Duration::from_secs(5);

/// A host with more addresses than this is not one host.
const MOST: usize = 32;
