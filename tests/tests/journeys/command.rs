//! Programs that people run, run to their end with a deadline.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::process::Command as Spawned;

/// No program of a test takes longer, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(150);

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Ended {
    /// Standard output as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Panics with what it said if it did not end well.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert!(self.status.success(), "{}: {}", self.status, self.err);
        self
    }
}

/// Runs it with that file, or nothing, as standard input.
pub(crate) async fn finish(mut command: Command, input: Stdio) -> Result<Ended> {
    command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let what = format!("{:?}", command.get_program());
    let mut command = Spawned::from(command);
    let output = command.kill_on_drop(true).output();
    let output = tokio::time::timeout(DEADLINE, output).await;
    let output = output.with_context(|| format!("{what} did not end within {DEADLINE:?}"))?;
    let output = output.with_context(|| format!("cannot run {what}"))?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Ended { status: output.status, out: output.stdout, err })
}

/// An answer that curl got.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) status: u16,
    /// The head as it came; names of HTTP/2 are in small letters.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Fetched {
    /// Of what `curl -i` printed. Heads of status 1xx are left out.
    pub(crate) fn parse(printed: &[u8]) -> Result<Self> {
        let mut rest = printed;
        loop {
            let end = rest.windows(4).position(|four| four == b"\r\n\r\n").context("no head")?;
            let head = String::from_utf8_lossy(&rest[..end]).into_owned();
            rest = &rest[end + 4..];
            let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
            if status >= 200 {
                return Ok(Self { status, head, body: rest.to_vec() });
            }
        }
    }

    /// A header, empty if it is not there.
    pub(crate) fn header<'a>(&'a self, name: &'a str) -> &'a str {
        self.headers(name).next().unwrap_or_default()
    }

    /// All headers of that name.
    pub(crate) fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
