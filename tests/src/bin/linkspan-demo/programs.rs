//! The two programs of ours that the demo runs, as they are run anywhere: the server and the gateway.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use linkspan_tests::https::Https;
use linkspan_tests::parts::loopback;
use linkspan_tests::process::{Process, bound_command, last_lines};

use crate::site::Site;

/// The port that `linkspan-server run --dev` listens on.
pub(crate) const HTTPS_PORT: u16 = 8443;
/// The port that it redirects from.
pub(crate) const HTTP_PORT: u16 = 8080;
/// Time for a program to end by itself.
const DRAIN: Duration = Duration::from_secs(15);
/// A program that ends as often within a minute is not started again.
const RESTARTS_MAX: usize = 5;

/// Server and gateway with their files.
pub(crate) struct Programs {
    dir: PathBuf,
    port: u16,
    http_port: u16,
    server: Option<Process>,
    gateway: Option<Process>,
    token: String,
}

/// When programs had to be started again.
#[derive(Default)]
pub(crate) struct Restarts(Vec<Instant>);

impl Programs {
    pub(crate) fn new(dir: &Path, port: u16, http_port: u16) -> Result<Self> {
        for (port, option) in [(port, "--port"), (http_port, "--http-port")] {
            if let Err(error) = TcpListener::bind(loopback(port)) {
                bail!(
                    "port {port} cannot be used ({error}); is another demo running? Choose another port with {option}"
                );
            }
        }
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.with_context(|| format!("cannot make {}; choose another folder with --dir", dir.display()))?;
        let dir = dir.canonicalize()?;
        Ok(Self { dir, port, http_port, server: None, gateway: None, token: String::new() })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn console(&self) -> String {
        format!("https://linkspan.localhost:{}", self.port)
    }

    pub(crate) fn device(&self, name: &str) -> String {
        format!("https://{name}.devices.localhost:{}", self.port)
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    pub(crate) fn password_file(&self) -> PathBuf {
        self.dir.join("admin-password")
    }

    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    pub(crate) async fn start_server(&mut self) -> Result<()> {
        if !self.is_dev() {
            self.write_server_config()?;
        }
        self.run_server()?;
        self.wait_for_server().await
    }

    pub(crate) async fn start_gateway(&mut self, site: &Site) -> Result<()> {
        let secret = self.dir.join("gateway.secret");
        if !secret.exists() {
            let added = self.ask_server(&["gateway", "add", "demo", "--secret"], None)?;
            write_private(&secret, added.trim())?;
        }
        fs::write(self.dir.join("gateway.toml"), site.gateway_config(self.port))?;
        self.run_gateway()
    }

    /// Signs in as a person does, and waits until each device shows its page.
    pub(crate) async fn wait_until_reachable(&mut self, site: &Site) -> Result<()> {
        let https = Https::new(&self.ca_file(), loopback(self.port))?;
        let password = fs::read_to_string(self.password_file()).context("cannot read the password of admin")?;
        self.token = https.sign_in(&self.console(), "admin", password.trim()).await?;
        write_private(&self.dir.join("token"), &self.token)?;
        let pages = ["plc1", "cam1"].map(|name| (format!("{}/", self.device(name)), name));
        let (token, gateway) = (self.token.clone(), self.gateway.as_mut().context("the gateway is not started")?);
        for (url, name) in pages {
            let ask = async || {
                let answer = https.get_device(&url, &token).await?;
                ensure!(answer.status.as_u16() < 400, "{url}: {}", answer.status);
                Ok(())
            };
            gateway.until(&format!("the page of {name}"), ask).await?;
        }
        if let Some(sshd) = &site.ssh {
            let config = crate::tell::ssh_config(self, sshd)?;
            write_private(&self.dir.join("ssh_config"), &config)?;
        }
        Ok(())
    }

    /// Watches both programs; one that ends is reported and started again. Returns when that no longer helps.
    pub(crate) async fn keep_running(&mut self, restarts: &mut Restarts) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        loop {
            ticks.tick().await;
            for name in ["linkspan-server", "linkspan-gateway"] {
                let process = if name == "linkspan-server" { &mut self.server } else { &mut self.gateway };
                let Some((status, output)) = ended(process)? else { continue };
                eprintln!("linkspan-demo: {name} ended ({status}); its last words:\n{}", last_lines(&output, 5));
                restarts.count(name)?;
                eprintln!("linkspan-demo: starting {name} again");
                if name == "linkspan-server" { self.run_server()? } else { self.run_gateway()? }
            }
        }
    }

    /// Asks both to end, the gateway first, and insists after a while.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        for (name, process) in [("linkspan-gateway", self.gateway.take()), ("linkspan-server", self.server.take())] {
            let Some(mut process) = process else { continue };
            if process.stop(DRAIN).await.is_err() {
                eprintln!("linkspan-demo: {name} did not end within {DRAIN:?}; killing it");
                process.kill()?;
            }
        }
        Ok(())
    }

    fn is_dev(&self) -> bool {
        (self.port, self.http_port) == (HTTPS_PORT, HTTP_PORT)
    }

    /// How the server's commands find its files: `--dev` where the ports are its own choice.
    fn server_files(&self) -> [String; 2] {
        match self.is_dev() {
            true => ["--dev".to_owned(), self.dir.display().to_string()],
            false => ["--config".to_owned(), self.dir.join("server.toml").display().to_string()],
        }
    }

    fn write_server_config(&self) -> Result<()> {
        let (port, http_port) = (self.port, self.http_port);
        let config = format!(
            "state_dir = \".\"\n[listen]\nhttps = \"127.0.0.1:{port}\"\nhttp = \"127.0.0.1:{http_port}\"\n\
             [site]\nconsole = \"linkspan.localhost\"\nzone = \"devices.localhost\"\n[tls]\nself_signed = true\n"
        );
        fs::write(self.dir.join("server.toml"), config)?;
        if !self.password_file().exists() {
            let password = format!("{:020x}", rand::random::<u128>() >> 48);
            self.ask_server(&["user", "add", "admin", "--role", "admin", "--password-stdin"], Some(&password))?;
            write_private(&self.password_file(), &password)?;
        }
        Ok(())
    }

    fn run_server(&mut self) -> Result<()> {
        let mut command = bound_command(beside("linkspan-server")?);
        command.arg("run").args(self.server_files());
        self.server = Some(Process::start("linkspan-server", command, &self.dir)?);
        Ok(())
    }

    fn run_gateway(&mut self) -> Result<()> {
        let mut command = bound_command(beside("linkspan-gateway")?);
        command.args(["run", "--config"]).arg(self.dir.join("gateway.toml"));
        self.gateway = Some(Process::start("linkspan-gateway", command, &self.dir)?);
        Ok(())
    }

    async fn wait_for_server(&mut self) -> Result<()> {
        let (ca_file, url, address) = (self.ca_file(), format!("{}/readyz", self.console()), loopback(self.port));
        let password_file = self.password_file();
        let server = self.server.as_mut().context("the server is not started")?;
        let ask = async || {
            let answer = Https::new(&ca_file, address)?.get(&url).await?;
            ensure!(answer.status.is_success(), "{}: {}", answer.status, answer.text());
            ensure!(password_file.exists(), "{} is not there yet", password_file.display());
            Ok(())
        };
        server.until("the server", ask).await
    }

    /// Runs a command of linkspan-server to its end; what it prints is the answer.
    fn ask_server(&self, words: &[&str], input: Option<&str>) -> Result<String> {
        let mut command = Command::new(beside("linkspan-server")?);
        command.args(words).args(self.server_files());
        let Output { status, stdout, stderr } = output_of(command, input)?;
        let said = String::from_utf8_lossy(&stderr);
        ensure!(status.success(), "linkspan-server {} failed ({status}): {}", words.join(" "), said.trim());
        Ok(String::from_utf8(stdout)?)
    }
}

impl Restarts {
    fn count(&mut self, name: &str) -> Result<()> {
        let now = Instant::now();
        self.0.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        self.0.push(now);
        ensure!(self.0.len() <= RESTARTS_MAX, "{name} ends again and again; giving up");
        Ok(())
    }
}

fn ended(process: &mut Option<Process>) -> Result<Option<(std::process::ExitStatus, String)>> {
    let Some(process) = process else { return Ok(None) };
    Ok(process.ended()?.map(|status| (status, process.output())))
}

/// A program of ours in the folder of this one.
pub(crate) fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "there is no {}; `make demo` builds it", path.display());
    Ok(path)
}

fn output_of(mut command: Command, input: Option<&str>) -> Result<Output> {
    use std::io::Write;
    use std::process::Stdio;
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        writeln!(stdin, "{input}")?;
    }
    Ok(child.wait_with_output()?)
}

/// Writes a file that only its owner can read.
fn write_private(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    let file = fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("cannot write {}", path.display()))?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(writeln!(file, "{text}")?)
}
