//! Other people's parsers read what is rendered: prometheus_client, html5lib, markdown-it, Python's csv.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::Stdio;

use certfleet::model::report::Report;
use certfleet::render;
use serde_json::Value;

use super::fleet::{HOSTILE, hostile, large, now, story};
use crate::world::parts;

fn judged(form: &str, text: &str) -> Value {
    all_judged(form, &[text.to_owned()]).remove(0)
}

fn all_judged(form: &str, texts: &[String]) -> Vec<Value> {
    let packages = ["prometheus_client", "html5lib", "markdown-it-py"];
    let mut judge = parts::python::command("judges", &packages, include_str!("judges.py"))
        .unwrap()
        .arg(form)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(texts).unwrap();
    judge.stdin.take().unwrap().write_all(&input).unwrap();
    let output = judge.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{texts:#?}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn texts<'a>(value: &'a Value, field: &'a str) -> impl Iterator<Item = &'a str> {
    value.as_array().unwrap().iter().map(move |one| one[field].as_str().unwrap())
}

#[test]
fn metrics_are_read_by_prometheus_own_parser() {
    let families = judged("metrics", &render::report_prometheus(&story().report()));
    let names: Vec<&str> = texts(&families, "name").collect();
    assert_eq!(names.len(), names.iter().collect::<BTreeSet<_>>().len(), "a family comes twice: {names:?}");
    let sample = |name: &str, labels: &[(&str, &str)]| {
        let name = format!("certfleet_{name}");
        let family =
            families.as_array().unwrap().iter().find(|family| family["name"] == name.as_str()).unwrap();
        assert_eq!(family["type"], "gauge");
        assert_ne!(family["help"], "");
        let labels: BTreeMap<&str, &str> = labels.iter().copied().collect();
        let labels = serde_json::to_value(labels).unwrap();
        let found = family["samples"].as_array().unwrap().iter().find(|sample| sample["labels"] == labels);
        found.unwrap_or_else(|| panic!("{name} has no {labels}"))["value"].as_f64().unwrap()
    };
    let seconds = now().as_second() as f64;
    assert_eq!(sample("report_generated_timestamp_seconds", &[]), seconds);
    assert_eq!(sample("last_complete_pass_timestamp_seconds", &[("by", "daemon")]), seconds - 720.0);
    let expired = sample("certificate_not_after_timestamp_seconds", &[("name", "static.social.test")]);
    assert_eq!(expired, seconds - 86_400.0);
    let at = [("name", "media.social.test"), ("host", "cdn-fremont-1"), ("address", "192.0.2.11:443")];
    assert_eq!(sample("served_match", &at), 0.0);
    assert_eq!(sample("served_not_after_timestamp_seconds", &at), seconds + 864_000.0);
    let standing = [("name", "media.social.test"), ("host", "esme"), ("standing", "foreign")];
    assert_eq!(sample("host_standing", &standing), 1.0);
    assert_eq!(
        sample("orphaned_certificate_installed", &[("name", "old.social.test"), ("host", "esme")]),
        1.0
    );
}

#[test]
fn the_page_is_html_without_mistakes_that_loads_nothing_and_runs_nothing() {
    for fleet in [story(), large()] {
        let page = judged("html", &render::report_html(&fleet.report()));
        assert_eq!(page["errors"], serde_json::json!([]));
        let elements = page["elements"].as_array().unwrap();
        for element in elements {
            let tag = element["tag"].as_str().unwrap();
            assert!(
                !["script", "link", "img", "iframe", "object", "a", "form", "base"].contains(&tag),
                "{tag}"
            );
            for name in element["attributes"].as_object().unwrap().keys() {
                assert!(
                    !name.starts_with("on") && !["style", "src", "href"].contains(&name.as_str()),
                    "{name}"
                );
            }
        }
        let policy =
            elements.iter().find(|it| it["attributes"]["http-equiv"] == "Content-Security-Policy").unwrap();
        let policy = policy["attributes"]["content"].as_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    }
}

#[test]
fn the_page_has_the_most_urgent_first() {
    let page = judged("html", &render::report_html(&story().report()));
    let heads: Vec<&str> = page["elements"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|element| element["tag"] == "h3")
        .map(|element| element["text"].as_str().unwrap())
        .collect();
    let expected =
        ["static.social.test", "media.social.test", "mail.social.test", "www.social.test", "old.social.test"];
    assert_eq!(heads, expected);
}

#[test]
fn a_spreadsheet_gets_a_row_for_each_address() {
    let rows = judged("csv", &render::report_csv(&story().report()));
    let rows = rows.as_array().unwrap();
    let columns = rows[0].as_array().unwrap();
    assert!(rows.iter().all(|row| row.as_array().unwrap().len() == columns.len()));
    let place = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let field = |row: &Value, name: &str| row[place(name)].as_str().unwrap().to_owned();
    let media: Vec<&Value> = rows.iter().filter(|row| row[0] == "media.social.test").collect();
    let standings: Vec<String> = media.iter().map(|row| field(row, "host-standing")).collect();
    assert_eq!(standings, ["serving", "stale", "unreachable", "foreign"]);
    assert_eq!(field(media[1], "served-days-left"), "10");
    let expired = rows.iter().find(|row| row[0] == "static.social.test").unwrap();
    assert_eq!(field(expired, "days-left"), "-1", "a number stays one");
    let orphan = rows.iter().find(|row| field(row, "standing") == "orphaned").unwrap();
    assert_eq!(
        (field(orphan, "certificate"), field(orphan, "host")),
        ("old.social.test".into(), "esme".into())
    );
}

#[test]
fn no_form_lets_hostile_text_out() {
    let shape = |elements: &Value| -> Vec<String> { texts(elements, "tag").map(str::to_owned).collect() };
    let reports: Vec<_> = ["harmless"].iter().chain(&HOSTILE).map(|text| hostile(text).report()).collect();
    let judged = |form: &str, render: fn(&Report) -> String| {
        let mut judged = all_judged(form, &reports.iter().map(render).collect::<Vec<_>>()).into_iter();
        (judged.next().unwrap(), judged.zip(HOSTILE).collect::<Vec<_>>())
    };

    let (harmless, pages) = judged("html", render::report_html);
    // What is between backticks is code: the one thing that text can do.
    let of = |page: &Value| -> Vec<String> {
        shape(&page["elements"]).into_iter().filter(|tag| tag != "code").collect()
    };
    for (page, text) in pages {
        assert_eq!(page["errors"], serde_json::json!([]), "{text}");
        assert_eq!(of(&page), of(&harmless), "{text}");
    }
    let (harmless, all) = judged("markdown", render::report_markdown);
    for (markdown, text) in all {
        assert_eq!(shape(&markdown), shape(&harmless), "{text}");
    }
    assert!(reports.iter().all(|report| !render::report_markdown(report).contains("@everyone")));
    let (harmless, all) = judged("metrics", render::report_prometheus);
    for (metrics, text) in all {
        assert_eq!(metrics, harmless, "{text}");
    }
    let (harmless, all) = judged("csv", render::report_csv);
    for (table, text) in all {
        let rows = table.as_array().unwrap();
        assert_eq!(rows.len(), harmless.as_array().unwrap().len(), "{text}");
        for field in rows.iter().flat_map(|row| row.as_array().unwrap()) {
            let field = field.as_str().unwrap();
            assert!(field.parse::<i64>().is_ok() || !field.starts_with(['=', '+', '-', '@']), "{field}");
        }
    }
}
