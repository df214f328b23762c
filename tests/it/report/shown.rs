//! What is rendered, compared with what it was when a person last looked.

use std::path::Path;

use certfleet::render::{self, Verdict};

use super::fleet::{Fleet, HOSTILE, hostile, large, story};

fn is_as_before(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports").join(name);
    if std::env::var_os("UPDATE_REPORTS").is_some() {
        std::fs::write(&path, text).expect("it can be written");
    }
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    if text == before {
        return;
    }
    let same = text.lines().zip(before.lines()).take_while(|(text, before)| text == before).count();
    let of = |text: &str| text.lines().nth(same).unwrap_or("nothing").to_owned();
    panic!("tests/reports/{name}:{}:\n- {}\n+ {}\nall:\n{text}", same + 1, of(&before), of(text));
}

#[test]
fn the_story_fits_80_columns() {
    let text = render::report_table(&story().report(), 80, false);
    is_as_before("story-80.txt", &text);
    // What problems say is as long as it is.
    let widest = text.lines().take(10).map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{widest:?}");
}

#[test]
fn the_story_in_every_form() {
    let report = story().report();
    is_as_before("story-120.txt", &render::report_table(&report, 120, false));
    is_as_before("story.json", &render::report_json(&report).unwrap());
    is_as_before("story.csv", &render::report_csv(&report));
    is_as_before("story.html", &render::report_html(&report));
    is_as_before("story.md", &render::report_markdown(&report));
    is_as_before("story.prom", &render::report_prometheus(&report));
    is_as_before("story-check.txt", &format!("{}\n", render::report_check(&report).1));
}

#[test]
fn a_large_fleet_is_counted_and_only_what_is_not_well_is_listed() {
    let text = render::report_table(&large().report(), 80, false);
    is_as_before("large.txt", &text);
    assert!(text.lines().take(20).all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn colour_adds_nothing_but_colour() {
    let report = story().report();
    let (plain, colored) =
        (render::report_table(&report, 80, false), render::report_table(&report, 80, true));
    assert!(!plain.contains('\u{1b}'));
    assert!(colored.contains("\u{1b}[1;31mexpired\u{1b}[0m"), "{colored}");
    let mut stripped = String::new();
    for part in colored.split('\u{1b}') {
        let text = match part.strip_prefix('[') {
            Some(code) => code.split_once('m').expect("a colour ends").1,
            None => part,
        };
        stripped.push_str(text);
    }
    assert_eq!(stripped, plain);
}

#[test]
fn a_chain_that_ends_early_counts_as_the_end() {
    let mut fleet = Fleet::new();
    fleet.certificate("media.social.test", &["media.social.test"], &["sally", "esme"], &[12]);
    for host in ["sally", "esme"] {
        fleet.serves("media.social.test", host, 1);
    }
    let (verdict, line) = render::report_check(&fleet.report());
    assert!(verdict == Verdict::Ok && line.contains("next end in 78 d, media.social.test on "), "{line}");

    fleet.chain_ends("media.social.test", "sally", 10);

    let (verdict, line) = render::report_check(&fleet.report());
    assert_eq!(verdict, Verdict::Critical, "{line}");
    assert!(line.contains("CRITICAL: the chain of media.social.test on sally ends in 10 d, "), "{line}");
    assert!(line.contains("'media.social.test'=10.00;22.50:;15.00:"), "{line}");
    let table = render::report_table(&fleet.report(), 80, false);
    assert!(
        table.contains("1 critical") && table.contains("the chain of media.social.test on sally"),
        "{table}"
    );
    let json = render::report_json(&fleet.report()).unwrap();
    assert_eq!(json.matches("\"chain-ends\": null").count(), 2, "{json}");
}

#[test]
fn nobody_making_passes_is_in_every_form() {
    let mut fleet = Fleet::new();
    fleet.certificate("www.social.test", &["www.social.test"], &["sally"], &[20]);
    fleet.serves("www.social.test", "sally", 1);
    let (verdict, line) = render::report_check(&fleet.report());
    assert_eq!((verdict.code(), line.contains("'www.social.test'=70.00;22.50:;15.00:")), (0, true), "{line}");
    fleet.quiet_for(50);
    let report = fleet.report();
    let (verdict, line) = render::report_check(&report);
    assert_eq!(verdict.code(), 1, "{line}");
    assert!(line.contains("no pass has got through everything since 2026-11-21 12:00 UTC"), "{line}");
    for text in [
        render::report_table(&report, 80, false),
        render::report_html(&report),
        render::report_markdown(&report),
        render::report_json(&report).unwrap(),
    ] {
        assert!(text.contains("pass.silent") || text.contains("pass\\.silent"), "{text}");
    }
}

#[test]
fn hostile_text_stays_text() {
    for text in HOSTILE {
        let report = hostile(text).report();
        let table = render::report_table(&report, 80, false);
        assert!(!table.contains('\u{1b}') && !table.contains('\u{202e}'), "{table:?}");
        let (_, line) = render::report_check(&report);
        assert_eq!((line.lines().count(), line.matches('|').count()), (1, 1), "{line}");
        assert!(line.starts_with("CERTFLEET CRITICAL: "), "{line}");
        let html = render::report_html(&report);
        for tag in ["<script", "<img", "<a ", "</style></title>"] {
            assert!(!html.contains(tag), "{tag} in:\n{html}");
        }
    }
}
