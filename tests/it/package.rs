//! The Debian package, and what the program prints for packages: manual pages and completions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::tool::certfleet;
use crate::world::process::run;
use crate::world::tools;

/// The package of the program as it was built for the tests.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let cargo_deb = tools::cargo_deb().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("debian/build-deb");
        let said = run(Command::new(script)
            .args(["--profile", "dev", "--no-build", "--fast"])
            .env("PATH", format!("{}:{path}", cargo_deb.display())))
        .unwrap();
        PathBuf::from(said.trim())
    })
}

fn printed(args: &[&str]) -> String {
    certfleet(Path::new("none"), args).ended(0).out
}

fn file_with(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_package_has_all_that_an_installation_needs() {
    let listing = run(Command::new("dpkg-deb").arg("--contents").arg(built())).unwrap();
    let has = |mode: &str, path: &str| {
        listing.lines().any(|line| line.starts_with(mode) && line.ends_with(&format!(" ./{path}")))
    };
    assert!(has("-rwxr-xr-x", "usr/bin/certfleet"), "{listing}");
    assert!(has("-rw-r-----", "etc/certfleet/certs.toml"), "{listing}");
    let mut files = vec![
        "usr/lib/sysusers.d/certfleet.conf".to_owned(),
        "usr/lib/tmpfiles.d/certfleet.conf".to_owned(),
        "usr/share/bash-completion/completions/certfleet".to_owned(),
        "usr/share/zsh/vendor-completions/_certfleet".to_owned(),
        "usr/share/fish/vendor_completions.d/certfleet.fish".to_owned(),
        "usr/share/man/man1/certfleet-host-pin.1.gz".to_owned(),
        "usr/share/man/man5/certs.toml.5.gz".to_owned(),
    ];
    for unit in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")).unwrap() {
        let name = unit.unwrap().file_name().into_string().unwrap();
        if name != "certfleet.sysusers" && name != "certfleet.tmpfiles" {
            files.push(format!("usr/lib/systemd/system/{name}"));
        }
    }
    for file in files {
        assert!(has("-rw-r--r--", &file), "{file} is not in\n{listing}");
    }
    let conffiles = run(Command::new("dpkg-deb").arg("--info").arg(built()).arg("conffiles")).unwrap();
    assert_eq!(conffiles, "/etc/certfleet/certs.toml\n");
}

#[test]
fn the_first_configuration_is_right_once_it_is_uncommented() {
    let folder = tempfile::tempdir().unwrap();
    let start = include_str!("../../debian/certs.toml");
    let config = file_with(folder.path(), "certs.toml", start);
    // Nothing happens before somebody has written something.
    certfleet(&config, &["plan"]).ended(2);
    let tables = start.lines().map(|line| {
        let key = line.strip_prefix('#').filter(|rest| !rest.starts_with(' '));
        key.unwrap_or(line)
    });
    let text: Vec<&str> = tables.collect();
    fs::write(&config, format!("[store]\npath = {:?}\n{}", folder.path().join("store"), text.join("\n")))
        .unwrap();
    certfleet(&config, &["report"]).ended(3).printed("example.org");
}

#[test]
fn bash_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path(), "certfleet", &printed(&["completions", "bash"]));
    let complete = |words: &[&str]| {
        let script = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _certfleet certfleet {:?} {:?}; echo \"${{COMPREPLY[@]}}\"",
            file.display(),
            words.join(" "),
            words.len() - 1,
            words[words.len() - 1],
            words[words.len() - 2],
        );
        run(Command::new("bash").args(["--norc", "-c", &script])).unwrap()
    };
    assert_eq!(complete(&["certfleet", "rep"]).trim(), "report");
    assert_eq!(complete(&["certfleet", "host", "p"]).trim(), "pin");
    assert!(complete(&["certfleet", "renew", "--"]).contains("--allow-downgrade"));
    // What is not for people is not offered to them.
    assert_eq!(complete(&["certfleet", "local"]).trim(), "");
}

#[test]
fn fish_completes_commands_and_options() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path(), "certfleet.fish", &printed(&["completions", "fish"]));
    let fish = tools::fish().unwrap();
    let complete = |line: &str| {
        let script = format!("source {}; complete -C '{line}'", file.display());
        run(fish.command().args(["--no-config", "-c", &script]).env("HOME", folder.path())).unwrap()
    };
    assert!(complete("certfleet rep").starts_with("report\t"));
    assert!(complete("certfleet renew --allow").starts_with("--allow-downgrade\t"));
}

#[test]
fn zsh_takes_its_completions() {
    let folder = tempfile::tempdir().unwrap();
    let file = file_with(folder.path(), "_certfleet", &printed(&["completions", "zsh"]));
    run(tools::zsh().unwrap().command().arg("-n").arg(file)).unwrap();
}

#[test]
fn every_manual_page_is_well_formed() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    printed(&["man", "--output", pages.to_str().unwrap()]);
    let mandoc = tools::mandoc().unwrap();
    let mut count = 0;
    for page in fs::read_dir(&pages).unwrap() {
        let page = page.unwrap().path();
        run(mandoc.command().args(["-T", "lint", "-W", "error"]).arg(&page)).unwrap();
        let shown = run(mandoc.command().args(["-T", "ascii"]).arg(&page)).unwrap();
        assert!(shown.contains(concat!("certfleet ", env!("CARGO_PKG_VERSION"))), "{shown}");
        count += 1;
    }
    assert!(count > 20);
    let reference = run(mandoc.command().args(["-T", "ascii"]).arg(pages.join("certs.toml.5"))).unwrap();
    assert!(reference.contains("#propagation-timeout = \"2m\"\n"), "{reference}");
    // One page alone is for `man -l -`.
    assert!(printed(&["man"]).starts_with(".ie"));
}
