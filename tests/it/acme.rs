//! Issuing, against a real Pebble and a real name server, and with a server between that misbehaves.

mod between;
mod faults;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use certfleet::acme::{Accounts, Ca, Challenge, Error, Issued, Journal, Solver, Step, Wanted, new_key};
use certfleet::model::desired::{Issuer, KeyType};
use certfleet::model::name::IssuerName;
use certfleet::model::problem::{Blame, Diagnose, Problem, Retry};
use jiff::Timestamp;
use zeroize::Zeroizing;

use self::between::{Act, Answer, Between};
use crate::world::World;
use crate::world::pebble::Behaviour;

/// Everything that the engine would give to an order.
struct Bench {
    world: World,
    issuer: Issuer,
    accounts: Kept,
    journal: Urls,
}

#[derive(Default)]
struct Kept(Mutex<BTreeMap<String, String>>);

#[async_trait]
impl Accounts for Kept {
    fn load(
        &self,
        issuer: &IssuerName,
        directory: &str,
    ) -> Result<Option<Zeroizing<String>>, Box<dyn Diagnose + Send + Sync>> {
        Ok(self.0.lock().unwrap().get(&format!("{issuer} {directory}")).cloned().map(Zeroizing::new))
    }

    fn save(
        &self,
        issuer: &IssuerName,
        directory: &str,
        credentials: &str,
    ) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
        let old = self.0.lock().unwrap().insert(format!("{issuer} {directory}"), credentials.to_owned());
        assert_eq!(old, None, "a second account");
        Ok(())
    }
}

#[derive(Default)]
struct Urls(Mutex<Vec<String>>);

impl Urls {
    fn last(&self) -> Option<String> {
        self.0.lock().unwrap().last().cloned()
    }
}

impl Journal for Urls {
    fn ordered(&self, url: &str) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
        self.0.lock().unwrap().push(url.to_owned());
        Ok(())
    }
}

/// Writes TXT records straight into the world's name server, or fails.
struct Records<'a> {
    world: &'a World,
    works: bool,
    asked: Mutex<Vec<Vec<Challenge>>>,
}

#[derive(Debug, thiserror::Error)]
#[error("no update today")]
struct NoUpdate;

impl Diagnose for NoUpdate {
    fn code(&self) -> &'static str {
        "dns.refused"
    }

    fn blame(&self) -> Blame {
        Blame::Dns
    }

    fn hint(&self) -> Option<String> {
        Some("ask again tomorrow".to_owned())
    }
}

#[async_trait]
impl Solver for Records<'_> {
    async fn present(&self, challenges: &[Challenge]) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
        self.asked.lock().unwrap().push(challenges.to_vec());
        if !self.works {
            return Err(Box::new(NoUpdate));
        }
        for Challenge { domain, value, proof: _ } in challenges {
            self.world.ns.add(&format!("_acme-challenge.{domain}. 60 TXT {value}")).unwrap();
        }
        Ok(())
    }
}

impl Bench {
    fn new(behaviour: Behaviour) -> Self {
        let world = World::builder().pebble(behaviour).start().unwrap();
        let issuer = Issuer {
            name: "pebble".parse().unwrap(),
            directory: world.pebble.directory.clone(),
            contact: vec!["mailto:ops@social.test".to_owned()],
            directory_ca: Some(world.pebble.directory_ca.clone()),
            roots: None,
            profile: None,
            preferred_chain: None,
        };
        Self { world, issuer, accounts: Kept::default(), journal: Urls::default() }
    }

    /// A bench whose CA is reached through a server between.
    async fn between(behaviour: Behaviour) -> (Self, Between) {
        let mut bench = Self::new(behaviour);
        let between = Between::start(&bench.world, |_| Act::Pass).await;
        bench.issuer.directory = between.directory.clone();
        bench.issuer.directory_ca = Some(between.directory_ca.clone());
        (bench, between)
    }

    async fn open(&self) -> Result<Ca, Error> {
        Ca::open(&self.issuer, &self.accounts).await
    }

    fn records(&self) -> Records<'_> {
        Records { world: &self.world, works: true, asked: Mutex::default() }
    }

    async fn issue(&self, ca: &Ca, wanted: &Wanted) -> Result<Issued, Error> {
        // The engine runs orders as tasks.
        fn sendable<T: Send>(future: T) -> T {
            future
        }
        let records = self.records();
        sendable(ca.issue(wanted, &self.journal, &records, &|_| ())).await
    }

    fn requests(&self) -> usize {
        self.world.pebble.requests()
    }
}

fn wanted(domains: &[&str]) -> Wanted {
    Wanted {
        domains: domains.iter().map(|name| name.parse().unwrap()).collect(),
        key: KeyType::EcdsaP256,
        profile: None,
        preferred_chain: None,
        replaces: None,
        resume: None,
        key_pem: new_key(KeyType::EcdsaP256).unwrap(),
    }
}

