//! A file system of its own for one folder of a host: small, so that it can be full, and read-only when it is told.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use super::process::run;

/// A folder with a disk of its own, in a mount namespace that ends with this value.
pub(crate) struct Disk {
    /// A shell that may mount there, and does what it reads. It ends when we do.
    holder: Mutex<(Child, ChildStdin, BufReader<ChildStdout>)>,
    id: u32,
    folder: PathBuf,
}

/// Takes the place of the folder, with what is in it.
const SETUP: &str = r#"
cd "$1" && mkdir ../disk && mount -t tmpfs -o mode=755,size=1m,nr_inodes=400 tmpfs ../disk &&
    cp -a . ../disk && mount --bind ../disk "$1" || exit 1
exec 2>&1
echo ready
while IFS= read -r line; do
    (eval "$line")
    echo "ended $?"
done
"#;

impl Disk {
    /// Puts one under a folder; why not, where this machine has no namespaces for us.
    pub(crate) fn under(folder: &Path) -> Result<Self, String> {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", SETUP, "sh"]).arg(folder);
        let mut holder = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("cannot run unshare: {e}"))?;
        let (stdin, stdout) = (holder.stdin.take().expect("a pipe"), holder.stdout.take().expect("a pipe"));
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let _ = stdout.read_line(&mut line);
        let id = holder.id();
        let disk = Self { holder: Mutex::new((holder, stdin, stdout)), id, folder: folder.to_owned() };
        if line == "ready\n" {
            Ok(disk)
        } else {
            Err("there is no mount namespace to be had here".to_owned())
        }
    }

    /// Whether this machine lets us have one. Only as root: in a user namespace of our own `/` belongs to nobody, and
    /// what is below that is not trusted.
    pub(crate) fn is_possible() -> bool {
        rustix::process::geteuid().is_root() && run(Command::new("unshare").args(["--mount", "true"])).is_ok()
    }

    /// Runs a line of shell in the folder, with the right to mount; what it said.
    pub(crate) fn sh(&self, line: &str) -> String {
        let mut holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, stdin, stdout) = &mut *holder;
        writeln!(stdin, "cd '{}'; {line}", self.folder.display()).expect("the shell reads");
        let mut said = String::new();
        loop {
            let mut line = String::new();
            stdout.read_line(&mut line).expect("the shell answers");
            match line.strip_prefix("ended ") {
                Some("0\n") => return said,
                _ if line.is_empty() || line.starts_with("ended ") => panic!("{line}{said}"),
                _ => said.push_str(&line),
            }
        }
    }

    /// A path as it can be opened from outside of the namespace.
    pub(crate) fn outside(&self, path: &Path) -> PathBuf {
        let inside = path.strip_prefix("/").unwrap_or(path);
        Path::new("/proc").join(self.id.to_string()).join("root").join(inside)
    }

    /// What has a program start in the namespace; its path and arguments come last.
    pub(crate) fn entering(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.id.to_string(), "--mount", "--"]);
        command
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let holder = self.holder.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = holder.0.kill();
        let _ = holder.0.wait();
    }
}
