//! A device's service as a WebSocket of the API, as the console's pages and other programs use it.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::header::AUTHORIZATION;
use linkspan_tests::https::Https;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

/// The WebSocket.
pub(crate) struct RawStream(WebSocketStream<TlsStream<TcpStream>>);

impl RawStream {
    /// Asks for it. An HTTP error is an error with the status and the code of `Linkspan-Error`.
    pub(crate) async fn open(https: &Https, console: &str, token: &str, device: &str, service: &str) -> Result<Self> {
        let url = format!("{console}/api/v1/devices/{device}/services/{service}/stream").replacen("https", "wss", 1);
        let mut request = url.as_str().into_client_request()?;
        request.headers_mut().insert(AUTHORIZATION, format!("Bearer {token}").parse()?);
        request.headers_mut().insert("sec-websocket-protocol", "binary".parse()?);
        let host = request.uri().host().context("no host")?.to_owned();
        match tokio_tungstenite::client_async(request, https.connect(&host).await?).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(Error::Http(answer)) => {
                let code = answer.headers().get("linkspan-error").map(|code| code.to_str().unwrap_or_default());
                bail!("{} {}", answer.status().as_u16(), code.unwrap_or_default())
            }
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.0.send(Message::binary(Bytes::copy_from_slice(bytes))).await?)
    }

    /// The next bytes; none at the end of the device's direction.
    pub(crate) async fn receive(&mut self) -> Result<Bytes> {
        loop {
            match self.0.next().await.context("the stream has gone")?? {
                Message::Binary(bytes) => return Ok(bytes),
                Message::Close(frame) => bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// So many bytes.
    pub(crate) async fn receive_exactly(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < count {
            let bytes = self.receive().await?;
            anyhow::ensure!(!bytes.is_empty(), "the device ended after {} of {count} bytes", all.len());
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }

    /// Reads on until the server closes, and how it does.
    pub(crate) async fn closed(&mut self) -> Result<Option<CloseFrame>> {
        loop {
            match self.0.next().await {
                None => return Ok(None),
                Some(message) => {
                    if let Message::Close(frame) = message? {
                        return Ok(frame);
                    }
                }
            }
        }
    }

    /// As a stream of bytes; it lives as long as the set of tasks.
    pub(crate) fn into_bytes(self, tasks: &mut JoinSet<Result<()>>) -> DuplexStream {
        let (near, far) = duplex(64 * 1024);
        let (mut sink, mut source) = self.0.split();
        let (mut reader, mut writer) = tokio::io::split(far);
        tasks.spawn(async move {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let read = reader.read(&mut buffer).await?;
                sink.send(Message::binary(Bytes::copy_from_slice(&buffer[..read]))).await?;
                if read == 0 {
                    return Ok(());
                }
            }
        });
        tasks.spawn(async move {
            while let Some(message) = source.next().await {
                match message? {
                    Message::Binary(bytes) if bytes.is_empty() => writer.shutdown().await?,
                    Message::Binary(bytes) => writer.write_all(&bytes).await?,
                    _ => {}
                }
            }
            Ok(())
        });
        near
    }
}
