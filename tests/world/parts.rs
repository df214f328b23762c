//! The programs a world is made of: taken from the machine, else fetched as packages of its distribution.
//!
//! Fetching installs nothing: packages are unpacked into the build folder and run from there. apt works on
//! lists and caches of its own, so that it needs no rights and changes nothing on the machine.

pub(crate) mod python;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::process::run;

/// How long lists of packages are good enough: the packages of one world are fetched one after the other.
const FRESH_FOR: Duration = Duration::from_secs(600);

/// A program, and where the libraries are that came with it.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    path: PathBuf,
    libraries: Option<OsString>,
}

impl Program {
    /// The program's file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command
    }

    /// The `LD_LIBRARY_PATH` it needs, for scripts that run it.
    pub(crate) fn libraries(&self) -> Option<&OsString> {
        self.libraries.as_ref()
    }
}

/// The ACME server: `$PEBBLE`, else the package of Debian's development release.
///
/// Stable releases have it too old or not at all. One that lies on the PATH is not taken: tests should mean
/// the same thing everywhere.
pub(crate) fn pebble() -> Result<Program, String> {
    if let Some(path) = env::var_os("PEBBLE") {
        let path = PathBuf::from(path);
        if path.is_file() {
            return Ok(Program { path, libraries: None });
        }
        return Err(format!("$PEBBLE says {}, and there is no such file", path.display()));
    }
    fetch(&Wanted {
        package: "pebble",
        file: "usr/bin/pebble",
        suite: Some("sid"),
        remedy: "set $PEBBLE to a pebble program, version 2.10 or newer",
    })
}

/// The name server.
pub(crate) fn named() -> Result<Program, String> {
    find_or_fetch("named", "bind9", "usr/sbin/named")
}

/// The other name server, with the folder of its backend.
///
/// A package of its own even where the server is there: the backend that needs no database is rarely.
pub(crate) fn pdns() -> Result<(Program, PathBuf), String> {
    let has_backend = |folder: &PathBuf| folder.join("liblmdbbackend.so").is_file();
    let installed = library_folders(Path::new("/")).into_iter().map(|folder| folder.join("pdns"));
    if let (Some(path), Some(folder)) = (find("pdns_server"), installed.into_iter().find(has_backend)) {
        return Ok((Program { path, libraries: None }, folder));
    }
    let program = fetch(&Wanted {
        package: "pdns-backend-lmdb",
        file: "usr/sbin/pdns_server",
        suite: None,
        remedy: "sudo apt-get install pdns-server pdns-backend-lmdb",
    })?;
    let folders = env::split_paths(program.libraries.as_deref().unwrap_or_default());
    let backends: Vec<PathBuf> = folders.map(|folder| folder.join("pdns")).collect();
    let folder = backends.into_iter().find(has_backend).ok_or("pdns-backend-lmdb has no backend in it")?;
    Ok((program, folder))
}

/// The web server.
pub(crate) fn nginx() -> Result<Program, String> {
    find_or_fetch("nginx", "nginx", "usr/sbin/nginx")
}

/// The load balancer.
pub(crate) fn haproxy() -> Result<Program, String> {
    find_or_fetch("haproxy", "haproxy", "usr/sbin/haproxy")
}

/// The SSH server.
pub(crate) fn sshd() -> Result<Program, String> {
    find_or_fetch("sshd", "openssh-server", "usr/sbin/sshd")
}

/// The maker of SSH keys.
pub(crate) fn ssh_keygen() -> Result<Program, String> {
    find_or_fetch("ssh-keygen", "openssh-client", "usr/bin/ssh-keygen")
}

/// The SSH client that people use.
pub(crate) fn ssh() -> Result<Program, String> {
    find_or_fetch("ssh", "openssh-client", "usr/bin/ssh")
}

/// What makes users root.
pub(crate) fn sudo() -> Result<Program, String> {
    find_or_fetch("sudo", "sudo", "usr/bin/sudo")
}

