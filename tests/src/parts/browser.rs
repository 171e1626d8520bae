//! Chromium without a window, driven through chromedriver (W3C WebDriver).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

use super::{free_port, loopback};
use crate::process::{Process, bound_command};
use crate::wait::{PATIENCE, accepts, until};

/// What a page is looked at on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    /// Whether the person prefers light letters on a dark ground.
    pub dark: bool,
}

/// A browser with a fresh profile. It resolves every name under `localhost` to the loopback by itself.
#[derive(Debug)]
pub struct Browser {
    /// The page, and all that can be done with it.
    pub page: Client,
    driver: Process,
    folder: PathBuf,
}

impl Browser {
    /// Starts it; profile and screenshots are kept in the folder.
    ///
    /// A certificate of the server's own authority is not known to it: `trust_any_certificate` has it not mind.
    pub async fn start(folder: &Path, trust_any_certificate: bool) -> Result<Self> {
        let port = free_port()?;
        let mut command = bound_command("chromedriver");
        // Chromium finds a home of its own: crash reports and font caches go there too.
        command.arg(format!("--port={port}")).env("HOME", folder).env_remove("DISPLAY");
        let mut driver = Process::start("chromedriver", command, folder)?;
        driver.until("chromedriver", async || accepts(loopback(port)).await).await?;
        let profile = folder.join("profile");
        let mut arguments: Vec<String> = "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run \
             --disable-background-networking --disable-component-update --disable-sync --disable-dev-shm-usage \
             --window-size=1200,800"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        arguments.push(format!("--user-data-dir={}", profile.display()));
        let capabilities = json!({
            "browserName": "chrome",
            "acceptInsecureCerts": trust_any_certificate,
            "goog:chromeOptions": { "args": arguments, "binary": "/usr/bin/chromium" },
        });
        let capabilities = capabilities.as_object().cloned().unwrap_or_default();
        let page = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{port}"))
            .await
            .with_context(|| format!("Chromium does not start; chromedriver says:\n{}", driver.output()))?;
        Ok(Self { page, driver, folder: folder.to_owned() })
    }

    /// Goes to an address and waits until the page is loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.page.goto(url).await.with_context(|| format!("the browser cannot open {url}"))
    }

    /// What a script of this page returns.
    pub async fn evaluate(&self, expression: &str) -> Result<serde_json::Value> {
        let script = format!("return ({expression});");
        self.page.execute(&script, Vec::new()).await.with_context(|| format!("the page cannot say: {expression}"))
    }

    /// Waits until a script's expression is true on the page.
    pub async fn until(&self, expression: &str) -> Result<()> {
        let result = until(expression, PATIENCE, async || {
            let value = self.evaluate(expression).await?;
            anyhow::ensure!(value == true, "it is {value}");
            Ok(())
        });
        if let Err(error) = result.await {
            let url = self.page.current_url().await.map(|url| url.to_string()).unwrap_or_default();
            let text = self.evaluate("document.body ? document.body.innerText : ''").await.unwrap_or_default();
            return Err(error.context(format!("on {url}, which shows: {text}")));
        }
        Ok(())
    }

    /// Waits until the page shows that text.
    pub async fn shows(&self, text: &str) -> Result<()> {
        self.until(&format!("!!document.body && document.body.innerText.includes({})", json!(text))).await
    }

    /// Types into the field that a CSS selector names, in place of what stands there.
    pub async fn fill(&self, field: &str, text: &str) -> Result<()> {
        let element = self.page.find(Locator::Css(field)).await.with_context(|| format!("there is no {field}"))?;
        element.clear().await?;
        Ok(element.send_keys(text).await?)
    }

    /// Clicks on what a CSS selector names.
    pub async fn click(&self, what: &str) -> Result<()> {
        let element = self.page.find(Locator::Css(what)).await.with_context(|| format!("there is no {what}"))?;
        Ok(element.click().await?)
    }

    /// Waits until the browser is at that address.
    pub async fn is_at(&self, url: &str) -> Result<()> {
        self.until(&format!("location.href === {}", json!(url))).await
    }

    /// Gives the page a screen of that size, of a person who likes it dark or light.
    pub async fn screen(&self, screen: Screen) -> Result<()> {
        let Screen { width, height, dark } = screen;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.command("Emulation.setDeviceMetricsOverride", size).await?;
        let scheme = json!([{ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } }]);
        self.command("Emulation.setEmulatedMedia", json!({ "features": scheme })).await
    }

    /// A command of Chromium's own protocol.
    async fn command(&self, name: &'static str, parameters: Value) -> Result<()> {
        let command = DevTools { name, parameters };
        self.page.issue_cmd(command).await.with_context(|| format!("the browser refuses {name}"))?;
        Ok(())
    }

    /// Takes a picture of the page; returns the file.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{name}.png"));
        fs::write(&path, self.page.screenshot().await?)?;
        Ok(path)
    }

    /// Ends the session in good order.
    pub async fn close(self) -> Result<()> {
        self.page.close().await?;
        drop(self.driver);
        Ok(())
    }
}

/// chromedriver's way to Chromium's own protocol.
#[derive(Debug)]
struct DevTools {
    name: &'static str,
    parameters: Value,
}

impl WebDriverCompatibleCommand for DevTools {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "cmd": self.name, "params": self.parameters }).to_string()))
    }
}
