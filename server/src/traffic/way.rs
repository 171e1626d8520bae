//! How a stream's bytes pass over the link: as they are, or packed.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use linkspan_protocol::driver::Stream;
use linkspan_protocol::pack::Packed;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[derive(Debug)]
pub(super) enum Way {
    Plain(Stream),
    Packed(Box<Packed<Stream>>),
}

impl Way {
    pub(super) fn new(stream: Stream, packed: bool) -> Self {
        if packed { Self::Packed(Box::new(Packed::new(stream))) } else { Self::Plain(stream) }
    }

    /// What a read or a write of so many bytes moved over the link, as all that was moved so far, if that is another thing.
    pub(super) fn passed(&self) -> Option<(u64, u64)> {
        match self {
            Self::Plain(_) => None,
            Self::Packed(packed) => Some(packed.passed()),
        }
    }
}

impl AsyncRead for Way {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Packed(packed) => Pin::new(packed).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Way {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Packed(packed) => Pin::new(packed).poll_write(cx, data),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Packed(packed) => Pin::new(packed).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Packed(packed) => Pin::new(packed).poll_shutdown(cx),
        }
    }
}
