//! A router with a LAN, in namespaces: a bridge as on OpenWrt, and machines at it.

use std::path::Path;

use anyhow::Result;
use linkspan_tests::netns::{Namespace, ip};
use linkspan_tests::programs::{Binaries, output_of};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Lan {
    pub(crate) folder: TempDir,
    pub(crate) router: Namespace,
    pub(crate) binaries: Binaries,
}

impl Lan {
    /// A bridge `br-lan` with 192.168.8.1 and fd08::1.
    pub(crate) fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("linkspan-lan-").tempdir()?;
        let router = machine("router")?;
        let name = router.name();
        ip(&["-n", name, "link", "add", "br-lan", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"])?;
        ip(&["-n", name, "address", "add", "192.168.8.1/24", "dev", "br-lan"])?;
        ip(&["-n", name, "address", "add", "fd08::1/64", "dev", "br-lan", "nodad"])?;
        ip(&["-n", name, "link", "set", "br-lan", "up"])?;
        Ok(Self { folder, router, binaries: Binaries::beside_me()? })
    }

    /// A machine on the LAN, with that number as the end of its Ethernet address, and these addresses.
    pub(crate) fn machine(&self, number: u8, addresses: &[&str]) -> Result<Namespace> {
        self.machine_of(&format!("02:4c:53:00:00:{number:02x}"), number, addresses)
    }

    /// A machine with that Ethernet address.
    pub(crate) fn machine_of(&self, mac: &str, number: u8, addresses: &[&str]) -> Result<Namespace> {
        let machine = machine("machine")?;
        let port = format!("port{number}");
        let peer = ["type", "veth", "peer", "name", &port, "netns", self.router.name()];
        ip(&[&["-n", machine.name(), "link", "add", "eth0", "address", mac][..], &peer[..]].concat())?;
        ip(&["-n", self.router.name(), "link", "set", &port, "master", "br-lan", "up"])?;
        ip(&["-n", machine.name(), "link", "set", "eth0", "up"])?;
        for address in addresses {
            let six: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
            ip(&[&["-n", machine.name(), "address", "add", address, "dev", "eth0"][..], six].concat())?;
        }
        Ok(machine)
    }

    /// `linkspan-gateway discover` on the router, with that configuration, and a closer look at those targets.
    pub(crate) fn discover(&self, config: &str, wait: u32, targets: &[&str]) -> Result<Value> {
        let file = self.folder.path().join("gateway.toml");
        std::fs::write(&file, config)?;
        let mut command = self.binaries.command_in(Some(self.router.name()), "linkspan-gateway")?;
        command.args(["discover", "--json", "--wait", &wait.to_string(), "--config"]).arg(&file);
        for target in targets {
            command.args(["--identify", target]);
        }
        let output = output_of(command, None)?;
        let said = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "{}: {said}", output.status);
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// A folder for the files of a part.
    pub(crate) fn subfolder(&self, name: &str) -> Result<std::path::PathBuf> {
        let path: &Path = self.folder.path();
        let path = path.join(name);
        std::fs::create_dir_all(&path)?;
        Ok(path)
    }
}

/// Addresses count at once: nobody else has them.
fn machine(word: &str) -> Result<Namespace> {
    let machine = Namespace::new(word)?;
    for key in ["all", "default"] {
        let setting = format!("net.ipv6.conf.{key}.accept_dad=0");
        linkspan_tests::netns::run(machine.command("sysctl").args(["-qw", &setting]))?;
    }
    Ok(machine)
}

/// The device of that name.
pub(crate) fn device<'a>(found: &'a Value, name: &str) -> &'a Value {
    let devices = found["devices"].as_array().unwrap();
    let named = |device: &&Value| device["names"].as_array().is_some_and(|names| names.iter().any(|one| one == name));
    devices.iter().find(named).unwrap_or_else(|| panic!("no {name}: {found:#}"))
}

/// The device at that address.
pub(crate) fn at<'a>(found: &'a Value, address: &str) -> &'a Value {
    let devices = found["devices"].as_array().unwrap();
    let there =
        |device: &&Value| device["addresses"].as_array().is_some_and(|all| all.iter().any(|one| one == address));
    devices.iter().find(there).unwrap_or_else(|| panic!("nothing at {address}: {found:#}"))
}
