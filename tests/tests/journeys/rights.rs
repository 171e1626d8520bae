//! Rights that end while something is open, guests, tokens, and a screen that may only be watched; against real parts.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::{Method, Request};
use linkspan_server::access::{Passwords, Role, gateway_secret};
use linkspan_server::store::User;
use linkspan_tests::parts::{Framebuffer, Login, Sshd, Vnc};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::command::finish;
use crate::origin::{Origin, echo};
use crate::raw_stream::RawStream;
use crate::site::Site;

const PASSWORD: &str = "a password for a person";
/// What is decided in the server's own process ends streams within this time.
const HERE: Duration = Duration::from_secs(1);
/// What another process (a command line) decides.
const ELSEWHERE: Duration = Duration::from_secs(2);

/// A site with an echo, and people besides the admin.
struct People {
    site: Site,
    _device: Origin,
}

impl People {
    async fn new() -> Self {
        let device = Origin::start(echo).await;
        let services = [("echo", "tcp", device.address), ("ssh", "ssh", device.address)];
        let site = Site::open(|config| config.device("plc1", "echoes", &services)).await.unwrap();
        Self { site, _device: device }
    }

    /// Adds a person and signs them in.
    async fn person(&self, name: &str, role: Role) -> String {
        person(&self.site, name, role).await
    }

    /// Opens a stream that works.
    async fn stream(&self, token: &str) -> RawStream {
        let rig = &self.site.rig;
        let mut stream = RawStream::open(&rig.https().unwrap(), &rig.console(), token, "plc1", "echo").await.unwrap();
        stream.send(b"still here").await.unwrap();
        assert_eq!(stream.receive_exactly(10).await.unwrap(), b"still here");
        stream
    }

    async fn api(&self, token: &str, method: Method, path: &str, body: Value) -> Value {
        api(&self.site, token, method, path, body).await.unwrap()
    }

    async fn user(&self, name: &str) -> User {
        let users = self.site.rig.store().users().await.unwrap();
        users.into_iter().find(|user| user.name == name).unwrap()
    }
}

/// Adds a person and signs them in.
pub(crate) async fn person(site: &Site, name: &str, role: Role) -> String {
    let hash = Passwords::default().hash(&linkspan_protocol::id::Secret::new(PASSWORD)).await.unwrap();
    site.rig.store().add_user(&name.parse().unwrap(), role, &hash).await.unwrap().unwrap();
    site.rig.https().unwrap().sign_in(&site.rig.console(), name, PASSWORD).await.unwrap()
}

/// Asks the API; what is refused is an error.
pub(crate) async fn api(site: &Site, token: &str, method: Method, path: &str, body: Value) -> Result<Value> {
    let url = format!("{}{path}", site.rig.console());
    let mut request =
        Request::builder().method(method).uri(url).header(CONTENT_TYPE, "application/json").header(IF_MATCH, "*");
    if !token.is_empty() {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let body = if body.is_null() { Bytes::new() } else { body.to_string().into() };
    let answer = site.rig.https()?.send(request.body(body)?).await?;
    ensure!(answer.status.is_success(), "{} {}", answer.status, answer.text());
    if answer.body.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&answer.body)?) }
}

/// Waits for the end of a stream; fails if it takes longer, or is not told as an end on purpose.
async fn cut(mut stream: RawStream, since: Instant, within: Duration, what: &str) {
    let close = tokio::time::timeout(PATIENCE, stream.closed()).await.expect(what).unwrap();
    let (lasted, close) = (since.elapsed(), close.unwrap());
    assert_eq!(u16::from(close.code), 4403, "{what}: {}", close.reason);
    assert!(lasted < within, "{what}: cut after {lasted:?}");
}

