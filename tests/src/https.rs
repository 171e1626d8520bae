//! A plain HTTPS client for tests: it trusts one authority, and every name is at one address.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// Carries our token on a device's host, where `Authorization` is the device's own.
pub const DEVICE_TOKEN: HeaderName = HeaderName::from_static("linkspan-authorization");

/// The client. Whatever host a URL names, it connects to one address.
#[derive(Clone, Debug)]
pub struct Https {
    tls: Arc<ClientConfig>,
    address: SocketAddr,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// One header as text, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

impl Https {
    /// A client that trusts the certificates in a file, and finds everybody at that address.
    pub fn new(ca_file: &Path, address: SocketAddr) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let read =
            CertificateDer::pem_file_iter(ca_file).with_context(|| format!("cannot read {}", ca_file.display()))?;
        for certificate in read {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let tls = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), address })
    }

    /// A TLS connection to a host, for what is more than a request and its answer.
    pub async fn connect(&self, host: &str) -> Result<TlsStream<TcpStream>> {
        self.connect_by(&self.tls, host).await
    }

    /// The same for HTTP/2.
    pub async fn connect_http2(&self, host: &str) -> Result<TlsStream<TcpStream>> {
        let mut tls = ClientConfig::clone(&self.tls);
        tls.alpn_protocols = vec![b"h2".to_vec()];
        self.connect_by(&Arc::new(tls), host).await
    }

    async fn connect_by(&self, tls: &Arc<ClientConfig>, host: &str) -> Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(self.address).await?;
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        Ok(TlsConnector::from(Arc::clone(tls)).connect(name, socket).await?)
    }

    /// GET without credentials.
    pub async fn get(&self, url: &str) -> Result<Answer> {
        self.send(Request::get(url).body(Bytes::new())?).await
    }

    /// GET on a device's host with a token.
    pub async fn get_device(&self, url: &str, token: &str) -> Result<Answer> {
        self.send(Request::get(url).header(DEVICE_TOKEN, format!("Bearer {token}")).body(Bytes::new())?).await
    }

    /// GET of the API with a token.
    pub async fn get_api(&self, url: &str, token: &str) -> Result<Answer> {
        self.send(Request::get(url).header(AUTHORIZATION, format!("Bearer {token}")).body(Bytes::new())?).await
    }

    /// Signs in at the console's origin and returns the token.
    pub async fn sign_in(&self, console: &str, name: &str, password: &str) -> Result<String> {
        let body = json!({ "name": name, "password": password }).to_string();
        let request = Request::post(format!("{console}/api/v1/session")).header(CONTENT_TYPE, "application/json");
        let answer = self.send(request.body(Bytes::from(body))?).await?;
        if !answer.status.is_success() {
            bail!("the server does not let {name} in: {} {}", answer.status, answer.text());
        }
        let session: serde_json::Value = serde_json::from_slice(&answer.body)?;
        session["token"].as_str().map(str::to_owned).context("no token in the answer")
    }

    /// Sends a request with an absolute URL on a connection of its own, and reads the whole answer.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer> {
        let uri = request.uri().clone();
        let answer = tokio::time::timeout(PATIENCE, self.exchange(request)).await;
        answer.with_context(|| format!("{uri}: no answer within {PATIENCE:?}"))?.with_context(|| format!("{uri}"))
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Answer> {
        let authority = request.uri().authority().context("the URL names no host")?.clone();
        let stream = self.connect(authority.host()).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(connection);
        let (mut head, body) = request.into_parts();
        head.headers.insert(HOST, authority.as_str().parse()?);
        head.uri = head.uri.path_and_query().map_or(Uri::from_static("/"), |path| Uri::from(path.clone()));
        let answer = sender.send_request(Request::from_parts(head, Full::new(body))).await?;
        let (head, body) = answer.into_parts();
        Ok(Answer { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }
}
