//! Trouble, shown by the built binary on a whole world: what it says, how it ends, and what did not happen.

mod ca;
mod changes;
mod config;
mod deploy;
mod dns;
mod host;
mod propagation;
mod store;
mod taking;
mod together;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::world::World;
use crate::world::host::Host;
use crate::world::look::Served;
use crate::world::pebble::Pebble;

/// The name that most of these worlds have a certificate for.
const NAME: &str = "media.social.test";
/// A certificate for it that is on no host.
const STORED: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = []\n";
/// A certificate for it on every host.
const DEPLOYED: &str = "[[certificate]]\ndomains = [\"media.social.test\"]\nhosts = [\"cdn\"]\n";

/// Changes a file of the test, as a person would in an editor; its mode stays.
fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}:\n{text}", file.display());
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

/// What is below a folder: the bytes of files, the targets of links.
fn below(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                found.insert(path, target.into_os_string().into_encoded_bytes());
            } else if kind.is_dir() {
                open.push(path);
            } else if kind.is_file() {
                let bytes = fs::read(&path).unwrap();
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// The records that the journal still has to remove.
fn noted_records(world: &World) -> usize {
    below(&world.store().join("txt")).len()
}

/// How many requests the CA has had for a path, such as `/order-plz`.
fn requests(pebble: &Pebble, path: &str) -> usize {
    pebble.service.log().lines().filter(|line| line.contains(&format!("POST {path}"))).count()
}

/// Waits for what others do in their own time.
fn eventually(what: &str, done: impl Fn() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed().as_secs() < 60, "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Waits until all of a host's workers serve what is wanted: for a moment after a reload old ones answer, too.
pub(crate) fn settles(host: &Host, what: &str, wanted: impl Fn(&Served) -> bool) {
    eventually(what, || (0..8).all(|_| host.served(NAME).is_ok_and(|served| wanted(&served))));
}