/// Whoever looks after people sees what is open, ends it, and each of these can be read later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_is_seen_and_ended_over_the_api() {
    let people = People::new().await;
    let admin = people.site.token.clone();
    let (tina, otto) = (people.person("tina", Role::Technician).await, people.person("otto", Role::Operator).await);
    let stream = people.stream(&tina).await;
    let mut own = people.stream(&admin).await;
    let open = async |token: &str| {
        let all = people.api(token, Method::GET, "/api/v1/streams", Value::Null).await;
        all["streams"].as_array().unwrap().clone()
    };
    assert_eq!(open(&otto).await, Vec::<Value>::new(), "not his");
    let hers = open(&tina).await;
    assert_eq!((hers.len(), &hers[0]["who"], &hers[0]["device"]), (1, &json!("tina"), &json!("plc1")));
    assert_eq!((&hers[0]["up"], &hers[0]["down"], &hers[0]["purpose"]), (&json!(10), &json!(10), &json!("stream")));
    assert_eq!(open(&admin).await.len(), 2);
    let path = format!("/api/v1/streams/{}", hers[0]["id"].as_str().unwrap());
    let refused = api(&people.site, &otto, Method::DELETE, &path, Value::Null).await.unwrap_err();
    assert!(refused.to_string().starts_with("404"), "{refused}");
    let since = Instant::now();
    people.api(&admin, Method::DELETE, &path, Value::Null).await;
    cut(stream, since, HERE, "ended by the admin").await;
    own.send(b"still here").await.unwrap();
    assert_eq!(own.receive_exactly(10).await.unwrap(), b"still here");

    // A screen that may only be looked at, and what is not allowed at all, leave their traces too.
    let rig = &people.site.rig;
    let refused = RawStream::open(&rig.https().unwrap(), &rig.console(), &otto, "plc1", "echo").await;
    assert!(refused.is_err());
    until("the audit has it all", PATIENCE, async || {
        let all = people.api(&admin, Method::GET, "/api/v1/audit?action=stream&device=plc1", Value::Null).await;
        let all: Vec<_> = all["entries"]
            .as_array()
            .context("entries")?
            .iter()
            .map(|e| {
                format!(
                    "{} {} {}",
                    e["actor"].as_str().unwrap_or_default(),
                    e["action"].as_str().unwrap_or_default(),
                    e["result"].as_str().unwrap_or_default()
                )
            })
            .collect();
        for wanted in
            ["admin stream.cut ok", "tina stream.end denied", "otto stream.begin denied", "tina stream.begin ok"]
        {
            ensure!(all.iter().any(|one| one == wanted), "{wanted} is not in {all:?}");
        }
        Ok(())
    })
    .await
    .unwrap();
}

/// threats.md, rows 16 and 20: a right that is taken away while a stream is open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_ends_within_a_second_when_the_right_to_it_ends() {
    let people = People::new().await;
    let admin = people.site.token.clone();
    let tina = people.person("tina", Role::Technician).await;
    let mut others = people.stream(&admin).await;

    let stream = people.stream(&tina).await;
    let since = Instant::now();
    people.api(&tina, Method::DELETE, "/api/v1/session", Value::Null).await;
    cut(stream, since, HERE, "signed out").await;

    let vera = people.person("vera", Role::Viewer).await;
    let grant = json!({"to": {"user": "vera"}, "role": "technician", "scope": {"kind": "device", "device": "plc1"}});
    let grant = people.api(&admin, Method::POST, "/api/v1/grants", grant).await;
    let stream = people.stream(&vera).await;
    let since = Instant::now();
    let path = format!("/api/v1/grants/{}", grant["id"].as_str().unwrap());
    people.api(&admin, Method::DELETE, &path, Value::Null).await;
    cut(stream, since, HERE, "the grant was taken away").await;

    let token = people.api(&admin, Method::POST, "/api/v1/tokens", json!({"name": "program"})).await;
    let stream = people.stream(token["token"].as_str().unwrap()).await;
    let since = Instant::now();
    let path = format!("/api/v1/tokens/{}", token["id"].as_str().unwrap());
    people.api(&admin, Method::DELETE, &path, Value::Null).await;
    cut(stream, since, HERE, "the token was revoked").await;

    others.send(b"not concerned").await.unwrap();
    assert_eq!(others.receive_exactly(13).await.unwrap(), b"not concerned", "everybody else goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_process_decides_ends_streams_too_and_so_does_time() {
    let people = People::new().await;
    let tina = people.person("tina", Role::Technician).await;
    let store = people.site.rig.store();

    let stream = people.stream(&tina).await;
    let since = Instant::now();
    store.set_role(people.user("tina").await.id, Some(Role::Operator.into()), "test").await.unwrap();
    cut(stream, since, ELSEWHERE, "another role").await;

    let toni = people.person("toni", Role::Technician).await;
    let stream = people.stream(&toni).await;
    let since = Instant::now();
    store.remove_user(&"toni".parse().unwrap()).await.unwrap();
    cut(stream, since, ELSEWHERE, "removed").await;

    let vera = people.person("vera", Role::Viewer).await;
    let end = jiff::Timestamp::now() + Duration::from_secs(3);
    let grant = json!({"to": {"user": "vera"}, "role": "technician", "scope": {"kind": "tags", "tags": ["x"]}});
    let refused = api(&people.site, &vera, Method::POST, "/api/v1/grants", grant).await;
    assert!(refused.is_err(), "vera grants nothing");
    let grant = json!({
        "to": {"user": "vera"}, "role": "technician", "when": {"until": end.to_string()},
        "scope": {"kind": "service", "device": "plc1", "service": "echo"},
    });
    people.api(&people.site.token, Method::POST, "/api/v1/grants", grant).await;
    let stream = people.stream(&vera).await;
    let left = Duration::try_from(end.duration_since(jiff::Timestamp::now())).unwrap_or_default();
    cut(stream, Instant::now() + left, HERE, "its time is over").await;
}

