//! Dynamic update (RFC 2136) signed with TSIG (RFC 8945): BIND, Knot, PowerDNS and others.
//!
//! Over TCP: no resends that could be applied twice, no room for forged answers, any size.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use hickory_proto::ProtoError;
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::lookup::{parse, text};
use super::{Change, Error, Provider, wire};
use crate::secret::Secret;

mod key;
mod reply;
mod settings;

pub use key::KeyError;
pub use settings::KIND;

/// A name server that takes dynamic updates.
#[derive(Debug, Clone)]
pub struct Rfc2136 {
    /// Where updates go, as host:port; a host name is looked up by the system.
    pub server: String,
    /// The name of the TSIG key.
    pub key_name: String,
    /// The algorithm of the TSIG key.
    pub algorithm: Algorithm,
    /// The TSIG key, as base64 or as BIND's key file; read anew for every update.
    pub secret: Secret,
}

/// A TSIG algorithm (RFC 8945 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// HMAC-SHA-256.
    #[default]
    HmacSha256,
    /// HMAC-SHA-384.
    HmacSha384,
    /// HMAC-SHA-512.
    HmacSha512,
}

impl Algorithm {
    /// The name, as in certs.toml and in the name server's configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
        }
    }
}

/// An algorithm that is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("known are `hmac-sha256`, `hmac-sha384` and `hmac-sha512`")]
pub struct UnknownAlgorithm;

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    fn from_str(text: &str) -> Result<Self, UnknownAlgorithm> {
        match text {
            "hmac-sha256" => Ok(Self::HmacSha256),
            "hmac-sha384" => Ok(Self::HmacSha384),
            "hmac-sha512" => Ok(Self::HmacSha512),
            _ => Err(UnknownAlgorithm),
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Rfc2136 {
    /// A server with the key to sign for it.
    pub fn new(server: String, key_name: String, algorithm: Algorithm, secret: Secret) -> Self {
        Self { server, key_name, algorithm, secret }
    }

    /// The key, read anew so that a changed secret counts at once.
    async fn signer(&self) -> Result<TSigner, Error> {
        let key = || self.key_name.clone();
        let secret = self.secret.clone();
        // It may be the output of a command.
        let secret = tokio::task::spawn_blocking(move || secret.read())
            .await
            .map_err(|_| Error::Interrupted)?
            .map_err(|source| Error::Secret { key: key(), source })?;
        let mut octets = key::decode(&secret, &self.key_name, self.algorithm)
            .map_err(|source| Error::SecretFormat { key: key(), source })?;
        let algorithm = match self.algorithm {
            Algorithm::HmacSha256 => TsigAlgorithm::HmacSha256,
            Algorithm::HmacSha384 => TsigAlgorithm::HmacSha384,
            Algorithm::HmacSha512 => TsigAlgorithm::HmacSha512,
        };
        // The signer keeps the octets without wiping them; it lives for one update.
        TSigner::new(std::mem::take(&mut *octets), algorithm, parse(&self.key_name)?, FUDGE)
            .map_err(|error| Error::Encode { zone: key(), source: ProtoError::from(error.to_string()) })
    }

    async fn connect(&self) -> Result<TcpStream, Error> {
        let server = || self.server.clone();
        let addresses: Vec<SocketAddr> = lookup_host(&self.server)
            .await
            .map_err(|source| Error::ServerAddress { server: server(), source })?
            .collect();
        // With several addresses the last one gets its turn too.
        let each = match u32::try_from(addresses.len()) {
            Ok(count @ 2..) => CONNECT_ALL / count,
            _ => CONNECT_ONE,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match timeout(each, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => {
                    let text = format!("no connection to {address} within {:.1} s", each.as_secs_f32());
                    last = io::Error::new(io::ErrorKind::TimedOut, text);
                }
            }
        }
        Err(Error::Connect { server: server(), source: last })
    }

    async fn update(
        &self,
        stream: &mut TcpStream,
        zone: &Name,
        changes: &[Change],
        signer: &TSigner,
    ) -> Result<(), Error> {
        let encode = |source| Error::Encode { zone: text(zone), source };
        let mut message = message(zone, changes)?;
        let verifier = message.finalize(signer, now()).map_err(encode)?;
        let bytes = message.to_vec().map_err(encode)?;
        let broken = |source| Error::Broken { server: self.server.clone(), source };
        wire::send(stream, &bytes).await.map_err(broken)?;
        let reply = wire::receive(stream).await.map_err(broken)?;
        self.judge(zone, changes, message.metadata.id, verifier, &reply)
    }
}

#[async_trait]
impl Provider for Rfc2136 {
    async fn apply(&self, zone: &str, changes: &[Change]) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        let zone = parse(zone)?;
        let signer = self.signer().await?;
        let all = async {
            let mut stream = self.connect().await?;
            for part in parts(changes) {
                self.update(&mut stream, &zone, part, &signer).await?;
            }
            Ok(())
        };
        timeout(DEADLINE, all)
            .await
            .unwrap_or_else(|_| Err(Error::Timeout { server: self.server.clone(), within: DEADLINE }))
    }
}

/// One update with these changes (RFC 2136 section 2.5), which the server applies in order and
/// all or none (section 3.4).
fn message(zone: &Name, changes: &[Change]) -> Result<Message, Error> {
    let mut message = Message::query();
    message.metadata.op_code = OpCode::Update;
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(zone.clone(), RecordType::SOA));
    for change in changes {
        let record = change.record();
        let owner = parse(&record.owner)?;
        if !zone.zone_of(&owner) {
            return Err(Error::NotInZone { owner: record.owner.clone(), zone: text(zone) });
        }
        let data = RData::TXT(TXT::from_bytes(record.value.as_bytes().chunks(255).collect()));
        message.add_authority(match change {
            Change::Add(_) => Record::from_rdata(owner, record.ttl, data),
            Change::Remove(_) => {
                let mut gone = Record::from_rdata(owner, 0, data);
                gone.dns_class = DNSClass::NONE;
                gone
            }
        });
    }
    Ok(message)
}

