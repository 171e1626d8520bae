//! Runs a session over a real WebSocket, and hands its streams out as sockets to read and write.
//!
//! One future per link ([`Driver::run`]) owns the WebSocket; the session sits behind a plain mutex that is held for the
//! time of one call and never across an await. Nothing is taken from the session before the socket has taken what came
//! before, so that whose turn it is gets decided late.

mod pulse;
mod stream;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Sink, Stream as _};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

pub use self::stream::{Resetter, Stream, failed, reset_of};
use crate::frame::StreamId;
pub use crate::frame::{Reset, ResetReason, Target};
use crate::limits::{CLOSE_DEADLINE, MESSAGE_MAX};
pub use crate::liveness::Pulse;
use crate::message::{Close, CloseReason};
use crate::mux::Event;
pub use crate::mux::{OpenError, Role, Settings};
use crate::session::{ControlError, Session, SessionError};
use crate::text::tame;

/// WebSocket messages handled before writing gets its turn.
const READ_BURST: usize = 16;

/// Bytes of a link's buffer for what comes; a longer message gets room while it arrives. Every idle link holds one.
const READ_BUFFER: usize = 1024;

/// The WebSocket settings of a link: small buffers, and messages no larger than the language allows.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MESSAGE_MAX)
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

/// Makes a session over a WebSocket whose handshake is done: a handle to use it, and the driver to run.
pub fn link<S>(
    socket: WebSocketStream<S>,
    role: Role,
    settings: Settings,
    ping_after: Duration,
) -> (LinkHandle, Driver<S>) {
    let now = Instant::now();
    let state = State {
        session: Session::new(role, settings, ping_after, now.into_std()),
        wakers: HashMap::new(),
        driver: None,
        stuck: None,
        incoming: VecDeque::new(),
        ended: false,
    };
    let shared = Arc::new(Shared {
        state: Mutex::new(state),
        accept: Notify::new(),
        control: Notify::new(),
        pulse: Notify::new(),
    });
    let timer = Box::pin(sleep_until(now + ping_after));
    (
        LinkHandle { shared: shared.clone() },
        Driver { socket, shared, timer, closing: false, fault: None, unflushed: false },
    )
}

/// A stream that the other end opened.
#[derive(Debug)]
pub struct Incoming {
    /// What it is to lead to.
    pub target: Target,
    /// The stream; confirm or reset it.
    pub stream: Stream,
}

/// Uses a link: opens or accepts streams, sends and receives control messages, closes it.
#[derive(Clone)]
pub struct LinkHandle {
    shared: Arc<Shared>,
}

impl LinkHandle {
    /// Opens a stream; data may be written at once.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, target: Target) -> Result<Stream, OpenError> {
        let mut state = self.shared.lock();
        if state.ended || state.session.is_closing() {
            return Err(OpenError::Closed);
        }
        let id = state.session.mux.open(target)?;
        state.wake_driver();
        drop(state);
        Ok(Stream::new(self.shared.clone(), id))
    }

    /// The next stream that the other end opens; `None` once the link has ended. One task at a time may wait here.
    pub async fn accept(&self) -> Option<Incoming> {
        loop {
            let (next, ended) = {
                let mut state = self.shared.lock();
                (state.next_incoming(), state.ended)
            };
            if let Some((id, target)) = next {
                return Some(Incoming { target, stream: Stream::new(self.shared.clone(), id) });
            }
            if ended {
                self.shared.accept.notify_one();
                return None;
            }
            self.shared.accept.notified().await;
        }
    }

    /// Queues a control message, written as JSON.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn send<M: Serialize>(&self, message: &M) -> Result<(), ControlError> {
        // Control messages are plain structs of strings and numbers; serde_json fails on none of those.
        let json = Bytes::from(serde_json::to_vec(message).unwrap_or_default());
        let mut state = self.shared.lock();
        if state.ended {
            return Err(ControlError::Closed);
        }
        state.session.send_control(&json)?;
        state.wake_driver();
        Ok(())
    }

    /// The next control message, as JSON; `None` once the link has ended. One task at a time may wait here.
    pub async fn receive(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(message) = state.session.poll_control() {
                    return Some(message);
                }
                if state.ended {
                    self.shared.control.notify_one();
                    return None;
                }
            }
            self.shared.control.notified().await;
        }
    }

    /// Says why and ends the link.
    pub fn close(&self, close: &Close) {
        let mut state = self.shared.lock();
        state.session.close(close);
        state.wake_driver();
        if let Some(waker) = state.stuck.take() {
            waker.wake();
        }
    }

    /// Streams open now.
    pub fn open_streams(&self) -> usize {
        self.shared.lock().session.mux.open_streams()
    }

    /// Whether the link has ended.
    pub fn has_ended(&self) -> bool {
        self.shared.lock().ended
    }
}

