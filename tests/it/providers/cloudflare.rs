//! Cloudflare, as its API documentation has it.

use serde_json::{Value, json};

use super::fake::{Api, Record, Records, Reply, Request, Server};
use super::token::{quoted, token_bench, unquoted};
use super::{Bench, OWNER, SECRET, ZONE, account, add, apply, record_with_ttl, remove, strings};
use certfleet::dns::Change;

/// Two zones of that name, of which one is in charge; lists in pages of two.
#[derive(Default)]
struct Cloudflare {
    /// Somebody else makes this record just before the next batch.
    rival: Option<&'static str>,
    /// It is a gateway that knows no batches.
    single: bool,
}

token_bench!(Cloudflare::default(), "/client/v4");

const PAGE: usize = 2;

impl Api for Cloudflare {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if request.header("authorization") != format!("Bearer {SECRET}") {
            return Reply::careless(403, request);
        }
        match (request.method.as_str(), request.segments()[2..].to_vec().as_slice()) {
            ("GET", ["zones"]) => zones(request),
            ("GET", ["zones", "z1", "dns_records"]) => list(request, records),
            ("POST", ["zones", "z1", "dns_records"]) => batch(&json!({ "posts": [request.json()] }), records),
            ("DELETE", ["zones", "z1", "dns_records", id]) => {
                batch(&json!({ "deletes": [{ "id": id }] }), records)
            }
            ("POST", ["zones", "z1", "dns_records", "batch"]) if !self.single => {
                if let Some(value) = self.rival.take() {
                    records.add(OWNER, value, 60);
                }
                batch(&request.json(), records)
            }
            _ => failure(404, 7003, "Could not route to the request"),
        }
    }
}

fn zones(request: &Request) -> Reply {
    let zone = |id, name, status| json!({ "id": id, "name": name, "status": status });
    let all = [
        zone("z0", "social.test", "pending"),
        zone("z1", "social.test", "active"),
        zone("z2", "other.test", "active"),
    ];
    let wanted = request.query.get("name");
    let found: Vec<_> =
        all.iter().filter(|zone| wanted.is_none_or(|name| zone["name"] == name.as_str())).collect();
    success(&json!(found), 1)
}

fn list(request: &Request, records: &Records) -> Reply {
    let query = |name: &str| request.query.get(name).map_or("", String::as_str);
    let page: usize = query("page").parse().unwrap();
    assert_eq!(query("type"), "TXT");
    let name = request.query.get("name.exact");
    let all: Vec<&Record> = records
        .all()
        .iter()
        .filter(|record| name.is_none_or(|name| *name == record.owner.trim_end_matches('.')))
        .collect();
    let shown: Vec<Value> = all
        .chunks(PAGE)
        .nth(page - 1)
        .unwrap_or_default()
        .iter()
        .map(|record| {
            json!({
                "id": format!("r{}", record.id),
                "type": "TXT",
                "name": record.owner.trim_end_matches('.'),
                "content": quoted(&record.value),
                "ttl": record.ttl,
            })
        })
        .collect();
    success(&json!(shown), all.len().div_ceil(PAGE))
}

/// All or nothing.
fn batch(body: &Value, records: &mut Records) -> Reply {
    let mut after = records.clone();
    let items = |name: &str| body[name].as_array().cloned().unwrap_or_default();
    if items("deletes").len() + items("posts").len() > 200 {
        return failure(400, 81064, "Batch size limit exceeded");
    }
    for delete in items("deletes") {
        let id = delete["id"].as_str().unwrap_or_default().trim_start_matches('r').parse().unwrap_or(0);
        if !after.remove(id) {
            return failure(404, 81044, "Record does not exist.");
        }
    }
    for post in items("posts") {
        let owner = format!("{}.", post["name"].as_str().unwrap_or_default());
        let (Some(value), Some(ttl)) =
            (post["content"].as_str().and_then(unquoted), post["ttl"].as_u64().filter(|ttl| *ttl >= 60))
        else {
            return failure(400, 9005, "Content for TXT record is invalid, or its TTL.");
        };
        assert_eq!(post["type"], "TXT");
        assert!(owner.ends_with(ZONE));
        if after.values(&owner).contains(&value) {
            return failure(400, 81058, "An identical record already exists.");
        }
        after.add(&owner, &value, ttl);
    }
    *records = after;
    success(&json!({}), 1)
}

fn success(result: &Value, pages: usize) -> Reply {
    let info = json!({ "total_pages": pages });
    Reply::json(200, &json!({ "success": true, "errors": [], "result": result, "result_info": info }))
}

fn failure(status: u16, code: u32, message: &str) -> Reply {
    let errors = json!([{ "code": code, "message": message }]);
    Reply::json(status, &json!({ "success": false, "errors": errors, "result": null }))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_changes_of_a_zone_are_one_batch_found_on_every_page() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    for value in ["1", "2", "3", "4", "5"] {
        bench.put(OWNER, value);
    }
    apply(&account, &[remove("5"), remove("2"), add("4"), add("6"), super::add_at(ZONE, super::OTHER, "7")])
        .await;
    assert_eq!(bench.values(OWNER), ["1", "3", "4", "6"]);
    assert_eq!(bench.values(super::OTHER), ["7"]);
    let writes = bench.0.log().into_iter().filter(|request| request.method != "GET").count();
    assert_eq!(writes, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_changes_than_a_batch_takes_are_several() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    let values: Vec<String> = (0..250).map(|number| format!("v{number:03}")).collect();
    apply(&account, &values.iter().map(|value| add(value)).collect::<Vec<_>>()).await;
    assert_eq!(bench.values(OWNER), values);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_somebody_made_meanwhile_is_no_error() {
    let bench = TokenBench(Server::start(Cloudflare { rival: Some("a"), single: false }));
    let account = account(&bench, &bench.table());
    apply(&account, &[add("a"), add("b")]).await;
    assert_eq!(bench.values(OWNER), ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_without_batches_takes_them_one_by_one() {
    let bench = TokenBench(Server::start(Cloudflare { single: true, ..Cloudflare::default() }));
    let account = account(&bench, &bench.table());
    for value in ["others", "old", "old"] {
        bench.put(OWNER, value);
    }
    apply(&account, &[add("a"), add("b"), remove("old")]).await;
    assert_eq!(bench.values(OWNER), ["a", "b", "others"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn times_to_live_are_what_every_plan_may_have() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    apply(&account, &[Change::Add(record_with_ttl("a", 5)), Change::Add(record_with_ttl("b", 900))]).await;
    let ttls =
        bench.0.records(|records| records.at(OWNER).iter().map(|record| record.ttl).collect::<Vec<_>>());
    assert!(ttls.iter().all(|ttl| *ttl >= 60), "{ttls:?}");
    assert_eq!(bench.values(OWNER), strings(&["a", "b"]));
}
