//! The wire bytes: one [`Frame`] after another in each binary WebSocket message. Only this file knows them.
//!
//! A frame is a type byte followed by its fields; numbers are QUIC varints (RFC 9000, section 16), texts and payloads
//! carry their length first. Types from 0x40 up are *sequenced*: each end counts those it sent and those it received
//! since the session began, which is what ACK and a resumed link speak of. `docs/protocol.md` has the table.

use std::fmt;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::id::{DeviceName, ServiceName};
use crate::limits::{CONTROL_CHUNK_MAX, DATA_MAX, HANDSHAKE_MAX, OPEN_MAX, REASON_MAX};
use crate::message::deadline_millis;
use crate::varint;

/// Number of a stream within its session. The server's are even, the gateway's odd; none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a stream leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The device, by the name its gateway's configuration gives it.
    pub device: DeviceName,
    /// The service of the device.
    pub service: ServiceName,
    /// Time for the gateway to reach it; zero leaves it to the gateway.
    pub deadline: Duration,
    /// Both ends pack what they send on the stream (see `pack`).
    pub packed: bool,
    /// It leads to the gateway itself, which is to be another program (see `update`); the names mean nothing.
    pub update: bool,
}

/// In OPEN's flags: both ends pack.
const FLAG_PACKED: u64 = 1;
/// In OPEN's flags: a program for the gateway.
const FLAG_UPDATE: u64 = 2;

/// One unit of the language.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// First of a link, gateway to server: [`crate::message::Hello`] as JSON.
    Hello(Bytes),
    /// The server accepts: [`crate::message::Welcome`] as JSON.
    Welcome(Bytes),
    /// The server does not accept: [`crate::message::Refused`] as JSON.
    Refused(Bytes),
    /// Last of a link: [`crate::message::Close`] as JSON.
    Close(Bytes),
    /// "Are you there?" with a token to be sent back.
    Ping(u64),
    /// The answer to a ping, with its token.
    Pong(u64),
    /// Sequenced frames received since the session began.
    Ack(u64),
    /// Opens a stream. DATA may follow at once.
    Open(StreamId, Target),
    /// The acceptor has reached the target.
    Opened(StreamId),
    /// Bytes of a stream; never empty, never more than the credit.
    Data(StreamId, Bytes),
    /// So many bytes more may be sent on the stream.
    Window(StreamId, u64),
    /// No more bytes in this direction.
    Fin(StreamId),
    /// The stream ends at once in both directions.
    Reset(StreamId, Reset),
    /// A piece of a control message in JSON; `last` marks its end.
    Control {
        /// Whether the message is whole with this piece.
        last: bool,
        /// The piece.
        piece: Bytes,
    },
}

/// Why a stream ended before its time. Also the inner error of what reads and writes on the stream then return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// For programs.
    pub reason: ResetReason,
    /// For people; may be empty. Comes from the other end: treat it as a stranger's text.
    pub text: String,
}

impl Reset {
    /// A reset with a text for people, cut to what a frame may carry.
    pub fn new(reason: ResetReason, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.truncate(text.floor_char_boundary(REASON_MAX));
        Self { reason, text }
    }
}

impl fmt::Display for Reset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.as_str())?;
        if !self.text.is_empty() {
            write!(f, ": {}", self.text)?;
        }
        Ok(())
    }
}

impl std::error::Error for Reset {}

/// Why a stream was reset, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResetReason {
    /// The end that used it lost interest.
    Cancelled,
    /// The gateway's configuration does not list the target (any more).
    NotListed,
    /// The device refused the connection.
    Refused,
    /// There is no way to the device.
    Unreachable,
    /// The device did not answer in time.
    TimedOut,
    /// The device's name could not be resolved.
    NameNotFound,
    /// The device broke the connection off.
    DeviceReset,
    /// Nothing was sent for as long as the configuration allows.
    Idle,
    /// As many streams are open as may be.
    StreamLimit,
    /// The link was lost and the session cannot go on.
    LinkLost,
    /// The other end broke a rule of the language.
    Protocol,
    /// The program at the far end stops.
    Stopping,
    /// A fault in the program at the far end.
    Internal,
    /// Ended on purpose: the right to it was withdrawn.
    Ended,
    /// The month's data is used up.
    DataCap,
    /// A code that this program does not know.
    Unknown(u64),
}

