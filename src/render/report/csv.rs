//! The report as CSV: a row for each certificate, host and address.

use crate::model::report::{AddressReport, CertReport, HostReport, Orphan, ProblemReport, Report, Serving};

const COLUMNS: [&str; 25] = [
    "certificate",
    "domains",
    "standing",
    "issuer",
    "version",
    "serial",
    "fingerprint",
    "not-before",
    "not-after",
    "days-left",
    "renews-at",
    "problem-code",
    "problem",
    "host",
    "host-standing",
    "checked-at",
    "host-problem-code",
    "host-problem",
    "address",
    "address-standing",
    "served-fingerprint",
    "served-serial",
    "served-not-after",
    "served-days-left",
    "served-distrust",
];

/// The report as CSV with a header line. What is not there is an empty field.
///
/// Spreadsheets take text that starts with `=`, `+`, `-` or `@` for a formula; such text gets a `'` before it.
pub fn report_csv(report: &Report) -> String {
    let mut table = csv::Writer::from_writer(Vec::new());
    for row in rows(report) {
        let empty = std::iter::repeat_n("", COLUMNS.len() - row.len());
        table
            .write_record(row.iter().map(String::as_str).chain(empty))
            .expect("rows are alike, and a Vec takes everything");
    }
    let bytes = table.into_inner().expect("a Vec takes everything");
    String::from_utf8(bytes).expect("made of text")
}

fn rows(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    for certificate in &report.certificates {
        let own = own(certificate);
        if certificate.hosts.is_empty() {
            rows.push(own.clone());
        }
        for host in &certificate.hosts {
            let there = [own.clone(), there(host)].concat();
            if host.addresses.is_empty() {
                rows.push(there.clone());
            }
            rows.extend(host.addresses.iter().map(|address| [there.clone(), at(address)].concat()));
        }
    }
    for orphan in &report.orphaned {
        let own = orphaned(orphan);
        if orphan.hosts.is_empty() {
            rows.push(own.clone());
        }
        rows.extend(orphan.hosts.iter().map(|host| [own.clone(), vec![text(host)]].concat()));
    }
    rows
}

fn own(certificate: &CertReport) -> Vec<String> {
    let domains: Vec<String> = certificate.domains.iter().map(ToString::to_string).collect();
    let [code, problem] = problem(certificate.problem.as_ref());
    vec![
        text(&certificate.name),
        text(domains.join(" ")),
        certificate.standing.as_str().to_owned(),
        text(&certificate.issuer),
        plain(certificate.version),
        optional(certificate.serial.as_ref()),
        plain(certificate.fingerprint),
        plain(certificate.not_before),
        plain(certificate.not_after),
        plain(certificate.days_left),
        plain(certificate.renews_at),
        code,
        problem,
    ]
}

fn there(host: &HostReport) -> Vec<String> {
    let [code, problem] = problem(host.problem.as_ref());
    vec![text(&host.host), host.standing.as_str().to_owned(), plain(host.checked_at), code, problem]
}

fn at(address: &AddressReport) -> Vec<String> {
    let serving = address.serving.as_ref();
    let of = |what: fn(&Serving) -> String| serving.map_or_else(String::new, what);
    vec![
        text(address.address),
        address.standing.as_str().to_owned(),
        of(|serving| serving.fingerprint.to_string()),
        of(|serving| text(&serving.serial)),
        of(|serving| serving.not_after.to_string()),
        of(|serving| serving.days_left.to_string()),
        optional(serving.and_then(|serving| serving.distrust.as_ref())),
    ]
}

fn orphaned(orphan: &Orphan) -> Vec<String> {
    let mut fields = vec![String::new(); 13];
    fields[0] = text(&orphan.name);
    fields[2] = "orphaned".to_owned();
    fields[8] = plain(orphan.not_after);
    fields
}

fn problem(problem: Option<&ProblemReport>) -> [String; 2] {
    problem.map_or_else(Default::default, |problem| [text(&problem.code), text(&problem.message)])
}

/// Numbers and times: never a formula, though a number may be negative.
fn plain(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

fn optional(value: Option<&String>) -> String {
    value.map_or_else(String::new, text)
}

/// Text that no spreadsheet takes for a formula.
fn text(value: impl ToString) -> String {
    let value = value.to_string();
    // The last are of full width, which some take for the same.
    let begins = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];
    if value.starts_with(begins) { format!("'{value}") } else { value }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn no_text_is_a_formula() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1+1", "＋1", "－1", "＠SUM(A1)"] {
            assert_eq!(text(formula), format!("'{formula}"));
        }
        assert_eq!(text("a=1"), "a=1");
    }
}
