//! Reads from a socket in larger pieces than TLS asks for, as long as there is much to read.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};

/// Bytes read at once: two records of TLS. The library asks for a quarter of one.
const AHEAD: usize = 36 * 1024;

/// A socket that is read ahead of who asks. While little comes, it holds no buffer and nothing is copied.
#[derive(Debug)]
pub struct Ahead<S> {
    io: S,
    buffer: BytesMut,
    /// The last piece was as long as was asked for: there is more.
    more: bool,
    /// Bytes read since there was last nothing to read.
    burst: usize,
}

impl<S> Ahead<S> {
    /// Reads `io` from now on.
    pub fn new(io: S) -> Self {
        Self { io, buffer: BytesMut::new(), more: false, burst: 0 }
    }

    /// The socket.
    pub fn get_ref(&self) -> &S {
        &self.io
    }
}

impl<S: AsyncRead + Unpin> Ahead<S> {
    fn poll_buffer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.buffer.reserve(AHEAD);
        let read = pin!(self.io.read_buf(&mut self.buffer)).poll(cx);
        match &read {
            Poll::Ready(Ok(bytes)) => {
                self.more = *bytes >= AHEAD / 2;
                self.burst += bytes;
            }
            _ => self.dry(),
        }
        read.map_ok(|_| ())
    }

    /// There is nothing to read for now. Who had little to say will soon have nothing to say.
    fn dry(&mut self) {
        if self.burst < AHEAD {
            self.buffer = BytesMut::new();
            self.more = false;
        }
        self.burst = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Ahead<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() && !this.more {
            let before = out.filled().len();
            let read = Pin::new(&mut this.io).poll_read(cx, out);
            this.more = read.is_ready() && out.remaining() == 0;
            this.burst += out.filled().len() - before;
            if read.is_pending() {
                this.dry();
            }
            return read;
        }
        if this.buffer.is_empty() {
            ready!(this.poll_buffer(cx))?;
        }
        let bytes = out.remaining().min(this.buffer.len());
        out.put_slice(this.buffer.get(..bytes).unwrap_or_default());
        this.buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Ahead<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, data)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::*;

    /// Asks for so many bytes, as TLS does.
    async fn ask<S: AsyncRead + Unpin>(ahead: &mut Ahead<S>, bytes: usize) -> Vec<u8> {
        let mut space = vec![0; bytes];
        let mut out = ReadBuf::new(&mut space);
        poll_fn(|cx| Pin::new(&mut *ahead).poll_read(cx, &mut out)).await.unwrap();
        out.filled().to_vec()
    }

    #[tokio::test]
    async fn all_of_it_comes_in_order_to_its_end() {
        let (near, mut far) = duplex(100_000);
        let sent: Vec<u8> = (0..1_000_000_u32).map(|at| (at * 31 % 251) as u8).collect();
        let all = sent.clone();
        let (came, ()) = tokio::join!(
            async {
                let (mut ahead, mut came) = (Ahead::new(near), Vec::new());
                loop {
                    let piece = ask(&mut ahead, 4096 - came.len() % 7).await;
                    if piece.is_empty() {
                        return came;
                    }
                    came.extend(piece);
                }
            },
            async move {
                for piece in all.chunks(33_333) {
                    far.write_all(piece).await.unwrap();
                }
            }
        );
        assert!(came == sent);
    }

    #[tokio::test]
    async fn who_says_little_costs_no_buffer() {
        let (near, mut far) = duplex(100_000);
        let mut ahead = Ahead::new(near);
        far.write_all(&[1; 200]).await.unwrap();
        assert_eq!(ask(&mut ahead, 4096).await.len(), 200);
        assert_eq!(ahead.buffer.capacity(), 0);
        far.write_all(&[1; 60_000]).await.unwrap();
        let mut came = 0;
        while came < 60_000 {
            came += ask(&mut ahead, 4096).await.len();
        }
        assert!(ahead.buffer.capacity() > 0, "much came");
        for _ in 0..2 {
            far.write_all(&[1; 200]).await.unwrap();
            assert_eq!(ask(&mut ahead, 4096).await.len(), 200);
            let mut nothing = [0; 10];
            let mut out = ReadBuf::new(&mut nothing);
            poll_fn(|cx| {
                assert!(Pin::new(&mut ahead).poll_read(cx, &mut out).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        assert_eq!(ahead.buffer.capacity(), 0, "and that was some time ago");
    }
}
