//! Our real programs around a device: what is killed, stopped, measured and signalled.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::Value;
use tempfile::TempDir;

use crate::raw_stream::RawStream;
use crate::site::GATEWAY;

/// How long a gateway may take to come back: after several failures it waits up to half a minute between attempts.
pub(crate) const RETURN: Duration = Duration::from_secs(60);

/// A server and a gateway as programs.
pub(crate) struct World {
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
    pub(crate) config: GatewayConfig,
    /// A token of `admin`.
    pub(crate) token: String,
    pub(crate) binaries: Binaries,
    folder: TempDir,
}

impl World {
    /// Starts both, with the devices that are added to the configuration, and waits until the gateway is connected.
    pub(crate) async fn start(devices: impl FnOnce(GatewayConfig) -> GatewayConfig) -> Result<Self> {
        Self::start_with(|_, binaries| Ok(binaries.clone()), devices).await
    }

    /// The same with another program for the gateway: made in the world's folder, from what was built.
    pub(crate) async fn start_with(
        gateway: impl FnOnce(&Path, &Binaries) -> Result<Binaries>,
        devices: impl FnOnce(GatewayConfig) -> GatewayConfig,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("linkspan-journey-").tempdir()?;
        let binaries = Binaries::beside_me()?;
        let program = gateway(folder.path(), &binaries)?;
        let server = Server::start(&binaries, ServerSetup::new(&folder.path().join("server"))?).await?;
        let secret = server.add_gateway(GATEWAY)?;
        let url = format!("https://localhost:{}", server.address().port());
        let config = devices(GatewayConfig::new(GATEWAY, &secret, &url, &server.ca_file()));
        let gateway = Gateway::start(&program, &folder.path().join("gateway"), &config)?;
        let token = server.sign_in().await?;
        let world = Self { server, gateway, config, token, binaries, folder };
        world.wait_until_online(true).await?;
        Ok(world)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits until the server says that the gateway is, or is not, connected.
    pub(crate) async fn wait_until_online(&self, online: bool) -> Result<()> {
        let what = if online { "the gateway" } else { "the gateway's absence" };
        until(what, RETURN, async || {
            let gateway = self.seen().await?;
            ensure!(gateway["online"] == online, "{gateway}");
            Ok(())
        })
        .await
    }

    /// The gateway as the server sees it.
    pub(crate) async fn seen(&self) -> Result<Value> {
        let url = format!("{}/api/v1/gateways", self.server.console());
        let answer = self.server.https()?.get_api(&url, &self.token).await?;
        let list: Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
        Ok(list["gateways"][0].clone())
    }

    /// What a device's page says now: its status, its `Linkspan-Error`, its text.
    pub(crate) async fn page(&self, label: &str) -> Result<(u16, String, String)> {
        let url = format!("{}/", self.server.device(label));
        let answer = self.server.https()?.get_device(&url, &self.token).await?;
        Ok((answer.status.as_u16(), answer.header("linkspan-error").to_owned(), answer.text()))
    }

    /// Waits until a device's page answers with that.
    pub(crate) async fn wait_for_page(&self, label: &str, status: u16, text: &str) -> Result<()> {
        until(&format!("the page of {label}"), RETURN, async || {
            let page = self.page(label).await?;
            ensure!(page.0 == status && page.2.contains(text), "{page:?}");
            Ok(())
        })
        .await
    }

    /// A service as a raw stream.
    pub(crate) async fn stream(&self, device: &str, service: &str) -> Result<RawStream> {
        RawStream::open(&self.server.https()?, &self.server.console(), &self.token, device, service).await
    }

    /// What `linkspan-gateway status --json` says.
    pub(crate) fn status(&self) -> Result<Value> {
        status(&self.binaries, &self.gateway.config_file())
    }

    /// Waits until the gateway's log says that.
    pub(crate) async fn wait_for_word(&mut self, word: &str) -> Result<()> {
        let process = self.gateway.process();
        until(word, PATIENCE, async || {
            let said = process.output();
            ensure!(said.contains(word), "{said}");
            Ok(())
        })
        .await
    }
}

/// What `linkspan-gateway status --json` says of the gateway with that file.
pub(crate) fn status(binaries: &Binaries, config: &Path) -> Result<Value> {
    let output = binaries.command("linkspan-gateway")?.args(["status", "--json", "--config"]).arg(config).output()?;
    serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())
}
