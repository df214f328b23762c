//! Route 53: against moto, which checks signatures and policies as Amazon does; and against a stand-in that
//! is as strict with sets, as slow and as busy.

mod strict;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use certfleet::dns::KINDS;
use tempfile::TempDir;

use super::{Bench, OWNER, WRONG, ZONE, account, add, apply, shown, strings};
use crate::world::made::write_private;
use crate::world::parts;
use crate::world::ports::{Range, free};
use crate::world::process::{Service, Watchdog};

/// A moto of its own, with two zones of one name and a user who has the rights that the provider asks for.
pub(super) struct MotoBench {
    address: SocketAddr,
    zone: String,
    key_id: String,
    dir: TempDir,
    _service: Service,
    _range: Range,
}

pub(super) fn bench() -> MotoBench {
    let kind = KINDS.iter().find(|kind| kind.name == "route53").unwrap();
    let policy = &kind.rights[kind.rights.find('{').unwrap()..];
    serde_json::from_str::<serde_json::Value>(policy).expect("the policy in `rights` is JSON");
    assert_eq!(policy.matches("arn:aws:route53:::hostedzone/ZONE").count(), 2);
    // moto asks whether an action is allowed on everything.
    MotoBench::start(&policy.replace("arn:aws:route53:::hostedzone/ZONE", "*"))
}

impl MotoBench {
    fn start(policy: &str) -> Self {
        let (dir, range) = (tempfile::tempdir().unwrap(), Range::claim().unwrap());
        let [port] = free::<1>(range.address(1)).unwrap();
        let address = SocketAddr::new(range.address(1), port);
        let mut command = parts::moto().unwrap();
        command.args(["-H", &address.ip().to_string(), "-p", &port.to_string()]);
        let watchdog = Watchdog::start().unwrap();
        let log = dir.path().join("moto.log");
        let ready = move || TcpStream::connect(address).is_ok();
        let service = Service::new("moto", command, &log, &watchdog, ready).unwrap();
        service.start().unwrap();

        // A private zone of the same name comes first.
        let private = "<VPC><VPCId>vpc-1</VPCId><VPCRegion>us-east-1</VPCRegion></VPC>";
        create_zone(address, "1", private);
        let zone = create_zone(address, "2", "");
        iam(address, "Action=CreateUser&UserName=certfleet");
        let policy = encoded(policy);
        iam(
            address,
            &format!("Action=PutUserPolicy&UserName=certfleet&PolicyName=dns&PolicyDocument={policy}"),
        );
        let key = iam(address, "Action=CreateAccessKey&UserName=certfleet");
        write_private(&dir.path().join("right"), between(&key, "<SecretAccessKey>")).unwrap();
        write_private(&dir.path().join("wrong"), WRONG).unwrap();
        let key_id = between(&key, "<AccessKeyId>").to_owned();
        let bench = Self { address, zone, key_id, dir, _service: service, _range: range };
        bench.guard(true);
        bench
    }

    fn with(&self, secret: &str) -> String {
        let secret = self.dir.path().join(secret);
        format!(
            "api = \"http://{}\"\naccess-key-id = \"{}\"\nsecret-access-key = {{ file = {secret:?} }}\n",
            self.address, self.key_id
        )
    }

    /// Whether everybody must be who they say, and may do what they do.
    fn guard(&self, on: bool) {
        let count = if on { "0" } else { "1000000" };
        call(self.address, "POST", "/moto-api/reset-auth", "s3", "text/plain", count);
    }

    fn list(&self) -> String {
        self.guard(false);
        let path = format!("/2013-04-01/hostedzone/{}/rrset", self.zone);
        let list = call(self.address, "GET", &path, "route53", "", "");
        self.guard(true);
        list
    }
}

impl Bench for MotoBench {
    fn table(&self) -> String {
        self.with("right")
    }

    fn wrong(&self) -> String {
        self.with("wrong")
    }

    fn values(&self, owner: &str) -> Vec<String> {
        let list = self.list();
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
        self.guard(false);
        let path = format!("/2013-04-01/hostedzone/{}/rrset", self.zone);
        let body = format!(
            "<ChangeResourceRecordSetsRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <ChangeBatch><Changes><Change><Action>CREATE</Action><ResourceRecordSet><Name>{owner}</Name>\
             <Type>TXT</Type><TTL>7200</TTL><ResourceRecords><ResourceRecord><Value>\"{value}\"</Value>\
             </ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch>\
             </ChangeResourceRecordSetsRequest>"
        );
        let answer = call(self.address, "POST", &path, "route53", "application/xml", &body);
        assert!(answer.contains("ChangeInfo"), "{answer}");
        self.guard(true);
    }
}

fn create_zone(address: SocketAddr, reference: &str, vpc: &str) -> String {
    let private = !vpc.is_empty();
    let body = format!(
        "<CreateHostedZoneRequest xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Name>{ZONE}</Name>{vpc}\
         <CallerReference>{reference}</CallerReference><HostedZoneConfig><PrivateZone>{private}</PrivateZone>\
         </HostedZoneConfig></CreateHostedZoneRequest>"
    );
    let made = call(address, "POST", "/2013-04-01/hostedzone", "route53", "application/xml", &body);
    assert!(made.contains(&format!("<PrivateZone>{private}</PrivateZone>")), "{made}");
    between(&made, "<Id>/hostedzone/").to_owned()
}

fn iam(address: SocketAddr, body: &str) -> String {
    call(
        address,
        "POST",
        "/",
        "iam",
        "application/x-www-form-urlencoded",
        &format!("{body}&Version=2010-05-08"),
    )
}

/// What stands between a tag and the next one.
fn between<'a>(text: &'a str, tag: &str) -> &'a str {
    let (_, rest) = text.split_once(tag).unwrap_or_else(|| panic!("no {tag} in {text}"));
    rest.split('<').next().unwrap()
}

fn encoded(text: &str) -> String {
    certfleet::dns::http::segment(text)
}

/// A request to moto, which knows by the signature's scope alone whom it is for.
fn call(address: SocketAddr, method: &str, path: &str, service: &str, kind: &str, body: &str) -> String {
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=root/20260101/us-east-1/{service}/aws4_request, \
         SignedHeaders=host, Signature=none\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 2") || answer.starts_with("HTTP/1.0 2"), "{path}: {answer}");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_can_be_named_by_its_id() {
    let bench = bench();
    let with = |id: &str| format!("{}hosted-zone-id = \"{id}\"\n", bench.table());
    let right = account(&bench, &with(&format!("/hostedzone/{}", bench.zone)));
    apply(&right, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), strings(&["a"]));
    let problem = {
        let elsewhere = [super::add_at(super::ELSEWHERE, "_acme-challenge.elsewhere.test.", "a")];
        shown(&right, &right.provider.apply(super::ELSEWHERE, &elsewhere).await.unwrap_err())
    };
    assert_eq!(problem.code, "dns.zone-not-in-account", "{problem:?}");
    assert!(problem.message.contains("social.test"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_without_the_rights_is_told_which() {
    let bench = MotoBench::start(
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}"#,
    );
    let account: Arc<_> = account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.unauthorized", "{problem:?}");
    let hint = problem.hint.unwrap();
    assert!(hint.contains("route53:ChangeResourceRecordSetsNormalizedRecordNames"), "{hint}");
    assert!(hint.contains("_acme-challenge.*"), "{hint}");
}
