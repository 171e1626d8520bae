//! Chromium without a window, driven through chromedriver (W3C WebDriver).

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fantoccini::{Client, ClientBuilder};
use serde_json::json;

use super::{free_port, loopback};
use crate::process::{Process, bound_command};
use crate::wait::{PATIENCE, accepts, until};

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
