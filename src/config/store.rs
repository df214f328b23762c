//! `[store]`: where certfleet keeps what it knows.

use std::path::{Component, Path, PathBuf};

use crate::kind::{Refusal, Section};

/// Directories that belong to the system, or to everybody: a store is a folder of its own.
const SYSTEM: &[&str] = &[
    "/",
    "/bin",
    "/boot",
    "/etc",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/sbin",
    "/srv",
    "/tmp",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/run",
    "/var/spool",
    "/var/tmp",
    "/etc/letsencrypt",
    "/etc/letsencrypt/live",
    "/etc/nginx",
    "/etc/ssl",
    "/etc/ssl/private",
];
/// File systems that forget.
const FORGETFUL: &[&str] = &["/proc", "/sys", "/dev"];

/// The folder that the table names; `None` = the default.
pub(super) fn read(mut section: Section<'_>) -> Option<PathBuf> {
    let path = section.parsed("path", "\"/var/lib/certfleet\"", path);
    section.finish();
    path
}

fn path(text: &str) -> Result<PathBuf, Refusal> {
    const EXAMPLE: &str = "as in `path = \"/var/lib/certfleet\"`";
    let refuse = |why: &str| Err(Refusal::new(why, EXAMPLE));
    let path = Path::new(text);
    if text.is_empty() || text.contains(|c: char| c.is_control()) || text.len() >= 4096 {
        return refuse("it is no path");
    }
    if text.starts_with(['~', '$']) {
        return refuse("`~` and variables are not expanded");
    }
    if !path.is_absolute() {
        return refuse(
            "it does not begin with `/`: next to another certs.toml it would be another store, and an empty one has \
             everything issued again",
        );
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return refuse("it has `..` in it: write where that leads to");
    }
    // Without `//`, `/./` and the like.
    let path: PathBuf = path.components().collect();
    if FORGETFUL.iter().any(|system| path.starts_with(system)) {
        return refuse("nothing can be kept there: what is in it is made by the kernel");
    }
    if SYSTEM.iter().any(|system| path == Path::new(system)) {
        return refuse("it is a directory of the system, and the store is a folder that only certfleet uses");
    }
    Ok(path)
}