/// The library that gives a program, and no other, another time.
pub(crate) fn faketime() -> Result<PathBuf, String> {
    let file = format!("usr/lib/{}-linux-gnu/faketime/libfaketime.so.1", env::consts::ARCH);
    let installed = Path::new("/").join(&file);
    if installed.is_file() {
        return Ok(installed);
    }
    let remedy = "sudo apt-get install libfaketime";
    fetch(&Wanted { package: "libfaketime", file: &file, suite: None, remedy }).map(|found| found.path)
}

/// The one that moves files.
pub(crate) fn sftp() -> Result<Program, String> {
    find_or_fetch("sftp", "openssh-client", "usr/bin/sftp")
}

/// The copier that comes with it.
pub(crate) fn scp() -> Result<Program, String> {
    find_or_fetch("scp", "openssh-client", "usr/bin/scp")
}

/// All the tools of small systems in one program.
pub(crate) fn busybox() -> Result<Program, String> {
    find_or_fetch("busybox", "busybox", "usr/bin/busybox")
}

/// certbot, as a command: of the distribution, run by its python.
pub(crate) fn certbot() -> Result<Command, String> {
    python_program(find_or_fetch("certbot", "certbot", "usr/bin/certbot")?)
}

/// The same with its plug-in for RFC 2136, in a package of its own even where certbot is there.
pub(crate) fn certbot_rfc2136() -> Result<Command, String> {
    const PACKAGE: &str = "python3-certbot-dns-rfc2136";
    let plugin = Path::new("/usr/lib/python3/dist-packages/certbot_dns_rfc2136");
    if plugin.is_dir() {
        return certbot();
    }
    let remedy = &format!("sudo apt-get install {PACKAGE}");
    python_program(fetch(&Wanted { package: PACKAGE, file: "usr/bin/certbot", suite: None, remedy })?)
}

fn python_program(program: Program) -> Result<Command, String> {
    let Some(libraries) = program.libraries() else { return Ok(program.command()) };
    let usr = program.path().ancestors().nth(2).ok_or("the program is in no folder")?;
    // Where the machine has no python of the distribution, one was fetched with it.
    let own = usr.join("bin/python3");
    let python = if own.is_file() { own } else { PathBuf::from("/usr/bin/python3") };
    let mut command = Command::new(python);
    command.env("LD_LIBRARY_PATH", libraries).env("PYTHONPATH", usr.join("lib/python3/dist-packages"));
    command.env("PYTHONDONTWRITEBYTECODE", "1").arg(program.path());
    Ok(command)
}

/// Another ACME client.
pub(crate) fn lego() -> Result<Program, String> {
    find_or_fetch("lego", "lego", "usr/bin/lego")
}

/// The program that copies what differs.
pub(crate) fn rsync() -> Result<Program, String> {
    find_or_fetch("rsync", "rsync", "usr/bin/rsync")
}

/// A program on the PATH, or where system programs are on machines whose users do not have that on the PATH.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

struct Wanted<'a> {
    package: &'a str,
    file: &'a str,
    /// Another release than the machine's.
    suite: Option<&'a str>,
    remedy: &'a str,
}

pub(super) fn find_or_fetch(name: &str, package: &str, file: &str) -> Result<Program, String> {
    if let Some(path) = find(name) {
        return Ok(Program { path, libraries: None });
    }
    fetch(&Wanted { package, file, suite: None, remedy: &format!("sudo apt-get install {package}") })
}

fn fetch(wanted: &Wanted<'_>) -> Result<Program, String> {
    let unpacked = (|| {
        let folder = build_folder()?.join("world");
        let unpacked = folder.join(wanted.package);
        once(&folder, &unpacked, |work| fetch_into(wanted, &folder, work))?;
        let mut path = unpacked.join(wanted.file);
        if !path.is_file() {
            // Releases from before /bin and /usr/bin were one.
            path = unpacked.join(wanted.file.trim_start_matches("usr/"));
        }
        if !path.is_file() {
            return Err(format!("{} is not in the package", path.display()));
        }
        Ok((path, unpacked))
    })();
    let (path, unpacked) = unpacked
        .map_err(|e| format!("no {} here: {}\n(fetching it failed: {e})", wanted.package, wanted.remedy))?;
    Ok(Program { path, libraries: Some(library_path(&unpacked)) })
}

