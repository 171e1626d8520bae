//! Our own programs as children, run as they are run anywhere: the server, gateways, and the person's command line.

mod gateway;
mod server;

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process::bound_command;

pub use gateway::{Gateway, GatewayConfig};
pub use server::{Server, ServerSetup};

/// The folder with the built programs.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// Those in the folder of the running program; for a test, in the folder above.
    pub fn beside_me() -> Result<Self> {
        let mut folder = std::env::current_exe()?;
        folder.pop();
        if folder.ends_with("deps") {
            folder.pop();
        }
        Ok(Self(folder))
    }

    /// Those in that folder.
    pub fn in_folder(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The path of one of them.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.0.join(name);
        ensure!(path.exists(), "there is no {}; `make demo` and `make test` build it", path.display());
        Ok(path)
    }

    /// A command for one of them that dies with this process.
    pub fn command(&self, name: &str) -> Result<Command> {
        self.command_in(None, name)
    }

    /// The same inside a namespace.
    pub fn command_in(&self, namespace: Option<&str>, name: &str) -> Result<Command> {
        let path = self.path(name)?;
        let Some(namespace) = namespace else { return Ok(bound_command(path)) };
        let mut command = bound_command("ip");
        command.args(["netns", "exec", namespace]).arg(path);
        Ok(command)
    }
}

/// Runs a command to its end with that input.
pub fn output_of(mut command: Command, input: Option<&str>) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        writeln!(stdin, "{input}")?;
    }
    Ok(child.wait_with_output()?)
}

/// Writes a file that only its owner can read.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(writeln!(file, "{text}")?)
}
