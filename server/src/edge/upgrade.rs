//! Accepts a WebSocket on a request (RFC 6455, section 4.2), for links, raw streams, and whoever else needs one.

use bytes::BytesMut;
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use linkspan_protocol::ahead::Ahead;
use linkspan_protocol::driver::Unsent;
use linkspan_protocol::websocket;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::body::{self, Body};
use super::link_tcp;
use super::strict::Guard;

/// A WebSocket with a client.
pub type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Why a request cannot become a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotWebSocket {
    /// It does not ask for one.
    #[error("this address is for WebSockets: ask with `Upgrade: websocket` over HTTP/1.1")]
    NotAsked,
    /// It asks for a version that is not spoken here.
    #[error("only version 13 of the WebSocket protocol is spoken here")]
    Version,
    /// Its key is missing or not one.
    #[error("Sec-WebSocket-Key must be 16 bytes in Base64")]
    Key,
    /// It offers none of the subprotocols that are spoken here.
    #[error("none of the offered WebSocket subprotocols is spoken here")]
    Subprotocol,
}

impl NotWebSocket {
    /// The answer, as plain text.
    pub fn answer(self) -> Response<Body> {
        let mut response = Response::new(body::full(format!("{self}\n")));
        *response.status_mut() = match self {
            Self::NotAsked | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Subprotocol => StatusCode::BAD_REQUEST,
        };
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(super::pages::ERROR_HEADER, HeaderValue::from_static("not-a-websocket"));
        response
    }
}

/// A WebSocket that has been promised: its 101 has yet to be sent.
#[derive(Debug)]
pub struct Promised {
    on_upgrade: OnUpgrade,
}

/// What is spoken inside a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocol {
    /// Chosen if the client offers it.
    Offered(&'static str),
    /// A client must offer it.
    Required(&'static str),
}

/// Accepts a WebSocket. Send the answer, and call [`Promised::socket`] in a task of its own.
pub fn accept<B>(
    request: &mut Request<B>,
    subprotocol: Subprotocol,
) -> Result<(Response<Body>, Promised), NotWebSocket> {
    check(request)?;
    let key = request.headers().get(SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(NotWebSocket::Key)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| NotWebSocket::Key)?;
    let (Subprotocol::Offered(name) | Subprotocol::Required(name)) = subprotocol;
    // Subprotocols are compared with case (RFC 6455, section 11.3.4), but nobody gives two that differ in it alone.
    let offered = has_word(request.headers(), &SEC_WEBSOCKET_PROTOCOL, name);
    if !offered && matches!(subprotocol, Subprotocol::Required(_)) {
        return Err(NotWebSocket::Subprotocol);
    }
    let mut response = Response::new(body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if offered {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
    }
    Ok((response, Promised { on_upgrade: hyper::upgrade::on(request) }))
}

/// Bytes both ways: the connection itself where it can be had, since each layer costs memory and time as long as it lives.
pub trait Bare: AsyncRead + AsyncWrite + Unpin + Send {
    /// The TCP connection below, where it can be had.
    fn tcp(&self) -> Option<&TcpStream>;
}

impl Bare for TlsStream<Ahead<TcpStream>> {
    fn tcp(&self) -> Option<&TcpStream> {
        Some(self.get_ref().0.get_ref())
    }
}

impl Bare for TokioIo<Upgraded> {
    fn tcp(&self) -> Option<&TcpStream> {
        None
    }
}

/// The WebSocket of a link.
pub type LinkSocket = websocket::Socket<Box<dyn Bare>>;

/// A link's socket holds little that the kernel has not sent yet: that is no longer put in order.
pub const UNSENT: Unsent<LinkSocket> =
    Unsent { keep: keep_unsent, left: |socket| link_tcp::unsent(socket.get_ref().tcp()?) };

fn keep_unsent(socket: &LinkSocket, bytes: usize) {
    let Some(tcp) = socket.get_ref().tcp() else { return };
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    if let Err(error) = SockRef::from(tcp).set_tcp_notsent_lowat(bytes) {
        tracing::debug!(%error, "TCP_NOTSENT_LOWAT");
    }
}

impl Promised {
    /// The socket of a link, once the answer has been sent.
    pub async fn link(self) -> Result<LinkSocket, hyper::Error> {
        let upgraded = self.on_upgrade.await?;
        let (io, read): (Box<dyn Bare>, _) = match upgraded.downcast::<TokioIo<Guard<TlsStream<Ahead<TcpStream>>>>>() {
            Ok(parts) => {
                let (io, held) = parts.io.into_inner().into_inner();
                let mut read = BytesMut::from(parts.read_buf);
                read.extend_from_slice(&held);
                (Box::new(io), read)
            }
            Err(upgraded) => (Box::new(TokioIo::new(upgraded)), BytesMut::new()),
        };
        Ok(websocket::Socket::new(io, Role::Server, &read))
    }

    /// The socket, once the answer has been sent.
    pub async fn socket(self, config: WebSocketConfig) -> Result<Socket, hyper::Error> {
        let upgraded = self.on_upgrade.await?;
        Ok(WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await)
    }
}

fn check<B>(request: &Request<B>) -> Result<(), NotWebSocket> {
    let headers = request.headers();
    let asked = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_word(headers, &CONNECTION, "upgrade")
        && has_word(headers, &UPGRADE, "websocket");
    if !asked {
        return Err(NotWebSocket::NotAsked);
    }
    match headers.get(SEC_WEBSOCKET_VERSION) {
        Some(version) if version == "13" => Ok(()),
        _ => Err(NotWebSocket::Version),
    }
}

fn is_key(key: &HeaderValue) -> bool {
    data_encoding::BASE64.decode(key.as_bytes()).is_ok_and(|key| key.len() == 16)
}

fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|found| found.trim().eq_ignore_ascii_case(word))
}
