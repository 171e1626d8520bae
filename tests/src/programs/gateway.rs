//! A gateway's configuration, and `linkspan-gateway run` with it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Binaries, write_private};
use crate::netns::Namespace;
use crate::process::Process;

/// What is written to gateway.toml.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    text: String,
    secret: String,
}

impl GatewayConfig {
    /// Who the gateway is, where its server is, and whose certificates it trusts.
    pub fn new(name: &str, secret: &str, server_url: &str, ca_file: &Path) -> Self {
        let text = format!(
            "[server]\nurl = \"{server_url}\"\nca_file = \"{}\"\n\n[identity]\nname = \"{name}\"\nsecret_file = \"gateway.secret\"\n",
            ca_file.display()
        );
        Self { text, secret: secret.to_owned() }
    }

    /// Goes out through an HTTP proxy.
    #[must_use]
    pub fn proxy(mut self, url: &str) -> Self {
        self.text = self.text.replacen("ca_file", &format!("proxy = \"{url}\"\nca_file"), 1);
        self
    }

    /// Lists a device: each service as name, kind, address. All are on the host of the first.
    #[must_use]
    pub fn device(mut self, name: &str, description: &str, services: &[(&str, &str, SocketAddr)]) -> Self {
        let host = services.first().map(|(_, _, address)| address.ip().to_string()).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ =
            write!(self.text, "\n[[device]]\nname = \"{name}\"\ndescription = \"{description}\"\nhost = \"{host}\"\n");
        for (service, kind, address) in services {
            let port = address.port();
            let _ = write!(
                self.text,
                "  [[device.service]]\n  name = \"{service}\"\n  kind = \"{kind}\"\n  port = {port}\n"
            );
        }
        self
    }

    /// Adds lines as they are: to the service, device or table that was written last.
    #[must_use]
    pub fn lines(mut self, lines: &str) -> Self {
        self.text.push_str(lines);
        self
    }

    /// The same with one text in place of another.
    #[must_use]
    pub fn replaced(&self, from: &str, to: &str) -> Self {
        Self { text: self.text.replace(from, to), secret: self.secret.clone() }
    }

    /// The whole text of gateway.toml.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes gateway.toml and the secret it names; returns the former's path.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        write_private(&folder.join("gateway.secret"), &self.secret)?;
        let path = folder.join("gateway.toml");
        fs::write(&path, &self.text)?;
        Ok(path)
    }
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    process: Process,
    binaries: Binaries,
    folder: PathBuf,
    place: Option<String>,
}

impl Gateway {
    /// Starts it with its files in the folder.
    pub fn start(binaries: &Binaries, folder: &Path, config: &GatewayConfig) -> Result<Self> {
        Self::start_in(None, binaries, folder, config)
    }

    /// Starts it in a namespace.
    pub fn start_in(
        place: Option<&Namespace>,
        binaries: &Binaries,
        folder: &Path,
        config: &GatewayConfig,
    ) -> Result<Self> {
        config.write(folder)?;
        let place = place.map(|namespace| namespace.name().to_owned());
        let process = run(place.as_deref(), binaries, folder)?;
        Ok(Self { process, binaries: binaries.clone(), folder: folder.to_owned(), place })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    /// Starts it again after its end.
    pub fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = run(self.place.as_deref(), &self.binaries, &self.folder)?;
        Ok(())
    }
}

fn run(place: Option<&str>, binaries: &Binaries, folder: &Path) -> Result<Process> {
    let mut command = binaries.command_in(place, "linkspan-gateway")?;
    command.args(["run", "--config"]).arg(folder.join("gateway.toml"));
    Process::start("linkspan-gateway", command, folder)
}
