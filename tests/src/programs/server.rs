//! `linkspan-server` with a folder and ports of its own.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context, Result, anyhow, ensure};

use super::{Binaries, output_of};
use crate::https::Https;
use crate::netns::Namespace;
use crate::parts::{free_port, loopback};
use crate::process::Process;

/// The ports of `run --dev` where nothing else is asked for.
const DEV_PORTS: (u16, u16) = (8443, 8080);

/// Where a server listens and keeps its files.
#[derive(Clone, Debug)]
pub struct ServerSetup {
    /// Its state, its log, its authority.
    pub folder: PathBuf,
    /// HTTPS.
    pub https: SocketAddr,
    /// HTTP, redirected.
    pub http: SocketAddr,
    /// The namespace to run in.
    pub place: Option<String>,
    /// What it logs, if it is not the usual.
    pub log: Option<&'static str>,
    /// What its server.toml says besides names and places; without it there is no such file, and it starts with `--dev`.
    pub config: Option<&'static str>,
}

impl ServerSetup {
    /// Free ports of the loopback.
    pub fn new(folder: &Path) -> Result<Self> {
        Ok(Self::on_ports(folder, free_port()?, free_port()?))
    }

    /// Those ports of the loopback.
    pub fn on_ports(folder: &Path, https: u16, http: u16) -> Self {
        Self {
            folder: folder.to_owned(),
            https: loopback(https),
            http: loopback(http),
            place: None,
            log: None,
            config: None,
        }
    }

    /// In a namespace, at an address of it; HTTP is one port above.
    pub fn inside(folder: &Path, namespace: &Namespace, https: SocketAddr) -> Self {
        let http = SocketAddr::new(https.ip(), https.port().wrapping_add(1));
        Self {
            folder: folder.to_owned(),
            https,
            http,
            place: Some(namespace.name().to_owned()),
            log: None,
            config: None,
        }
    }

    /// Logs so much.
    #[must_use]
    pub fn saying(self, log: &'static str) -> Self {
        Self { log: Some(log), ..self }
    }

    /// With a server.toml that says this too, and without a user `admin`.
    #[must_use]
    pub fn configured(self, config: &'static str) -> Self {
        Self { config: Some(config), ..self }
    }

    fn config_file(&self) -> PathBuf {
        self.folder.join("server.toml")
    }

    fn write(&self) -> Result<()> {
        fs::create_dir_all(&self.folder)?;
        let Some(config) = self.config else { return Ok(()) };
        let text = format!(
            "state_dir = \".\"\n[listen]\nhttps = \"{}\"\nhttp = \"{}\"\n[site]\nconsole = \"linkspan.localhost\"\n\
             zone = \"devices.localhost\"\n[tls]\nself_signed = true\n{config}",
            self.https, self.http
        );
        Ok(fs::write(self.config_file(), text)?)
    }

    /// What every command of the server needs to find its files, and what `run` listens at.
    fn arguments(&self) -> Vec<OsString> {
        if self.config.is_some() {
            return vec!["--config".into(), self.config_file().into_os_string()];
        }
        let mut arguments = vec!["--dev".into(), self.folder.clone().into_os_string()];
        if (self.https, self.http) != (loopback(DEV_PORTS.0), loopback(DEV_PORTS.1)) {
            for (option, address) in [("--listen-https", self.https), ("--listen-http", self.http)] {
                arguments.extend([option.into(), address.to_string().into()]);
            }
        }
        arguments
    }
}

/// A running server. Its console is `linkspan.localhost`, its zone `devices.localhost`, its certificates its own.
#[derive(Debug)]
pub struct Server {
    setup: ServerSetup,
    binaries: Binaries,
    process: Process,
}

impl Server {
    /// Starts it with `--dev`, which makes a user `admin` with a password in the folder, and waits until it is ready.
    pub async fn start(binaries: &Binaries, setup: ServerSetup) -> Result<Self> {
        setup.write()?;
        let process = run(binaries, &setup)?;
        let mut server = Self { setup, binaries: binaries.clone(), process };
        server.wait_until_ready().await?;
        Ok(server)
    }

    /// The console's origin.
    pub fn console(&self) -> String {
        format!("https://linkspan.localhost:{}", self.setup.https.port())
    }

    /// The origin of a device's page; the label is `DEVICE` or `DEVICE--SERVICE`.
    pub fn device(&self, label: &str) -> String {
        format!("https://{label}.devices.localhost:{}", self.setup.https.port())
    }

    /// Where it listens for HTTPS.
    pub fn address(&self) -> SocketAddr {
        self.setup.https
    }

    /// The certificate of its own authority.
    pub fn ca_file(&self) -> PathBuf {
        self.setup.folder.join("ca.pem")
    }

    /// The file with the password of `admin`.
    pub fn password_file(&self) -> PathBuf {
        self.setup.folder.join("admin-password")
    }

    /// The password of `admin`.
    pub fn password(&self) -> Result<String> {
        Ok(fs::read_to_string(self.password_file()).context("cannot read the password of admin")?.trim().to_owned())
    }

    /// A client that finds all its hosts.
    pub fn https(&self) -> Result<Https> {
        Https::new(&self.ca_file(), self.setup.https)
    }

    /// A token of `admin`.
    pub async fn sign_in(&self) -> Result<String> {
        self.https()?.sign_in(&self.console(), "admin", &self.password()?).await
    }

    /// Adds a gateway and returns its shared secret.
    pub fn add_gateway(&self, name: &str) -> Result<String> {
        Ok(self.ask(&["gateway", "add", name, "--secret"], None)?.trim().to_owned())
    }

    /// Runs one of its commands beside it; what that prints on standard output is the answer.
    pub fn ask(&self, words: &[&str], input: Option<&str>) -> Result<String> {
        ask(&self.binaries, &self.setup, words, input)
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again with the same files and ports; one that still runs is killed before.
    pub async fn restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process = run(&self.binaries, &self.setup)?;
        self.wait_until_ready().await
    }

    async fn wait_until_ready(&mut self) -> Result<()> {
        let url = format!("{}/readyz", self.console());
        let (ca_file, password_file, address) = (self.ca_file(), self.password_file(), self.setup.https);
        let (place, makes_admin) = (self.setup.place.clone(), self.setup.config.is_none());
        let ask = async || {
            ensure!(!makes_admin || password_file.exists(), "{} is not there yet", password_file.display());
            if place.is_some() {
                // From here the namespace cannot be reached: what the process says must do.
                return ca_file.exists().then_some(()).ok_or_else(|| anyhow!("no {} yet", ca_file.display()));
            }
            let answer = Https::new(&ca_file, address)?.get(&url).await?;
            ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text());
            Ok(())
        };
        self.process.until("the server", ask).await
    }
}

fn run(binaries: &Binaries, setup: &ServerSetup) -> Result<Process> {
    let mut command = binaries.command_in(setup.place.as_deref(), "linkspan-server")?;
    command.arg("run").args(setup.arguments());
    if let Some(log) = setup.log {
        command.args(["--log", log]);
    }
    Process::start("linkspan-server", command, &setup.folder)
}

fn ask(binaries: &Binaries, setup: &ServerSetup, words: &[&str], input: Option<&str>) -> Result<String> {
    let mut command = binaries.command("linkspan-server")?;
    command.args(words).args(setup.arguments());
    let Output { status, stdout, stderr } = output_of(command, input)?;
    let said = String::from_utf8_lossy(&stderr);
    ensure!(status.success(), "linkspan-server {} failed ({status}): {}", words.join(" "), said.trim());
    Ok(String::from_utf8(stdout)?)
}
