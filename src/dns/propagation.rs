//! Whether a record has arrived: every name server is asked itself, for the CA may ask any.
//!
//! No resolver is asked for a record before it exists: it would remember that it did not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use futures::stream::{FuturesUnordered, StreamExt};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::{Instant, sleep};

use super::error::Error;
use super::lookup::{Lookup, parse, text};
use super::sighting::{Lagging, Sighting, View};
use super::wire::{self, AskError};
use super::{Account, PropagationCheck};
use crate::model::problem::plain;

impl Lookup {
    /// Waits until the record is seen with every one of these values, as the account asks for.
    ///
    /// Takes at most the account's `propagation-timeout` and `propagation-delay` together, and
    /// the time to find the name servers.
    pub async fn propagated(
        &self,
        account: &Account,
        zone: &str,
        owner: &str,
        values: &[String],
    ) -> Result<(), Error> {
        match account.check {
            PropagationCheck::Off => {}
            PropagationCheck::Resolver => {
                sleep(account.propagation_delay).await;
                return self.anywhere(account, zone, owner, values).await;
            }
            PropagationCheck::Authoritative => self.everywhere(account, zone, owner, values).await?,
        }
        sleep(account.propagation_delay).await;
        Ok(())
    }

    /// One look at every server that [`propagated`](Self::propagated) would wait for.
    pub async fn seen(
        &self,
        account: &Account,
        zone: &str,
        owner: &str,
        values: &[String],
    ) -> Result<Vec<Sighting>, Error> {
        let owner = &parse(owner)?;
        let recursion = account.check == PropagationCheck::Resolver;
        let servers = if recursion { self.resolvers() } else { self.servers(account, zone).await? };
        Ok(join_all(servers.into_iter().map(|server| async move {
            let view = self.view(&server, owner, values, recursion, TRY).await;
            Sighting { server: server.shown, view }
        }))
        .await)
    }

    async fn everywhere(
        &self,
        account: &Account,
        zone: &str,
        owner: &str,
        values: &[String],
    ) -> Result<(), Error> {
        let start = Instant::now();
        let servers = self.servers(account, zone).await?;
        let name = &parse(owner)?;
        let end = Instant::now() + account.propagation_timeout;
        let lagging: Vec<Sighting> =
            join_all(servers.iter().map(|server| self.until(server, name, values, false, end)))
                .await
                .into_iter()
                .filter_map(Result::err)
                .collect();
        if lagging.is_empty() {
            return Ok(());
        }
        Err(late(
            account,
            zone,
            Lagging { owner: owner.to_owned(), waited: start.elapsed(), servers: lagging },
        ))
    }

    /// With one resolver that sees it the network's door is passed; others may be out of order.
    async fn anywhere(
        &self,
        account: &Account,
        zone: &str,
        owner: &str,
        values: &[String],
    ) -> Result<(), Error> {
        let start = Instant::now();
        let name = &parse(owner)?;
        let end = start + account.propagation_timeout;
        let servers = self.resolvers();
        let mut polls: FuturesUnordered<_> =
            servers.iter().map(|server| self.until(server, name, values, true, end)).collect();
        let mut lagging = Vec::new();
        while let Some(outcome) = polls.next().await {
            match outcome {
                Ok(()) => return Ok(()),
                Err(sighting) => lagging.push(sighting),
            }
        }
        Err(late(
            account,
            zone,
            Lagging { owner: owner.to_owned(), waited: start.elapsed(), servers: lagging },
        ))
    }

