//! Started as root on a store that belongs to another user, we go on as that user: what root would write
//! there the daemon could not read.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::{Refusal, complain};
use crate::config;
use crate::store;

/// Runs this very command again as the owner of the store, if we are root and it is not ours. Returns when
/// there is nothing to do; a configuration that cannot be used is for the command itself to complain about.
pub(super) fn go_on_as_owner(config: Option<&Path>) -> Result<(), Refusal> {
    let us = rustix::process::geteuid().as_raw();
    if us != 0 {
        return Ok(());
    }
    let Ok(config) = config::find(config).and_then(|path| config::load(&path)) else { return Ok(()) };
    let Some(owner) = other(us, &store::owner(&config.store)) else { return Ok(()) };
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let (name, group) = user(&users, owner).unwrap_or_else(|| {
        let group = fs::metadata(&config.store).map_or(owner, |facts| facts.gid());
        (owner.to_string(), group)
    });
    complain(&format!(
        "note: the store {} belongs to `{name}`: going on as that user",
        config.store.display()
    ));
    let groups = groups(&fs::read_to_string("/etc/group").unwrap_or_default(), &name, group);
    let error = become_user(owner, group, &groups)
        .and_then(|()| std::env::current_exe())
        .map(|program| Command::new(program).args(std::env::args_os().skip(1)).exec())
        .unwrap_or_else(|error| error);
    Err(Refusal::failed(&CannotGoOn { name, source: error }))
}

/// Makes this thread the user's, with all groups: some secrets are readable by a group only. What it executes is the
/// user's altogether.
///
/// `Command` could change the user as well, but would leave it no other groups.
fn become_user(user: u32, group: u32, groups: &[u32]) -> io::Result<()> {
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    set_thread_groups(&groups)?;
    set_thread_res_gid(group, group, group)?;
    Ok(set_thread_res_uid(user, user, user)?)
}

/// The groups of a user, its own first, as /etc/group has them.
fn groups(file: &str, user: &str, own: u32) -> Vec<u32> {
    let listed = file.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [_, _, number, members] = fields[..] else { return None };
        members.split(',').any(|member| member == user).then_some(())?;
        number.parse().ok().filter(|number| *number != own)
    });
    std::iter::once(own).chain(listed).collect()
}

/// The command cannot be run as the owner of the store.
#[derive(Debug, thiserror::Error)]
#[error("cannot go on as `{name}`, whose store it is; run certfleet as that user")]
struct CannotGoOn {
    name: String,
    source: io::Error,
}

/// The user to go on as, if it is another than we are. Only root can.
fn other(us: u32, owner: &io::Result<Option<u32>>) -> Option<u32> {
    match owner {
        Ok(Some(owner)) if us == 0 && *owner != us => Some(*owner),
        _ => None,
    }
}

/// Name and group of a user, as /etc/passwd has them.
fn user(passwd: &str, uid: u32) -> Option<(String, u32)> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, number, group, ..] = fields[..] else { return None };
        (number.parse() == Ok(uid)).then_some(())?;
        Some((crate::model::problem::plain(name), group.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::{groups, other, user};

    #[test]
    fn only_root_goes_on_as_another() {
        assert_eq!(other(0, &Ok(Some(990))), Some(990));
        assert_eq!(other(0, &Ok(Some(0))), None);
        assert_eq!(other(0, &Ok(None)), None, "there is no store yet");
        assert_eq!(other(990, &Ok(Some(991))), None, "that is an error of its own");
        assert_eq!(other(0, &Err(io::Error::other("no"))), None);
    }

    #[test]
    fn the_group_of_a_user_is_that_of_passwd() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbroken\ncertfleet:x:990:991::/:/bin/false\n";
        assert_eq!(user(passwd, 990), Some(("certfleet".to_owned(), 991)));
        assert_eq!(user(passwd, 7), None);
    }

    #[test]
    fn its_other_groups_are_those_that_name_it() {
        let file =
            "root:x:0:root\nsecrets:x:5:other,certfleet\nown:x:991:certfleet\nbroken\nlike:x:7:certfleet2\n";
        assert_eq!(groups(file, "certfleet", 991), [991, 5]);
        assert_eq!(groups("", "certfleet", 991), [991]);
    }
}