const REASONS: [(ResetReason, u64, &str); 15] = [
    (ResetReason::Cancelled, 0, "cancelled"),
    (ResetReason::NotListed, 1, "not listed at the gateway"),
    (ResetReason::Refused, 2, "refused by the device"),
    (ResetReason::Unreachable, 3, "device unreachable"),
    (ResetReason::TimedOut, 4, "device timed out"),
    (ResetReason::NameNotFound, 5, "device name not found"),
    (ResetReason::DeviceReset, 6, "reset by the device"),
    (ResetReason::Idle, 7, "idle for too long"),
    (ResetReason::StreamLimit, 8, "too many streams"),
    (ResetReason::LinkLost, 9, "link lost"),
    (ResetReason::Protocol, 10, "protocol violated"),
    (ResetReason::Stopping, 11, "stopping"),
    (ResetReason::Internal, 12, "internal fault"),
    (ResetReason::Ended, 13, "ended on purpose"),
    (ResetReason::DataCap, 14, "data cap reached"),
];

impl ResetReason {
    /// The number on the wire.
    pub fn code(self) -> u64 {
        if let Self::Unknown(code) = self {
            return code;
        }
        REASONS.iter().find(|(reason, ..)| *reason == self).map_or(0, |(_, code, _)| *code)
    }

    /// The reason with that number.
    pub fn from_code(code: u64) -> Self {
        REASONS.iter().find(|(_, known, _)| *known == code).map_or(Self::Unknown(code), |(reason, ..)| *reason)
    }

    /// A few words for people.
    pub fn as_str(self) -> &'static str {
        REASONS.iter().find(|(reason, ..)| *reason == self).map_or("unknown reason", |(.., text)| text)
    }
}

/// Why bytes are not a frame. Each is the sender's fault and ends the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The message ends inside a frame.
    #[error("the message ends inside a frame")]
    Truncated,
    /// No frame has this type.
    #[error("unknown frame type {0:#04x}")]
    Type(u8),
    /// A field is longer than it may be.
    #[error("{field} of {len} bytes is longer than {max}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Bytes announced.
        len: u64,
        /// Bytes allowed.
        max: usize,
    },
    /// A DATA frame without data.
    #[error("a DATA frame without data")]
    EmptyData,
    /// A name in OPEN that is no name.
    #[error("a name in OPEN is not well-formed")]
    Name,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
}

const HELLO: u8 = 0x01;
const WELCOME: u8 = 0x02;
const REFUSED: u8 = 0x03;
const CLOSE: u8 = 0x04;
const PING: u8 = 0x05;
const PONG: u8 = 0x06;
const ACK: u8 = 0x07;
const OPEN: u8 = 0x40;
const OPENED: u8 = 0x41;
const DATA: u8 = 0x42;
const WINDOW: u8 = 0x43;
const FIN: u8 = 0x44;
const RESET: u8 = 0x45;
const CONTROL_PART: u8 = 0x46;
const CONTROL_LAST: u8 = 0x47;

/// Bytes that the head of a DATA frame can take at most: type, stream, length.
pub const DATA_HEAD_MAX: usize = 1 + 8 + 4;

/// Bytes that a RESET frame can take at most: type, stream, reason, length, text. A FIN is shorter.
pub const RESET_MAX: usize = 1 + 8 + 8 + 2 + REASON_MAX;

/// Bytes that the head of a CLOSE frame can take at most: type, length.
pub const CLOSE_HEAD_MAX: usize = 1 + 2;

