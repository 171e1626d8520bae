//! Compression of one stream: what is written goes out at once as pieces, each packed by itself or left as it is.
//!
//! A piece is two bytes (the length of what follows, less one, with the highest bit set if that is packed) and up to
//! 16 KiB. A packed piece is raw DEFLATE (RFC 1951) of 1 to 16 KiB. No piece needs another: an idle stream holds no memory,
//! a byte that somebody types waits for none, and nobody can be made to unpack more than one piece at a time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use miniz_oxide::deflate::core::{CompressorOxide, TDEFLFlush, compress, create_comp_flags_from_zip_params};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::driver::failed;
use crate::frame::{Reset, ResetReason};

/// Most bytes of a piece, packed or not.
const PIECE_MAX: usize = 16 * 1024;
/// Set in a piece's head if it is packed.
const PACKED: u16 = 0x8000;
/// A piece is not worth trying below this: somebody types.
const SHORT: usize = 64;
/// Pieces that are left alone after some that did not shrink: at first, and at most. Pictures and archives cost one try in
/// sixty-four.
const REST: (u32, u32) = (1, 63);
/// Of zlib's levels: twice as fast as the usual 6, and within some percent of its ratio.
const LEVEL: i32 = 4;

/// A stream whose bytes are packed on the way. Flush it: what is written may wait for the stream below.
#[derive(Debug)]
pub struct Packed<S> {
    inner: S,
    /// Pieces that the stream below has not taken yet.
    out: Vec<u8>,
    written: usize,
    /// Pieces to be left alone, now and after the next that does not shrink.
    rest: u32,
    next_rest: u32,
    /// The head and the body of a piece, as far as they have come.
    piece: Vec<u8>,
    plain: Vec<u8>,
    read: usize,
    passed: (u64, u64),
}

impl<S> Packed<S> {
    /// Packs and unpacks over this stream; its other end must do the same.
    pub fn new(inner: S) -> Self {
        let (out, piece, plain) = (Vec::new(), Vec::new(), Vec::new());
        Self { inner, out, written: 0, rest: 0, next_rest: REST.0, piece, plain, read: 0, passed: (0, 0) }
    }

    /// Bytes that came from, and went to, the stream below.
    pub fn passed(&self) -> (u64, u64) {
        self.passed
    }

    /// Adds a piece to what goes out.
    fn pack(&mut self, data: &[u8]) {
        if self.rest == 0 && data.len() >= SHORT {
            if let Some(packed) = deflate(data) {
                self.next_rest = REST.0;
                return self.put(PACKED, &packed);
            }
            self.rest = self.next_rest;
            self.next_rest = (self.next_rest * 2 + 1).min(REST.1);
        } else {
            self.rest = self.rest.saturating_sub(u32::from(data.len() >= SHORT));
        }
        self.put(0, data);
    }

    fn put(&mut self, kind: u16, body: &[u8]) {
        // At most PIECE_MAX, which is below the highest bit.
        let length = u16::try_from(body.len() - 1).unwrap_or(u16::MAX >> 1);
        self.out.extend_from_slice(&(kind | length).to_be_bytes());
        self.out.extend_from_slice(body);
    }

    /// How long the piece is of which this is the beginning, with its head; two as long as the head is not there.
    fn length(&self) -> usize {
        match self.piece.first_chunk() {
            Some(head) => 3 + usize::from(u16::from_be_bytes(*head) & !PACKED),
            None => 2,
        }
    }

    /// Takes the piece apart that has come whole.
    fn unpack(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        let Some((head, body)) = piece.split_first_chunk() else { return Err(unreadable()) };
        self.read = 0;
        if u16::from_be_bytes(*head) & PACKED == 0 {
            self.plain = body.to_vec();
            return Ok(());
        }
        self.plain = inflate(body).ok_or_else(unreadable)?;
        Ok(())
    }
}

/// Packs a piece; none if it does not shrink by a sixteenth.
fn deflate(data: &[u8]) -> Option<Vec<u8>> {
    let mut packed = vec![0; data.len() - data.len() / 16];
    let flags = create_comp_flags_from_zip_params(LEVEL, 0, 0);
    let mut compressor = Box::new(CompressorOxide::new(flags));
    let (status, read, written) = compress(&mut compressor, data, &mut packed, TDEFLFlush::Finish);
    packed.truncate(written);
    (status == miniz_oxide::deflate::core::TDEFLStatus::Done && read == data.len()).then_some(packed)
}

/// Unpacks a piece of a stranger's; none if it is not one, or not one that we would have made.
fn inflate(packed: &[u8]) -> Option<Vec<u8>> {
    let mut plain = vec![0; PIECE_MAX];
    let mut state = Box::<DecompressorOxide>::default();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, read, written) = decompress(&mut state, packed, &mut plain, 0, flags);
    plain.truncate(written);
    (status == TINFLStatus::Done && read == packed.len() && written > 0).then_some(plain)
}

fn unreadable() -> io::Error {
    failed(Reset::new(ResetReason::Internal, "what came packed cannot be unpacked"))
}

impl<S: AsyncRead + Unpin> Packed<S> {
    /// Reads on until the piece is whole; true if the stream below has ended before it began.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let (have, want) = (self.piece.len(), self.length());
            if want > PIECE_MAX + 2 {
                return Poll::Ready(Err(unreadable()));
            }
            if have >= want {
                return Poll::Ready(Ok(false));
            }
            self.piece.resize(want, 0);
            let mut space = ReadBuf::new(self.piece.get_mut(have..).unwrap_or_default());
            let polled = Pin::new(&mut self.inner).poll_read(cx, &mut space);
            let read = space.filled().len();
            self.piece.truncate(have + read);
            match polled {
                Poll::Pending => {
                    if have == 0 {
                        // A silent stream holds no memory.
                        self.piece = Vec::new();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) if read == 0 && have == 0 => return Poll::Ready(Ok(true)),
                Poll::Ready(Ok(())) if read == 0 => return Poll::Ready(Err(unreadable())),
                Poll::Ready(Ok(())) => self.passed.0 += read as u64,
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Packed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while this.read == this.plain.len() {
            if ready!(this.poll_piece(cx))? {
                return Poll::Ready(Ok(()));
            }
            this.unpack()?;
        }
        let rest = this.plain.get(this.read..).unwrap_or_default();
        let some = rest.get(..buf.remaining()).unwrap_or(rest);
        buf.put_slice(some);
        this.read += some.len();
        if this.read == this.plain.len() {
            (this.plain, this.read) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Packed<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            let taken = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.passed.1 += taken as u64;
        }
        (self.out, self.written) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Packed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        let some = data.get(..PIECE_MAX).unwrap_or(data);
        if !some.is_empty() {
            this.pack(some);
            // What the stream below does not take now goes with the next call.
            if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
                return Poll::Ready(Err(error));
            }
        }
        Poll::Ready(Ok(some.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}
