//! README says what is so: every problem code is explained, every command shown exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The first words of codes; the rest is a word or several with hyphens.
const FAMILIES: [&str; 22] = [
    "acme",
    "alerts",
    "certificate",
    "channel",
    "check",
    "clock",
    "config",
    "credential",
    "deploy",
    "dns",
    "heartbeat",
    "host",
    "machine",
    "notify",
    "pass",
    "probe",
    "renewal",
    "report",
    "secret",
    "served",
    "ssh",
    "store",
];

#[test]
fn every_problem_code_is_explained_in_readme() {
    let mut codes = BTreeSet::new();
    collect(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut codes);
    assert!(codes.len() > 50, "the search for codes finds too few: {codes:?}");
    let readme = include_str!("../../README.md");
    let missing: Vec<&String> = codes.iter().filter(|code| !readme.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "README does not explain {missing:?}");
}

#[test]
fn every_option_that_readme_shows_exists() {
    let readme = include_str!("../../README.md");
    let commands = readme.split('`').filter_map(|code| code.strip_prefix("certfleet "));
    for command in commands {
        let words: Vec<&str> =
            command.split_whitespace().map(|word| word.trim_matches(['[', ']', '…'])).collect();
        let Some(name) = words.first().filter(|name| name.chars().all(|c| c.is_ascii_lowercase())) else {
            continue;
        };
        let help = crate::tool::certfleet(Path::new("none"), &[name, "--help"]).ended(0).out;
        for option in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(option), "`certfleet {command}`: {name} has no {option}");
        }
    }
}

/// String literals in product code that have the form of a code.
fn collect(folder: &Path, codes: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, codes);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            codes.extend(product.split('"').filter(|text| is_code(text)).map(str::to_owned));
        }
    }
}

fn is_code(text: &str) -> bool {
    text.split_once('.').is_some_and(|(family, rest)| {
        FAMILIES.contains(&family)
            && !rest.is_empty()
            // Names of files.
            && !["css", "json", "lock"].contains(&rest)
            && rest.chars().all(|c| c.is_ascii_lowercase() || c == '-')
    })
}
