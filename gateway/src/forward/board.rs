//! What the streams report about themselves: bytes, how many are open, and how each service fared last.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use linkspan_protocol::frame::Target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

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
}

impl Board {
    pub(super) fn totals(&self) -> Totals {
        *lock(&self.totals)
    }

    pub(super) fn service(&self, device: &str, service: &str) -> ServiceState {
        lock(&self.services).get(&key(device, service)).cloned().unwrap_or_default()
    }

    pub(super) fn outcome(&self, target: &Target, error: Option<String>) {
        self.update(target, |state| state.last = Some(Outcome { at: Instant::now(), error }));
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
