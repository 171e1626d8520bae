//! A device's answer on its way to the browser; at its end the connection waits for the next request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;

use super::connection::Connection;
use super::pool::{Key, Pool};
use crate::edge::body::BodyError;
use crate::edge::headers;

/// The body of a device's answer.
pub(super) struct Download {
    body: Incoming,
    /// Gone once the connection was given back or given up.
    lease: Option<(Key, Connection)>,
    pool: Arc<Pool>,
    ended: bool,
    broken: Option<BodyError>,
}

impl Download {
    pub(super) fn new(body: Incoming, key: Key, connection: Connection, pool: Arc<Pool>) -> Self {
        let ended = body.is_end_stream();
        Self { body, lease: Some((key, connection)), pool, ended, broken: None }
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut body = Pin::new(&mut this.body);
        let polled = match &mut this.lease {
            Some((_, connection)) => connection.poll_with(cx, |cx| body.as_mut().poll_frame(cx)),
            None => body.poll_frame(cx),
        };
        match ready!(polled) {
            Some(Ok(frame)) => {
                this.ended = this.body.is_end_stream();
                Poll::Ready(Some(Ok(clean(frame))))
            }
            Some(Err(error)) => {
                if let Some((key, _)) = this.lease.take() {
                    tracing::info!(device = %key.device, service = %key.service, %error, "a device broke off its answer");
                }
                // The HTTP library forgets what it has not sent yet when a body fails: that goes out first.
                this.broken = Some(error.into());
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                this.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // An answer that was not read to its end leaves the connection in the middle of it: it is closed.
        if self.ended
            && let Some((key, connection)) = self.lease.take()
        {
            self.pool.give_back(key, connection);
        }
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
