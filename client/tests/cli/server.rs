//! A server on loopback with a certificate authority of its own: TLS, a little HTTP, and device streams that behave badly.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

/// What a client asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) line: String,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// What it gets.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A status line's rest, more header lines, a body.
    Http(&'static str, String, String),
    /// A device.
    Stream(Device),
}

/// How a device behaves.
#[derive(Clone, Copy)]
pub(crate) enum Device {
    /// Sends back what it gets, and ends when the client ends.
    Echo,
    /// Reads to the end of the client's direction, then says how many bytes there were.
    CountThenAnswer,
    /// Speaks and ends its direction first, then waits for the client's; closes with what it got as the reason.
    EndFirst,
    /// Closes with a code and a reason.
    Close(u16, &'static str),
    /// The connection is cut without a word.
    Cut,
    /// A TCP service on this machine.
    Tcp(SocketAddr),
    /// Sends so many bytes, as fast as they are taken, with a ping in the middle that must be answered.
    Flood(u64),
}

/// The certificate the server shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    Expired,
    OtherName,
}

/// A running server; ends with the test.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// Bytes that the server's flood has handed to the client so far.
    pub(crate) flooded: Arc<AtomicU64>,
    directory: tempfile::TempDir,
    running: Mutex<Option<(JoinSet<()>, tokio::runtime::Runtime)>>,
}

type Rule = Arc<dyn Fn(&Asked) -> Answer + Send + Sync>;

/// A JSON answer.
pub(crate) fn json(status: &'static str, body: &str) -> Answer {
    Answer::Http(status, "content-type: application/json\r\n".into(), body.into())
}

/// An answer that says no (RFC 9457).
pub(crate) fn problem(status: &'static str, detail: &str) -> Answer {
    let body = serde_json::json!({ "title": status, "detail": detail }).to_string();
    Answer::Http(status, "content-type: application/problem+json\r\n".into(), body)
}

impl Server {
    pub(crate) fn start(rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(Certificate::Good, rule)
    }

    pub(crate) fn start_with(
        certificate: Certificate,
        rule: impl Fn(&Asked) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (acceptor, ca) = acceptor(certificate);
        std::fs::write(directory.path().join("ca.pem"), ca).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let flooded = Arc::new(AtomicU64::new(0));
        let state = State { rule: Arc::new(rule), asked: Arc::clone(&asked), flooded: Arc::clone(&flooded) };
        let mut owner = JoinSet::new();
        owner.spawn_on(accept(listener, acceptor, state), runtime.handle());
        Self { address, asked, flooded, directory, running: Mutex::new(Some((owner, runtime))) }
    }

    /// Its address under a name that only the client's own look-up resolves.
    pub(crate) fn url(&self) -> String {
        format!("https://remote.localhost:{}", self.address.port())
    }

    pub(crate) fn ca_file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// From here on nobody listens.
    pub(crate) fn stop(&self) {
        drop(self.running.lock().unwrap().take());
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

#[derive(Clone)]
struct State {
    rule: Rule,
    asked: Arc<Mutex<Vec<Asked>>>,
    flooded: Arc<AtomicU64>,
}

fn acceptor(certificate: Certificate) -> (TlsAcceptor, String) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::<String>::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(rcgen::DnType::CommonName, "Test authority");
    let ca_certificate = ca.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(ca, ca_key);
    let names = match certificate {
        Certificate::OtherName => vec!["other.example.com".to_owned()],
        _ => vec!["remote.localhost".to_owned(), "remote.example.com".to_owned(), "127.0.0.1".to_owned()],
    };
    let mut leaf = CertificateParams::new(names).unwrap();
    if certificate == Certificate::Expired {
        leaf.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca_certificate.pem())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: State) {
    let mut connections = JoinSet::new();
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let (acceptor, state) = (acceptor.clone(), state.clone());
        connections.spawn(async move {
            if let Ok(tls) = acceptor.accept(tcp).await {
                serve(tls, state).await;
            }
        });
    }
}

async fn serve(mut tls: TlsStream<TcpStream>, state: State) {
    let Some(asked) = read_request(&mut tls).await else { return };
    state.asked.lock().unwrap().push(asked.clone());
    match (state.rule)(&asked) {
        Answer::Http(status, headers, body) => {
            let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
            // Head and body in packets of their own, as servers do.
            let _ = tls.write_all(head.as_bytes()).await;
            let _ = tls.flush().await;
            tokio::task::yield_now().await;
            let _ = tls.write_all(body.as_bytes()).await;
            let _ = tls.shutdown().await;
        }
        Answer::Stream(device) => stream(tls, &asked, device, &state.flooded).await,
    }
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = header(&head, "content-length").map_or(0, |value| value.parse().unwrap());
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let line = head.lines().next().unwrap().to_owned();
    Some(Asked { line, head, body: String::from_utf8(bytes[end..].to_vec()).unwrap() })
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

async fn stream(mut tls: TlsStream<TcpStream>, asked: &Asked, device: Device, flooded: &AtomicU64) {
    let accept = derive_accept_key(header(&asked.head, "sec-websocket-key").unwrap().as_bytes());
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n\r\n"
    );
    tls.write_all(head.as_bytes()).await.unwrap();
    let socket = WebSocketStream::from_raw_socket(tls, Role::Server, None).await;
    // A client that goes away ends its own stream only.
    let _ = behave(socket, device, flooded).await;
}

