//! Running `linkspan` as a person would, in a home of its own and with a deadline.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// No run of a test takes longer, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// A home directory that nobody else uses.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.0.path().join("config/linkspan/credentials.toml")
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// A command with a clean environment.
    pub(crate) fn linkspan(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
        command.args(args).env_clear().env("HOME", self.0.path()).env("TZ", "UTC");
        command.env("XDG_CONFIG_HOME", self.0.path().join("config")).current_dir(self.0.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        finish(self.linkspan(args).spawn().unwrap())
    }

    /// Runs it with this on standard input.
    pub(crate) fn run_with_input(&self, args: &[&str], input: &str) -> Ended {
        use std::io::Write as _;
        let mut child = self.linkspan(args).stdin(Stdio::piped()).spawn().unwrap();
        // It may end before it has read all, or anything.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        finish(child)
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Waits for the end, and kills what does not end.
pub(crate) fn finish(child: Child) -> Ended {
    let id = child.id();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let output: Output = match told.recv_timeout(DEADLINE) {
        Ok(output) => output.unwrap(),
        Err(_) => {
            let _ = Command::new("kill").args(["-9", &id.to_string()]).status();
            panic!("linkspan did not end within {DEADLINE:?}");
        }
    };
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
