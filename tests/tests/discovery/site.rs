//! A LAN with a gateway on its router, and the server beside it: what is found shows in the API.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use linkspan_tests::https::{Answer, Https};
use linkspan_tests::process::Process;
use linkspan_tests::programs::{Gateway, GatewayConfig, Server, ServerSetup, output_of};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use crate::lan::Lan;

/// Server and gateway `site12` in the router's namespace.
pub(crate) struct Site {
    pub(crate) lan: Arc<Lan>,
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
    visitor: Visitor,
}

/// Somebody at the server, an admin.
#[derive(Clone)]
struct Visitor {
    https: Https,
    console: String,
    token: String,
}

impl Site {
    pub(crate) async fn new(lan: Lan) -> Result<Self> {
        let setup = ServerSetup::inside(&lan.subfolder("server")?, &lan.router, "127.0.0.1:8443".parse()?);
        let server = Server::start(&lan.binaries, setup).await?;
        let secret = server.add_gateway("site12")?;
        let config = GatewayConfig::new("site12", &secret, "https://localhost:8443", &server.ca_file());
        let config = config.lines("[discovery]\ninterfaces = [\"br-lan\"]\n");
        let gateway = Gateway::start_in(Some(&lan.router), &lan.binaries, &lan.subfolder("gateway")?, &config)?;
        let (https, console, password) = (server.https()?, server.console(), server.password()?);
        let visitor = lan.router.inside_async(async move || {
            let sign_in = async || https.sign_in(&console, "admin", &password).await;
            let token = until("the server", PATIENCE, sign_in).await?;
            Ok(Visitor { https, console, token })
        })?;
        Ok(Self { lan: Arc::new(lan), server, gateway, visitor })
    }

    /// The answer of the API.
    pub(crate) fn ask(&self, method: Method, path: &str, body: &Value) -> Result<Answer> {
        let request = Request::builder().method(method).uri(format!("{}/api/v1/{path}", self.visitor.console));
        let request = request.header("authorization", format!("Bearer {}", self.visitor.token));
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = request.header("content-type", "application/json").body(body)?;
        let https = self.visitor.https.clone();
        self.lan.router.inside_async(async move || https.send(request).await)
    }

    /// All that was found.
    pub(crate) fn list(&self) -> Result<Vec<Value>> {
        let answer = self.ask(Method::GET, "discovered?limit=1000", &Value::Null)?;
        let list: Value = serde_json::from_slice(&answer.body)?;
        Ok(list["discovered"].as_array().with_context(|| format!("no list: {list}"))?.clone())
    }

    /// The device with that Ethernet address, once it is as it should be.
    pub(crate) async fn device(&self, mac: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let key = format!("mac:{mac}");
        until(&format!("{key} as it should be"), 2 * PATIENCE, async || {
            let list = self.list()?;
            let device = list
                .iter()
                .find(|one| one["key"] == *key)
                .with_context(|| format!("no {key} among {} devices", list.len()))?;
            ensure!(is_so(device), "{device:#}");
            Ok(device.clone())
        })
        .await
    }

    /// Publishes a device.
    pub(crate) async fn approve(&self, found: &Value, wanted: Value) -> Result<Value> {
        let path = format!("discovered/{}/approve", found["id"].as_str().context("no identity")?);
        // The gateway tells what it lives by as soon as it is there.
        until("the approval", PATIENCE, async || {
            let answer = self.ask(Method::POST, &path, &wanted)?;
            ensure!(answer.status == StatusCode::ACCEPTED, "{}: {}", answer.status, answer.text());
            Ok(serde_json::from_slice(&answer.body)?)
        })
        .await
    }

    /// Follows the events, as a program does; what has come is the output of the process.
    pub(crate) async fn follow(&self) -> Result<Process> {
        let mut command = self.lan.router.command("curl");
        command.args(["--silent", "--no-buffer", "--cacert"]).arg(self.server.ca_file());
        let host = self.visitor.console.trim_start_matches("https://");
        command.args(["--resolve", &format!("{host}:127.0.0.1"), "--header"]);
        command.arg(format!("Authorization: Bearer {}", self.visitor.token));
        command.arg(format!("{}/api/v1/events", self.visitor.console));
        let mut curl = Process::start("events", command, self.lan.folder.path())?;
        let log = self.lan.folder.path().join("events.log");
        curl.until("the events", async || {
            ensure!(std::fs::read_to_string(&log)?.contains("retry:"), "nothing yet");
            Ok(())
        })
        .await?;
        Ok(curl)
    }

    /// The data of the first event of that name in what has come, once it has.
    pub(crate) async fn event(&self, events: &Process, name: &str) -> Result<Value> {
        until(&format!("the event {name}"), PATIENCE, async || {
            let output = events.output();
            let (_, rest) = output.split_once(&format!("event: {name}\ndata: ")).context("it has not come")?;
            Ok(serde_json::from_str(rest.lines().next().context("no data")?)?)
        })
        .await
    }

    /// A device's page.
    pub(crate) fn page(&self, device: &str) -> Result<Answer> {
        let (url, https, token) =
            (format!("{}/", self.server.device(device)), self.visitor.https.clone(), self.visitor.token.clone());
        self.lan.router.inside_async(async move || https.get_device(&url, &token).await)
    }

    /// What `linkspan-gateway status` tells.
    pub(crate) fn status(&self) -> Result<Value> {
        let mut command = self.lan.binaries.command_in(Some(self.lan.router.name()), "linkspan-gateway")?;
        command.args(["status", "--json", "--config"]).arg(self.gateway.config_file());
        let output = output_of(command, None)?;
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).with_context(|| format!("{}: {said}", output.status))
    }
}

/// Whether a device offers something of that name.
pub(crate) fn offers(device: &Value, text: &str) -> bool {
    device["services"].as_array().is_some_and(|all| all.iter().any(|service| service["text"] == text))
}

/// Whether a device bears that name.
pub(crate) fn is_called(device: &Value, name: &str) -> bool {
    device["names"].as_array().is_some_and(|all| all.contains(&json!(name)))
}
