//! Both ends for tests: a real TLS server that speaks the language, and a gateway in this process or in its own.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part of this")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use linkspan_gateway::status::{self, Snapshot};
use linkspan_gateway::{Command, Host, RunError, config};
use linkspan_protocol::driver::{self, LinkEnd, LinkHandle, Role, Settings, Stream, Target, websocket_config};
use linkspan_protocol::handshake::{await_hello, refuse, welcome};
use linkspan_protocol::limits::WINDOW_FIRST_MAX;
use linkspan_protocol::message::{DeviceReport, GatewayToServer, Hello, Refused, SUBPROTOCOL, Welcome};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `look` finds something.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"))
}

/// A server's certificate, and the authority it comes from.
pub struct Certificate {
    pub authority_pem: String,
    pub der: CertificateDer<'static>,
    key: KeyPair,
}

impl Certificate {
    pub fn new(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.distinguished_name.push(rcgen::DnType::CommonName, "test authority");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let mut leaf = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "test server");
        change(&mut leaf);
        let key = KeyPair::generate().unwrap();
        let der = leaf.signed_by(&key, &authority).unwrap().der().clone();
        Self { authority_pem: authority.pem(), der, key }
    }

    pub fn fingerprint(&self) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.der);
        format!("sha256:{}", data_encoding::HEXLOWER.encode(digest.as_ref()))
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.der.clone()], key)
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

pub type Socket = WebSocketStream<TlsStream<TcpStream>>;

/// The server's end.
pub struct Server {
    pub certificate: Certificate,
    /// One for all connections, so that TLS can be resumed.
    acceptor: TlsAcceptor,
    listener: TcpListener,
}

/// A link, seen from the server.
pub struct ServerLink {
    pub hello: Hello,
    pub handle: LinkHandle,
    pub end: JoinHandle<LinkEnd>,
}

impl ServerLink {
    pub fn open(&self, device: &str) -> Stream {
        self.open_within(device, Duration::from_secs(5))
    }

    pub fn open_within(&self, device: &str, deadline: Duration) -> Stream {
        let (device, service) = (device.parse().unwrap(), "svc".parse().unwrap());
        self.handle.open(Target { device, service, deadline, packed: false, update: false }).unwrap()
    }

    /// A stream on which both ends pack.
    pub fn open_packed(&self, device: &str) -> Stream {
        let (device, service) = (device.parse().unwrap(), "svc".parse().unwrap());
        self.handle
            .open(Target { device, service, deadline: Duration::from_secs(5), packed: true, update: false })
            .unwrap()
    }

    /// The next list of devices that the gateway reports.
    pub async fn devices(&self) -> Vec<DeviceReport> {
        loop {
            let message = tokio::time::timeout(DEADLINE, self.handle.receive()).await;
            match serde_json::from_slice(&message.expect("a message").expect("a link")).unwrap() {
                GatewayToServer::Devices { devices } => return devices,
                GatewayToServer::Keepalive { .. } | GatewayToServer::Traffic { .. } => {}
                other => panic!("another message: {other:?}"),
            }
        }
    }

    /// Why the link ended.
    pub async fn end(self) -> LinkEnd {
        tokio::time::timeout(DEADLINE, self.end).await.expect("the link ends").unwrap()
    }
}

impl Server {
    pub async fn new() -> Self {
        Self::with(Certificate::new(|_| ())).await
    }

    pub async fn with(certificate: Certificate) -> Self {
        let acceptor = certificate.acceptor();
        Self { certificate, acceptor, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    pub async fn accept_tcp(&self) -> TcpStream {
        tokio::time::timeout(DEADLINE, self.listener.accept()).await.expect("a gateway dials").unwrap().0
    }

    /// TLS and the WebSocket; `None` if the gateway does not go that far.
    pub async fn accept_websocket(&self) -> Option<Socket> {
        let tls = self.acceptor.accept(self.accept_tcp().await).await.ok()?;
        #[expect(clippy::result_large_err, reason = "the callback's type is tungstenite's")]
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().path(), "/link");
            assert_eq!(request.headers()["sec-websocket-protocol"], SUBPROTOCOL);
            response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
            Ok(response)
        };
        tokio_tungstenite::accept_hdr_async_with_config(tls, choose, Some(websocket_config())).await.ok()
    }