/// Makes a folder unless it is there; it appears when it is complete. `make` gets a folder to work in.
pub(super) fn once(
    folder: &Path,
    wanted: &Path,
    make: impl FnOnce(&Path) -> Result<PathBuf, String>,
) -> Result<(), String> {
    // Two locks: the file's is between processes, and says nothing to the threads of one.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _threads = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let text = |e: std::io::Error| format!("{}: {e}", folder.display());
    fs::create_dir_all(folder).map_err(text)?;
    let lock = File::create(folder.join(".lock")).map_err(text)?;
    lock.lock().map_err(text)?;
    if wanted.is_dir() {
        return Ok(());
    }
    let work = tempfile::tempdir_in(folder).map_err(text)?;
    let made = make(work.path())?;
    fs::rename(made, wanted).map_err(text)
}

/// Fetches and unpacks the package and what it needs.
fn fetch_into(wanted: &Wanted<'_>, folder: &Path, work: &Path) -> Result<PathBuf, String> {
    let text = |e: std::io::Error| format!("{}: {e}", folder.display());
    let apt = Apt::new(folder, wanted.suite)?;
    let packages = match wanted.suite {
        // Of another release only the package itself: its libraries would not fit the machine's.
        Some(_) => vec![wanted.package.to_owned()],
        None => apt.missing(wanted.package)?,
    };
    run(apt.command().current_dir(work).arg("download").args(packages))?;
    let tree = work.join("tree");
    let mut found = 0;
    for entry in fs::read_dir(work).map_err(text)?.flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(entry.path()).arg(&tree))?;
            found += 1;
        }
    }
    if found == 0 {
        return Err("apt-get downloaded nothing".to_owned());
    }
    Ok(tree)
}

/// apt-get with sources, lists and caches in a folder of ours.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(folder: &Path, suite: Option<&str>) -> Result<Self, String> {
        let home = folder.join("apt").join(suite.unwrap_or("release"));
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = home.join(part);
            fs::create_dir_all(&part).map_err(|e| format!("{}: {e}", part.display()))?;
        }
        let sources = home.join("list.sources");
        fs::write(&sources, stanzas(suite)?).map_err(|e| format!("{}: {e}", sources.display()))?;
        let home = home.display();
        let options = [
            format!("Dir::Etc::SourceList={}", sources.display()),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            format!("Dir::State::Lists={home}/lists"),
            format!("Dir::Cache={home}/cache"),
            "Debug::NoLocking=true".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=2".to_owned(),
            // As root apt would download as its own user, who may not write here.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let apt =
            Self { options: options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect() };
        let updated = folder.join("apt").join(format!("{}.updated", suite.unwrap_or("release")));
        let age =
            fs::metadata(&updated).and_then(|meta| meta.modified()).ok().and_then(|at| at.elapsed().ok());
        if age.is_none_or(|age| age > FRESH_FOR) {
            run(apt.command().arg("update"))?;
            fs::write(&updated, "").map_err(|e| format!("{}: {e}", updated.display()))?;
        }
        Ok(apt)
    }

    fn command(&self) -> Command {
        let mut command = Command::new("apt-get");
        command.args(&self.options).env("LC_ALL", "C");
        command
    }

    /// The package and what it needs that is not installed here.
    fn missing(&self, package: &str) -> Result<Vec<String>, String> {
        let plan = run(self.command().args(["--simulate", "--no-install-recommends", "install", package]))?;
        let mut missing = Vec::new();
        for line in plan.lines() {
            let mut words = line.split_whitespace();
            let (Some("Inst"), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            // "[1.2]" is an older version that is installed. A library the new program may need; of the
            // rest the old one will do; and the C library belongs to the machine's own loader.
            let upgrade = words.next().is_some_and(|word| word.starts_with('['));
            if !upgrade
                || (name.starts_with("lib") && !name.starts_with("libc6") && !name.starts_with("libc-"))
            {
                missing.push(name.to_owned());
            }
        }
        if missing.is_empty() {
            return Err(format!("apt-get says that {package} is installed already"));
        }
        Ok(missing)
    }
}

