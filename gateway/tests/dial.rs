//! The way to the server, against real TLS servers, a real proxy, and servers that misbehave.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod support;

use std::process::Stdio;
use std::time::Duration;

use linkspan_gateway::status::LinkState;
use linkspan_protocol::message::{Close, CloseReason, Refused, RefusedReason};
use rustls::HandshakeKind;
use support::{Certificate, Server, Site, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The failure of a gateway whose `[server]` says `more`, at a server that accepts everybody.
async fn failure(server: &Server, more: &str) -> (String, String) {
    let site = Site::new();
    site.write("ca.pem", &server.certificate.authority_pem);
    site.configure(server, more, "");
    let gateway = site.start();
    let accept = async {
        loop {
            assert!(server.accept_websocket().await.is_none(), "the gateway must not go on");
        }
    };
    let failure = tokio::select! {
        failure = gateway.failure() => failure,
        () = accept => unreachable!(),
    };
    gateway.stop().await;
    failure
}

#[tokio::test]
async fn an_unknown_authority_is_refused_and_the_fingerprint_told() {
    let server = Server::new().await;
    let site = Site::new();
    let stranger = rcgen::generate_simple_self_signed(["stranger".to_owned()]).unwrap().cert.pem();
    let same_name = Certificate::new(|_| ()).authority_pem;
    let fingerprint = server.certificate.fingerprint();
    for other in [stranger, same_name] {
        let other = site.write("other.pem", &other);
        let (what, advice) = failure(&server, &format!("ca_file = \"{}\"", other.display())).await;
        assert!(what.starts_with("TLS: ") && what.contains("authority that is not known here"), "{what}");
        assert!(what.contains(&fingerprint), "{what}");
        assert!(advice.contains(&format!("fingerprint = \"{fingerprint}\"")), "{advice}");
    }
}

#[tokio::test]
async fn wrong_names_and_dates_are_refused() {
    let server = Server::with(Certificate::new(|leaf| {
        leaf.subject_alt_names = vec![rcgen::SanType::DnsName("elsewhere.example".try_into().unwrap())];
    }));
    let (what, advice) = failure(&server.await, "ca_file = \"ca.pem\"").await;
    assert!(what.contains("is not for localhost but for") && what.contains("elsewhere.example"), "{what}");
    assert!(advice.contains("[server] url"), "{advice}");
    let server = Server::with(Certificate::new(|leaf| leaf.not_after = rcgen::date_time_ymd(2020, 1, 1)));
    let (what, advice) = failure(&server.await, "ca_file = \"ca.pem\"").await;
    assert!(what.contains("has expired, says the clock here (20"), "{what}");
    assert!(advice.contains("clock"), "{advice}");
}

/// Perhaps only this machine's clock is wrong: the authority was named by the owner, so the server may tell the time. It
/// must then fit.
#[tokio::test]
async fn a_certificate_of_the_future_is_judged_by_the_time_that_the_server_tells() {
    let server = Server::with(Certificate::new(|leaf| leaf.not_before = rcgen::date_time_ymd(2100, 1, 1))).await;
    let gateway = Site::for_server(&server, "").start();
    // This server says that it is 1970.
    let link = server.accept().await;
    let (what, advice) = gateway.failure().await;
    assert!(what.contains("does not hold at the time it tells itself (1970-01-01"), "{what}");
    assert!(advice.contains("clock"), "{advice}");
    drop(link);
    gateway.stop().await;
}

#[tokio::test]
async fn a_pinned_certificate_counts_alone() {
    let server = Server::with(Certificate::new(|leaf| {
        leaf.subject_alt_names.clear();
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }))
    .await;
    let site = Site::new();
    site.configure(&server, &format!("fingerprint = \"{}\"", server.certificate.fingerprint()), "");
    let gateway = site.start();
    let link = server.accept().await;
    assert_eq!(link.hello.name.as_str(), "site12");
    assert_eq!(link.hello.secret.unwrap().expose(), "hunter2-secret");
    gateway.stop().await;
    let other = format!("fingerprint = \"{}\"", "ab".repeat(32));
    let (what, _) = failure(&server, &other).await;
    assert!(what.contains("is not the pinned one; it presented"), "{what}");
    assert!(what.contains(&server.certificate.fingerprint()), "{what}");
}

#[tokio::test]
async fn what_is_no_server_is_told_from_one() {
    for (answer, told, advice_told) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "TLS: what answers there does not speak TLS", "port"),
        (&b""[..], "TLS: the server hung up", "firewall"),
    ] {
        let server = Server::new().await;
        let site = Site::for_server(&server, "");
        let gateway = site.start();
        let mut stream = server.accept_tcp().await;
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).await.unwrap();
        stream.write_all(answer).await.unwrap();
        stream.shutdown().await.unwrap();
        let (what, advice) = gateway.failure().await;
        assert!(what.starts_with(told) && advice.contains(advice_told), "{what}; {advice}");
        gateway.stop().await;
    }
    let server = Server::new().await;
    let site = Site::for_server(&server, "");
    drop(server);
    let gateway = site.start();
    let (what, advice) = gateway.failure().await;
    assert!(what.starts_with("TCP: localhost:") && what.contains("refused"), "{what}");
    assert!(advice.contains("is the server running"), "{advice}");
    gateway.stop().await;
}

