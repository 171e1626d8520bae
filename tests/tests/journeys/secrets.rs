//! What must never be written down: secrets in no log and no table, and nothing of what people say to devices on the disk.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use linkspan_tests::process::{Process, bound_command};
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

use crate::origin::{Origin, echo};
use crate::raw_stream::RawStream;

const WRONG: &str = "canary-wrong-password-1";
const PASSWORD: &str = "canary right password 2";
const PAYLOAD: &str = "canary-payload-of-a-device-3";

struct Place {
    server: Server,
    token: String,
}

impl Place {
    async fn api(&self, method: Method, path: &str, body: Value) -> Result<(u16, Value)> {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.server.console()));
        let request = request.header(CONTENT_TYPE, "application/json").header("if-match", "*");
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
        let answer = self.server.https()?.send(request.body(body)?).await?;
        Ok((answer.status.as_u16(), serde_json::from_slice(&answer.body).unwrap_or_default()))
    }

    async fn made(&self, path: &str, body: Value, member: &str) -> Result<String> {
        let (status, made) = self.api(Method::POST, path, body).await?;
        ensure!(status < 300, "{path}: {status} {made}");
        Ok(made[member].as_str().context("no such member")?.to_owned())
    }
}

/// Threats 36 and 44: whatever secret the server has made, been shown, or been shown wrongly, stands in no log and in no
/// file in a form that works; what passed to a device stands nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threats_36_and_44_secrets_and_payloads_are_written_nowhere() {
    let folder = tempfile::Builder::new().prefix("linkspan-secrets-").tempdir().unwrap();
    let binaries = Binaries::beside_me().unwrap();
    let setup = ServerSetup::new(&folder.path().join("server")).unwrap().saying("debug");
    let server = Server::start(&binaries, setup).await.unwrap();
    let mut secrets = vec![WRONG.to_owned(), PASSWORD.to_owned()];
    server.ask(&["user", "add", "tina", "--role", "technician", "--password-stdin"], Some(PASSWORD)).unwrap();
    let token = server.sign_in().await.unwrap();
    let place = Place { server, token };
    secrets.push(place.token.clone());
    let wrong = json!({"name": "tina", "password": WRONG});
    assert_eq!(place.api(Method::POST, "/api/v1/session", wrong).await.unwrap().0, 401);
    let shared = place.server.add_gateway("site12").unwrap();
    secrets.push(shared.clone());
    secrets.push(place.made("/api/v1/gateways", json!({"name": "site7"}), "claim_code").await.unwrap());
    secrets.push(place.made("/api/v1/provisioning-keys", json!({"name": "many", "uses": 2}), "key").await.unwrap());
    let less = json!({"name": "script", "permissions": ["device.see", "stream.open"]});
    secrets.push(place.made("/api/v1/tokens", less, "token").await.unwrap());
    let link = place.made("/api/v1/people", json!({"name": "nora"}), "link").await.unwrap();
    secrets.push(link.split_once("link=").unwrap().1.to_owned());
    secrets.push(place.made("/api/v1/me/second-factor", Value::Null, "secret").await.unwrap());

    let device = Origin::start(echo).await;
    let url = format!("https://localhost:{}", place.server.address().port());
    let config = GatewayConfig::new("site12", &shared, &url, &place.server.ca_file());
    let config = config.device("plc1", "echoes", &[("echo", "tcp", device.address)]);
    let gateway_folder = folder.path().join("gateway");
    fs::create_dir_all(&gateway_folder).unwrap();
    let mut gateway = Gateway::start(&binaries, &gateway_folder, &config).unwrap();
    let console = place.server.console();
    let mut stream = until("the device", PATIENCE, async || {
        RawStream::open(&place.server.https()?, &console, &place.token, "plc1", "echo").await
    })
    .await
    .unwrap();
    let soon = (jiff::Timestamp::now() + Duration::from_secs(3600)).to_string();
    let visit = json!({"guest": "V", "device": "plc1", "service": "echo", "reason": "r", "until": soon});
    let link = place.made("/api/v1/visits", visit, "link").await.unwrap();
    secrets.push(link.rsplit_once('/').unwrap().1.to_owned());
    stream.send(PAYLOAD.as_bytes()).await.unwrap();
    assert_eq!(stream.receive_exactly(PAYLOAD.len()).await.unwrap(), PAYLOAD.as_bytes());
    drop(stream);
    enrol(&binaries, &place.server, folder.path(), secrets[4].as_str());
    let audit = place.api(Method::GET, "/api/v1/audit?limit=1000", Value::Null).await.unwrap().1.to_string();
    let Place { mut server, .. } = place;
    let said = [all_of(server.process()).await, all_of(gateway.process()).await];
    assert!(said[0].contains("DEBUG") && audit.contains("token.add"), "it says a lot, and nothing of these");
    for secret in &secrets {
        for text in said.iter().chain([&audit]) {
            assert!(!text.contains(secret.as_str()), "{secret} was said");
        }
    }
    secrets.push(PAYLOAD.to_owned());
    for secret in &secrets {
        let found = holders(&folder.path().join("server"), secret.as_bytes()).unwrap();
        assert_eq!(found, Vec::<String>::new(), "{secret} is on the disk");
    }
}

/// Enrols a router with a code that is none, and with one that is good.
fn enrol(binaries: &Binaries, server: &Server, folder: &Path, good: &str) {
    let url = format!("https://localhost:{}", server.address().port());
    let folder = folder.join("other");
    fs::create_dir_all(&folder).unwrap();
    for code in ["K7QM-3XTD-9VWP-4RHC", good] {
        let mut command = bound_command(binaries.path("linkspan-gateway").unwrap());
        command.args(["enroll", &url, code, "--ca-file"]).arg(server.ca_file());
        command.arg("--config").arg(folder.join("gateway.toml"));
        let done = command.output().unwrap();
        assert_eq!(done.status.success(), code == good, "{}", String::from_utf8_lossy(&done.stderr));
    }
}

/// Ends a program in good order; all that it has said.
async fn all_of(process: &mut Process) -> String {
    process.stop(PATIENCE).await.unwrap();
    process.output()
}

/// The files below a folder in which these bytes stand.
fn holders(folder: &Path, bytes: &[u8]) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(holders(&path, bytes)?);
        } else if path.is_file() && fs::read(&path)?.windows(bytes.len()).any(|window| window == bytes) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}
