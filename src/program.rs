//! Programs of people: run to their end, or to ours.

use std::convert::Infallible;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{ChildStdin, Command};
use tokio::time::timeout;

use crate::model::problem::plain;

mod error;

pub use error::Error;

/// A program that certs.toml names.
#[derive(Debug, Clone)]
pub struct Program {
    /// The table that names it, `dns.main`.
    pub owner: String,
    /// The program, by its whole path.
    pub command: PathBuf,
    /// How long it may take; then it is killed with all that it started.
    pub timeout: Duration,
}

impl Program {
    /// Runs it with these arguments, no shell between; a success is an exit with 0.
    pub async fn run(&self, arguments: &[String]) -> Result<(), Error> {
        let mut command = Command::new(&self.command);
        // The service manager listens to us, not to what we start.
        command.args(arguments).env_remove("NOTIFY_SOCKET").stdin(Stdio::null());
        self.go(&mut command, arguments, Vec::new()).await
    }

    /// Runs it with `input` on its standard input, and with nothing of our environment but what names
    /// the way to programs, the user, language and time zone: the rest may hold secrets.
    pub async fn feed(&self, input: Vec<u8>) -> Result<(), Error> {
        let mut command = Command::new(&self.command);
        let kept = std::env::vars_os().filter(|(name, _)| KEPT_VARIABLES.iter().any(|kept| name == kept));
        self.go(command.env_clear().envs(kept).stdin(Stdio::piped()), &[], input).await
    }

    async fn go(&self, command: &mut Command, arguments: &[String], input: Vec<u8>) -> Result<(), Error> {
        self.look()?;
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own, so that its children end with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| self.start(source))?;
        // Also when the caller loses interest.
        let mut group = Group(child.id());
        let (said, errors) = (Said::default(), Said::default());
        let output = (said.hear(child.stdout.take()), errors.hear(child.stderr.take()));
        let giving = give(child.stdin.take(), input);
        let ended = timeout(self.timeout, async {
            tokio::select! {
                ended = child.wait() => ended,
                never = giving => match never {},
            }
        });
        let ended = ended.await;
        let verb = arguments.first().map(|verb| format!(" {verb}")).unwrap_or_default();
        let call = format!("{}{verb}", self.command.to_string_lossy());
        let Ok(ended) = ended else {
            drop(group);
            // The rest of what it said, now that nobody holds the pipes any more.
            let _ = timeout(LAST_WORDS, async { (output.0.await, output.1.await) }).await;
            let said = words(&errors, &said);
            let (owner, command, within) = (self.owner.clone(), self.command.clone(), self.timeout);
            return Err(Error::Slow { owner, command, call, within, said });
        };
        // Its number may be anybody's by now.
        group.0 = None;
        let status = ended.map_err(|source| self.start(source))?;
        // Something that it left running may hold the pipes: the message is not worth a long wait.
        let _ = timeout(LAST_WORDS, async { (output.0.await, output.1.await) }).await;
        let said = words(&errors, &said);
        if status.success() {
            tracing::debug!(owner = self.owner, call = plain(&call), said, "command");
            return Ok(());
        }
        Err(Error::Failed { owner: self.owner.clone(), command: self.command.clone(), call, status, said })
    }

    /// Whether it is a file that nobody else can have changed.
    fn look(&self) -> Result<(), Error> {
        let (owner, command) = (self.owner.clone(), self.command.clone());
        let metadata = match std::fs::metadata(&self.command) {
            Ok(metadata) => metadata,
            Err(source) => return Err(Error::Missing { owner, command, source }),
        };
        if !metadata.is_file() {
            return Err(Error::NotAFile { owner, command });
        }
        if metadata.permissions().mode() & 0o002 != 0 {
            return Err(Error::WorldWritable { owner, command });
        }
        Ok(())
    }

    fn start(&self, source: std::io::Error) -> Error {
        Error::Start { owner: self.owner.clone(), command: self.command.clone(), source }
    }
}

/// Writes while the program runs, which may read late, in part or not at all.
async fn give(pipe: Option<ChildStdin>, input: Vec<u8>) -> Infallible {
    if let Some(mut pipe) = pipe {
        // Who closes his ears has heard enough: the exit code says whether that is bad.
        let _ = pipe.write_all(&input).await;
    }
    std::future::pending().await
}

/// A process group that is killed when it is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        if let Some(id) = id {
            // Nobody has waited for the child, so the number is still its own.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

/// What came out of one pipe, as far as it is kept.
#[derive(Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Said {
    /// Reads the pipe to its end, so that who writes much does not wait for us.
    fn hear(&self, pipe: Option<impl AsyncRead + Unpin + Send + 'static>) -> tokio::task::JoinHandle<()> {
        let said = Arc::clone(&self.0);
        tokio::spawn(async move {
            let Some(mut pipe) = pipe else { return };
            let mut part = [0; 1024];
            while let Ok(length @ 1..) = pipe.read(&mut part).await {
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                let room = KEPT.saturating_sub(said.len());
                said.extend_from_slice(&part[..length.min(room)]);
            }
        })
    }

    fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// Errors first: there is the reason, if anywhere.
fn words(errors: &Said, output: &Said) -> String {
    plain(&format!("{}\n{}", errors.text(), output.text()))
}

/// Enough for any message; `plain` cuts further.
const KEPT: usize = 4096;
const LAST_WORDS: Duration = Duration::from_secs(1);
/// What a program is told of our environment where it is not told all.
const KEPT_VARIABLES: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR"];