#[tokio::test]
async fn the_answer_to_the_upgrade_is_explained_and_retry_after_obeyed() {
    for (answer, told, least, most) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "WebSocket: the server answered 404 Not Found", 15, 30),
        ("HTTP/1.1 503 Busy\r\nRetry-After: 40\r\n\r\n", "WebSocket: the server answered 503", 38, 50),
        ("HTTP/1.1 302 Found\r\nLocation: https://b/\r\n\r\n", "302 Found to https://b/", 15, 30),
        ("HTTP/1.1 200 OK\r\n\r\n", "the server answered 200 OK", 15, 30),
    ] {
        let server = Server::new().await;
        let gateway = Site::for_server(&server, "").start();
        let answered = server.answer_http(answer).await;
        assert!(answered.starts_with("GET /link HTTP/1.1\r\n"), "{answered}");
        let (what, advice) = gateway.failure().await;
        assert!(what.contains(told), "{what}; {advice}");
        let next = gateway.site.eventually("a wait", |snapshot| snapshot.link.next_attempt_in_s.is_some()).await;
        let next = next.link.next_attempt_in_s.unwrap();
        assert!((least - 2..=most).contains(&next), "{answer}: next attempt in {next} s");
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_refused_gateway_says_why_and_tries_slowly() {
    let server = Server::new().await;
    let gateway = Site::for_server(&server, "").start();
    let text = "unknown gateway or wrong secret\u{1b}[2J";
    server.refuse(Refused { reason: RefusedReason::Identity, text: text.into(), retry_after_s: None }).await;
    let (what, advice) = gateway.failure().await;
    assert_eq!(what, "hello: the server refused: unknown gateway or wrong secret [2J");
    assert!(advice.contains("secret_file"), "{advice}");
    let waiting = gateway.site.eventually("a wait", |s| s.link.state == LinkState::Waiting).await;
    assert!((10..=30).contains(&waiting.link.next_attempt_in_s.unwrap()), "{waiting:?}");
    // Once it is read again it is tried at once, even if nothing has changed here: it may have on the server.
    gateway.reload().await;
    server.refuse(Refused { reason: RefusedReason::Identity, text: text.into(), retry_after_s: None }).await;
    gateway.site.eventually("a wait", |s| s.link.state == LinkState::Waiting).await;
    // And so is a new secret.
    gateway.site.write("secret", "another-secret");
    gateway.reload().await;
    let link = server.accept().await;
    assert_eq!(link.hello.secret.unwrap().expose(), "another-secret");
    gateway.stop().await;
}

#[tokio::test]
async fn of_two_servers_the_one_that_answers_is_taken_and_kept() {
    let (server, gone) = (Server::new().await, Server::new().await.port());
    let site = Site::for_server(&server, "");
    let url = format!("url = [\"https://localhost:{gone}\", \"https://localhost:{}\"]", server.port());
    let config = std::fs::read_to_string(site.file()).unwrap();
    site.write("gateway.toml", &config.replace(&format!("url = \"https://localhost:{}\"", server.port()), &url));
    let gateway = site.start();
    let link = server.accept().await;
    let up = gateway.site.eventually("up", |s| s.link.state == LinkState::Connected).await;
    assert_eq!(up.link.server, format!("localhost:{}", server.port()));
    assert!(up.link.servers[0].last_error.as_ref().unwrap().what.contains("refused"), "{:?}", up.link.servers);
    assert_eq!(up.link.servers[1].last_error, None);
    let keepalive = up.link.keepalive.unwrap();
    assert!(
        !keepalive.learning && keepalive.ping_after_s == 55,
        "a server that knows nothing of it is asked as it says"
    );
    // It asks for an hour of peace: the other one is tried meanwhile.
    link.handle.close(&Close {
        reason: CloseReason::Restarting,
        text: String::new(),
        retry_between_s: Some((3600, 3600)),
    });
    let waits = gateway.site.eventually("a wait", |s| s.link.servers.iter().all(|one| one.last_error.is_some())).await;
    assert!(waits.link.servers[1].not_before_s.unwrap() > 3500, "{:?}", waits.link.servers);
    assert!(waits.link.next_attempt_in_s.is_none_or(|seconds| seconds < 60), "{:?}", waits.link);
    gateway.stop().await;
}

#[tokio::test]
async fn a_superseded_gateway_does_not_fight_back() {
    let server = Server::new().await;
    let gateway = Site::for_server(&server, "").start();
    let link = server.accept().await;
    assert!(!link.hello.yielding);
    link.handle.close(&Close { reason: CloseReason::Superseded, text: "newer".into(), retry_between_s: None });
    let state = gateway.site.eventually("superseded", |s| s.link.state == LinkState::Superseded).await;
    assert!(state.link.last_error.unwrap().advice.contains("give each its own"));
    assert!(state.link.next_attempt_in_s.unwrap() >= 13, "it takes its time");
    gateway.stop().await;
}

#[tokio::test]
async fn a_superseded_gateway_comes_back_once_the_other_is_gone() {
    let server = Server::new().await;
    let gateway = Site::for_server(&server, "").start();
    let link = server.accept().await;
    let close = |reason| Close { reason, text: String::new(), retry_between_s: Some((0, 0)) };
    link.handle.close(&close(CloseReason::Superseded));
    let refused = Refused { reason: RefusedReason::InUse, text: "in use".into(), retry_after_s: Some(0) };
    let hello = server.refuse(refused).await;
    assert!(hello.yielding, "it asks to be taken only if nobody else is there");
    assert_eq!(hello.instance, link.hello.instance);
    let link = server.accept().await;
    assert!(link.hello.yielding);
    link.handle.close(&close(CloseReason::Restarting));
    assert!(!server.accept().await.hello.yielding, "once connected, it is an ordinary gateway again");
    gateway.stop().await;
}

#[tokio::test]
async fn a_lost_link_comes_back() {
    let server = Server::new().await;
    let gateway = Site::for_server(&server, "").start();
    for _ in 0..3 {
        let link = server.accept().await;
        link.end.abort();
    }
    let _link = server.accept().await;
    let snapshot = gateway.site.eventually("up again", |s| s.link.state == LinkState::Connected).await;
    assert_eq!(snapshot.link.reconnects, 3);
    gateway.stop().await;
}

/// Debian's tinyproxy on a port of its own.
struct TinyProxy {
    port: u16,
    _process: tokio::process::Child,
    dir: tempfile::TempDir,
}

impl TinyProxy {
    async fn start(more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let config = dir.path().join("tinyproxy.conf");
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 60\nLogFile \"{}\"\nLogLevel Connect\n{more}\n",
            log.display()
        );
        std::fs::write(&config, text).unwrap();
        let process = tokio::process::Command::new("tinyproxy")
            .arg("-d")
            .arg("-c")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("tinyproxy is installed");
        eventually("tinyproxy listens", async || TcpStream::connect(("127.0.0.1", port)).await.ok()).await;
        Self { port, _process: process, dir }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

fn through(proxy: u16, credentials: &str, server: &Server) -> Site {
    let site = Site::for_server(server, "");
    site.configure(server, &format!("ca_file = \"ca.pem\"\nproxy = \"http://{credentials}127.0.0.1:{proxy}\""), "");
    site
}

#[tokio::test]
async fn a_real_proxy_leads_to_the_server() {
    let server = Server::new().await;
    let proxy = TinyProxy::start("BasicAuth user pa_ss.w\nAllow 127.0.0.1").await;
    let gateway = through(proxy.port, "user:pa%5Fss%2Ew@", &server).start();
    let _link = server.accept().await;
    let up = gateway.site.eventually("up", |s| s.link.state == LinkState::Connected).await;
    assert_eq!(up.link.proxy, Some(format!("127.0.0.1:{}", proxy.port)));
    assert!(proxy.log().contains(&format!("CONNECT localhost:{}", server.port())), "{}", proxy.log());
    gateway.stop().await;
}

#[tokio::test]
async fn a_real_proxy_refuses_wrong_credentials_and_ports() {
    let server = Server::new().await;
    let proxy = TinyProxy::start("BasicAuth user right").await;
    for (credentials, told) in [("", "wants a user name"), ("user:hunter2@", "does not accept the user name")] {
        let gateway = through(proxy.port, credentials, &server).start();
        let (what, advice) = gateway.failure().await;
        assert!(what.starts_with("proxy: ") && what.contains(told), "{what}");
        assert!(!format!("{what}{advice}").contains("hunter2"));
        gateway.stop().await;
    }
    let proxy = TinyProxy::start("ConnectPort 1").await;
    let gateway = through(proxy.port, "", &server).start();
    let (what, advice) = gateway.failure().await;
    assert!(what.contains("403") && advice.contains("allow CONNECT to localhost:"), "{what}; {advice}");
    gateway.stop().await;
}

#[tokio::test]
async fn a_gateway_that_waits_or_dials_stops_at_once() {
    let server = Server::new().await;
    let gateway = Site::for_server(&server, "").start();
    let _silent = server.accept_tcp().await;
    gateway.site.eventually("dialing", |s| s.link.state == LinkState::Dialing).await;
    let stopping = tokio::time::timeout(Duration::from_secs(3), gateway.stop());
    stopping.await.expect("it does not wait for a silent server");
}

#[tokio::test]
async fn a_gateway_that_comes_back_resumes_tls() {
    let server = Server::new().await;
    let gateway = Site::for_server(&server, "").start();
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
        let (mut socket, _) = server.accept_hello().await;
        assert_eq!(socket.get_ref().get_ref().1.handshake_kind(), Some(kind));
        let refused = Refused { reason: RefusedReason::Busy, text: "later".into(), retry_after_s: Some(0) };
        // The gateway may hang up first.
        let _ = linkspan_protocol::handshake::refuse(&mut socket, &refused).await;
    }
    gateway.stop().await;
}
