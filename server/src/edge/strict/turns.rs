//! Which requests of a connection have been answered: told by the handler, asked by the guard around the socket.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Shared by the guard of a connection and by what handles its requests.
#[derive(Clone, Debug, Default)]
pub struct Turns(Arc<Mutex<Count>>);

#[derive(Debug, Default)]
struct Count {
    started: u64,
    answered: u64,
    finished: u64,
    switched: bool,
    waker: Option<Waker>,
}

impl Turns {
    /// A request has begun.
    pub fn started(&self) {
        self.change(|count| count.started += 1);
    }

    /// Requests begun so far.
    pub fn counted(&self) -> u64 {
        self.look(|count| count.started)
    }

    /// Whether no request is under way.
    pub fn is_idle(&self) -> bool {
        self.look(|count| count.started == count.finished)
    }

    /// The next request has its answer's head; `switched`: the answer is 101.
    pub fn answered(&self, switched: bool) {
        self.change(|count| {
            count.answered += 1;
            count.switched |= switched;
        });
    }

    /// The next answer has been handed over to its end.
    pub fn finished(&self) {
        self.change(|count| count.finished += 1);
    }

    /// Whether so many requests all have been answered to the end.
    pub fn all_finished(&self, requests: u64) -> bool {
        self.look(|count| count.finished >= requests)
    }

    /// Waits until so many requests have been answered to the end.
    pub fn poll_finished(&self, requests: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.look(|count| {
            if count.finished >= requests {
                return Poll::Ready(());
            }
            count.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    /// Waits until so many requests have their answers' heads; then whether the last answer was 101.
    pub fn poll_switched(&self, requests: u64, cx: &mut Context<'_>) -> Poll<bool> {
        self.look(|count| {
            if count.answered >= requests {
                return Poll::Ready(count.switched);
            }
            count.waker = Some(cx.waker().clone());
            Poll::Pending
        })
    }

    fn change(&self, change: impl FnOnce(&mut Count)) {
        let waker = self.look(|count| {
            change(count);
            count.waker.take()
        });
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn look<T>(&self, look: impl FnOnce(&mut Count) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
