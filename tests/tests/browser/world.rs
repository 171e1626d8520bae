//! A server, a gateway with devices, and a browser in front.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use fantoccini::Locator;
use linkspan_tests::parts::Browser;
use linkspan_tests::programs::GatewayConfig;
use linkspan_tests::rig::{PASSWORD, Rig, RunningGateway};

/// Everything a person needs but their hands.
pub(crate) struct World {
    pub(crate) rig: Rig,
    pub(crate) browser: Browser,
    pub(crate) config: GatewayConfig,
    pub(crate) gateway: Option<RunningGateway>,
}

impl World {
    /// A server without gateways, and a browser that has never been there.
    pub(crate) async fn empty() -> Result<Self> {
        let rig = Rig::start().await?;
        let browser = Browser::start(&rig.subfolder("browser")?, true).await?;
        let config = rig.new_gateway("site12").await?;
        Ok(Self { rig, browser, config, gateway: None })
    }

    /// Lists devices with one page each, runs their gateway, and waits until the first can be reached.
    pub(crate) async fn run(&mut self, devices: &[(&str, SocketAddr)]) -> Result<()> {
        for (name, address) in devices {
            let config = self.config.clone();
            self.config = config.device(name, &format!("Device {name}"), &[("web", "http", *address)]);
        }
        self.gateway = Some(self.rig.run_gateway(&self.config)?);
        let (name, _) = devices.first().context("no devices")?;
        let token = self.rig.sign_in().await?;
        self.rig.wait_for_page(&format!("{}/", self.rig.device(name)), &token).await
    }

    /// Both at once.
    pub(crate) async fn start(devices: &[(&str, SocketAddr)]) -> Result<Self> {
        let mut world = Self::empty().await?;
        world.run(devices).await?;
        Ok(world)
    }

    /// Fills in the form to sign in that the browser shows, and sends it.
    pub(crate) async fn sign_in(&self) -> Result<()> {
        self.browser.shows("Sign in").await?;
        self.browser.fill("#name", "admin").await?;
        self.browser.fill("#password", PASSWORD).await?;
        self.browser.click("form button").await
    }

    /// Signs in on the console and opens the device's page.
    pub(crate) async fn open(&self, device: &str) -> Result<()> {
        let url = format!("{}/", self.rig.device(device));
        self.browser.open(&url).await?;
        if self.browser.page.find(Locator::Css("#password")).await.is_ok() {
            self.sign_in().await?;
        }
        self.browser.is_at(&url).await
    }

    /// Takes a picture, if pictures are wanted.
    pub(crate) async fn picture(&self, name: &str) -> Result<()> {
        if let Some(folder) = std::env::var_os("LINKSPAN_SCREENSHOTS").map(PathBuf::from) {
            std::fs::create_dir_all(&folder)?;
            let taken = self.browser.screenshot(name).await?;
            std::fs::copy(taken, folder.join(format!("{name}.png")))?;
        }
        Ok(())
    }

    /// The browser's cookie of that name on the page it shows, as the browser would send it.
    pub(crate) async fn cookie(&self, name: &str) -> Result<Cookie> {
        let found = self.browser.page.get_named_cookie(name).await.with_context(|| format!("no cookie {name}"))?;
        let domain = found.domain().unwrap_or_default().to_owned();
        Ok(Cookie { value: found.value().to_owned(), domain, hidden: found.http_only().unwrap_or_default() })
    }
}

/// A cookie as the browser keeps it.
pub(crate) struct Cookie {
    pub(crate) value: String,
    /// With a dot before it, it is sent to the hosts below too.
    pub(crate) domain: String,
    /// Whether scripts cannot see it.
    pub(crate) hidden: bool,
}
