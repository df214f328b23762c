//! What every DNS provider must do, each against its own server or a stand-in for it.
//!
//! A new provider brings a module with a [`Bench`] here and its name in `contract!`.

mod acme_dns;
mod cloudflare;
mod desec;
mod digitalocean;
mod exec;
mod fake;
mod gandi;
mod hetzner;
mod httpreq;
mod linode;
mod ovh;
mod powerdns;
mod rfc2136;
mod route53;
mod token;
mod whole;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use certfleet::config;
use certfleet::dns::{Account, Change, Error, KINDS, TxtRecord};
use certfleet::model::problem::{Blame, Diagnose, Problem, Retry};
use certfleet::model::state::Proof;
use jiff::{SignedDuration, Timestamp};

use fake::Fault;

/// The zone that every bench has.
const ZONE: &str = "social.test.";
const OWNER: &str = "_acme-challenge.media.social.test.";
const OTHER: &str = "_acme-challenge.social.test.";
/// A zone that no bench has.
const ELSEWHERE: &str = "elsewhere.test.";
/// What a bench takes for its secret, and what it does not. Neither may ever be shown.
const SECRET: &str = "canary1f8f7d1e-right";
const WRONG: &str = "canary1f8f7d1e-wrong";

/// The other side of a provider: where records end up, and what an account needs to get there.
trait Bench: Send + Sync {
    /// The account's own keys in certs.toml, with right credentials.
    fn table(&self) -> String;

    /// The same with wrong credentials.
    fn wrong(&self) -> String;

    /// The TXT values of a name, sorted, as the server has them.
    fn values(&self, owner: &str) -> Vec<String>;

    /// Has somebody else set a TXT record.
    fn put(&self, owner: &str, value: &str);

    /// What an error about the credentials must name: the account, or what stands for it.
    fn names(&self) -> &'static str {
        "dns.main"
    }

    /// The HTTP server, to break it.
    fn http(&self) -> &fake::Server {
        unreachable!("it speaks something else")
    }

    /// Whether single values can be removed.
    fn removes(&self) -> bool {
        true
    }
}

macro_rules! contract {
    ($($name:ident [$($group:ident)*])*) => {
        /// The providers that are tested.
        const TESTED: &[&str] = &[$(stringify!($name)),*];

        mod contract {
            $(mod $name {
                use super::super::$name::bench;

                $(contract!(@ $group);)*
            })*
        }
    };
    (@ records) => {
        contract!(=> values_stand_side_by_side_and_go_one_by_one);
        contract!(=> twice_is_once);
        contract!(=> what_others_wrote_stays);
    };
    (@ any_name) => {
        contract!(=> a_zone_s_own_name_is_a_name);
    };
    (@ credentials) => {
        contract!(=> wrong_credentials_are_named_and_never_shown);
        contract!(=> a_missing_secret_is_named);
    };
    (@ zones) => {
        contract!(=> a_zone_of_somebody_else_is_named);
    };
    (@ http) => {
        contract!(=> every_fault_of_the_server_is_readable);
        contract!(=> a_silent_server_is_given_up);
        contract!(=> a_short_pause_is_kept_once_a_long_one_is_reported);
    };
    (=> $clause:ident) => {
        #[tokio::test(flavor = "multi_thread")]
        async fn $clause() {
            super::super::$clause(&bench()).await;
        }
    };
}

// Which parts of the contract mean something for a provider: most keep it all.
contract! {
    acme_dns [records credentials zones http]
    cloudflare [records any_name credentials zones http]
    desec [records any_name credentials zones http]
    digitalocean [records any_name credentials zones http]
    exec [records any_name]
    gandi [records any_name credentials zones http]
    hetzner [records any_name credentials zones http]
    httpreq [records any_name credentials http]
    linode [records any_name credentials zones http]
    ovh [records any_name credentials zones http]
    powerdns [records any_name credentials zones http]
    rfc2136 [records any_name credentials zones]
    route53 [records any_name credentials zones]
}

