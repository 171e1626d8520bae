//! The first messages of a link: HELLO from the gateway, WELCOME or REFUSED from the server, each under a deadline.

use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::frame::{Frame, FrameError};
use crate::limits::HANDSHAKE_DEADLINE;
use crate::message::{Close, CloseReason, Hello, Refused, RefusedReason, VERSION, Welcome};
use crate::text::tame;
use crate::websocket::WebSocket;

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other end did not answer in time.
    #[error("no answer within {} s", HANDSHAKE_DEADLINE.as_secs())]
    TimedOut,
    /// The connection ended.
    #[error("the other end hung up")]
    HungUp,
    /// The WebSocket failed.
    #[error("the WebSocket failed: {0}")]
    WebSocket(#[from] WsError),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame or JSON text that does not belong here.
    #[error("the other end does not speak this language: {0}")]
    Malformed(String),
    /// The server speaks only a version that this program does not.
    #[error("the server wants version {0} of the language, this program speaks {VERSION}")]
    Version(u32),
    /// The server refused, and said why.
    #[error("refused by the server ({:?}): {}", .0.reason, tame(&.0.text))]
    Refused(Refused),
    /// The server closed the link at once, and said why.
    #[error("closed by the server ({:?}): {}", .0.reason, tame(&.0.text))]
    Closed(Close),
}

/// Says hello and waits for the server's answer.
///
/// # Errors
/// [`HandshakeError`]; `Refused` is the server's own answer.
pub async fn greet<W>(socket: &mut W, hello: &Hello) -> Result<Welcome, HandshakeError>
where
    W: WebSocket,
{
    send(socket, Frame::Hello(json(hello))).await?;
    match receive(socket).await? {
        Frame::Welcome(text) => {
            let welcome: Welcome = parse(&text)?;
            if welcome.version == VERSION { Ok(welcome) } else { Err(HandshakeError::Version(welcome.version)) }
        }
        Frame::Refused(text) => Err(HandshakeError::Refused(parse(&text)?)),
        Frame::Close(text) => Err(HandshakeError::Closed(parse(&text)?)),
        other => Err(unexpected(&other)),
    }
}

/// Waits for a gateway's hello. Who it claims to be is not yet checked.
///
/// # Errors
/// [`HandshakeError`].
pub async fn await_hello<W>(socket: &mut W) -> Result<Hello, HandshakeError>
where
    W: WebSocket,
{
    match receive(socket).await? {
        Frame::Hello(text) => parse(&text),
        other => Err(unexpected(&other)),
    }
}

/// Accepts a gateway.
///
/// # Errors
/// [`HandshakeError`].
pub async fn welcome<W>(socket: &mut W, welcome: &Welcome) -> Result<(), HandshakeError>
where
    W: WebSocket,
{
    send(socket, Frame::Welcome(json(welcome))).await
}

/// Refuses a gateway and closes the WebSocket.
///
/// # Errors
/// [`HandshakeError`].
pub async fn refuse<W>(socket: &mut W, refused: &Refused) -> Result<(), HandshakeError>
where
    W: WebSocket,
{
    send(socket, Frame::Refused(json(refused))).await?;
    Ok(timeout(HANDSHAKE_DEADLINE, socket.close()).await.map_err(|_| HandshakeError::TimedOut)??)
}

impl HandshakeError {
    /// Whether the other end's program is at fault, so that it may be told [`RefusedReason::Malformed`].
    pub fn refusal(&self) -> Option<Refused> {
        match self {
            Self::Frame(_) | Self::Malformed(_) => {
                Some(Refused { reason: RefusedReason::Malformed, text: self.to_string(), retry_after_s: None })
            }
            Self::TimedOut
            | Self::HungUp
            | Self::WebSocket(_)
            | Self::Version(_)
            | Self::Refused(_)
            | Self::Closed(_) => None,
        }
    }

    /// The reason for which the server closed the link during the handshake.
    pub fn close_reason(&self) -> Option<CloseReason> {
        if let Self::Closed(close) = self { Some(close.reason) } else { None }
    }
}

async fn send<W>(socket: &mut W, frame: Frame) -> Result<(), HandshakeError>
where
    W: WebSocket,
{
    let mut message = BytesMut::new();
    frame.encode(&mut message);
    let sent = timeout(HANDSHAKE_DEADLINE, socket.send(Message::Binary(message.freeze()))).await;
    Ok(sent.map_err(|_| HandshakeError::TimedOut)??)
}

async fn receive<W>(socket: &mut W) -> Result<Frame, HandshakeError>
where
    W: WebSocket,
{
    let next = async {
        loop {
            match socket.next().await.ok_or(HandshakeError::HungUp)?? {
                Message::Binary(bytes) => return Ok(bytes),
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(_) => return Err(HandshakeError::HungUp),
                Message::Text(_) => return Err(HandshakeError::Malformed("a text message".into())),
            }
        }
    };
    let mut bytes: Bytes = timeout(HANDSHAKE_DEADLINE, next).await.map_err(|_| HandshakeError::TimedOut)??;
    let frame = Frame::decode(&mut bytes)?.ok_or_else(|| HandshakeError::Malformed("an empty message".into()))?;
    if bytes.is_empty() { Ok(frame) } else { Err(HandshakeError::Malformed("more than one frame".into())) }
}

/// The handshake's messages are plain structs; serde_json fails on none of those.
fn json<M: Serialize>(message: &M) -> Bytes {
    serde_json::to_vec(message).unwrap_or_default().into()
}

fn parse<M: DeserializeOwned>(text: &[u8]) -> Result<M, HandshakeError> {
    // The error of serde_json shows no values of secrets: it names types, fields and positions.
    serde_json::from_slice(text).map_err(|error| HandshakeError::Malformed(error.to_string()))
}

fn unexpected(frame: &Frame) -> HandshakeError {
    HandshakeError::Malformed(if frame.is_sequenced() { "a frame of a session" } else { "an unexpected frame" }.into())
}
