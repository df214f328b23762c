//! The sources keep to the architecture: who may import whom, what the model may not touch.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The longest a file may be.
const LONGEST: usize = 500;

/// What the pure part has no business with: the world, the clock, chance.
const IMPURE: [&str; 11] = [
    "tokio",
    "std::fs",
    "std::env",
    "std::process",
    "std::net::Tcp",
    "std::net::Udp",
    "tracing",
    "rand::",
    "now()",
    "SystemTime",
    "Instant",
];

/// Who may import what of ours, beside itself; `*` is everything.
const EDGES: [(&str, &[&str]); 16] = [
    ("model", &[]),
    ("kind", &["secret", "model"]),
    ("secret", &["model"]),
    ("http", &["kind", "secret", "model"]),
    ("program", &["model"]),
    ("config", &["http", "kind", "secret", "model", "dns", "notify"]),
    ("acme", &["http", "kind", "secret", "model"]),
    ("dns", &["http", "kind", "program", "secret", "model"]),
    ("deploy", &["kind", "secret", "model", "probe"]),
    ("store", &["kind", "secret", "model"]),
    ("probe", &["kind", "secret", "model"]),
    ("notify", &["http", "kind", "program", "secret", "model"]),
    (
        "engine",
        &["acme", "config", "deploy", "dns", "http", "kind", "model", "notify", "probe", "secret", "store"],
    ),
    ("render", &["model", "engine"]),
    ("cli", &["*"]),
    ("main", &["*"]),
];

/// A source file without its tests and comments.
struct Source {
    /// From the top of the repository.
    path: String,
    /// The part it belongs to: the first name below `src`.
    part: String,
    lines: usize,
    /// With the text before each line's comment; lines of tests are empty.
    code: Vec<String>,
    text: String,
}

#[test]
fn parts_import_only_what_they_may() {
    complain(|source, complaints| {
        if source.part == "lib" {
            return;
        }
        let allowed = EDGES.iter().find(|(part, _)| *part == source.part);
        let Some((_, allowed)) = allowed else {
            return complaints.push((1, format!("the part `{}` has no line in EDGES", source.part)));
        };
        for (number, part) in source.imports() {
            if part != source.part && !allowed.contains(&"*") && !allowed.contains(&part.as_str()) {
                complaints.push((number, format!("{} may not import {part}", source.part)));
            }
        }
    });
}

#[test]
fn the_model_is_pure() {
    complain(|source, complaints| {
        for (at, line) in source.code.iter().enumerate().filter(|_| source.part == "model") {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                complaints.push((at + 1, format!("the model has no business with `{word}`")));
            }
        }
    });
}

#[test]
fn no_file_is_too_long_to_read() {
    complain(|source, complaints| {
        if source.lines > LONGEST {
            complaints.push((LONGEST, format!("{} lines, at most {LONGEST}", source.lines)));
        }
    });
}

#[test]
fn nothing_is_unwrapped_outside_of_tests() {
    complain(|source, complaints| {
        for (at, line) in source.code.iter().enumerate() {
            if line.contains("mod tests") {
                complaints.push((at + 1, "`mod tests` without `#[cfg(test)]` on the line above".to_owned()));
            }
            if line.contains(".unwrap()") {
                complaints.push((at + 1, "unwrap() outside of tests".to_owned()));
            }
        }
    });
}

#[test]
fn every_module_says_what_it_is() {
    complain(|source, complaints| {
        if !source.text.starts_with("//! ") {
            complaints.push((1, "no `//!` line says what this module is".to_owned()));
        }
    });
}

#[test]
fn imports_are_found_however_they_are_written() {
    let source = Source::new(
        "src/acme/order.rs",
        "use crate::{model::plan, config};\nuse crate::{\n    dns,\n    store::{self, files},\n};\n\
         fn f() { crate::engine::run(super::super::cli::X, super::account); } // crate::render\n\
         #[cfg(test)]\nmod tests { use crate::main; }\n",
    );
    let found: Vec<_> = source.imports();
    let expected = [(1, "model"), (1, "config"), (3, "dns"), (4, "store"), (6, "engine"), (6, "cli")];
    assert_eq!(found, expected.map(|(line, part)| (line, part.to_owned())));
}