#[test]
fn every_provider_keeps_the_contract() {
    let kinds: Vec<String> = KINDS.iter().map(|kind| kind.name.replace('-', "_")).collect();
    for kind in &kinds {
        assert!(TESTED.contains(&kind.as_str()), "{kind} has no bench in tests/it/providers.rs");
    }
    assert_eq!(kinds.len(), TESTED.len());
}

async fn values_stand_side_by_side_and_go_one_by_one(bench: &impl Bench) {
    let account = account(bench, &bench.table());
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), ["a"]);
    apply(&account, &[add("b")]).await;
    assert_eq!(bench.values(OWNER), ["a", "b"]);
    apply(&account, &[remove("a")]).await;
    let left: &[&str] = if bench.removes() { &["b"] } else { &["a", "b"] };
    assert_eq!(bench.values(OWNER), left);
    if !bench.removes() {
        return;
    }
    apply(&account, &[remove("b"), add("c"), add_at(ZONE, OTHER, "d"), add("e")]).await;
    assert_eq!((bench.values(OWNER), bench.values(OTHER)), (strings(&["c", "e"]), strings(&["d"])));
    apply(&account, &[remove("c"), remove("e"), Change::Remove(record(ZONE, OTHER, "d"))]).await;
    assert_eq!((bench.values(OWNER), bench.values(OTHER)), (Vec::new(), Vec::new()));
    apply(&account, &[]).await;
}

async fn twice_is_once(bench: &impl Bench) {
    let account = account(bench, &bench.table());
    apply(&account, &[add("a")]).await;
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), ["a"]);
    if !bench.removes() {
        return;
    }
    apply(&account, &[add("b"), add("b")]).await;
    assert_eq!(bench.values(OWNER), ["a", "b"]);
    apply(&account, &[remove("a")]).await;
    apply(&account, &[remove("a"), remove("never")]).await;
    apply(&account, &[remove("b"), remove("b")]).await;
    apply(&account, &[remove("b")]).await;
    assert_eq!(bench.values(OWNER), Vec::<String>::new());
}

async fn what_others_wrote_stays(bench: &impl Bench) {
    let account = account(bench, &bench.table());
    bench.put(OWNER, "somebody else's");
    bench.put("www.social.test.", "v=spf1 -all");
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), ["a", "somebody else's"]);
    apply(&account, &[remove("a"), remove("never")]).await;
    if bench.removes() {
        assert_eq!(bench.values(OWNER), ["somebody else's"]);
        assert_eq!(bench.values("www.social.test."), ["v=spf1 -all"]);
    }
}

/// A CNAME may well end at the apex of a zone.
async fn a_zone_s_own_name_is_a_name(bench: &impl Bench) {
    let account = account(bench, &bench.table());
    bench.put(ZONE, "v=spf1 -all");
    apply(&account, &[add_at(ZONE, ZONE, "a")]).await;
    assert_eq!(bench.values(ZONE), ["a", "v=spf1 -all"]);
    apply(&account, &[Change::Remove(record(ZONE, ZONE, "a"))]).await;
    assert_eq!(bench.values(ZONE), ["v=spf1 -all"]);
}

async fn wrong_credentials_are_named_and_never_shown(bench: &impl Bench) {
    let account = account(bench, &bench.wrong());
    for change in [add("a"), remove("a")] {
        let result = account.provider.apply(ZONE, &[change]).await;
        let Err(error) = result else {
            // What has nothing to remove asks nobody.
            assert!(!bench.removes());
            continue;
        };
        let problem = shown(&account, &error);
        assert!(problem.one_line().contains(bench.names()), "{problem:?}");
        assert_eq!(problem.blame, Blame::Operator, "{problem:?}");
        assert!(problem.hint.is_some(), "{problem:?}");
    }
    assert_eq!(bench.values(OWNER), Vec::<String>::new());
}

