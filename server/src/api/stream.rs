//! `GET /api/v1/devices/{device}/services/{service}/stream`: a service's bytes as a WebSocket, for SSH, VNC and the rest.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::body::Body as AxumBody;
use axum::extract::{Path, State};
use axum::middleware::map_response;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use http::header::ORIGIN;
use http::{HeaderMap, Request, Response, StatusCode};
use linkspan_protocol::message::ServiceKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use super::view_only::{Filter, Refused};
use super::{Kind, Problem};
use crate::access::ClientAddress;
use crate::edge::body::Body;
use crate::edge::doors::{Broken, DeviceStream, Doors, Permit, Purpose, Wish};
use crate::edge::fault::Fault;
use crate::edge::limits;
use crate::edge::listener::House;
use crate::edge::pages::{self, Form};
use crate::edge::target::Site;
use crate::edge::upgrade::{self, NotWebSocket, Socket, Subprotocol};

/// Where a raw stream is asked for.
pub const PATH: &str = "/api/v1/devices/{device}/services/{service}/stream";

/// A reason in a Close frame has at most so many bytes (RFC 6455, section 5.5).
const REASON: usize = 123;

struct Streams<D> {
    console_origin: String,
    doors: D,
    house: House,
}

/// The route of the raw streams. Their tasks belong to the house.
pub fn routes<D: Doors>(site: &Site, doors: D, house: House) -> Router {
    let streams = Streams { console_origin: site.console_origin(), doors, house };
    Router::new().route(PATH, get(open::<D>)).layer(map_response(super::guarded)).with_state(Arc::new(streams))
}

/// What came of a request that does not become a stream.
enum No {
    Fault(Fault),
    NotWebSocket(NotWebSocket),
}

impl From<Fault> for No {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl No {
    fn answer(self) -> axum::response::Response {
        let told = match self {
            Self::Fault(fault) => return pages::answer_as(&fault, Form::Json).map(AxumBody::new).into_response(),
            Self::NotWebSocket(told) => told,
        };
        // The headers say how it is done, the body what was wrong.
        let (mut parts, _) = told.answer().into_parts();
        let kind = if parts.status == StatusCode::UPGRADE_REQUIRED { Kind::NotWebSocket } else { Kind::BadRequest };
        let problem = Problem::new(kind, format!("{told}.")).into_response();
        parts.headers.extend(problem.headers().clone());
        axum::response::Response::from_parts(parts, problem.into_body())
    }
}

async fn open<D: Doors>(
    State(streams): State<Arc<Streams<D>>>,
    Path((device, service)): Path<(String, String)>,
    Extension(ClientAddress(client)): Extension<ClientAddress>,
    mut request: Request<AxumBody>,
) -> axum::response::Response {
    let opened = streams.open((&device, &service), client, &mut request).await;
    opened.map_or_else(No::answer, |response| response.map(AxumBody::new).into_response())
}

impl<D: Doors> Streams<D> {
    async fn open(
        &self,
        (device, service): (&str, &str),
        client: IpAddr,
        request: &mut Request<AxumBody>,
    ) -> Result<Response<Body>, No> {
        if !comes_from(request.headers(), &self.console_origin) {
            return Err(Fault::ForbiddenOrigin.into());
        }
        let visitor = self.doors.on_console(request.headers()).await.map_err(|Broken| Fault::Internal)?;
        let visitor = visitor.ok_or(Fault::SignIn)?;
        let name = device.parse().map_err(|_| Fault::Unknown)?;
        let found = self.doors.device(&visitor, &name).await.map_err(|Broken| Fault::Internal)?;
        let found = found.ok_or(Fault::Unknown)?;
        let service = found.report.services.iter().find(|known| known.name.as_str() == service);
        let service = service.ok_or(Fault::Unknown)?;
        let filter = match self.doors.may(&visitor, &found, service, Purpose::Stream) {
            Permit::Full => None,
            Permit::View if service.kind == ServiceKind::Vnc => Some(Mutex::new(Filter::default())),
            no => {
                let (visitor, device, service) = (&visitor, &found, &service.name);
                let (purpose, deadline) = (Purpose::Stream, limits::OPEN);
                self.doors.turned_away(&Wish { visitor, client, purpose, device, service, deadline });
                return Err(if no == Permit::Unknown { Fault::Unknown } else { Fault::NotAllowed }.into());
            }
        };
        let service = service.name.clone();
        let (response, promised) = match upgrade::accept(request, Subprotocol::Offered("binary")) {
            Ok(accepted) => accepted,
            Err(not_websocket) => return Err(No::NotWebSocket(not_websocket)),
        };
        let wish = Wish {
            visitor: &visitor,
            client,
            purpose: Purpose::Stream,
            device: &found,
            service: &service,
            deadline: limits::OPEN,
        };
        let stream = self.doors.open(&wish).map_err(|no| no.fault(found.last_seen))?;
        self.house.spawn_task(async move {
            match promised.socket(config()).await {
                Ok(socket) => carry(socket, stream, filter.as_ref()).await,
                Err(error) => tracing::debug!(device = %name, %error, "the stream's client went away"),
            }
        });
        Ok(response)
    }
}

/// A browser names the page that asks; only the console's own pages may. Programs name none.
fn comes_from(headers: &HeaderMap, console_origin: &str) -> bool {
    headers.get_all(ORIGIN).iter().all(|origin| origin.as_bytes() == console_origin.as_bytes())
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(limits::STREAM_MESSAGE))
        .max_frame_size(Some(limits::STREAM_MESSAGE))
        .read_buffer_size(limits::STREAM_READ)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * limits::STREAM_READ)
}

