//! dnsmasq as the DHCP server of a router's LAN, and clients that ask it for an address.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use crate::netns::{Namespace, run};
use crate::process::Process;

/// `dnsmasq` in a namespace.
#[derive(Debug)]
pub struct Dnsmasq {
    _process: Process,
    leases: PathBuf,
    /// What udhcpc runs when it has got a lease.
    script: PathBuf,
}

impl Dnsmasq {
    /// Gives addresses of that range on an interface.
    pub async fn start(folder: &Path, namespace: &Namespace, interface: &str, range: &str) -> Result<Self> {
        let leases = folder.join("dhcp.leases");
        let mut command = namespace.command("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--bind-interfaces", "--user=root"]);
        command.arg(format!("--interface={interface}")).arg(format!("--dhcp-range={range},2m"));
        command
            .arg(format!("--dhcp-leasefile={}", leases.display()))
            .arg("--log-facility=-")
            .arg("--dhcp-authoritative");
        let mut process = Process::start("dnsmasq", command, folder)?;
        let log = folder.join("dnsmasq.log");
        let ready = async || {
            let said = fs::read_to_string(&log)?;
            said.contains("DHCP, IP range").then_some(()).ok_or_else(|| anyhow!("not ready"))
        };
        process.until("dnsmasq", ready).await?;
        let script = folder.join("got-lease.sh");
        fs::write(
            &script,
            "#!/bin/sh\n[ \"$1\" = bound ] && ip address replace \"$ip/${mask:-24}\" dev \"$interface\"\nexit 0\n",
        )?;
        run(std::process::Command::new("chmod").arg("755").arg(&script))?;
        Ok(Self { _process: process, leases, script })
    }

    /// Where it keeps its leases.
    pub fn leases(&self) -> &Path {
        &self.leases
    }

    /// Has a machine ask for an address under that name, and tells which it got.
    pub fn ask(&self, namespace: &Namespace, interface: &str, name: &str) -> Result<Ipv4Addr> {
        let mut command = namespace.command("udhcpc");
        command.args([
            "-q",
            "-f",
            "-n",
            "-t",
            "10",
            "-T",
            "1",
            "-i",
            interface,
            "-x",
            &format!("hostname:{name}"),
            "-s",
        ]);
        run(command.arg(&self.script))?;
        let leases = fs::read_to_string(&self.leases)?;
        let lease = leases.lines().find(|line| line.split_whitespace().nth(3) == Some(name));
        let address = lease.and_then(|line| line.split_whitespace().nth(2)).context("there is no such lease")?;
        Ok(address.parse()?)
    }
}
