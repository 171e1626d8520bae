//! A program of somebody else's, or of ours, as a child: its output goes to a file, and it ends with the value.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::wait;

/// A running child, leader of a process group of its own. It and its group are killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; standard output and error go to a file `NAME.log` in the folder.
    pub fn start(name: &str, mut command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| {
            let program = command.get_program().to_string_lossy();
            format!("cannot start {name} ({program}); tests/install.sh installs what is missing")
        })?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails with the last lines of its output if it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({status}):\n{}", self.name, last_lines(&self.output(), 20)),
        }
    }

    /// Waits until the question is answered, or the process has ended.
    pub async fn until<T, F>(&mut self, what: &str, mut ask: F) -> Result<T>
    where
        F: AsyncFnMut() -> Result<T>,
    {
        let answer = wait::until(what, wait::PATIENCE, async || match self.still_runs() {
            Ok(()) => ask().await.map(Ok),
            Err(ended) => Ok(Err(ended)),
        });
        let answer = answer.await;
        answer.with_context(|| format!("{} said:\n{}", self.name, last_lines(&self.output(), 20)))?
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(self.nix_pid()?, signal).with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Stops it (SIGSTOP), and waits until each of its threads has: the signal alone lets it finish what it is at.
    pub async fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        wait::until(&format!("{} to stop", self.name), wait::PATIENCE, async || {
            for thread in fs::read_dir(format!("/proc/{}/task", self.pid()))? {
                let stat = fs::read_to_string(thread?.path().join("stat"))?;
                // proc_pid_stat(5): the state is the field after the name in brackets, which may hold anything.
                let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
                anyhow::ensure!(state == Some("T"), "a thread is in state {state:?}");
            }
            Ok(())
        })
        .await
    }

    /// Kills it without a word, as a power cut does, and waits for its end.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            killpg(self.nix_pid()?, Signal::SIGKILL)?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// Asks it to end and waits for that.
    pub async fn stop(&mut self, deadline: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let what = format!("the end of {}", self.name);
        wait::until(&what, deadline, async || self.ended()?.ok_or_else(|| anyhow!("still running"))).await
    }

    fn nix_pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Helpers that the program itself started share its group; they go too, even if it ended before them.
        if let Ok(pid) = self.nix_pid() {
            let _ = killpg(pid, Signal::SIGKILL);
        }
        drop(self.child.wait());
    }
}

/// A command that dies when this process does, however that happens: `setpriv` asks the kernel for it.
pub fn bound_command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

/// The last lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
