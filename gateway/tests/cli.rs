//! The real program: words, exit codes, signals, the service manager, and a process that runs out of file descriptors.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Output, Stdio};

use linkspan_gateway::status::LinkState;
use linkspan_protocol::driver::{LinkEnd, ResetReason};
use linkspan_protocol::message::CloseReason;
use support::{DEADLINE, Server, Site, device, eventually};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

const PROGRAM: &str = env!("CARGO_BIN_EXE_linkspan-gateway");

async fn said(words: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(PROGRAM).args(words).stdin(Stdio::null()).output();
    let Output { status, stdout, stderr } = tokio::time::timeout(DEADLINE, output).await.unwrap().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// The program, with a log that can be read while it runs.
struct Running {
    child: Child,
    log: std::path::PathBuf,
}

impl Running {
    fn start(site: &Site) -> Self {
        Self::start_with(site, Command::new(PROGRAM))
    }

    fn start_with(site: &Site, mut command: Command) -> Self {
        let log = site.dir.path().join("log");
        let file = std::fs::File::create(&log).unwrap();
        command.args(["run", "--config"]).arg(site.file()).stdin(Stdio::null()).stderr(file).kill_on_drop(true);
        Self { child: command.spawn().unwrap(), log }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().await.unwrap().success());
    }

    async fn code(&mut self) -> Option<i32> {
        let ended = tokio::time::timeout(DEADLINE, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end:\n{}", std::fs::read_to_string(&self.log).unwrap()))
            .unwrap()
            .code()
    }
}

#[tokio::test]
async fn words_are_answered_with_sysexits() {
    for words in [&["--help"][..], &["run", "--help"], &["help", "status"], &["completion", "bash"], &["--version"]] {
        let (code, out, err) = said(words).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
        assert!(!out.is_empty());
    }
    let version = said(&["--version"]).await.1;
    assert_eq!(version, format!("linkspan-gateway {}\n", env!("CARGO_PKG_VERSION")));
    for (words, told) in [
        (&[][..], "a command is missing"),
        (&["rnu"], "did you mean `run`?"),
        (&["run", "--confg", "x"], "did you mean `--config`?"),
        (&["enroll", "https://a.example", "CODE"], "a claim code has 16 letters and digits"),
    ] {
        let (code, out, err) = said(words).await;
        assert_eq!((code, out.as_str()), (Some(64), ""), "{words:?}");
        assert!(err.starts_with("linkspan-gateway: ") && err.contains(told), "{err}");
    }
}

#[tokio::test]
async fn completion_scripts_are_accepted_by_their_shell() {
    let script = said(&["completion", "bash"]).await.1;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("script");
    std::fs::write(&file, script).unwrap();
    let ask =
        "source \"$0\"; COMP_WORDS=(linkspan-gateway st); COMP_CWORD=1; _linkspan_gateway; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").args(["-c", ask]).arg(&file).output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "status\n");
}

#[tokio::test]
async fn check_tells_everything() {
    let server = Server::new().await;
    let site = Site::for_server(&server, &device("plc1", "127.0.0.1", 1));
    let file = site.file();
    let file = file.to_str().unwrap();
    let (code, out, err) = said(&["check", "--config", file]).await;
    let port = server.port();
    assert_eq!(out, format!("{file}: OK: gateway site12 at localhost:{port}, 1 device, 1 service\n"));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    site.configure(&server, "", "[[device]]\nname = \"a\"\nhost = \"b\"\n[[device]]\nname = \"A\"\nhost = \"b:1\"\n");
    let (code, out, err) = said(&["check", "-c", file]).await;
    assert_eq!((code, out.as_str()), (Some(78), ""));
    let lines: Vec<_> = err.lines().collect();
    assert!(lines[0].starts_with(&format!("{file}:7:1: warning: this device has no service")), "{err}");
    assert!(
        lines[2].starts_with(&format!("{file}:11:8: a name is written without capital letters; write \"a\"")),
        "{err}"
    );
    assert!(lines.last().unwrap().ends_with("cannot be used (2 to correct)"), "{err}");
    let (code, _, err) = said(&["check", "-c", "/nowhere/gateway.toml"]).await;
    assert_eq!(code, Some(78));
    assert!(err.contains("/nowhere/gateway.toml: /nowhere/gateway.toml cannot be read"), "{err}");
    assert_eq!(said(&["run", "-c", "/nowhere/gateway.toml"]).await.0, Some(78));
    assert_eq!(said(&["status", "-c", "/nowhere/gateway.toml"]).await.0, Some(69));
}

