//! The WebSocket of a link (RFC 6455) once its handshake is done: messages go from and to the socket without a copy, and
//! an idle one holds no buffer.
//!
//! A gateway's frames carry the masking key zero, which leaves the bytes as they are: masking protects proxies from
//! scripts in browsers that speak to them in the clear, and a link is no script and inside TLS. Frames of others are
//! unmasked whatever their key.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;
use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

use crate::limits::MESSAGE_MAX;

/// Bytes read at once while no long message is under way; lives on the stack of a poll.
const SHORT_READ: usize = 4096;

/// Longest head of a frame: two bytes, a length of eight, a key of four.
const HEAD_MAX: usize = 14;

/// Most that a control frame carries.
const CONTROL_MAX: usize = 125;

/// A WebSocket whose handshake is done: ours, or the library's.
pub trait WebSocket: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin {}

impl<W> WebSocket for W where W: Stream<Item = Result<Message, Error>> + Sink<Message, Error = Error> + Unpin {}

/// A WebSocket over a stream of bytes.
#[derive(Debug)]
pub struct Socket<S> {
    io: S,
    role: Role,
    /// What was read and belongs to no message yet.
    rest: BytesMut,
    /// The frame under way, with what there is of it.
    frame: Option<(Head, BytesMut)>,
    /// The message under way, if it comes in several frames.
    message: Option<BytesMut>,
    out: Out,
    closed: bool,
}

impl<S> Socket<S> {
    /// Goes on over `io`, on which the handshake is done, and of which `read` has been read already.
    pub fn new(io: S, role: Role, read: &[u8]) -> Self {
        Self { io, role, rest: BytesMut::from(read), frame: None, message: None, out: Out::default(), closed: false }
    }

    /// What it goes over.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    last: bool,
    kind: u8,
    key: [u8; 4],
    len: usize,
}

const CONTINUED: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

impl Head {
    /// Takes a head off the front; `None` as long as it is not whole. `masked` says whether the other end must mask.
    fn take(from: &mut BytesMut, masked: bool) -> Result<Option<Self>, Error> {
        let &[first, second, ..] = &from[..] else { return Ok(None) };
        let (long, key_len) = (second & 0x7f, if masked { 4 } else { 0 });
        let size = 2 + key_len + [0, 2, 8][usize::from(long >= 126) + usize::from(long == 127)];
        if first & 0x70 != 0 {
            return Err(ProtocolError::NonZeroReservedBits.into());
        }
        if (second & 0x80 != 0) != masked {
            let fault =
                if masked { ProtocolError::UnmaskedFrameFromClient } else { ProtocolError::MaskedFrameFromServer };
            return Err(fault.into());
        }
        if from.len() < size {
            return Ok(None);
        }
        let mut head = from.split_to(size);
        head.advance(2);
        let len = match long {
            126 => u64::from(head.get_u16()),
            127 => head.get_u64(),
            short => u64::from(short),
        };
        let mut key = [0; 4];
        key[..key_len].copy_from_slice(&head);
        let head =
            Self { last: first & 0x80 != 0, kind: first & 0x0f, key, len: usize::try_from(len).unwrap_or(usize::MAX) };
        head.check().map(|()| Some(head))
    }

    fn check(&self) -> Result<(), Error> {
        match self.kind {
            CONTINUED | TEXT | BINARY if self.len <= MESSAGE_MAX => Ok(()),
            CONTINUED | TEXT | BINARY => Err(too_long(self.len)),
            CLOSE | PING | PONG if !self.last => Err(ProtocolError::FragmentedControlFrame.into()),
            CLOSE | PING | PONG if self.len <= CONTROL_MAX => Ok(()),
            CLOSE | PING | PONG => Err(ProtocolError::ControlFrameTooBig.into()),
            kind => Err(ProtocolError::UnknownDataFrameType(kind).into()),
        }
    }
}

fn too_long(size: usize) -> Error {
    CapacityError::MessageTooLong { size, max_size: MESSAGE_MAX }.into()
}

