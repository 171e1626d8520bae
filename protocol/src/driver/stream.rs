//! One stream as a socket: `AsyncRead` and `AsyncWrite` with half-close.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::state::Shared;
use crate::frame::{Reset, ResetReason, StreamId};
use crate::mux::{Allow, KEPT, Read};

/// One end of a stream. Shutting it down ends this end's direction (FIN); dropping it before both directions have ended
/// resets it as cancelled. A read or write on a stream that was reset fails with the [`Reset`] as the inner error.
pub struct Stream {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Stream {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self { shared, id }
    }

    /// Resolves when the other end has reached the target.
    ///
    /// # Errors
    /// The [`Reset`] with which it said why it could not.
    pub async fn opened(&mut self) -> Result<(), Reset> {
        poll_fn(|cx| self.poll_opened(cx)).await
    }

    /// [`opened`](Self::opened) as a poll.
    ///
    /// # Errors
    /// As there.
    pub fn poll_opened(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Reset>> {
        let mut state = self.shared.lock();
        if state.session.mux.is_opened(self.id)? {
            return Poll::Ready(Ok(()));
        }
        state.wakers.entry(self.id).or_default().read = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says to the opener that the target was reached.
    pub fn confirm(&mut self) {
        let mut state = self.shared.lock();
        state.session.mux.confirm(self.id);
        state.wake_driver();
    }

    /// Ends both directions at once and says why.
    pub fn reset(&mut self, reason: ResetReason, text: &str) {
        self.shared.reset(self.id, Reset::new(reason, text));
    }

    /// Ends both directions once all that was written is sent, and says why. The stream may be dropped at once.
    pub fn reset_behind(&mut self, reason: ResetReason, text: &str) {
        let mut state = self.shared.lock();
        state.session.mux.reset_behind(self.id, Reset::new(reason, text));
        state.dispatch();
        state.wake_driver();
    }

    /// The link below it.
    pub fn line(&self) -> Line {
        Line { shared: self.shared.clone() }
    }

    /// Something that can reset this stream from elsewhere, as long as it lives.
    pub fn resetter(&self) -> Resetter {
        Resetter { shared: self.shared.clone(), id: self.id }
    }
}

/// The link below a stream, for whoever may not count the time in which it is away.
#[derive(Clone)]
pub struct Line {
    shared: Arc<Shared>,
}

impl Line {
    /// Since when there is a link; `None` while the session waits for the next one.
    pub fn up_since(&self) -> Option<Instant> {
        let state = self.shared.lock();
        state.detached.is_none().then_some(state.attached)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("up_since", &self.up_since()).finish()
    }
}

/// Resets a stream that somebody else owns, and hears of its reset.
#[derive(Clone)]
pub struct Resetter {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Resetter {
    /// Ends both directions at once and says why; nothing happens if the stream is over.
    pub fn reset(&self, reason: ResetReason, text: &str) {
        self.shared.reset(self.id, Reset::new(reason, text));
    }

    /// Resolves when the stream is reset, by either end or with its session, after the other end had said all it had to
    /// say. Whoever has read that end hears of nothing more, and of a reset only with the next write, which may never be.
    pub async fn broken(&self) -> Reset {
        poll_fn(|cx| {
            let mut state = self.shared.lock();
            if let Some(reset) = state.session.mux.broken(self.id) {
                return Poll::Ready(reset);
            }
            state.wakers.entry(self.id).or_default().broken = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The link below it.
    pub fn line(&self) -> Line {
        Line { shared: self.shared.clone() }
    }
}

impl fmt::Debug for Resetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resetter").field("id", &self.id.0).finish_non_exhaustive()
    }
}

/// The reset inside an error of a stream's read or write, however deep.
pub fn reset_of<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Reset> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(reset) = error.downcast_ref::<Reset>() {
            return Some(reset);
        }
        // An io::Error does not count the error it wraps as its source, only that one's source.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The error of a read or write on a stream that was reset.
pub fn failed(reset: Reset) -> io::Error {
    let kind = match reset.reason {
        ResetReason::Refused => io::ErrorKind::ConnectionRefused,
        ResetReason::TimedOut | ResetReason::Idle => io::ErrorKind::TimedOut,
        ResetReason::Cancelled => io::ErrorKind::BrokenPipe,
        ResetReason::NotListed
        | ResetReason::Unreachable
        | ResetReason::NameNotFound
        | ResetReason::DeviceReset
        | ResetReason::StreamLimit
        | ResetReason::LinkLost
        | ResetReason::Protocol
        | ResetReason::Stopping
        | ResetReason::Internal
        | ResetReason::Ended
        | ResetReason::DataCap
        | ResetReason::Unknown(_) => io::ErrorKind::ConnectionReset,
    };
    io::Error::new(kind, reset)
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let now = Instant::now().into_std();
        // Several short pieces fill one buffer: fewer calls for the caller.
        let mut some = false;
        loop {
            match state.session.mux.read(self.id, buf.remaining(), now) {
                Ok(Read::Data(data)) => {
                    buf.put_slice(&data);
                    some = true;
                    if buf.remaining() > 0 {
                        continue;
                    }
                }
                Ok(Read::Wait) if !some => {
                    state.wakers.entry(self.id).or_default().read = Some(cx.waker().clone());
                    return Poll::Pending;
                }
                Err(reset) if !some => return Poll::Ready(Err(failed(reset))),
                Ok(Read::Wait | Read::End) | Err(_) => {}
            }
            if state.session.mux.wants_to_send(Allow::Short) {
                state.wake_driver();
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut state = self.shared.lock();
        match state.session.mux.write(self.id, data, Instant::now().into_std()) {
            Ok(0) => {
                state.wakers.entry(self.id).or_default().write = Some(cx.waker().clone());
                Poll::Pending
            }
            Ok(taken) => {
                state.wake_driver();
                Poll::Ready(Ok(taken))
            }
            Err(reset) => Poll::Ready(Err(failed(reset))),
        }
    }

    /// What was written is on its way as soon as the link takes it: there is nothing to wait for.
    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.lock();
        state.session.mux.finish(self.id);
        state.wake_driver();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.wakers.remove(&self.id);
        if state.wakers.is_empty() {
            state.wakers.shrink_to(KEPT);
        }
        state.session.mux.release(self.id, Instant::now().into_std());
        state.wake_driver();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("id", &self.id.0).finish_non_exhaustive()
    }
}