/// How a stream came to its end.
enum Ending {
    /// Both directions have ended.
    Done,
    /// The client closed, or is gone.
    Gone,
    /// The client broke a rule of the stream.
    Rule(CloseCode, &'static str),
    /// The far side failed.
    Fault(Fault),
}

/// Carries bytes both ways until both directions have ended or one side fails.
async fn carry<S: DeviceStream>(socket: Socket, stream: S, filter: Option<&Mutex<Filter>>) {
    let (mut sink, mut source) = socket.split();
    let mut broken = std::pin::pin!(stream.broken());
    let (mut reader, mut writer) = tokio::io::split(stream);
    let ending = {
        let up_ended = CancellationToken::new();
        let mut up = std::pin::pin!(up::<S>(&mut source, &mut writer, filter, &up_ended));
        let mut down = std::pin::pin!(down::<S>(&mut reader, filter, &mut sink));
        let mut down_ended = false;
        loop {
            tokio::select! {
                ending = up.as_mut() => break ending,
                ended = down.as_mut(), if !down_ended => match ended {
                    Ok(()) => down_ended = true,
                    Err(ending) => break ending,
                },
                () = up_ended.cancelled(), if down_ended => break Ending::Done,
                error = broken.as_mut(), if down_ended => break Ending::Fault(S::fault(&error)),
            }
        }
    };
    // The device hears of the end before the client has said goodbye.
    drop((reader, writer));
    let frame = match ending {
        Ending::Done => close(CloseCode::Normal, "done"),
        Ending::Gone => close(CloseCode::Normal, ""),
        Ending::Rule(code, why) => close(code, why),
        Ending::Fault(fault) => {
            let words = fault.words();
            tracing::info!(code = words.code, "a raw stream failed");
            close(CloseCode::from(code(&fault)), &words.text)
        }
    };
    let goodbye = async {
        let _ = sink.send(Message::Close(Some(frame))).await;
        while let Some(Ok(_)) = source.next().await {}
    };
    let _ = tokio::time::timeout(limits::STREAM_CLOSE, goodbye).await;
}

/// Client to device. An empty message ends this direction; after it only control frames may come.
async fn up<S: DeviceStream>(
    source: &mut SplitStream<Socket>,
    writer: &mut WriteHalf<S>,
    filter: Option<&Mutex<Filter>>,
    ended: &CancellationToken,
) -> Ending {
    while let Some(Ok(message)) = source.next().await {
        let result = match message {
            Message::Binary(_) if ended.is_cancelled() => {
                return Ending::Rule(CloseCode::Protocol, "data after the empty message that ends them");
            }
            Message::Binary(bytes) if bytes.is_empty() => {
                ended.cancel();
                writer.shutdown().await
            }
            Message::Binary(bytes) => match filter.map(|filter| lock(filter).said(&bytes)) {
                None => put(writer, &bytes).await,
                Some(Ok(heard)) => put(writer, &heard).await,
                Some(Err(Refused(why))) => return Ending::Rule(CloseCode::Policy, why),
            },
            Message::Text(_) => return Ending::Rule(CloseCode::Unsupported, "a raw stream is binary messages"),
            Message::Close(_) => return Ending::Gone,
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        };
        if let Err(error) = result {
            return Ending::Fault(S::fault(&error));
        }
    }
    Ending::Gone
}

/// Writes, and leaves nothing behind that waits for more.
async fn put<S: DeviceStream>(writer: &mut WriteHalf<S>, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

/// Device to client, until the device ends its direction.
async fn down<S: DeviceStream>(
    reader: &mut ReadHalf<S>,
    filter: Option<&Mutex<Filter>>,
    sink: &mut SplitSink<Socket, Message>,
) -> Result<(), Ending> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(limits::STREAM_READ);
        let read = reader.read_buf(&mut buffer).await.map_err(|error| Ending::Fault(S::fault(&error)))?;
        if let Some(filter) = filter {
            lock(filter).heard(&buffer);
        }
        let message = if read == 0 { Bytes::new() } else { buffer.split().freeze() };
        sink.send(Message::Binary(message)).await.map_err(|_| Ending::Gone)?;
        if read == 0 {
            return Ok(());
        }
    }
}

