//! DigitalOcean: records one by one, lists in pages.

use serde_json::{Value, json};

use super::fake::{Api, Records, Reply, Request};
use super::token::{owner, relative, token_bench};
use super::{Bench, OWNER, SECRET, ZONE, account, add, apply, remove};

/// Lists in pages of two.
struct DigitalOcean;

token_bench!(DigitalOcean, "/v2");

const PAGE: usize = 2;

impl Api for DigitalOcean {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if request.header("authorization") != format!("Bearer {SECRET}") {
            return Reply::careless(401, request);
        }
        let domain = json!({ "name": "social.test", "ttl": 1800 });
        match (request.method.as_str(), request.segments()[1..].to_vec().as_slice()) {
            ("GET", ["domains"]) => Reply::json(200, &json!({ "domains": [domain] })),
            ("GET", ["domains", "social.test"]) => Reply::json(200, &json!({ "domain": domain })),
            ("GET", ["domains", "social.test", "records"]) => list(request, records),
            ("POST", ["domains", "social.test", "records"]) => {
                let body = request.json();
                let (Some(name), Some(value), Some(30..)) =
                    (body["name"].as_str(), body["data"].as_str(), body["ttl"].as_u64())
                else {
                    return failure(422, "unprocessable_entity");
                };
                assert_eq!(body["type"], "TXT");
                // It would take them twice.
                let id = records.add(&owner(name), value, body["ttl"].as_u64().unwrap_or(0));
                Reply::json(201, &json!({ "domain_record": { "id": id } }))
            }
            ("DELETE", ["domains", "social.test", "records", id]) => {
                match records.remove(id.parse().unwrap_or(0)) {
                    true => Reply::empty(204),
                    false => failure(404, "not_found"),
                }
            }
            _ => failure(404, "not_found"),
        }
    }
}

fn list(request: &Request, records: &Records) -> Reply {
    let query = |name: &str| request.query.get(name).map_or("", String::as_str);
    assert_eq!(query("type"), "TXT");
    let page: usize = query("page").parse().unwrap();
    // The filter takes the full name, the records have the relative one.
    let all = records.at(&format!("{}.", query("name")));
    let shown: Vec<Value> = all
        .chunks(PAGE)
        .nth(page - 1)
        .unwrap_or_default()
        .iter()
        .map(|record| {
            json!({ "id": record.id, "type": "TXT", "name": relative(&record.owner), "data": record.value })
        })
        .collect();
    let mut links = json!({});
    if page * PAGE < all.len() {
        links = json!({ "pages": { "next": "https://api.digitalocean.com/v2/?page=2" } });
    }
    Reply::json(200, &json!({ "domain_records": shown, "links": links, "meta": { "total": all.len() } }))
}

fn failure(status: u16, id: &str) -> Reply {
    Reply::json(status, &json!({ "id": id, "message": format!("it is {id}") }))
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_found_on_every_page() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    for value in ["1", "2", "3", "4", "5", "5"] {
        bench.put(OWNER, value);
    }
    apply(&account, &[remove("5"), add("4"), add("6")]).await;
    assert_eq!(bench.values(OWNER), ["1", "2", "3", "4", "6"]);
    apply(&account, &[super::add_at(ZONE, super::OTHER, "7"), add("8"), remove("1")]).await;
    assert_eq!(bench.values(super::OTHER), ["7"]);
}