impl<S: AsyncRead + Unpin> Socket<S> {
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            if self.frame.is_none()
                && let Some(head) = Head::take(&mut self.rest, self.role == Role::Server)?
            {
                let here = head.len.min(self.rest.len());
                // The whole of a short frame is taken without a copy.
                self.frame = Some((head, self.rest.split_to(here)));
            }
            match &mut self.frame {
                Some((head, data)) if data.len() == head.len => {
                    if let Some(message) = self.take_frame()? {
                        return Poll::Ready(Ok(message));
                    }
                }
                Some((head, data)) => {
                    let missing = head.len - data.len();
                    if data.capacity() == data.len() {
                        // Room grows with what came: nothing is allocated for what is merely announced.
                        data.reserve(missing.min(SHORT_READ.max(3 * data.len())));
                    }
                    let room = missing.min(data.capacity() - data.len());
                    let mut limited = data.limit(room);
                    let read = ready!(pin!(self.io.read_buf(&mut limited)).poll(cx))?;
                    if read == 0 {
                        return Poll::Ready(Err(ProtocolError::ResetWithoutClosingHandshake.into()));
                    }
                }
                None => ready!(self.poll_short_read(cx))?,
            }
        }
    }

    fn poll_short_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.rest.is_empty() {
            // While it waits it holds no buffer.
            self.rest = BytesMut::new();
        }
        let mut space = [MaybeUninit::<u8>::uninit(); SHORT_READ];
        let mut chunk = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut chunk))?;
        if chunk.filled().is_empty() {
            return Poll::Ready(Err(ProtocolError::ResetWithoutClosingHandshake.into()));
        }
        self.rest.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(()))
    }

    /// The frame is whole: the message, if it is whole with it.
    fn take_frame(&mut self) -> Result<Option<Message>, Error> {
        let Some((head, mut data)) = self.frame.take() else { return Ok(None) };
        unmask(&mut data, head.key);
        match head.kind {
            PING => {
                self.out.control(PONG, &data, self.role);
                return Ok(Some(Message::Ping(data.freeze())));
            }
            PONG => return Ok(Some(Message::Pong(data.freeze()))),
            CLOSE => {
                self.closed = true;
                return Ok(Some(Message::Close(None)));
            }
            // What it says is of no interest: no link sends texts.
            TEXT => return Ok(Some(Message::Text(Utf8Bytes::from_static("")))),
            _ => {}
        }
        let whole = match (&mut self.message, head.kind) {
            (None, CONTINUED) => return Err(ProtocolError::UnexpectedContinueFrame.into()),
            (Some(_), BINARY) => return Err(ProtocolError::ExpectedFragment(Data::Binary).into()),
            (None, _) => data,
            (Some(before), _) if before.len() + data.len() > MESSAGE_MAX => {
                return Err(too_long(before.len() + data.len()));
            }
            (Some(before), _) => {
                before.extend_from_slice(&data);
                std::mem::take(before)
            }
        };
        if head.last {
            self.message = None;
            return Ok(Some(Message::Binary(whole.freeze())));
        }
        self.message = Some(whole);
        Ok(None)
    }
}

fn unmask(data: &mut [u8], key: [u8; 4]) {
    if key == [0; 4] {
        return;
    }
    let mut words = data.chunks_exact_mut(4);
    for word in &mut words {
        for (byte, key) in word.iter_mut().zip(key) {
            *byte ^= key;
        }
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// What is to be written: control frames, then the one message that was given.
#[derive(Debug, Default)]
struct Out {
    control: BytesMut,
    head: HeadBytes,
    data: Bytes,
}

/// The rest of a frame's head.
#[derive(Clone, Copy, Debug, Default)]
struct HeadBytes {
    bytes: [u8; HEAD_MAX],
    from: usize,
    to: usize,
}

impl HeadBytes {
    fn new(kind: u8, len: usize, role: Role) -> Self {
        let mut head = Self::default();
        let mask = if role == Role::Client { 0x80 } else { 0 };
        let (size, long) = match len {
            0..=125 => (2, len as u8),
            126..=0xffff => (4, 126),
            _ => (10, 127),
        };
        head.bytes[..2].copy_from_slice(&[0x80 | kind, mask | long]);
        let written = (len as u64).to_be_bytes();
        head.bytes[2..size].copy_from_slice(&written[written.len() - (size - 2)..]);
        // The key is zero, and so are these bytes.
        head.to = if role == Role::Client { size + 4 } else { size };
        head
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.from..self.to]
    }
}

impl Out {
    fn control(&mut self, kind: u8, data: &[u8], role: Role) {
        // An end that asks without reading gets one answer: the last.
        self.control.clear();
        self.control.put_slice(HeadBytes::new(kind, data.len(), role).rest());
        self.control.put_slice(data);
    }

    fn poll<S: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, io: &mut S) -> Poll<io::Result<()>> {
        loop {
            let within = self.head.from > 0 || (self.head.to == 0 && !self.data.is_empty());
            let written = if !self.control.is_empty() && !within {
                let written = ready!(Pin::new(&mut *io).poll_write(cx, &self.control))?;
                self.control.advance(written);
                written
            } else if self.head.rest().is_empty() && self.data.is_empty() {
                return Poll::Ready(Ok(()));
            } else {
                let parts = [IoSlice::new(self.head.rest()), IoSlice::new(&self.data)];
                let written = ready!(Pin::new(&mut *io).poll_write_vectored(cx, &parts))?;
                self.advance(written);
                written
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
    }

    fn advance(&mut self, written: usize) {
        let of_head = written.min(self.head.rest().len());
        self.head.from += of_head;
        if self.head.rest().is_empty() {
            self.head = HeadBytes::default();
        }
        self.data.advance(written - of_head);
        if self.data.is_empty() {
            // The message may be kept elsewhere, but not here.
            self.data = Bytes::new();
        }
    }
}

impl<S: AsyncRead + Unpin> Stream for Socket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.closed {
            return Poll::Ready(None);
        }
        let polled = this.poll_message(cx);
        if let Poll::Ready(Err(_)) = &polled {
            this.closed = true;
        }
        polled.map(Some)
    }
}

