//! Which servers are to be asked about a zone.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use futures::future::try_join_all;
use hickory_proto::rr::{Name, RData, RecordType};

use super::error::Error;
use super::lookup::{Lookup, parse, text};
use super::{Account, wire};
use crate::model::problem::plain;

/// A server that is asked directly.
#[derive(Debug)]
pub(super) struct Server {
    /// How people know it.
    pub(super) shown: String,
    pub(super) address: SocketAddr,
    /// The name server whose address this is, where it is known by name.
    pub(super) name: Option<Name>,
}

impl Server {
    pub(super) fn at(address: SocketAddr) -> Self {
        Self { shown: address.to_string(), address, name: None }
    }

    pub(super) fn named(name: &Name, address: SocketAddr) -> Self {
        let shown = format!("{} ({})", plain(text(name).trim_end_matches('.')), address.ip());
        Self { shown, address, name: Some(name.clone()) }
    }
}

impl Lookup {
    /// The resolver's servers.
    pub(super) fn resolvers(&self) -> Vec<Server> {
        self.nameservers.iter().copied().map(Server::at).collect()
    }

    /// The servers of a zone, each address of each.
    pub(super) async fn servers(&self, account: &Account, zone: &str) -> Result<Vec<Server>, Error> {
        if !account.authoritative.is_empty() {
            return Ok(account.authoritative.iter().copied().map(Server::at).collect());
        }
        let mut names: Vec<Name> = self
            .records(&parse(zone)?, RecordType::NS)
            .await?
            .records
            .into_iter()
            .filter_map(|record| match record.data {
                RData::NS(name) => Some(name.0.to_lowercase()),
                _ => None,
            })
            .collect();
        names.sort();
        names.dedup();
        if names.is_empty() {
            return Err(Error::NoNameServer(zone.to_owned()));
        }
        let found = try_join_all(names.iter().map(|name| self.addresses(zone, name))).await?;
        // Two names may share an address: asked once, under the first.
        let mut servers = BTreeMap::new();
        for (name, addresses) in names.iter().zip(found) {
            for address in addresses {
                servers.entry(address).or_insert_with(|| Server::named(name, address));
            }
        }
        Ok(servers.into_values().collect())
    }

    /// The addresses of one name server that this machine has a route to: at least one.
    async fn addresses(&self, zone: &str, name: &Name) -> Result<Vec<SocketAddr>, Error> {
        let (v4, v6) = tokio::join!(self.records(name, RecordType::A), self.records(name, RecordType::AAAA));
        let addresses: Vec<SocketAddr> = [&v4, &v6]
            .into_iter()
            .flatten()
            .flat_map(|answer| &answer.records)
            .filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            })
            .map(|address| SocketAddr::new(address, DNS_PORT))
            .collect();
        let (zone, server) = (zone.to_owned(), text(name));
        if addresses.is_empty() {
            // That there is no address may be unknown rather than known.
            v4?;
            v6?;
            return Err(Error::NoAddress { zone, server });
        }
        let mut reachable = Vec::new();
        for address in addresses {
            if wire::has_route(address).await {
                reachable.push(address);
            }
        }
        if reachable.is_empty() { Err(Error::NoRoute { zone, server }) } else { Ok(reachable) }
    }
}

const DNS_PORT: u16 = 53;
