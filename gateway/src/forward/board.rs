//! What the streams report about themselves: how many are open, how each service fared last, and bytes.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use linkspan_protocol::driver::{ResetReason, Resetter};
use linkspan_protocol::frame::Target;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::pace::{Pace, Schedule};

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

/// Bytes that a stream may still carry once the month's data is used up: somebody at a terminal can finish, a transfer
/// cannot.
const LAST_BYTES: u64 = 64 * 1024;

/// Plain mutexes, held for an addition: there is one thread, and its processor may have no 64-bit atomics.
#[derive(Default)]
pub(super) struct Board {
    totals: Mutex<Totals>,
    services: Mutex<HashMap<String, ServiceState>>,
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
    open: Mutex<Open>,
    changed: Notify,
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
    pub(super) fn open(self: &Arc<Self>, target: &Target, resetter: Resetter) -> OpenGuard {
        lock(&self.totals).open += 1;
        self.update(target, |state| state.open += 1);
        let carried = Arc::new(Carried { resetter, bytes: Mutex::new(0), at_cap: Mutex::new(None) });
        let mut open = lock(&self.open);
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, carried.clone());
        self.changed.notify_one();
        OpenGuard { board: self.clone(), target: target.clone(), number, carried }
    }

    /// Resolves when a stream was opened or has ended since the last call.
    pub(super) async fn opened_or_ended(&self) {
        self.changed.notified().await;
    }

    /// Bytes of each service since the start: from the device, and to it.
    pub(super) fn carried(&self) -> Vec<(String, (u64, u64))> {
        lock(&self.lanes).iter().map(|(name, lane)| (name.clone(), *lock(&lane.bytes))).collect()
    }

    /// The month's data is used up: each stream that goes on for long is ended.
    pub(super) fn end_bulk(&self, why: &str) {
        let streams: Vec<_> = lock(&self.open).streams.values().cloned().collect();
        for stream in streams {
            let bytes = *lock(&stream.bytes);
            let since = bytes - *lock(&stream.at_cap).get_or_insert(bytes);
            if since > LAST_BYTES {
                stream.resetter.reset(ResetReason::DataCap, why);
            }
        }
    }

    /// The month's data is not used up, or not any more.
    pub(super) fn forgive(&self) {
        lock(&self.open).streams.values().for_each(|stream| *lock(&stream.at_cap) = None);
    }

    fn lane(&self, target: &Target) -> Arc<Lane> {
        let key = key(target.device.as_str(), target.service.as_str());
        lock(&self.lanes).entry(key).or_default().clone()
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

/// What all streams of a service share.
#[derive(Default)]
struct Lane {
    bytes: Mutex<(u64, u64)>,
    up: Arc<Schedule>,
    down: Arc<Schedule>,
}

#[derive(Default)]
struct Open {
    next: u64,
    streams: HashMap<u64, Arc<Carried>>,
}

/// What one stream has carried, and how to end it.
struct Carried {
    resetter: Resetter,
    bytes: Mutex<u64>,
    /// What it had carried when the month's data was found used up.
    at_cap: Mutex<Option<u64>>,
}

pub(super) struct OpenGuard {
    board: Arc<Board>,
    target: Target,
    number: u64,
    carried: Arc<Carried>,
}

impl Drop for OpenGuard {
    fn drop(&mut self) {
        let totals = &mut lock(&self.board.totals).open;
        *totals = totals.saturating_sub(1);
        self.board.update(&self.target, |state| state.open = state.open.saturating_sub(1));
        lock(&self.board.open).streams.remove(&self.number);
        self.board.changed.notify_one();
    }
}

/// A connection to a device whose bytes are counted as they pass, and held to the service's rate.
pub(super) struct Counted {
    pub(super) stream: TcpStream,
    board: Arc<Board>,
    lane: Arc<Lane>,
    carried: Arc<Carried>,
    up: Pace,
    down: Pace,
    /// The device has ended its direction.
    pub(super) saw_end: bool,
}

impl Counted {
    /// `rate` in bytes per second, each way.
    pub(super) fn new(stream: TcpStream, open: &OpenGuard, rate: Option<u64>) -> Self {
        let lane = open.board.lane(&open.target);
        let (up, down) = (Pace::new(lane.up.clone(), rate), Pace::new(lane.down.clone(), rate));
        Self { stream, board: open.board.clone(), lane, carried: open.carried.clone(), up, down, saw_end: false }
    }

    fn count(&mut self, up: usize, down: usize) {
        self.up.moved(up);
        self.down.moved(down);
        let (up, down) = (up as u64, down as u64);
        let mut totals = lock(&self.board.totals);
        (totals.up, totals.down) = (totals.up + up, totals.down + down);
        let mut lane = lock(&self.lane.bytes);
        *lane = (lane.0 + up, lane.1 + down);
        *lock(&self.carried.bytes) += up + down;
    }

    /// Reads no more than `most`, which is not known to be initialised beyond that.
    fn poll_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>, most: usize) -> Poll<io::Result<()>> {
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(most.min(buf.remaining())));
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let had_room = buf.remaining() > 0;
        match ready!(self.up.poll_turn(cx)) {
            Some(most) => ready!(self.poll_some(cx, buf, most))?,
            None => ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?,
        }
        let read = buf.filled().len() - before;
        if read == 0 && had_room {
            self.saw_end = true;
        }
        self.count(read, 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let most = ready!(self.down.poll_turn(cx)).unwrap_or(data.len());
        let some = data.get(..most).unwrap_or(data);
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, some))?;
        self.count(0, written);
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
        let target = Target { device, service, deadline: Duration::ZERO, packed: false, update: false };
        let refused = || Some("refused".to_owned());
        let outcomes = [refused(), refused(), None, None, refused(), Some("timed out".to_owned())];
        assert_eq!(outcomes.map(|error| board.outcome(&target, error)), [true, false, true, false, true, true]);
        assert!(board.unlisted_is_news());
        assert!(!board.unlisted_is_news());
        tokio::time::advance(UNLISTED_AGAIN).await;
        assert!(board.unlisted_is_news());
    }
}
