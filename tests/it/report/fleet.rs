//! Fleets to report on.

use std::collections::BTreeMap;

use certfleet::model::alert::{Ack, Affected, Alert, Level, Memory, Subject};
use certfleet::model::cert::ChainEnd;
use certfleet::model::desired::Desired;
use certfleet::model::history::How;
use certfleet::model::name::{CertName, HostName, VersionNumber};
use certfleet::model::observed::{Look, Observed, Seen, Served};
use certfleet::model::problem::{Problem, Retry, plain};
use certfleet::model::report::{Report, report};
use certfleet::model::state::{Failure, HostFacts, Installed, State};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::facts;

/// What each fleet is reported at.
pub(crate) fn now() -> Timestamp {
    "2026-11-23T14:00:00Z".parse().expect("a time")
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// Facts, one after the other.
pub(crate) struct Fleet {
    desired: Desired,
    state: State,
    observed: Observed,
    alerts: Memory,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let mut state = State::default();
        state.passes.note(How::Daemon, now() - SignedDuration::from_mins(12), true);
        Self {
            desired: facts::desired(&["letsencrypt"]),
            state,
            observed: Observed::default(),
            alerts: Memory::default(),
        }
    }

    /// A certificate of 90 days, the versions of which were issued so many days ago.
    pub(crate) fn certificate(&mut self, name: &str, domains: &[&str], hosts: &[&str], issued: &[i64]) {
        let name: CertName = name.parse().expect("a name");
        let domains = domains.iter().map(|domain| domain.parse().expect("a domain")).collect();
        let hosts: Vec<HostName> = hosts.iter().map(|host| host.parse().expect("a name")).collect();
        for host in &hosts {
            self.desired.hosts.entry(host.clone()).or_insert_with(|| facts::host(host));
        }
        let entry = facts::certificate(name.clone(), domains, hosts);
        let known = self.state.certificates.entry(name.clone()).or_default();
        for (number, ago) in (1..).map(VersionNumber).zip(issued) {
            known.versions.insert(number, facts::version(&entry, number, now() - days(*ago), days(90)));
        }
        self.desired.certificates.insert(name, entry);
    }

    /// Its entry is removed from certs.toml.
    pub(crate) fn forget(&mut self, name: &str) {
        self.desired.certificates.remove(&name.parse().expect("a name"));
    }

    /// Issuing has failed since yesterday.
    pub(crate) fn failing(&mut self, name: &str, problem: Problem) {
        let known = self.state.certificates.entry(name.parse().expect("a name")).or_default();
        let last = now() - SignedDuration::from_hours(2);
        known.failure =
            Some(Failure { count: 4, first: last - days(1), last, problem, revision: "1".into() });
    }

    /// A host has a version, and was once seen to serve it.
    pub(crate) fn installed(&mut self, name: &str, host: &str, version: u32) -> &mut HostFacts {
        let name: CertName = name.parse().expect("a name");
        let (version, at) = (VersionNumber(version), now() - days(3));
        let fingerprint = facts::fingerprint(&name, version);
        let of = self.state.hosts.entry(host.parse().expect("a name")).or_default();
        let facts = of.entry(name).or_default();
        facts.installed = Some(Installed { version, fingerprint, at, pending: false });
        facts.proven_at = Some(at);
        facts
    }

    /// A host serves a version that it has.
    pub(crate) fn serves(&mut self, name: &str, host: &str, version: u32) {
        self.installed(name, host, version);
        let known = &self.state.certificates[&name.parse::<CertName>().expect("a name")];
        let version = &known.versions[&VersionNumber(version)];
        let served = Served {
            fingerprint: version.fingerprint,
            serial: version.serial.clone(),
            not_before: version.not_before,
            not_after: version.not_after,
            issuer: "R13".to_owned(),
            distrust: None,
            chain_end: None,
        };
        self.seen(name, host, Seen::Serving(served));
    }

    /// What a host sends with its certificate ends in so many days.
    pub(crate) fn chain_ends(&mut self, name: &str, host: &str, left: i64) {
        let (host, name): (HostName, CertName) =
            (host.parse().expect("a name"), name.parse().expect("a name"));
        let looks = self.observed.looks.get_mut(&host).and_then(|of| of.get_mut(&name)).expect("it was seen");
        for look in looks {
            let Seen::Serving(served) = &mut look.seen else { continue };
            served.chain_end = Some(ChainEnd { name: "R13".to_owned(), not_after: now() + days(left) });
        }
    }

    /// Something was seen on a host.
    pub(crate) fn seen(&mut self, name: &str, host: &str, seen: Seen) {
        let name: CertName = name.parse().expect("a name");
        let host: HostName = host.parse().expect("a name");
        let number = self.desired.hosts.keys().position(|known| *known == host).unwrap_or_default();
        let [high, low] = u16::try_from(number + 10).expect("few hosts").to_be_bytes();
        let look = Look {
            address: std::net::SocketAddr::from(([192, 0, 2 + high, low], 443)),
            name: self.desired.certificates[&name].domains[0].clone(),
            at: now() - SignedDuration::from_mins(12),
            seen,
        };
        self.observed.looks.entry(host).or_default().entry(name).or_default().push(look);
    }

    /// That the last complete pass was so many hours ago.
    pub(crate) fn quiet_for(&mut self, hours: i64) {
        self.state.passes.note(How::Daemon, now() - SignedDuration::from_hours(hours), true);
    }

    /// An alert that is open for so many hours.
    pub(crate) fn alert(
        &mut self,
        id: &str,
        level: Level,
        code: &str,
        hours: i64,
        title: &str,
    ) -> &mut Alert {
        let subject = Subject { certificate: None, host: None, text: title.to_owned() };
        let affected = Affected { key: String::new(), level, subject, muted: false, round: 1 };
        let since = now() - SignedDuration::from_hours(hours);
        let alert = json!({
            "cause": code, "code": code, "since": since, "title": title, "affected": [affected],
        });
        let alert = serde_json::from_value(alert).expect("an alert");
        self.alerts.alerts.entry(id.to_owned()).or_insert(alert)
    }

    pub(crate) fn report(&self) -> Report {
        report(&self.desired, &self.state, &self.observed, now()).with_alerts(&self.alerts)
    }
}

