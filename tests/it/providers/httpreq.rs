//! httpreq: any server that speaks lego's protocol.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::fake::{Api, Records, Reply, Request, Server};
use super::{Bench, OWNER, SECRET, account_of, add, apply, remove};

/// A server that keeps what it is told to present.
struct Httpreq;

impl Api for Httpreq {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        let right = format!("Basic {}", STANDARD.encode(format!("certfleet:{SECRET}")));
        if request.header("authorization") != right {
            return Reply::careless(401, request);
        }
        let body = request.json();
        let (Some(owner), Some(value)) = (body["fqdn"].as_str(), body["value"].as_str()) else {
            return Reply::careless(422, request);
        };
        let there = records.at(owner).into_iter().find(|record| record.value == value);
        match (request.method.as_str(), request.segments().as_slice(), there) {
            ("POST", ["hook", "present"], None) => drop(records.add(owner, value, 60)),
            ("POST", ["hook", "cleanup"], Some(record)) => drop(records.remove(record.id)),
            ("POST", ["hook", "present" | "cleanup"], _) => {}
            _ => return Reply::empty(404),
        }
        Reply::empty(204)
    }
}

pub(super) struct HttpreqBench(Server);

pub(super) fn bench() -> HttpreqBench {
    HttpreqBench(Server::start(Httpreq))
}

impl HttpreqBench {
    fn with(&self, secret: &str) -> String {
        let endpoint = self.0.url("/hook");
        format!("endpoint = \"{endpoint}\"\nusername = \"certfleet\"\npassword = {secret}\n")
    }
}

impl Bench for HttpreqBench {
    fn table(&self) -> String {
        self.with(&self.0.secret())
    }

    fn wrong(&self) -> String {
        self.with(&self.0.wrong_secret())
    }

    fn values(&self, owner: &str) -> Vec<String> {
        self.0.records(|records| records.values(owner))
    }

    fn put(&self, owner: &str, value: &str) {
        self.0.records(|records| records.add(owner, value, 60));
    }

    fn http(&self) -> &Server {
        &self.0
    }
}

/// Takes everything.
struct Anything;

impl Api for Anything {
    fn answer(&mut self, _: &Request, _: &mut Records) -> Reply {
        Reply::empty(200)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_those_of_lego_in_both_modes() {
    let server = Server::start(Anything);
    let endpoint = server.url("/");
    let default = account_of("httpreq", &format!("endpoint = \"{endpoint}\"\n"));
    apply(&default, &[add("v")]).await;
    let raw = account_of("httpreq", &format!("endpoint = \"{endpoint}\"\nmode = \"raw\"\n"));
    apply(&raw, &[add("v"), remove("v")]).await;

    let value = json!({ "fqdn": OWNER, "value": "v" });
    let proof = json!({
        "domain": "media.social.test", "token": "the-token", "keyAuth": "the-token.the-thumbprint"
    });
    let log = server.log();
    let seen: Vec<_> = log.iter().map(|request| (request.path.as_str(), request.json())).collect();
    assert_eq!(seen, [("/present", value), ("/present", proof.clone()), ("/cleanup", proof)]);
    for request in &log {
        assert_eq!(request.method, "POST");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(request.header("accept"), "application/json");
        assert_eq!(request.header("authorization"), "");
        assert!(request.header("user-agent").starts_with("certfleet/"));
    }
}
