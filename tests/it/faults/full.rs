//! Disks that take no more, and none at all.

use super::{Case, Ends, Mend, Place, tried};
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
    Case::new("full-0", "the disk is full", |place| full(place, 0), Ends::Old("deploy.staging"), ROOM),
    Case::new(
        "full-3",
        "the disk has 12 KiB left",
        |place| full(place, 3),
        Ends::Old("deploy.staging"),
        ROOM,
    ),
    Case::new(
        "full-6",
        "the disk has 24 KiB left",
        |place| full(place, 6),
        Ends::Old("deploy.staging"),
        ROOM,
    ),
    Case::new(
        "inodes-0",
        "the disk has no inode left",
        |place| inodes(place, 0),
        Ends::Old("deploy.staging"),
        ROOM,
    ),
    Case::new(
        "inodes-5",
        "the disk has 5 inodes left",
        |place| inodes(place, 5),
        Ends::Old("deploy.staging"),
        ROOM,
    ),
    Case::new(
        "inodes-12",
        "the disk has 12 inodes left",
        |place| inodes(place, 12),
        Ends::Old("deploy.staging"),
        ROOM,
    ),
    Case::new(
        "read-only",
        "the file system is read-only",
        |place| {
            let disk = place.host.give_disk().unwrap();
            disk.sh("mount -o remount,ro .");
            Box::new(|| drop(disk.sh("mount -o remount,rw .")))
        },
        Ends::Old("deploy.directory"),
        &["Read-only file system"],
    ),
    Case::served("noexec", "the file system is mounted noexec, nodev, nosuid", |place| {
        let disk = place.host.give_disk().unwrap();
        disk.sh("mount -o remount,bind,noexec,nodev,nosuid .");
        Box::new(|| ())
    }),
];

#[test]
fn disks() {
    if !Disk::is_possible() {
        println!("only root can mount, and only where there are mount namespaces: not tried");
        return;
    }
    tried(CASES);
}