impl fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LinkHandle").field("ended", &self.has_ended()).finish_non_exhaustive()
    }
}

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    /// The other end closed it and said why.
    #[error("closed by the other end ({:?}) {}", .0.reason, tame(&.0.text))]
    Closed(Close),
    /// This end closed it.
    #[error("closed")]
    ClosedHere,
    /// The connection ended without a word.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other end broke a rule, or fell silent.
    #[error(transparent)]
    Session(#[from] SessionError),
}

struct Shared {
    state: Mutex<State>,
    accept: Notify,
    control: Notify,
    pulse: Notify,
}

impl Shared {
    /// No code panics while it holds the lock; if it did, the session is as good as before.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reset(&self, id: StreamId, reset: Reset) {
        let mut state = self.lock();
        state.session.mux.reset(id, reset);
        state.dispatch();
        state.wake_driver();
    }
}

#[derive(Default)]
struct StreamWakers {
    read: Option<Waker>,
    write: Option<Waker>,
}

struct State {
    session: Session,
    wakers: HashMap<StreamId, StreamWakers>,
    /// The driver, while it has nothing to send.
    driver: Option<Waker>,
    /// The driver, while the socket takes nothing: only a close is worth waking it for.
    stuck: Option<Waker>,
    incoming: VecDeque<(StreamId, Target)>,
    ended: bool,
}

impl State {
    fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// The next stream for [`LinkHandle::accept`], without those that were given up already.
    fn next_incoming(&mut self) -> Option<(StreamId, Target)> {
        while let Some((id, target)) = self.incoming.pop_front() {
            if self.session.mux.is_opened(id).is_ok() {
                return Some((id, target));
            }
            self.session.mux.release(id);
        }
        None
    }