async fn behave<S>(
    mut socket: WebSocketStream<S>,
    device: Device,
    flooded: &AtomicU64,
) -> Result<(), tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match device {
        Device::Cut => return Ok(()),
        Device::Close(code, reason) => return close(socket, code, reason.to_owned()).await,
        Device::Echo => {
            while let Some(bytes) = next(&mut socket).await? {
                socket.send(Message::Binary(bytes)).await?;
            }
        }
        Device::CountThenAnswer => {
            let got = collect(&mut socket).await?;
            socket.send(Message::Binary(format!("{} bytes\n", got.len()).into())).await?;
        }
        Device::EndFirst => {
            socket.send(Message::Binary("hello\n".into())).await?;
            socket.send(Message::Binary(Bytes::new())).await?;
            let got = collect(&mut socket).await?;
            return close(socket, 4502, String::from_utf8(got).unwrap()).await;
        }
        Device::Tcp(address) => return bridge(socket, address).await,
        Device::Flood(total) => flood(&mut socket, total, flooded).await?,
    }
    socket.send(Message::Binary(Bytes::new())).await?;
    close(socket, 1000, String::new()).await
}

/// Both ways at once, each with an end of its own, as the real server does.
async fn bridge<S>(socket: WebSocketStream<S>, address: SocketAddr) -> Result<(), tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from, mut to) = TcpStream::connect(address).await?.into_split();
    let (mut sink, mut source) = socket.split();
    let up = async {
        while let Some(Message::Binary(bytes)) = source.next().await.transpose()? {
            if bytes.is_empty() {
                break;
            }
            to.write_all(&bytes).await?;
        }
        to.shutdown().await?;
        Ok::<_, tokio_tungstenite::tungstenite::Error>(())
    };
    let down = async {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let count = from.read(&mut buffer).await?;
            sink.send(Message::Binary(Bytes::copy_from_slice(&buffer[..count]))).await?;
            if count == 0 {
                return Ok::<_, tokio_tungstenite::tungstenite::Error>(());
            }
        }
    };
    tokio::try_join!(up, down)?;
    let socket = sink.reunite(source).map_err(|_| tokio_tungstenite::tungstenite::Error::ConnectionClosed)?;
    close(socket, 1000, String::new()).await
}

async fn flood<S>(
    socket: &mut WebSocketStream<S>,
    total: u64,
    flooded: &AtomicU64,
) -> Result<(), tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    const PIECE: u64 = 16 << 10;
    let mut sent = 0;
    while sent < total {
        let count = PIECE.min(total - sent);
        let bytes: Vec<u8> = (sent..sent + count).map(|at| (at % 251) as u8).collect();
        if sent / PIECE == 3 {
            socket.send(Message::Ping("are you there".into())).await?;
            loop {
                match socket.next().await {
                    Some(Ok(Message::Pong(_))) => break,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Err(tokio_tungstenite::tungstenite::Error::ConnectionClosed),
                }
            }
        }
        socket.send(Message::Binary(bytes.into())).await?;
        sent += count;
        flooded.store(sent, Ordering::SeqCst);
    }
    Ok(())
}

/// The next piece of the client's direction, none at its end. Longer messages than the contract allows fail the test.
async fn next<S>(socket: &mut WebSocketStream<S>) -> Result<Option<Bytes>, tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match socket.next().await {
            Some(Ok(Message::Binary(bytes))) => {
                assert!(bytes.len() <= 16 << 10, "a message of {} bytes", bytes.len());
                return Ok(Some(bytes).filter(|bytes| !bytes.is_empty()));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(tokio_tungstenite::tungstenite::Error::ConnectionClosed),
        }
    }
}

async fn collect<S>(socket: &mut WebSocketStream<S>) -> Result<Vec<u8>, tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut all = Vec::new();
    while let Some(bytes) = next(socket).await? {
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

async fn close<S>(
    mut socket: WebSocketStream<S>,
    code: u16,
    reason: String,
) -> Result<(), tokio_tungstenite::tungstenite::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.close(Some(CloseFrame { code: code.into(), reason: reason.into() })).await?;
    let _ =
        tokio::time::timeout(Duration::from_secs(10), async { while let Some(Ok(_)) = socket.next().await {} }).await;
    Ok(())
}
