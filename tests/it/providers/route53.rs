//! Route 53: against moto, which checks signatures and policies as Amazon does; and against a stand-in that
//! is as strict with sets, as slow and as busy.

mod strict;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use certfleet::dns::KINDS;
use certfleet::dns::http::segment;
use tempfile::TempDir;

use super::{Bench, OWNER, WRONG, ZONE, account, add, apply, shown, strings};
use crate::world::made::write_private;
use crate::world::parts;
use crate::world::ports::{Range, free};
use crate::world::process::{Service, Watchdog};

/// moto, in which there is an account.
struct Moto {
    address: SocketAddr,
    dir: TempDir,
    _service: Service,
    _range: Range,
}

/// A zone and a user who has the rights that the provider asks for.
pub(super) struct MotoBench {
    moto: Arc<Moto>,
    zone: String,
    key_id: String,
}

/// A bench in a moto that others use as well: the zone is one of many of this name, so its id is in the table.
pub(super) fn bench() -> MotoBench {
    static SHARED: Mutex<Weak<Moto>> = Mutex::new(Weak::new());
    let moto = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let moto = Arc::new(Moto::start());
            *shared = Arc::downgrade(&moto);
            moto
        })
    };
    let zone = moto.create_zone("");
    MotoBench::new(moto, zone, &policy())
}

/// What the provider says that it needs.
fn policy() -> String {
    let kind = KINDS.iter().find(|kind| kind.name == "route53").unwrap();
    let policy = &kind.rights[kind.rights.find('{').unwrap()..];
    serde_json::from_str::<serde_json::Value>(policy).expect("the policy in `rights` is JSON");
    assert_eq!(policy.matches("arn:aws:route53:::hostedzone/ZONE").count(), 2);
    // moto asks whether an action is allowed on everything.
    policy.replace("arn:aws:route53:::hostedzone/ZONE", "*")
}

impl Moto {
    fn start() -> Self {
        let (dir, range) = (tempfile::tempdir().unwrap(), Range::claim().unwrap());
        let [port] = free::<1>(range.address(1)).unwrap();
        let address = SocketAddr::new(range.address(1), port);
        let mut command = parts::python::moto().unwrap();
        command.args(["-H", &address.ip().to_string(), "-p", &port.to_string()]);
        let watchdog = Watchdog::start().unwrap();
        let log = dir.path().join("moto.log");
        let ready = move || TcpStream::connect(address).is_ok();
        let service = Service::new("moto", command, &log, &watchdog, ready).unwrap();
        service.start().unwrap();
        Self { address, dir, _service: service, _range: range }
    }

    /// Makes a zone, a private one in `vpc`, and gives its id.
    fn create_zone(&self, vpc: &str) -> String {
        let private = !vpc.is_empty();
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"{XMLNS}\"><Name>{ZONE}</Name>{vpc}<CallerReference>{}\
             </CallerReference><HostedZoneConfig><PrivateZone>{private}</PrivateZone></HostedZoneConfig>\
             </CreateHostedZoneRequest>",
            unique()
        );
        let made = self.call("POST", "/2013-04-01/hostedzone", "route53", "application/xml", &body);
        assert!(made.contains(&format!("<PrivateZone>{private}</PrivateZone>")), "{made}");
        between(&made, "<Id>/hostedzone/").to_owned()
    }

    fn iam(&self, body: &str) -> String {
        let body = format!("{body}&Version=2010-05-08");
        self.call("POST", "/", "iam", "application/x-www-form-urlencoded", &body)
    }

    /// A request of somebody who is not judged; moto knows by the scope of a signature alone whom it is for.
    fn call(&self, method: &str, path: &str, service: &str, kind: &str, body: &str) -> String {
        let request = format!(
            "{method} {path} HTTP/1.0\r\nHost: {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
             Authorization: AWS4-HMAC-SHA256 Credential=root/20260101/us-east-1/{service}/aws4_request, \
             SignedHeaders=host, Signature=none\r\n\r\n{body}",
            self.address,
            body.len()
        );
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.0 2"), "{path}: {answer}");
        answer
    }
}