fn said(error: &Error) -> String {
    Problem::of(error).one_line()
}

#[tokio::test]
async fn one_name_costs_seven_requests_and_a_nonce_where_none_is_left() {
    let bench = Bench::new(Behaviour::default());
    let before = bench.requests();
    let ca = bench.open().await.unwrap();
    assert_eq!(bench.requests() - before, 3, "directory, nonce, account");
    let steps = Mutex::new(Vec::new());
    let solver = bench.records();
    let note = |step| steps.lock().unwrap().push(step);
    let order = wanted(&["media.social.test"]);
    let before = bench.requests();
    let issued = ca.issue(&order, &bench.journal, &solver, &note).await.unwrap();
    let first = bench.requests() - before;
    assert_eq!(issued.leaf.domains, order.domains);
    assert!(issued.fullchain.starts_with(&issued.cert) && issued.fullchain.ends_with(&issued.chain));
    assert_eq!(issued.fullchain.matches("BEGIN CERTIFICATE").count(), 2);
    assert_eq!(
        *steps.lock().unwrap(),
        [Step::Ordered, Step::Presenting(1), Step::Validating, Step::Finalizing, Step::Downloading]
    );
    let before = bench.requests();
    bench.issue(&ca, &wanted(&["sally.social.test"])).await.unwrap();
    let second = bench.requests() - before;
    // Two of them look at the order, and a slow CA is looked at more often.
    println!("requests of the first order: {first}, of the second: {second}");
    assert!((7..=10).contains(&first) && (7..=10).contains(&second), "{first} {second}");
    // The account is found again with one request, the directory.
    let before = bench.requests();
    let again = bench.open().await.unwrap();
    assert_eq!(bench.requests() - before, 1);
    let before = bench.requests();
    bench.issue(&again, &wanted(&["again.social.test"])).await.unwrap();
    let third = bench.requests() - before;
    assert!((8..=11).contains(&third), "{third}");
    assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (3, 3));
    assert_eq!(bench.journal.0.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_wildcard_and_its_base_stand_side_by_side() {
    let bench = Bench::new(Behaviour::default());
    let ca = bench.open().await.unwrap();
    let solver = bench.records();
    let order = wanted(&["*.social.test", "social.test"]);
    let issued = ca.issue(&order, &bench.journal, &solver, &|_| ()).await.unwrap();
    let asked = solver.asked.lock().unwrap();
    assert_eq!(asked.len(), 1, "all challenges in one call");
    assert_eq!(asked[0].len(), 2);
    assert!(asked[0].iter().all(|challenge| challenge.domain.to_string() == "social.test"));
    assert_eq!(issued.leaf.domains.len(), 2);
}

#[tokio::test]
async fn every_type_of_key_is_certified() {
    let bench = Bench::new(Behaviour::default());
    let ca = bench.open().await.unwrap();
    for key in [KeyType::EcdsaP256, KeyType::EcdsaP384, KeyType::Rsa2048, KeyType::Rsa4096] {
        let key_pem = tokio::task::spawn_blocking(move || new_key(key).unwrap()).await.unwrap();
        let names = ["a.social.test", "b.social.test", "c.acme.test"];
        bench.issue(&ca, &Wanted { key, key_pem, ..wanted(&names) }).await.unwrap();
    }
    assert_eq!(bench.world.pebble.issued(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_orders_run_at_once_on_one_account() {
    let bench = Bench::new(Behaviour::default());
    let ca = bench.open().await.unwrap();
    let started = std::time::Instant::now();
    let names: Vec<String> = (0..30).map(|n| format!("n{n}.social.test")).collect();
    let orders = names.iter().map(|name| async {
        let wanted = wanted(&[name.as_str()]);
        bench.issue(&ca, &wanted).await.map(drop)
    });
    futures::future::try_join_all(orders).await.unwrap();
    println!("30 orders: {:?}, {} requests", started.elapsed(), bench.requests());
    assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (30, 30));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_names_of_one_order_are_proven_side_by_side() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let names: Vec<String> = (0..20).map(|n| format!("n{n}.social.test")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    between.asked();
    let issued = bench.issue(&ca, &wanted(&names)).await.unwrap();
    assert_eq!(issued.leaf.domains.len(), 20);
    let asked = between.asked();
    let count = |path: &str| asked.iter().filter(|asked| asked.contains(path)).count();
    assert_eq!((count("/order-plz"), count("/authZ/"), count("/chalZ/")), (1, 20, 20), "{asked:?}");
    // One after the other they would get along with a single nonce; all at once they would need twenty.
    assert!((2..=10).contains(&count("/nonce-plz")), "{asked:?}");
}

#[tokio::test]
async fn half_of_the_nonces_refused_costs_no_order() {
    let bench = Bench::new(Behaviour { reject_nonces: Some(50), ..Behaviour::default() });
    let ca = bench.open().await.unwrap();
    let names: Vec<String> = (0..10).map(|n| format!("n{n}.social.test")).collect();
    let orders = names.iter().map(|name| async {
        let wanted = wanted(&[name.as_str(), "also.social.test"]);
        bench.issue(&ca, &wanted).await.map(drop)
    });
    futures::future::try_join_all(orders).await.unwrap();
    assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (10, 10));
}

#[tokio::test]
async fn nor_does_it_with_a_ca_that_remembers_names_by_chance() {
    // `CERTFLEET_NONCE_RUNS=50` for a good look, by hand; each run has a Pebble of its own.
    let runs = std::env::var("CERTFLEET_NONCE_RUNS").map_or(1, |runs| runs.parse().unwrap());
    for run in 1..=runs {
        // Of the names that it has seen before Pebble remembers half. While it looks for them it cannot take another
        // order: two at a time may wait for each other in there for ever, so they come one after the other.
        let behaviour =
            Behaviour { reject_nonces: Some(50), reuse_authorizations: None, ..Behaviour::default() };
        let bench = Bench::new(behaviour);
        let ca = bench.open().await.unwrap();
        for n in 1..=10 {
            let name = format!("n{}.social.test", n % 4);
            bench.issue(&ca, &wanted(&[name.as_str(), "also.social.test"])).await.unwrap();
            assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (n, n), "in run {run}");
        }
        println!("run {run}: 10 orders, 10 certificates, {} requests", bench.requests());
    }
}

#[tokio::test]
async fn nonces_that_never_work_end_the_attempt_without_an_order() {
    let bench = Bench::new(Behaviour { reject_nonces: Some(100), ..Behaviour::default() });
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.bad-nonce", "{}", said(&error));
    assert!(bench.requests() < 100, "{}", bench.requests());
}

#[tokio::test]
async fn names_that_the_ca_remembers_are_not_proven_again() {
    let bench = Bench::new(Behaviour { reuse_authorizations: Some(100), ..Behaviour::default() });
    let ca = bench.open().await.unwrap();
    bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap();
    let solver = bench.records();
    let both = wanted(&["a.social.test", "b.social.test"]);
    ca.issue(&both, &bench.journal, &solver, &|_| ()).await.unwrap();
    let asked = solver.asked.lock().unwrap().concat();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].domain.to_string(), "b.social.test");
    let before = bench.requests();
    let solver = bench.records();
    ca.issue(&wanted(&["a.social.test"]), &bench.journal, &solver, &|_| ()).await.unwrap();
    println!("requests with a remembered name: {}", bench.requests() - before);
    assert!(solver.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_name_that_policy_forbids_waits_for_a_change() {
    let blocked = vec!["blocked.test".to_owned()];
    let bench = Bench::new(Behaviour { blocked, ..Behaviour::default() });
    let ca = bench.open().await.unwrap();
    let error = bench.issue(&ca, &wanted(&["a.social.test", "b.blocked.test"])).await.unwrap_err();
    let problem = Problem::of(&error);
    assert_eq!((problem.code.as_str(), problem.retry), ("acme.rejected-identifier", Retry::AfterChange));
    assert_eq!(problem.blame, Blame::Operator);
    let line = problem.one_line();
    assert!(line.contains("cannot place the order at `pebble`") && line.contains("b.blocked.test"), "{line}");
    assert!(line.contains("(rejectedIdentifier)"), "{line}");
    assert_eq!(bench.world.pebble.orders(), 0);
}

#[tokio::test]
async fn a_wrong_record_is_told_for_each_name() {
    struct Wrong;
    #[async_trait]
    impl Solver for Wrong {
        async fn present(&self, _: &[Challenge]) -> Result<(), Box<dyn Diagnose + Send + Sync>> {
            Ok(())
        }
    }
    let bench = Bench::new(Behaviour::default());
    bench.world.ns.add("_acme-challenge.a.social.test. 60 TXT wrong").unwrap();
    bench.world.ns.add("_acme-challenge.b.social.test. 60 TXT wrong").unwrap();
    let ca = bench.open().await.unwrap();
    let order = wanted(&["a.social.test", "b.social.test"]);
    let error = ca.issue(&order, &bench.journal, &Wrong, &|_| ()).await.unwrap_err();
    let line = said(&error);
    assert!(error.order_is_over());
    assert_eq!(
        (error.code(), error.retry(), error.blame()),
        ("acme.unauthorized", Retry::Backoff, Blame::Dns)
    );
    assert!(line.contains("a.social.test") || line.contains("b.social.test"), "{line}");
    assert!(line.contains("(unauthorized)"), "{line}");
    // Going on with it is pointless, and says so.
    let resume = bench.journal.last();
    let error = bench.issue(&ca, &Wanted { resume, ..order }).await.unwrap_err();
    assert!(matches!(error, Error::OrderGone { .. }) && error.order_is_over(), "{}", said(&error));
}

#[tokio::test]
async fn a_solver_that_fails_speaks_for_itself() {
    let bench = Bench::new(Behaviour::default());
    let ca = bench.open().await.unwrap();
    let solver = Records { works: false, ..bench.records() };
    let order = wanted(&["a.social.test"]);
    let error = ca.issue(&order, &bench.journal, &solver, &|_| ()).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), ("dns.refused", Blame::Dns));
    assert_eq!(error.hint().as_deref(), Some("ask again tomorrow"));
    assert_eq!(said(&error), "cannot answer the challenges of `pebble`: no update today");
    assert!(!error.order_is_over());
}

