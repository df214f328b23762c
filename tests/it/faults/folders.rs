//! Folders that are links, that others can change, or that are not ours.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;

use super::{Case, Ends, Mend, NAME, Place, Sound, tried};

const CASES: &[Case] = &[
    Case::served("live-is-a-link", "the directory is a link to another directory of ours", |place| {
        moved(place.host.live.clone(), place.path("moved"))
    }),
    Case::new(
        "base-is-a-link",
        "`.certfleet` is a link to elsewhere",
        |place| moved(place.live(".certfleet"), place.elsewhere().join("theirs.d")),
        Ends::Old("deploy.directory"),
        &[".certfleet is a symbolic link"],
    ),
    Case::new(
        "ours-is-a-link",
        "the certificate's folder in `.certfleet` is a link to elsewhere",
        |place| moved(place.live(".certfleet").join(NAME), place.elsewhere().join("theirs.d")),
        Ends::Old("deploy.refused"),
        &["is a symbolic link"],
    ),
    Case::new(
        "name-is-a-link",
        "the certificate's folder is a link to another one",
        |place| moved(place.live(NAME), place.live("moved.test")),
        Ends::Old("deploy.refused"),
        &["is a symbolic link"],
    ),
    Case::new(
        "lock-is-a-link",
        "the lock is a link to a file that is not there, elsewhere",
        |place| planted(place, ".lock", "nothing"),
        Ends::Old("deploy.directory"),
        &[".lock is a symbolic link", "rm "],
    ),
    Case::new(
        "holder-is-a-link",
        "the note of who holds the lock is a link to somebody's file",
        |place| planted(place, ".holder", "theirs"),
        Ends::Old("deploy.directory"),
        &[".holder is a symbolic link", "rm "],
    ),
    Case::new(
        "answer-is-a-link",
        "where the answer is left there is a link to somebody's file",
        |place| planted(place, ".last-answer.new", "theirs"),
        Ends::Old("deploy.directory"),
        &[".last-answer.new is a symbolic link", "rm "],
    ),
    Case::served("work-is-a-link", "the work folder is a link to somebody's folder", |place| {
        planted(place, ".work", "")
    }),
    Case::served("switch-is-a-link", "the note of a switch is a link to somebody's file", |place| {
        planted(place, ".switch", "theirs")
    }),
    Case::served("current-leads-away", "`current` leads to a copy elsewhere", |place| {
        let current = place.live(".certfleet").join(NAME).join("current");
        let version = fs::canonicalize(&current).unwrap();
        let copy = place.elsewhere().join("copy");
        fs::create_dir(&copy).unwrap();
        for entry in fs::read_dir(version).unwrap() {
            let file = entry.unwrap();
            fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
        fs::remove_file(&current).unwrap();
        symlink(&copy, &current).unwrap();
        Box::new(|| ())
    }),
    Case::new(
        "base-is-open",
        "a group may write to `.certfleet`",
        |place| place.mode(place.live(".certfleet"), 0o770),
        Ends::Old("deploy.directory"),
        &["chmod go-w"],
    ),
    Case::new(
        "live-is-open",
        "everybody may write to the directory",
        |place| place.mode(place.host.live.clone(), 0o777),
        Ends::Old("deploy.directory"),
        &["chmod go-w"],
    ),
    Case::new(
        "above-is-open",
        "everybody may write to the directory above it",
        |place| place.mode(place.host.root.clone(), 0o777),
        Ends::Old("deploy.directory"),
        &["can be changed by everybody", "chmod o-w"],
    ),
    Case::new(
        "ours-is-open",
        "a group may write to the certificate's folder in `.certfleet`",
        |place| place.mode(place.live(".certfleet").join(NAME), 0o770),
        Ends::Old("deploy.refused"),
        &["chmod go-w"],
    ),
    Case::new(
        "name-is-open",
        "everybody may write to the certificate's folder",
        |place| place.mode(place.live(NAME), 0o777),
        Ends::Old("deploy.refused"),
        &["chmod go-w"],
    ),
    Case::served("key-is-open", "somebody made the key readable for all", |place| {
        drop(place.mode(place.live(NAME).join("privkey.pem"), 0o644));
        Box::new(|| ())
    }),
    Case::new(
        "folder-for-file",
        "a folder has the place of a file of the certificate",
        |place| {
            let key = place.live(NAME).join("chain.pem");
            let target = fs::read_link(&key).unwrap();
            fs::remove_file(&key).unwrap();
            fs::create_dir(&key).unwrap();
            Box::new(move || {
                fs::remove_dir(&key).unwrap();
                symlink(target, key).unwrap();
            })
        },
        Ends::Old("deploy.refused"),
        &["chain.pem is not a file"],
    )
    .leaves(Sound::Nothing),
    Case::new(
        "not-writable",
        "our user may not write to `.certfleet`",
        |place| {
            let mode = place.mode(place.live(".certfleet"), 0o500);
            if !rustix::process::geteuid().is_root() {
                return mode;
            }
            // Root that has given up the right not to be asked.
            let rights = "-dac_override,-dac_read_search";
            let less = place.sessions(&format!(
                "exec setpriv --inh-caps={rights} --bounding-set={rights} sh -c \"$SSH_ORIGINAL_COMMAND\""
            ));
            super::place::both(mode, less)
        },
        Ends::Old("deploy.staging"),
        &["Permission denied"],
    ),
];

/// Only root can give files away.
const OWNED: &[Case] = &[
    Case::new(
        "live-is-anothers",
        "the directory belongs to another user",
        |place| anothers(place.host.live.clone()),
        Ends::Old("deploy.directory"),
        &["belongs to user 65534", "chown"],
    ),
    Case::new(
        "above-is-anothers",
        "the directory above it belongs to another user",
        |place| anothers(place.host.root.clone()),
        Ends::Old("deploy.directory"),
        &["belongs to user 65534", "chown"],
    ),
    Case::new(
        "ours-is-anothers",
        "the certificate's folder in `.certfleet` belongs to another user",
        |place| anothers(place.live(".certfleet").join(NAME)),
        Ends::Old("deploy.refused"),
        &["belongs to user 65534", "chown"],
    ),
];

#[test]
fn folders() {
    tried(CASES);
}

#[test]
fn folders_of_others() {
    if !rustix::process::geteuid().is_root() {
        println!("only root can give files away: not tried");
        return;
    }
    tried(OWNED);
}

/// Moves a folder to another place, and has a link lead there.
fn moved<'a>(from: PathBuf, to: PathBuf) -> Mend<'a> {
    fs::rename(&from, &to).unwrap();
    symlink(&to, &from).unwrap();
    Box::new(move || {
        fs::remove_file(&from).unwrap();
        fs::rename(&to, &from).unwrap();
    })
}

/// A link from a file of ours to somebody's.
fn planted<'a>(place: &'a Place<'a>, name: &str, to: &str) -> Mend<'a> {
    let from = place.live(".certfleet").join(name);
    let _ = fs::remove_file(&from);
    symlink(place.elsewhere().join(to), &from).unwrap();
    Box::new(move || {
        if from.is_symlink() {
            fs::remove_file(from).unwrap();
        }
    })
}

fn anothers<'a>(path: PathBuf) -> Mend<'a> {
    chown(&path, Some(65534), None).unwrap();
    Box::new(move || chown(&path, Some(0), None).unwrap())
}
