//! Disks that take no more, and none at all.

use super::{Case, Ends, Mend, Place, Sound, tried};
use crate::world::disk::Disk;

/// So much room is left, in pages of 4 KiB.
fn full<'a>(place: &'a Place<'a>, pages: u32) -> Mend<'a> {
    limited(place, &format!("size=$((($(stat -f -c '%b - %f' .) + {pages}) * 4))k"))
}

/// So many files and folders may still be made.
fn inodes<'a>(place: &'a Place<'a>, left: u32) -> Mend<'a> {
    limited(place, &format!("nr_inodes=$(($(stat -f -c '%c - %d' .) + {left}))"))
}

fn limited<'a>(place: &'a Place<'a>, limit: &str) -> Mend<'a> {
    let disk = place.host.give_disk().unwrap();
    disk.sh(&format!("mount -o remount,{limit} ."));
    Box::new(|| drop(disk.sh("mount -o remount,size=1m,nr_inodes=400 .")))
}

const ROOM: &[&str] = &["make room"];

const CASES: &[Case] = &[
    Case {
        host: "full-0",
        what: "the disk is full",
        fault: |place| full(place, 0),
        ends: Ends::Old("deploy.staging"),
        says: ROOM,
        sound: Sound::All,
    },
    Case {
        host: "full-3",
        what: "the disk has 12 KiB left",
        fault: |place| full(place, 3),
        ends: Ends::Old("deploy.staging"),
        says: ROOM,
        sound: Sound::All,
    },
    Case {
        host: "full-6",
        what: "the disk has 24 KiB left",
        fault: |place| full(place, 6),
        ends: Ends::Old("deploy.staging"),
        says: ROOM,
        sound: Sound::All,
    },
    Case {
        host: "inodes-0",
        what: "the disk has no inode left",
        fault: |place| inodes(place, 0),
        ends: Ends::Old("deploy.staging"),
        says: ROOM,
        sound: Sound::All,
    },
    Case {
        host: "inodes-5",
        what: "the disk has 5 inodes left",
        fault: |place| inodes(place, 5),
        ends: Ends::Old("deploy.staging"),
        says: ROOM,
        sound: Sound::All,
    },
    Case {
        host: "inodes-12",
        what: "the disk has 12 inodes left",
        fault: |place| inodes(place, 12),
        ends: Ends::Old("deploy.staging"),
        says: ROOM,
        sound: Sound::All,
    },
    Case {
        host: "read-only",
        what: "the file system is read-only",
        fault: |place| {
            let disk = place.host.give_disk().unwrap();
            disk.sh("mount -o remount,ro .");
            Box::new(|| drop(disk.sh("mount -o remount,rw .")))
        },
        ends: Ends::Old("deploy.directory"),
        says: &["Read-only file system"],
        sound: Sound::All,
    },
    Case {
        host: "noexec",
        what: "the file system is mounted noexec, nodev, nosuid",
        fault: |place| {
            let disk = place.host.give_disk().unwrap();
            disk.sh("mount -o remount,bind,noexec,nodev,nosuid .");
            Box::new(|| ())
        },
        ends: Ends::Served,
        says: &[],
        sound: Sound::All,
    },
];

#[test]
fn disks() {
    if !Disk::is_possible() {
        println!("no mount namespaces here: not tried");
        return;
    }
    tried(CASES);
}
