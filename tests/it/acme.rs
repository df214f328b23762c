//! Issuing, against a real Pebble and a real name server, and with a server between that misbehaves.

mod between;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use certfleet::acme::{Accounts, Ca, Challenge, Error, Issued, Journal, Solver, Step, Wanted, new_key};
use certfleet::model::desired::{Issuer, KeyType};
use certfleet::model::name::IssuerName;
use certfleet::model::problem::{Blame, Diagnose, Problem, Retry};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use self::between::{Act, Answer, Asked, Between};
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
        for Challenge { domain, value } in challenges {
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
        ca.issue(wanted, &self.journal, &self.records(), &|_| ()).await
    }

    fn requests(&self) -> usize {
        self.world.pebble.service.log().matches("-> calling handler()").count()
    }
}

fn wanted(domains: &[&str]) -> Wanted {
    Wanted {
        domains: domains.iter().map(|name| name.parse().unwrap()).collect(),
        key: KeyType::EcdsaP256,
        replaces: None,
        resume: None,
        key_pem: new_key(KeyType::EcdsaP256).unwrap(),
    }
}

fn said(error: &Error) -> String {
    Problem::of(error).one_line()
}

#[tokio::test]
async fn one_name_costs_eight_requests_and_the_next_seven() {
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
    assert!(first >= 8 && second >= 7, "{first} {second}");
    assert!(first <= 11 && second <= 10, "{first} {second}: polls aside it should be 6 and 5");
    // The account is found again with one request, the directory.
    let before = bench.requests();
    let again = bench.open().await.unwrap();
    assert_eq!(bench.requests() - before, 1);
    bench.issue(&again, &wanted(&["again.social.test"])).await.unwrap();
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
    println!("{line}\n{:?}", problem.hint);
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
    println!("{line}");
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
async fn an_order_is_resumed_wherever_it_was_left() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let cut: [(&str, fn(&Asked) -> Act); 5] = [
        ("pending", |asked| stop(asked, "/chalZ/")),
        ("ready", |asked| stop(asked, "/finalize-order/")),
        ("processing or valid", |asked| lose_then_stop(asked)),
        ("valid", |asked| stop(asked, "/certZ/")),
        ("validating", |asked| stop(asked, "/my-order/")),
    ];
    for (at, (state, rule)) in cut.into_iter().enumerate() {
        between.rule(rule);
        let name = format!("n{at}.social.test");
        let order = wanted(&[&name]);
        let error = bench.issue(&ca, &order).await.expect_err(state);
        assert!(!error.order_is_over(), "{state}: {}", said(&error));
        assert_eq!(error.retry(), Retry::Backoff);
        between.rule(|_| Act::Pass);
        between.asked();
        // A new process, too: nothing but what was recorded.
        let ca = bench.open().await.unwrap();
        let resume = bench.journal.last();
        let issued = bench.issue(&ca, &Wanted { resume, ..order }).await.expect(state);
        assert_eq!(issued.leaf.domains[0].to_string(), name);
        let asked = between.asked();
        println!("{state}: {asked:?}");
        assert!(!asked.iter().any(|asked| asked.contains("order-plz")), "{state}: {asked:?}");
        let made = (bench.world.pebble.orders(), bench.world.pebble.issued());
        assert_eq!(made, (at + 1, at + 1), "{state}");
    }
}

fn stop(asked: &Asked, path: &str) -> Act {
    if asked.path.starts_with(path) {
        Act::Answer(Answer::new(500, "text/plain", "out of order"))
    } else {
        Act::Pass
    }
}

/// The answer to the signing request is lost, and the CA is gone from then on.
fn lose_then_stop(asked: &Asked) -> Act {
    use std::sync::atomic::{AtomicBool, Ordering};
    static LOST: AtomicBool = AtomicBool::new(false);
    if LOST.load(Ordering::Relaxed) {
        return Act::Answer(Answer::new(502, "text/html", "<h1>bad gateway</h1>"));
    }
    if asked.path.starts_with("/finalize-order/") {
        LOST.store(true, Ordering::Relaxed);
        return Act::Lose;
    }
    Act::Pass
}

