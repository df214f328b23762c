//! Root at 3 a.m. on a store that is not root's.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, lchown};
use std::process::{Command, Stdio};

use crate::tool::finish;
use crate::world::process::run;

use super::*;

/// A user who is not root.
pub(super) const OTHER: u32 = 65534;

/// Makes all of this theirs.
pub(super) fn give_away(path: &Path) {
    lchown(path, Some(OTHER), Some(OTHER)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in fs::read_dir(path).unwrap() {
            give_away(&entry.unwrap().path());
        }
    }
}

fn all_theirs(path: &Path) {
    assert_eq!(fs::symlink_metadata(path).unwrap().uid(), OTHER, "{}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            all_theirs(&entry.unwrap().path());
        }
    }
}

/// The program where they can run it.
pub(super) fn copy_program(world: &World) -> PathBuf {
    let program = world.dir.path().join("certfleet");
    // Not by our own hands: while we had it open for writing, a child that another test starts could inherit
    // that, and nobody can run a file that is being written ("text file busy").
    run(Command::new("cp").arg(env!("CARGO_BIN_EXE_certfleet")).arg(&program)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn what_root_does_leaves_nothing_that_the_owner_of_the_store_cannot_use() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can become another user: not tried");
        return;
    }
    let world = world(&["edge"]);
    let host = world.host("edge");
    let config = world.config(CERTIFICATE).unwrap();
    certfleet(&config, &["renew", "--no-deploy"]).ended(0);
    give_away(&world.store());
    // A daemon's user reads its configuration and its secrets, and can run the program.
    for path in
        [&config, &world.ns.secret_file, &host.identity, &world.pebble.directory_ca, &world.pebble.roots]
    {
        chown(path, Some(OTHER), Some(OTHER)).unwrap();
        let above = path.ancestors().skip(1).take_while(|above| above.starts_with(world.dir.path()));
        above.for_each(|above| fs::set_permissions(above, fs::Permissions::from_mode(0o755)).unwrap());
    }
    let program = copy_program(&world);

    let child = Command::new(&program)
        .arg("--config")
        .arg(&config)
        .args(["renew", "--force", NAME])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    finish(child).ended(0).said("going on as that user");

    assert!(!host.served(NAME).unwrap().expired());
    assert_eq!(world.pebble.orders(), 2);
    all_theirs(&world.store());
}