/// Sources for a private apt: the distribution's own entries of this machine, or one of them for `suite`.
fn stanzas(suite: Option<&str>) -> Result<String, String> {
    let mut sources = Vec::new();
    let parts = fs::read_dir("/etc/apt/sources.list.d").ok();
    let mut files: Vec<PathBuf> = parts.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.push(PathBuf::from("/etc/apt/sources.list"));
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => sources.extend(deb822(&text)),
            Some("list") => sources.extend(text.lines().filter_map(one_line)),
            _ => (),
        }
    }
    sources.retain(|source| source.components.split_whitespace().any(|component| component == "main"));
    match suite {
        None => sources
            .retain(|source| ["debian", "debian-security", "ubuntu"].iter().any(|name| source.is_of(name))),
        Some(suite) => {
            sources.retain(|source| source.is_of("debian"));
            sources.truncate(1);
            for source in &mut sources {
                source.suites = suite.to_owned();
                source.components = "main".to_owned();
            }
        }
    }
    if sources.is_empty() {
        return Err("apt's sources name no mirror of the distribution".to_owned());
    }
    Ok(sources.iter().map(Source::stanza).collect())
}

struct Source {
    uris: String,
    suites: String,
    components: String,
    options: Vec<(String, String)>,
}

impl Source {
    /// Whether it is a mirror of the archive with this name, by its path.
    fn is_of(&self, archive: &str) -> bool {
        self.uris.split('/').any(|segment| segment == archive)
    }

    fn stanza(&self) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n",
            self.uris, self.suites, self.components
        );
        for (key, value) in &self.options {
            text.push_str(&format!("{key}: {value}\n"));
        }
        text.push('\n');
        text
    }
}

/// The entries of a `.sources` file.
fn deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for stanza in text.split("\n\n") {
        let field = |wanted: &str| {
            stanza.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
            })
        };
        let enabled = field("Enabled").is_none_or(|value| value != "no");
        let binary = field("Types").is_some_and(|types| types.split_whitespace().any(|kind| kind == "deb"));
        if let (true, true, Some(uris), Some(suites), Some(components)) =
            (enabled, binary, field("URIs"), field("Suites"), field("Components"))
        {
            // A key that stands in the file itself is left out: apt has the distribution's own keys anyway.
            let signed = field("Signed-By").filter(|value| value.starts_with('/'));
            found.push(Source {
                uris,
                suites,
                components,
                options: signed.into_iter().map(|path| ("Signed-By".to_owned(), path)).collect(),
            });
        }
    }
    found
}

/// The entry on a line of a `.list` file.
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb ")?.trim();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let known = [("signed-by", "Signed-By"), ("trusted", "Trusted")];
    Some(Source {
        uris: uri.to_owned(),
        suites: suite.to_owned(),
        components: words.collect::<Vec<_>>().join(" "),
        options: options
            .split_whitespace()
            .filter_map(|option| option.split_once('='))
            .filter_map(|(key, value)| {
                let (_, name) = known.iter().find(|(short, _)| *short == key)?;
                Some(((*name).to_owned(), value.to_owned()))
            })
            .collect(),
    })
}

/// Where the unpacked packages keep their libraries.
fn library_path(unpacked: &Path) -> OsString {
    env::join_paths(library_folders(unpacked)).unwrap_or_default()
}

fn library_folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for parent in ["usr/lib", "lib"] {
        let Ok(entries) = fs::read_dir(root.join(parent)) else {
            continue;
        };
        // Libraries are in a folder called after the machine, such as x86_64-linux-gnu.
        folders.extend(
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-"))
                .map(|entry| entry.path()),
        );
    }
    folders
}

/// Where cargo builds: `$CARGO_TARGET_DIR`, else the folder above this very program that is called target.
pub(super) fn build_folder() -> Result<PathBuf, String> {
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR") {
        return std::path::absolute(folder).map_err(|e| format!("$CARGO_TARGET_DIR: {e}"));
    }
    let program = env::current_exe().map_err(|e| format!("where this program is: {e}"))?;
    // It is in target/debug/deps or target/debug/examples, whatever target is called.
    let above = program.ancestors().find(|folder| folder.ends_with("target"));
    above
        .or_else(|| program.ancestors().nth(3))
        .map(Path::to_owned)
        .ok_or_else(|| format!("{} is in no build folder", program.display()))
}
