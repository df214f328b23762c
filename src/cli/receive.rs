//! `certfleet local-receive`: root's end of the socket for this machine's own web server.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Exit, complain};
use crate::config;
use crate::deploy::relay;
use crate::model::problem::Problem;
use crate::render;

/// What others say about certs.toml is not for root to follow.
#[derive(Debug, thiserror::Error)]
enum NotRoots {
    #[error("cannot look at `{}`", .0.display())]
    Look(PathBuf, #[source] io::Error),
    #[error("`{}` can be changed by others than root, so what it allows counts for nothing", .0.display())]
    Changeable(PathBuf),
}

/// Answers one request. What it could not do goes to the journal, beside the answer.
pub(super) fn run(path: &Path) -> Exit {
    let config = check(path)
        .map_err(|error| render::error_chain(&error))
        .and_then(|()| config::load(path).map_err(|error| Problem::of(&error).one_line()));
    let desired = config.as_ref().map(|config| &config.desired).map_err(Clone::clone);
    match relay::serve(desired, io::stdin().lock()) {
        Ok(()) => Exit::Done,
        Err(refused) => {
            complain(&render::error_chain(&refused));
            Exit::Failed
        }
    }
}

/// Whether only root can change a file (or we, who are root but in tests), or put another in its place.
fn check(path: &Path) -> Result<(), NotRoots> {
    let path = path.canonicalize().map_err(|error| NotRoots::Look(path.to_owned(), error))?;
    let us = rustix::process::geteuid().as_raw();
    for part in path.ancestors() {
        let facts = part.metadata().map_err(|error| NotRoots::Look(part.to_owned(), error))?;
        let ours = facts.uid() == 0 || facts.uid() == us;
        // In a sticky folder nobody replaces what is not his.
        let closed = facts.mode() & 0o022 == 0 || facts.is_dir() && facts.mode() & 0o1000 != 0;
        if !(ours && closed) {
            return Err(NotRoots::Changeable(part.to_owned()));
        }
    }
    Ok(())
}