    /// Asks one server again and again; at the end, what it said last.
    async fn until(
        &self,
        server: &Server,
        owner: &Name,
        values: &[String],
        recursion: bool,
        end: Instant,
    ) -> Result<(), Sighting> {
        let mut last = View::Silent;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Sighting { server: server.shown.clone(), view: last });
            }
            match self.view(server, owner, values, recursion, left.min(TRY)).await {
                View::With => return Ok(()),
                // Cut short by us: says nothing of the server.
                View::Silent if left < TRY => {}
                view => last = view,
            }
            sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
            pause = (pause * 3 / 2).min(LAST_PAUSE);
        }
    }

    async fn view(
        &self,
        server: &Server,
        owner: &Name,
        values: &[String],
        recursion: bool,
        within: Duration,
    ) -> View {
        let _socket = self.sockets.acquire().await;
        match wire::ask(server.address, owner, RecordType::TXT, recursion, within).await {
            Ok(answer) => judge(&answer, owner, values, recursion),
            Err(AskError::Timeout) => View::Silent,
            Err(AskError::Connection(error)) => View::Unreachable(plain(&error.to_string())),
            Err(AskError::Garbled(_) | AskError::Mismatch | AskError::Encode(_)) => View::Garbled,
        }
    }

    fn resolvers(&self) -> Vec<Server> {
        self.nameservers.iter().copied().map(Server::at).collect()
    }

    /// The servers of a zone, each address of each.
    async fn servers(&self, account: &Account, zone: &str) -> Result<Vec<Server>, Error> {
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

/// A server that is asked directly.
#[derive(Debug)]
struct Server {
    /// How people know it.
    shown: String,
    address: SocketAddr,
}

impl Server {
    fn at(address: SocketAddr) -> Self {
        Self { shown: address.to_string(), address }
    }

    fn named(name: &Name, address: SocketAddr) -> Self {
        let name = text(name);
        Self { shown: format!("{} ({})", plain(name.trim_end_matches('.')), address.ip()), address }
    }
}

fn late(account: &Account, zone: &str, source: Lagging) -> Error {
    let (zone, name) = (zone.to_owned(), account.name.to_string());
    if source.servers.iter().all(|sighting| sighting.view == View::Lame) {
        Error::Lame { zone, account: name, source }
    } else {
        Error::NotPropagated { zone, account: name, source }
    }
}

/// A resolver has no authority and needs none.
fn judge(answer: &Message, owner: &Name, values: &[String], recursion: bool) -> View {
    match answer.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        code => return View::Code(wire::mnemonic(code)),
    }
    if !recursion && !answer.metadata.authoritative {
        return View::Lame;
    }
    let there: Vec<Vec<u8>> = answer
        .answers
        .iter()
        .filter(|record| record.name == *owner)
        .filter_map(|record| match &record.data {
            RData::TXT(txt) => Some(txt.txt_data.concat()),
            _ => None,
        })
        .collect();
    if values.iter().all(|value| there.iter().any(|text| text == value.as_bytes())) {
        View::With
    } else {
        View::Without
    }
}

const DNS_PORT: u16 = 53;
/// One try: a second for the first datagram, one more for its repetition.
const TRY: Duration = Duration::from_secs(2);
/// A secondary that is told by NOTIFY is there in about that time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::TXT;

    use super::*;

    fn answer(owner: &Name, values: &[&[&str]]) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.metadata.authoritative = true;
        for value in values {
            let txt = TXT::new(value.iter().map(|part| (*part).to_owned()).collect());
            message.add_answer(Record::from_rdata(owner.clone(), 60, RData::TXT(txt)));
        }
        message
    }

    fn values(values: &[&str]) -> Vec<String> {
        values.iter().map(|value| (*value).to_owned()).collect()
    }

    #[test]
    fn every_value_must_be_there_others_may() {
        let owner = parse("_acme-challenge.example.org").unwrap();
        let both = answer(&owner, &[&["foreign"], &["a"], &["b", "c"]]);
        assert_eq!(judge(&both, &owner, &values(&["bc", "a"]), false), View::With);
        assert_eq!(judge(&both, &owner, &values(&["a", "b"]), false), View::Without);
        let other = parse("_acme-challenge.example.com").unwrap();
        assert_eq!(judge(&both, &other, &values(&["a"]), false), View::Without);
    }

    #[test]
    fn an_answer_without_authority_counts_only_from_a_resolver() {
        let owner = parse("_acme-challenge.example.org").unwrap();
        let mut lame = answer(&owner, &[&["a"]]);
        lame.metadata.authoritative = false;
        assert_eq!(judge(&lame, &owner, &values(&["a"]), false), View::Lame);
        assert_eq!(judge(&lame, &owner, &values(&["a"]), true), View::With);
    }

    #[test]
    fn response_codes_are_named() {
        let owner = parse("_acme-challenge.example.org").unwrap();
        let mut refused = answer(&owner, &[]);
        refused.metadata.response_code = ResponseCode::Refused;
        assert_eq!(judge(&refused, &owner, &values(&["a"]), false), View::Code("REFUSED".to_owned()));
        refused.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(judge(&refused, &owner, &values(&["a"]), false), View::Without);
    }
}