#[tokio::test]
async fn lost_answers_are_made_good_within_one_attempt() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let paths = ["/authZ/", "/chalZ/", "/my-order/", "/finalize-order/", "/certZ/"];
    for (at, path) in paths.into_iter().enumerate() {
        let mut lost = false;
        between.rule(move |asked| {
            if asked.path.starts_with(path) && !std::mem::replace(&mut lost, true) {
                Act::Lose
            } else {
                Act::Pass
            }
        });
        let name = format!("n{at}.social.test");
        bench.issue(&ca, &wanted(&[&name])).await.expect(path);
        assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (at + 1, at + 1), "{path}");
    }
}

#[tokio::test]
async fn an_order_whose_answer_is_lost_is_not_placed_twice() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    between.rule(|asked| if asked.path == "/order-plz" { Act::Lose } else { Act::Pass });
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("acme.unreachable", Retry::Backoff), "{}", said(&error));
    between.rule(|asked| match asked.path.as_str() {
        "/order-plz" => Act::alter(|answer| *answer = Answer::new(500, "text/plain", "oops")),
        _ => Act::Pass,
    });
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.retry()), ("acme.server-error", Retry::Backoff), "{}", said(&error));
    assert_eq!(bench.world.pebble.orders(), 2);
}

#[tokio::test]
async fn an_order_that_the_ca_forgot_is_over() {
    let bench = Bench::new(Behaviour::default());
    let ca = bench.open().await.unwrap();
    let (address, order) = (bench.world.pebble.address, wanted(&["a.social.test"]));
    let resume = Some(format!("https://{address}/my-order/nowhere"));
    let error = bench.issue(&ca, &Wanted { resume, ..order }).await.unwrap_err();
    assert!(matches!(error, Error::OrderGone { .. }), "{}", said(&error));
    // A restarted Pebble knows neither order nor account.
    bench.world.pebble.stop();
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), ("acme.unreachable", Blame::Network), "{}", said(&error));
    println!("{}", said(&error));
    bench.world.pebble.start_again().unwrap();
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!(
        (error.code(), error.retry()),
        ("acme.account-unknown", Retry::AfterChange),
        "{}",
        said(&error)
    );
    println!("{}\n{:?}", said(&error), error.hint());
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

#[tokio::test]
async fn a_ca_that_limits_us_says_until_when() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let date = |hours: i64| {
        let at = Timestamp::now() + SignedDuration::from_hours(hours);
        jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap()
    };
    for (status, header, minutes) in [
        (429, Some("7200".to_owned()), 120),
        (503, Some("600".to_owned()), 10),
        (429, Some(date(2)), 120),
        (429, Some(date(-2)), 1),
        (429, Some("0".to_owned()), 1),
        (429, Some("315360000".to_owned()), 1440),
        (429, Some("18446744073709551616".to_owned()), 1440),
        (429, Some("-5".to_owned()), 60),
        (429, Some("soon".to_owned()), 60),
        (429, None, 60),
    ] {
        let case = format!("{status} {header:?}");
        between.rule(move |asked| {
            if asked.path != "/order-plz" {
                return Act::Pass;
            }
            let answer =
                Answer::problem(status, "rateLimited", "too many certificates, see https://ca.test/");
            Act::Answer(match &header {
                Some(value) => answer.header("retry-after", value),
                None => answer,
            })
        });
        let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
        assert_eq!((error.code(), error.blame()), ("acme.rate-limited", Blame::Issuer), "{case}");
        let Retry::NotBefore(until) = error.retry() else { panic!("{case}: {:?}", error.retry()) };
        let off = until.duration_since(Timestamp::now()) - SignedDuration::from_mins(minutes);
        assert!(off.abs() < SignedDuration::from_secs(30), "{case}: {until}");
        assert!(said(&error).contains("too many certificates, see https://ca.test/"), "{}", said(&error));
        let asked = between.asked();
        assert_eq!(asked.iter().filter(|asked| asked.contains("order-plz")).count(), 1, "{asked:?}");
    }
    assert_eq!(bench.world.pebble.orders(), 0);
}

