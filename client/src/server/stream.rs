//! A service of a device as a WebSocket: the HTTP upgrade (RFC 6455, section 4.1) and the limits on its messages.

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{HeaderValue, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use linkspan_protocol::id::{DeviceName, ServiceName};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::{Api, ApiError};

/// A service of a device, opened.
pub(crate) type DeviceStream = WebSocketStream<TlsStream<TcpStream>>;

/// The longest message taken from a server, which sends 16 KiB: room for one that sends more, not for one that floods.
const MESSAGE_MAX: usize = 1 << 20;
/// Bytes gathered before they go to TLS when there is more to come: eight full records.
const WRITE_BUFFER: usize = 128 << 10;

impl Api<'_> {
    /// Opens a service of a device.
    pub(crate) async fn open(&self, device: &DeviceName, service: &ServiceName) -> Result<DeviceStream, ApiError> {
        let path = format!("/api/v1/devices/{device}/services/{service}/stream");
        let mut request = self.request(Method::GET, &path, bytes::Bytes::new())?;
        let key = generate_key();
        ask_for_upgrade(&mut request, &key).map_err(|error| self.garbled(error))?;
        let answer = self.send(request).await?;
        match answer.response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {}
            status if status.is_success() => {
                return Err(ApiError::NotLinkspan { server: self.server().clone(), status });
            }
            _ => return Err(self.refusal(answer).await),
        }
        let expected = derive_accept_key(key.as_bytes());
        if answer.response.headers().get(SEC_WEBSOCKET_ACCEPT).map(HeaderValue::as_bytes) != Some(expected.as_bytes()) {
            return Err(self.garbled("the WebSocket handshake is wrong"));
        }
        let upgraded = hyper::upgrade::on(answer.response).await.map_err(|error| self.garbled(error))?;
        let parts = upgraded
            .downcast::<TokioIo<TlsStream<TcpStream>>>()
            .map_err(|_| self.garbled("the connection is of another kind"))?;
        let (io, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
        Ok(WebSocketStream::from_partially_read(io, early, Role::Client, Some(limits())).await)
    }
}

fn ask_for_upgrade<B>(request: &mut Request<B>, key: &str) -> Result<(), http::header::InvalidHeaderValue> {
    let headers = request.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_str(key)?);
    Ok(())
}

fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
        .write_buffer_size(WRITE_BUFFER)
}
