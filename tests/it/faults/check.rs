//! What must hold on a host after any fault, whatever became of the deployment: one check for all tests.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::world::host::Host;

const FILES: [&str; 4] = ["privkey.pem", "fullchain.pem", "cert.pem", "chain.pem"];

/// Everything on a host that is not ours to change: mode and owner of each path, and its bytes or its target.
pub(crate) struct Others(BTreeMap<PathBuf, (u32, u32, Vec<u8>)>);

impl Others {
    /// What there is now, where these certificates are ours.
    pub(crate) fn of(host: &Host, ours: &[&str]) -> Self {
        let mut found = BTreeMap::new();
        for folder in ["archive", "elsewhere", "nginx"] {
            collect(&host.root.join(folder), &mut found);
        }
        let live = host.seen(&host.live);
        collect(&live, &mut found);
        found.retain(|path, _| {
            let ours = |inside: &Path| {
                inside.starts_with(".certfleet")
                    || ours.iter().any(|name| {
                        let is_file = FILES.iter().any(|file| inside == Path::new(name).join(file));
                        is_file || inside == Path::new(&format!("{name}.conf"))
                    })
            };
            let of_nginx = path.ends_with("nginx/nginx.pid") || path.starts_with(host.root.join("nginx/tmp"));
            !of_nginx && !path.strip_prefix(&live).is_ok_and(ours)
        });
        assert!(found.len() > 8, "{:?}", found.keys());
        Self(found)
    }

    /// Nothing of it was changed, nothing added to it.
    pub(crate) fn assert_untouched(&self, host: &Host, ours: &[&str], what: &str) {
        let now = Self::of(host, ours).0;
        for (path, then) in &self.0 {
            let path_shown = path.display();
            let now = now.get(path).unwrap_or_else(|| panic!("{what}: {path_shown} is gone"));
            assert_eq!((now.0, now.1), (then.0, then.1), "{what}: mode or owner of {path_shown}");
            assert!(now.2 == then.2, "{what}: {path_shown} was changed");
        }
        let added: Vec<_> = now.keys().filter(|path| !self.0.contains_key(*path)).collect();
        assert!(added.is_empty(), "{what}: {added:?} were added");
    }
}

fn collect(folder: &Path, into: &mut BTreeMap<PathBuf, (u32, u32, Vec<u8>)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let bytes = if kind.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else if kind.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        if kind.is_dir() {
            collect(&path, into);
        }
        into.insert(path, (meta.mode(), meta.uid(), bytes));
    }
}

/// The web server would start with what is there, and the key of each of these certificates fits its chain.
pub(crate) fn assert_startable(host: &Host, ours: &[&str], what: &str) {
    // It reads a chain and then its key, as we do: a rename of a transaction that still runs may fall between. What is
    // left behind by one that has ended is the same each time.
    let look = || {
        host.startable()?;
        ours.iter().try_for_each(|name| complete(&host.seen(&host.live.join(name))))
    };
    look()
        .or_else(|_| look())
        .or_else(|_| look())
        .unwrap_or_else(|error| panic!("{what}: nginx on {} would not start: {error}", host.name));
}

/// All files of a certificate are there and belong together.
fn complete(folder: &Path) -> Result<(), String> {
    let read = |file: &str| {
        let path = folder.join(file);
        fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
    };
    let [key, fullchain, cert, chain] = FILES.map(read);
    let fullchain = fullchain?;
    if fullchain != format!("{}{}", cert?, chain?) {
        return Err(format!("{}: fullchain.pem is not cert.pem and chain.pem", folder.display()));
    }
    pair(&key?, &fullchain).map_err(|error| format!("{}: {error}", folder.display()))
}

/// The key belongs to the leaf.
pub(crate) fn pair(key: &str, chain: &str) -> Result<(), String> {
    let key = rustls_pemfile::private_key(&mut key.as_bytes()).ok().flatten().ok_or("there is no key")?;
    let chain: Result<Vec<_>, _> = rustls_pemfile::certs(&mut chain.as_bytes()).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // Also compares the public keys.
    let pair = rustls::sign::CertifiedKey::from_der(chain, key, &provider);
    pair.map(drop).map_err(|error| format!("key and leaf are no pair: {error}"))
}

/// What is ours is our user's alone. Files for nginx to include hold no secret.
pub(crate) fn assert_private(host: &Host, what: &str) {
    let base = host.seen(&host.live.join(".certfleet"));
    if base.exists() {
        private(&base, what);
    }
}

fn private(folder: &Path, what: &str) {
    // What is temporary goes away while a transaction ends.
    let Ok(meta) = fs::symlink_metadata(folder) else { return };
    assert_eq!(meta.permissions().mode() & 0o077, 0, "{what}: {}", folder.display());
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        // Folders there that others are to read hold links only, and are on their way to D/N.
        if path.ends_with(".work/live") {
            continue;
        }
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            private(&path, what);
        } else if meta.is_file() && path.extension().is_none_or(|extension| extension != "conf") {
            assert_eq!(meta.permissions().mode() & 0o7777, 0o600, "{what}: {}", path.display());
        }
    }
}

/// No work of ours is under way there, and nothing that was temporary is left: no file, no process.
pub(crate) fn assert_settled(host: &Host, what: &str) {
    let base = host.seen(&host.live.join(".certfleet"));
    for entry in fs::read_dir(&base).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.path().is_dir() {
            let known = [".lock", ".holder", ".last-answer", ".last-switch"].contains(&name.as_str());
            assert!(known, "{what}: {name} is left on {}", host.name);
            continue;
        }
        assert!(!name.starts_with('.'), "{what}: {name} is left on {}", host.name);
        let mut versions = Vec::new();
        for entry in fs::read_dir(entry.path()).unwrap() {
            let entry = entry.unwrap().file_name().into_string().unwrap();
            if entry != "current" && entry != "0-before" {
                let plain = entry.split_once('-').is_some_and(|(number, _)| number.parse::<u32>().is_ok());
                assert!(plain, "{what}: {name}/{entry} is left on {}", host.name);
                versions.push(entry);
            }
        }
        assert!(versions.len() <= 4, "{what}: {versions:?} on {}", host.name);
    }
    let begun = Instant::now();
    loop {
        let running = of_sessions(host);
        if running.is_empty() {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}: {running:?} still run on {}", host.name);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The processes that were started by sessions on the host: only those have its programs in front of their PATH.
fn of_sessions(host: &Host) -> Vec<String> {
    let mark = format!("PATH={}:", host.root.join("bin").display());
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        // Processes end while we look, and those of others cannot be read.
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|word| word.starts_with(mark.as_bytes())) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            found.push(format!(
                "{} {}",
                entry.file_name().display(),
                command.chars().take(80).collect::<String>()
            ));
        }
    }
    found
}
