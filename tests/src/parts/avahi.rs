//! Avahi in a namespace: a machine on a LAN that answers for `NAME.local` (RFC 6762).

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::netns::Namespace;
use crate::process::Process;

/// `avahi-daemon`, the host of its namespace.
#[derive(Debug)]
pub struct Avahi {
    process: Process,
}

impl Avahi {
    /// Starts it as the host `NAME.local` and waits until it has found nobody else of that name.
    pub async fn start(folder: &Path, namespace: &Namespace, host: &str) -> Result<Self> {
        let config = format!(
            "[server]\nhost-name={host}\nuse-ipv4=yes\nuse-ipv6=no\nenable-dbus=no\ndisallow-other-stacks=no\n\
             [publish]\npublish-workstation=no\npublish-hinfo=no\n[rlimits]\n"
        );
        let file = folder.join("avahi.conf");
        fs::write(&file, config)?;
        // Its pid file has one fixed place on the machine: each daemon gets a /run of its own to write it to.
        let mut command = namespace.command("unshare");
        let start = "mount -t tmpfs tmpfs /run && exec avahi-daemon -f \"$0\" --no-drop-root --no-chroot --no-rlimits";
        command.args(["--mount", "sh", "-c", start]).arg(&file);
        let mut process = Process::start("avahi", command, folder)?;
        let log = folder.join("avahi.log");
        let ready = async || {
            let said = fs::read_to_string(&log)?;
            said.contains("startup complete").then_some(()).ok_or_else(|| anyhow!("not ready"))
        };
        process.until("avahi-daemon", ready).await?;
        Ok(Self { process })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
