//! Sessions as odd administrators and odd systems make them.

use super::place::both;
use super::{Case, Ends, Mend, Place, tried};
use crate::world::parts;

const CASES: &[Case] = &[
    Case::served("umask-0", "umask 000", |place| {
        place.sessions("umask 000; exec sh -c \"$SSH_ORIGINAL_COMMAND\"")
    }),
    Case::served("umask-7", "umask 777", |place| {
        place.sessions("umask 777; exec sh -c \"$SSH_ORIGINAL_COMMAND\"")
    }),
    Case::served("homeless", "no HOME, and the current directory is gone", |place| {
        let gone = place.path("gone");
        place.sessions(&format!(
                "mkdir {0} && cd {0} && rmdir {0}; unset HOME USER LOGNAME SHELL; exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
                gone.display()
            ))
    }),
    Case::served(
        "environment",
        "an environment that changes what tools print: CDPATH, TIME_STYLE, QUOTING_STYLE, LC_ALL, TMPDIR",
        |place| {
            place.sessions(
                "export CDPATH=/etc:/ TIME_STYLE=full-iso QUOTING_STYLE=c BLOCK_SIZE=human-readable POSIXLY_CORRECT=1 \
                 LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 TMPDIR=/nonexistent TMOUT=1 IFS=/ GREP_OPTIONS=-v \
                 LS_OPTIONS=--color=always ENV=/nonexistent MAIL=/nonexistent; exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
            )
        },
    ),
    Case::new(
        "no-flock",
        "flock is missing",
        |place| {
            // All that the host has, but for that.
            let bin = place.path("few");
            std::fs::create_dir(&bin).unwrap();
            for tool in "sh awk chmod chown cp date dd env id ln ls mkdir mv readlink rm sha256sum sleep sort sync tail \
                         timeout tr kill cat"
                .split_whitespace()
            {
                std::os::unix::fs::symlink(parts::find(tool).unwrap(), bin.join(tool)).unwrap();
            }
            // The script adds the folders where root's programs are; flock is not in them.
            place.sessions(&format!(
                "PATH={}; for place in /usr/local/sbin /usr/sbin /sbin; do [ ! -e $place/flock ] || exit 9; done
                 exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
                bin.display()
            ))
        },
        Ends::Old("deploy.tools"),
        &["flock is missing", "install the package util-linux"],
    ),
    Case::served("late", "the host's clock is a year behind", |place| clock(place, "-365d")),
    Case::served("early", "the host's clock is a year ahead", |place| clock(place, "+365d")),
    Case::new(
        "sudo-refuses",
        "sudo: not in sudoers (a stand-in for sudo)",
        |place| sudo(place, "echo 'Sorry, user deploy may not run sudo on edge.' >&2; exit 1"),
        Ends::Old("deploy.sudo"),
        &["cannot become root", "may not run sudo", "NOPASSWD: /bin/sh"],
    ),
    Case::new(
        "sudo-asks",
        "sudo: a password is required (a stand-in)",
        |place| sudo(place, "[ \"$1\" = -n ] && echo 'sudo: a password is required' >&2; exit 1"),
        Ends::Old("deploy.sudo"),
        &["a password is required", "NOPASSWD: /bin/sh"],
    ),
    Case::new(
        "sudo-reads",
        "a sudo that asks in spite of `-n`, and takes the script for the password (a stand-in)",
        |place| {
            sudo(
                place,
                "for n in 1 2 3; do printf '[sudo] password for deploy: ' >&2; read -r answer; echo 'Sorry, try again.' >&2
                 done; echo 'sudo: 3 incorrect password attempts' >&2; exit 1",
            )
        },
        Ends::Old("deploy.sudo"),
        &["3 incorrect password attempts", "NOPASSWD: /bin/sh"],
    ),
    Case::served(
        "sudo-lectures",
        "a sudo that lectures before it does what it should (a stand-in)",
        |place| {
            sudo(
                place,
                "echo 'We trust you have received the usual lecture.' >&2; [ \"$1\" = -n ] || exit 1; shift; exec \"$@\"",
            )
        },
    ),
    Case::new(
        "no-sudo",
        "sudo is not there",
        |place| sudo(place, "echo \"env: 'sudo': No such file or directory\" >&2; exit 127"),
        Ends::Old("deploy.sudo"),
        &["install sudo there"],
    ),
    Case::new(
        "locked",
        "another transaction holds the lock and does not let go",
        |place| {
            let lock = std::fs::File::open(place.live(".certfleet/.lock")).unwrap();
            lock.lock().unwrap();
            // It waits for half a minute, which a test has not.
            both(place.program("sleep", "exit 0"), Box::new(move || drop(lock)))
        },
        Ends::Old("deploy.lock"),
        &["another run holds", "pid "],
    ),
];

#[test]
fn sessions() {
    tried(CASES);
}

/// All that runs in sessions has another idea of the time.
fn clock<'a>(place: &'a Place<'a>, offset: &str) -> Mend<'a> {
    let library = parts::faketime().unwrap();
    place.sessions(&format!(
        "export LD_PRELOAD={} FAKETIME={offset}; exec sh -c \"$SSH_ORIGINAL_COMMAND\"",
        library.display()
    ))
}

fn sudo<'a>(place: &'a Place<'a>, text: &str) -> Mend<'a> {
    both(place.program("sudo", text), place.set("sudo", "true"))
}
