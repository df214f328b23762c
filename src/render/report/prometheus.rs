//! The report as metrics, in Prometheus' text format: for node_exporter's textfile collector, or to be scraped.

use std::fmt::Write;

use jiff::Timestamp;

use crate::model::report::{AddressReport, CertReport, HostReport, HostStanding, Report, Standing};

/// The report as metrics. All times are seconds since 1970; what is not there has no sample.
pub fn report_prometheus(report: &Report) -> String {
    let mut text = Metrics::default();
    text.family("build_info", "The certfleet that wrote this.")
        .sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.family("report_generated_timestamp_seconds", "When this was written.")
        .sample(&[], report.generated_at.as_second());
    passes(report, &mut text);
    certificates(&report.certificates, &mut text);
    hosts(report, &mut text);
    addresses(report, &mut text);
    orphans(report, &mut text);
    text.text
}

fn passes(report: &Report, text: &mut Metrics) {
    text.family("last_pass_timestamp_seconds", "When the last pass ended, by what had it run.");
    for pass in &report.passes {
        text.sample(&[("by", pass.how.as_str())], pass.last.as_second());
    }
    text.family(
        "last_complete_pass_timestamp_seconds",
        "When the last pass over all certificates and hosts ended, by what had it run.",
    );
    for pass in &report.passes {
        text.time(&[("by", pass.how.as_str())], pass.complete);
    }
}

fn certificates(certificates: &[CertReport], text: &mut Metrics) {
    text.family("certificate_info", "The newest version in the store; always 1.");
    for one in certificates {
        let (Some(version), Some(serial), Some(fingerprint)) = (one.version, &one.serial, one.fingerprint)
        else {
            continue;
        };
        let labels = [
            ("name", one.name.as_str()),
            ("issuer", one.issuer.as_str()),
            ("version", &version.to_string()),
            ("serial", serial),
            ("fingerprint", &fingerprint.to_string()),
        ];
        text.sample(&labels, 1);
    }
    type Moment = fn(&CertReport) -> Option<Timestamp>;
    let moments: [(&str, &str, Moment); 3] = [
        ("not_before", "Start of the validity of the newest version in the store.", |one| one.not_before),
        ("not_after", "End of the validity of the newest version in the store.", |one| one.not_after),
        ("renewal", "When it is due for renewal.", |one| one.renews_at),
    ];
    for (name, help, moment) in moments {
        text.family(&format!("certificate_{name}_timestamp_seconds"), help);
        for one in certificates {
            text.time(&[("name", one.name.as_str())], moment(one));
        }
    }
    text.family("certificate_standing", "1 for where the certificate stands, 0 for all else.");
    for one in certificates {
        for standing in Standing::ALL {
            let labels = [("name", one.name.as_str()), ("standing", standing.as_str())];
            text.sample(&labels, i64::from(one.standing == standing));
        }
    }
    text.family("certificate_problem", "1 while issuing fails with this problem.");
    for one in certificates {
        if let Some(problem) = &one.problem {
            text.sample(&[("name", one.name.as_str()), ("code", &problem.code)], 1);
        }
    }
}

fn hosts(report: &Report, text: &mut Metrics) {
    text.family("host_standing", "1 for where the certificate stands on the host, 0 for all else.");
    for (name, host) in places(report) {
        for standing in HostStanding::ALL {
            let labels = [("name", name), ("host", host.host.as_str()), ("standing", standing.as_str())];
            text.sample(&labels, i64::from(host.standing == standing));
        }
    }
    text.family("host_checked_timestamp_seconds", "When the host was last looked at.");
    for (name, host) in places(report) {
        text.time(&[("name", name), ("host", host.host.as_str())], host.checked_at);
    }
    text.family("host_problem", "1 while the host has this problem with the certificate.");
    for (name, host) in places(report) {
        if let Some(problem) = &host.problem {
            text.sample(&[("name", name), ("host", host.host.as_str()), ("code", &problem.code)], 1);
        }
    }
}

fn addresses(report: &Report, text: &mut Metrics) {
    type Value = fn(&AddressReport) -> Option<i64>;
    let values: [(&str, &str, Value); 3] = [
        ("not_before_timestamp_seconds", "Start of the validity of what the address serves.", |one| {
            Some(one.serving.as_ref()?.not_before.as_second())
        }),
        ("not_after_timestamp_seconds", "End of the validity of what the address serves.", |one| {
            Some(one.serving.as_ref()?.not_after.as_second())
        }),
        ("match", "Whether the address serves the newest version in the store.", |one| {
            Some(i64::from(one.standing == HostStanding::Serving))
        }),
    ];
    for (name, help, value) in values {
        text.family(&format!("served_{name}"), help);
        for (name, host) in places(report) {
            for address in &host.addresses {
                let labels =
                    [("name", name), ("host", host.host.as_str()), ("address", &address.address.to_string())];
                if let Some(value) = value(address) {
                    text.sample(&labels, value);
                }
            }
        }
    }
}

fn orphans(report: &Report, text: &mut Metrics) {
    text.family(
        "orphaned_certificate_not_after_timestamp_seconds",
        "End of the validity of a certificate that certs.toml no longer names, or no longer for the hosts that have it.",
    );
    for orphan in &report.orphaned {
        text.time(&[("name", orphan.name.as_str())], orphan.not_after);
    }
    text.family("orphaned_certificate_installed", "1 for each host that has an orphaned certificate.");
    for orphan in &report.orphaned {
        for host in &orphan.hosts {
            text.sample(&[("name", orphan.name.as_str()), ("host", host.as_str())], 1);
        }
    }
}

fn places(report: &Report) -> impl Iterator<Item = (&str, &HostReport)> {
    report.certificates.iter().flat_map(|one| one.hosts.iter().map(|host| (one.name.as_str(), host)))
}

/// Families of gauges; one without samples is left out.
#[derive(Default)]
struct Metrics {
    text: String,
    family: String,
    /// Of a family that has no sample yet.
    header: String,
}

impl Metrics {
    fn family(&mut self, name: &str, help: &str) -> &mut Self {
        self.family = format!("certfleet_{name}");
        self.header = format!("# HELP {0} {help}\n# TYPE {0} gauge\n", self.family);
        self
    }

    fn time(&mut self, labels: &[(&str, &str)], at: Option<Timestamp>) {
        if let Some(at) = at {
            self.sample(labels, at.as_second());
        }
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: i64) {
        let labels: Vec<String> =
            labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        self.text.push_str(&std::mem::take(&mut self.header));
        let _ = writeln!(self.text, "{}{labels} {value}", self.family);
    }
}

/// A label's value between quotes.
fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}
