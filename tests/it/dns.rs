//! Challenge records against a real name server.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use certfleet::dns::rfc2136::{Algorithm, Rfc2136};
use certfleet::dns::{
    Account, ChallengeName, Change, Error, Lookup, PropagationCheck, Provider, TxtRecord, View, Zones,
};
use certfleet::model::problem::{Diagnose, Problem, Retry};
use certfleet::secret::Secret;
use futures::future::join_all;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use crate::world::made::write_private;
use crate::world::nameserver::{self, NameServer, Notify};
use crate::world::process::Watchdog;

const ZONE: &str = "social.test.";
const OWNER: &str = "_acme-challenge.media.social.test.";

/// A name server and what is needed to ask it.
struct Bed {
    ns: NameServer,
    lookup: Lookup,
    dir: TempDir,
    _watchdog: Arc<Watchdog>,
}

impl Bed {
    fn start(zones: &[&str], records: &[&str], secondary: Option<Notify>) -> Self {
        let own = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
        let zones =
            nameserver::Zones { names: own(zones), records: own(records), secondary, ..Default::default() };
        let (dir, watchdog) = (tempfile::tempdir().unwrap(), Watchdog::start().unwrap());
        let ns = NameServer::start(dir.path(), &zones, &watchdog).unwrap();
        let lookup = Lookup::new(&[ns.address]).unwrap();
        Self { ns, lookup, dir, _watchdog: watchdog }
    }

    fn provider(&self) -> Rfc2136 {
        let secret = Secret::File(self.ns.secret_file.clone());
        Rfc2136::new(self.ns.address.to_string(), self.ns.key.name.clone(), Algorithm::HmacSha256, secret)
    }

    fn account(&self) -> Account {
        account(self.provider(), [Some(self.ns.address), self.ns.secondary].into_iter().flatten().collect())
    }

    fn secret(&self, text: &str) -> Secret {
        let file: PathBuf = self.dir.path().join("other-secret");
        write_private(&file, text).unwrap();
        Secret::File(file)
    }

    /// The values at the owner, sorted.
    fn values(&self) -> Vec<String> {
        let lines = self.ns.ask(OWNER, "TXT").unwrap();
        let mut values: Vec<String> =
            lines.iter().filter_map(|line| Some(line.split_whitespace().last()?.to_owned())).collect();
        values.sort();
        values
    }

    fn serial(&self) -> u32 {
        let line = self.ns.ask("social.test", "SOA").unwrap().remove(0);
        line.split_whitespace().nth(6).unwrap().parse().unwrap()
    }
}

fn account(provider: impl Provider + 'static, authoritative: Vec<SocketAddr>) -> Account {
    Account {
        name: "main".parse().unwrap(),
        provider: Arc::new(provider),
        ttl: 60,
        check: PropagationCheck::Authoritative,
        authoritative,
        propagation_timeout: Duration::from_secs(10),
        secrets: Vec::new(),
        propagation_delay: Duration::ZERO,
    }
}

fn record_at(zone: &str, owner: &str, value: &str) -> TxtRecord {
    TxtRecord {
        zone: zone.to_owned(),
        owner: owner.to_owned(),
        value: value.to_owned(),
        ttl: 60,
        proof: None,
    }
}

fn add(value: &str) -> Change {
    Change::Add(record_at(ZONE, OWNER, value))
}

fn remove(value: &str) -> Change {
    Change::Remove(record_at(ZONE, OWNER, value))
}