async fn a_missing_secret_is_named(bench: &impl Bench) {
    let table = bench.table();
    let start = table.find("{ file = \"").expect("a SECRET of the form { file }");
    let file_start = start + "{ file = \"".len();
    let file = &table[file_start..file_start + table[file_start..].find('"').unwrap()];
    let account = account(bench, &table.replace(file, "/nowhere/at-all"));
    let error = account.provider.apply(ZONE, &[add("a")]).await.unwrap_err();
    let problem = shown(&account, &error);
    assert_eq!((problem.code.as_str(), problem.blame), ("dns.secret", Blame::Operator));
    assert!(problem.one_line().contains(bench.names()), "{problem:?}");
    assert!(problem.one_line().contains("/nowhere/at-all"), "{problem:?}");
}

async fn a_zone_of_somebody_else_is_named(bench: &impl Bench) {
    let account = account(bench, &bench.table());
    let owner = "_acme-challenge.elsewhere.test.";
    let error = account.provider.apply(ELSEWHERE, &[add_at(ELSEWHERE, owner, "a")]).await.unwrap_err();
    let problem = shown(&account, &error);
    assert_eq!(problem.blame, Blame::Operator, "{problem:?}");
    assert!(problem.message.contains("elsewhere.test"), "{problem:?}");
    assert!(problem.hint.is_some(), "{problem:?}");
}

async fn every_fault_of_the_server_is_readable(bench: &impl Bench) {
    let http = bench.http();
    let account = account(bench, &bench.table());
    let faults = [
        (Fault::Status(500, "{\"message\": \"boom\"}"), "dns.provider-down", "boom"),
        (Fault::Status(502, "<html>Bad\u{1b}[2J Gateway"), "dns.provider-down", "<html>Bad"),
        (Fault::Status(503, ""), "dns.provider-down", "503"),
        (
            Fault::Status(400, "{\"error\": {\"code\": \"x\", \"message\": \"why not\"}}"),
            "dns.rejected",
            "why not",
        ),
        (Fault::Redirect("https://thief.test/"), "dns.redirect", "thief.test"),
        (Fault::Status(200, ""), "dns.bad-reply", "dns.main"),
        (Fault::Status(200, "{\"what\": "), "dns.bad-reply", "dns.main"),
        (Fault::Endless, "dns.bad-reply", "1024 KiB"),
    ];
    for (fault, code, text) in faults {
        http.fail(Some(fault));
        let result = account.provider.apply(ZONE, &[add("a")]).await;
        // Some protocols know no answer but the status.
        if let (Fault::Status(200, _), Ok(())) = (fault, &result) {
            continue;
        }
        let problem = shown(&account, &result.unwrap_err());
        assert_eq!(problem.code, code, "{fault:?}: {problem:?}");
        assert!(problem.one_line().contains(text), "{fault:?}: {problem:?}");
        assert!(problem.one_line().contains("dns.main"), "{fault:?}: {problem:?}");
    }
    http.fail(None);
    apply(&account, &[add("a")]).await;
    assert!(bench.values(OWNER).contains(&"a".to_owned()));

    http.stop();
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!((problem.code.as_str(), problem.blame), ("dns.connection", Blame::Network));
}

async fn a_silent_server_is_given_up(bench: &impl Bench) {
    let http = bench.http();
    let account = account(bench, &format!("{}timeout = \"1s\"\n", bench.table()));
    http.fail(Some(Fault::Hang));
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.timeout", "{problem:?}");
    assert!(problem.message.contains("dns.main"), "{problem:?}");
}

