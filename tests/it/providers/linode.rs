//! Linode: filters in a header, lists in pages.

use serde_json::{Value, json};

use super::fake::{Api, Record, Records, Reply, Request};
use super::token::{owner, relative, token_bench};
use super::{Bench, OWNER, SECRET, account, add, apply, remove};

/// Lists in pages of two.
struct Linode;

token_bench!(Linode, "/v4");

const PAGE: usize = 2;

impl Api for Linode {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if request.header("authorization") != format!("Bearer {SECRET}") {
            return Reply::careless(401, request);
        }
        let filter: Value = serde_json::from_str(request.header("x-filter")).unwrap_or_default();
        match (request.method.as_str(), request.segments()[1..].to_vec().as_slice()) {
            ("GET", ["domains"]) => {
                let all =
                    [json!({ "id": 6, "domain": "other.test" }), json!({ "id": 7, "domain": "social.test" })];
                let found: Vec<_> = all
                    .into_iter()
                    .filter(|domain| filter.get("domain").is_none_or(|name| *name == domain["domain"]))
                    .collect();
                Reply::json(200, &json!({ "data": found, "page": 1, "pages": 1 }))
            }
            ("GET", ["domains", "7", "records"]) => {
                assert_eq!(filter, json!({ "type": "TXT" }));
                list(request, records)
            }
            ("POST", ["domains", "7", "records"]) => {
                let body = request.json();
                let (Some(name), Some(value), Some(ttl)) =
                    (body["name"].as_str(), body["target"].as_str(), body["ttl_sec"].as_u64())
                else {
                    return failure(400, "target is required");
                };
                assert_eq!(body["type"], "TXT");
                let id = records.add(&owner(if name.is_empty() { "@" } else { name }), value, ttl);
                Reply::json(200, &json!({ "id": id }))
            }
            ("DELETE", ["domains", "7", "records", id]) => match records.remove(id.parse().unwrap_or(0)) {
                true => Reply::json(200, &json!({})),
                false => failure(404, "Not found"),
            },
            _ => failure(404, "Not found"),
        }
    }
}

fn list(request: &Request, records: &Records) -> Reply {
    let page: usize = request.query.get("page").and_then(|page| page.parse().ok()).unwrap_or(1);
    let shown: Vec<Value> =
        records.all().chunks(PAGE).nth(page - 1).unwrap_or_default().iter().map(told).collect();
    let pages = records.all().len().div_ceil(PAGE).max(1);
    Reply::json(200, &json!({ "data": shown, "page": page, "pages": pages }))
}

fn told(record: &Record) -> Value {
    let name = relative(&record.owner).trim_start_matches('@');
    json!({ "id": record.id, "type": "TXT", "name": name, "target": record.value, "ttl_sec": record.ttl })
}

fn failure(status: u16, reason: &str) -> Reply {
    Reply::json(status, &json!({ "errors": [{ "reason": reason }] }))
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_found_on_every_page() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    for value in ["1", "2", "3", "4", "5"] {
        bench.put(OWNER, value);
    }
    apply(&account, &[remove("5"), add("4"), add("6")]).await;
    assert_eq!(bench.values(OWNER), ["1", "2", "3", "4", "6"]);
}
