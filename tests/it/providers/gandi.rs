//! Gandi LiveDNS: whole sets.

use serde_json::json;

use super::fake::{Api, Records, Reply, Request, Server};
use super::token::{owner, quoted, token_bench, unquoted};
use super::{Bench, OWNER, SECRET, ZONE, account, add, apply, record_with_ttl, shown, strings};
use certfleet::dns::Change;

#[derive(Default)]
struct Gandi {
    /// How many more times somebody else writes the set right after us.
    rivals: u32,
}

token_bench!(Gandi::default(), "/v5/livedns");

impl Api for Gandi {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if request.header("authorization") != format!("Bearer {SECRET}") {
            return Reply::careless(401, request);
        }
        let domain = json!({ "fqdn": "social.test" });
        match (request.method.as_str(), request.segments()[2..].to_vec().as_slice()) {
            ("GET", ["domains"]) => Reply::json(200, &json!([domain])),
            ("GET", ["domains", "social.test"]) => Reply::json(200, &domain),
            ("GET", ["domains", "social.test", "records", name, "TXT"]) => {
                let there = records.at(&owner(name));
                let Some(first) = there.first() else { return failure(404, "Can't find the DNS record") };
                let values: Vec<_> = there.iter().map(|record| quoted(&record.value)).collect();
                Reply::json(200, &json!({ "rrset_ttl": first.ttl, "rrset_values": values }))
            }
            ("PUT", ["domains", "social.test", "records", name, "TXT"]) => {
                let body = request.json();
                let values: Option<Vec<String>> = body["rrset_values"]
                    .as_array()
                    .and_then(|list| list.iter().map(|value| unquoted(value.as_str()?)).collect());
                let (Some(values), Some(ttl @ 300..)) =
                    (values.filter(|values| !values.is_empty()), body["rrset_ttl"].as_u64())
                else {
                    return failure(400, "rrset_ttl: it is less than 300, or values are wrong");
                };
                records.replace(&owner(name), &values, ttl);
                if self.rivals > 0 {
                    self.rivals -= 1;
                    records.replace(&owner(name), &["rival".to_owned()], ttl);
                }
                Reply::json(201, &json!({ "message": "DNS Record Created" }))
            }
            ("DELETE", ["domains", "social.test", "records", name, "TXT"]) => {
                records.replace(&owner(name), &[], 0);
                Reply::empty(204)
            }
            _ => failure(404, "The resource could not be found."),
        }
    }
}

fn failure(status: u16, message: &str) -> Reply {
    Reply::json(status, &json!({ "object": "HTTPError", "code": status, "message": message }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_somebody_wrote_over_is_written_again() {
    let bench = TokenBench(Server::start(Gandi { rivals: 2 }));
    let account = account(&bench, &bench.table());
    bench.put(OWNER, "before");
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), ["a", "rival"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_over_it_for_ever_is_told_of() {
    let bench = TokenBench(Server::start(Gandi { rivals: u32::MAX }));
    let account = account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.contended", "{problem:?}");
    assert!(problem.message.contains("_acme-challenge.media.social.test"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_times_to_live_are_raised_and_those_of_others_kept() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    let ttl = || bench.0.records(|records| records.at(OWNER)[0].ttl);
    apply(&account, &[Change::Add(record_with_ttl("a", 60))]).await;
    assert_eq!(ttl(), 300);
    bench.0.records(|records| records.replace(OWNER, &strings(&["others"]), 7200));
    apply(&account, &[Change::Add(record_with_ttl("a", 60))]).await;
    assert_eq!(ttl(), 7200);
}
