//! A whole edge on port 0 with one gateway behind a real link, and clients to talk to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, HOST, LOCATION};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use jiff::Timestamp;
use linkspan_protocol::driver::{self, LinkHandle, OpenError, ResetReason, Role, Settings, Stream};
use linkspan_protocol::id::DeviceName;
use linkspan_protocol::message::{DeviceReport, ServiceKind, ServiceReport, Verify};
use linkspan_protocol::pipe::pipe;
use linkspan_server::api::stream;
use linkspan_server::edge::Edge;
use linkspan_server::edge::body::{self, Body};
use linkspan_server::edge::connection::{serve_plain, serve_tls};
use linkspan_server::edge::doors::{Broken, Doors, Found, NoStream, Permit, Purpose, Visitor, Wish};
use linkspan_server::edge::listener::{House, bind};
use linkspan_server::edge::redirect::Redirect;
use linkspan_server::edge::target::Site;
use linkspan_server::edge::tls::{Certificates, GatewayCa, Source};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role as WsRole;

pub(crate) const CONSOLE: &str = "remote.example.com";
pub(crate) const ZONE: &str = "devices.example.net";
/// Nothing in these tests takes longer, except what waits for a deadline on purpose.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Somebody who has signed in: the token is the session.
#[derive(Clone, Debug)]
pub(crate) struct Person(String);

impl Visitor for Person {
    fn session(&self) -> String {
        self.0.clone()
    }
}

/// Two tokens are known, `good` and `other`; all devices may be used but `secret`.
#[derive(Clone)]
pub(crate) struct TestDoors {
    devices: Arc<Vec<DeviceReport>>,
    link: LinkHandle,
}

fn person(token: &str) -> Option<Person> {
    ["good", "other"].contains(&token).then(|| Person(token.to_owned()))
}

impl Doors for TestDoors {
    type Visitor = Person;
    type Gateway = ();
    type Stream = Stream;