impl<S: AsyncWrite + Unpin> Sink<Message> for Socket<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        this.out.poll(cx, &mut this.io).map_err(Error::Io)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.get_mut();
        match message {
            Message::Binary(_) if !this.out.data.is_empty() || !this.out.head.rest().is_empty() => {
                return Err(Error::WriteBufferFull(message.into()));
            }
            Message::Binary(data) => {
                this.out.head = HeadBytes::new(BINARY, data.len(), this.role);
                this.out.data = data;
            }
            Message::Ping(data) => this.out.control(PING, &data, this.role),
            Message::Pong(data) => this.out.control(PONG, &data, this.role),
            Message::Close(_) => this.out.control(CLOSE, &[], this.role),
            Message::Text(_) | Message::Frame(_) => return Err(Error::AttackAttempt),
        }
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        ready!(this.out.poll(cx, &mut this.io))?;
        Pin::new(&mut this.io).poll_flush(cx).map_err(Error::Io)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_flush(cx))?;
        if !self.closed {
            self.closed = true;
            let role = self.role;
            self.out.control(CLOSE, &[], role);
        }
        self.poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{SinkExt, StreamExt};
    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::timeout;
    use tokio_tungstenite::WebSocketStream;

    use super::*;

    fn pattern(len: usize) -> Bytes {
        (0..len).map(|at| (at * 31 % 251) as u8).collect()
    }

    /// Ours and the library's, joined.
    async fn pair(role: Role, capacity: usize) -> (Socket<DuplexStream>, WebSocketStream<DuplexStream>) {
        let (near, far) = duplex(capacity);
        let other = if role == Role::Server { Role::Client } else { Role::Server };
        (Socket::new(near, role, &[]), WebSocketStream::from_raw_socket(far, other, None).await)
    }

    #[tokio::test]
    async fn messages_of_every_length_pass_both_ways_whatever_the_buffers() {
        for role in [Role::Client, Role::Server] {
            for capacity in [7, 4096, 1 << 20] {
                let (mut ours, mut theirs) = pair(role, capacity).await;
                for len in [0, 1, 125, 126, 4081, 4082, 4096, 16_384, 32_800, MESSAGE_MAX] {
                    let message = Message::Binary(pattern(len));
                    let (sent, came) = tokio::join!(ours.send(message.clone()), theirs.next());
                    sent.unwrap();
                    assert_eq!(came.unwrap().unwrap(), message, "{role:?} {capacity} {len}");
                    let (sent, came) = tokio::join!(theirs.send(message.clone()), ours.next());
                    sent.unwrap();
                    assert_eq!(came.unwrap().unwrap(), message, "{role:?} {capacity} {len}");
                }
            }
        }
    }

    #[tokio::test]
    async fn many_short_messages_in_one_piece_come_one_by_one_and_leave_no_buffer() {
        let (mut ours, mut theirs) = pair(Role::Server, 1 << 20).await;
        for len in 0..300 {
            theirs.feed(Message::Binary(pattern(len))).await.unwrap();
        }
        theirs.flush().await.unwrap();
        for len in 0..300 {
            assert_eq!(ours.next().await.unwrap().unwrap(), Message::Binary(pattern(len)));
        }
        assert!(timeout(Duration::from_millis(10), ours.next()).await.is_err());
        assert_eq!(ours.rest.capacity(), 0);
    }

    #[tokio::test]
    async fn pings_are_answered_and_closing_ends_it() {
        let (mut ours, mut theirs) = pair(Role::Client, 4096).await;
        theirs.send(Message::Ping(Bytes::from_static(b"there?"))).await.unwrap();
        assert_eq!(ours.next().await.unwrap().unwrap(), Message::Ping(Bytes::from_static(b"there?")));
        ours.send(Message::Binary(pattern(9))).await.unwrap();
        assert_eq!(theirs.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
        assert_eq!(theirs.next().await.unwrap().unwrap(), Message::Binary(pattern(9)));
        ours.close().await.unwrap();
        assert!(matches!(theirs.next().await, Some(Ok(Message::Close(_)))));
        assert!(ours.next().await.is_none());
        let (mut ours, mut theirs) = pair(Role::Server, 4096).await;
        theirs.close(None).await.unwrap();
        assert!(matches!(ours.next().await, Some(Ok(Message::Close(_)))));
    }

    /// What the server's end makes of these bytes.
    async fn heard(bytes: &[u8]) -> Result<Message, Error> {
        let (near, mut far) = duplex(1 << 20);
        far.write_all(bytes).await.unwrap();
        drop(far);
        Socket::new(near, Role::Server, &[]).next().await.unwrap()
    }

    #[tokio::test]
    async fn a_message_in_several_frames_is_put_together() {
        let bytes = [&[0x02, 0x82, 0, 0, 0, 0, 1, 2][..], &[0x89, 0x80, 1, 1, 1, 1], &[0x80, 0x81, 1, 1, 1, 1, 2]];
        let (near, mut far) = duplex(1 << 20);
        far.write_all(&bytes.concat()).await.unwrap();
        let mut ours = Socket::new(near, Role::Server, &[]);
        assert_eq!(ours.next().await.unwrap().unwrap(), Message::Ping(Bytes::new()));
        assert_eq!(ours.next().await.unwrap().unwrap(), Message::Binary(Bytes::from_static(&[1, 2, 3])));
        let mut flood = vec![0x02, 0x80, 0, 0, 0, 0];
        for _ in 0..2 {
            flood.extend([0x00, 0xfe, 0x9c, 0x40, 0, 0, 0, 0]);
            flood.extend(vec![0; 40_000]);
        }
        let error = heard(&flood).await.unwrap_err();
        assert!(matches!(error, Error::Capacity(CapacityError::MessageTooLong { .. })), "{error}");
    }

    #[tokio::test]
    async fn what_breaks_the_rules_is_refused() {
        for (bytes, rule) in [
            (&[0x82, 0x01, 7][..], "not masked"),
            (&[0xc2, 0x80, 0, 0, 0, 0], "a reserved bit"),
            (&[0x83, 0x80, 0, 0, 0, 0], "an unknown kind"),
            (&[0x8b, 0x80, 0, 0, 0, 0], "an unknown control frame"),
            (&[0x09, 0x80, 0, 0, 0, 0], "a ping in pieces"),
            (&[0x89, 0xfe, 0, 126, 0, 0, 0, 0], "a long ping"),
            (&[0x80, 0x80, 0, 0, 0, 0], "a continuation of nothing"),
            (&[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0], "a message within a message"),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xa0, 1, 0, 0, 0, 0], "too long"),
            (&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], "endless"),
            (&[0x82, 0x85, 0, 0, 0, 0, 1], "an end in the middle"),
            (&[0x82], "an end in a head"),
            (&[], "an end without a word"),
        ] {
            assert!(heard(bytes).await.is_err(), "{rule}");
        }
    }

    #[tokio::test]
    async fn nothing_is_allocated_for_what_is_merely_announced() {
        let (near, mut far) = duplex(1 << 20);
        far.write_all(&[0x82, 0xfe, 0x9c, 0x40, 0, 0, 0, 0, 1]).await.unwrap();
        let mut ours = Socket::new(near, Role::Server, &[]);
        assert!(timeout(Duration::from_millis(10), ours.next()).await.is_err());
        let (_, data) = ours.frame.unwrap();
        assert!(data.capacity() <= 2 * SHORT_READ, "{}", data.capacity());
    }
}