fn values(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

async fn refusal(provider: &Rfc2136, zone: &str, owner: &str) -> Error {
    provider.apply(zone, &[Change::Add(record_at(zone, owner, "v"))]).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_come_and_go_one_by_one_beside_those_of_others() {
    let bed = Bed::start(&["social.test"], &["_acme-challenge.media.social.test. 60 IN TXT foreign"], None);
    let provider = bed.provider();
    let steps = [
        (vec![add("a")], vec!["foreign", "a"]),
        (vec![add("a")], vec!["foreign", "a"]),
        (vec![add("b"), add("c")], vec!["foreign", "a", "b", "c"]),
        (vec![remove("a")], vec!["foreign", "b", "c"]),
        (vec![remove("a"), remove("never")], vec!["foreign", "b", "c"]),
        (vec![add("d"), remove("d"), remove("b")], vec!["foreign", "c"]),
        (vec![remove("c")], vec!["foreign"]),
    ];
    for (changes, mut expected) in steps {
        provider.apply(ZONE, &changes).await.unwrap();
        expected.sort_unstable();
        assert_eq!(bed.values(), expected, "after {changes:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_of_the_server_is_named_with_its_remedy() {
    let bed = Bed::start(&["social.test"], &[], None);
    let right = bed.provider();

    let mut wrong = right.clone();
    wrong.secret = bed.secret(&STANDARD.encode([7; 32]));
    let error = refusal(&wrong, ZONE, OWNER).await;
    assert_eq!((error.code(), error.retry()), ("dns.tsig-bad-signature", Retry::Backoff));

    let mut wrong = right.clone();
    wrong.key_name = "certflete".to_owned();
    let error = refusal(&wrong, ZONE, OWNER).await;
    assert_eq!(error.code(), "dns.tsig-bad-key");
    assert!(error.to_string().contains("does not know the TSIG key `certflete`"), "{error}");

    let mut wrong = right.clone();
    wrong.algorithm = Algorithm::HmacSha512;
    let error = refusal(&wrong, ZONE, OWNER).await;
    assert_eq!(error.code(), "dns.tsig-bad-key", "BIND has the key with another algorithm only");

    let error = refusal(&right, "elsewhere.test.", "_acme-challenge.elsewhere.test.").await;
    assert_eq!(error.code(), "dns.not-authoritative");

    // The server has a root zone, without a policy that lets anybody change it.
    let error = refusal(&right, ".", "_acme-challenge.elsewhere.test.").await;
    assert_eq!(error.code(), "dns.refused");
    let hint = error.hint().unwrap();
    assert!(hint.contains("grant certfleet name _acme-challenge.elsewhere.test. TXT;"), "{hint}");

    let error = refusal(&right, ZONE, "_acme-challenge.elsewhere.test.").await;
    assert_eq!(error.code(), "dns.not-in-zone");

    assert!(bed.ns.txt_records().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_read_as_bind_writes_them_and_refused_by_name() {
    let bed = Bed::start(&["social.test"], &[], None);
    let mut provider = bed.provider();
    let secret = STANDARD.encode(&bed.ns.key.secret);

    provider.secret =
        bed.secret(&format!("key \"certfleet\" {{\n\talgorithm hmac-sha256;\n\tsecret \"{secret}\";\n}};\n"));
    provider.apply(ZONE, &[add("a")]).await.unwrap();

    provider.secret = bed.secret(&format!("{secret}\u{7}hunter2"));
    let error = provider.apply(ZONE, &[add("b")]).await.unwrap_err();
    let problem = Problem::of(&error);
    assert_eq!((problem.code.as_str(), problem.retry), ("dns.secret", Retry::AfterChange));
    assert!(!format!("{problem:?} {error:?} {provider:?}").contains(&secret[..8]));

    provider.secret = Secret::File(bed.dir.path().join("nothing-here"));
    assert_eq!(provider.apply(ZONE, &[add("b")]).await.unwrap_err().code(), "dns.secret");
    assert_eq!(bed.values(), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_signed_answer_of_a_server_that_is_there_counts() {
    let bed = Bed::start(&["social.test"], &[], None);
    let mut provider = bed.provider();

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    provider.server = closed.local_addr().unwrap().to_string();
    drop(closed);
    assert_eq!(provider.apply(ZONE, &[add("a")]).await.unwrap_err().code(), "dns.connection");

    provider.server = "no-port".to_owned();
    assert_eq!(provider.apply(ZONE, &[add("a")]).await.unwrap_err().code(), "dns.server-address");

    for (reply, code) in [
        // "Done", unsigned: the header alone, as a response to an update.
        (Some(vec![0xa8, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "dns.bad-reply"),
        (Some(b"HTTP/1.1 400".to_vec()), "dns.bad-reply"),
        (None, "dns.connection"),
    ] {
        let liar = TcpListener::bind("127.0.0.1:0").await.unwrap();
        provider.server = liar.local_addr().unwrap().to_string();
        let lie = async {
            let (mut stream, _) = liar.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut update = vec![0; usize::from(length)];
            stream.read_exact(&mut update).await.unwrap();
            if let Some(reply) = reply {
                let mut message = update[..2].to_vec();
                message.extend(reply);
                stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
                stream.write_all(&message).await.unwrap();
            }
        };
        let changes = [add("a")];
        let (result, ()) = tokio::join!(provider.apply(ZONE, &changes), lie);
        assert_eq!(result.unwrap_err().code(), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_are_few_updates_and_one_bad_one_fails_alone() {
    let bed = Bed::start(&["social.test"], &[], None);
    let (account, zones) = (Arc::new(bed.account()), Zones::new());
    let before = bed.serial();
    let change = |n: u32| {
        let owner = format!("_acme-challenge.n{n}.social.test.");
        zones.change(&account, Change::Add(record_at(ZONE, &owner, &format!("v{n}"))))
    };
    let start = Instant::now();
    let results = join_all((0..100).map(change)).await;
    eprintln!("100 changes in {:?}", start.elapsed());
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(bed.ns.txt_records().unwrap().len(), 100);
    // The server counts its updates in the zone's serial number.
    let updates = bed.serial() - before;
    assert!(updates <= 3, "{updates} updates for 100 changes made at the same time");

    let bad = zones.change(&account, Change::Add(record_at(ZONE, "_acme-challenge.elsewhere.test.", "v")));
    let (first, bad, last) = tokio::join!(change(200), bad, change(201));
    assert!(first.is_ok() && last.is_ok());
    assert_eq!(bad.unwrap_err().code(), "dns.not-in-zone");
    assert_eq!(bed.ns.txt_records().unwrap().len(), 102);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_changes_fit_through_one_connection() {
    let bed = Bed::start(&["social.test"], &[], None);
    let prefix = "abcdefghi.".repeat(18);
    let changes: Vec<Change> = (0..1000)
        .map(|n| {
            let owner = format!("_acme-challenge.{prefix}n{n}.social.test.");
            Change::Add(record_at(ZONE, &owner, &"v".repeat(43)))
        })
        .collect();
    bed.provider().apply(ZONE, &changes).await.unwrap();
    assert_eq!(bed.ns.txt_records().unwrap().len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn rfc8555_8_4_the_challenge_is_answered_at_the_end_of_all_cnames() {
    let bed = Bed::start(
        &["social.test", "deep.social.test", "acme.test"],
        &[
            "_acme-challenge.media.social.test. 60 IN CNAME One.acme.test.",
            "one.acme.test. 60 IN CNAME two.social.test.",
            "two.social.test. 60 IN CNAME not.there.acme.test.",
            "*.wild.social.test. 60 IN CNAME wild.acme.test.",
            "_acme-challenge.gone.social.test. 60 IN CNAME gone.elsewhere.",
            "_acme-challenge.loop.social.test. 60 IN CNAME loop.acme.test.",
            "loop.acme.test. 60 IN CNAME _acme-challenge.loop.social.test.",
            "_acme-challenge.self.social.test. 60 IN CNAME _acme-challenge.self.social.test.",
            "deep.social.test. 60 IN NS ns1.deep.social.test.",
        ],
        None,
    );
    let found = |owner: &str, zone: &str, via: &[&str]| ChallengeName {
        owner: owner.to_owned(),
        zone: zone.to_owned(),
        via: values(via),
    };
    let plain = bed.lookup.challenge("www.Social.test").await.unwrap();
    assert_eq!(plain, found("_acme-challenge.www.social.test.", ZONE, &[]));
    let apex = bed.lookup.challenge("social.test").await.unwrap();
    assert_eq!(apex, found("_acme-challenge.social.test.", ZONE, &[]));
    let deep = bed.lookup.challenge("a.b.deep.social.test").await.unwrap();
    assert_eq!(deep, found("_acme-challenge.a.b.deep.social.test.", "deep.social.test.", &[]));
    let chain = bed.lookup.challenge("media.social.test").await.unwrap();
    assert_eq!(
        chain,
        found("not.there.acme.test.", "acme.test.", &[OWNER, "one.acme.test.", "two.social.test."])
    );
    let wild = bed.lookup.challenge("wild.social.test").await.unwrap();
    assert_eq!(wild, found("wild.acme.test.", "acme.test.", &["_acme-challenge.wild.social.test."]));

    for name in ["loop.social.test", "self.social.test"] {
        let error = bed.lookup.challenge(name).await.unwrap_err();
        assert_eq!(error.code(), "dns.cname-loop", "{error}");
    }
    for name in ["gone.social.test", "not-delegated.example"] {
        let error = bed.lookup.challenge(name).await.unwrap_err();
        assert_eq!(error.code(), "dns.no-zone", "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_nine_is_too_long_one_of_eight_is_not() {
    let lines: Vec<String> = (1..9)
        .map(|n| format!("c{n}.social.test. 60 IN CNAME c{}.social.test.", n + 1))
        .chain(["_acme-challenge.nine.social.test. 60 IN CNAME c1.social.test.".to_owned()])
        .chain(["_acme-challenge.eight.social.test. 60 IN CNAME c2.social.test.".to_owned()])
        .collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let bed = Bed::start(&["social.test"], &lines, None);
    assert_eq!(bed.lookup.challenge("eight.social.test").await.unwrap().via.len(), 8);
    let error = bed.lookup.challenge("nine.social.test").await.unwrap_err();
    assert!(matches!(error, Error::CnameDepth { limit: 8, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_arrived_when_the_last_server_has_it() {
    let bed = Bed::start(&["social.test"], &[], Some(Notify::Off));
    let mut account = bed.account();
    let secondary = bed.ns.secondary.unwrap();
    account.provider.apply(ZONE, &[add("a"), add("b")]).await.unwrap();

    account.propagation_timeout = Duration::from_millis(900);
    let error = bed.lookup.propagated(&account, ZONE, OWNER, &values(&["a", "b"])).await.unwrap_err();
    let problem = Problem::of(&error);
    assert_eq!(problem.code, "dns.not-propagated");
    assert_eq!(
        problem.causes,
        [format!(
            "{secondary} still answers without the value for _acme-challenge.media.social.test after 1 s"
        )]
    );
    assert!(problem.hint.unwrap().contains("dns.main.propagation-timeout"));

    account.propagation_timeout = Duration::from_secs(20);
    let asked = values(&["a", "b"]);
    let told = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let seen = bed.lookup.seen(&account, ZONE, OWNER, &asked).await.unwrap();
        let views: Vec<View> = seen.into_iter().map(|sighting| sighting.view).collect();
        bed.ns.notify_secondary("social.test").unwrap();
        views
    };
    let start = Instant::now();
    let (result, views) = tokio::join!(bed.lookup.propagated(&account, ZONE, OWNER, &asked), told);
    eprintln!(
        "seen everywhere {:?} after the secondary could know",
        start.elapsed().saturating_sub(Duration::from_millis(300))
    );
    result.unwrap();
    assert_eq!(views, [View::With, View::Without]);
    let missing = values(&["a", "c"]);
    let seen = bed.lookup.seen(&account, ZONE, OWNER, &missing).await.unwrap();
    assert!(seen.iter().all(|sighting| sighting.view == View::Without));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_named_and_delays_only_this() {
    let bed = Bed::start(&["social.test"], &[], Some(Notify::Off));
    let mut account = bed.account();
    account.propagation_timeout = Duration::from_millis(2500);
    account.provider.apply(ZONE, &[add("a")]).await.unwrap();
    bed.ns.secondary_service.as_ref().unwrap().freeze();
    let start = Instant::now();
    let error = bed.lookup.propagated(&account, ZONE, OWNER, &values(&["a"])).await.unwrap_err();
    bed.ns.secondary_service.as_ref().unwrap().thaw();
    assert!(start.elapsed() < Duration::from_secs(4));
    let cause = Problem::of(&error).causes.remove(0);
    let expected = format!("{} still does not answer after", bed.ns.secondary.unwrap());
    assert!(cause.starts_with(&expected), "{cause}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_authority_or_to_another_question_does_not_count() {
    let liar = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = liar.local_addr().unwrap();
    let mut account = account(nobody(), vec![address]);
    account.propagation_timeout = Duration::from_millis(800);
    let lookup = Lookup::new(&[address]).unwrap();
    let lie = async {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = liar.recv_from(&mut buffer).await.unwrap();
            let mut reply = buffer[..length].to_vec();
            // A response with authority, to a question that was not asked; then one without.
            reply[2] |= 0x84;
            reply[1] ^= 1;
            liar.send_to(&reply, from).await.unwrap();
            reply[2] &= !0x04;
            reply[1] ^= 1;
            liar.send_to(&reply, from).await.unwrap();
        }
    };
    let asked = values(&["a"]);
    let error = tokio::select! {
        result = lookup.propagated(&account, ZONE, OWNER, &asked) => result.unwrap_err(),
        () = lie => unreachable!("the liar does not end"),
    };
    assert_eq!(error.code(), "dns.lame", "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_too_long_for_a_datagram_are_fetched_by_tcp() {
    let bed = Bed::start(&["social.test"], &[], None);
    let many: Vec<String> = (0..60).map(|n| format!("{n:043}")).collect();
    let changes: Vec<Change> = many.iter().map(|value| add(value)).collect();
    bed.provider().apply(ZONE, &changes).await.unwrap();
    let start = Instant::now();
    bed.lookup.propagated(&bed.account(), ZONE, OWNER, &many).await.unwrap();
    eprintln!("seen by TCP after {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn name_servers_come_from_the_zone_unless_others_are_named() {
    let bed = Bed::start(&["social.test", "bare.test"], &["bare.test. 60 IN NS ns9.nowhere.test."], None);
    let mut account = bed.account();
    account.authoritative.clear();
    account.propagation_timeout = Duration::from_millis(300);
    let asked = values(&["a"]);
    // NS records carry no port, and nobody answers at this server's port 53.
    let error = bed.lookup.propagated(&account, ZONE, OWNER, &asked).await.unwrap_err();
    let cause = Problem::of(&error).causes.remove(0);
    assert!(cause.starts_with(&format!("ns1.social.test ({}) still", bed.ns.address.ip())), "{cause}");
    // One of two has no address: that is not "seen everywhere".
    let error = bed.lookup.propagated(&account, "bare.test.", OWNER, &asked).await.unwrap_err();
    assert_eq!(error.to_string(), "the name server `ns9.nowhere.test.` of `bare.test.` has no address");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resolver_is_asked_only_where_the_account_says_so() {
    let bed = Bed::start(&["social.test"], &[], None);
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut account = bed.account();
    account.authoritative = vec![dead];
    account.propagation_timeout = Duration::from_millis(500);
    account.propagation_delay = Duration::from_millis(100);
    let asked = values(&["a"]);
    account.provider.apply(ZONE, &[add("a")]).await.unwrap();

    let error = bed.lookup.propagated(&account, ZONE, OWNER, &asked).await.unwrap_err();
    assert_eq!(error.code(), "dns.not-propagated");

    account.check = PropagationCheck::Resolver;
    let start = Instant::now();
    // One of the resolvers is enough.
    let lookup = Lookup::new(&[dead, bed.ns.address]).unwrap();
    lookup.propagated(&account, ZONE, OWNER, &asked).await.unwrap();
    assert!(start.elapsed() >= account.propagation_delay);

    account.check = PropagationCheck::Off;
    let start = Instant::now();
    lookup.propagated(&account, ZONE, OWNER, &values(&["never"])).await.unwrap();
    assert!(start.elapsed() >= account.propagation_delay);
}

/// For accounts that write nothing.
fn nobody() -> Rfc2136 {
    Rfc2136::new(
        "127.0.0.1:9".to_owned(),
        "none".to_owned(),
        Algorithm::HmacSha256,
        Secret::Env("NONE".to_owned()),
    )
}
