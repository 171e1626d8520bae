//! The two programs of ours that the demo runs, watched over and ended in order.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use linkspan_tests::parts::loopback;
use linkspan_tests::process::{Process, last_lines};
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup, write_private};

use crate::site::Site;

/// Time for a program to end by itself.
const DRAIN: Duration = Duration::from_secs(15);
/// A program that ends more often within a minute is not started again.
const RESTARTS_MAX: usize = 5;

/// Server and gateway with their files.
pub(crate) struct Programs {
    pub(crate) dir: PathBuf,
    pub(crate) binaries: Binaries,
    pub(crate) server: Server,
    gateway: Option<Gateway>,
    restarts: Vec<Instant>,
    _lock: File,
}

impl Programs {
    /// Makes the folder and starts the server, and only that.
    pub(crate) async fn start(dir: &Path, port: u16, http_port: u16) -> Result<Self> {
        ensure!(port != http_port, "--port and --http-port are both {port}; each needs a port of its own");
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
        let lock = File::create(dir.join("demo.lock"))?;
        let busy = || format!("another demo uses {}; choose another folder with --dir", dir.display());
        lock.try_lock().with_context(busy)?;
        let binaries = Binaries::beside_me()?;
        for name in ["linkspan-server", "linkspan-gateway", "linkspan"] {
            binaries.path(name)?;
        }
        let server = Server::start(&binaries, ServerSetup::on_ports(&dir, port, http_port)).await?;
        Ok(Self { dir, binaries, server, gateway: None, restarts: Vec::new(), _lock: lock })
    }

    pub(crate) fn start_gateway(&mut self, site: &Site) -> Result<()> {
        let file = self.dir.join("site").join("gateway.secret");
        let secret = match fs::read_to_string(&file) {
            Ok(secret) => secret.trim().to_owned(),
            Err(_) => self.server.add_gateway("demo")?,
        };
        let url = format!("https://localhost:{}", self.server.address().port());
        let config = site.list(GatewayConfig::new("demo", &secret, &url, &self.server.ca_file()));
        self.gateway = Some(Gateway::start(&self.binaries, &self.dir.join("site"), &config)?);
        Ok(())
    }

    /// Signs in as a person does, and waits until each device shows its page.
    pub(crate) async fn wait_until_reachable(&mut self) -> Result<()> {
        let https = self.server.https()?;
        let token = self.server.sign_in().await?;
        write_private(&self.dir.join("token"), &token)?;
        let gateway = self.gateway.as_mut().context("the gateway is not started")?;
        for name in ["plc1", "cam1"] {
            let url = format!("{}/", self.server.device(name));
            let ask = async || {
                let answer = https.get_device(&url, &token).await?;
                ensure!(answer.status.as_u16() < 400, "{url}: {}", answer.status);
                Ok(())
            };
            gateway.process().until(&format!("the page of {name}"), ask).await?;
        }
        Ok(())
    }

    /// Watches both programs; one that ends is reported and started again. Returns when that no longer helps.
    pub(crate) async fn keep_running(&mut self) -> Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_millis(300));
        loop {
            ticks.tick().await;
            if report_end("linkspan-server", self.server.process())? {
                self.count_restart("linkspan-server")?;
                self.server.restart().await?;
            }
            let Some(gateway) = &mut self.gateway else { continue };
            if report_end("linkspan-gateway", gateway.process())? {
                gateway.restart()?;
                self.count_restart("linkspan-gateway")?;
            }
        }
    }

    /// Asks both to end, the gateway first, and insists after a while.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        if let Some(gateway) = &mut self.gateway {
            stop("linkspan-gateway", gateway.process()).await?;
        }
        stop("linkspan-server", self.server.process()).await
    }

    fn count_restart(&mut self, name: &str) -> Result<()> {
        let now = Instant::now();
        self.restarts.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        self.restarts.push(now);
        ensure!(self.restarts.len() <= RESTARTS_MAX, "{name} ends again and again; giving up");
        eprintln!("linkspan-demo: started {name} again");
        Ok(())
    }
}

fn report_end(name: &str, process: &mut Process) -> Result<bool> {
    let Some(status) = process.ended()? else { return Ok(false) };
    eprintln!("linkspan-demo: {name} ended ({status}); its last words:\n{}", last_lines(&process.output(), 5));
    Ok(true)
}

async fn stop(name: &str, process: &mut Process) -> Result<()> {
    if process.ended()?.is_none() && process.stop(DRAIN).await.is_err() {
        eprintln!("linkspan-demo: {name} did not end within {DRAIN:?}; killing it");
        process.kill()?;
    }
    Ok(())
}
