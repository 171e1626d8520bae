//! Moves a link's messages between its WebSocket and its session, until the link or the session ends.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use super::LinkEnd;
use super::pace::Pace;
use super::state::{Shared, State};
use crate::limits::CLOSE_DEADLINE;
use crate::message::{Close, CloseReason};
use crate::session::SessionError;
use crate::websocket::WebSocket;

/// WebSocket messages handled before writing gets its turn.
const READ_BURST: usize = 16;

/// What can be done about the bytes that a socket holds and has not sent yet.
pub struct Unsent<W> {
    /// Has it hold about so many at most (TCP_NOTSENT_LOWAT).
    pub keep: fn(&W, usize),
    /// How many it holds now, where the system tells.
    pub left: fn(&W) -> Option<usize>,
}

/// Moves a link's messages between its WebSocket and its session.
pub struct Driver<W> {
    socket: W,
    shared: Arc<Shared>,
    /// Which of the session's links this is.
    link: u64,
    timer: Pin<Box<Sleep>>,
    /// This end's CLOSE is on its way, and the timer is its deadline; the other end hangs up when it has read it.
    closing: bool,
    /// The rule that the other end broke, while it is being told.
    fault: Option<SessionError>,
    unflushed: bool,
    /// Bytes of the message that the socket is taking.
    sending: usize,
    pace: Pace,
    unsent: Option<Unsent<W>>,
    /// Others that are ready to run have had their turn since there was last nothing to send.
    gathered: bool,
}

impl<W: WebSocket> Driver<W> {
    pub(super) fn new(socket: W, shared: Arc<Shared>, link: u64) -> Self {
        let due = shared.lock().session.poll_timeout();
        let timer = Box::pin(sleep_until(Instant::from_std(due)));
        Self {
            socket,
            shared,
            link,
            timer,
            closing: false,
            fault: None,
            unflushed: false,
            sending: 0,
            pace: Pace::default(),
            unsent: None,
            gathered: false,
        }
    }

    /// Has the socket told how many bytes it should have unsent at most: what it holds is no longer put in order.
    #[must_use]
    pub fn keep_unsent(mut self, unsent: Unsent<W>) -> Self {
        (unsent.keep)(&self.socket, self.pace.unsent());
        self.unsent = Some(unsent);
        self
    }

    /// Runs the link until it ends, and says why it did. Dropping the future ends the link as well. The session ends with
    /// it, unless it can go on over another link ([`LinkHandle::detached_for`] says whether it waits for one).
    ///
    /// [`LinkHandle::detached_for`]: super::LinkHandle::detached_for
    pub async fn run(mut self) -> LinkEnd {
        let end = poll_fn(|cx| self.poll(cx)).await;
        self.end(&end.to_string());
        end
    }

    /// The session, if it still is on this link.
    fn state(&self) -> Result<MutexGuard<'_, State>, LinkEnd> {
        let state = self.shared.lock();
        if state.link == self.link { Ok(state) } else { Err(LinkEnd::Left) }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<LinkEnd> {
        match self.poll_on(cx) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// Goes as far as it can; an error is the end of the link.
    fn poll_on(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        loop {
            drop(self.state()?);
            // Reading comes first: after a pause of the whole process, what waits in the socket is a sign of life.
            let more_to_read = match self.poll_read(cx) {
                Poll::Ready(read) => read.map(|()| true)?,
                Poll::Pending => false,
            };
            self.write(cx)?;
            if !more_to_read {
                return self.look_at_clock(cx);
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
        let mut state = self.state()?;
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
            drop(state);
            self.fault = Some(error);
            return Ok(());
        }
        match state.session.close_heard() {
            Some(close) => Err(LinkEnd::Closed(close.clone())),
            None => Ok(()),
        }
    }

    /// Sends what may be sent, one message at a time, until the socket takes no more.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        loop {
            if self.unflushed {
                if self.pace.is_held()
                    && let Some(unsent) = &self.unsent
                    && (unsent.left)(&self.socket) == Some(0)
                {
                    self.pace.late();
                }
                match Pin::new(&mut self.socket).poll_flush(cx) {
                    Poll::Ready(Ok(())) => self.flushed()?,
                    Poll::Ready(Err(error)) => return Err(self.lost(&error)),
                    Poll::Pending => {
                        self.pace.full(Instant::now().into_std());
                        self.state()?.stuck = Some(cx.waker().clone());
                        return Ok(());
                    }
                }
            }
            let (message, gathers) = {
                let mut state = self.state()?;
                let gathers = !self.gathered && state.session.gathers();
                let message = if gathers { None } else { state.session.poll_transmit(Instant::now().into_std()) };
                state.dispatch();
                if message.is_none() && !gathers {
                    state.driver = Some(cx.waker().clone());
                }
                (message, gathers)
            };
            self.gathered = gathers || (self.gathered && message.is_some());
            if gathers {
                // What else is ready to run may have something to say, too: one message then carries all of it.
                let _comes_back = pin!(yield_now()).poll(cx);
                return Ok(());
            }
            let Some(message) = message else {
                self.pace.dry();
                return Ok(());
            };
            self.sending = message.len();
            if let Err(error) = Pin::new(&mut self.socket).start_send(Message::Binary(message)) {
                return Err(self.lost(&error));
            }
            self.unflushed = true;
        }
    }

    /// The socket has taken the last message.
    fn flushed(&mut self) -> Result<(), LinkEnd> {
        self.unflushed = false;
        if self.pace.took(std::mem::take(&mut self.sending), Instant::now().into_std()) {
            self.state()?.session.set_pace(self.pace.message());
            if let Some(unsent) = &self.unsent {
                (unsent.keep)(&self.socket, self.pace.unsent());
            }
        }
        Ok(())
    }

    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Result<(), LinkEnd> {
        if !self.closing && self.state()?.session.is_closing() {
            self.closing = true;
            self.timer.as_mut().reset(Instant::now() + CLOSE_DEADLINE);
        }
        if self.closing {
            let in_time = self.timer.as_mut().poll(cx).is_pending();
            return if in_time { Ok(()) } else { Err(self.hung_up()) };
        }
        loop {
            let due = Instant::from_std(self.state()?.session.poll_timeout());
            // Setting a timer costs more than looking at the clock: one that is set too early is moved when it fires.
            if due < self.timer.deadline() || self.timer.is_elapsed() {
                self.timer.as_mut().reset(due);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            if Instant::now() < due {
                continue;
            }
            let (handled, suspect) = {
                let mut state = self.state()?;
                (state.session.handle_timeout(Instant::now().into_std()), state.session.pulse().suspect)
            };
            if suspect {
                self.shared.pulse.notify_one();
            }
            handled?;
            self.write(cx)?;
            // The socket may be stuck with an ACK or a ping in it; the next look at the clock must still come.
            if Instant::from_std(self.state()?.session.poll_timeout()) <= Instant::now() {
                self.timer.as_mut().reset(Instant::now() + Duration::from_secs(1));
                if self.timer.as_mut().poll(cx).is_pending() {
                    return Ok(());
                }
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

impl<W> Driver<W> {
    fn end(&self, why: &str) {
        let mut state = self.shared.lock();
        if state.link != self.link {
            return;
        }
        if state.session.is_resumable() {
            state.leave_link();
            return;
        }
        drop(state);
        self.shared.end(why);
    }
}

impl<W> Drop for Driver<W> {
    fn drop(&mut self) {
        self.end("the link was dropped");
    }
}

impl<W> fmt::Debug for Driver<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("closing", &self.closing).finish_non_exhaustive()
    }
}
