//! Servers as child processes: started, waited for, stopped with all that they started themselves.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// How long a server may take until it answers.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// One server: a command that can be started and stopped again and again.
pub(crate) struct Service {
    name: String,
    log: PathBuf,
    ready: Box<dyn Fn() -> bool + Send + Sync>,
    inner: Mutex<Inner>,
    watchdog: Arc<Watchdog>,
}

struct Inner {
    command: Command,
    child: Option<Child>,
}

impl Service {
    /// A server that is not started yet; its output is appended to `log`; `ready` tells when it answers.
    pub(crate) fn new(
        name: impl Into<String>,
        command: Command,
        log: &Path,
        watchdog: &Arc<Watchdog>,
        ready: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Result<Self, String> {
        let name = name.into();
        let command = prepared(&name, command, log)?;
        Ok(Self {
            name,
            log: log.to_owned(),
            ready: Box::new(ready),
            inner: Mutex::new(Inner { command, child: None }),
            watchdog: Arc::clone(watchdog),
        })
    }

    /// Has it start by this command from now on: its own program and arguments come last.
    pub(crate) fn start_by(&self, mut by: Command) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        by.arg(inner.command.get_program()).args(inner.command.get_args());
        for (name, value) in inner.command.get_envs() {
            match value {
                Some(value) => by.env(name, value),
                None => by.env_remove(name),
            };
        }
        inner.command = prepared(&self.name, by, &self.log)?;
        Ok(())
    }

    /// Starts it and waits until it answers; does nothing if it runs.
    pub(crate) fn start(&self) -> Result<(), String> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = &mut inner.child {
            if matches!(child.try_wait(), Ok(None)) {
                return Ok(());
            }
            self.watchdog.tell('-', child.id());
        }
        let child = inner
            .command
            .spawn()
            .map_err(|e| format!("{}: cannot start {:?}: {e}", self.name, inner.command.get_program()))?;
        self.watchdog.tell('+', child.id());
        let child = inner.child.insert(child);
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("{} ended with {status}; its log:\n{}", self.name, self.tail()));
            }
            if (self.ready)() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{} did not answer within {READY_WITHIN:?}; its log:\n{}",
                    self.name,
                    self.tail()
                ));
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Kills it at once, with its process group and all its descendants, as a power cut would.
    pub(crate) fn stop(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = inner.child.take() else {
            return;
        };
        let id = child.id();
        // sshd gives each connection a session of its own, which the process group does not reach.
        let family = descendants(id);
        // A child that was waited for already has given its number back: it may be anybody's by now.
        if matches!(child.try_wait(), Ok(None)) {
            if let Some(pid) = pid(id) {
                // An error means that it is gone, which is what we want.
                let _ = kill_process_group(pid, Signal::KILL);
            }
            for id in family {
                signal(id, Signal::KILL);
            }
            let _ = child.wait();
        }
        self.watchdog.tell('-', id);
    }

    /// Stops it in its tracks: connections are accepted by the system, and nobody answers.
    pub(crate) fn freeze(&self) {
        self.signal_all(Signal::STOP);
    }

    /// Lets it go on after [`Service::freeze`].
    pub(crate) fn thaw(&self) {
        self.signal_all(Signal::CONT);
    }

    /// Whether it runs now.
    pub(crate) fn running(&self) -> bool {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut inner.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Its number, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.child.as_ref().map(Child::id)
    }

    /// All it has written so far.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.log)
    }

    fn signal_all(&self, which: Signal) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(child) = &inner.child else { return };
        signal(child.id(), which);
        for id in descendants(child.id()) {
            signal(id, which);
        }
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}, the end of its log:\n{}", self.name, self.tail());
        }
        self.stop();
    }
}

/// Kills what is left when the test process itself is killed and no `Drop` runs.
///
/// A shell that holds the other end of a pipe: when we are gone, it reads the end of file and kills the
/// process groups it was told of. (The kernel's own signal on a parent's death would come when the *thread*
/// that started the server ends, which is too early.)
pub(crate) struct Watchdog {
    shell: Mutex<Option<(Child, ChildStdin)>>,
}

impl Watchdog {
    /// Starts the shell.
    pub(crate) fn start() -> Result<Arc<Self>, String> {
        let script = "all=
            while read -r what id; do
                case $what in
                +) all=\"$all $id\" ;;
                -) left=; for p in $all; do [ \"$p\" = \"$id\" ] || left=\"$left $p\"; done; all=$left ;;
                esac
            done
            for p in $all; do kill -KILL \"-$p\"; done 2>/dev/null";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C goes to the foreground group: the watchdog must outlive it to clean up.
            .process_group(0)
            .spawn()
            .map_err(|e| format!("cannot start the watchdog: {e}"))?;
        let stdin = shell.stdin.take().expect("asked for a pipe");
        Ok(Arc::new(Self { shell: Mutex::new(Some((shell, stdin))) }))
    }

    /// Lets it do its work now, as if this process had ended.
    pub(crate) fn let_go(&self) {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((mut child, stdin)) = shell.take() {
            drop(stdin);
            let _ = child.wait();
        }
    }

    fn tell(&self, what: char, id: u32) {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, stdin)) = &mut *shell {
            // Without its watchdog a world still works; only a killed test would leave servers behind.
            let _ = writeln!(stdin, "{what} {id}");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// The command of a server: in a process group of its own, its output in the log.
fn prepared(name: &str, mut command: Command, log: &Path) -> Result<Command, String> {
    let open = || -> std::io::Result<File> { OpenOptions::new().create(true).append(true).open(log) };
    let (out, err) = open()
        .and_then(|out| Ok((out, open()?)))
        .map_err(|e| format!("{name}: cannot write {}: {e}", log.display()))?;
    command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
    Ok(command)
}

/// Runs a command to its end; its output, or what it said when it failed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("cannot run {:?}: {e}", command.get_program()))?;
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(out);
    }
    let err = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} ended with {}:\n{out}{err}", output.status))
}

/// A file's text, or nothing where there is no such file.
pub(crate) fn read_lossy(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn signal(id: u32, which: Signal) {
    if let Some(pid) = pid(id) {
        // An error means that it has ended meanwhile.
        let _ = kill_process(pid, which);
    }
}

fn pid(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// Children, their children and so on, of the process with this number.
fn descendants(ancestor: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    for entry in entries.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // "pid (name) state parent …", where the name may hold blanks and brackets of its own.
        let stat = read_lossy(&entry.path().join("stat"));
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(id);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![ancestor];
    while let Some(id) = next.pop() {
        let of_this = children.remove(&id).unwrap_or_default();
        found.extend(&of_this);
        next.extend(of_this);
    }
    found
}