#[tokio::test]
async fn a_renewal_names_what_it_replaces() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    assert!(ca.has_ari());
    let first = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap();
    let id = first.leaf.ari_id.clone().unwrap();
    let suggested = ca.renewal_info(&id).await.unwrap();
    let (start, end) = suggested.window.unwrap();
    assert!(start < end && start > Timestamp::now());
    let again = Some(id.clone());
    let order = Wanted { replaces: again.clone(), ..wanted(&["a.social.test"]) };
    bench.issue(&ca, &order).await.unwrap();
    // Replaced already: the order is placed without, once.
    between.asked();
    let order = Wanted { replaces: again, ..wanted(&["a.social.test"]) };
    bench.issue(&ca, &order).await.unwrap();
    let orders = between.asked().iter().filter(|asked| asked.contains("order-plz")).count();
    assert_eq!(orders, 2);
    assert_eq!(bench.world.pebble.orders(), 3);
    // A CA that does not repeat `replaces` has made the order all the same.
    let newest = bench.issue(&ca, &wanted(&["b.social.test"])).await.unwrap();
    between.rule(|asked| match asked.path.as_str() {
        "/order-plz" => Act::alter(|answer| answer.replace("\"replaces\"", "\"forgotten\"")),
        _ => Act::Pass,
    });
    let order = Wanted { replaces: newest.leaf.ari_id, ..wanted(&["b.social.test"]) };
    bench.issue(&ca, &order).await.unwrap();
    assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (5, 5));
}

