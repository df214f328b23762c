//! A machine with a real systemd: this one, booted once more in namespaces, where nothing that happens lasts.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::process::{Service, Watchdog, run};

/// How long anything in it may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// What commands find there, whatever the PATH of the tests is.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A booted machine; its power is cut when this value goes.
pub(crate) struct Machine {
    // Before its control group: a group with processes cannot be removed.
    service: Service,
    init: u32,
    _cgroup: ControlGroup,
}

impl Machine {
    /// Boots one, in which each folder or file outside can be read at the path beside it. `None` where this
    /// machine does not let us, which is said once, past the capture of tests.
    pub(crate) fn boot(folder: &Path, watchdog: &Arc<Watchdog>, shown: &[(&Path, &str)]) -> Option<Self> {
        static POSSIBLE: OnceLock<bool> = OnceLock::new();
        let possible = POSSIBLE.get_or_init(|| match try_out() {
            Ok(()) => true,
            Err(why) => {
                let why = why.trim().replace('\n', "; ");
                let _ =
                    writeln!(std::io::stderr(), "no systemd can be booted here, so no unit is run: {why}");
                false
            }
        });
        possible.then(|| Self::start(folder, watchdog, shown).unwrap_or_else(|error| panic!("{error}")))
    }

    fn start(folder: &Path, watchdog: &Arc<Watchdog>, shown: &[(&Path, &str)]) -> Result<Self, String> {
        let mounts = folder.join("machine");
        fs::create_dir_all(&mounts).map_err(|e| format!("{}: {e}", mounts.display()))?;
        let cgroup = ControlGroup::new()?;
        let mut command = script(&mounts, &cgroup, "boot");
        for (outside, inside) in shown {
            command.arg(outside).arg(inside);
        }
        let members = cgroup.path.join("init.scope/cgroup.procs");
        let is_up = {
            let members = members.clone();
            move || {
                let Some(init) = first(&members) else { return false };
                let state = inside(init).args(["systemctl", "is-system-running"]).output();
                state.is_ok_and(|state| state.stdout.starts_with(b"running"))
            }
        };
        let service = Service::new("systemd", command, &folder.join("machine.log"), watchdog, is_up)?;
        service.start()?;
        let init = first(&members).ok_or("the machine has no first process")?;
        Ok(Self { service, init, _cgroup: cgroup })
    }

    /// Runs a shell script in it, as root; what it printed.
    pub(crate) fn run(&self, script: &str) -> Result<String, String> {
        run(inside(self.init).args(["sh", "-ec", script]))
    }

    /// The same, of a script that has to work.
    pub(crate) fn sh(&self, script: impl Display) -> String {
        self.run(&script.to_string()).unwrap_or_else(|error| panic!("{error}\n{}", self.journal()))
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let script = format!("mkdir -p \"$(dirname {path})\" && cat >{path}");
        let mut child = inside(self.init)
            .args(["sh", "-ec", &script])
            .stdin(Stdio::piped())
            .spawn()
            .expect("nsenter starts");
        child.stdin.take().expect("asked for a pipe").write_all(text.as_bytes()).expect("it reads");
        assert!(child.wait().expect("it can be waited for").success(), "{path} cannot be written");
    }

    /// A property of a unit.
    pub(crate) fn property(&self, unit: &str, name: &str) -> String {
        self.sh(format_args!("systemctl show --property {name} --value {unit}")).trim().to_owned()
    }

    /// Waits until it is so; with the journal where it never is.
    pub(crate) fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so() {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", self.journal());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The journal since it was booted.
    pub(crate) fn journal(&self) -> String {
        self.run("journalctl --no-pager --output=short-unix").unwrap_or_else(|error| error)
    }

    /// Whether it is up.
    pub(crate) fn is_up(&self) -> bool {
        self.service.running()
    }
}

/// Whether all that booting takes is allowed here.
fn try_out() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root can".to_owned());
    }
    let folder = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let cgroup = ControlGroup::new()?;
    run(&mut script(folder.path(), &cgroup, "probe")).map(drop)
}

fn script(folder: &Path, cgroup: &ControlGroup, what: &str) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/world/machine.sh");
    let mut command = Command::new(script);
    command.arg(folder).arg(&cgroup.path).arg(what);
    command
}

/// A command in the machine with this first process.
fn inside(init: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--target", &init.to_string(), "--all", "env", "-i", PATH, "LC_ALL=C"]);
    command
}

/// The first process of a control group; none while it is not there.
fn first(members: &Path) -> Option<u32> {
    fs::read_to_string(members).ok()?.lines().next()?.parse().ok()
}

/// A control group of the second version, for the machine to divide.
struct ControlGroup {
    path: PathBuf,
}

impl ControlGroup {
    fn new() -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mounts =
            fs::read_to_string("/proc/self/mounts").map_err(|e| format!("/proc/self/mounts: {e}"))?;
        let top = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (place, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(place))
        });
        let top = top.ok_or("there are no control groups of version 2 (mount -t cgroup2)")?;
        let name = format!("certfleet-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = top.join(name);
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // Its processes have been killed, which takes them a moment.
        let deadline = Instant::now() + Duration::from_secs(5);
        while remove(&self.path).is_err() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Removes a group with those in it.
fn remove(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.path().is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
