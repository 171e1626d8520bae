//! Runs a session over a real WebSocket, and hands its streams out as sockets to read and write.
//!
//! One future per link ([`Driver::run`]) owns the WebSocket. A session that is resumable outlives its link: readers and
//! writers of its streams wait until a later link goes on with it ([`LinkHandle::resume`]), or its owner gives it up; the session sits behind a plain mutex that is held for the
//! time of one call and never across an await. Nothing is taken from the session before the socket has taken what came
//! before, so that whose turn it is gets decided late.

mod pace;
mod pulse;
mod run;
mod state;
mod stream;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub use self::run::{Driver, Unsent};
use self::state::{Shared, State};
pub use self::stream::{Line, Resetter, Stream, failed, reset_of};
pub use crate::frame::{Reset, ResetReason, Target};
use crate::limits::MESSAGE_MAX;
pub use crate::liveness::Pulse;
use crate::message::Close;
pub use crate::mux::{Memory, OpenError, Role, Settings};
pub use crate::session::ResumeError;
use crate::session::{ControlError, Session, SessionError};
use crate::text::tame;
use crate::websocket::WebSocket;

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
pub fn link<W>(socket: W, role: Role, settings: Settings, ping_after: Duration) -> (LinkHandle, Driver<W>)
where
    W: WebSocket,
{
    let session = Session::new(role, settings, ping_after, Instant::now().into_std());
    let shared = Arc::new(Shared {
        state: Mutex::new(State::new(session)),
        accept: Notify::new(),
        control: Notify::new(),
        pulse: Notify::new(),
        moved: Notify::new(),
    });
    (LinkHandle { shared: shared.clone() }, Driver::new(socket, shared, 0))
}

/// A stream that the other end opened.
#[derive(Debug)]
pub struct Incoming {
    /// What it is to lead to.
    pub target: Target,
    /// The stream; confirm or reset it.
    pub stream: Stream,
}

/// A session that is to go on over a new link, which has yet to be told so.
#[derive(Debug)]
pub struct Resumed {
    shared: Arc<Shared>,
    link: u64,
    received: u64,
}

impl Resumed {
    /// Sequenced frames that came so far: what the other end is to be told.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// The driver of the new link.
    pub fn over<W: WebSocket>(self, socket: W) -> Driver<W> {
        let mut state = self.shared.lock();
        if state.link == self.link && !state.ended {
            (state.detached, state.attached) = (None, Instant::now());
        }
        drop(state);
        Driver::new(socket, self.shared, self.link)
    }
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

    /// Says why and ends the link, and the session with it.
    pub fn close(&self, close: &Close) {
        let mut state = self.shared.lock();
        if state.detached.is_some() {
            drop(state);
            return self.shared.end(&close.text);
        }
        state.session.close(close);
        state.wake_driver();
        if let Some(waker) = state.stuck.take() {
            waker.wake();
        }
    }

    /// Takes the session off its link, whether or not that still seems alive, and returns how many sequenced frames came
    /// over it: what the other end is to be told over a new link. Nothing more is heard from the old one.
    pub fn detach(&self) -> u64 {
        let mut state = self.shared.lock();
        state.leave_link();
        state.session.received()
    }

    /// Goes on over a new link, whose other end has received so many sequenced frames, in place of any older one.
    ///
    /// # Errors
    /// [`ResumeError`], and then nothing has changed.
    pub fn resume(&self, received: u64) -> Result<Resumed, ResumeError> {
        let mut state = self.shared.lock();
        if state.ended {
            return Err(ResumeError::NotKept);
        }
        state.session.resume(received, Instant::now().into_std())?;
        state.leave_link();
        let (link, received) = (state.link, state.session.received());
        drop(state);
        self.shared.moved.notify_waiters();
        Ok(Resumed { shared: self.shared.clone(), link, received })
    }

    /// How long the session has been without a link, if it is.
    pub fn detached_for(&self) -> Option<Duration> {
        self.shared.lock().detached.map(|since| since.elapsed())
    }

    /// Waits until the session goes on over another link, or ends.
    pub async fn moved(&self) {
        let mut moved = std::pin::pin!(self.shared.moved.notified());
        moved.as_mut().enable();
        if self.detached_for().is_some() && !self.has_ended() {
            moved.await;
        }
    }

    /// Ends the streams that were opened since the session has been without a link, if that was so long ago: they wait no
    /// longer for its return.
    pub fn give_up_new(&self, after: Duration, text: &str) {
        let mut state = self.shared.lock();
        if state.is_detached_for(after) {
            state.session.mux.end_unsent(&Reset::new(ResetReason::LinkLost, text));
            state.dispatch();
        }
    }

    /// Ends the session if it has been without a link for so long.
    pub fn give_up(&self, after: Duration, why: &str) {
        let late = self.shared.lock().is_detached_for(after);
        if late {
            self.shared.end(why);
        }
    }

    /// Ends the session, and its link if it has one, without a word to the other end.
    pub fn end(&self, why: &str) {
        self.shared.end(why);
    }

    /// Bytes held for the session: unread, queued and unacknowledged.
    pub fn held(&self) -> usize {
        self.shared.lock().session.held()
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
    /// The session goes on over a newer link, or was ended here.
    #[error("the session has left this link")]
    Left,
    /// The connection ended without a word.
    #[error("connection lost: {0}")]
    Lost(String),
    /// The other end broke a rule, or fell silent.
    #[error(transparent)]
    Session(#[from] SessionError),
}