#[tokio::test]
async fn one_runs_at_a_time_and_tells_its_status() {
    let server = Server::new().await;
    let site = Site::for_server(&server, &device("plc1", "127.0.0.1", 1));
    let file = site.file();
    let file = file.to_str().unwrap();
    let mut running = Running::start(&site);
    let link = server.accept().await;
    site.eventually("connected", |s| s.link.state == LinkState::Connected).await;
    let (code, out, _) = said(&["status", "-c", file]).await;
    assert_eq!(code, Some(0));
    assert!(out.contains("\nConnected to localhost:") && out.contains("\n  plc1 at 127.0.0.1\n"), "{out}");
    let (_, json, _) = said(&["status", "--json", "-c", file]).await;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["name"], &json["link"]["state"]), (&"site12".into(), &"connected".into()));
    let (code, _, err) = said(&["run", "-c", file]).await;
    assert_eq!(code, Some(69));
    assert!(err.contains("another linkspan-gateway runs with this configuration"), "{err}");

    // kill -9 leaves the socket behind; the next one takes its place.
    running.child.kill().await.unwrap();
    assert!(site.dir.path().join("gateway.sock").exists());
    drop(link);
    let mut running = Running::start(&site);
    let link = server.accept().await;
    site.eventually("connected", |s| s.link.state == LinkState::Connected).await;
    running.signal("TERM").await;
    let LinkEnd::Closed(close) = link.end().await else { panic!("a reason") };
    assert_eq!(close.reason, CloseReason::Stopping);
    assert_eq!(running.code().await, Some(0), "{}", running.log());
    assert!(!site.dir.path().join("gateway.sock").exists());
    assert!(!running.log().contains("hunter2"), "{}", running.log());
}

#[tokio::test]
async fn hang_up_reads_the_configuration_again() {
    let server = Server::new().await;
    let site = Site::for_server(&server, &device("plc1", "127.0.0.1", 1));
    let mut running = Running::start(&site);
    let link = server.accept().await;
    assert_eq!(link.devices().await.len(), 1);
    site.configure(&server, "ca_file = \"none.pem\"", "");
    running.signal("HUP").await;
    eventually("a word about it", async || running.log().contains("the last good one stays").then_some(())).await;
    let devices = device("plc1", "127.0.0.1", 1) + &device("plc2", "127.0.0.1", 2);
    site.configure(&server, "ca_file = \"ca.pem\"", &(devices + "[log]\nlevel = \"debug\"\n"));
    running.signal("HUP").await;
    assert_eq!(link.devices().await.len(), 2);
    running.signal("INT").await;
    assert_eq!(running.code().await, Some(0));
    assert!(running.log().contains("was read again: 2 devices"), "{}", running.log());
}

