//! Hetzner's Cloud API: changes are actions that end later.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::fake::{Api, Records, Reply, Request, Server};
use super::token::{owner, quoted, token_bench, unquoted};
use super::{Bench, OWNER, SECRET, ZONE, account, add, apply, record_with_ttl, remove, shown, strings};
use certfleet::dns::Change;

/// What an action will do when it is asked after for the second time.
struct Pending {
    asked: u32,
    add: bool,
    owner: String,
    values: Vec<String>,
    ttl: u64,
}

#[derive(Default)]
struct Hetzner {
    actions: BTreeMap<u64, Pending>,
    last: u64,
    /// Every action fails.
    failing: bool,
}

token_bench!(Hetzner::default(), "/v1");

impl Api for Hetzner {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if request.header("authorization") != format!("Bearer {SECRET}") {
            return Reply::careless(401, request);
        }
        let zone = json!({ "id": 42, "name": "social.test", "mode": "primary" });
        match (request.method.as_str(), request.segments()[1..].to_vec().as_slice()) {
            ("GET", ["zones"]) => Reply::json(200, &json!({ "zones": [zone] })),
            ("GET", ["zones", "42" | "social.test"]) => Reply::json(200, &json!({ "zone": zone })),
            ("GET", ["zones", "42" | "social.test", "rrsets", name, "TXT"]) => {
                let there = records.at(&owner(name));
                let Some(first) = there.first() else { return failure(404, "not_found") };
                let values: Vec<_> =
                    there.iter().map(|record| json!({ "value": quoted(&record.value) })).collect();
                let set = json!({ "name": name, "type": "TXT", "ttl": first.ttl, "records": values });
                Reply::json(200, &json!({ "rrset": set }))
            }
            ("POST", ["zones", "42" | "social.test", "rrsets", name, "TXT", "actions", verb]) => {
                self.begin(&owner(name), verb, &request.json(), records)
            }
            ("GET", ["actions", id]) => self.poll(id.parse().unwrap_or(0), records),
            _ => failure(404, "not_found"),
        }
    }
}

impl Hetzner {
    fn begin(&mut self, owner: &str, verb: &str, body: &Value, records: &Records) -> Reply {
        if !self.actions.is_empty() {
            return failure(423, "locked");
        }
        let values: Option<Vec<String>> = body["records"]
            .as_array()
            .and_then(|list| list.iter().map(|record| unquoted(record["value"].as_str()?)).collect());
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            return failure(422, "invalid_input");
        };
        let there = records.at(owner);
        let has = |value: &String| there.iter().any(|record| record.value == *value);
        let ttl = body["ttl"].as_u64();
        let fits = match (verb, there.first()) {
            // A set has one time to live.
            ("add_records", Some(first)) => !values.iter().any(has) && ttl.is_none_or(|ttl| ttl == first.ttl),
            ("add_records", None) => ttl.is_none_or(|ttl| ttl >= 60),
            ("remove_records", _) => values.iter().all(has),
            _ => false,
        };
        if !fits {
            return failure(422, "invalid_input");
        }
        self.last += 1;
        let ttl = there.first().map(|first| first.ttl).or(ttl).unwrap_or(3600);
        let pending = Pending { asked: 0, add: verb == "add_records", owner: owner.to_owned(), values, ttl };
        self.actions.insert(self.last, pending);
        action(201, self.last, "running", &Value::Null)
    }

    fn poll(&mut self, id: u64, records: &mut Records) -> Reply {
        let Some(pending) = self.actions.get_mut(&id) else { return failure(404, "not_found") };
        pending.asked += 1;
        if pending.asked < 2 {
            return action(200, id, "running", &Value::Null);
        }
        let Some(pending) = self.actions.remove(&id) else { return failure(404, "not_found") };
        if self.failing {
            let error = json!({ "code": "action_failed", "message": "the zone is on fire" });
            return action(200, id, "error", &error);
        }
        for value in &pending.values {
            if pending.add {
                records.add(&pending.owner, value, pending.ttl);
            } else {
                let gone = records.at(&pending.owner).into_iter().find(|record| record.value == *value);
                gone.map(|record| records.remove(record.id));
            }
        }
        action(200, id, "success", &Value::Null)
    }
}

fn action(http: u16, id: u64, status: &str, error: &Value) -> Reply {
    Reply::json(http, &json!({ "action": { "id": id, "status": status, "error": error } }))
}

fn failure(status: u16, code: &str) -> Reply {
    Reply::json(status, &json!({ "error": { "code": code, "message": format!("it is {code}") } }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_done_when_its_action_is() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    bench.put(OWNER, "others");
    apply(&account, &[add("a"), remove("others"), super::add_at(ZONE, super::OTHER, "b")]).await;
    assert_eq!((bench.values(OWNER), bench.values(super::OTHER)), (strings(&["a"]), strings(&["b"])));
    // The time to live is the set's own where there is one.
    assert_eq!(bench.0.records(|records| records.at(OWNER)[0].ttl), 7200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_that_fails_is_told_in_its_own_words() {
    let bench = TokenBench(Server::start(Hetzner { failing: true, ..Hetzner::default() }));
    let account = account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert!(problem.message.contains("action_failed: the zone is on fire"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn short_times_to_live_are_raised() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    apply(&account, &[Change::Add(record_with_ttl("a", 1))]).await;
    assert_eq!(bench.0.records(|records| records.at(OWNER)[0].ttl), 60);
}