fn lock(filter: &Mutex<Filter>) -> MutexGuard<'_, Filter> {
    filter.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Close codes of our own mirror the HTTP status a page would have.
fn code(fault: &Fault) -> u16 {
    match fault {
        Fault::ConnectTimeout | Fault::AnswerTimeout => 4504,
        Fault::LinkLost(_) | Fault::Offline(_) => 4503,
        Fault::Ended(_) => 4403,
        Fault::DataCap(_) => 4429,
        _ => 4502,
    }
}

fn close(code: CloseCode, reason: &str) -> CloseFrame {
    let end = reason.floor_char_boundary(REASON);
    CloseFrame { code, reason: reason.get(..end).unwrap_or_default().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_between_characters() {
        let frame = close(CloseCode::Normal, &"ö".repeat(100));
        assert_eq!(frame.reason.len(), 122);
    }

    /// Threat 22 and CVE-2015-0259 (OpenStack's noVNC): another site's page opens a WebSocket with the person's cookie.
    #[test]
    fn threat_22_only_the_console_may_ask_from_a_browser() {
        let origin = "https://remote.example.com";
        let mut headers = HeaderMap::new();
        assert!(comes_from(&headers, origin));
        headers.insert(ORIGIN, origin.parse().unwrap());
        assert!(comes_from(&headers, origin));
        headers.append(ORIGIN, "https://evil.com".parse().unwrap());
        assert!(!comes_from(&headers, origin));
        for foreign in [
            "null",
            "",
            "http://remote.example.com",
            "https://plc1.devices.example.net",
            "https://remote.example.com:444",
            "https://remote.example.com.evil.com",
            "https://evil.com#https://remote.example.com",
            "https://remote.example.com@evil.com",
            "https://xremote.example.com",
            "HTTPS://remote.example.com",
            "https://remote.example.com/",
            "wss://remote.example.com",
            "file://",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ORIGIN, foreign.parse().unwrap());
            assert!(!comes_from(&headers, origin), "{foreign}");
        }
    }
}
