//! Files that are broken, huge, not files at all, or noise: a message for each, never a panic.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use certfleet::config::{LoadError, load};
use certfleet::model::problem::Diagnose;
use proptest::prelude::*;

use super::wrong::{mistakes, spoilt, wrong};
use super::{GOOD, read};

#[test]
fn broken_toml_has_its_line() {
    for (text, line) in [
        ("a = 1\nb = \n", 2),
        ("a = 1\n[x\n", 2),
        ("x = 'abc\n", 1),
        ("\n\nx = [1,\n", 3),
        ("a = \"\\q\"", 1),
        ("a\u{0}b = 1", 1),
        ("= 1", 1),
        ("a = \u{1b}[2J", 1),
        ("[issuer", 1),
    ] {
        let list = mistakes(text);
        assert_eq!(list[0].line, line, "{}", list[0]);
    }
    wrong(&spoilt("[host.web2]", "[host.web1]"), "merge the two tables");
    wrong(
        &spoilt("accept-terms = true", "accept-terms = true\naccept-terms = true"),
        "remove one of the two",
    );
    for text in [
        format!("a = {}", "[".repeat(500_000)),
        format!("a = {}1{}", "[".repeat(400_000), "]".repeat(400_000)),
        format!("a = {}1", "{b=".repeat(200_000)),
        format!("{}a = 1", "a.".repeat(400_000)),
        format!("a = \"{}\"", "x".repeat(1_000_000)),
        format!("{} = 1", "x".repeat(1_000_000)),
        (0..50_000).fold(String::new(), |mut text, number| {
            write!(text, "k{number} = 1, ").unwrap();
            text
        }),
        (0..50_000).fold(String::new(), |mut text, number| {
            writeln!(text, "k{number} = 1").unwrap();
            text
        }),
        (0..20_000).fold(String::new(), |mut text, number| {
            writeln!(text, "[[certificate]]\ndomains = ['a{number}.example.org']").unwrap();
            text
        }),
    ] {
        mistakes(&text);
    }
}

#[test]
fn an_empty_file_gets_a_sample_that_is_taken() {
    for empty in ["", "\n\n", "# nothing\n", "\u{feff}"] {
        wrong(empty, "the file asks for nothing");
    }
    let sample = mistakes("")[0].remedy.text();
    let sample = sample.strip_prefix("add\n").unwrap();
    assert!(read(sample).is_ok(), "{sample}");
}

#[test]
fn a_file_that_is_none_is_refused_with_a_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("certs.toml");
    let code = |path: &Path| {
        let error = load(path).unwrap_err();
        assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
        error.code()
    };
    assert_eq!(code(&path), "config.unreadable");
    assert_eq!(code(folder.path()), "config.not-a-file");
    assert_eq!(code(Path::new("/dev/zero")), "config.not-a-file");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert_eq!(code(&pipe), "config.not-a-file");

    std::fs::write(&path, GOOD).unwrap();
    assert_eq!(load(&path).unwrap().path, path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let error = load(&path).unwrap_err();
    assert_eq!(error.hint(), Some(format!("run `chmod o-w {}`", path.display())));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();

    std::fs::write(&path, vec![b'#'; 10_000_000]).unwrap();
    assert_eq!(code(&path), "config.too-large");
    std::fs::write(&path, b"a = 1\n# caf\xe9\n").unwrap();
    assert!(load(&path).unwrap_err().to_string().contains("certs.toml:2:6: this is not UTF-8 (byte 0xe9)"));
    std::fs::write(&path, b"\xff\xfea\0").unwrap();
    assert!(load(&path).unwrap_err().hint().unwrap().contains("UTF-16"));
    std::fs::write(&path, &GOOD[..GOOD.len() / 2]).unwrap();
    assert_eq!(code(&path), "config.mistakes");
    std::fs::write(&path, spoilt("accept-terms", "acept-terms")).unwrap();
    let error = load(&path).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "has 1 mistake, the first at line 3: unknown key \"acept-terms\", did you mean \"accept-terms\"?"
        ),
        "{error}"
    );
    assert!(matches!(error, LoadError::Mistakes(_)));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC*") {
        let _ = read(&text).map_err(|mistakes| mistakes.to_string());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..GOOD.len()) {
        let mut file = GOOD.as_bytes().to_vec();
        file.splice(at..at, bytes);
        let text = String::from_utf8_lossy(&file);
        let _ = read(&text).map_err(|mistakes| mistakes.to_string());
    }

    #[test]
    fn no_value_makes_it_panic(line in 0..GOOD.lines().count(), value in "[-\\[\\]{}=.\"'#\\\\\n a-z0-9_*%é\u{1b}]{0,30}") {
        let text: Vec<_> = GOOD.lines().enumerate().map(|(number, text)| match text.split_once('=') {
            Some((key, _)) if number == line => format!("{key}={value}"),
            _ => text.to_owned(),
        }).collect();
        let _ = read(&text.join("\n")).map_err(|mistakes| mistakes.to_string());
    }

    #[test]
    fn no_piece_of_it_makes_it_panic(from in 0..GOOD.len(), to in 0..GOOD.len()) {
        let text = format!("{}{}", &GOOD[..from.min(to)], &GOOD[from.max(to)..]);
        let _ = read(&text).map_err(|mistakes| mistakes.to_string());
    }
}