    /// Wakes whom the session's events concern; true if a stream came in.
    fn dispatch(&mut self) -> bool {
        let mut came = false;
        while let Some(event) = self.session.mux.poll_event() {
            let waker = match event {
                Event::Incoming(id, target) => {
                    self.incoming.push_back((id, target));
                    came = true;
                    None
                }
                Event::Readable(id) => self.wakers.get_mut(&id).and_then(|wakers| wakers.read.take()),
                Event::Writable(id) => self.wakers.get_mut(&id).and_then(|wakers| wakers.write.take()),
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        came
    }
}

/// Moves a link's messages between its WebSocket and its session.
pub struct Driver<S> {
    socket: WebSocketStream<S>,
    shared: Arc<Shared>,
    timer: Pin<Box<Sleep>>,
    /// This end's CLOSE is on its way, and the timer is its deadline; the other end hangs up when it has read it.
    closing: bool,
    /// The rule that the other end broke, while it is being told.
    fault: Option<SessionError>,
    unflushed: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    /// Runs the link until it ends, and says why it did. Dropping the future ends the link as well.
    pub async fn run(mut self) -> LinkEnd {
        let end = poll_fn(|cx| self.poll(cx)).await;
        self.end(&end.to_string());
        end
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        loop {
            // Reading comes first: after a pause of the whole process, what waits in the socket is a sign of life.
            let more_to_read = match self.poll_read(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(end)) => return Poll::Ready(end),
                Poll::Pending => false,
            };
            if let Poll::Ready(end) = self.poll_write(cx) {
                return Poll::Ready(end);
            }
            if !more_to_read {
                if let Poll::Ready(end) = self.poll_timer(cx) {
                    return Poll::Ready(end);
                }
                return Poll::Pending;
            }
        }
    }

    /// Handles messages that came: `Ready(Ok)` if there may be more.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkEnd>> {
        for _ in 0..READ_BURST {
            let message = match ready!(Pin::new(&mut self.socket).poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => return Poll::Ready(Err(self.lost(&error))),
                None => return Poll::Ready(Err(self.hung_up())),
            };
            match message {
                Message::Binary(bytes) => self.handle(bytes)?,
                Message::Ping(_) => self.unflushed = true,
                Message::Pong(_) | Message::Frame(_) => {}
                Message::Close(_) => return Poll::Ready(Err(self.hung_up())),
                Message::Text(_) => return Poll::Ready(Err(LinkEnd::Lost("a text message on a link".into()))),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn handle(&mut self, bytes: Bytes) -> Result<(), LinkEnd> {
        if self.fault.is_some() {
            return Ok(());
        }
        let mut state = self.shared.lock();
        let before = state.session.pulse();
        let handled = state.session.handle_message(bytes, Instant::now().into_std());
        let after = state.session.pulse();
        if (before.suspect, before.survived) != (after.suspect, after.survived) {
            self.shared.pulse.notify_one();
        }
        if state.dispatch() {
            self.shared.accept.notify_one();
        }
        if state.session.has_control() {
            self.shared.control.notify_one();
        }
        if let Err(error) = handled {
            state.session.close(&Close {
                reason: CloseReason::Protocol,
                text: error.to_string(),
                retry_between_s: None,
            });
            self.fault = Some(error);
            return Ok(());
        }
        match state.session.close_heard() {
            Some(close) => Err(LinkEnd::Closed(close.clone())),
            None => Ok(()),
        }
    }

    /// Sends what may be sent, one message at a time; ready only when the link has ended.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        loop {
            if self.unflushed {
                match Pin::new(&mut self.socket).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.unflushed = false,
                    Poll::Ready(Err(error)) => return Poll::Ready(self.lost(&error)),
                    Poll::Pending => {
                        self.shared.lock().stuck = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            }
            let message = {
                let mut state = self.shared.lock();
                let message = state.session.poll_transmit(Instant::now().into_std());
                state.dispatch();
                if message.is_none() {
                    state.driver = Some(cx.waker().clone());
                }
                message
            };
            let Some(message) = message else { return Poll::Pending };
            if let Err(error) = Pin::new(&mut self.socket).start_send(Message::Binary(message)) {
                return Poll::Ready(self.lost(&error));
            }
            self.unflushed = true;
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        if !self.closing && self.shared.lock().session.is_closing() {
            self.closing = true;
            self.timer.as_mut().reset(Instant::now() + CLOSE_DEADLINE);
        }
        if self.closing {
            ready!(self.timer.as_mut().poll(cx));
            return Poll::Ready(self.hung_up());
        }
        loop {
            let due = Instant::from_std(self.shared.lock().session.poll_timeout());
            // Setting a timer costs more than looking at the clock: one that is set too early is moved when it fires.
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(cx));
            if Instant::now() < due {
                continue;
            }
            let (handled, suspect) = {
                let mut state = self.shared.lock();
                (state.session.handle_timeout(Instant::now().into_std()), state.session.pulse().suspect)
            };
            if suspect {
                self.shared.pulse.notify_one();
            }
            if let Err(error) = handled {
                return Poll::Ready(error.into());
            }
            if let Poll::Ready(end) = self.poll_write(cx) {
                return Poll::Ready(end);
            }
            // The socket may be stuck with an ACK or a ping in it; the next look at the clock must still come.
            if Instant::from_std(self.shared.lock().session.poll_timeout()) <= Instant::now() {
                self.timer.as_mut().reset(Instant::now() + Duration::from_secs(1));
                ready!(self.timer.as_mut().poll(cx));
            }
        }
    }

    fn lost(&mut self, error: &WsError) -> LinkEnd {
        match error {
            WsError::ConnectionClosed | WsError::AlreadyClosed => self.hung_up(),
            WsError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.hung_up(),
            _ if self.shared.lock().session.is_closing() => self.hung_up(),
            error => LinkEnd::Lost(error.to_string()),
        }
    }

    fn hung_up(&mut self) -> LinkEnd {
        if let Some(fault) = self.fault.take() {
            return fault.into();
        }
        if self.shared.lock().session.is_closing() {
            LinkEnd::ClosedHere
        } else {
            LinkEnd::Lost("the other end hung up".into())
        }
    }
}

impl<S> Driver<S> {
    fn end(&self, why: &str) {
        let mut state = self.shared.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        state.session.end(why);
        state.dispatch();
        self.shared.accept.notify_one();
        self.shared.control.notify_one();
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.end("the link was dropped");
    }
}

impl<S> fmt::Debug for Driver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("closing", &self.closing).finish_non_exhaustive()
    }
}
