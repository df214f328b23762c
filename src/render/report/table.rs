//! The report for people: certificates × hosts where that fits, else lists, worst first.

use std::cmp::Reverse;
use std::fmt::Write;

use super::{ago, day, last_pass, left, level, next_end, orphan, problems, report_title, since, standings};
use crate::model::alert::Level;
use crate::model::name::HostName;
use crate::model::report::{CertReport, HostReport, HostStanding, Report};

/// Above so many hosts of one certificate, those that are well are only counted.
const LISTED: usize = 8;
/// So many hosts that are not well are listed for one certificate.
const UNWELL: usize = 10;
/// So many problems are told; above that one cause has mostly many faces.
const TOLD: usize = 20;
/// Between columns.
const GAP: &str = "  ";

/// The report as text that is at most so many characters wide where names allow it.
pub fn report_table(report: &Report, width: usize, color: bool) -> String {
    let mut text = String::new();
    if report.certificates.is_empty() {
        text.push_str("certs.toml names no certificate yet\n");
    } else {
        let _ = writeln!(text, "{}", report_title(report));
        if let Some(end) = next_end(report) {
            let _ = writeln!(text, "next end:  {end}");
        }
        let _ = writeln!(text, "last pass: {}\n", last_pass(report));
        let grid = matrix(report, width).unwrap_or_else(|| list(report));
        text.push_str(&grid.text(color));
    }
    let problems = problems(report);
    for (level, subject, problem) in problems.iter().take(TOLD) {
        let subject = painted(subject, Paint::of(*level), color);
        let _ = write!(text, "\n{subject}: {} [{}]\n", problem.message, problem.code);
        if let Some(next) = &problem.next {
            let _ = writeln!(text, "  next: {next}");
        }
        if let Some(hint) = &problem.hint {
            let _ = writeln!(text, "  hint: {hint}");
        }
    }
    if problems.len() > TOLD {
        let _ = writeln!(text, "\nand {} more problems: see --format json", problems.len() - TOLD);
    }
    for one in &report.orphaned {
        let _ = writeln!(text, "\norphaned: {}: {}", one.name, orphan(one));
    }
    let alerts = report.alerts.as_deref().unwrap_or_default();
    for (at, alert) in alerts.iter().take(TOLD).enumerate() {
        let what = format!("alert {}, {}", alert.id, level(alert.level));
        let what = painted(&what, Paint::of(Some(alert.level)), color);
        let first = if at == 0 { "\n" } else { "" };
        let _ = writeln!(text, "{first}{what}, {}: {}", since(alert), alert.title);
    }
    if alerts.len() > TOLD {
        let _ = writeln!(text, "and {} more alerts: see `certfleet alert list`", alerts.len() - TOLD);
    }
    text
}

/// Certificates by hosts; `None` when there are no hosts or the lines would be too long.
fn matrix(report: &Report, width: usize) -> Option<Grid> {
    let mut hosts: Vec<&HostName> = Vec::new();
    for host in report.certificates.iter().flat_map(|certificate| &certificate.hosts) {
        if !hosts.contains(&&host.host) {
            hosts.push(&host.host);
        }
        // Far beyond any terminal; looking on would be slow with a large fleet.
        if hosts.len() > width / 4 {
            return None;
        }
    }
    if hosts.is_empty() {
        return None;
    }
    let detail = [Detail::Renewal, Detail::Left, Detail::Least];
    detail.into_iter().map(|detail| whole(report, &hosts, detail)).find(|grid| grid.width() <= width)
}

/// What is said of the certificate itself before its hosts, from much to little.
#[derive(Clone, Copy, PartialEq)]
enum Detail {
    Renewal,
    Left,
    Least,
}

