//! Stands around the socket of an HTTP/1.1 connection and lets only well-framed requests through to the HTTP library.

mod framing;
mod head;
mod turns;

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use self::framing::{Framing, Phase};
pub use self::head::check_target;
pub use self::turns::Turns;
use crate::edge::limits;

/// Bytes read from the socket at once.
const READ: usize = 16 * 1024;

/// Why a request is refused before anything of it is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request breaks a rule of HTTP.
    #[error("{0}")]
    Bad(&'static str),
    /// The request head, or a part of it, is too long.
    #[error("{0}")]
    TooLarge(&'static str),
    /// A version of HTTP that is not spoken here.
    #[error("only HTTP/1.1 and HTTP/2 are spoken here")]
    Version,
    /// The request did not arrive in time.
    #[error("the request did not arrive in time")]
    Timeout,
}

impl Refusal {
    /// The status, with its words.
    pub fn status(self) -> (u16, &'static str) {
        match self {
            Self::Bad(_) => (400, "Bad Request"),
            Self::TooLarge(_) => (431, "Request Header Fields Too Large"),
            Self::Version => (505, "HTTP Version Not Supported"),
            Self::Timeout => (408, "Request Timeout"),
        }
    }

    fn answer(self) -> Vec<u8> {
        let (status, words) = self.status();
        let text = format!("{status} {words}: {self}.\n");
        format!(
            "HTTP/1.1 {status} {words}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Linkspan-Error: bad-request\r\nContent-Length: {}\r\n\r\n{text}",
            text.len()
        )
        .into_bytes()
    }
}

/// How the connection comes to its end.
#[derive(Debug)]
enum End {
    /// Not yet.
    Open,
    /// A refused request stands behind one that is still being answered.
    Behind(Refusal),
    /// Nothing more is read; this is written before the socket is closed.
    Closing { last: BytesMut },
    /// Our side is closed; what still comes is thrown away for a moment.
    Lingering(Pin<Box<Sleep>>),
}

/// The guard: reads are checked, writes pass, and both have deadlines.
#[derive(Debug)]
pub struct Guard<IO> {
    io: IO,
    held: BytesMut,
    released: usize,
    framing: Framing,
    turns: Turns,
    waiting: Option<(Phase, Pin<Box<Sleep>>)>,
    stalled: Option<Pin<Box<Sleep>>>,
    end: End,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Guard<IO> {
    /// Puts a guard around a socket. `turns` tells it which requests have been answered.
    pub fn new(io: IO, turns: Turns) -> Self {
        Self {
            io,
            held: BytesMut::new(),
            released: 0,
            framing: Framing::default(),
            turns,
            waiting: None,
            stalled: None,
            end: End::Open,
        }
    }

    /// The socket, with what was read of another protocol and nobody has taken yet. Only for a connection that has
    /// switched to one: then the guard has nothing left to guard.
    pub fn into_inner(self) -> (IO, BytesMut) {
        (self.io, self.held)
    }

    fn poll_checked(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.released > 0 {
                let bytes = self.released.min(out.remaining());
                out.put_slice(self.held.get(..bytes).unwrap_or_default());
                self.held.advance(bytes);
                self.released -= bytes;
                return Poll::Ready(Ok(()));
            }
            match self.end {
                End::Open => {}
                End::Behind(refusal) => {
                    ready!(self.turns.poll_finished(self.framing.requests(), cx));
                    self.end = End::closing(Some(refusal));
                    return Poll::Ready(Ok(()));
                }
                End::Closing { .. } | End::Lingering(_) => return Poll::Ready(Ok(())),
            }
            if self.framing.phase(self.held.len()) == Phase::Switching {
                let raw = ready!(self.turns.poll_switched(self.framing.requests(), cx));
                self.framing.switched(raw);
            }
            if self.held.is_empty() && self.framing.plain() > 0 {
                return self.poll_plain(cx, out);
            }
            match self.framing.advance(&self.held) {
                Err(refusal) => {
                    if let Some(error) = self.refuse(refusal) {
                        return Poll::Ready(Err(error));
                    }
                }
                Ok(0) if self.framing.phase(self.held.len()) == Phase::Switching => {}
                Ok(0) => {
                    if !ready!(self.poll_more(cx))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Ok(bytes) => {
                    self.waiting = None;
                    self.released = bytes;
                }
            }
        }
    }

    /// Body bytes that need no look go straight to their reader.
    fn poll_plain(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let left = usize::try_from(self.framing.plain()).unwrap_or(usize::MAX);
        let (polled, bytes) = if left >= out.remaining() {
            let before = out.filled().len();
            (Pin::new(&mut self.io).poll_read(cx, out), out.filled().len() - before)
        } else {
            let mut part = ReadBuf::new(out.initialize_unfilled_to(left));
            let polled = Pin::new(&mut self.io).poll_read(cx, &mut part);
            let bytes = part.filled().len();
            out.advance(bytes);
            (polled, bytes)
        };
        match polled {
            Poll::Pending => self.poll_deadline(cx),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => {
                self.framing.passed(bytes);
                self.waiting = None;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Reads into the held bytes; false at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut space);
        match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) => {
                self.held.extend_from_slice(buffer.filled());
                if self.framing.phase(self.held.len()) == Phase::Body {
                    self.waiting = None;
                }
                Poll::Ready(Ok(!buffer.filled().is_empty()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => self.poll_deadline(cx).map_ok(|()| false),
        }
    }

    /// Called when nothing is there to read: has the deadline of this phase passed?
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.held.is_empty() {
            // A connection that waits holds no buffer.
            self.held = BytesMut::new();
        }
        let phase = self.framing.phase(self.held.len());
        let limit = match phase {
            Phase::Idle if !self.turns.all_finished(self.framing.requests()) => None,
            Phase::Idle if self.framing.requests() == 0 => Some(limits::REQUEST_HEAD),
            Phase::Idle => Some(limits::KEEP_ALIVE),
            Phase::Head => Some(limits::REQUEST_HEAD),
            Phase::Body => Some(limits::BODY_SILENCE),
            Phase::Switching | Phase::Raw => None,
        };
        let Some(limit) = limit else {
            self.waiting = None;
            return Poll::Pending;
        };
        ready!(self.poll_waited(phase, limit, cx));
        match phase {
            Phase::Idle => self.end = End::closing(None),
            _ => {
                if let Some(error) = self.refuse(Refusal::Timeout) {
                    return Poll::Ready(Err(error));
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_waited(&mut self, phase: Phase, limit: Duration, cx: &mut Context<'_>) -> Poll<()> {
        let fresh = self.waiting.as_ref().is_none_or(|(waited, _)| *waited != phase);
        if fresh {
            self.waiting = Some((phase, Box::pin(tokio::time::sleep(limit))));
        }
        match &mut self.waiting {
            Some((_, sleep)) => sleep.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }

    /// In a body the handler hears of it and answers; before that nobody has seen the request, and we answer.
    fn refuse(&mut self, refusal: Refusal) -> Option<io::Error> {
        if self.framing.phase(self.held.len()) == Phase::Body {
            self.end = End::closing(None);
            return Some(io::Error::new(io::ErrorKind::InvalidData, refusal));
        }
        self.end = End::Behind(refusal);
        None
    }

    fn poll_stalled<T>(&mut self, cx: &mut Context<'_>, polled: Poll<T>) -> Poll<Result<T, io::Error>> {
        if let Poll::Ready(done) = polled {
            self.stalled = None;
            return Poll::Ready(Ok(done));
        }
        if self.framing.phase(self.held.len()) == Phase::Raw {
            return Poll::Pending;
        }
        let sleep = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::WRITE_STALL)));
        ready!(sleep.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not take its answer")))
    }

    /// Writes the refusal, if there is one.
    fn poll_last(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let End::Closing { last } = &mut self.end
            && !last.is_empty()
        {
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, last))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            last.advance(written);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Throws away what still comes, until the client has closed or the time is up.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let End::Lingering(sleep) = &mut self.end else { return Poll::Ready(Ok(())) };
        if sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut space = [MaybeUninit::uninit(); READ];
        for _ in 0..16 {
            let mut buffer = ReadBuf::uninit(&mut space);
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl End {
    fn closing(refusal: Option<Refusal>) -> Self {
        let last = refusal.map(Refusal::answer).unwrap_or_default();
        Self::Closing { last: BytesMut::from(last.as_slice()) }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_checked(cx, out)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, bytes);
        this.poll_stalled(cx, polled).map(Result::flatten)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, slices);
        this.poll_stalled(cx, polled).map(Result::flatten)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        this.poll_stalled(cx, polled).map(Result::flatten)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !matches!(this.end, End::Lingering(_)) {
            let polled = this.poll_last(cx);
            ready!(this.poll_stalled(cx, polled).map(Result::flatten))?;
            let polled = Pin::new(&mut this.io).poll_shutdown(cx);
            ready!(this.poll_stalled(cx, polled).map(Result::flatten))?;
            let unread = matches!(this.end, End::Closing { .. }) || this.framing.phase(this.held.len()) == Phase::Body;
            if this.framing.phase(this.held.len()) == Phase::Raw || !unread {
                return Poll::Ready(Ok(()));
            }
            this.end = End::Lingering(Box::pin(tokio::time::sleep_until(Instant::now() + limits::LINGER)));
        }
        this.poll_linger(cx)
    }
}

#[cfg(test)]
mod tests;
