//! Whether the store is well, or could be made.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Finding, Standing};
use crate::config::Config;
use crate::model::problem::{Problem, plain};
use crate::store::Store;

/// The store that is used for what has to be noted.
pub(super) struct Used {
    store: Store,
    /// Where certs.toml has none yet: it goes when the preflight ends.
    temporary: Option<Folder>,
}

/// A folder that goes with this.
pub(super) struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // One that stays is found by whatever sweeps the folder of temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Used {
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn stays(&self) -> bool {
        self.temporary.is_none()
    }

    /// The records that stay although nothing will know of them.
    pub(super) fn left(&self) -> Vec<Finding> {
        if self.stays() {
            return Vec::new();
        }
        let (debts, _) = self.store.debts().unwrap_or_default();
        let left = debts.into_iter().map(|debt| {
            Finding::fail(
                "records",
                format!(
                    "the record `{}` at {} stays",
                    plain(&debt.value),
                    plain(debt.owner.trim_end_matches('.'))
                ),
                "remove it by hand: without a store nothing remembers it",
            )
        });
        left.collect()
    }
}

pub(super) fn state(config: &Config) -> (Option<Used>, Vec<Finding>) {
    let failed = |error| (None, vec![Finding::failed("state", error)]);
    match Store::open_existing(&config.store) {
        Ok(Some(_)) => {}
        Ok(None) => return none_yet(config),
        Err(error) => return failed(&error),
    }
    let store = match Store::open(&config.store) {
        Ok(store) => store,
        Err(error) => return failed(&error),
    };
    let mut findings = Vec::new();
    match store.load(Timestamp::now()) {
        Ok(loaded) => {
            let damaged: Vec<&Problem> = loaded
                .unreadable
                .values()
                .chain(loaded.unreadable_hosts.values())
                .chain(&loaded.unreadable_debts)
                .collect();
            findings.extend(
                damaged.into_iter().map(|problem| Finding::of(Standing::Fail, "state", problem.clone())),
            );
            findings.extend(
                loaded.warnings.iter().map(|problem| Finding::of(Standing::Warn, "state", problem.clone())),
            );
        }
        Err(error) => findings.push(Finding::failed("state", &error)),
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            "state",
            format!("{}: readable, writable, locks work", config.store.display()),
        ));
    }
    findings.push(space(config));
    (Some(Used { store, temporary: None }), findings)
}

/// That the first pass could make one, and a temporary one for now.
fn none_yet(config: &Config) -> (Option<Used>, Vec<Finding>) {
    if let Err(error) = Store::could_be_made(&config.store) {
        return (None, vec![Finding::failed("state", &error)]);
    }
    let what = format!("{}: there is no store yet; the first pass makes it", config.store.display());
    let findings = vec![Finding::ok("state", what), space(config)];
    match temporary() {
        Ok((folder, Ok(store))) => (Some(Used { store, temporary: Some(folder) }), findings),
        Ok((_, Err(error))) => {
            (None, findings.into_iter().chain([Finding::failed("temporary store", &error)]).collect())
        }
        Err(error) => {
            let what = format!("cannot make a folder in {}: {error}", std::env::temp_dir().display());
            let finding =
                Finding::fail("temporary store", what, "set TMPDIR to a folder that can be written");
            (None, findings.into_iter().chain([finding]).collect())
        }
    }
}

fn temporary() -> io::Result<(Folder, Result<Store, crate::store::OpenError>)> {
    let name = format!("certfleet-check-{}-{}", std::process::id(), Timestamp::now().as_nanosecond());
    let path = std::env::temp_dir().join(name);
    // Fails where somebody else has made one of that name.
    DirBuilder::new().mode(0o700).create(&path)?;
    let folder = Folder(path);
    let store = Store::open(&folder.0);
    Ok((folder, store))
}

fn space(config: &Config) -> Finding {
    let there = config.store.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    let place = config.store.display();
    let Ok(facts) = rustix::fs::statvfs(there) else {
        return Finding::warn(
            "space",
            format!("how much is free at {place} is not known"),
            format!("see `df {place}`"),
        );
    };
    let free = facts.f_bavail.saturating_mul(facts.f_frsize);
    let megabytes = free >> 20;
    // Some file systems have no fixed number of files.
    let few_files = facts.f_files > 0 && facts.f_favail < FILES;
    match free {
        _ if few_files => Finding::warn(
            "space",
            format!("only {} more files fit at {place}", facts.f_favail),
            format!("free inodes: `df -i {place}`"),
        ),
        0..ENOUGH => Finding::warn(
            "space",
            format!("{megabytes} MiB free at {place}"),
            format!("free space: `df {place}`"),
        ),
        _ => Finding::ok("space", format!("{megabytes} MiB free at {place}")),
    }
}

/// For versions, journals and history of a year.
const ENOUGH: u64 = 100 << 20;
const FILES: u64 = 1000;