    async fn on_device_host(&self, _host: &str, headers: &HeaderMap) -> Result<Option<Person>, Broken> {
        let bearer =
            headers.get("linkspan-authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let cookie = headers.get(COOKIE).and_then(|value| value.to_str().ok()?.strip_prefix("__Host-linkspan="));
        Ok(bearer.or(cookie).and_then(person))
    }

    async fn on_console(&self, headers: &HeaderMap) -> Result<Option<Person>, Broken> {
        Ok(headers.get(AUTHORIZATION).and_then(|value| person(value.to_str().ok()?.strip_prefix("Bearer ")?)))
    }

    async fn device(&self, _: &Person, name: &DeviceName) -> Result<Option<Found<()>>, Broken> {
        let report = self.devices.iter().find(|device| device.name == *name && name.as_str() != "secret");
        let last_seen = Some(Timestamp::from_second(1_700_000_000).unwrap());
        Ok(report.map(|report| Found { gateway: (), last_seen, report: report.clone() }))
    }

    fn may(&self, _: &Person, _: &Found<()>, service: &ServiceReport, _: Purpose) -> Permit {
        match service.name.as_str() {
            "look" => Permit::View,
            "forbidden" => Permit::Refused,
            "hidden" => Permit::Unknown,
            _ => Permit::Full,
        }
    }

    fn turned_away(&self, _: &Wish<'_, Person, ()>) {}

    fn open(&self, wish: &Wish<'_, Person, ()>) -> Result<Stream, NoStream> {
        let device = wish.device.report.name.clone();
        let target = driver::Target {
            device,
            service: wish.service.clone(),
            deadline: wish.deadline,
            packed: false,
            update: false,
        };
        self.link.open(target).map_err(|error| match error {
            OpenError::StreamLimit { limit } => NoStream::StreamLimit(limit),
            OpenError::Closed => NoStream::Offline,
        })
    }

    fn to_console(&self, _: &HeaderMap, url: &str) -> Response<Body> {
        let location = format!("https://{CONSOLE}/open?to={url}");
        Response::builder().status(303).header(LOCATION, location).body(body::empty()).unwrap()
    }

    async fn redeem(&self, host: &str, _: &HeaderMap, query: &str) -> Response<Body> {
        Response::new(body::full(format!("redeemed {query} at {host}")))
    }

    fn is_own_cookie(name: &str) -> bool {
        name.starts_with("__Host-linkspan")
    }
}

/// A device for the gateway's configuration.
pub(crate) fn device(name: &str, services: &[(&str, ServiceKind, SocketAddr)]) -> DeviceReport {
    let services = services.iter().map(|(name, kind, at)| service(name, *kind, *at, Verify::Off)).collect();
    DeviceReport { name: name.parse().unwrap(), description: String::new(), tags: vec![], services }
}

pub(crate) fn service(name: &str, kind: ServiceKind, at: SocketAddr, verify: Verify) -> ServiceReport {
    let host = at.ip().to_string();
    ServiceReport {
        name: name.parse().unwrap(),
        kind,
        host,
        port: at.port(),
        verify,
        host_header: None,
        compress: false,
    }
}

/// The running edge.
pub(crate) struct World {
    pub at: SocketAddr,
    pub plain: SocketAddr,
    pub(crate) house: House,
    pub link: LinkHandle,
    certificates: Vec<CertificateDer<'static>>,
    link_tasks: JoinSet<()>,
    _tasks: JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl World {
    pub(crate) async fn start(devices: Vec<DeviceReport>) -> Self {
        Self::start_with(devices, 64, 1000).await
    }

    pub(crate) async fn start_with(devices: Vec<DeviceReport>, max_streams: u32, connections: usize) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let dir = tempfile::tempdir().unwrap();
        let site = Site { console: CONSOLE.into(), zone: ZONE.into(), port: 443 };
        let state_dir = dir.path().to_owned();
        let source = Source::OwnCa { state_dir, console: CONSOLE.into(), zone: ZONE.into() };
        let authority = GatewayCa::load(dir.path(), Timestamp::now()).unwrap();
        let tls = Certificates::load(source).unwrap().settings(&authority).unwrap();
        let ca = std::fs::read(dir.path().join("ca.pem")).unwrap();
        let certificates = CertificateDer::pem_slice_iter(&ca).collect::<Result<_, _>>().unwrap();
        let (mut tasks, mut link_tasks) = (JoinSet::new(), JoinSet::new());
        let devices = Arc::new(devices);
        let link = link(Arc::clone(&devices), max_streams, &mut link_tasks).await;
        let doors = TestDoors { devices, link: link.clone() };
        let house = House::new(connections);
        let console = Router::new()
            .route("/", get(|| async { "the console" }))
            .route("/healthz", get(|| async { "ok" }))
            .merge(stream::routes(&site, doors.clone(), house.clone()));
        let edge = Arc::new(Edge::new(site.clone(), doors, console, house.clone()));
        let (secure, open) = (bind(local()).unwrap(), bind(local()).unwrap());
        let (at, plain) = (secure.local_addr().unwrap(), open.local_addr().unwrap());
        let inside = house.clone();
        tasks.spawn(async move {
            let handle = |guest| serve_tls(guest, tls.clone(), inside.clone(), Arc::clone(&edge));
            inside.accept(&secure, handle).await;
        });
        let inside = house.clone();
        let redirect = Arc::new(Redirect(site));
        tasks.spawn(async move {
            inside.accept(&open, |guest| serve_plain(guest, inside.clone(), Arc::clone(&redirect))).await;
        });
        Self { at, plain, house, link, certificates, link_tasks, _tasks: tasks, _dir: dir }
    }

    /// TLS with the edge.
    pub(crate) async fn tls(&self, host: &str, http2: bool) -> TlsStream<TcpStream> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates.clone());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        let socket = TcpStream::connect(self.at).await.unwrap();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, socket).await.unwrap()
    }

    /// Sends raw bytes to a host and reads until the server closes.
    pub(crate) async fn raw(&self, host: &str, bytes: &[u8]) -> String {
        let mut tls = self.tls(host, false).await;
        tls.write_all(bytes).await.unwrap();
        to_end(tls).await
    }

    /// A connection to a device's host.
    pub(crate) async fn client(&self, host: &str) -> Client {
        let tls = self.tls(host, false).await;
        let (sender, connection) = http1::handshake(TokioIo::new(tls)).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = connection.with_upgrades().await;
        });
        Client { sender: Sender::H1(sender), host: host.to_owned(), _task: task }
    }

    /// The same over HTTP/2.
    pub(crate) async fn client2(&self, host: &str) -> Client {
        let tls = self.tls(host, true).await;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let _ = connection.await;
        });
        Client { sender: Sender::H2(sender), host: host.to_owned(), _task: task }
    }

    /// Ends the gateway's link as a lost one would.
    pub(crate) fn cut(&mut self) {
        self.link_tasks.abort_all();
    }
}

pub(crate) type SendBody = BoxBody<Bytes, std::io::Error>;

enum Sender {
    H1(http1::SendRequest<SendBody>),
    H2(http2::SendRequest<SendBody>),
}

/// A browser's connection.
pub(crate) struct Client {
    sender: Sender,
    host: String,
    _task: JoinSet<()>,
}

impl Client {
    /// Sends a request as the person `good`.
    pub(crate) async fn send(&mut self, request: http::request::Builder, body: SendBody) -> Response<Incoming> {
        self.try_send(request, body).await.unwrap()
    }

