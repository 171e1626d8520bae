//! An HTTP proxy that asks for name and password, as stands between a site and the world: tinyproxy.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

use super::{free_port, loopback};
use crate::process::{Process, bound_command};
use crate::wait::accepts;

/// Who may use the proxy.
const USER: &str = "site12";
const PASSWORD: &str = "fe-rry";

/// tinyproxy on a port of the loopback; it lets CONNECT through to any port, for one name and password.
#[derive(Debug)]
pub struct Proxy {
    process: Process,
    port: u16,
}

impl Proxy {
    /// Starts it with its files in the folder.
    pub async fn start(folder: &Path) -> Result<Self> {
        let port = free_port()?;
        let config = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Connect\nBasicAuth {USER} {PASSWORD}\n"
        );
        let file = folder.join("tinyproxy.conf");
        fs::write(&file, config)?;
        let mut command = bound_command("tinyproxy");
        command.args(["-d", "-c"]).arg(&file);
        let mut process = Process::start("tinyproxy", command, folder)?;
        process.until("tinyproxy", async || accepts(loopback(port)).await).await?;
        Ok(Self { process, port })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        loopback(self.port)
    }

    /// As it is written in gateway.toml, name and password included.
    pub fn url(&self) -> String {
        format!("http://{USER}:{PASSWORD}@{}", self.address())
    }

    /// The same with a password that is not the right one.
    pub fn url_with_wrong_password(&self) -> String {
        format!("http://{USER}:wrong@{}", self.address())
    }

    /// Its process; what it printed says who was let through.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