#[tokio::test]
async fn absurd_answers_are_errors_with_a_reason() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let cases: [(&str, fn(Answer) -> Answer, &str, &str); 12] = [
        (
            "/order-plz",
            |_| Answer::new(503, "text/html", "<html>\u{1b}[2J down"),
            "acme.server-error",
            "status 503",
        ),
        (
            "/order-plz",
            |_| Answer::new(302, "text/html", "").header("location", "https://evil.test/"),
            "acme.server-error",
            "status 302",
        ),
        (
            "/order-plz",
            |_| Answer::problem(403, "userActionRequired", "new terms"),
            "acme.user-action-required",
            "new terms",
        ),
        (
            "/order-plz",
            |_| Answer::problem(400, "invalidProfile", "no such profile"),
            "acme.invalid-profile",
            "no such profile",
        ),
        (
            "/order-plz",
            |_| Answer::new(201, "application/json", "{}").header("location", "http://169.254.169.254/"),
            "acme.protocol",
            "169.254.169.254",
        ),
        (
            "/authZ/",
            |_| Answer::new(200, "application/json", vec![b' '; 2 << 20]),
            "acme.protocol",
            "more than 1048576 bytes",
        ),
        (
            "/authZ/",
            |mut answer| {
                answer.replace("\"token\": \"", "\"token\": \"../../etc/");
                answer
            },
            "acme.protocol",
            "base64url",
        ),
        (
            "/authZ/",
            |mut answer| {
                answer.replace("a.social.test", "victim.test");
                answer
            },
            "acme.protocol",
            "`victim.test`",
        ),
        (
            "/authZ/",
            |mut answer| {
                answer.replace("dns-01", "dns-99");
                answer
            },
            "acme.protocol",
            "no dns-01 challenge",
        ),
        (
            "/my-order/",
            |mut answer| {
                answer.replace("\"status\": \"", "\"status\": \"un\\u001b");
                answer
            },
            "acme.protocol",
            "cannot be understood",
        ),
        (
            "/finalize-order/",
            |_| Answer::problem(400, "badCSR", "key is too small"),
            "acme.bad-csr",
            "key is too small",
        ),
        (
            "/certZ/",
            |_| Answer::new(200, "text/html", "<html>no certificate"),
            "acme.wrong-certificate",
            "<html>no certificate",
        ),
    ];
    for (path, change, code, words) in cases {
        between.rule(move |asked| {
            if asked.path.starts_with(path) {
                Act::alter(move |answer| *answer = change(answer.clone()))
            } else {
                Act::Pass
            }
        });
        let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
        let line = said(&error);
        println!("{line}");
        assert_eq!(error.code(), code, "{path}: {line}");
        assert!(line.contains(words) && !line.contains('\u{1b}'), "{path}: {line}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_not_asked_for_is_not_accepted() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    let other = bench.issue(&ca, &wanted(&["other.social.test"])).await.unwrap();
    between.rule(move |asked| {
        let other = other.fullchain.clone();
        match asked.path.starts_with("/certZ/") {
            true => Act::alter(|answer| answer.body = other.into_bytes()),
            false => Act::Pass,
        }
    });
    let error = bench.issue(&ca, &wanted(&["a.social.test"])).await.unwrap_err();
    assert_eq!((error.code(), error.blame()), ("acme.wrong-certificate", Blame::Issuer));
    assert!(error.order_is_over() && said(&error).contains("another key"), "{}", said(&error));
    let planted = new_key(KeyType::EcdsaP256).unwrap();
    between.rule(move |asked| {
        let planted = planted.clone();
        match asked.path.starts_with("/certZ/") {
            true => Act::alter(move |answer| answer.body.extend(planted.as_bytes())),
            false => Act::Pass,
        }
    });
    let order = wanted(&["a.social.test"]);
    let error = bench.issue(&ca, &order).await.unwrap_err();
    assert!(said(&error).contains("something that is no certificate"), "{}", said(&error));
    assert!(!said(&error).contains("MI"), "{}", said(&error));
    // The certificate itself is good: it is fetched again.
    assert!(!error.order_is_over());
    between.rule(|_| Act::Pass);
    let resume = bench.journal.last();
    bench.issue(&ca, &Wanted { resume, ..order }).await.unwrap();
    assert_eq!(bench.world.pebble.issued(), 3);
}

#[tokio::test]
async fn a_ca_that_wants_more_time_gets_it_and_the_order_is_kept() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let ca = bench.open().await.unwrap();
    between.rule({
        let mut finalized = false;
        move |asked| {
            finalized |= asked.path.starts_with("/finalize-order/");
            match finalized && asked.path.starts_with("/my-order/") {
                true => Act::alter(|answer| {
                    let text = String::from_utf8_lossy(&answer.body).replace("\"valid\"", "\"processing\"");
                    answer.body = text.into_bytes();
                    answer.headers.retain(|(name, _)| *name != "retry-after");
                    answer.headers.push(("retry-after", "18446744073709551615".to_owned()));
                }),
                false => Act::Pass,
            }
        }
    });
    let order = wanted(&["a.social.test"]);
    let error = bench.issue(&ca, &order).await.unwrap_err();
    assert_eq!(error.code(), "acme.processing", "{}", said(&error));
    assert!(matches!(error.retry(), Retry::NotBefore(_)) && !error.order_is_over());
    between.rule(|_| Act::Pass);
    let resume = bench.journal.last();
    bench.issue(&ca, &Wanted { resume, ..order }).await.unwrap();
    assert_eq!((bench.world.pebble.orders(), bench.world.pebble.issued()), (1, 1));
}

