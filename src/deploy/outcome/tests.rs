//! Outcomes of transactions as judged.

use super::*;
use crate::model::desired::MadeFile;
use crate::model::name::{Fingerprint, VersionNumber};
use crate::model::problem::{Blame, Retry};
use std::time::Duration;

fn host() -> Host {
    Host {
        name: "edge".parse().unwrap(),
        address: "edge".to_owned(),
        port: 22,
        user: "root".to_owned(),
        via: None,
        access: Default::default(),
        sudo: false,
        receiver: false,
        local: false,
        identity: Vec::new(),
        host_key: Vec::new(),
        known_hosts: Vec::new(),
        directory: "/live".to_owned(),
        layout: Default::default(),
        files: Vec::new(),
        test: "nginx -t".to_owned(),
        reload: "systemctl reload nginx".to_owned(),
        verify: Vec::new(),
    }
}

fn bundle() -> Bundle {
    Bundle {
        certificate: "a.org".parse().unwrap(),
        version: VersionNumber(2),
        fingerprint: Fingerprint([0; 32]),
        force: false,
        privkey: String::new().into(),
        cert: String::new(),
        chain: String::new(),
    }
}

fn seen() -> Box<Problem> {
    Box::new(Problem {
        code: "probe".to_owned(),
        blame: Blame::Host,
        retry: Retry::Backoff,
        message: "it serves another".to_owned(),
        causes: Vec::new(),
        hint: None,
    })
}

#[test]
fn what_follows_from_a_look() {
    let installed = || "2-00000000".to_owned();
    let first = Outcome::Installed { installed: installed() };
    let switched = Outcome::Switched { installed: installed(), previous: "1-ffffffff".to_owned() };
    let unchanged = Outcome::Unchanged { installed: installed() };
    let (done, idle) = (Reload::Done, Reload::NothingRuns { output: String::new() });
    let failed = Reload::Failed { output: "no".to_owned() };
    let other = || Err(NotProven::Other(seen()));
    let unused = || Err(NotProven::Unused(seen()));
    let silent = || Err(NotProven::Unreachable(seen()));
    let served = || Ok(Proof { addresses: Vec::new(), after: Duration::ZERO });
    for (outcome, reload, look, expected) in [
        (&first, &done, served(), "served"),
        (&switched, &idle, served(), "served"),
        (&first, &done, other(), "pending deploy.unused"),
        (&first, &done, unused(), "pending deploy.unused"),
        (&first, &done, silent(), "pending deploy.unused"),
        (&first, &idle, silent(), "pending deploy.not-running"),
        (&first, &failed, other(), "failed deploy.reload"),
        (&switched, &done, other(), "put back"),
        (&switched, &done, silent(), "put back"),
        (&switched, &done, unused(), "pending deploy.unused"),
        (&switched, &idle, silent(), "pending deploy.not-running"),
        (&switched, &idle, unused(), "pending deploy.not-running"),
        // It does run, whatever the reload said.
        (&switched, &idle, other(), "put back"),
        (&unchanged, &done, other(), "failed deploy.not-served"),
        (&unchanged, &done, silent(), "failed deploy.not-served"),
        (&unchanged, &done, unused(), "pending deploy.unused"),
        (&unchanged, &failed, other(), "failed deploy.reload"),
    ] {
        let what = format!("{outcome:?} {reload:?} {look:?}");
        let judged = match outcome.judge(&host(), &bundle(), reload, look) {
            Ok(Deployed::Served { .. }) => "served".to_owned(),
            Ok(Deployed::Pending { problem }) => format!("pending {}", problem.code),
            Ok(Deployed::RolledBack { problem }) => format!("rolled back {}", problem.code),
            Ok(Deployed::Failed { problem }) => format!("failed {}", problem.code),
            Err(doubt) => {
                assert_eq!(doubt.put_back.previous, "1-ffffffff");
                "put back".to_owned()
            }
        };
        assert_eq!(judged, expected, "{what}");
    }
}

#[test]
fn every_bundle_has_exactly_one_record_and_versions_are_words() {
    let record = |word: &str, name: &str, version: &str| Record {
        word: word.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
        old: "-".to_owned(),
        text: String::new(),
    };
    let of = |records: &[Record]| Answer::of(records, &[bundle()]);
    let good = record("installed", "a.org", "2-00000000");
    assert!(of(std::slice::from_ref(&good)).is_ok());
    assert_eq!(of(&[]), Err(Malformed::Count("a.org".to_owned())));
    assert_eq!(of(&[good.clone(), good]), Err(Malformed::Count("a.org".to_owned())));
    assert!(of(&[record("installed", "b.org", "2-00000000")]).is_err());
    assert!(of(&[record("switched", "a.org", "../../etc")]).is_err());
    assert!(of(&[record("improved", "a.org", "2-00000000")]).is_err());
}

#[test]
fn what_nothing_uses_is_named_as_its_host_has_it() {
    let hint = |host: &Host| {
        let first = Outcome::Installed { installed: "2-00000000".to_owned() };
        match first.judge(host, &bundle(), &Reload::Done, Err(NotProven::Unused(seen()))) {
            Ok(Deployed::Pending { problem }) => problem.hint.unwrap(),
            _ => panic!("it is used"),
        }
    };
    let usual = host();
    assert!(hint(&usual).ends_with("ssl_certificate_key /live/a.org/privkey.pem;"), "{}", hint(&usual));
    let include = Host { layout: Layout::Include, ..host() };
    assert!(hint(&include).ends_with("configuration: include /live/a.org.conf;"), "{}", hint(&include));
    let file = MadeFile { name: "combined.pem".to_owned(), parts: Vec::new() };
    let combined = Host { files: vec![file], ..host() };
    assert!(hint(&combined).ends_with("configuration: /live/a.org/combined.pem"), "{}", hint(&combined));
}
