//! Running the built `certfleet` as a person or a timer would.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// What a run left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code; -1 when a signal ended it.
    pub(crate) code: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
}

impl Ran {
    /// Requires this exit code, or shows everything.
    pub(crate) fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    /// Standard output as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out)
            .unwrap_or_else(|error| panic!("not JSON ({error}):\n{}\n{}", self.out, self.err))
    }

    /// Requires a text in standard error.
    pub(crate) fn said(self, text: &str) -> Self {
        assert!(self.err.contains(text), "{text:?} is not in:\n{}", self.err);
        self
    }

    /// Requires a text in standard output.
    pub(crate) fn printed(self, text: &str) -> Self {
        assert!(self.out.contains(text), "{text:?} is not in:\n{}", self.out);
        self
    }
}

/// The command, not started.
pub(crate) fn command(config: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_certfleet"));
    command
        .arg("--config")
        .arg(config)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command.env_remove("CERTFLEET_CONFIG").env_remove("STATE_DIRECTORY").env_remove("RUST_LOG");
    command
}

/// Runs it to its end.
pub(crate) fn certfleet(config: &Path, args: &[&str]) -> Ran {
    let child = command(config, args).spawn().expect("the built binary starts");
    finish(child)
}

/// Waits for the end of one that was started.
pub(crate) fn finish(child: Child) -> Ran {
    let output = child.wait_with_output().expect("the process can be waited for");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
