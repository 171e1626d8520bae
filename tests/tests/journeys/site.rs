//! A server and one gateway in the test's process, with devices behind them, and the programs of the people in front.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use linkspan_server::config::Config;
use linkspan_tests::programs::GatewayConfig;
use linkspan_tests::rig::{Rig, RunningGateway};
use linkspan_tests::wait::{PATIENCE, until};

use crate::command::{Ended, Fetched, finish};
use crate::raw_stream::RawStream;

/// The gateway's name.
pub(crate) const GATEWAY: &str = "site12";

/// Where the journeys begin.
pub(crate) struct Site {
    pub(crate) rig: Rig,
    /// A token of `admin`.
    pub(crate) token: String,
    pub(crate) config: GatewayConfig,
    gateway: Option<RunningGateway>,
}

impl Site {
    /// Starts all, with the devices that are added to the gateway's configuration, and waits until they are online.
    pub(crate) async fn open(devices: impl FnOnce(GatewayConfig) -> GatewayConfig) -> Result<Self> {
        Self::open_with(|_| {}, devices).await
    }

    /// The same with changes to the server's configuration.
    pub(crate) async fn open_with(
        change: impl FnOnce(&mut Config),
        devices: impl FnOnce(GatewayConfig) -> GatewayConfig,
    ) -> Result<Self> {
        let rig = Rig::start_with(change).await?;
        let token = rig.sign_in().await?;
        let config = devices(rig.new_gateway(GATEWAY).await?);
        let gateway = Some(rig.run_gateway(&config)?);
        let site = Self { rig, token, config, gateway };
        let count = site.config.text().matches("[[device]]").count();
        site.wait_for_devices("all devices online", |devices| {
            devices.len() == count && devices.iter().all(|device| device["online"] == true)
        })
        .await?;
        Ok(site)
    }

    /// Waits until the API's list of devices is as wanted.
    pub(crate) async fn wait_for_devices(
        &self,
        what: &str,
        wanted: impl Fn(&[serde_json::Value]) -> bool,
    ) -> Result<()> {
        let (https, url) = (self.rig.https()?, format!("{}/api/v1/devices", self.rig.console()));
        until(what, PATIENCE, async || {
            let answer = https.get_api(&url, &self.token).await?;
            let list: serde_json::Value = serde_json::from_slice(&answer.body)?;
            let devices = list["devices"].as_array().context("no list")?;
            ensure!(wanted(devices), "{}", answer.text());
            Ok(())
        })
        .await
    }

    /// Ends the gateway in good order.
    pub(crate) async fn stop_gateway(&mut self) -> Result<()> {
        self.gateway.take().context("the gateway was stopped before")?.stop().await
    }

    /// The URL of something on a device's page.
    pub(crate) fn url(&self, label: &str, path: &str) -> String {
        format!("{}{path}", self.rig.device(label))
    }

    /// `curl` as `admin`, to its end.
    pub(crate) async fn curl(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = self.rig.curl(&self.token);
        command.args(arguments);
        finish(command, Stdio::null()).await
    }

    /// An answer as `admin` gets it by `curl`.
    pub(crate) async fn fetch(&self, arguments: &[&str]) -> Result<Fetched> {
        let mut all = vec!["-i"];
        all.extend(arguments);
        let ended = self.curl(&all).await?;
        ensure!(ended.status.success(), "curl: {}: {}", ended.status, ended.err);
        Fetched::parse(&ended.out)
    }

    /// `linkspan` as `admin`.
    pub(crate) fn linkspan(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.rig.client(&self.token)?;
        command.args(arguments);
        Ok(command)
    }

    /// A service as a raw stream.
    pub(crate) async fn stream(&self, device: &str, service: &str) -> Result<RawStream> {
        RawStream::open(&self.rig.https()?, &self.rig.console(), &self.token, device, service).await
    }

    /// The folder for the test's files.
    pub(crate) fn folder(&self) -> &Path {
        self.rig.folder()
    }
}
