//! How a host is broken, and mended again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::world::host::Host;

/// How a fault comes to its end.
pub(super) type Mend<'a> = Box<dyn FnOnce() + 'a>;

/// Where a fault happens.
pub(super) struct Place<'a> {
    pub(super) host: &'a Host,
    pub(super) config: &'a Path,
}

impl<'a> Place<'a> {
    /// A path below the host's root.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.host.root.join(path)
    }

    /// A path below the folder of its certificates.
    pub(super) fn live(&self, path: &str) -> PathBuf {
        self.host.live.join(path)
    }

    /// A folder of somebody else, with a file in it.
    pub(super) fn elsewhere(&self) -> PathBuf {
        let folder = self.path("elsewhere");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("theirs"), "theirs").unwrap();
        folder
    }

    /// Puts a program of this name in front of the host's own.
    pub(super) fn program(&self, name: &str, text: &str) -> Mend<'a> {
        replaced(self.path("bin").join(name), &format!("#!/bin/sh\n{text}\n"), 0o755)
    }

    /// Has every session run this in place of what is asked for (`$SSH_ORIGINAL_COMMAND`).
    pub(super) fn sessions(&self, script: &str) -> Mend<'a> {
        let session = self.path("bin/session");
        let program = self.program("session", script);
        let keys = self.path("ssh/authorized_keys");
        let key = fs::read_to_string(&keys).unwrap();
        let forced = replaced(keys, &format!("command=\"{}\" {key}", session.display()), 0o600);
        both(program, forced)
    }

    /// Restarts its SSH server with these lines before all others.
    pub(super) fn sshd(&self, lines: &str) -> Mend<'a> {
        let config = self.path("ssh/sshd_config");
        let text = fs::read_to_string(&config).unwrap();
        let undo = replaced(config, &format!("{lines}\n{text}"), 0o600);
        let restart = |host: &Host| {
            host.stop_sshd();
            host.start_sshd().unwrap();
        };
        restart(self.host);
        let host = self.host;
        Box::new(move || {
            undo();
            restart(host);
        })
    }

    /// Changes the server block of our name; nginx is told.
    pub(super) fn site(&self, change: impl FnOnce(&str) -> String) -> Mend<'a> {
        let file = self.path("nginx/sites/media.social.test.conf");
        let text = fs::read_to_string(&file).unwrap();
        let undo = replaced(file, &change(&text), 0o600);
        let host = self.host;
        host.reload_quietly().unwrap();
        Box::new(move || {
            undo();
            host.reload_quietly().unwrap();
        })
    }

    /// Sets a key of the host in certs.toml.
    pub(super) fn set(&self, key: &'static str, value: &str) -> Mend<'a> {
        let (config, host) = (self.config, self.host);
        let before = with_key(config, &host.name, key, Some(value));
        Box::new(move || {
            with_key(config, &host.name, key, before.as_deref());
        })
    }

    /// A mode that is not what it should be.
    pub(super) fn mode(&self, path: PathBuf, mode: u32) -> Mend<'a> {
        let before = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Box::new(move || fs::set_permissions(&path, before).unwrap())
    }

    /// What hangs is given up after two seconds, because a test has no more patience.
    pub(super) fn impatient(&self) -> Mend<'a> {
        let timeout = crate::world::parts::find("timeout").unwrap();
        self.program("timeout", &format!("shift 3\nexec {} -k 2 2 \"$@\"", timeout.display()))
    }
}

/// Both, the last first.
pub(super) fn both<'a>(one: Mend<'a>, other: Mend<'a>) -> Mend<'a> {
    Box::new(move || {
        other();
        one();
    })
}

/// Writes a file, and afterwards what was there before.
pub(super) fn replaced<'a>(path: PathBuf, text: &str, mode: u32) -> Mend<'a> {
    let before = fs::read(&path).ok().map(|bytes| (bytes, fs::metadata(&path).unwrap().permissions()));
    put(&path, text.as_bytes(), fs::Permissions::from_mode(mode));
    Box::new(move || match before {
        Some((bytes, mode)) => put(&path, &bytes, mode),
        None => fs::remove_file(&path).unwrap(),
    })
}

/// By a rename: nobody can run a file that is being written.
fn put(path: &Path, bytes: &[u8], mode: fs::Permissions) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, bytes).unwrap();
    fs::set_permissions(&fresh, mode).unwrap();
    fs::rename(&fresh, path).unwrap();
}

/// Sets or removes a line of a host's table; what it was before.
fn with_key(config: &Path, host: &str, key: &str, value: Option<&str>) -> Option<String> {
    let text = fs::read_to_string(config).unwrap();
    let head = format!("[host.{host}]\n");
    let begin = text.find(&head).unwrap() + head.len();
    let end = text[begin..].find("\n[").map_or(text.len(), |end| begin + end);
    let mut before = None;
    let mut lines: Vec<String> = Vec::new();
    for line in text[begin..end].lines() {
        match line.strip_prefix(&format!("{key} = ")) {
            Some(old) => before = Some(old.to_owned()),
            None => lines.push(line.to_owned()),
        }
    }
    lines.extend(value.map(|value| format!("{key} = {value}")));
    fs::write(config, format!("{}{}\n{}", &text[..begin], lines.join("\n"), &text[end..])).unwrap();
    before
}