async fn a_short_pause_is_kept_once_a_long_one_is_reported(bench: &impl Bench) {
    let http = bench.http();
    let account = account(bench, &bench.table());
    for status in [429, 503] {
        http.fail(Some(Fault::Limited { status, seconds: 1, times: 1 }));
        apply(&account, &[add("a")]).await;
        assert_eq!(bench.values(OWNER), ["a"]);

        http.fail(Some(Fault::Limited { status, seconds: 0, times: u32::MAX }));
        let before = http.requests();
        let problem = shown(&account, &account.provider.apply(ZONE, &[add("b")]).await.unwrap_err());
        assert_eq!(problem.code, "dns.rate-limited");
        assert_eq!(http.requests() - before, 2, "once more, not for ever");

        http.fail(Some(Fault::Limited { status, seconds: 3600, times: u32::MAX }));
        let problem = shown(&account, &account.provider.apply(ZONE, &[add("b")]).await.unwrap_err());
        let Retry::NotBefore(until) = problem.retry else { panic!("{problem:?}") };
        assert!(until.duration_since(Timestamp::now()) > SignedDuration::from_mins(50), "{until}");
        http.fail(None);
    }
}

/// The account that certs.toml makes of these keys.
fn account(bench: &impl Bench, table: &str) -> Arc<Account> {
    account_of(kind_of(bench), table)
}

/// An account of this provider with these keys.
fn account_of(provider: &str, table: &str) -> Arc<Account> {
    let text = format!(
        "[issuer.letsencrypt]\ncontact = [\"ops@social.test\"]\naccept-terms = true\n\
         [dns.main]\nprovider = \"{provider}\"\n{table}\n\
         [[certificate]]\ndomains = [\"media.social.test\"]\nhosts = []\n"
    );
    let config = config::parse(&text, Path::new("/etc/certfleet/certs.toml"));
    let config = config.unwrap_or_else(|mistakes| panic!("{mistakes}\n{text}"));
    let account = config.dns.into_values().next().unwrap();
    assert_eq!(account.name.as_str(), "main");
    account
}

/// The provider's name, from the module of its bench.
fn kind_of<B>(_: &B) -> &'static str {
    let name = std::any::type_name::<B>();
    let is_in = |kind: &str| name.contains(&format!("::providers::{}::", kind.replace('-', "_")));
    KINDS.iter().map(|kind| kind.name).find(|kind| is_in(kind)).unwrap()
}

/// An error as people see it: readable, and without any secret.
fn shown(account: &Account, error: &Error) -> Problem {
    let problem = Problem::of(error);
    let all = format!("{problem:?} {error:?} {error} {account:?}");
    assert!(!all.contains("canary1f8f7d1e"), "a secret is shown: {all}");
    assert!(!problem.one_line().contains(char::is_control), "{problem:?}");
    assert!(!problem.message.contains("\u{1b}") && problem.message.chars().count() < 1000);
    assert!(!error.code().is_empty());
    problem
}

async fn apply(account: &Account, changes: &[Change]) {
    let result = tokio::time::timeout(Duration::from_secs(60), account.provider.apply(ZONE, changes)).await;
    if let Err(error) = result.expect("an answer within a minute") {
        panic!("{changes:?}: {:?}", Problem::of(&error));
    }
}

fn record(zone: &str, owner: &str, value: &str) -> TxtRecord {
    TxtRecord {
        zone: zone.to_owned(),
        owner: owner.to_owned(),
        value: value.to_owned(),
        ttl: 3600,
        proof: Some(Proof {
            domain: "media.social.test".parse().unwrap(),
            token: "the-token".to_owned(),
            key_authorization: "the-token.the-thumbprint".to_owned(),
        }),
    }
}

/// A record of the test zone with this time to live.
fn record_with_ttl(value: &str, ttl: u32) -> TxtRecord {
    TxtRecord { ttl, ..record(ZONE, OWNER, value) }
}

fn add_at(zone: &str, owner: &str, value: &str) -> Change {
    Change::Add(record(zone, owner, value))
}

fn add(value: &str) -> Change {
    add_at(ZONE, OWNER, value)
}

fn remove(value: &str) -> Change {
    Change::Remove(record(ZONE, OWNER, value))
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
