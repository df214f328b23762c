//! deSEC: sets in bulk, lists in pages behind `Link` headers.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fake::{Api, Records, Reply, Request, Server};
use super::token::{owner, quoted, relative, token_bench, unquoted};
use super::{
    Bench, OTHER, OWNER, SECRET, ZONE, account, add, add_at, apply, record_with_ttl, shown, strings,
};
use certfleet::dns::Change;

/// Lists one set a page.
#[derive(Default)]
struct Desec {
    /// How many more times somebody else writes the sets right after us.
    rivals: u32,
}

token_bench!(Desec::default(), "/api/v1");

impl Api for Desec {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if request.header("authorization") != format!("Token {SECRET}") {
            return Reply::careless(401, request);
        }
        assert!(request.path.ends_with('/'), "{}", request.path);
        let domain = json!({ "name": "social.test", "minimum_ttl": 3600 });
        match (request.method.as_str(), request.segments()[2..].to_vec().as_slice()) {
            ("GET", ["domains"]) => Reply::json(200, &json!([domain])),
            ("GET", ["domains", "social.test"]) => Reply::json(200, &domain),
            ("GET", ["domains", "social.test", "rrsets"]) => list(request, records),
            ("PATCH", ["domains", "social.test", "rrsets"]) => {
                let reply = bulk(&request.json(), records);
                if self.rivals > 0 {
                    self.rivals -= 1;
                    records.replace(OWNER, &["rival".to_owned()], 3600);
                }
                reply
            }
            _ => Reply::json(404, &json!({ "detail": "Not found." })),
        }
    }
}

fn list(request: &Request, records: &Records) -> Reply {
    assert_eq!(request.query.get("type").map(String::as_str), Some("TXT"));
    let wanted = request.query.get("subname");
    let owners: BTreeSet<&str> = records.all().iter().map(|record| record.owner.as_str()).collect();
    let mut sets: Vec<Value> = Vec::new();
    for owner in owners {
        let subname = relative(owner).trim_start_matches('@');
        if wanted.is_none_or(|name| name == subname) {
            let values: Vec<_> = records.values(owner).iter().map(|value| quoted(value)).collect();
            let ttl = records.at(owner)[0].ttl;
            sets.push(json!({ "subname": subname, "type": "TXT", "ttl": ttl, "records": values }));
        }
    }
    let page = request.query["cursor"].strip_prefix("p=").map_or(0, |page| page.parse().unwrap());
    let mut reply = Reply::json(200, &json!(sets.get(page).into_iter().collect::<Vec<_>>()));
    if page + 1 < sets.len() {
        let link = |cursor: &str, rel| format!("<https://desec.io/api/v1/x/?cursor={cursor}>; rel=\"{rel}\"");
        let links = format!("{}, {}", link("", "first"), link(&format!("p%3D{}", page + 1), "next"));
        reply.headers.push(("link".to_owned(), links));
    }
    reply
}

/// All or nothing.
fn bulk(body: &Value, records: &mut Records) -> Reply {
    let mut after = records.clone();
    for set in body.as_array().unwrap() {
        let values: Option<Vec<String>> = set["records"]
            .as_array()
            .and_then(|list| list.iter().map(|value| unquoted(value.as_str()?)).collect());
        let (Some(name), Some(values), Some(ttl)) = (set["subname"].as_str(), values, set["ttl"].as_u64())
        else {
            return Reply::json(400, &json!([{ "records": ["This field is required."] }]));
        };
        assert_eq!(set["type"], "TXT");
        assert_ne!(name, "@");
        if ttl < 3600 {
            return Reply::json(400, &json!([{ "ttl": ["Ensure this value is at least 3600."] }]));
        }
        after.replace(&owner(if name.is_empty() { "@" } else { name }), &values, ttl);
    }
    *records = after;
    Reply::json(200, body)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_changes_of_a_zone_are_one_write() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    for number in 0..5 {
        bench.put(&format!("n{number}.{ZONE}"), "others");
    }
    bench.put(OTHER, "others");
    apply(&account, &[add("a"), add("b"), add_at(ZONE, OTHER, "c")]).await;
    assert_eq!((bench.values(OWNER), bench.values(OTHER)), (strings(&["a", "b"]), strings(&["c", "others"])));
    let writes = bench.0.log().into_iter().filter(|request| request.method != "GET").count();
    assert_eq!(writes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_somebody_wrote_over_is_written_again() {
    let bench = TokenBench(Server::start(Desec { rivals: 2 }));
    let account = account(&bench, &bench.table());
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), ["a", "rival"]);

    let bench = TokenBench(Server::start(Desec { rivals: u32::MAX }));
    let account = super::account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.contended", "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_times_to_live_are_raised_to_the_domain_s() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    apply(&account, &[Change::Add(record_with_ttl("a", 60))]).await;
    assert_eq!(bench.0.records(|records| records.at(OWNER)[0].ttl), 3600);
}