#[test]
fn code_after_tests_is_code() {
    let source = Source::new(
        "src/acme.rs",
        "#[cfg(test)]\nmod tests {\n    fn a() { let _ = \"}\"; b.unwrap(); }\n}\n\nfn b() { c.unwrap(); }\n",
    );
    let unwraps: Vec<_> = source
        .code
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains("unwrap"))
        .map(|(at, _)| at + 1)
        .collect();
    assert_eq!(unwraps, [6]);
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let part = path.split('/').nth(1).unwrap_or_default().trim_end_matches(".rs").to_owned();
        let mut code = Vec::new();
        // A file of tests is one from its first line; `mod tests` is held to `#[cfg(test)]` below.
        let of_tests = path.contains("/tests/") || path.ends_with("/tests.rs");
        let mut tests = of_tests.then_some(true);
        for line in text.lines() {
            // rustfmt ends an item of the first level with a closing brace in the first column, or
            // on its only line.
            match tests {
                None if line == "#[cfg(test)]" => tests = Some(false),
                Some(false) if line.ends_with([';', '}']) => tests = None,
                Some(false) if !line.starts_with('#') => tests = Some(true),
                Some(true) if line == "}" && !of_tests => tests = None,
                Some(_) => {}
                None => {
                    code.push(without_comment(line).to_owned());
                    continue;
                }
            }
            code.push(String::new());
        }
        Self { path: path.to_owned(), part, lines: text.lines().count(), code, text: text.to_owned() }
    }

    /// The parts of ours that it names, with their lines.
    fn imports(&self) -> Vec<(usize, String)> {
        // How many names lie between this file and the top of the crate.
        let depth = self.path.split('/').count() - 1 - usize::from(self.path.ends_with("lib.rs"));
        let mut found = Vec::new();
        // How deep we are in the braces of `use crate::{…}`, across lines.
        let mut open = 0_usize;
        for (at, line) in self.code.iter().enumerate() {
            let mut rest = line.as_str();
            let top = "super::".repeat(depth);
            if open == 0 {
                for prefix in ["crate::", top.as_str()] {
                    for (start, _) in line.match_indices(prefix) {
                        let after = &line[start + prefix.len()..];
                        let boundary =
                            !line[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
                        if !boundary || after.starts_with('{') {
                            continue;
                        }
                        found.push((at + 1, name(after)));
                    }
                }
                let Some((_, after)) = line.split_once("crate::{") else { continue };
                (open, rest) = (1, after);
            }
            // Names of the first level of the braces.
            let mut fresh = true;
            for (place, c) in rest.char_indices() {
                match c {
                    '{' => open += 1,
                    '}' => open -= 1,
                    ',' => fresh = true,
                    c if fresh && open == 1 && c.is_alphanumeric() => {
                        found.push((at + 1, name(&rest[place..])));
                        fresh = false;
                    }
                    _ => {}
                }
                if open == 0 {
                    break;
                }
            }
        }
        found
    }
}

/// A line up to its comment; the slashes of a URL begin none.
fn without_comment(line: &str) -> &str {
    let start = line.match_indices("//").map(|(start, _)| start).find(|start| !line[..*start].ends_with(':'));
    &line[..start.unwrap_or(line.len())]
}

fn name(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Runs a rule over all sources and fails with all that it found.
fn complain(rule: impl Fn(&Source, &mut Vec<(usize, String)>)) {
    let mut text = String::new();
    for source in sources() {
        let mut complaints = Vec::new();
        rule(&source, &mut complaints);
        for (line, why) in complaints {
            let _ = writeln!(text, "{}:{line}: {why}", source.path);
        }
    }
    assert!(text.is_empty(), "\n{text}");
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![top.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the sources are there") {
            let path: PathBuf = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source can be read");
                let path =
                    path.strip_prefix(top).expect("it is below the top").to_string_lossy().into_owned();
                found.push(Source::new(&path, &text));
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 10, "the sources were not found");
    found
}
