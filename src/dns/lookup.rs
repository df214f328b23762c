//! Where a challenge record belongs: its owner name after all CNAMEs, and the zone that has it.

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::error::Error;

/// Questions to DNS.
///
/// Answers of the resolver are remembered for half a minute, so that many certificates of one
/// zone do not ask the same again; what is asked of servers directly is never remembered.
pub struct Lookup {
    resolver: TokioResolver,
    /// The resolver's servers, for questions that must not be answered from memory.
    pub(super) nameservers: Vec<SocketAddr>,
    /// Each direct question has a socket: far fewer than a process may have.
    pub(super) sockets: Semaphore,
}

/// Where the challenge of a domain is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeName {
    /// The owner name of the TXT record: the end of the chain, lower case, with final dot.
    pub owner: String,
    /// The apex of the zone that has it: lower case, with final dot.
    pub zone: String,
    /// The names that are CNAMEs on the way, from `_acme-challenge.DOMAIN.` on; mostly empty.
    pub via: Vec<String>,
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("nameservers", &self.nameservers).finish_non_exhaustive()
    }
}

impl Lookup {
    /// Questions to these resolvers; to the system's (`/etc/resolv.conf`) where none is named.
    pub fn new(nameservers: &[SocketAddr]) -> Result<Self, Error> {
        let config = if nameservers.is_empty() {
            hickory_resolver::system_conf::read_system_conf()
                .map_err(|error| Error::Resolver(Box::new(error)))?
                .0
        } else {
            ResolverConfig::from_parts(None, vec![], nameservers.iter().copied().map(name_server).collect())
        };
        let nameservers = config
            .name_servers()
            .iter()
            .filter_map(|server| Some(SocketAddr::new(server.ip, server.connections.first()?.port)))
            .collect();
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        let options = builder.options_mut();
        options.cache_size = 512;
        options.positive_max_ttl = Some(Duration::from_secs(30));
        // What did not exist may exist after somebody has mended it: the next attempt should see it.
        options.negative_max_ttl = Some(Duration::from_secs(1));
        options.timeout = Duration::from_secs(3);
        options.attempts = 2;
        let resolver = builder.build().map_err(|error| Error::Resolver(Box::new(error)))?;
        Ok(Self { resolver, nameservers, sockets: Semaphore::new(128) })
    }

    /// Where the challenge of a domain (without `*.`) is answered (RFC 8555 section 8.4).
    ///
    /// CNAME records are followed one by one; the end of the chain need not exist yet, only a
    /// zone for it.
    pub async fn challenge(&self, domain_base: &str) -> Result<ChallengeName, Error> {
        let mut name = parse(&format!("_acme-challenge.{domain_base}"))?;
        let mut via: Vec<Name> = Vec::new();
        loop {
            let zone = {
                let cname = pin!(self.cname(&name));
                let zone = pin!(self.zone(&name));
                // Both at once: nearly always there is no CNAME. When there is, the zone does not matter.
                let (target, zone) = match select(cname, zone).await {
                    Either::Left((target, zone)) => (target?, Either::Left(zone)),
                    Either::Right((zone, target)) => (target.await?, Either::Right(zone)),
                };
                match (target, zone) {
                    (Some(target), _) => Err(target),
                    (None, Either::Left(zone)) => Ok(zone.await?),
                    (None, Either::Right(zone)) => Ok(zone?),
                }
            };
            let target = match zone {
                Ok(zone) => {
                    let via = via.iter().map(text).collect();
                    return Ok(ChallengeName { owner: text(&name), zone: text(&zone), via });
                }
                Err(target) => target,
            };
            via.push(name);
            let chain = || via.iter().chain([&target]).map(text).collect();
            if via.contains(&target) {
                return Err(Error::CnameLoop { name: text(&via[0]), via: chain() });
            }
            if via.len() > CNAME_LIMIT {
                return Err(Error::CnameDepth { name: text(&via[0]), via: chain(), limit: CNAME_LIMIT });
            }
            name = target;
        }
    }

