//! A stand-in that refuses the deletion of a set that is different by now, takes its time, and has its limits.

use crate::providers::fake::{Api, Records, Reply, Request, Server};
use crate::providers::{Bench, OTHER, OWNER, ZONE, account, add, add_at, apply, remove, shown, strings};

#[derive(Default)]
struct Strict {
    /// How many more times somebody else changes a set just before our batch.
    rivals: u32,
    /// How many more requests are too many.
    busy: u32,
    /// How often it was asked whether a change is done.
    asked: u32,
}

pub(crate) struct StrictBench(Server);

/// A bench over this stand-in; a set is one text, with its values in their order.
fn bench(api: Strict) -> StrictBench {
    StrictBench(Server::start(api))
}

impl Bench for StrictBench {
    fn table(&self) -> String {
        format!(
            "api = \"{}\"\naccess-key-id = \"AKIDEXAMPLE\"\nsecret-access-key = {}\n",
            self.0.url(""),
            self.0.secret()
        )
    }

    fn wrong(&self) -> String {
        self.table()
    }

    fn values(&self, owner: &str) -> Vec<String> {
        self.0.records(|records| records.values(owner))
    }

    fn put(&self, owner: &str, value: &str) {
        self.0.records(|records| records.add(owner, value, 7200));
    }

    fn http(&self) -> &Server {
        &self.0
    }
}

impl Api for Strict {
    fn answer(&mut self, request: &Request, records: &mut Records) -> Reply {
        if self.busy > 0 {
            self.busy -= 1;
            return failure("Throttling", "Rate exceeded");
        }
        match (request.method.as_str(), request.segments().as_slice()) {
            ("GET", ["2013-04-01", "hostedzonesbyname"]) => xml(
                200,
                "<L><HostedZones><HostedZone><Id>/hostedzone/Z1</Id><Name>social.test.</Name><Config>\
                 <PrivateZone>false</PrivateZone></Config></HostedZone></HostedZones></L>",
            ),
            ("GET", ["2013-04-01", "hostedzone", "Z1", "rrset"]) => list(request, records),
            ("POST", ["2013-04-01", "hostedzone", "Z1", "rrset"]) => {
                if self.rivals > 0 {
                    self.rivals -= 1;
                    records.add(OWNER, &format!("rival{}", self.rivals), 7200);
                }
                change(&request.body, records)
            }
            ("GET", ["2013-04-01", "change", "C1"]) => {
                self.asked += 1;
                done(if self.asked < 2 { "PENDING" } else { "INSYNC" })
            }
            _ => failure("NoSuchHostedZone", "No hosted zone found"),
        }
    }
}

/// The list from a name on: whatever comes next where there is no such set.
fn list(request: &Request, records: &Records) -> Reply {
    assert_eq!((request.query["type"].as_str(), request.query["maxitems"].as_str()), ("TXT", "1"));
    let owner = &request.query["name"];
    let there = records.at(owner);
    let owner = if there.is_empty() { "zzz.social.test." } else { owner };
    let values: String = there
        .iter()
        .map(|record| format!("<ResourceRecord><Value>&quot;{}&quot;</Value></ResourceRecord>", record.value))
        .collect();
    let ttl = there.first().map_or(60, |record| record.ttl);
    xml(
        200,
        &format!(
            "<L><ResourceRecordSets><ResourceRecordSet><Name>{owner}</Name><Type>TXT</Type><TTL>{ttl}</TTL>\
             <ResourceRecords>{values}</ResourceRecords></ResourceRecordSet></ResourceRecordSets></L>"
        ),
    )
}

/// All or nothing.
fn change(body: &str, records: &mut Records) -> Reply {
    let mut after = records.clone();
    for change in body.split("<Change>").skip(1) {
        let text = |tag: &str| super::between(change, tag).to_owned();
        let (action, owner) = (text("<Action>"), text("<Name>"));
        let ttl: u64 = text("<TTL>").parse().unwrap();
        let values: Vec<String> = change
            .split("<Value>")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().replace("&quot;", ""))
            .collect();
        let there: Vec<String> = after.at(&owner).into_iter().map(|record| record.value).collect();
        let same = there == values && after.at(&owner).iter().all(|record| record.ttl == ttl);
        match action.as_str() {
            "DELETE" if same => after.replace(&owner, &[], 0),
            "CREATE" if there.is_empty() && !values.is_empty() => after.replace(&owner, &values, ttl),
            _ => {
                return xml(
                    400,
                    "<InvalidChangeBatch><Messages><Message>Tried to delete a resource record set, but the \
                     values provided do not match the current values</Message></Messages></InvalidChangeBatch>",
                );
            }
        }
    }
    *records = after;
    done("PENDING")
}

fn done(status: &str) -> Reply {
    let info = format!("<ChangeInfo><Id>/change/C1</Id><Status>{status}</Status></ChangeInfo>");
    xml(200, &format!("<R>{info}</R>"))
}

fn failure(code: &str, message: &str) -> Reply {
    let error = format!("<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>");
    xml(400, &format!("<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"))
}

fn xml(status: u16, body: &str) -> Reply {
    Reply { status, headers: Vec::new(), body: format!("<?xml version=\"1.0\"?>\n{body}") }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_changes_of_a_zone_are_one_batch_waited_for() {
    let bench = bench(Strict::default());
    let account = account(&bench, &bench.table());
    bench.put(OWNER, "others");
    apply(&account, &[add("a"), add_at(ZONE, OTHER, "b"), remove("never")]).await;
    assert_eq!((bench.values(OWNER), bench.values(OTHER)), (strings(&["a", "others"]), strings(&["b"])));
    assert_eq!(bench.0.records(|records| records.at(OWNER)[0].ttl), 7200);
    let log = bench.0.log();
    assert_eq!(log.iter().filter(|request| request.method == "POST").count(), 1);
    assert_eq!(log.iter().filter(|request| request.path.contains("/change/")).count(), 2);
    apply(&account, &[remove("a"), remove("others")]).await;
    assert_eq!(bench.values(OWNER), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_rival_is_lost() {
    let bench = bench(Strict { rivals: 2, ..Strict::default() });
    let account = account(&bench, &bench.table());
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), ["a", "rival0", "rival1"]);

    let bench = self::bench(Strict { rivals: u32::MAX, ..Strict::default() });
    let account = super::account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert!(problem.message.contains("do not match the current values"), "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_route_53_is_asked_again_but_not_for_ever() {
    let bench = bench(Strict { busy: 2, ..Strict::default() });
    let account = account(&bench, &bench.table());
    apply(&account, &[add("a")]).await;
    assert_eq!(bench.values(OWNER), ["a"]);

    let bench = self::bench(Strict { busy: u32::MAX, ..Strict::default() });
    let account = super::account(&bench, &bench.table());
    let problem = shown(&account, &account.provider.apply(ZONE, &[add("a")]).await.unwrap_err());
    assert_eq!(problem.code, "dns.rate-limited", "{problem:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_faults_are_readable_too() {
    crate::providers::every_fault_of_the_server_is_readable(&bench(Strict::default())).await;
    crate::providers::a_silent_server_is_given_up(&bench(Strict::default())).await;
    crate::providers::a_short_pause_is_kept_once_a_long_one_is_reported(&bench(Strict::default())).await;
}
