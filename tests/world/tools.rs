//! The tools that packages are made and looked at with, found or fetched as the [`parts`](super::parts) are.

use std::path::PathBuf;
use std::process::Command;

use super::parts::{Program, build_folder, find, find_or_fetch, once};
use super::process::run;

/// A reader of manual pages that says what is wrong with them.
pub(crate) fn mandoc() -> Result<Program, String> {
    find_or_fetch("mandoc", "mandoc", "usr/bin/mandoc")
}

/// A shell.
pub(crate) fn fish() -> Result<Program, String> {
    find_or_fetch("fish", "fish", "usr/bin/fish")
}

/// Another shell.
pub(crate) fn zsh() -> Result<Program, String> {
    find_or_fetch("zsh", "zsh", "usr/bin/zsh")
}

/// A shell that is no POSIX shell.
pub(crate) fn tcsh() -> Result<Program, String> {
    find_or_fetch("tcsh", "tcsh", "usr/bin/tcsh")
}

/// The folder of cargo-deb, which makes Debian packages; built here, where the machine has none.
pub(crate) fn cargo_deb() -> Result<PathBuf, String> {
    if let Some(folder) = find("cargo-deb").and_then(|program| Some(program.parent()?.to_owned())) {
        return Ok(folder);
    }
    let folder = build_folder()?.join("world");
    let wanted = folder.join("cargo-deb");
    once(&folder, &wanted, |work| {
        // Without its own compressor it is built in half a minute, and its package is of no other use.
        let options = ["--version", "^3.8", "--locked", "--debug", "--no-default-features", "--no-track"];
        run(Command::new(env!("CARGO"))
            .args(["install", "--quiet", "cargo-deb"])
            .args(options)
            .arg("--root")
            .arg(work.join("root"))
            .arg("--target-dir")
            .arg(work.join("build")))
        .map_err(|e| format!("no cargo-deb here: cargo install cargo-deb\n(building it failed: {e})"))?;
        Ok(work.join("root"))
    })?;
    Ok(wanted.join("bin"))
}