fn whole(report: &Report, hosts: &[&HostName], detail: Detail) -> Grid {
    let now = report.generated_at;
    let left = |one: &CertReport| one.not_after.map_or_else(dash, |at| left(at, now));
    let mut heads = vec!["CERTIFICATE".to_owned(), "STANDING".to_owned()];
    if detail != Detail::Least {
        heads.push("LEFT".to_owned());
    }
    if detail == Detail::Renewal {
        heads.push("RENEWS".to_owned());
    }
    heads.extend(hosts.iter().map(ToString::to_string));
    let row = |one: &CertReport| {
        let mut row = vec![Cell::name(one.name.to_string()), standing(one)];
        match detail {
            // What its hosts serve says it, too.
            Detail::Least if one.hosts.is_empty() => row[1].text.push_str(&format!(" {}", left(one))),
            Detail::Least => {}
            Detail::Left => row.push(Cell::plain(left(one))),
            Detail::Renewal => {
                row.extend([Cell::plain(left(one)), Cell::plain(one.renews_at.map_or_else(dash, day))]);
            }
        }
        row.extend(hosts.iter().map(|host| {
            let there = one.hosts.iter().find(|there| there.host == **host);
            there.map_or_else(|| Cell::plain(String::new()), |there| place(there, now))
        }));
        row
    };
    Grid { heads, rows: report.by_urgency().into_iter().map(row).collect() }
}

/// What one host serves, in a word or two.
fn place(host: &HostReport, now: jiff::Timestamp) -> Cell {
    let left = host.serving.as_ref().map(|serving| left(serving.not_after, now));
    let text = match (host.standing, left) {
        (HostStanding::Serving, Some(left)) => left,
        (standing, Some(left)) => format!("{} {left}", standing.as_str()),
        (standing, None) => standing.as_str().to_owned(),
    };
    Cell { text, paint: Paint::of(host.urgency(now)) }
}

fn standing(certificate: &CertReport) -> Cell {
    Cell { text: certificate.standing.as_str().to_owned(), paint: Paint::of(certificate.standing.urgency()) }
}

/// A line for each certificate, and below it one for each host, or for each that is not well.
fn list(report: &Report) -> Grid {
    let now = report.generated_at;
    let heads =
        ["CERTIFICATE", "STANDING", "LEFT", "ENDS", "RENEWS", "SERVED BY"].map(str::to_owned).to_vec();
    let mut rows = Vec::new();
    for certificate in report.by_urgency() {
        let serving = certificate.hosts.iter().filter(|host| host.standing == HostStanding::Serving).count();
        let all = certificate.hosts.len();
        rows.push(vec![
            Cell::name(certificate.name.to_string()),
            standing(certificate),
            Cell::plain(certificate.not_after.map_or_else(dash, |at| left(at, now))),
            Cell::plain(certificate.not_after.map_or_else(dash, day)),
            Cell::plain(certificate.renews_at.map_or_else(dash, day)),
            Cell::plain(if all == 0 { "no hosts".to_owned() } else { format!("{serving} of {all}") }),
        ]);
        let mut shown: Vec<&HostReport> =
            certificate.hosts.iter().filter(|host| all <= LISTED || host.urgency(now).is_some()).collect();
        shown.sort_by_key(|host| Reverse(host.urgency(now)));
        let hidden = shown.len().saturating_sub(UNWELL);
        shown.truncate(UNWELL);
        rows.extend(shown.into_iter().map(|host| host_row(host, now)));
        if hidden > 0 {
            let counts = format!("  and {hidden} more; of all: {}", standings(&certificate.hosts));
            rows.push(vec![Cell { text: counts, paint: Paint::Wide }]);
        }
    }
    Grid { heads, rows }
}

fn host_row(host: &HostReport, now: jiff::Timestamp) -> Vec<Cell> {
    let serving = host.serving.as_ref();
    let mut seen = host.checked_at.map_or_else(|| "unseen".to_owned(), |at| format!("seen {}", ago(at, now)));
    // The one address that most have is not worth the room.
    for one in host.addresses.iter().filter(|_| host.addresses.len() > 1) {
        let _ = write!(seen, ", {} {}", one.address, one.standing.as_str());
    }
    vec![
        Cell::plain(format!("  {}", host.host)),
        Cell { text: host.standing.as_str().to_owned(), paint: Paint::of(host.urgency(now)) },
        Cell::plain(serving.map_or_else(dash, |serving| left(serving.not_after, now))),
        Cell::plain(serving.map_or_else(dash, |serving| day(serving.not_after))),
        Cell::plain(String::new()),
        Cell::plain(seen),
    ]
}

