//! A request's body on its way to the device: its first piece has been read, it may wait for `100 Continue`, it is timed.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::edge::body::BodyError;
use crate::edge::fault::Fault;
use crate::edge::strict::Refusal;
use crate::edge::{headers, limits};

/// What the one who waits for the answer knows about the body.
#[derive(Debug)]
pub(super) struct Progress {
    moved: Mutex<Instant>,
    fault: Mutex<Option<Fault>>,
    /// The device said `100 Continue`.
    pub(super) proceed: CancellationToken,
}

impl Progress {
    pub(super) fn new() -> Arc<Self> {
        let (moved, fault) = (Mutex::new(Instant::now()), Mutex::new(None));
        Arc::new(Self { moved, fault, proceed: CancellationToken::new() })
    }

    /// When a piece of the body was last taken by the device.
    pub(super) fn last_moved(&self) -> Instant {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the body did not come to its end.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn moved(&self) {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn failed(&self, fault: Fault) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
}

/// The body.
pub(super) struct Upload {
    first: Option<Frame<Bytes>>,
    rest: Option<Incoming>,
    gate: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    progress: Arc<Progress>,
}

impl Upload {
    /// No body.
    pub(super) fn none(progress: &Arc<Progress>) -> Self {
        Self { first: None, rest: None, gate: None, progress: Arc::clone(progress) }
    }

    /// Reads the first piece, so that nothing reaches the device of a request whose body is wrong from the start.
    pub(super) async fn begun(mut body: Incoming, progress: &Arc<Progress>) -> Result<Self, Fault> {
        if body.is_end_stream() {
            return Ok(Self::none(progress));
        }
        let first = match tokio::time::timeout(limits::BODY_SILENCE, body.frame()).await {
            Ok(Some(Ok(frame))) => Some(clean(frame)),
            Ok(Some(Err(error))) => return Err(meaning(&error)),
            Ok(None) => None,
            Err(_) => return Err(Fault::RequestTimeout),
        };
        progress.moved();
        Ok(Self { first, rest: Some(body), gate: None, progress: Arc::clone(progress) })
    }

    /// A body that the client sends only after the device has said so; or after a moment, since many devices know
    /// nothing of that.
    pub(super) fn expected(body: Incoming, progress: &Arc<Progress>) -> Self {
        let proceed = progress.proceed.clone();
        let gate = Box::pin(async move {
            let _ = tokio::time::timeout(limits::CONTINUE, proceed.cancelled()).await;
        });
        Self { first: None, rest: Some(body), gate: Some(gate), progress: Arc::clone(progress) }
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(gate) = &mut this.gate {
            ready!(gate.as_mut().poll(cx));
            this.gate = None;
        }
        this.progress.moved();
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        let Some(rest) = &mut this.rest else { return Poll::Ready(None) };
        match ready!(Pin::new(rest).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(Ok(clean(frame)))),
            Some(Err(error)) => {
                this.progress.failed(meaning(&error));
                Poll::Ready(Some(Err(error.into())))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        let rest = self.rest.as_ref().map(http_body::Body::size_hint).unwrap_or_else(|| SizeHint::with_exact(0));
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower() + first);
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint
    }
}

fn clean(frame: Frame<Bytes>) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            headers::trailers(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}

/// What a failed read of a request's body means.
fn meaning(error: &hyper::Error) -> Fault {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        let refusal = error
            .downcast_ref::<std::io::Error>()
            .and_then(|error| error.get_ref()?.downcast_ref::<Refusal>())
            .or_else(|| error.downcast_ref::<Refusal>());
        match refusal {
            Some(Refusal::Timeout) => return Fault::RequestTimeout,
            Some(Refusal::Bad(what) | Refusal::TooLarge(what)) => return Fault::BadRequest(what),
            Some(Refusal::Version) | None => next = error.source(),
        }
    }
    Fault::BadRequest("its body did not come to its end")
}
