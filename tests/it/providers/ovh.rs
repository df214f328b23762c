//! OVHcloud: signed requests, and nothing is live before a refresh.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha1::{Digest as _, Sha1};

use super::fake::{Api, Records, Reply, Request, Server};
use super::token::{owner, quoted, relative, unquoted};
use super::{Bench, OWNER, SECRET, ZONE, account, add, apply, remove, shown, strings};

const CONSUMER: &str = "canary1f8f7d1e-consumer";
/// How far its clock is ahead.
const AHEAD: i64 = 86_400;

struct Ovh {
    /// Where it listens, for the signatures.
    base: Arc<Mutex<String>>,
    /// What the name servers have.
    live: Arc<Mutex<Records>>,
}

pub(super) struct OvhBench {
    server: Server,
    live: Arc<Mutex<Records>>,
}

pub(super) fn bench() -> OvhBench {
    let (base, live): (Arc<Mutex<String>>, Arc<Mutex<Records>>) = Default::default();
    let server = Server::start(Ovh { base: Arc::clone(&base), live: Arc::clone(&live) });
    *base.lock().unwrap() = server.url("");
    OvhBench { server, live }
}

impl OvhBench {
    fn with(&self, application_secret: &str) -> String {
        format!(
            "endpoint = \"ca\"\napi = \"{}\"\napplication-key = \"app\"\napplication-secret = {}\nconsumer-key = {}\n",
            self.server.url("/1.0"),
            application_secret,
            self.server.file("consumer", CONSUMER)
        )
    }
}

impl Bench for OvhBench {
    fn table(&self) -> String {
        self.with(&self.server.secret())
    }

    fn wrong(&self) -> String {
        self.with(&self.server.wrong_secret())
    }

    fn values(&self, owner: &str) -> Vec<String> {
        self.live.lock().unwrap().values(owner)
    }

    fn put(&self, owner: &str, value: &str) {
        let all = self.server.records(|records| {
            records.add(owner, value, 3600);
            records.clone()
        });
        *self.live.lock().unwrap() = all;
    }

    fn http(&self) -> &Server {
        &self.server
    }
}

impl Api for Ovh {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        let now = jiff::Timestamp::now().as_second() + AHEAD;
        if request.path == "/1.0/auth/time" {
            return Reply::json(200, &json!(now));
        }
        if let Some(refusal) = self.judge(request, now) {
            return refusal;
        }
        match (request.method.as_str(), request.segments()[1..].to_vec().as_slice()) {
            ("GET", ["domain", "zone"]) => Reply::json(200, &json!(["other.test", "social.test"])),
            ("GET", ["domain", "zone", "social.test"]) => Reply::json(200, &json!({ "name": "social.test" })),
            ("GET", ["domain", "zone", "social.test", "record"]) => {
                assert_eq!(request.query["fieldType"], "TXT");
                let name = &request.query["subDomain"];
                let found = records.at(&owner(if name.is_empty() { "@" } else { name }));
                Reply::json(200, &json!(found.iter().map(|record| record.id).collect::<Vec<_>>()))
            }
            ("GET", ["domain", "zone", "social.test", "record", id]) => {
                let id = id.parse().unwrap_or(0);
                let Some(record) = records.all().iter().find(|record| record.id == id) else {
                    return failure(404, "NOT_FOUND");
                };
                let name = relative(&record.owner).trim_start_matches('@');
                let target = quoted(&record.value);
                Reply::json(
                    200,
                    &json!({ "id": id, "fieldType": "TXT", "subDomain": name, "target": target }),
                )
            }
            ("POST", ["domain", "zone", "social.test", "record"]) => {
                let body = request.json();
                let (Some(name), Some(value), Some(ttl @ 60..)) = (
                    body["subDomain"].as_str(),
                    body["target"].as_str().and_then(unquoted),
                    body["ttl"].as_u64(),
                ) else {
                    return failure(400, "INVALID_ARGUMENT");
                };
                let id = records.add(&owner(if name.is_empty() { "@" } else { name }), &value, ttl);
                Reply::json(200, &json!({ "id": id }))
            }
            ("DELETE", ["domain", "zone", "social.test", "record", id]) => {
                match records.remove(id.parse().unwrap_or(0)) {
                    true => Reply::json(200, &json!(null)),
                    false => failure(404, "NOT_FOUND"),
                }
            }
            ("POST", ["domain", "zone", "social.test", "refresh"]) => {
                *self.live.lock().unwrap() = records.clone();
                Reply::json(200, &json!(null))
            }
            _ => failure(404, "NOT_FOUND"),
        }
    }
}

impl Ovh {
    /// What is wrong with who asks.
    fn judge(&self, request: &Request, now: i64) -> Option<Reply> {
        let time = request.header("x-ovh-timestamp");
        if request.header("x-ovh-application") != "app" || request.header("x-ovh-consumer") != CONSUMER {
            return Some(Reply::careless(403, request));
        }
        if time.parse::<i64>().map_or(i64::MAX, |time| (time - now).abs()) > 30 {
            return Some(failure(400, "QUERY_TIME_OUT"));
        }
        let mut url = format!("{}{}", self.base.lock().unwrap(), request.path);
        if !request.query.is_empty() {
            let pairs = request.query.iter().map(|(name, value)| format!("{name}={value}"));
            let _ = write!(url, "?{}", pairs.collect::<Vec<_>>().join("&"));
        }
        let signed = [SECRET, CONSUMER, &request.method, &url, &request.body, time].join("+");
        let mut signature = "$1$".to_owned();
        for byte in Sha1::digest(signed.as_bytes()) {
            let _ = write!(signature, "{byte:02x}");
        }
        (signature != request.header("x-ovh-signature")).then(|| failure(400, "INVALID_SIGNATURE"))
    }
}

fn failure(status: u16, code: &str) -> Reply {
    Reply::json(status, &json!({ "errorCode": code, "message": format!("it is {code}") }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_attempt_left_unpublished_is_published() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    bench.server.records(|records| {
        records.add(OWNER, "a", 60);
        records.add(OWNER, "others", 60);
    });
    assert_eq!(bench.values(OWNER), Vec::<String>::new());
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), strings(&["a", "others"]));
    bench.server.records(|records| records.replace(OWNER, &strings(&["others"]), 60));
    apply(&account, &[remove("a")]).await;
    assert_eq!(bench.values(OWNER), strings(&["others"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_signature_is_the_operator_s_to_mend() {
    let bench = bench();
    let account = account(&bench, &bench.wrong());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.unauthorized");
    assert!(problem.hint.unwrap().contains("/domain/zone/"), "{}", problem.message);
}
