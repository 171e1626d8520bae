//! Something appears on the LAN, the server is told, somebody approves it, and its page opens: walk 3, whole.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use linkspan_tests::https::{Answer, Https};
use linkspan_tests::netns::Namespace;
use linkspan_tests::parts::Avahi;
use linkspan_tests::programs::{Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use crate::lan::Lan;

/// Somebody at the server.
#[derive(Clone)]
struct Visitor {
    https: Https,
    console: String,
    token: String,
}

impl Visitor {
    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Answer> {
        let request = Request::builder().method(method).uri(format!("{}/api/v1/{path}", self.console));
        let request = request.header("authorization", format!("Bearer {}", self.token));
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        self.https.send(request.header("content-type", "application/json").body(body)?).await
    }

    async fn found(&self, name: &str) -> Result<Value> {
        let answer = self.ask(Method::GET, "discovered", Value::Null).await?;
        let list: Value = serde_json::from_slice(&answer.body)?;
        let all = list["discovered"].as_array().context("no list")?;
        let named = |one: &&Value| one["names"].as_array().is_some_and(|names| names.iter().any(|n| n == name));
        all.iter().find(named).cloned().with_context(|| format!("no {name} in {list}"))
    }
}

/// A device's page, for as long as the process lives.
fn serve_page(machine: &Namespace) -> Result<()> {
    let listener = machine.inside(|| Ok(TcpListener::bind(("0.0.0.0", 8080))?))?;
    std::thread::spawn(move || {
        for guest in listener.incoming() {
            let Ok(mut guest) = guest else { return };
            let _ = guest.read(&mut [0; 4096]);
            let _ = guest.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\npress 3");
        }
    });
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_found_is_reached_once_it_is_approved_and_not_before() {
    let lan = Lan::new().unwrap();
    let press = lan.machine(7, &["192.168.8.7/24"]).unwrap();
    serve_page(&press).unwrap();
    let setup = ServerSetup::inside(&lan.subfolder("server").unwrap(), &lan.router, "127.0.0.1:8443".parse().unwrap());
    let server = Server::start(&lan.binaries, setup).await.unwrap();
    let secret = server.add_gateway("site12").unwrap();
    let config = GatewayConfig::new("site12", &secret, "https://localhost:8443", &server.ca_file());
    let config = config.lines("[discovery]\ninterfaces = [\"br-lan\"]\n");
    let folder = lan.subfolder("gateway").unwrap();
    let _gateway = Gateway::start_in(Some(&lan.router), &lan.binaries, &folder, &config).unwrap();
    let (https, console, password) = (server.https().unwrap(), server.console(), server.password().unwrap());
    let page = format!("{}/", server.device("press3"));
    let services = [("Press".to_owned(), "_http._tcp", 8080, "")];
    let _avahi = Avahi::publish(&lan.subfolder("press").unwrap(), &press, "press", &services, true).await.unwrap();

    lan.router
        .inside_async(async move || {
            let sign_in = async || https.sign_in(&console, "admin", &password).await;
            let token = until("the server", PATIENCE, sign_in).await?;
            let visitor = Visitor { https: https.clone(), console, token: token.clone() };
            let found = until("the device in the list", 3 * PATIENCE, async || visitor.found("press").await).await?;
            ensure!(found["state"] == "new" && found["key"] == "mac:02:4c:53:00:00:07", "{found:#}");
            ensure!(found["suggested"] == json!([{"name": "web", "kind": "http", "port": 8080}]), "{found:#}");
            let before = https.get_device(&page, &token).await?;
            ensure!(before.status == StatusCode::NOT_FOUND, "reached before it is approved: {}", before.status);

            let path = format!("discovered/{}/approve", found["id"].as_str().context("no identity")?);
            // The gateway tells what it lives by as soon as it is there.
            until("the approval", PATIENCE, async || {
                let answer = visitor.ask(Method::POST, &path, json!({"name": "press3", "tags": ["hall 2"]})).await?;
                ensure!(answer.status == StatusCode::ACCEPTED, "{}: {}", answer.status, answer.text());
                Ok(())
            })
            .await?;
            until("the page", 3 * PATIENCE, async || {
                let answer = https.get_device(&page, &token).await?;
                ensure!(answer.text() == "press 3", "{}: {}", answer.status, answer.text());
                Ok(())
            })
            .await?;
            let found = visitor.found("press").await?;
            ensure!(found["state"] == "approved" && found["device"] == "press3", "{found:#}");
            Ok(())
        })
        .unwrap();
}