/// The changes in pieces that each fit a message over TCP.
fn parts(changes: &[Change]) -> Vec<&[Change]> {
    let mut parts = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (at, change) in changes.iter().enumerate() {
        let record = change.record();
        // Name, fixed fields, a length octet for each string, at most.
        let more = record.owner.len() + 12 + record.value.len() + record.value.len() / 255 + 1;
        if size + more > ROOM && at > start {
            parts.push(&changes[start..at]);
            (start, size) = (at, 0);
        }
        size += more;
    }
    parts.push(&changes[start..]);
    parts
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// How far the clocks may differ, in seconds: the value RFC 8945 section 10 recommends.
const FUDGE: u16 = 300;
/// One update: connection and answer. A server that is well takes milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);
const CONNECT_ONE: Duration = Duration::from_secs(5);
const CONNECT_ALL: Duration = Duration::from_secs(8);
/// Octets for changes in a message of 65535, with the zone and the signature left out.
const ROOM: usize = 60_000;

#[cfg(test)]
mod tests {
    use super::super::TxtRecord;
    use super::*;

    fn record(owner: &str, value: &str) -> TxtRecord {
        TxtRecord {
            zone: "example.org.".to_owned(),
            owner: owner.to_owned(),
            value: value.to_owned(),
            ttl: 60,
            proof: None,
        }
    }

    #[test]
    fn rfc2136_2_5_adds_with_class_in_and_removes_with_class_none() {
        let zone = parse("example.org").unwrap();
        let changes = [
            Change::Add(record("_acme-challenge.example.org.", "new")),
            Change::Remove(record("_acme-challenge.www.example.org.", "old")),
        ];
        let message = Message::from_vec(&message(&zone, &changes).unwrap().to_vec().unwrap()).unwrap();
        let lines: Vec<String> = message.authorities.iter().map(Record::to_string).collect();
        assert_eq!(
            lines,
            ["_acme-challenge.example.org. 60 IN TXT new", "_acme-challenge.www.example.org. 0 NONE TXT old"]
        );
        assert_eq!(message.queries, [Query::query(zone, RecordType::SOA)]);
    }

    #[test]
    fn a_name_of_another_zone_is_not_sent() {
        let changes = [Change::Add(record("_acme-challenge.example.com.", "v"))];
        let zone = parse("example.org").unwrap();
        assert!(matches!(message(&zone, &changes), Err(Error::NotInZone { .. })));
    }

    #[test]
    fn any_number_of_changes_fits() {
        let owner = format!("{}example.org.", "abcdefghi.".repeat(20));
        let changes: Vec<Change> =
            (0..2000).map(|n| Change::Add(record(&format!("n{n}.{owner}"), &"v".repeat(43)))).collect();
        let parts = parts(&changes);
        assert_eq!(parts.concat(), changes);
        let zone = parse("example.org").unwrap();
        for part in parts {
            assert!(message(&zone, part).unwrap().to_vec().unwrap().len() < 65_000);
        }
    }
}