    async fn cname(&self, name: &Name) -> Result<Option<Name>, Error> {
        let answer = self.records(name, RecordType::CNAME).await?;
        // A DNAME may stand beside; only the record of this very name counts.
        answer
            .records
            .into_iter()
            .find_map(|record| match record.data {
                RData::CNAME(CNAME(target)) if record.name == *name => Some(target),
                _ => None,
            })
            // A label may have any octets; what cannot be written as text is of no use to us.
            .map(|target| parse(&text(&target)))
            .transpose()
    }

    /// The apex of the zone that has a name: the owner of the SOA record that comes with the
    /// answer, also where the name does not exist (RFC 2308 section 2).
    async fn zone(&self, name: &Name) -> Result<Name, Error> {
        let mut asked = name.clone();
        while !asked.is_root() {
            let answer = self.records(&asked, RecordType::SOA).await?;
            let apex = answer
                .records
                .into_iter()
                .chain(answer.authority)
                .filter(|record| matches!(record.data, RData::SOA(_)))
                .map(|record| record.name.to_lowercase())
                // Of another name than the one asked for it says nothing.
                .find(|apex| apex.zone_of(name));
            match apex {
                Some(apex) if apex.is_root() => break,
                Some(apex) => return Ok(apex),
                // Some resolvers leave out the authority section.
                None => asked = asked.base_name(),
            }
        }
        Err(Error::NoZone(text(name)))
    }

    /// What the resolver says; that there is nothing is an answer too.
    pub(super) async fn records(&self, name: &Name, kind: RecordType) -> Result<Answer, Error> {
        let Ok(lookup) = timeout(RESOLVER_DEADLINE, self.resolver.lookup(name.clone(), kind)).await else {
            let (name, kind) = (text(name), kind.to_string());
            return Err(Error::LookupTimeout { name, kind, within: RESOLVER_DEADLINE });
        };
        match lookup {
            Ok(found) => {
                Ok(Answer { records: found.answers().to_vec(), authority: found.authorities().to_vec() })
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let authority = none.soa.map(|soa| soa.into_record_of_rdata()).into_iter().collect();
                Ok(Answer { records: Vec::new(), authority })
            }
            Err(error) => {
                Err(Error::Lookup { name: text(name), kind: kind.to_string(), source: Box::new(error) })
            }
        }
    }
}

/// The sections of an answer that matter here.
pub(super) struct Answer {
    pub(super) records: Vec<Record>,
    authority: Vec<Record>,
}

/// A full name from text, with or without final dot.
pub(super) fn parse(name: &str) -> Result<Name, Error> {
    let mut parsed =
        Name::from_ascii(name).map_err(|source| Error::BadName { name: name.to_owned(), source })?;
    parsed.set_fqdn(true);
    Ok(parsed.to_lowercase())
}

/// A name as we write it everywhere: lower case, with final dot.
pub(super) fn text(name: &Name) -> String {
    let mut text = name.to_lowercase().to_ascii();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    udp.port = address.port();
    tcp.port = address.port();
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}

/// As many as the CA's resolvers follow at least.
const CNAME_LIMIT: usize = 8;
/// Two tries at each of two servers, and a little.
const RESOLVER_DEADLINE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::problem::Problem;

    #[test]
    fn names_are_lower_case_with_a_final_dot() {
        for name in ["_acme-challenge.Example.ORG", "_acme-challenge.example.org."] {
            assert_eq!(text(&parse(name).unwrap()), "_acme-challenge.example.org.");
        }
        assert!(matches!(parse(&"a.".repeat(130)), Err(Error::BadName { .. })));
    }

    #[test]
    fn a_label_with_odd_octets_is_refused_and_harmless_to_show() {
        let odd = Name::from_labels([b"a.b c\x1b[2J\xff\"".as_slice(), b"example"]).unwrap();
        assert!(text(&odd).is_ascii() && !text(&odd).contains('\u{1b}'));
        let error = parse(&text(&odd)).unwrap_err();
        assert!(Problem::of(&error).one_line().chars().all(|c| !c.is_control()));
    }
}
