//! What the streams report about themselves: bytes, how many are open, and how each service fared last.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use linkspan_protocol::frame::Target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A server that asks again and again for what is not listed must not fill the log of a router.
const UNLISTED_AGAIN: Duration = Duration::from_secs(60);

/// Sums over all streams since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Streams open now.
    pub(crate) open: u32,
    /// Bytes from devices to the server.
    pub(crate) up: u64,
    /// Bytes from the server to devices.
    pub(crate) down: u64,
}

/// How a service fared.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceState {
    /// Streams open now.
    pub(crate) open: u32,
    /// The last attempt to reach it.
    pub(crate) last: Option<Outcome>,
}

/// An attempt to reach a service.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// When.
    pub(crate) at: Instant,
    /// Why it failed, if it did.
    pub(crate) error: Option<String>,
}

/// Plain mutexes, held for an addition: there is one thread, and its processor may have no 64-bit atomics.
#[derive(Default)]
pub(super) struct Board {
    totals: Mutex<Totals>,
    services: Mutex<HashMap<String, ServiceState>>,
    /// When it was last said that something was asked for that is not listed.
    unlisted: Mutex<Option<Instant>>,
}

impl Board {
    pub(super) fn totals(&self) -> Totals {
        *lock(&self.totals)
    }

    pub(super) fn service(&self, device: &str, service: &str) -> ServiceState {
        lock(&self.services).get(&key(device, service)).cloned().unwrap_or_default()
    }

    /// Notes how an attempt ended; true if the one before it ended otherwise.
    pub(super) fn outcome(&self, target: &Target, error: Option<String>) -> bool {
        let mut news = true;
        self.update(target, |state| {
            news = state.last.as_ref().is_none_or(|last| last.error != error);
            state.last = Some(Outcome { at: Instant::now(), error });
        });
        news
    }

    /// Whether it is time to say again that something is asked for that is not listed.
    pub(super) fn unlisted_is_news(&self) -> bool {
        let mut last = lock(&self.unlisted);
        let news = last.is_none_or(|at| at.elapsed() >= UNLISTED_AGAIN);
        if news {
            *last = Some(Instant::now());
        }
        news
    }

    /// Counts a stream as open until the guard is dropped.
    pub(super) fn open(self: &Arc<Self>, target: &Target) -> OpenGuard {
        lock(&self.totals).open += 1;
        self.update(target, |state| state.open += 1);
        OpenGuard { board: self.clone(), target: target.clone() }
    }

    fn update(&self, target: &Target, change: impl FnOnce(&mut ServiceState)) {
        let key = key(target.device.as_str(), target.service.as_str());
        change(lock(&self.services).entry(key).or_default());
    }
}

fn key(device: &str, service: &str) -> String {
    [device, service].join(":")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct OpenGuard {
    board: Arc<Board>,
    target: Target,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let totals = &mut lock(&self.board.totals).open;
        *totals = totals.saturating_sub(1);
        self.board.update(&self.target, |state| state.open = state.open.saturating_sub(1));
    }
}

/// A connection to a device whose bytes are counted as they pass.
pub(super) struct Counted {
    pub(super) stream: TcpStream,
    board: Arc<Board>,
    /// The device has ended its direction.
    pub(super) saw_end: bool,
}

impl Counted {
    pub(super) fn new(stream: TcpStream, board: Arc<Board>) -> Self {
        Self { stream, board, saw_end: false }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let had_room = buf.remaining() > 0;
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = (buf.filled().len() - before) as u64;
        if read == 0 && had_room {
            self.saw_end = true;
        }
        lock(&self.board.totals).up += read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, data))?;
        lock(&self.board.totals).down += written as u64;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_happens_again_and_again_is_no_news() {
        let board = Board::default();
        let (device, service) = ("plc1".parse().unwrap(), "web".parse().unwrap());
        let target = Target { device, service, deadline: Duration::ZERO };
        let refused = || Some("refused".to_owned());
        let outcomes = [refused(), refused(), None, None, refused(), Some("timed out".to_owned())];
        assert_eq!(outcomes.map(|error| board.outcome(&target, error)), [true, false, true, false, true, true]);
        assert!(board.unlisted_is_news());
        assert!(!board.unlisted_is_news());
        tokio::time::advance(UNLISTED_AGAIN).await;
        assert!(board.unlisted_is_news());
    }
}
