//! Transactions on this machine itself: the same script, run by a shell of ours instead of through SSH.

use std::future::pending;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::process::{Pid, Signal, geteuid, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use super::error::{ConnectError, InstallError};
use super::protocol::Conversation;
use super::relay::SOCKET;
use super::ssh::{Carrier, Exchange, GOODBYE};
use crate::model::desired::Host;
use crate::probe::{Patience, TooLate};

/// What commands get of our environment: the rest may be secrets.
const PASSED_ON: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "XDG_RUNTIME_DIR"];

/// How we may install something here; asked before anything is sent.
pub(super) fn way(host: &Host) -> Result<Carrier, ConnectError> {
    if host.sudo || geteuid().is_root() {
        return Ok(Carrier::Local);
    }
    // What is not there yet is made in the first folder that is.
    let there = Path::new(&host.directory).ancestors().find(|path| path.exists());
    let open = |path: &Path, access| accessat(CWD, path, access, AtFlags::EACCESS).is_ok();
    match there {
        Some(there) if open(there, Access::WRITE_OK | Access::EXEC_OK) => Ok(Carrier::Local),
        _ if open(Path::new(SOCKET), Access::WRITE_OK) => Ok(Carrier::Socket),
        _ => Err(ConnectError::Rights {
            host: host.name.to_string(),
            user: host.user.clone(),
            directory: host.directory.clone(),
        }),
    }
}

/// The shell that takes a script from its input.
pub(super) fn shell(conversation: &Conversation) -> std::process::Command {
    let mut command = std::process::Command::new("/bin/sh");
    command.arg("-c").arg(conversation.command()).current_dir("/").env_clear();
    for name in PASSED_ON {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

impl Exchange<'_> {
    /// As [`run`](Self::run), on this machine. At a deadline all that was started is killed.
    pub(super) async fn run_here(&mut self) -> Result<(), InstallError> {
        let mut command = Command::from(shell(&self.conversation));
        // A group of its own: a Ctrl-C is for us, and a transaction that has begun to switch goes on to its end.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child =
            command.spawn().map_err(|source| InstallError::Start { host: self.name(), source })?;
        let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        let result = self.listen(&mut child).await;
        if let (Err(_), Some(group)) = (&result, group) {
            // Gone by itself, or become root: then its own deadlines hold.
            let _ = kill_process_group(group, Signal::KILL);
        }
        result
    }

    async fn listen(&mut self, child: &mut Child) -> Result<(), InstallError> {
        let (Some(mut stdin), Some(mut stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Ok(());
        };
        // There is no connection that could be lost.
        self.ended = true;
        let input = self.conversation.take_input();
        let send = async move {
            // What could not be sent was not wanted: the answer says why.
            let _ = stdin.write_all(&input).await;
        };
        tokio::pin!(send);
        let (mut said, mut complained) = ([0; 8192], [0; 1024]);
        let (mut sent, mut heard, mut read, mut mute, mut gone) = (false, false, false, false, false);
        while !(gone && read && (mute || heard)) {
            // What it left behind may keep the pipe open for ever.
            let mut quiet = Patience::of(if gone || heard { GOODBYE } else { self.silence });
            tokio::select! {
                () = &mut send, if !sent => sent = true,
                got = stdout.read(&mut said), if !read => match got {
                    Ok(count) if count > 0 && !heard => {
                        // Once the answer is complete only its end is waited for.
                        heard = self.hear_output(&said[..count])?;
                        if heard { read = true; }
                    }
                    _ => read = true,
                },
                got = stderr.read(&mut complained), if !mute => match got {
                    Ok(count) if count > 0 => self.hear_complaint(&complained[..count])?,
                    _ => mute = true,
                },
                status = child.wait(), if !gone => {
                    gone = true;
                    self.status = status.ok().and_then(|status| status.code()?.try_into().ok());
                }
                late = self.left.wait(quiet.wait(pending::<()>())) => {
                    if heard || gone { break; }
                    return Err(if late == Err(TooLate) { self.too_long() } else { self.silent() });
                }
            }
        }
        Ok(())
    }
}
