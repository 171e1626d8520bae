//! Somebody near the server who uses devices behind the line, by one of the ways that are compared.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use linkspan_tests::https::Https;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::targets::{self, Service};

/// Time for one exchange before it counts as lost.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A way to the devices.
#[derive(Clone)]
pub(crate) enum Visitor {
    /// Plain TCP: to the devices themselves, or to what stands for them.
    Plain { name: &'static str, first: SocketAddr },
    /// Through our server.
    Linkspan { https: Https, console: String, pages: String, token: String },
}

/// An open connection to a service.
pub(crate) enum Connection {
    Tcp(TcpStream),
    WebSocket(Box<WebSocketStream<TlsStream<TcpStream>>>),
}

impl Visitor {
    /// As it stands in a table.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Plain { name, .. } => name,
            Self::Linkspan { .. } => "linkspan",
        }
    }

    /// Connects to a service.
    pub(crate) async fn open(&self, service: Service) -> Result<Connection> {
        match self {
            Self::Plain { first, .. } => {
                let socket = TcpStream::connect(targets::address(*first, service)).await?;
                socket.set_nodelay(true)?;
                Ok(Connection::Tcp(socket))
            }
            Self::Linkspan { https, console, token, .. } => {
                let url = format!("{console}/api/v1/devices/origin/services/{}/stream", service.name());
                let mut request = url.replacen("https", "wss", 1).into_client_request()?;
                request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
                let host = request.uri().host().context("no host")?.to_owned();
                let stream = https.connect(&host).await?;
                let (socket, _) = tokio_tungstenite::client_async(request, stream).await?;
                Ok(Connection::WebSocket(Box::new(socket)))
            }
        }
    }

    /// From nothing to the first byte of a page.
    pub(crate) async fn first_byte(&self) -> Result<Duration> {
        let begin = Instant::now();
        match self {
            Self::Plain { first, .. } => {
                let mut socket = TcpStream::connect(targets::address(*first, Service::Page)).await?;
                socket.write_all(b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n").await?;
                socket.read_u8().await?;
            }
            Self::Linkspan { https, pages, token, .. } => {
                let answer = https.get_device(&format!("{pages}/"), token).await?;
                ensure!(answer.status.is_success(), "{}", answer.status);
            }
        }
        Ok(begin.elapsed())
    }

    /// From nothing to the echo of a byte over a connection of its own.
    pub(crate) async fn new_echo(&self) -> Result<Duration> {
        let begin = Instant::now();
        self.open(Service::Echo).await?.keystroke().await?;
        Ok(begin.elapsed())
    }
}

impl Connection {
    pub(crate) async fn send(&mut self, bytes: Bytes) -> Result<()> {
        match self {
            Self::Tcp(socket) => Ok(socket.write_all(&bytes).await?),
            Self::WebSocket(socket) => Ok(socket.send(Message::Binary(bytes)).await?),
        }
    }

    /// How many bytes came next; never none.
    pub(crate) async fn receive(&mut self) -> Result<usize> {
        match self {
            Self::Tcp(socket) => {
                let read = socket.read(&mut [0; 16 * 1024]).await?;
                ensure!(read > 0, "the connection ended");
                Ok(read)
            }
            Self::WebSocket(socket) => loop {
                match socket.next().await.context("the connection ended")?? {
                    Message::Binary(bytes) if !bytes.is_empty() => return Ok(bytes.len()),
                    Message::Binary(_) => bail!("the device ended"),
                    Message::Close(frame) => bail!("closed: {frame:?}"),
                    _ => {}
                }
            },
        }
    }

    /// One byte there and back.
    pub(crate) async fn keystroke(&mut self) -> Result<Duration> {
        let begin = Instant::now();
        self.send(Bytes::from_static(b"x")).await?;
        ensure!(timeout(PATIENCE, self.receive()).await?? == 1, "more than the echo");
        Ok(begin.elapsed())
    }
}
