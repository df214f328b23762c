//! acme-dns: two values of one name, the older one pushed out, as the server itself does it.

use serde_json::json;

use super::fake::{Api, Records, Reply, Request, Server};
use super::{Bench, OTHER, OWNER, SECRET, ZONE, account, add, add_at, apply, shown};

const USER: &str = "c36f50e8-4632-44f0-83fe-e070fef28a10";
const SUBDOMAIN: &str = "8e5700ea-a4bf-41c7-8a77-e990661dcc6a";

struct AcmeDns;

impl Api for AcmeDns {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if (request.method.as_str(), request.path.as_str()) != ("POST", "/update") {
            return Reply::empty(404);
        }
        let body = request.json();
        let right = (request.header("x-api-user"), request.header("x-api-key")) == (USER, SECRET);
        if !right || body["subdomain"] != SUBDOMAIN {
            return Reply::careless(401, request);
        }
        let value = body["txt"].as_str().unwrap();
        let mut rows: Vec<String> = records.at(OWNER).into_iter().map(|record| record.value).collect();
        rows.push(value.to_owned());
        records.replace(OWNER, &rows[rows.len().saturating_sub(2)..], 1);
        Reply::json(200, &json!({ "txt": value }))
    }
}

pub(super) struct AcmeDnsBench(Server);

pub(super) fn bench() -> AcmeDnsBench {
    AcmeDnsBench(Server::start(AcmeDns))
}

impl AcmeDnsBench {
    fn with(&self, secret: &str) -> String {
        format!(
            "server = \"{}\"\nusername = \"{USER}\"\npassword = {secret}\nsubdomain = \"{SUBDOMAIN}\"\n\
             fulldomain = \"{}\"\n",
            self.0.url(""),
            OWNER.to_uppercase().trim_end_matches('.'),
        )
    }
}

impl Bench for AcmeDnsBench {
    fn table(&self) -> String {
        self.with(&self.0.secret())
    }

    fn wrong(&self) -> String {
        self.with(&self.0.wrong_secret())
    }

    fn values(&self, owner: &str) -> Vec<String> {
        let mut values = self.0.records(|records| records.values(owner));
        values.dedup();
        values
    }

    fn put(&self, owner: &str, value: &str) {
        self.0.records(|records| records.add(owner, value, 60));
    }

    fn http(&self) -> &Server {
        &self.0
    }

    fn removes(&self) -> bool {
        false
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_not_delegated_to_it_is_named_with_the_record_that_is_missing() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    let error = account.provider.apply(ZONE, &[add_at(ZONE, OTHER, "a")]).await.unwrap_err();
    let hint = shown(&account, &error).hint.unwrap();
    let wanted = "`_acme-challenge.social.test CNAME _acme-challenge.media.social.test`";
    assert!(hint.contains(wanted), "{hint}");
    assert_eq!(bench.0.requests(), 0);
    assert!(bench.0.records(|records| records.all().is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_those_of_the_protocol() {
    let bench = bench();
    apply(&account(&bench, &bench.table()), &[add("v")]).await;
    let log = bench.0.log();
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].json(), json!({ "subdomain": SUBDOMAIN, "txt": "v" }));
    assert_eq!(log[0].header("content-type"), "application/json");
}
