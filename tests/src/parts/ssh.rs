//! OpenSSH's server with keys and users of its own, beside the one the machine may have.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::unistd::Uid;

use super::{free_port, loopback};
use crate::netns::run;
use crate::process::{Process, bound_command};
use crate::wait::accepts;

/// What somebody who logs in meets.
#[derive(Clone, Debug)]
pub enum Login {
    /// A shell of whoever runs the rig, and file transfer, as on any machine.
    Shell,
    /// One program instead of a shell, whatever is asked for, as a user that exists only for this server.
    Program {
        /// The user's name.
        user: String,
        /// A command line for bash.
        command: String,
    },
}

/// `sshd` on a port of the loopback. Only the generated key logs in.
#[derive(Debug)]
pub struct Sshd {
    process: Process,
    folder: PathBuf,
    user: String,
    port: u16,
}

impl Sshd {
    /// Starts it on a free port, with its files in the folder (made if missing).
    pub async fn start(folder: &Path, login: Login) -> Result<Self> {
        Self::start_on(folder, login, free_port()?).await
    }

    /// Starts it on that port.
    pub async fn start_on(folder: &Path, login: Login, port: u16) -> Result<Self> {
        private_folder(folder)?;
        let folder = folder.canonicalize()?;
        if Uid::effective().is_root() {
            // Where sshd locks itself in before a login; the Debian package makes it when the service starts.
            fs::create_dir_all("/run/sshd").context("cannot make /run/sshd")?;
        }
        for key in ["host-key", "key"] {
            generate_key(&folder.join(key))?;
        }
        fs::copy(folder.join("key.pub"), folder.join("authorized-keys"))?;
        let (user, mut command) = match &login {
            Login::Shell => (current_user()?, bound_command("/usr/sbin/sshd")),
            Login::Program { user, .. } => (user.clone(), with_user(&folder, user)?),
        };
        fs::write(folder.join("sshd.conf"), config(&folder, &login, port)?)?;
        command.arg("-D").arg("-e").arg("-f").arg(folder.join("sshd.conf"));
        let mut process = Process::start("sshd", command, &folder)?;
        process.until("sshd", async || accepts(loopback(port)).await).await?;
        Ok(Self { process, folder, user, port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// The private key that logs in.
    pub fn key(&self) -> PathBuf {
        self.folder.join("key")
    }

    /// Who logs in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// A line for a known-hosts file that vouches for its host key under that name.
    pub fn known_host(&self, name: &str) -> Result<String> {
        Ok(format!("{name} {}", fs::read_to_string(self.folder.join("host-key.pub"))?))
    }

    /// `ssh` or `scp` with this server's key and no files of the person who runs the rig; the caller adds the rest.
    pub fn client(&self, program: &str, name: &str) -> Result<Command> {
        let known = self.folder.join("known-hosts");
        fs::write(&known, self.known_host(name)?)?;
        let mut command = Command::new(program);
        command.args(["-F", "/dev/null", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
        command.args(["-o", "StrictHostKeyChecking=yes", "-o", &format!("HostKeyAlias={name}")]);
        command.args(["-o", &format!("UserKnownHostsFile=\"{}\"", known.display()), "-i"]).arg(self.key());
        Ok(command)
    }
}

fn config(folder: &Path, login: &Login, port: u16) -> Result<String> {
    let myself = current_user()?;
    let folder = folder.display();
    let mut text = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey \"{folder}/host-key\"\nPidFile none\nLogLevel VERBOSE\n\
         AuthenticationMethods publickey\nStrictModes no\nUsePAM no\n\
         PermitRootLogin prohibit-password\nUseDNS no\nPrintMotd no\nX11Forwarding no\nMaxStartups 100\n"
    );
    text += &match login {
        Login::Shell => format!("AuthorizedKeysFile \"{folder}/authorized-keys\"\nSubsystem sftp internal-sftp\n"),
        // The file is read by us, not by the user, who need not be able to look into the folder.
        Login::Program { user, command } => format!(
            "AuthorizedKeysFile none\nAuthorizedKeysCommand /bin/cat \"{folder}/authorized-keys\"\n\
             AuthorizedKeysCommandUser {myself}\nAllowUsers {user}\nDisableForwarding yes\nPermitUserRC no\n\
             ForceCommand {command}\n"
        ),
    };
    Ok(text)
}

/// sshd with one user more than the machine has, that nobody else sees: libnss-wrapper reads it from a file instead of
/// /etc/passwd. The user has the rights of `nobody` if the rig runs as root, else those of whoever runs it.
fn with_user(folder: &Path, user: &str) -> Result<Command> {
    let library = run(Command::new("sh")
        .args(["-c", "ls /usr/lib/*/libnss_wrapper.so /usr/lib/libnss_wrapper.so 2>/dev/null | head -n 1"]))?;
    anyhow::ensure!(!library.trim().is_empty(), "libnss-wrapper is missing; tests/install.sh demo installs it");
    let (uid, gid) = if Uid::effective().is_root() {
        (65534, 65534)
    } else {
        (Uid::current().as_raw(), nix::unistd::Gid::current().as_raw())
    };
    // The server looks itself up too (as root, and the user `sshd` it becomes before a login), so the others stay known.
    let mut passwd = fs::read_to_string("/etc/passwd")?;
    let own = passwd.lines().filter(|line| !line.starts_with(&format!("{user}:"))).collect::<Vec<_>>().join("\n");
    passwd = format!("{user}:x:{uid}:{gid}:{user}:/:/bin/bash\n{own}\n");
    fs::write(folder.join("passwd"), passwd)?;
    fs::copy("/etc/group", folder.join("group"))?;
    let mut command = bound_command("/usr/sbin/sshd");
    command.env("LD_PRELOAD", library.trim());
    command.env("NSS_WRAPPER_PASSWD", folder.join("passwd")).env("NSS_WRAPPER_GROUP", folder.join("group"));
    Ok(command)
}

fn private_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make {}", folder.display()))
}

fn generate_key(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "linkspan rig", "-f"]).arg(path))
        .map(drop)
}

fn current_user() -> Result<String> {
    Ok(run(Command::new("id").arg("-un"))?.trim().to_owned())
}