/// A page that is being sent is a stream like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_ends_when_the_right_to_it_ends() {
    let device = Origin::start(|mut call| async move {
        if call.head().await.is_some() {
            call.say("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n").await;
            while call.socket.write_all(&[7; 4096]).await.is_ok() {
                tokio::task::yield_now().await;
            }
        }
    })
    .await;
    let site = Site::open(|config| config.device("cam1", "sends for ever", &[("web", "http", device.address)]));
    let site = site.await.unwrap();
    let otto = person(&site, "otto", Role::Operator).await;
    let mut curl = site.rig.curl(&otto);
    curl.args(["-o", "/dev/null", &site.url("cam1", "/")]);
    let mut curl = tokio::process::Command::from(curl);
    let mut curl = curl.kill_on_drop(true).stderr(Stdio::piped()).spawn().unwrap();
    until("the download", PATIENCE, async || {
        ensure!(device.calls() > 0, "not asked yet");
        Ok(())
    })
    .await
    .unwrap();
    assert!(curl.try_wait().unwrap().is_none());
    let since = Instant::now();
    let users = site.rig.store().users().await.unwrap();
    let otto = users.iter().find(|user| user.name == "otto").unwrap();
    site.rig.store().set_role(otto.id, Some(Role::Viewer.into()), "test").await.unwrap();
    let status = tokio::time::timeout(PATIENCE, curl.wait()).await.unwrap().unwrap();
    assert!(!status.success(), "the answer is not whole, and curl says so");
    assert!(since.elapsed() < ELSEWHERE, "cut after {:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_uses_ssh_with_the_token_of_a_visit_until_it_is_revoked() {
    let files = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(&files.path().join("sshd"), Login::Shell).await.unwrap();
    let site = Site::open(|config| config.device("plc1", "a controller", &[("ssh", "ssh", sshd.address())]));
    let site = site.await.unwrap();
    let until = (jiff::Timestamp::now() + Duration::from_secs(600)).to_string();
    let visit = json!({"guest": "Vendor", "device": "plc1", "service": "ssh", "reason": "repair", "until": until});
    let visit = api(&site, &site.token, Method::POST, "/api/v1/visits", visit).await.unwrap();
    let link = visit["link"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
    let guest = api(&site, "", Method::POST, "/api/v1/visit", json!({"token": link})).await.unwrap();
    let guest = guest["token"].as_str().unwrap().to_owned();

    let listed = finish(client(&site, &guest, &["devices"]), Stdio::null()).await.unwrap().well();
    assert!(listed.text().contains("plc1"), "{}", listed.text());
    let ssh = |words: &str| {
        let mut command = sshd.client("ssh", "plc1").unwrap();
        let linkspan = client(&site, &guest, &["connect", "%h:ssh"]);
        let proxy = std::iter::once(linkspan.get_program()).chain(linkspan.get_args());
        let proxy: Vec<_> = proxy.map(|word| word.to_string_lossy().into_owned()).collect();
        command.arg("-o").arg(format!("ProxyCommand={}", proxy.join(" ")));
        command.envs(site.rig.client_environment(&guest));
        command.arg(format!("{}@plc1", sshd.user())).arg(words);
        command
    };
    let said = finish(ssh("echo hello"), Stdio::null()).await.unwrap().well();
    assert_eq!(said.text(), "hello\n");

    let mut running = tokio::process::Command::from(ssh("echo begun; exec cat"));
    let running = running.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = running.spawn().unwrap();
    // Held: `wait` would close it, and the far end would end by itself.
    let _stdin = running.stdin.take();
    let mut begun = [0; 6];
    running.stdout.as_mut().unwrap().read_exact(&mut begun).await.unwrap();
    let since = Instant::now();
    let path = format!("/api/v1/visits/{}", visit["visit"]["id"].as_str().unwrap());
    api(&site, &site.token, Method::DELETE, &path, Value::Null).await.unwrap();
    let status = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(255), "ssh lost its connection");
    assert!(since.elapsed() < HERE, "cut after {:?}", since.elapsed());
    let refused = finish(ssh("true"), Stdio::null()).await.unwrap();
    assert_eq!(refused.status.code(), Some(255), "{}", refused.err);
}