impl MotoBench {
    fn new(moto: Arc<Moto>, zone: String, policy: &str) -> Self {
        let user = format!("UserName=certfleet-{}", unique());
        moto.iam(&format!("Action=CreateUser&{user}"));
        let policy = segment(policy);
        moto.iam(&format!("Action=PutUserPolicy&{user}&PolicyName=dns&PolicyDocument={policy}"));
        let key = moto.iam(&format!("Action=CreateAccessKey&{user}"));
        let key_id = between(&key, "<AccessKeyId>").to_owned();
        write_private(&moto.dir.path().join(&key_id), between(&key, "<SecretAccessKey>")).unwrap();
        write_private(&moto.dir.path().join("wrong"), WRONG).unwrap();
        Self { moto, zone, key_id }
    }

    /// The keys of an account that finds the zone by its name.
    fn by_name(&self, secret: &str) -> String {
        let secret = self.moto.dir.path().join(secret);
        format!(
            "api = \"http://{}\"\naccess-key-id = \"{}\"\nsecret-access-key = {{ file = {secret:?} }}\n",
            self.moto.address, self.key_id
        )
    }

    fn by_id(&self, secret: &str) -> String {
        format!("{}hosted-zone-id = \"{}\"\n", self.by_name(secret), self.zone)
    }
}

impl Bench for MotoBench {
    fn table(&self) -> String {
        self.by_id(&self.key_id)
    }

    fn wrong(&self) -> String {
        self.by_id("wrong")
    }

    fn values(&self, owner: &str) -> Vec<String> {
        let path = format!("/2013-04-01/hostedzone/{}/rrset", self.zone);
        let list = self.moto.call("GET", &path, "route53", "", "");
        let name = format!("<Name>{owner}</Name><Type>TXT</Type>");
        let Some((_, set)) = list.split_once(&name) else { return Vec::new() };
        let set = set.split("</ResourceRecordSet>").next().unwrap();
        let values = set.split("<Value>").skip(1).map(|rest| rest.split("</Value>").next().unwrap());
        let mut values: Vec<String> =
            values.map(|value| value.replace("&quot;", "\"").trim_matches('"').to_owned()).collect();
        values.sort();
        values
    }

    fn put(&self, owner: &str, value: &str) {
        let path = format!("/2013-04-01/hostedzone/{}/rrset", self.zone);
        let body = format!(
            "<ChangeResourceRecordSetsRequest xmlns=\"{XMLNS}\">\
             <ChangeBatch><Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>{owner}</Name>\
             <Type>TXT</Type><TTL>7200</TTL><ResourceRecords><ResourceRecord><Value>\"{value}\"</Value>\
             </ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch>\
             </ChangeResourceRecordSetsRequest>"
        );
        let answer = self.moto.call("POST", &path, "route53", "application/xml", &body);
        assert!(answer.contains("ChangeInfo"), "{answer}");
    }
}

/// What stands between a tag and the next one.
fn between<'a>(text: &'a str, tag: &str) -> &'a str {
    let (_, rest) = text.split_once(tag).unwrap_or_else(|| panic!("no {tag} in {text}"));
    rest.split('<').next().unwrap()
}

/// A number that no other zone or user has.
fn unique() -> usize {
    static LAST: AtomicUsize = AtomicUsize::new(0);
    LAST.fetch_add(1, Ordering::SeqCst)
}

const XMLNS: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_is_found_by_its_name_and_private_ones_are_not_meant() {
    let moto = Arc::new(Moto::start());
    moto.create_zone("<VPC><VPCId>vpc-1</VPCId><VPCRegion>us-east-1</VPCRegion></VPC>");
    let zone = moto.create_zone("");
    let bench = MotoBench::new(moto, zone, &policy());
    let account = account(&bench, &bench.by_name(&bench.key_id));
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), strings(&["a"]));
    let elsewhere = [super::add_at(super::ELSEWHERE, "_acme-challenge.elsewhere.test.", "a")];
    let error = account.provider.apply(super::ELSEWHERE, &elsewhere).await.unwrap_err();
    let problem = shown(&account, &error);
    assert_eq!(problem.code, "dns.zone-not-in-account", "{problem:?}");
    assert!(problem.message.contains("`social.test`"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_rights_is_told_which() {
    let like_others = bench();
    let (moto, zone) = (Arc::clone(&like_others.moto), like_others.zone.clone());
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#;
    let bench = MotoBench::new(moto, zone, policy);
    let account: Arc<_> = account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.unauthorized", "{problem:?}");
    let hint = problem.hint.unwrap();
    assert!(hint.contains("route53:ChangeResourceRecordSetsNormalizedRecordNames"), "{hint}");
    assert!(hint.contains("_acme-challenge.*"), "{hint}");
}
