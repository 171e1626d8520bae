//! The sample devices, spoken to directly, before anything stands between.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use linkspan_tests::devices::{Camera, Console, Plc, ssh_console};
use linkspan_tests::netns::run;
use linkspan_tests::parts::{Browser, loopback};
use tokio::task::spawn_blocking;
use tokio_tungstenite::tungstenite::Message;

async fn curl(arguments: &[&str]) -> Result<String> {
    let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
    let output = spawn_blocking(move || run(Command::new("curl").args(["-sS", "--noproxy", "*"]).args(arguments)));
    output.await?
}

#[tokio::test]
async fn plc_takes_a_setpoint_from_who_is_logged_in() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let url = format!("http://{}", plc.address());
    let values: serde_json::Value =
        serde_json::from_str(&curl(&[&format!("{url}/api/values")]).await.unwrap()).unwrap();
    assert_eq!(values["setpoint"], 60.0);
    let refused = curl(&["-i", "-d", "level=70", &format!("{url}/setpoint")]).await.unwrap();
    assert!(refused.contains("302 Found") && refused.contains("location: /login"), "{refused}");
    let wrong = curl(&["-i", "-d", "user=operator&password=1234", &format!("{url}/login")]).await.unwrap();
    assert!(wrong.contains("403 Forbidden") && wrong.contains("Wrong user or password"), "{wrong}");
    let login = curl(&["-i", "-d", "user=operator&password=operator", &format!("{url}/login")]).await.unwrap();
    assert!(login.contains("; Domain=plc1.local; HttpOnly"), "{login}");
    let cookie = login.split_once("set-cookie: ").and_then(|(_, rest)| rest.split_once(';')).unwrap().0;
    let taken = curl(&["-i", "-b", cookie, "-d", "level=70", &format!("{url}/setpoint")]).await.unwrap();
    assert!(taken.contains("303 See Other"), "{taken}");
    assert!(curl(&["-b", cookie, &url]).await.unwrap().contains("logged in as <b>operator</b>"));
}

#[tokio::test]
async fn plc_sends_values_over_websocket_and_echoes() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let socket = tokio::net::TcpStream::connect(plc.address()).await.unwrap();
    let url = format!("ws://{}/ws", plc.address());
    let (mut socket, _) = tokio_tungstenite::client_async(url, socket).await.unwrap();
    socket.send(Message::text("hello")).await.unwrap();
    let (mut values, mut echo) = (0, false);
    while values < 2 || !echo {
        match socket.next().await.unwrap().unwrap() {
            Message::Text(text) if text.starts_with("echo:") => echo = text.as_str() == "echo:hello",
            Message::Text(text) => values += usize::from(text.contains("\"level\":")),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn camera_sends_everybody_to_its_lan_address_and_shows_pictures() {
    let camera = Camera::start(loopback(0)).await.unwrap();
    let url = format!("http://{}", camera.address());
    let root = curl(&["-i", &url]).await.unwrap();
    assert!(root.contains(&format!("location: {url}/index.html")), "{root}");
    let picture = format!("{url}/cgi-bin/snapshot.jpg");
    let size = curl(&["-o", "/dev/null", "-w", "%{content_type} %{size_download}", &picture]).await.unwrap();
    let bytes: usize = size.strip_prefix("image/jpeg ").unwrap().parse().unwrap();
    assert!(bytes > 5000, "{bytes}");
}

#[tokio::test]
async fn ssh_meets_the_console_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let console = Console::start(loopback(0), || "level 55.0 %".to_owned()).await.unwrap();
    let sshd = ssh_console(folder.path(), console.address()).await.unwrap();
    let ssh = |command: &str| {
        let mut ssh = sshd.client("ssh", "plc1").unwrap();
        ssh.args(["-p", &sshd.address().port().to_string(), "demo@127.0.0.1", command]);
        spawn_blocking(move || run(&mut ssh))
    };
    assert_eq!(ssh("status").await.unwrap().unwrap(), "level 55.0 %\n");
    assert!(ssh("cat /etc/passwd").await.unwrap().unwrap().starts_with("cat /etc/passwd: unknown command"));
    assert!(ssh("$(reboot)\nversion").await.unwrap().unwrap().starts_with("$(reboot): unknown command"));
    let mut ssh = sshd.client("ssh", "plc1").unwrap();
    ssh.args(["-p", &sshd.address().port().to_string(), "demo@127.0.0.1"]);
    let talk = spawn_blocking(move || say(ssh, "version\nexit\n")).await.unwrap().unwrap();
    assert!(talk.contains("service console") && talk.contains("plc1> LC-314  6HL7"), "{talk}");
}

/// What a command answers to that input; it must end by itself, though its input stays open.
fn say(mut command: Command, words: &str) -> Result<String> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut input = child.stdin.take().context("no input")?;
    input.write_all(words.as_bytes())?;
    let mut output = String::new();
    child.stdout.take().context("no output")?.read_to_string(&mut output)?;
    child.wait()?;
    drop(input);
    Ok(output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn their_pages_are_alive_in_a_browser() {
    let folder = tempfile::tempdir().unwrap();
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let camera = Camera::start(loopback(0)).await.unwrap();
    let browser = Browser::start(folder.path(), false).await.unwrap();
    browser.open(&format!("http://plc1.localhost:{}/", plc.address().port())).await.unwrap();
    browser.shows("live").await.unwrap();
    browser.shows("Controller started, mode RUN").await.unwrap();
    browser.until("Number(document.getElementById('uptime').textContent) > 2").await.unwrap();
    let status = browser.screenshot("plc").await.unwrap();
    browser.open(&format!("http://cam1.localhost:{}/index.html", camera.address().port())).await.unwrap();
    browser.until("document.getElementById('picture').naturalWidth === 640").await.unwrap();
    let live = browser.screenshot("camera").await.unwrap();
    if let Some(keep) = std::env::var_os("LINKSPAN_SCREENSHOTS").map(std::path::PathBuf::from) {
        for picture in [status, live] {
            std::fs::copy(&picture, keep.join(picture.file_name().unwrap())).unwrap();
        }
    }
    browser.close().await.unwrap();
}
