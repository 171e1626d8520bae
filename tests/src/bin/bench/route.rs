//! The ways to a device that are compared.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use linkspan_tests::netns::run;
use tokio::process::Command;

/// One way to a web page.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// As it stands in the table.
    pub(crate) name: &'static str,
    /// Scheme, host and port.
    pub(crate) origin: String,
    /// Where the host is.
    pub(crate) address: SocketAddr,
    /// A header that lets the request in, as `Name: value`.
    pub(crate) header: Option<String>,
    /// Whose certificates are trusted.
    pub(crate) ca_file: Option<PathBuf>,
}

impl Route {
    /// Plain HTTP to an address.
    pub(crate) fn plain(name: &'static str, address: SocketAddr) -> Self {
        Self { name, origin: format!("http://{address}"), address, header: None, ca_file: None }
    }

    /// HTTPS to an address; nobody looks at the certificate.
    pub(crate) fn secure(name: &'static str, address: SocketAddr) -> Self {
        Self { origin: format!("https://{address}"), ..Self::plain(name, address) }
    }

    /// A page of a device on our server, as a person's browser reaches it.
    pub(crate) fn linkspan(origin: String, address: SocketAddr, token: &str, ca_file: PathBuf) -> Self {
        let header = Some(format!("Linkspan-Authorization: Bearer {token}"));
        Self { name: "linkspan", origin, address, header, ca_file: Some(ca_file) }
    }

    /// wrk, which finds the host at its address whatever the machine's resolver thinks of the name.
    pub(crate) fn wrk(&self, folder: &Path) -> Result<Command> {
        let mut command = Command::new("wrk");
        if let Some(header) = &self.header {
            command.args(["-H", header]);
            let hosts = folder.join("hosts");
            std::fs::write(&hosts, format!("{} {}\n", self.address.ip(), self.host()))?;
            command.env("LD_PRELOAD", nss_wrapper()?).env("NSS_WRAPPER_HOSTS", hosts);
        }
        Ok(command)
    }

    /// curl, likewise.
    pub(crate) fn curl(&self) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "--noproxy", "*", "--http1.1"]);
        if let (Some(header), Some(ca_file)) = (&self.header, &self.ca_file) {
            command.args(["-H", header]).arg("--cacert").arg(ca_file);
            command.args(["--connect-to", &format!("::{}", self.address)]);
        }
        command
    }

    /// The host in the origin.
    pub(crate) fn host(&self) -> &str {
        let rest = self.origin.split_once("://").map_or(self.origin.as_str(), |(_, rest)| rest);
        rest.rsplit_once(':').map_or(rest, |(host, _)| host)
    }
}

fn nss_wrapper() -> Result<String> {
    let found = run(std::process::Command::new("sh").args(["-c", "ls /usr/lib/*/libnss_wrapper.so | head -n 1"]))?;
    ensure!(!found.trim().is_empty(), "libnss-wrapper is missing; tests/install.sh bench installs it");
    Ok(found.trim().to_owned())
}