    pub(crate) async fn try_send(
        &mut self,
        request: http::request::Builder,
        body: SendBody,
    ) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = request.body(body).unwrap();
        if !request.headers().contains_key("linkspan-authorization") {
            request.headers_mut().insert("linkspan-authorization", HeaderValue::from_static("Bearer good"));
        }
        let sent = match &mut self.sender {
            Sender::H1(sender) => {
                if !request.headers().contains_key(HOST) {
                    request.headers_mut().insert(HOST, self.host.parse().unwrap());
                }
                sender.ready().await?;
                timeout(3 * LONG, sender.send_request(request)).await
            }
            Sender::H2(sender) => {
                let path = request.uri().to_string();
                *request.uri_mut() = format!("https://{}{path}", self.host).parse().unwrap();
                sender.ready().await?;
                timeout(3 * LONG, sender.send_request(request)).await
            }
        };
        sent.expect("an answer in time")
    }

    /// A GET whose whole body is read.
    pub(crate) async fn get(&mut self, path: &str) -> (StatusCode, HeaderMap, String) {
        let response = self.send(Request::get(path), nothing()).await;
        read(response).await
    }
}

/// All that comes until the connection is closed.
pub(crate) async fn to_end(mut tls: TlsStream<TcpStream>) -> String {
    let mut answer = Vec::new();
    let read = timeout(LONG, tls.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "not closed after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) async fn read(response: Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (parts, body) = response.into_parts();
    let body = timeout(LONG, body.collect()).await.expect("a body in time").expect("a whole body").to_bytes();
    (parts.status, parts.headers, String::from_utf8_lossy(&body).into_owned())
}

pub(crate) fn nothing() -> SendBody {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(crate) fn bytes(bytes: impl Into<Bytes>) -> SendBody {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

pub(crate) fn local() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let waited = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(LONG, waited).await.is_ok(), "never: {what}");
}

/// Both ends of a link, and a gateway that connects to what the devices list.
async fn link(devices: Arc<Vec<DeviceReport>>, max_streams: u32, tasks: &mut JoinSet<()>) -> LinkHandle {
    let settings =
        || Settings { receive_window: 256 * 1024, send_window: 256 * 1024, max_streams, ..Settings::default() };
    let (near, far) = tokio::io::duplex(64 * 1024);
    let ping = Duration::from_secs(30);
    let near = WebSocketStream::from_raw_socket(near, WsRole::Server, Some(driver::websocket_config())).await;
    let far = WebSocketStream::from_raw_socket(far, WsRole::Client, Some(driver::websocket_config())).await;
    let (server_handle, server) = driver::link(near, Role::Server, settings(), ping);
    let (gateway_handle, gateway) = driver::link(far, Role::Gateway, settings(), ping);
    tasks.spawn(async move {
        let _ = server.run().await;
    });
    tasks.spawn(async move {
        let _ = gateway.run().await;
    });
    tasks.spawn(async move {
        let mut streams = JoinSet::new();
        while let Some(incoming) = gateway_handle.accept().await {
            while streams.try_join_next().is_some() {}
            streams.spawn(forward(Arc::clone(&devices), incoming));
        }
    });
    server_handle
}

/// What a gateway does with a stream; services with the name of a failure fail that way.
async fn forward(devices: Arc<Vec<DeviceReport>>, incoming: driver::Incoming) {
    let driver::Incoming { target, mut stream } = incoming;
    let reason = match target.service.as_str() {
        "unreachable" => Some(ResetReason::Unreachable),
        "timed-out" => Some(ResetReason::TimedOut),
        "no-name" => Some(ResetReason::NameNotFound),
        "not-listed" => Some(ResetReason::NotListed),
        "full" => Some(ResetReason::StreamLimit),
        "internal" => Some(ResetReason::Internal),
        "ended" => Some(ResetReason::Ended),
        "data-cap" => Some(ResetReason::DataCap),
        _ => None,
    };
    if let Some(reason) = reason {
        return stream.reset(reason, "as told <b>");
    }
    let device = devices.iter().find(|device| device.name == target.device).unwrap();
    let service = device.services.iter().find(|service| service.name == target.service).unwrap();
    match TcpStream::connect((service.host.as_str(), service.port)).await {
        Ok(socket) => {
            stream.confirm();
            let end = pipe(&mut stream, socket, None).await;
            if let linkspan_protocol::pipe::PipeReason::B(error) = end.reason {
                stream.reset(ResetReason::DeviceReset, &error.to_string());
            }
        }
        Err(error) => stream.reset(ResetReason::Refused, &error.to_string()),
    }
}