fn client(site: &Site, token: &str, words: &[&str]) -> std::process::Command {
    let mut command = site.rig.client(token).unwrap();
    command.args(words);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_watches_a_screen_and_nothing_they_type_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let mut vnc = Vnc::start_listening(folder.path()).await.unwrap();
    let site = Site::open(|config| config.device("hmi1", "a panel", &[("vnc", "vnc", vnc.address())])).await.unwrap();
    let otto = person(&site, "otto", Role::Operator).await;
    let vera = person(&site, "vera", Role::Viewer).await;
    let open = async |token: &str| {
        RawStream::open(&site.rig.https()?, &site.rig.console(), token, "hmi1", "vnc").await.context("no stream")
    };
    let mut tasks = JoinSet::new();
    let picture = Framebuffer::fetch(open(&otto).await.unwrap().into_bytes(&mut tasks)).await.unwrap();
    assert_eq!((picture.width, picture.height), (640, 480), "the operator sees the screen");
    assert!(open(&vera).await.is_err(), "a viewer does not even see it");

    // The admin types `a` until it has arrived, the operator `b` before: both in the same way, over the same window.
    until("a key of the admin", PATIENCE, async || {
        let mut tasks = JoinSet::new();
        touch(open(&otto).await?, b'b', &mut tasks).await?;
        touch(open(&site.token).await?, b'a', &mut tasks).await?;
        let heard = vnc.heard();
        ensure!(heard.contains("keysym 0x61, a"), "not yet: {heard}");
        ensure!(heard.contains("ButtonPress"), "not yet: {heard}");
        Ok(())
    })
    .await
    .unwrap();
    let heard = vnc.heard();
    assert!(!heard.contains("keysym 0x62, b"), "{heard}");
    assert!(!heard.contains("button 3"), "the operator pressed the third: {heard}");
    vnc.still_runs().unwrap();
    let mut unknown = open(&otto).await.unwrap();
    unknown.receive_exactly(12).await.unwrap();
    unknown.send(b"RFB 003.008\n\x01\x01\xfd\x00\x00\x00").await.unwrap();
    let close = unknown.closed().await.unwrap().unwrap();
    assert_eq!(u16::from(close.code), 1008, "{}", close.reason);
}

/// Threat 12, and CVE-2023-32348 (Teltonika RMS), where one device reached all others through the hub: what a gateway proves
/// itself with opens its link, on which it can ask for nothing, and no device behind another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_12_a_gateway_reaches_no_device_behind_another() {
    let device = Origin::start(echo).await;
    let services = [("web", "http", device.address), ("echo", "tcp", device.address)];
    let site = Site::open(|config| config.device("plc1", "a victim", &services)).await.unwrap();
    let (rig, evil) = (&site.rig, gateway_secret());
    rig.store().add_gateway(&"evil".parse().unwrap(), &evil).await.unwrap().unwrap();
    let (https, secret) = (rig.https().unwrap(), evil.expose());
    let basic = format!("Basic {}", data_encoding::BASE64.encode(format!("evil:{secret}").as_bytes()));
    for (name, value) in [
        ("authorization", format!("Bearer {secret}")),
        ("authorization", basic),
        ("linkspan-authorization", format!("Bearer {secret}")),
        ("cookie", format!("__Host-linkspan={secret}; __Host-linkspan-console={secret}")),
        ("linkspan-gateway", "evil".to_owned()),
    ] {
        for url in [format!("{}/", rig.device("plc1")), format!("{}/api/v1/devices", rig.console())] {
            let request = Request::get(&url).header(name, &value).body(Bytes::new()).unwrap();
            let status = https.send(request).await.unwrap().status.as_u16();
            assert!([303, 401].contains(&status), "{status} for {name} at {url}");
        }
    }
    let stream = RawStream::open(&https, &rig.console(), secret, "plc1", "echo").await;
    assert!(stream.is_err_and(|refused| refused.to_string().starts_with("401")), "not even known");
    assert_eq!(device.calls(), 0, "nothing of it came to the device");
}

/// Signs in as a viewer, moves to the middle, presses a button (`a` the first, others the third) and a key, and waits for
/// a picture, so that all of it has been heard.
async fn touch(stream: RawStream, key: u8, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
    let mut stream = stream.into_bytes(tasks);
    let mut version = [0; 12];
    stream.read_exact(&mut version).await?;
    stream.write_all(&version).await?;
    let mut types = vec![0; usize::from(stream.read_u8().await?)];
    stream.read_exact(&mut types).await?;
    stream.write_all(&[1]).await?;
    ensure!(stream.read_u32().await? == 0, "refused");
    stream.write_all(&[1]).await?;
    let mut init = [0; 24];
    stream.read_exact(&mut init).await?;
    let mut name = vec![0; usize::from(init[23])];
    stream.read_exact(&mut name).await?;
    let button = if key == b'a' { 1 } else { 4 };
    for (pressed, down) in [(0, 1), (button, 1), (0, 0)] {
        stream.write_all(&[5, pressed, 1, 64, 0, 240]).await?;
        stream.write_all(&[4, down, 0, 0, 0, 0, 0, key]).await?;
    }
    stream.write_all(&[3, 0, 0, 0, 0, 0, 0, 1, 0, 1]).await?;
    stream.flush().await?;
    ensure!(stream.read_u8().await? == 0, "no picture");
    Ok(())
}