#[tokio::test]
async fn a_directory_that_is_none_is_refused() {
    let (bench, between) = Bench::between(Behaviour::default()).await;
    let cases: [(fn(Answer) -> Answer, &str, &str); 6] = [
        (|_| Answer::new(200, "text/html", "<html>"), "acme.protocol", "cannot be understood"),
        (|_| Answer::new(200, "application/json", "{}"), "acme.protocol", "newNonce"),
        (|_| Answer::new(200, "application/json", vec![b'x'; 10 << 20]), "acme.protocol", "more than"),
        (|_| Answer::problem(500, "serverInternal", "broken"), "acme.server-error", "broken"),
        (
            |_| Answer::new(301, "text/html", "").header("location", "https://other.test/dir"),
            "acme.server-error",
            "301",
        ),
        (
            |mut answer| {
                answer.replace("/nonce-plz\"", "[bad\"");
                answer.replace("https://127", "https://[127");
                answer
            },
            "acme.protocol",
            "no https URL",
        ),
    ];
    for (change, code, words) in cases {
        between.rule(move |_| Act::alter(move |answer| *answer = change(answer.clone())));
        let error = bench.open().await.err().unwrap();
        assert_eq!(error.code(), code, "{}", said(&error));
        assert!(said(&error).contains(words), "{}", said(&error));
    }
    assert!(bench.accounts.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_ca_that_is_not_trusted_or_silent_or_away_is_told_apart() {
    let mut bench = Bench::new(Behaviour::default());
    bench.issuer.directory_ca = Some(bench.world.pebble.roots.clone());
    let error = bench.open().await.err().unwrap();
    println!("{}\n{:?}", said(&error), error.hint());
    assert_eq!((error.code(), error.blame()), ("acme.untrusted", Blame::Operator), "{}", said(&error));
    assert!(error.hint().unwrap().contains("issuer.pebble.directory-ca"));

    bench.issuer.directory_ca = Some(bench.world.dir.path().join("nowhere.pem"));
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.directory-ca", "{}", said(&error));
    bench.issuer.directory_ca = Some(bench.world.ns.secret_file.clone());
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.directory-ca", "{}", said(&error));

    bench.issuer.directory_ca = Some(bench.world.pebble.directory_ca.clone());
    let silent = std::net::TcpListener::bind((bench.world.spare_address(1), 0)).unwrap();
    let address = silent.local_addr().unwrap();
    bench.issuer.directory = format!("https://{address}/dir");
    let error = bench.open().await.err().unwrap();
    assert_eq!((error.code(), error.blame()), ("acme.timeout", Blame::Network), "{}", said(&error));
    drop(silent);
    let error = bench.open().await.err().unwrap();
    println!("{}", said(&error));
    assert_eq!(error.code(), "acme.unreachable", "{}", said(&error));
    bench.issuer.directory = format!("http://{address}/dir");
    let error = bench.open().await.err().unwrap();
    assert_eq!(error.code(), "acme.protocol", "{}", said(&error));
}