/// A valid certificate of somebody else, whose CA calls itself this.
pub(crate) fn foreign(issuer: &str) -> Seen {
    Seen::Serving(Served {
        fingerprint: certfleet::model::name::Fingerprint::of(b"somebody else"),
        serial: "0badcafe".to_owned(),
        not_before: now() - days(20),
        not_after: now() + days(70),
        issuer: plain(issuer),
        distrust: None,
        chain_end: None,
    })
}

pub(crate) fn problem(code: &str, message: &str, cause: &str, hint: &str) -> Problem {
    Problem {
        message: plain(message),
        causes: vec![plain(cause)],
        hint: Some(plain(hint)),
        ..facts::problem(code, Retry::Backoff)
    }
}

const HOSTS: [&str; 4] = ["cdn-frankfurt-1", "cdn-fremont-1", "sally", "esme"];

/// The four hosts of the story on a bad day: one stale, one unreachable, one foreign, and an expired certificate.
pub(crate) fn story() -> Fleet {
    let mut fleet = Fleet::new();
    fleet.certificate("media.social.test", &["media.social.test"], &HOSTS, &[80, 12]);
    fleet.serves("media.social.test", "cdn-frankfurt-1", 2);
    fleet.serves("media.social.test", "cdn-fremont-1", 1);
    let refused = problem(
        "deploy.config-test",
        "cannot deploy `media.social.test` version 2 to `cdn-fremont-1`: nginx refused the configuration",
        "`nginx -t` exited 1: cannot load certificate key \"/etc/letsencrypt/live/media.social.test/privkey.pem\"",
        "see what `nginx -t` says on `cdn-fremont-1`",
    );
    let last = now() - SignedDuration::from_mins(12);
    fleet.installed("media.social.test", "cdn-fremont-1", 1).failure =
        Some(Failure { count: 31, first: last - days(1), last, problem: refused, revision: String::new() });
    fleet.installed("media.social.test", "sally", 2);
    let silent = problem(
        "probe.timeout",
        "cannot look at what 192.0.2.13:443 serves",
        "no answer within 10 s",
        "is the host up? see `verify`",
    );
    fleet.seen("media.social.test", "sally", Seen::Unreachable(silent));
    fleet.installed("media.social.test", "esme", 2);
    fleet.seen("media.social.test", "esme", foreign("Another CA G2"));

    fleet.certificate("static.social.test", &["static.social.test", "img.social.test"], &HOSTS[..2], &[91]);
    for host in &HOSTS[..2] {
        fleet.serves("static.social.test", host, 1);
    }
    let forbidden = problem(
        "acme.caa",
        "letsencrypt refuses to issue for `static.social.test`",
        "CAA record for social.test prevents issuance",
        "let the CAA record name `letsencrypt.org`, then run `certfleet renew --force static.social.test`",
    );
    fleet.failing("static.social.test", forbidden);

    fleet.certificate("www.social.test", &["social.test", "www.social.test"], &HOSTS, &[95, 20]);
    for host in HOSTS {
        fleet.serves("www.social.test", host, 2);
    }
    fleet.certificate("mail.social.test", &["mail.social.test"], &[], &[61]);
    fleet.certificate("old.social.test", &["old.social.test"], &["esme"], &[40]);
    fleet.installed("old.social.test", "esme", 1);
    fleet.forget("old.social.test");
    let foreign = "`esme` serves a certificate for `media.social.test` that is not ours: 6d072c20…, issued by \
                   Another CA G2, until 2027-02-01 14:00 UTC";
    let by = Ack { by: "eva".to_owned(), at: now() - SignedDuration::from_hours(5), covers: BTreeMap::new() };
    fleet.alert("7c01e4", Level::Warning, "host.foreign", 30, foreign).ack = Some(by);
    let expired = "`static.social.test` version 1 expired on 2026-11-22 14:00 UTC, served by cdn-frankfurt-1, \
                   cdn-fremont-1";
    fleet.alert("a90b3d", Level::Emergency, "certificate.expires", 24 * 23, expired);
    fleet
}

