//! Real web servers as devices, plain and with certificates of every kind.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use http::header::{CONTENT_RANGE, ETAG, IF_NONE_MATCH, LOCATION, RANGE};
use http::{Request, StatusCode};
use linkspan_protocol::message::{DeviceReport, ServiceKind, ServiceReport, Verify};
use ring::digest::{SHA256, digest};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::world::{World, bytes, device, local, nothing, read, service};

const HOST: &str = "plc1.devices.example.net";

/// A program that ends with the test.
struct Program {
    child: Child,
    at: SocketAddr,
    dir: TempDir,
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn start(program: &str, config: impl Fn(&str, SocketAddr) -> String, args: &[&str]) -> Program {
    let dir = tempfile::tempdir().unwrap();
    let at = linkspan_server::edge::listener::bind(local()).unwrap().local_addr().unwrap();
    let path = dir.path().to_str().unwrap().to_owned();
    fs::create_dir(dir.path().join("www")).unwrap();
    fs::create_dir(dir.path().join("www/sub")).unwrap();
    fs::write(dir.path().join("www/index.html"), "<h1>PLC</h1>").unwrap();
    fs::write(dir.path().join("www/data.bin"), (0..100_000_u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>()).unwrap();
    let file = dir.path().join("conf");
    fs::write(&file, config(&path, at)).unwrap();
    let child = Command::new(program)
        .args(args)
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{program} is needed for this test (apt-get install nginx-light lighttpd): {error}")
        });
    let program = Program { child, at, dir };
    for _ in 0..400 {
        if TcpStream::connect(at).await.is_ok() {
            return program;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("did not start");
}

async fn nginx() -> Program {
    let config = |path: &str, at: SocketAddr| {
        format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\nevents {{}}\nhttp {{\n\
             access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
             uwsgi_temp_path {path}/u; scgi_temp_path {path}/s; client_max_body_size 1m;\n\
             server {{ listen {at}; root {path}/www; dav_methods PUT; }} }}\n"
        )
    };
    start("/usr/sbin/nginx", config, &["-e", "stderr", "-c"]).await
}

async fn lighttpd() -> Program {
    let config = |path: &str, at: SocketAddr| {
        format!(
            "server.document-root = \"{path}/www\"\nserver.bind = \"{}\"\nserver.port = {}\nserver.errorlog = \"{path}/log\"\n\
             index-file.names = (\"index.html\")\nmimetype.assign = (\"\" => \"text/html\")\n",
            at.ip(),
            at.port()
        )
    };
    start("/usr/sbin/lighttpd", config, &["-D", "-f"]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn real_web_servers_work_unchanged() {
    for program in [nginx().await, lighttpd().await] {
        let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, program.at)])]).await;
        let expected = fs::read(program.dir.path().join("www/data.bin")).unwrap();
        for mut client in [world.client(HOST).await, world.client2(HOST).await] {
            let (status, headers, body) = client.get("/").await;
            assert_eq!((status, body.as_str()), (StatusCode::OK, "<h1>PLC</h1>"));
            let request = Request::get("/").header(IF_NONE_MATCH, &headers[ETAG]);
            assert_eq!(client.send(request, nothing()).await.status(), StatusCode::NOT_MODIFIED);
            let head = client.send(Request::head("/data.bin"), nothing()).await;
            assert_eq!(head.headers()["content-length"], "100000");
            let response = client.send(Request::get("/data.bin").header(RANGE, "bytes=1000-1999"), nothing()).await;
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
            assert_eq!(response.headers()[CONTENT_RANGE], "bytes 1000-1999/100000");
            let part = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            assert_eq!(part, expected[1000..2000]);
            let (status, headers, _) = client.get("/sub").await;
            assert_eq!(status, StatusCode::MOVED_PERMANENTLY);
            let location = headers[LOCATION].to_str().unwrap();
            assert!(location == "/sub/" || location == format!("https://{HOST}/sub/"), "{location}");
            let (status, headers, _) = client.get("/missing").await;
            assert_eq!(status, StatusCode::NOT_FOUND);
            assert!(!headers.contains_key("linkspan-error"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_reach_nginx_whole_or_are_refused_by_it() {
    let program = nginx().await;
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, program.at)])]).await;
    let mut client = world.client(HOST).await;
    let small = vec![b'x'; 700_000];
    let (status, ..) = read(client.send(Request::put("/up.bin"), bytes(small.clone())).await).await;
    assert_eq!(status, StatusCode::CREATED);
    assert!(fs::read(program.dir.path().join("www/up.bin")).unwrap() == small);
    // nginx answers 413 at once and closes while we are still sending.
    let response = client.send(Request::put("/big.bin"), bytes(vec![b'x'; 20_000_000])).await;
    assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!response.headers().contains_key("linkspan-error"));
}

/// A TLS device that answers every request with `ok`.
async fn tls_device(name: &str) -> (SocketAddr, String, String, JoinSet<()>) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let fingerprint = data_encoding::HEXLOWER.encode(digest(&SHA256, made.cert.der()).as_ref());
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(local()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let Ok(mut tls) = acceptor.accept(socket).await else { continue };
            let mut space = [0; 4096];
            let _ = tls.read(&mut space).await;
            // Old devices neither give a length nor say that TLS ends.
            let _ = tls.write_all(b"HTTP/1.0 200 OK\r\n\r\nok").await;
            let _ = tls.flush().await;
        }
    });
    (at, fingerprint, made.cert.pem(), task)
}

async fn ask(service: ServiceReport) -> (u16, String) {
    let report = DeviceReport {
        name: "plc1".parse().unwrap(),
        description: String::new(),
        tags: vec![],
        services: vec![service],
    };
    let world = World::start(vec![report]).await;
    let (status, _, body) = world.client(HOST).await.get("/").await;
    (status.as_u16(), body)
}

#[tokio::test(flavor = "multi_thread")]
async fn https_devices_are_checked_as_configured() {
    let (at, sha256, pem, _task) = tls_device("plc.local").await;
    let https = |verify| service("web", ServiceKind::Https, at, verify);
    let ok = (200, "ok".to_owned());
    assert_eq!(ask(https(Verify::Off)).await, ok);
    assert_eq!(ask(https(Verify::Pinned { sha256: sha256.clone() })).await, ok);
    let named = Verify::Ca { pem: pem.clone(), server_name: Some("plc.local".into()) };
    assert_eq!(ask(https(named)).await, ok);
    let (status, page) = ask(https(Verify::Pinned { sha256: "00".repeat(32) })).await;
    assert!(status == 502 && page.contains("not the pinned one") && page.contains(&sha256), "{page}");
    let (status, page) = ask(https(Verify::Ca { pem, server_name: None })).await;
    assert!(status == 502 && page.contains("not valid") && page.contains(&sha256), "{page}");
    let (_, _, other, _other_task) = tls_device("plc.local").await;
    let (status, page) = ask(https(Verify::Ca { pem: other, server_name: Some("plc.local".into()) })).await;
    assert!(status == 502 && page.contains("not valid"), "{page}");
    let (status, page) = ask(https(Verify::Ca { pem: "nonsense".into(), server_name: None })).await;
    assert!(status == 502 && page.contains("authority"), "{page}");
}
