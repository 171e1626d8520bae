//! The wrapper around each stream to a device: counts both ways, obeys a cut, and tells the end once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use linkspan_protocol::driver::{Line, failed, reset_of};
use linkspan_protocol::frame::Reset;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Ending, Live, StreamEnd, Traffic, Way};

/// A stream to a device. What passes as it is costs two plain additions: no lock and no memory.
#[derive(Debug)]
pub struct Metered {
    stream: Way,
    live: Arc<Live>,
    number: u64,
    traffic: Traffic,
    came_to_end: bool,
    finished: bool,
    failure: Option<Reset>,
}

impl Metered {
    /// The link below it.
    pub fn line(&self) -> Line {
        self.live.line()
    }

    /// Resolves when the stream is cut or reset after the device had said all it had to say.
    pub fn broken(&self) -> impl Future<Output = io::Error> + Send + 'static {
        let live = self.live.clone();
        async move { failed(live.broken().await) }
    }

    pub(super) fn new(stream: Way, live: Arc<Live>, number: u64, traffic: Traffic) -> Self {
        Self { stream, live, number, traffic, came_to_end: false, finished: false, failure: None }
    }

    /// After a cut nothing passes any more, also not what had arrived before it.
    fn check(&self) -> io::Result<()> {
        self.live.was_cut().map_or(Ok(()), |why| Err(failed(why.clone())))
    }

    /// Counts what passed over the link: of what is packed, the pieces.
    fn count(&self, up: usize, down: usize) {
        match self.stream.passed() {
            None => {
                self.live.count_up(up);
                self.live.count_down(down);
            }
            Some((up, down)) => self.live.set_passed(up, down),
        }
    }

    fn note(&mut self, error: &io::Error) {
        if self.failure.is_none() {
            self.failure = reset_of(error).cloned();
        }
    }

    pub(super) fn ending(&self) -> Ending {
        match (self.live.was_cut(), &self.failure) {
            (Some(why), _) => Ending::Cut(why.clone()),
            (None, Some(reset)) => Ending::Reset(reset.clone()),
            (None, None) if self.came_to_end && self.finished => Ending::Done,
            (None, None) => Ending::Left,
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check()?;
        let (before, had_room) = (buf.filled().len(), buf.remaining() > 0);
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) => {
                let read = buf.filled().len() - before;
                this.count(read, 0);
                this.came_to_end |= read == 0 && had_room;
            }
            Poll::Ready(Err(error)) => this.note(error),
            Poll::Pending => {}
        }
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check()?;
        let polled = Pin::new(&mut this.stream).poll_write(cx, data);
        match &polled {
            Poll::Ready(Ok(written)) => this.count(0, *written),
            Poll::Ready(Err(error)) => this.note(error),
            Poll::Pending => {}
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(cx);
        this.count(0, 0);
        polled
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.finished = true;
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.count(0, 0);
        polled
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        let ending = self.ending();
        let live = &self.live;
        let (up, down, lasted) = (live.up(), live.down(), live.lasted());
        let end = StreamEnd { passage: &live.passage, up, down, began: live.began, lasted, ending };
        self.traffic.ended(self.number, live, &end);
    }
}