/// Forty hosts and a few certificates; some hosts are not well.
pub(crate) fn large() -> Fleet {
    let mut fleet = Fleet::new();
    let hosts: Vec<String> = (1..=40).map(|number| format!("edge-{number:02}")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for name in ["a.social.test", "b.social.test"] {
        fleet.certificate(name, &[name], &hosts, &[85, 10]);
        for (at, host) in hosts.iter().enumerate() {
            match at {
                0..12 if name.starts_with('a') => fleet.serves(name, host, 1),
                20 => {
                    fleet.installed(name, host, 2);
                    let problem =
                        problem("probe.refused", "nothing answers", "connection refused", "start it");
                    fleet.seen(name, host, Seen::Unreachable(problem));
                }
                _ => fleet.serves(name, host, 2),
            }
        }
    }
    fleet
}

/// What hosts, CAs and spreadsheets' authors might like to be shown.
pub(crate) const HOSTILE: [&str; 9] = [
    "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "=HYPERLINK(\"http://evil.test\",\"x\")",
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1:A9)",
    "| a | b |\n# [x](http://evil.test) ![y](http://evil.test/y.png) **bold** `code` @everyone <https://evil.test>",
    "\"} 1\ncertfleet_build_info{version=\"evil\"} 2\\",
    "</style></title>'\"&amp;&#x3c;\u{1b}[2J\u{202e}",
    "CERTFLEET OK | 'x'=1;2;3",
];

/// Every place of a report that text from outside can reach, filled with it.
pub(crate) fn hostile(text: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.certificate("media.social.test", &["media.social.test"], &HOSTS, &[70, 62]);
    fleet.failing("media.social.test", problem("acme.refused", text, text, text));
    fleet.installed("media.social.test", "sally", 2);
    fleet.seen("media.social.test", "sally", foreign(text));
    fleet.installed("media.social.test", "esme", 2);
    fleet.seen("media.social.test", "esme", Seen::Unreachable(problem("probe.not-tls", text, text, text)));
    fleet.serves("media.social.test", "cdn-fremont-1", 1);
    let mut distrusted = foreign(text);
    if let Seen::Serving(served) = &mut distrusted {
        served.distrust = Some(plain(text));
        served.serial = plain(text);
    }
    fleet.alert("b41d00", Level::Warning, "host.foreign", 1, &plain(text)).ack =
        Some(Ack { by: plain(text), at: now(), covers: BTreeMap::new() });
    fleet.seen("media.social.test", "cdn-frankfurt-1", distrusted);
    fleet
}
