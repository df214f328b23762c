//! The report as one page: no script, nothing loaded from elsewhere, for screen, phone and paper.

use std::cmp::Reverse;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sha2::{Digest, Sha256};

use super::{day, last_pass, left, level, orphan, place, report_title, since, standings};
use crate::model::alert::{Level, level_of};
use crate::model::name::HostName;
use crate::model::plan::minute;
use crate::model::report::{CertReport, HostReport, HostStanding, ProblemReport, Report};

const STYLE: &str = include_str!("style.css");
/// Above so many hosts there is no table of certificates by hosts.
const COLUMNS: usize = 10;
/// Above so many hosts of one certificate, those that are well are only named.
const LISTED: usize = 8;

/// The report as a page of its own, most urgent first.
pub fn report_html(report: &Report) -> String {
    let now = report.generated_at;
    let certificates = report.by_urgency();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(policy());
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                meta name="robots" content="noindex";
                title { (report_title(report)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Certificates" }
                    p.soft { "Made " (minute(now)) ". Last pass over everything: " (last_pass(report)) ". All times are UTC." }
                    (tiles(report))
                    @if let Some(problem) = &report.problem { div.card.warn { (told(None, problem)) } }
                }
                main {
                    (overview(report, &certificates))
                    (alerts(report))
                    @if !certificates.is_empty() { h2 { "In detail, most urgent first" } }
                    @for certificate in &certificates { (card(certificate, now)) }
                    @if certificates.is_empty() { p { "certs.toml names no certificate yet." } }
                    @if !report.orphaned.is_empty() {
                        h2 { "Orphaned" }
                        @for one in &report.orphaned {
                            section.card { h3 { (one.name) } p.soft { (orphan(one)) } }
                        }
                    }
                }
                footer.soft { "certfleet " (env!("CARGO_PKG_VERSION")) }
            }
        }
    }
    .into_string()
}

/// What the page may do: be shown, in this style.
fn policy() -> String {
    let style = STANDARD.encode(Sha256::digest(STYLE));
    format!("default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'")
}

fn tiles(report: &Report) -> Markup {
    let numbers = report.numbers();
    let now = report.generated_at;
    let urgent = numbers.emergency + numbers.critical;
    html! {
        dl.tiles {
            div.tile.next.(numbers.next_end.as_ref().map_or("", |end| emphasis(end.urgency(now)))) {
                dt { "Next end" }
                @match &numbers.next_end {
                    Some(end) => {
                        dd { (left(end.not_after, now)) }
                        dd.soft { (place(end)) ", " (minute(end.not_after)) }
                    }
                    None => dd { "none" },
                }
            }
            (tile("Act now", urgent, if urgent > 0 { "bad" } else { "" }))
            (tile("Look at", numbers.warning, if numbers.warning > 0 { "warn" } else { "" }))
            (tile("Fine", numbers.fine, if numbers.fine > 0 { "fine" } else { "" }))
            (tile("Hosts", numbers.hosts, ""))
        }
    }
}

fn tile(what: &str, count: usize, class: &str) -> Markup {
    html! { div.tile.(class) { dt { (what) } dd { (count) } } }
}

/// Certificates by hosts, where that can be taken in at a glance.
fn overview(report: &Report, certificates: &[&CertReport]) -> Markup {
    let now = report.generated_at;
    let mut hosts: Vec<&HostName> = Vec::new();
    for host in report.certificates.iter().flat_map(|one| &one.hosts) {
        if !hosts.contains(&&host.host) {
            hosts.push(&host.host);
        }
        if hosts.len() > COLUMNS {
            return html! {};
        }
    }
    html! {
        @if certificates.len() > 1 && !hosts.is_empty() {
            section.overview {
                h2 { "What each host serves" }
                div.matrix { table {
                    thead { tr { th { "Certificate" } @for host in &hosts { th scope="col" { (host) } } } }
                    tbody { @for one in certificates {
                        tr {
                            th scope="row" { (one.name) }
                            @for host in &hosts {
                                td { @if let Some(there) = one.hosts.iter().find(|there| there.host == **host) {
                                    (glance(there, now))
                                } }
                            }
                        }
                    } }
                } }
            }
        }
    }
}

/// What people are told of now.
fn alerts(report: &Report) -> Markup {
    let alerts = report.alerts.as_deref().unwrap_or_default();
    html! {
        @if !alerts.is_empty() { h2 { "Open alerts" } }
        @for alert in alerts {
            section.card.(emphasis(Some(alert.level))) {
                p { span.word.(emphasis(Some(alert.level))) { (level(alert.level)) } " " (commands(&alert.title)) " " code.soft { (alert.condition) } }
                p.soft { (since(alert)) @if alert.acknowledged.is_none() { ": " (commands(&format!("`certfleet alert ack {}`", alert.id))) } }
            }
        }
    }
}

fn glance(host: &HostReport, now: Timestamp) -> Markup {
    let left = host.serving.as_ref().map(|serving| left(serving.not_after, now));
    html! { span.word.(class(host.urgency(now))) {
        @match (host.standing, left) {
            (HostStanding::Serving, Some(left)) => (left),
            (standing, Some(left)) => { (standing.as_str()) ", " (left) },
            (standing, None) => (standing.as_str()),
        }
    } }
}