#[tokio::test]
async fn renewal_information_is_believed_within_limits() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let issued = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap();
    let id = issued.leaf.ari_id.unwrap();
    let hours = |hours: u64| Duration::from_secs(3600 * hours);
    let windows = r#"{"suggestedWindow":{"start":"2026-01-02T00:00:00Z","end":"2026-01-01T00:00:00Z"},
        "explanationURL":"https://ca.test/\u001b[2Jwhy"}"#;
    for (header, ask_again) in [
        (None, hours(6)),
        (Some("1"), Duration::from_secs(60)),
        (Some("7200"), hours(2)),
        (Some("99999999999999999999"), hours(24)),
        (Some("18446744073709551615"), hours(24)),
        (Some("-1"), hours(6)),
        (Some("nonsense"), hours(6)),
    ] {
        between.rule(move |_| {
            let answer = Answer::new(200, "application/json", windows);
            Act::Answer(match header {
                Some(value) => answer.header("retry-after", value),
                None => answer,
            })
        });
        let suggestion = ca.renewal_info(&id).await.unwrap();
        assert_eq!(suggestion.window, None, "the end is before the start");
        assert_eq!(suggestion.ask_again_in.as_secs().abs_diff(ask_again.as_secs()) / 2, 0, "{header:?}");
        assert_eq!(suggestion.explanation.as_deref(), Some("https://ca.test/\\u{1b}[2Jwhy"));
    }
    for (answer, code) in [
        (Answer::new(404, "text/plain", ""), "acme.server-error"),
        (Answer::problem(404, "malformed", "unknown certificate"), "acme.malformed"),
        (Answer::new(200, "application/json", "{}"), "acme.protocol"),
        (Answer::new(200, "text/html", "<html>"), "acme.protocol"),
        (Answer::new(429, "text/html", "slow down").header("retry-after", "120"), "acme.rate-limited"),
    ] {
        between.rule(move |_| Act::Answer(answer.clone()));
        let error = ca.renewal_info(&id).await.unwrap_err();
        assert_eq!(error.code(), code, "{}", said(&error));
    }
    let error = ca.renewal_info("../../evil").await.unwrap_err();
    assert_eq!(error.code(), "acme.no-renewal-info");
}
