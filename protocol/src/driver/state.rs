//! What a session's handles and its driver share, behind one plain mutex.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::frame::{Reset, StreamId, Target};
use crate::mux::Event;
use crate::session::Session;

pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) accept: Notify,
    pub(super) control: Notify,
    pub(super) pulse: Notify,
    /// The session goes on over another link, or has ended.
    pub(super) moved: Notify,
}

impl Shared {
    /// No code panics while it holds the lock; if it did, the session is as good as before.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reset(&self, id: StreamId, reset: Reset) {
        let mut state = self.lock();
        state.session.mux.reset(id, reset);
        state.dispatch();
        state.wake_driver();
    }

    /// Ends the session, unless it has ended: every stream with it.
    pub(super) fn end(&self, why: &str) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.ended, true) {
            return;
        }
        state.session.end(why);
        state.dispatch();
        state.leave_link();
        drop(state);
        self.accept.notify_one();
        self.control.notify_one();
        self.moved.notify_waiters();
    }
}

#[derive(Default)]
pub(super) struct StreamWakers {
    pub(super) read: Option<Waker>,
    pub(super) write: Option<Waker>,
    /// Whoever waits for a reset that no reader hears of any more.
    pub(super) broken: Option<Waker>,
}

pub(super) struct State {
    pub(super) session: Session,
    pub(super) wakers: HashMap<StreamId, StreamWakers>,
    /// The driver, while it has nothing to send.
    pub(super) driver: Option<Waker>,
    /// The driver, while the socket takes nothing: only a close, or the loss of its session, is worth waking it for.
    pub(super) stuck: Option<Waker>,
    pub(super) incoming: VecDeque<(StreamId, Target)>,
    /// Which link the session is on, or is about to be on: a driver of an earlier one touches nothing any more.
    pub(super) link: u64,
    /// Since when there is none.
    pub(super) detached: Option<Instant>,
    /// When the last one began.
    pub(super) attached: Instant,
    pub(super) ended: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl State {
    pub(super) fn new(session: Session) -> Self {
        Self {
            session,
            wakers: HashMap::new(),
            driver: None,
            stuck: None,
            incoming: VecDeque::new(),
            link: 0,
            detached: None,
            attached: Instant::now(),
            ended: false,
        }
    }

    /// Takes the session off its link, whether or not that still seems alive.
    pub(super) fn leave_link(&mut self) {
        self.link += 1;
        self.session.detach();
        self.detached.get_or_insert_with(Instant::now);
        for waker in [self.driver.take(), self.stuck.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    pub(super) fn is_detached_for(&self, time: Duration) -> bool {
        self.detached.is_some_and(|since| since.elapsed() >= time)
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    /// The next stream for [`LinkHandle::accept`], without those that were given up already.
    pub(super) fn next_incoming(&mut self) -> Option<(StreamId, Target)> {
        while let Some((id, target)) = self.incoming.pop_front() {
            if self.session.mux.is_opened(id).is_ok() {
                return Some((id, target));
            }
            self.session.mux.release(id, Instant::now().into_std());
        }
        None
    }

    /// Wakes whom the session's events concern; true if a stream came in.
    pub(super) fn dispatch(&mut self) -> bool {
        let mut came = false;
        while let Some(event) = self.session.mux.poll_event() {
            let waker = match event {
                Event::Incoming(id, target) => {
                    self.incoming.push_back((id, target));
                    came = true;
                    None
                }
                Event::Readable(id) => {
                    let wakers = self.wakers.get_mut(&id);
                    if let Some(wakers) = wakers
                        && wakers.broken.is_some()
                        && self.session.mux.broken(id).is_some()
                        && let Some(waker) = wakers.broken.take()
                    {
                        waker.wake();
                    }
                    self.wakers.get_mut(&id).and_then(|wakers| wakers.read.take())
                }
                Event::Writable(id) => self.wakers.get_mut(&id).and_then(|wakers| wakers.write.take()),
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        came
    }
}
