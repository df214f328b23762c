//! Running a program to its end, or to ours.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::timeout;

use super::ExecError;
use crate::model::problem::plain;

/// Runs the program with these arguments, no shell between; a success is an exit with 0.
pub(super) async fn run(
    account: &str,
    command: &Path,
    arguments: &[String],
    within: Duration,
) -> Result<(), ExecError> {
    let (account, command) = (|| account.to_owned(), || command.to_owned());
    let metadata = std::fs::metadata(command()).map_err(|source| ExecError::Missing {
        account: account(),
        command: command(),
        source,
    })?;
    if !metadata.is_file() {
        return Err(ExecError::NotAFile { account: account(), command: command() });
    }
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(ExecError::WorldWritable { account: account(), command: command() });
    }
    let mut child = Command::new(command())
        .args(arguments)
        // The service manager listens to us, not to what we start.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that its children end with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| ExecError::Start { account: account(), command: command(), source })?;
    // Also when the caller loses interest.
    let mut group = Group(child.id());
    let (said, errors) = (Said::default(), Said::default());
    let output = (said.hear(child.stdout.take()), errors.hear(child.stderr.take()));
    let ended = timeout(within, child.wait()).await;
    let verb = || arguments.first().cloned().unwrap_or_default();
    let Ok(ended) = ended else {
        drop(group);
        // The rest of what it said, now that nobody holds the pipes any more.
        let _ = timeout(LAST_WORDS, async { (output.0.await, output.1.await) }).await;
        let said = words(&errors, &said);
        return Err(ExecError::Slow { account: account(), command: command(), verb: verb(), within, said });
    };
    // Its number may be anybody's by now.
    group.0 = None;
    let status =
        ended.map_err(|source| ExecError::Start { account: account(), command: command(), source })?;
    // Something that it left running may hold the pipes: the message is not worth a long wait.
    let _ = timeout(LAST_WORDS, async { (output.0.await, output.1.await) }).await;
    let said = words(&errors, &said);
    if status.success() {
        tracing::debug!(account = account(), command = %command().display(), verb = verb(), said, "dns command");
        return Ok(());
    }
    Err(ExecError::Failed { account: account(), command: command(), verb: verb(), status, said })
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