fn dash() -> String {
    "-".to_owned()
}

/// Lines of cells under heads.
struct Grid {
    heads: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

#[derive(Clone)]
struct Cell {
    text: String,
    paint: Paint,
}

impl Cell {
    fn plain(text: String) -> Self {
        Self { text, paint: Paint::None }
    }

    fn name(text: String) -> Self {
        Self { text, paint: Paint::Bold }
    }
}

/// How a cell is shown where there is colour; without it the words say the same.
#[derive(Clone, Copy, PartialEq)]
enum Paint {
    None,
    Bold,
    Green,
    Yellow,
    Red,
    /// Not even colour, and wider than its column.
    Wide,
}

impl Paint {
    fn of(level: Option<Level>) -> Self {
        match level {
            None => Self::Green,
            Some(Level::Warning) => Self::Yellow,
            Some(Level::Critical | Level::Emergency) => Self::Red,
        }
    }
}

fn painted(text: &str, paint: Paint, color: bool) -> String {
    let code = match paint {
        _ if !color || text.is_empty() => return text.to_owned(),
        Paint::None | Paint::Wide => return text.to_owned(),
        Paint::Bold => "1",
        Paint::Green => "32",
        Paint::Yellow => "33",
        Paint::Red => "1;31",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

impl Grid {
    fn widths(&self) -> Vec<usize> {
        let cell = |column: usize| {
            let cells =
                self.rows.iter().filter_map(|row| row.get(column)).filter(|cell| cell.paint != Paint::Wide);
            let widest = cells.map(|cell| cell.text.chars().count()).max().unwrap_or_default();
            // A head is broken to the width of what is below it, but not within a word.
            wrapped(&self.heads[column], widest.max(NARROWEST))
                .iter()
                .map(String::len)
                .fold(widest, usize::max)
        };
        (0..self.heads.len()).map(cell).collect()
    }

    fn width(&self) -> usize {
        let widths = self.widths();
        widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1)
    }

    fn text(&self, color: bool) -> String {
        let widths = self.widths();
        let heads: Vec<Vec<String>> =
            self.heads.iter().zip(&widths).map(|(head, width)| wrapped(head, *width)).collect();
        let height = heads.iter().map(Vec::len).max().unwrap_or_default();
        let mut text = String::new();
        for line in 0..height {
            let words = heads.iter().map(|head| {
                // Heads of one line stand just above their columns.
                let word = (line + head.len()).checked_sub(height).map_or("", |line| &head[line]);
                Cell { text: word.to_owned(), paint: Paint::Bold }
            });
            put(&mut text, &words.collect::<Vec<_>>(), &widths, color);
        }
        for row in &self.rows {
            put(&mut text, row, &widths, color);
        }
        text
    }
}

fn put(text: &mut String, row: &[Cell], widths: &[usize], color: bool) {
    let mut line = String::new();
    let mut blank = 0;
    for (cell, width) in row.iter().zip(widths) {
        if !cell.text.is_empty() {
            line.push_str(&" ".repeat(std::mem::take(&mut blank)));
            line.push_str(&painted(&cell.text, cell.paint, color));
        }
        blank += width.saturating_sub(cell.text.chars().count()) + GAP.len();
    }
    let _ = writeln!(text, "{line}");
}

/// Heads are not broken below this.
const NARROWEST: usize = 11;

/// A name in lines of at most this width, broken behind `-`, `.` and `_`; a longer part stays whole.
fn wrapped(name: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in name.split_inclusive(['-', '.', '_']) {
        match lines.last_mut() {
            Some(line) if line.len() + part.len() <= width => line.push_str(part),
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::wrapped;

    #[test]
    fn names_are_broken_where_people_would() {
        assert_eq!(wrapped("cdn-frankfurt-1", 12), ["cdn-", "frankfurt-1"]);
        assert_eq!(wrapped("cdn-frankfurt-1", 20), ["cdn-frankfurt-1"]);
        assert_eq!(wrapped("sally", 2), ["sally"]);
        assert_eq!(wrapped("a.very.example.org", 8), ["a.very.", "example.", "org"]);
    }
}