impl Frame {
    /// Whether the frame counts in the session's numbering.
    pub fn is_sequenced(&self) -> bool {
        match self {
            Self::Hello(_)
            | Self::Welcome(_)
            | Self::Refused(_)
            | Self::Close(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Ack(_) => false,
            Self::Open(..)
            | Self::Opened(_)
            | Self::Data(..)
            | Self::Window(..)
            | Self::Fin(_)
            | Self::Reset(..)
            | Self::Control { .. } => true,
        }
    }

    /// The stream that the frame is about.
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Hello(_)
            | Self::Welcome(_)
            | Self::Refused(_)
            | Self::Close(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Ack(_)
            | Self::Control { .. } => None,
            Self::Open(id, _)
            | Self::Opened(id)
            | Self::Data(id, _)
            | Self::Window(id, _)
            | Self::Fin(id)
            | Self::Reset(id, _) => Some(*id),
        }
    }

    /// Appends the frame's bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Hello(json) => put_block(out, HELLO, json),
            Self::Welcome(json) => put_block(out, WELCOME, json),
            Self::Refused(json) => put_block(out, REFUSED, json),
            Self::Close(json) => put_block(out, CLOSE, json),
            Self::Ping(token) => put_number(out, PING, *token),
            Self::Pong(token) => put_number(out, PONG, *token),
            Self::Ack(count) => put_number(out, ACK, *count),
            Self::Open(stream, target) => put_open(out, *stream, target),
            Self::Opened(stream) => put_number(out, OPENED, stream.0),
            Self::Data(stream, data) => {
                put_data_head(out, *stream, data.len());
                out.put_slice(data);
            }
            Self::Window(stream, more) => {
                put_number(out, WINDOW, stream.0);
                varint::put(out, *more);
            }
            Self::Fin(stream) => put_number(out, FIN, stream.0),
            Self::Reset(stream, reset) => {
                put_number(out, RESET, stream.0);
                varint::put(out, reset.reason.code());
                let text = reset.text.get(..reset.text.floor_char_boundary(REASON_MAX)).unwrap_or_default();
                varint::put(out, text.len() as u64);
                out.put_slice(text.as_bytes());
            }
            Self::Control { last, piece } => put_block(out, if *last { CONTROL_LAST } else { CONTROL_PART }, piece),
        }
    }

    /// Takes the next frame off the front of a message; `None` where the message is used up. Payloads are slices of it.
    ///
    /// # Errors
    /// [`FrameError`] for bytes that no correct peer sends.
    pub fn decode(message: &mut Bytes) -> Result<Option<Self>, FrameError> {
        let Some(kind) = message.first().copied() else { return Ok(None) };
        let rest = &mut message.split_off(1);
        let frame = match kind {
            HELLO => Self::Hello(block(rest, "HELLO", HANDSHAKE_MAX)?),
            WELCOME => Self::Welcome(block(rest, "WELCOME", HANDSHAKE_MAX)?),
            REFUSED => Self::Refused(block(rest, "REFUSED", HANDSHAKE_MAX)?),
            CLOSE => Self::Close(block(rest, "CLOSE", HANDSHAKE_MAX)?),
            PING => Self::Ping(number(rest)?),
            PONG => Self::Pong(number(rest)?),
            ACK => Self::Ack(number(rest)?),
            OPEN => take_open(rest)?,
            OPENED => Self::Opened(stream(rest)?),
            DATA => take_data(rest)?,
            WINDOW => Self::Window(stream(rest)?, number(rest)?),
            FIN => Self::Fin(stream(rest)?),
            RESET => take_reset(rest)?,
            CONTROL_PART => Self::Control { last: false, piece: block(rest, "CONTROL", CONTROL_CHUNK_MAX)? },
            CONTROL_LAST => Self::Control { last: true, piece: block(rest, "CONTROL", CONTROL_CHUNK_MAX)? },
            unknown => return Err(FrameError::Type(unknown)),
        };
        *message = std::mem::take(rest);
        Ok(Some(frame))
    }
}

