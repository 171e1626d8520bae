//! The socket to a device as the HTTP library sees it: counts, remembers why it failed, and reads on after a failed write.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use linkspan_protocol::driver::Line;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::edge::fault::Fault;

/// A stream to a device, plain or inside TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// What has happened on a connection to a device.
#[derive(Debug)]
pub(super) struct Traffic {
    line: Line,
    read: AtomicU64,
    fault: Mutex<Option<Fault>>,
}

impl Traffic {
    /// Bytes that came from the device.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Since when the link to the gateway is there; `None` while it is away.
    pub(super) fn line_up_since(&self) -> Option<Instant> {
        self.line.up_since()
    }

    /// The first failure of the stream.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn failed(&self, fault: Fault) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }
}

/// The socket.
pub(super) struct DeviceIo {
    wire: Box<dyn Wire>,
    secure: bool,
    traffic: Arc<Traffic>,
    meaning: fn(&io::Error) -> Fault,
    deaf: bool,
}

impl DeviceIo {
    /// `secure`: the wire is TLS. `meaning` says what an error of it means; `line` is the link below.
    pub(super) fn new(
        wire: Box<dyn Wire>,
        secure: bool,
        meaning: fn(&io::Error) -> Fault,
        line: Line,
    ) -> (Self, Arc<Traffic>) {
        let traffic = Arc::new(Traffic { line, read: AtomicU64::new(0), fault: Mutex::default() });
        (Self { wire, secure, traffic: Arc::clone(&traffic), meaning, deaf: false }, traffic)
    }

    /// A device that stops taking a request has often answered it (413, 401) or is about to: the answer is read, and
    /// what it will not take waits until reading has come to its end too.
    fn written<T>(&mut self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.traffic.failed((self.meaning)(error));
            self.deaf = true;
            return Poll::Pending;
        }
        polled
    }
}

impl AsyncRead for DeviceIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        match Pin::new(&mut this.wire).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.traffic.read.fetch_add((buf.filled().len() - before) as u64, Ordering::Relaxed);
                Poll::Ready(Ok(()))
            }
            // Old devices end TLS without saying so; a body with a length still shows if something is missing.
            Poll::Ready(Err(error)) if this.secure && error.kind() == io::ErrorKind::UnexpectedEof => {
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => {
                this.traffic.failed((this.meaning)(&error));
                Poll::Ready(Err(error))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncWrite for DeviceIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.wire).poll_write(cx, data);
        this.written(polled)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Pending;
        }
        let polled = Pin::new(&mut this.wire).poll_flush(cx);
        this.written(polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}
