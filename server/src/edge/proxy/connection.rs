//! A connection to a device, and who keeps it going: whoever waits for its answer, or a task of its own.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use tokio_util::task::AbortOnDropHandle;

use super::device_io::Traffic;
use super::upload::Upload;
use crate::edge::listener::House;

/// A connection to a device; dropping it closes it.
pub(super) struct Connection {
    sender: SendRequest<Upload>,
    work: Work,
    /// What has happened on it.
    pub(super) traffic: Arc<Traffic>,
}

/// The library's side of a connection: writes requests, reads answers.
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Who runs the library's side.
enum Work {
    /// Whoever polls the connection: a request and its answer then need no other task to be woken.
    Here(Running),
    /// A task.
    Apart { _task: AbortOnDropHandle<()> },
    /// Nobody: the connection has ended.
    Over,
}

impl Connection {
    /// A connection that nobody has used yet. `running` is the library's side of it.
    pub(super) fn new(
        sender: SendRequest<Upload>,
        traffic: Arc<Traffic>,
        running: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { sender, work: Work::Here(Box::pin(running)), traffic }
    }

    /// Sends a request; give the future that comes back to [`wait`](Self::wait). A request with a body gets a task: the
    /// rest of it must go on while the browser does not take the answer that has already begun.
    pub(super) fn send(
        &mut self,
        request: Request<Upload>,
        house: &House,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        if !request.body().is_end_stream() {
            self.work.move_to_task(house);
        }
        self.sender.send_request(request)
    }

    /// Waits for something that this connection brings.
    pub(super) async fn wait<F: Future + Unpin>(&mut self, mut part: F) -> F::Output {
        poll_fn(|cx| self.poll_with(cx, |cx| Pin::new(&mut part).poll(cx))).await
    }

    /// Polls something that this connection brings.
    pub(super) fn poll_with<T>(
        &mut self,
        cx: &mut Context<'_>,
        part: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.work.poll_with(cx, part)
    }

    /// Waits until the next request may be sent; false if the connection has ended.
    pub(super) async fn ready(&mut self) -> bool {
        let Self { sender, work, .. } = self;
        poll_fn(|cx| work.poll_with(cx, |cx| sender.poll_ready(cx))).await.is_ok()
    }

    /// Whether the next request may be sent now.
    pub(super) fn is_ready(&mut self) -> bool {
        self.work.look();
        self.sender.is_ready()
    }

    /// Whether the connection has ended.
    pub(super) fn is_closed(&mut self) -> bool {
        self.work.look();
        self.sender.is_closed()
    }
}

impl Work {
    fn poll_with<T>(&mut self, cx: &mut Context<'_>, mut part: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        // What `part` waits for can only happen while `running` is polled, right here. So a waker is handed over only
        // once there is nothing left but to wait for the socket: a task that wakes itself costs a wake-up of a thread.
        let silent = &mut Context::from_waker(Waker::noop());
        for waker in [Waker::noop(), cx.waker()] {
            let Self::Here(running) = self else { return part(cx) };
            if running.as_mut().poll(&mut Context::from_waker(waker)).is_ready() {
                *self = Self::Over;
            }
            if let Poll::Ready(done) = part(silent) {
                return Poll::Ready(done);
            }
        }
        Poll::Pending
    }

    fn move_to_task(&mut self, house: &House) {
        *self = match std::mem::replace(self, Self::Over) {
            Self::Here(running) => Self::Apart { _task: house.spawn_owned(running) },
            other => other,
        };
    }

    /// Takes note of what has come while nobody polled.
    fn look(&mut self) {
        let _ = self.poll_with(&mut Context::from_waker(Waker::noop()), |_| Poll::Ready(()));
    }
}