/// Appends the head of a DATA frame whose `len` bytes of payload the caller appends next.
pub fn put_data_head(out: &mut BytesMut, stream: StreamId, len: usize) {
    put_number(out, DATA, stream.0);
    varint::put(out, len as u64);
}

fn put_block(out: &mut BytesMut, kind: u8, block: &[u8]) {
    put_number(out, kind, block.len() as u64);
    out.put_slice(block);
}

fn put_number(out: &mut BytesMut, kind: u8, number: u64) {
    out.put_u8(kind);
    varint::put(out, number);
}

/// OPEN's fields stand in a block of their own, so that later versions can add some that older ones skip.
fn put_open(out: &mut BytesMut, stream: StreamId, target: &Target) {
    let (device, service) = (target.device.as_str().as_bytes(), target.service.as_str().as_bytes());
    let deadline = deadline_millis(target.deadline);
    // Flags stand there only if one is set: who does not know them is never sent any.
    let flags = if target.packed { FLAG_PACKED } else { 0 } | if target.update { FLAG_UPDATE } else { 0 };
    let flags_len = if flags == 0 { 0 } else { varint::len(flags) };
    put_number(out, OPEN, stream.0);
    // Both names are shorter than 64 bytes, so each length takes one byte.
    varint::put(out, (2 + device.len() + service.len() + varint::len(deadline) + flags_len) as u64);
    for name in [device, service] {
        varint::put(out, name.len() as u64);
        out.put_slice(name);
    }
    varint::put(out, deadline);
    if flags != 0 {
        varint::put(out, flags);
    }
}

fn number(bytes: &mut Bytes) -> Result<u64, FrameError> {
    varint::take(bytes).ok_or(FrameError::Truncated)
}

fn stream(bytes: &mut Bytes) -> Result<StreamId, FrameError> {
    number(bytes).map(StreamId)
}

fn block(bytes: &mut Bytes, field: &'static str, max: usize) -> Result<Bytes, FrameError> {
    let announced = number(bytes)?;
    let len = match usize::try_from(announced) {
        Ok(len) if len <= max => len,
        _ => return Err(FrameError::TooLong { field, len: announced, max }),
    };
    if bytes.len() < len {
        return Err(FrameError::Truncated);
    }
    Ok(bytes.split_to(len))
}

fn take_open(rest: &mut Bytes) -> Result<Frame, FrameError> {
    let id = stream(rest)?;
    let mut fields = block(rest, "OPEN", OPEN_MAX)?;
    let mut name = || -> Result<String, FrameError> {
        let bytes = block(&mut fields, "a name", OPEN_MAX)?;
        String::from_utf8(bytes.into()).map_err(|_| FrameError::Text)
    };
    let device = name()?.parse().map_err(|_| FrameError::Name)?;
    let service = name()?.parse().map_err(|_| FrameError::Name)?;
    let deadline = Duration::from_millis(number(&mut fields)?);
    let flags = varint::take(&mut fields).unwrap_or(0);
    let (packed, update) = (flags & FLAG_PACKED != 0, flags & FLAG_UPDATE != 0);
    Ok(Frame::Open(id, Target { device, service, deadline, packed, update }))
}

fn take_data(rest: &mut Bytes) -> Result<Frame, FrameError> {
    let id = stream(rest)?;
    let data = block(rest, "DATA", DATA_MAX)?;
    if data.is_empty() {
        return Err(FrameError::EmptyData);
    }
    Ok(Frame::Data(id, data))
}

fn take_reset(rest: &mut Bytes) -> Result<Frame, FrameError> {
    let id = stream(rest)?;
    let reason = ResetReason::from_code(number(rest)?);
    let text = String::from_utf8(block(rest, "RESET", REASON_MAX)?.into()).map_err(|_| FrameError::Text)?;
    Ok(Frame::Reset(id, Reset { reason, text }))
}
