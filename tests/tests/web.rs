//! Journeys of web pages: real web servers as devices, curl and WebSockets as visitors, a server and a gateway between.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::{SinkExt, StreamExt};
use linkspan_tests::devices::{Camera, Plc};
use linkspan_tests::netns::run;
use linkspan_tests::noise::noise;
use linkspan_tests::parts::{Lighttpd, Nginx, loopback};
use linkspan_tests::programs::output_of;
use linkspan_tests::rig::{Rig, RunningGateway};
use ring::digest::{SHA256, digest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A rig with a gateway in front of devices with one service each, as name, kind, address and more lines.
async fn site(devices: &[(&str, &str, std::net::SocketAddr, &str)]) -> Result<(Rig, RunningGateway, String)> {
    let rig = Rig::start().await?;
    let mut config = rig.new_gateway("site12").await?;
    for (name, kind, address, lines) in devices {
        config = config.device(name, "", &[("web", kind, *address)]).lines(lines);
    }
    let gateway = rig.run_gateway(&config)?;
    let token = rig.sign_in().await?;
    for (name, ..) in devices {
        rig.wait_for_page(&format!("{}/", rig.device(name)), &token).await?;
    }
    Ok((rig, gateway, token))
}

/// Runs curl to its end, away from the threads that serve it.
async fn curl(mut command: Command, arguments: &[&str]) -> Result<String> {
    command.args(arguments);
    spawn_blocking(move || run(&mut command)).await?
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_is_read_whole_in_parts_and_not_again() {
    let folder = tempfile::tempdir().unwrap();
    let nginx = Nginx::start(folder.path()).await.unwrap();
    let file = noise(30 << 20);
    std::fs::write(nginx.root().join("firmware.bin"), &file).unwrap();
    std::fs::write(nginx.root().join("index.html"), "hello").unwrap();
    let (rig, _gateway, token) = site(&[("cam1", "http", nginx.address(), "")]).await.unwrap();
    let url = format!("{}/firmware.bin", rig.device("cam1"));
    for version in ["--http1.1", "--http2"] {
        let copy = folder.path().join("copy");
        curl(rig.curl(&token), &[version, "-o", copy.to_str().unwrap(), &url]).await.unwrap();
        assert!(std::fs::read(&copy).unwrap() == file, "{version}: not the same bytes");
        let range =
            ["-r", "1000000-1999999", "-o", copy.to_str().unwrap(), "-w", "%{http_code} %header{content-range}"];
        let status = curl(rig.curl(&token), &[&[version][..], &range, &[&url]].concat()).await.unwrap();
        assert_eq!(status, format!("206 bytes 1000000-1999999/{}", file.len()));
        assert!(std::fs::read(&copy).unwrap() == file[1_000_000..2_000_000], "{version}: not the range");
    }
    let head = curl(rig.curl(&token), &["-I", &url]).await.unwrap().to_ascii_lowercase();
    assert!(
        head.contains(&format!("content-length: {}", file.len())) && head.contains("accept-ranges: bytes"),
        "{head}"
    );
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim().to_owned();
    let known = format!("If-None-Match: {tag}");
    let again = ["-o", "/dev/null", "-w", "%{http_code} %{size_download}", "-H", &known, &url];
    assert_eq!(curl(rig.curl(&token), &again).await.unwrap(), "304 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn lighttpd_takes_uploads_after_100_continue() {
    let folder = tempfile::tempdir().unwrap();
    let lighttpd = Lighttpd::start(folder.path()).await.unwrap();
    std::fs::write(lighttpd.root().join("index.html"), "hello").unwrap();
    let file = noise(50 << 20);
    let path = folder.path().join("upload");
    std::fs::write(&path, &file).unwrap();
    let (rig, _gateway, token) = site(&[("plc1", "http", lighttpd.address(), "")]).await.unwrap();
    for (name, more) in [("known", vec!["-T"]), ("chunked", vec!["-H", "Transfer-Encoding: chunked", "-T"])] {
        let url = format!("{}/upload/{name}", rig.device("plc1"));
        let mut command = rig.curl(&token);
        command.args(["-v", "--http1.1", "-H", "Expect: 100-continue", "--expect100-timeout", "20", "--fail"]);
        command.args(more).arg(&path).arg(url);
        let output = spawn_blocking(move || output_of(command, None)).await.unwrap().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(said.contains("< HTTP/1.1 100 Continue"), "{said}");
        let arrived = std::fs::read(lighttpd.root().join("upload").join(name)).unwrap();
        assert_eq!(digest(&SHA256, &arrived).as_ref(), digest(&SHA256, &file).as_ref());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_come_through_to_curl() {
    let listener = TcpListener::bind(loopback(0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut device = tokio::task::JoinSet::new();
    device.spawn(async move {
        // An answer with a trailer for each request, on a connection of its own.
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match socket.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => break,
                }
            }
            let answer =
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: Checksum\r\nConnection: close\r\n\r\n\
                           5\r\nhello\r\n0\r\nChecksum: 4711\r\n\r\n";
            let _ = socket.write_all(answer).await;
        }
    });
    let (rig, _gateway, token) = site(&[("meter", "http", address, "")]).await.unwrap();
    for version in ["--http1.1", "--http2"] {
        let url = format!("{}/", rig.device("meter"));
        let said =
            curl(rig.curl(&token), &[version, "-i", "-H", "TE: trailers", &url]).await.unwrap().to_ascii_lowercase();
        assert!(said.contains("hello") && said.contains("checksum: 4711"), "{version}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plc_page_lives_through_the_proxy() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let (rig, _gateway, token) = site(&[("plc1", "http", plc.address(), "")]).await.unwrap();
    let origin = rig.device("plc1");

    // The device's login cookie is for its LAN name; for the browser it is for this host and no other.
    let login = format!("{origin}/login");
    let said =
        curl(rig.curl(&token), &["-i", "--http1.1", "-d", "user=operator&password=operator", &login]).await.unwrap();
    let said = said.to_ascii_lowercase();
    let cookie = said.lines().find(|line| line.starts_with("set-cookie: plcsession=")).unwrap();
    assert!(!cookie.contains("domain") && cookie.contains("secure"), "{cookie}");
    let pair = cookie.trim_start_matches("set-cookie: plcsession=").split(';').next().unwrap();
    let cookie = format!("PLCSESSION={pair}");
    let page = curl(rig.curl(&token), &["-b", &cookie, &format!("{origin}/")]).await.unwrap();
    assert!(page.contains("logged in as"), "{page}");

    // Server-sent events arrive while the answer is still open.
    let mut events = rig.curl(&token);
    events.args(["-N", "--max-time", "3", &format!("{origin}/events")]);
    let output = spawn_blocking(move || output_of(events, None)).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(28), "it ends by curl's time-out");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Controller started"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_echoes_through_the_proxy() {
    let plc = Plc::start(loopback(0), "plc1.local").await.unwrap();
    let (rig, _gateway, token) = site(&[("plc1", "http", plc.address(), "")]).await.unwrap();
    let host = format!("plc1.devices.localhost:{}", rig.address().port());
    let stream = rig.https().unwrap().connect("plc1.devices.localhost").await.unwrap();
    let mut request = format!("wss://{host}/ws").into_client_request().unwrap();
    request.headers_mut().insert("linkspan-authorization", format!("Bearer {token}").parse().unwrap());
    request.headers_mut().insert("origin", format!("https://{host}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();
    let big = noise(200_000);
    socket.send(Message::text("hello")).await.unwrap();
    socket.send(Message::binary(big.clone())).await.unwrap();
    let (mut text, mut binary, mut values) = (false, false, 0);
    let all = async {
        while !(text && binary && values > 2) {
            match socket.next().await.context("the socket ended")?? {
                Message::Text(t) if t.as_str() == "echo:hello" => text = true,
                Message::Text(t) => values += usize::from(t.contains("\"level\":")),
                Message::Binary(bytes) => binary = bytes == big,
                other => anyhow::bail!("{other:?}"),
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.unwrap().unwrap();
    socket.close(None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_redirects_to_its_lan_address_stays_on_its_host() {
    let camera = Camera::start(loopback(0)).await.unwrap();
    let (rig, _gateway, token) = site(&[("cam1", "http", camera.address(), "")]).await.unwrap();
    let origin = rig.device("cam1");
    let arguments = ["-L", "-o", "/dev/null", "-w", "%{http_code} %{url_effective}", &format!("{origin}/")];
    let end = curl(rig.curl(&token), &arguments).await.unwrap();
    assert_eq!(end, format!("200 {origin}/index.html"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_https_device_with_its_own_certificate_is_reached_and_a_pinned_one_only_by_it() {
    let folder = tempfile::tempdir().unwrap();
    let fingerprint = certificate(folder.path()).unwrap();
    let port = linkspan_tests::parts::free_port().unwrap();
    let files = folder.path().display();
    let tls = format!(
        "listen 127.0.0.1:{port} ssl; ssl_certificate {files}/cert.pem; ssl_certificate_key {files}/key.pem; location = / {{ return 200 'over TLS'; }}"
    );
    let _nginx = Nginx::start_with(folder.path(), &tls).await.unwrap();
    let pinned = format!("  verify = \"pinned\"\n  fingerprint = \"sha256:{fingerprint}\"\n");
    let wrong = format!("  verify = \"pinned\"\n  fingerprint = \"sha256:{}\"\n", "0".repeat(64));
    let rig = Rig::start().await.unwrap();
    let mut config = rig.new_gateway("site12").await.unwrap();
    for (name, lines) in [("off", ""), ("pinned", pinned.as_str()), ("wrong", wrong.as_str())] {
        config = config.device(name, "", &[("web", "https", loopback(port))]).lines(lines);
    }
    let _gateway = rig.run_gateway(&config).unwrap();
    let token = rig.sign_in().await.unwrap();
    for name in ["off", "pinned"] {
        let url = format!("{}/", rig.device(name));
        rig.wait_for_page(&url, &token).await.unwrap();
        assert_eq!(rig.https().unwrap().get_device(&url, &token).await.unwrap().text(), "over TLS");
    }
    let answer = rig.https().unwrap().get_device(&format!("{}/", rig.device("wrong")), &token).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.header("linkspan-error")), (502, "device-tls"), "{}", answer.text());
}

/// A self-signed certificate as devices have; returns its SHA-256.
fn certificate(folder: &Path) -> Result<String> {
    let made = rcgen::generate_simple_self_signed(vec!["camera".to_owned()])?;
    std::fs::write(folder.join("cert.pem"), made.cert.pem())?;
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem())?;
    let hash = data_encoding::HEXLOWER.encode(digest(&SHA256, made.cert.der()).as_ref());
    ensure!(hash.len() == 64);
    Ok(hash)
}