fn card(certificate: &CertReport, now: Timestamp) -> Markup {
    let urgency = class(certificate.urgency(now));
    let has_others = certificate.domains.iter().any(|domain| domain.to_string() != certificate.name.as_str());
    html! {
        section.card.(urgency) {
            div.head {
                h3 { (certificate.name) }
                span.word.(class(certificate.standing.urgency())) { (certificate.standing.as_str()) }
                @let unwell = unwell(certificate, now);
                @if !unwell.is_empty() { span.word.(urgency) { "hosts: " (unwell) } }
            }
            @if has_others {
                p.soft { "for " @for (at, domain) in certificate.domains.iter().enumerate() {
                    @if at > 0 { ", " } (domain)
                } }
            }
            @if let Some((not_before, not_after)) = certificate.not_before.zip(certificate.not_after) {
                (bar(not_before, not_after, certificate.renews_at, now))
            }
            dl.facts {
                @if let Some(not_after) = certificate.not_after {
                    div { dt { "ends" } dd { (minute(not_after)) " (" (left(not_after, now)) ")" } }
                }
                @if let Some(at) = certificate.renews_at { div { dt { "renews" } dd { (minute(at)) } } }
                div { dt { "issuer" } dd { (certificate.issuer) } }
                @if let Some(version) = certificate.version { div { dt { "version" } dd { (version) } } }
                @if let Some(fingerprint) = certificate.fingerprint {
                    div { dt { "SHA-256" } dd { code title=(fingerprint) { (fingerprint.short()) "…" } } }
                }
            }
            @if let Some(problem) = &certificate.problem { div.problem { (told(None, problem)) } }
            (hosts(certificate, now))
        }
    }
}

/// The life of the newest version: what is left of it, and where it is renewed.
fn bar(not_before: Timestamp, not_after: Timestamp, renews_at: Option<Timestamp>, now: Timestamp) -> Markup {
    // Of this version alone: its hosts may serve another.
    let urgency = class(level_of(not_before, not_after, now));
    let life = not_before.duration_until(not_after).as_secs_f64().max(1.0);
    let share =
        |at: Timestamp| (not_before.duration_until(at).as_secs_f64() / life * 100.0).clamp(0.0, 100.0);
    let gone = share(now);
    html! {
        svg.life role="img" aria-label=(format!("{:.0} % of its life is left", 100.0 - gone)) {
            rect.all width="100%" height="8" rx="4" {}
            rect.left.(urgency) x=(format!("{gone:.1}%")) width=(format!("{:.1}%", 100.0 - gone)) height="8" rx="4" {}
            @if let Some(at) = renews_at { rect.mark x=(format!("{:.1}%", share(at).min(99.7))) width="2" height="8" {} }
        }
    }
}

fn hosts(certificate: &CertReport, now: Timestamp) -> Markup {
    let few = certificate.hosts.len() <= LISTED;
    let (mut shown, well): (Vec<&HostReport>, Vec<&HostReport>) =
        certificate.hosts.iter().partition(|host| few || host.urgency(now).is_some());
    shown.sort_by_key(|host| Reverse(host.urgency(now)));
    html! {
        @if certificate.hosts.is_empty() { p.soft { "Kept in the store only: no hosts." } }
        @if !few { p.soft { (standings(&certificate.hosts)) } }
        @if !shown.is_empty() {
            table.hosts {
                thead { tr { th { "Host" } th { "Standing" } th { "Serves until" } th { "Left" } th { "Looked at" } } }
                tbody { @for host in &shown { (host_row(host, now)) } }
            }
        }
        @if !well.is_empty() {
            p.soft { "Well: " @for (at, host) in well.iter().enumerate() { @if at > 0 { ", " } (host.host) } }
        }
        @for host in &shown {
            @if let Some(problem) = &host.problem { div.problem { (told(Some(&host.host), problem)) } }
        }
    }
}

fn host_row(host: &HostReport, now: Timestamp) -> Markup {
    let serving = host.serving.as_ref();
    html! {
        tr {
            th scope="row" { (host.host) }
            td { span.word.(class(host.urgency(now))) { (host.standing.as_str()) } }
            @match serving {
                Some(serving) => {
                    td.until data-label="until" {
                        (minute(serving.not_after))
                        @if let Some(why) = &serving.distrust { ", not trusted: " (why) }
                    }
                    td.until { (left(serving.not_after, now)) }
                }
                None => { td.until { "nothing seen" } td.until {} }
            }
            td.wide data-label="looked at" { @match host.checked_at { Some(at) => (minute(at)), None => "never" } }
        }
        @if host.addresses.len() > 1 {
            @for address in &host.addresses {
                tr {
                    td { (address.address) }
                    td { span.word { (address.standing.as_str()) } }
                    td.wide colspan="3" { @if let Some(serving) = &address.serving { (day(serving.not_after)) } }
                }
            }
        }
    }
}

fn told(host: Option<&HostName>, problem: &ProblemReport) -> Markup {
    html! {
        p {
            @if let Some(host) = host { b { (host) ": " } }
            (commands(&problem.message)) " " code.soft { (problem.code) }
        }
        @if let Some(next) = &problem.next { p { span.soft { "next: " } (commands(next)) } }
        @if let Some(hint) = &problem.hint { p { span.soft { "to do: " } (commands(hint)) } }
    }
}

/// How many hosts that are not well stand where.
fn unwell(certificate: &CertReport, now: Timestamp) -> String {
    // What serves the newest version is no better than that; its own word says it.
    let unwell = |host: &&HostReport| host.standing != HostStanding::Serving && host.urgency(now).is_some();
    let unwell = certificate.hosts.iter().filter(unwell).cloned();
    standings(&unwell.collect::<Vec<_>>())
}

/// Text in which what is between backticks is to be typed.
fn commands(text: &str) -> Markup {
    html! {
        @for (at, part) in text.split('`').enumerate() {
            @if at % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A class for what is well without one.
fn emphasis(level: Option<Level>) -> &'static str {
    level.map_or("", |level| class(Some(level)))
}

fn class(level: Option<Level>) -> &'static str {
    match level {
        None => "fine",
        Some(Level::Warning) => "warn",
        Some(Level::Critical | Level::Emergency) => "bad",
    }
}
