//! A secret that a command prints: password managers, vaults.

use std::io::{self, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::LARGEST;
use crate::model::problem::plain;

/// Whoever asks for a secret waits for it.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why a command gave no secret.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no command.
    #[error("the command is empty")]
    Empty,
    /// The program cannot be started.
    #[error("it cannot be started")]
    Start(#[source] io::Error),
    /// It did not end in time and was killed.
    #[error("it did not end within {} s and was killed", .0.as_secs())]
    Slow(Duration),
    /// It printed more than a secret can have.
    #[error("it printed more than 64 KiB")]
    TooMuch,
    /// It ended with a failure; what it printed as its error.
    #[error("{}{}", ending(.0), said(.1))]
    Failed(ExitStatus, String),
    /// Its output cannot be read.
    #[error("its output cannot be read")]
    Output(#[source] io::Error),
}

/// Runs the program with its arguments, no shell between, and takes what it prints.
pub(super) fn run(words: &[String]) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    run_within(words, DEADLINE)
}

fn run_within(words: &[String], limit: Duration) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        // The service manager listens to us, not to what we start.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that its children end with it.
        .process_group(0)
        .spawn()
        .map_err(CommandError::Start)?;
    let result = collect(&mut child, deadline, limit);
    // What has failed by itself is gone already.
    if !matches!(result, Ok(_) | Err(CommandError::Failed(..))) {
        end(&mut child);
    }
    result
}

fn collect(
    child: &mut Child,
    deadline: Instant,
    limit: Duration,
) -> Result<Zeroizing<Vec<u8>>, CommandError> {
    // Enough for any message; `plain` cuts further.
    const SAID: usize = 4096;
    let stdout = drain(child.stdout.take(), LARGEST + 1);
    let stderr = drain(child.stderr.take(), SAID);
    let left = || deadline.saturating_duration_since(Instant::now());
    let output = match stdout.recv_timeout(left()) {
        Ok(output) => output.map_err(CommandError::Output)?,
        Err(_) => return Err(CommandError::Slow(limit)),
    };
    if output.len() > LARGEST {
        return Err(CommandError::TooMuch);
    }
    let status = loop {
        if let Some(status) = child.try_wait().map_err(CommandError::Output)? {
            break status;
        }
        if left().is_zero() {
            return Err(CommandError::Slow(limit));
        }
        std::thread::sleep(Duration::from_millis(5).min(left()));
    };
    if status.success() {
        return Ok(output);
    }
    // A grandchild may hold the pipe open; the message is not worth the whole deadline.
    let said = stderr.recv_timeout(left().min(Duration::from_secs(1)));
    let said = said.ok().and_then(Result::ok).unwrap_or_default();
    Err(CommandError::Failed(status, plain(&String::from_utf8_lossy(&said))))
}

/// Reads a pipe to its end in a thread, and keeps at most `limit` bytes.
fn drain(pipe: Option<impl Read + Send + 'static>, limit: usize) -> Receiver<io::Result<Zeroizing<Vec<u8>>>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit + 64));
        let Some(mut pipe) = pipe else { return };
        let result = pipe.by_ref().take(limit as u64).read_to_end(&mut bytes);
        // Nobody listens any more after the deadline.
        let _ = sender.send(result.map(|_| bytes));
        // Whoever prints more than is kept shall not die of it.
        let _ = io::copy(&mut pipe, &mut io::sink());
    });
    receiver
}

/// Kills the command with its children, and waits for it so that no zombie stays.
fn end(child: &mut Child) {
    if let Ok(id) = i32::try_from(child.id())
        && let Some(group) = rustix::process::Pid::from_raw(id)
    {
        // Nobody has waited for the child, so the number is still its own.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
}

fn ending(status: &ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with {code}"),
        (None, Some(signal)) => format!("it was killed by signal {signal}"),
        (None, None) => "it failed".to_owned(),
    }
}

fn said(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" and said: {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, limit: Duration) -> Result<Zeroizing<Vec<u8>>, CommandError> {
        run_within(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], limit)
    }

    #[test]
    fn its_output_is_the_secret() {
        assert_eq!(&**sh("echo hunter2", DEADLINE).unwrap(), b"hunter2\n");
        let words = ["printf".to_owned(), "%s".to_owned(), "$(id); a".to_owned()];
        assert_eq!(&**run(&words).unwrap(), b"$(id); a");
    }

    #[test]
    fn a_failure_says_why_and_never_what_it_printed() {
        let error =
            sh("echo hunter2; printf 'no \\033[2Jway' >&2; exit 3", DEADLINE).unwrap_err().to_string();
        assert_eq!(error, "it ended with 3 and said: no \\u{1b}[2Jway");
        assert_eq!(sh("kill -9 $$", DEADLINE).unwrap_err().to_string(), "it was killed by signal 9");
        let missing = run(&["/no/such/program".to_owned()]);
        assert!(matches!(missing, Err(CommandError::Start(_))));
        assert!(matches!(run(&[]), Err(CommandError::Empty)));
    }

    #[test]
    fn a_slow_or_endless_command_is_killed_with_its_children() {
        let limit = Duration::from_millis(300);
        let begin = Instant::now();
        assert!(matches!(sh("sleep 60 & wait", limit), Err(CommandError::Slow(_))));
        assert!(matches!(sh("exec >&-; sleep 60", limit), Err(CommandError::Slow(_))));
        assert!(matches!(sh("yes", DEADLINE), Err(CommandError::TooMuch)));
        assert!(begin.elapsed() < Duration::from_secs(8));
    }
}