    /// Answers the upgrade with this; what the gateway had asked.
    pub async fn answer_http(&self, answer: &str) -> String {
        let mut tls = self.acceptor.accept(self.accept_tcp().await).await.unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            asked.push(tls.read_u8().await.unwrap());
        }
        tls.write_all(answer.as_bytes()).await.unwrap();
        tls.shutdown().await.unwrap();
        String::from_utf8(asked).unwrap()
    }

    pub async fn accept_hello(&self) -> (Socket, Hello) {
        let mut socket = self.accept_websocket().await.expect("the gateway trusts the server");
        let hello = await_hello(&mut socket).await.unwrap();
        (socket, hello)
    }

    pub async fn refuse(&self, refused: Refused) -> Hello {
        let (mut socket, hello) = self.accept_hello().await;
        // The gateway may hang up first.
        let _ = refuse(&mut socket, &refused).await;
        hello
    }

    pub async fn accept(&self) -> ServerLink {
        let (mut socket, hello) = self.accept_hello().await;
        let answer = Welcome {
            version: 1,
            agent: "test-server/1".into(),
            session: "session".into(),
            received: None,
            window: WINDOW_FIRST_MAX,
            ping_after_s: 55,
            ping_after_max_s: None,
            resume_within_s: None,
            time: 0,
            utc_offset_s: 0,
            capabilities: Vec::new(),
        };
        welcome(&mut socket, &answer).await.unwrap();
        let settings = Settings {
            receive_window: WINDOW_FIRST_MAX,
            send_window: hello.window,
            max_streams: hello.max_streams,
            ..Settings::default()
        };
        let (handle, driver) = driver::link(socket, Role::Server, settings, Duration::from_secs(55));
        #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
        let end = tokio::spawn(driver.run());
        ServerLink { hello, handle, end }
    }
}

/// A directory with a configuration in it.
pub struct Site {
    pub dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let site = Self { dir: tempfile::tempdir().unwrap() };
        site.write("secret", "hunter2-secret");
        site
    }

    /// A configuration for this server, trusted by its authority.
    pub fn for_server(server: &Server, devices: &str) -> Self {
        let site = Self::new();
        site.write("ca.pem", &server.certificate.authority_pem);
        site.configure(server, "ca_file = \"ca.pem\"", devices);
        site
    }

    pub fn configure(&self, server: &Server, more: &str, devices: &str) {
        let port = server.port();
        self.write(
            "gateway.toml",
            &format!(
                "[server]\nurl = \"https://localhost:{port}\"\n{more}\n[identity]\nname = \"site12\"\n\
                 secret_file = \"secret\"\n{devices}"
            ),
        );
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        let path = self.dir.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("gateway.toml")
    }

    pub fn start(self) -> Gateway {
        let config = config::load(&self.file()).unwrap();
        let (commands, received) = mpsc::channel(4);
        #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
        let task = tokio::spawn(linkspan_gateway::run(config, received, Host::none()));
        Gateway { site: self, commands, task }
    }

    pub fn status(&self) -> Option<Snapshot> {
        status_at(&self.dir.path().join("gateway.sock"))
    }

    /// Waits for a status.
    pub async fn eventually(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let socket = self.dir.path().join("gateway.sock");
        eventually(what, async || {
            let socket = socket.clone();
            let asked = tokio::task::spawn_blocking(move || status_at(&socket)).await.unwrap();
            asked.filter(|snapshot| wanted(snapshot))
        })
        .await
    }
}

fn status_at(socket: &Path) -> Option<Snapshot> {
    status::ask(socket).ok().map(|told| serde_json::from_str(&told.json).unwrap())
}

/// A gateway in this process.
pub struct Gateway {
    pub site: Site,
    pub commands: mpsc::Sender<Command>,
    pub task: JoinHandle<Result<linkspan_gateway::Ending, RunError>>,
}

impl Gateway {
    pub async fn stop(self) {
        self.commands.send(Command::Stop).await.unwrap();
        tokio::time::timeout(DEADLINE, self.task).await.expect("it stops in time").unwrap().unwrap();
    }

    pub async fn reload(&self) {
        self.commands.send(Command::Reload).await.unwrap();
    }

    /// The failure that the status tells.
    pub async fn failure(&self) -> (String, String) {
        let snapshot = self.site.eventually("a failure", |snapshot| snapshot.link.last_error.is_some()).await;
        let error = snapshot.link.last_error.unwrap();
        (format!("{}: {}", error.step, error.what), error.advice)
    }
}

pub fn device(name: &str, host: &str, port: u16) -> String {
    format!(
        "[[device]]\nname = \"{name}\"\nhost = \"{host}\"\n[[device.service]]\nname = \"svc\"\nkind = \"tcp\"\nport = {port}\n"
    )
}
