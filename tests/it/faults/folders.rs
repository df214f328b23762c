//! Folders that are links, that others can change, or that are not ours.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::PathBuf;

use super::{Case, Ends, Mend, NAME, Place, Sound, tried};

const CASES: &[Case] = &[
    Case {
        host: "live-is-a-link",
        what: "the directory is a link to another directory of ours",
        fault: |place| moved(place.host.live.clone(), place.path("moved")),
        ends: Ends::Served,
        says: &[],
        sound: Sound::All,
    },
    Case {
        host: "base-is-a-link",
        what: "`.certfleet` is a link to elsewhere",
        fault: |place| moved(place.live(".certfleet"), place.elsewhere().join("theirs.d")),
        ends: Ends::Old("deploy.directory"),
        says: &[".certfleet is a symbolic link"],
        sound: Sound::All,
    },
    Case {
        host: "ours-is-a-link",
        what: "the certificate's folder in `.certfleet` is a link to elsewhere",
        fault: |place| moved(place.live(".certfleet").join(NAME), place.elsewhere().join("theirs.d")),
        ends: Ends::Old("deploy.refused"),
        says: &["is a symbolic link"],
        sound: Sound::All,
    },
    Case {
        host: "name-is-a-link",
        what: "the certificate's folder is a link to another one",
        fault: |place| moved(place.live(NAME), place.live("moved.test")),
        ends: Ends::Old("deploy.refused"),
        says: &["is a symbolic link"],
        sound: Sound::All,
    },
    Case {
        host: "lock-is-a-link",
        what: "the lock is a link to a file that is not there, elsewhere",
        fault: |place| planted(place, ".lock", "nothing"),
        ends: Ends::Old("deploy.directory"),
        says: &[".lock is a symbolic link", "rm "],
        sound: Sound::All,
    },
    Case {
        host: "holder-is-a-link",
        what: "the note of who holds the lock is a link to somebody's file",
        fault: |place| planted(place, ".holder", "theirs"),
        ends: Ends::Old("deploy.directory"),
        says: &[".holder is a symbolic link", "rm "],
        sound: Sound::All,
    },
    Case {
        host: "answer-is-a-link",
        what: "where the answer is left there is a link to somebody's file",
        fault: |place| planted(place, ".last-answer.new", "theirs"),
        ends: Ends::Old("deploy.directory"),
        says: &[".last-answer.new is a symbolic link", "rm "],
        sound: Sound::All,
    },
    Case {
        host: "work-is-a-link",
        what: "the work folder is a link to somebody's folder",
        fault: |place| planted(place, ".work", ""),
        ends: Ends::Served,
        says: &[],
        sound: Sound::All,
    },
    Case {
        host: "switch-is-a-link",
        what: "the note of a switch is a link to somebody's file",
        fault: |place| planted(place, ".switch", "theirs"),
        ends: Ends::Served,
        says: &[],
        sound: Sound::All,
    },
    Case {
        host: "current-leads-away",
        what: "`current` leads to a copy elsewhere",
        fault: |place| {
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
        },
        ends: Ends::Served,
        says: &[],
        sound: Sound::All,
    },
    Case {
        host: "base-is-open",
        what: "a group may write to `.certfleet`",
        fault: |place| place.mode(place.live(".certfleet"), 0o770),
        ends: Ends::Old("deploy.directory"),
        says: &["chmod go-w"],
        sound: Sound::All,
    },
    Case {
        host: "live-is-open",
        what: "everybody may write to the directory",
        fault: |place| place.mode(place.host.live.clone(), 0o777),
        ends: Ends::Old("deploy.directory"),
        says: &["chmod go-w"],
        sound: Sound::All,
    },
    Case {
        host: "above-is-open",
        what: "everybody may write to the directory above it",
        fault: |place| place.mode(place.host.root.clone(), 0o777),
        ends: Ends::Old("deploy.directory"),
        says: &["can be changed by everybody", "chmod o-w"],
        sound: Sound::All,
    },
    Case {
        host: "ours-is-open",
        what: "a group may write to the certificate's folder in `.certfleet`",
        fault: |place| place.mode(place.live(".certfleet").join(NAME), 0o770),
        ends: Ends::Old("deploy.refused"),
        says: &["chmod go-w"],
        sound: Sound::All,
    },
    Case {
        host: "name-is-open",
        what: "everybody may write to the certificate's folder",
        fault: |place| place.mode(place.live(NAME), 0o777),
        ends: Ends::Old("deploy.refused"),
        says: &["chmod go-w"],
        sound: Sound::All,
    },
    Case {
        host: "key-is-open",
        what: "somebody made the key readable for all",
        fault: |place| {
            drop(place.mode(place.live(NAME).join("privkey.pem"), 0o644));
            Box::new(|| ())
        },
        ends: Ends::Served,
        says: &[],
        sound: Sound::All,
    },
    Case {
        host: "folder-for-file",
        what: "a folder has the place of a file of the certificate",
        fault: |place| {
            let key = place.live(NAME).join("chain.pem");
            let target = fs::read_link(&key).unwrap();
            fs::remove_file(&key).unwrap();
            fs::create_dir(&key).unwrap();
            Box::new(move || {
                fs::remove_dir(&key).unwrap();
                symlink(target, key).unwrap();
            })
        },
        ends: Ends::Old("deploy.refused"),
        says: &["chain.pem is not a file"],
        sound: Sound::Nothing,
    },
    Case {
        host: "not-writable",
        what: "our user may not write to `.certfleet`",
        fault: |place| {
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
        ends: Ends::Old("deploy.staging"),
        says: &["Permission denied"],
        sound: Sound::All,
    },
];

/// Only root can give files away.
const OWNED: &[Case] = &[
    Case {
        host: "live-is-anothers",
        what: "the directory belongs to another user",
        fault: |place| anothers(place.host.live.clone()),
        ends: Ends::Old("deploy.directory"),
        says: &["belongs to user 65534", "chown"],
        sound: Sound::All,
    },
    Case {
        host: "above-is-anothers",
        what: "the directory above it belongs to another user",
        fault: |place| anothers(place.host.root.clone()),
        ends: Ends::Old("deploy.directory"),
        says: &["belongs to user 65534", "chown"],
        sound: Sound::All,
    },
    Case {
        host: "ours-is-anothers",
        what: "the certificate's folder in `.certfleet` belongs to another user",
        fault: |place| anothers(place.live(".certfleet").join(NAME)),
        ends: Ends::Old("deploy.refused"),
        says: &["belongs to user 65534", "chown"],
        sound: Sound::All,
    },
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
