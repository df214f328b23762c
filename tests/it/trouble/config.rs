//! Mistakes in certs.toml and on the command line.

use std::fs;
use std::path::Path;

use super::STORED;
use crate::tool::{Ran, certfleet};
use crate::world::World;

/// Every mistake that people are known to make, each on a line of its own.
fn wrong(folder: &Path) -> String {
    let names: Vec<String> = (0..101).map(|number| format!("\"n{number}.social.test\"")).collect();
    format!(
        r#"[store]
path = "{folder}/store"

[issuer.pebble]
directory = "https://127.0.0.1:14000/dir"
contact = ["ops@social.test"]
acept-terms = true

[dns.main]
provider = "rfc2136"
server = "127.0.0.1:53"
key-name = "certfleet"
secret = "c2VjcmV0IGNhbmFyeSBzZWNyZXQgY2FuYXJ5IQ=="

[host.sally]

[group]
cdn = ["sally", "esmee"]

[[certificate]]
domains = ["www.social.test"]
hosts = ["sallly"]

[[certificate]]
domains = ["*.social.test", "media.social.test"]
hosts = ["sally"]

[[certificate]]
domains = ["*.*.social.test"]
dns = "mian"

[[certificate]]
name = "only-wildcards"
domains = ["*.acme.test"]
hosts = ["sally"]

[[certificate]]
name = "many"
domains = [{names}]
hosts = []
"#,
        folder = folder.display(),
        names = names.join(", "),
    )
}

/// Where a piece of a text begins: line and column, from 1.
fn place(text: &str, piece: &str) -> String {
    let at = text.find(piece).unwrap_or_else(|| panic!("{piece:?} is not in the file"));
    let line = text[..at].lines().count().max(1);
    let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let line = if begin == at { line + 1 } else { line };
    format!(":{line}:{}:", at - begin + 1)
}

#[test]
fn every_mistake_is_listed_with_its_place_and_nothing_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let text = wrong(folder.path());
    let config = folder.path().join("certs.toml");
    fs::write(&config, &text).unwrap();

    for command in [&["renew", "--force"][..], &["run", "--once"], &["plan"], &["report"], &["deploy"]] {
        let Ran { out, err, .. } = certfleet(&config, command).ended(2);

        assert_eq!(out, "", "{command:?} printed data");
        for (piece, says, remedy) in [
            ("acept-terms", "unknown key \"acept-terms\"", "did you mean \"accept-terms\"?"),
            ("\"c2VjcmV0", "`secret` is a secret", "{ file ="),
            ("\"esmee\"", "group \"cdn\" names host \"esmee\"", "sally"),
            ("\"sallly\"", "names host \"sallly\"", "did you mean \"sally\"?"),
            ("\"media.social.test\"", "\"*.social.test\" covers already", "remove \"media.social.test\""),
            ("\"*.*.social.test\"", "*.*.social.test", "hint"),
            ("\"mian\"", "names dns \"mian\"", "did you mean \"main\"?"),
            ("[\"*.acme.test\"]", "only-wildcards", "verify-names"),
            ("[\"n0.social.test\"", "101 domains", "make several certificates of it"),
        ] {
            let place = format!("certs.toml{}", place(&text, piece));
            let block = err.split("\n\n").find(|block| block.contains(says));
            let block = block.unwrap_or_else(|| panic!("{says:?} is not in:\n{err}"));
            assert!(block.contains(remedy), "{remedy:?} is not in:\n{block}");
            assert!(block.contains(&place) || piece == "[\"*.acme.test\"]", "not at {place}:\n{block}");
        }
        assert!(err.contains("nothing was done"), "{err}");
        assert!(!err.contains("c2VjcmV0IGNhbmFyeS"), "a secret is shown:\n{err}");
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(left, std::slice::from_ref(&config), "{command:?} wrote something");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("certs.toml");
    certfleet(&config, &["renew"]).ended(2).said(&config.display().to_string()).said("hint: ");
}

#[test]
fn a_name_that_is_not_in_certs_toml_makes_no_store() {
    let world = World::builder().start().unwrap();
    let config = world.config(STORED).unwrap();

    certfleet(&config, &["renew", "--force", "medai.social.test"])
        .ended(2)
        .said("`medai.social.test`")
        .said("did you mean `media.social.test`?");
    certfleet(&config, &["deploy", "--host", "sally"]).ended(2).said("`sally`");
    certfleet(&config, &["renew", "--override-limits"]).ended(2).said("--force");

    assert!(!world.store().exists(), "a store was made");
    assert_eq!(world.pebble.orders(), 0);
}