#[tokio::test]
async fn a_router_that_is_not_set_up_waits_for_its_configuration_in_uci() {
    let server = Server::new().await;
    let site = Site::for_server(&server, "");
    for folder in ["config", "linkspan"] {
        std::fs::create_dir(site.dir.path().join(folder)).unwrap();
    }
    site.write("linkspan/secret", "hunter2-secret");
    let uci = site.write("config/linkspan", "config server 'server'\n");
    let log = site.dir.path().join("log");
    let mut command = Command::new(PROGRAM);
    command.args(["run", "--stay", "--config"]).arg(&uci).stdin(Stdio::null()).kill_on_drop(true);
    let child = command.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
    let mut running = Running { child, log };
    eventually("what is wrong", async || running.log().contains("`url` is missing in `config server`").then_some(()))
        .await;
    let good = format!(
        "config server\n\toption url 'https://localhost:{}'\n\toption ca_file '{}'\nconfig identity\n\toption name 'site12'\n\
         \toption secret_file 'secret'\nconfig device 'plc1'\n\toption host '127.0.0.1'\nconfig service\n\
         \toption device 'plc1'\n\toption name 'web'\n\toption kind 'http'\n",
        server.port(),
        site.dir.path().join("ca.pem").display()
    );
    site.write("config/linkspan", &good);
    running.signal("HUP").await;
    let link = server.accept().await;
    assert_eq!(link.devices().await.len(), 1);
    let status = async || said(&["status", "-c", uci.to_str().unwrap()]).await.1;
    site.write("config/linkspan", &good.replace("option kind 'http'", "option kind 'htpp'"));
    running.signal("HUP").await;
    eventually("a word in the log", async || running.log().contains("the last good one stays").then_some(())).await;
    let told = status().await;
    assert!(told.contains("did you mean \"http\"?") && told.contains("web (http, port 80)"), "{told}");
    running.signal("TERM").await;
    assert_eq!(running.code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_wait_for_connections() {
    let server = Server::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let plc = device("plc1", "127.0.0.1", listener.local_addr().unwrap().port());
    let site = Site::for_server(&server, &format!("[limits]\ndrain = \"10m\"\n{plc}"));
    let mut running = Running::start(&site);
    let link = server.accept().await;
    let mut stream = link.open("plc1");
    let _far = listener.accept().await.unwrap();
    stream.opened().await.unwrap();
    running.signal("TERM").await;
    eventually("new connections are refused", async || {
        link.open("plc1").opened().await.err().filter(|reset| reset.reason == ResetReason::Stopping)
    })
    .await;
    running.signal("TERM").await;
    assert_eq!(running.code().await, Some(0));
}

#[tokio::test]
async fn the_service_manager_hears_everything() {
    let server = Server::new().await;
    let site = Site::for_server(&server, "");
    let at = site.dir.path().join("notify");
    let manager = Manager::listen(&at);
    let mut command = Command::new(PROGRAM);
    command.env("NOTIFY_SOCKET", &at).env("WATCHDOG_USEC", "200000").env("JOURNAL_STREAM", "8:1");
    let mut running = Running::start_with(&site, command);
    manager.hears("READY=1").await;
    assert!(site.status().is_some(), "the status socket is up before READY");
    let _link = server.accept().await;
    manager.hears(&format!("STATUS=Connected to localhost:{}", server.port())).await;
    manager.hears("WATCHDOG=1").await;
    manager.hears("WATCHDOG=1").await;
    running.signal("HUP").await;
    let reloading = manager.hears("RELOADING=1").await;
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.hears("READY=1").await;
    running.signal("TERM").await;
    manager.hears("STOPPING=1").await;
    assert_eq!(running.code().await, Some(0));
    assert!(running.log().starts_with("<6>"), "journald takes the level from a prefix: {}", running.log());
}

/// The service manager's end of sd_notify(3).
struct Manager(UnixDatagram);

impl Manager {
    fn listen(at: &Path) -> Self {
        let socket = UnixDatagram::bind(at).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self(socket)
    }

    /// The next message with this line.
    async fn hears(&self, line: &str) -> String {
        eventually(line, async || {
            let mut message = [0; 4096];
            let length = self.0.recv(&mut message).ok()?;
            let message = String::from_utf8(message[..length].to_vec()).unwrap();
            message.lines().any(|found| found == line).then_some(message)
        })
        .await
    }
}

#[tokio::test]
async fn without_file_descriptors_it_says_so_and_goes_on() {
    let server = Server::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let site = Site::for_server(&server, &device("plc1", "127.0.0.1", listener.local_addr().unwrap().port()));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 20; exec \"$0\" \"$@\"", PROGRAM]);
    let mut running = Running::start_with(&site, command);
    let link = server.accept().await;
    let mut open = Vec::new();
    let refused = loop {
        let mut stream = link.open("plc1");
        match tokio::time::timeout(DEADLINE, stream.opened()).await.expect("an answer") {
            Ok(()) => open.push(stream),
            Err(reset) => break reset,
        }
        assert!(open.len() < 20);
    };
    assert_eq!(refused.reason, ResetReason::Internal);
    assert!(refused.text.contains("no free file descriptor"), "{refused}");
    assert!(!open.is_empty());
    open.clear();
    eventually("a connection works again", async || link.open("plc1").opened().await.ok()).await;
    running.signal("TERM").await;
    assert_eq!(running.code().await, Some(0), "{}", running.log());
}

#[tokio::test]
async fn without_a_place_for_its_socket_it_runs_all_the_same() {
    let server = Server::new().await;
    let site = Site::for_server(&server, "[status]\nsocket = \"/proc/nowhere/gateway.sock\"\n");
    let mut running = Running::start(&site);
    let _link = server.accept().await;
    assert!(running.log().contains("there is no status socket at /proc/nowhere/gateway.sock"), "{}", running.log());
    running.signal("TERM").await;
    assert_eq!(running.code().await, Some(0));
}
