//! Whether a record has arrived: every name server is asked itself, for the CA may ask any.
//!
//! No resolver is asked for a record before it exists: it would remember that it did not.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::{Either, join_all, select};
use futures::stream::{FuturesUnordered, StreamExt};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::time::{Instant, sleep, timeout_at};

use super::error::Error;
use super::lookup::{Lookup, parse};
use super::servers::Server;
use super::sighting::{Lagging, Sighting, View};
use super::wire::{self, AskError};
use super::{Account, PropagationCheck};
use crate::model::problem::plain;

impl Lookup {
    /// Waits until the record is seen with every one of these values, as the account asks for.
    ///
    /// Takes at most the account's `propagation-timeout` and `propagation-delay` together, and
    /// the time to find the name servers. Where none of them answers by IPv6 (or by IPv4) at all,
    /// seeing the record at every one of them by the other is enough.
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
        let asked = Instant::now();
        let end = asked + account.propagation_timeout;
        let (v4, v6): (Vec<&Server>, Vec<&Server>) =
            servers.iter().partition(|server| server.address.is_ipv4());
        let late = |lagging| {
            late(
                account,
                zone,
                Lagging { owner: owner.to_owned(), waited: start.elapsed(), servers: lagging },
            )
        };
        let (heard_v4, heard_v6) = (AtomicBool::new(false), AtomicBool::new(false));
        let by_v4 = pin!(self.all(&v4, name, values, end, &heard_v4));
        let by_v6 = pin!(self.all(&v6, name, values, end, &heard_v6));
        // Machines with a route that leads nowhere are common, mostly for IPv6. Where one family has
        // shown that every server has the record, and not one server answers by the other, the fault
        // is ours and no reason to give up.
        let (first, second, suffices, heard) = match select(by_v4, by_v6).await {
            Either::Left((first, second)) => (first, Either::Left(second), suffices(&v4, &v6), &heard_v6),
            Either::Right((first, second)) => (first, Either::Right(second), suffices(&v6, &v4), &heard_v4),
        };
        let mut second = pin!(second);
        if suffices && first.is_empty() {
            match timeout_at(asked + FAMILY_GRACE, &mut second).await {
                Ok(lagging) if lagging.is_empty() => return Ok(()),
                Ok(lagging) => return Err(late(lagging)),
                Err(_) if !heard.load(Ordering::Relaxed) => {
                    tracing::warn!(
                        zone,
                        "no name server answers by one of IPv4 and IPv6; the other was enough"
                    );
                    return Ok(());
                }
                Err(_) => {}
            }
        }
        let mut lagging = first;
        lagging.extend(second.await);
        if lagging.is_empty() { Ok(()) } else { Err(late(lagging)) }
    }

    /// Asks servers until each has the record; those that do not at the end.
    async fn all(
        &self,
        servers: &[&Server],
        owner: &Name,
        values: &[String],
        end: Instant,
        heard: &AtomicBool,
    ) -> Vec<Sighting> {
        let polls = servers.iter().map(|server| self.until(server, owner, values, false, end, heard));
        join_all(polls).await.into_iter().filter_map(Result::err).collect()
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
        let (servers, heard) = (self.resolvers(), AtomicBool::new(false));
        let mut polls: FuturesUnordered<_> =
            servers.iter().map(|server| self.until(server, name, values, true, end, &heard)).collect();
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

    /// Asks one server again and again; at the end, what it said last. Notes when it says anything.
    async fn until(
        &self,
        server: &Server,
        owner: &Name,
        values: &[String],
        recursion: bool,
        end: Instant,
        heard: &AtomicBool,
    ) -> Result<(), Sighting> {
        let mut last = View::Silent;
        let mut pause = FIRST_PAUSE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Sighting { server: server.shown.clone(), view: last });
            }
            let view = self.view(server, owner, values, recursion, left.min(TRY)).await;
            if !matches!(view, View::Silent | View::Unreachable(_)) {
                heard.store(true, Ordering::Relaxed);
            }
            match view {
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
}

/// Whether each server that is known in one of the families is there in `these`, too.
fn suffices(these: &[&Server], others: &[&Server]) -> bool {
    !these.is_empty()
        && others.iter().all(|other| other.name.is_some() && these.iter().any(|this| this.name == other.name))
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

/// One try: a second for the first datagram, one more for its repetition.
const TRY: Duration = Duration::from_secs(2);
/// Two tries, so that one lost datagram is no verdict on a family of addresses.
const FAMILY_GRACE: Duration = Duration::from_secs(4);
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

    #[test]
    fn one_family_of_addresses_stands_for_the_other_only_with_every_server() {
        let server = |name: &str, address: &str| {
            Server::named(&parse(name).unwrap(), std::net::SocketAddr::new(address.parse().unwrap(), 53))
        };
        let (one, two) = (server("ns1.example", "192.0.2.1"), server("ns2.example", "192.0.2.2"));
        let two_v6 = server("ns2.example", "2001:db8::2");
        assert!(suffices(&[&one, &two], &[&two_v6]));
        assert!(!suffices(&[&one], &[&two_v6]), "ns2 was not asked");
        assert!(!suffices(&[], &[&two_v6]));
        let unnamed = Server::at("[2001:db8::3]:53".parse().unwrap());
        assert!(!suffices(&[&one, &two], &[&unnamed]), "named in certs.toml: meant");
    }
}
