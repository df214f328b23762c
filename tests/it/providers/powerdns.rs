//! PowerDNS: the real server, behind a front that can be broken.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tempfile::TempDir;

use super::fake::{Api, Records, Reply, Request, Server};
use super::{Bench, OWNER, SECRET, ZONE, account, add, apply, remove};
use crate::tool::certfleet;
use crate::world::look::Served;
use crate::world::made::write_private;
use crate::world::pebble::{Behaviour, Pebble};
use crate::world::ports::Range;
use crate::world::powerdns::{PowerDns, exchange};
use crate::world::process::Watchdog;

/// Hands every request on to the real server.
struct Front(SocketAddr);

impl Api for Front {
    fn answer(&mut self, request: &Request, _: &mut Records) -> Reply {
        let query: BTreeMap<_, _> = request.query.clone();
        let query: Vec<String> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        let target = format!("{}{mark}{}", request.path, query.join("&"));
        let headers = [("x-api-key", request.header("x-api-key"))];
        let (status, body) = exchange(self.0, &request.method, &target, &headers, &request.body).unwrap();
        if status == 401 {
            return Reply::careless(401, request);
        }
        Reply { status, headers: Vec::new(), body }
    }
}

pub(super) struct PowerDnsBench {
    front: Server,
    server: PowerDns,
    _watchdog: Arc<Watchdog>,
    _range: Range,
    _dir: TempDir,
}

pub(super) fn bench() -> PowerDnsBench {
    let (dir, watchdog, range) =
        (tempfile::tempdir().unwrap(), Watchdog::start().unwrap(), Range::claim().unwrap());
    let zones = ["social.test"];
    let server = PowerDns::start(dir.path(), range.address(4), &zones, SECRET, &watchdog).unwrap();
    let front = Server::start(Front(server.api));
    PowerDnsBench { front, server, _watchdog: watchdog, _range: range, _dir: dir }
}

impl PowerDnsBench {
    fn with(&self, secret: &str) -> String {
        format!("api = \"{}\"\napi-key = {secret}\n", self.front.url("/"))
    }
}

impl Bench for PowerDnsBench {
    fn table(&self) -> String {
        self.with(&self.front.secret())
    }

    fn wrong(&self) -> String {
        self.with(&self.front.wrong_secret())
    }

    fn values(&self, owner: &str) -> Vec<String> {
        self.server.values(owner).unwrap()
    }

    fn put(&self, owner: &str, value: &str) {
        self.server.add(ZONE, owner, value).unwrap();
    }

    fn http(&self) -> &Server {
        &self.front
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_already_is_not_written_again() {
    let bench = bench();
    let account = account(&bench, &bench.table());
    apply(&account, &[add("a"), add("b")]).await;
    let writes = || bench.front.log().iter().filter(|request| request.method == "PATCH").count();
    assert_eq!(writes(), 1);
    apply(&account, &[add("a"), remove("never")]).await;
    assert_eq!(writes(), 1);
    assert_eq!(bench.values(OWNER), ["a", "b"]);
}

#[test]
fn a_certificate_is_issued_through_powerdns() {
    let (dir, watchdog, range) =
        (tempfile::tempdir().unwrap(), Watchdog::start().unwrap(), Range::claim().unwrap());
    let folder = |name: &str| {
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    };
    let zones = ["social.test"];
    let dns = PowerDns::start(&folder("pdns"), range.address(4), &zones, SECRET, &watchdog).unwrap();
    let pebble =
        Pebble::start(&folder("pebble"), range.address(3), dns.address, &Behaviour::default(), &watchdog)
            .unwrap();
    dns.add(ZONE, OWNER, "somebody else's").unwrap();
    let secret = dir.path().join("api-key");
    write_private(&secret, SECRET).unwrap();
    let config = dir.path().join("certs.toml");
    let text = format!(
        "[store]\npath = {store:?}\n[resolver]\nnameservers = [\"{dns}\"]\n\
         [issuer.pebble]\ndirectory = \"{directory}\"\ndirectory-ca = {ca:?}\nroots = {roots:?}\n\
         contact = [\"ops@social.test\"]\naccept-terms = true\n\
         [dns.main]\nprovider = \"powerdns\"\napi = \"http://{api}\"\napi-key = {{ file = {secret:?} }}\n\
         authoritative = [\"{dns}\"]\n\
         [[certificate]]\ndomains = [\"media.social.test\", \"*.media.social.test\"]\nhosts = []\n",
        store = dir.path().join("store"),
        dns = dns.address,
        directory = pebble.directory,
        ca = pebble.directory_ca,
        roots = pebble.roots,
        api = dns.api,
    );
    write_private(&config, &text).unwrap();

    certfleet(&config, &["renew"]).ended(0);

    assert_eq!((pebble.orders(), pebble.issued()), (1, 1));
    assert_eq!(dns.values(OWNER).unwrap(), ["somebody else's"]);
    let fullchain = dir.path().join("store/certificates/media.social.test/versions/1/fullchain.pem");
    let pem = std::fs::read(fullchain).unwrap();
    let chain = rustls_pemfile::certs(&mut pem.as_slice()).map(|der| der.unwrap().to_vec()).collect();
    let mut names = Served::from_chain(chain).unwrap().names;
    names.sort();
    assert_eq!(names, ["*.media.social.test", "media.social.test"]);
}
