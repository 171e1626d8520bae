//! The one copy loop: both ways at once, half-close passed on, idle end, counted, and no buffer while nothing moves.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep};

/// Bytes read at once; lives on the stack of a poll, so that a waiting pipe holds none.
const CHUNK: usize = 16 * 1024;

/// Chunks moved in one poll before others get their turn on the thread.
const BURST: usize = 16;

/// Time without progress for what a side still has to say that takes no more.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// How a pipe ended, and what went through it.
#[derive(Debug)]
pub struct PipeEnd {
    /// Bytes that went from the first to the second.
    pub a_to_b: u64,
    /// Bytes that went from the second to the first.
    pub b_to_a: u64,
    /// Why.
    pub reason: PipeReason,
}

/// Why a pipe ended.
#[derive(Debug)]
pub enum PipeReason {
    /// Both ends said that they are done.
    Done,
    /// Nothing moved for as long as was allowed.
    Idle,
    /// The first failed.
    A(io::Error),
    /// The second failed.
    B(io::Error),
}

/// Copies both ways between `a` and `b` until both directions have ended, one side fails, or nothing has moved for
/// `idle`. The end of one direction is passed on as a shutdown and leaves the other direction open. A side that takes no
/// more may still have something to say (HTTP: 413 in the middle of an upload): that is copied to its end first.
pub async fn pipe<A, B>(mut a: A, mut b: B, mut idle: Option<Duration>) -> PipeEnd
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let mut up = Direction::default();
    let mut down = Direction::default();
    let mut idle_end = pin!(idle.map(sleep));
    let mut moved = Instant::now();
    let mut fault = None;
    let reason = poll_fn(|cx| {
        let before = (up.bytes, down.bytes, up.stage, down.stage);
        let up_end = up.poll(cx, &mut a, &mut b);
        let down_end = down.poll(cx, &mut b, &mut a);
        down.cut |= is_cut(&up_end);
        up.cut |= is_cut(&down_end);
        let up_end = up_end.map_err(|fault| fault.reason(PipeReason::A, PipeReason::B));
        let down_end = down_end.map_err(|fault| fault.reason(PipeReason::B, PipeReason::A));
        if before != (up.bytes, down.bytes, up.stage, down.stage) {
            moved = Instant::now();
        }
        let mut pending = false;
        for end in [up_end, down_end] {
            match end {
                Poll::Pending => pending = true,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(reason)) if fault.is_none() => {
                    fault = Some(reason);
                    let rest = idle.map_or(LAST_WORDS, |idle| idle.min(LAST_WORDS));
                    idle = Some(rest);
                    idle_end.set(Some(sleep(rest)));
                }
                Poll::Ready(Err(_)) => {}
            }
        }
        if !pending || up.unread || down.unread {
            return Poll::Ready(fault.take().unwrap_or(PipeReason::Done));
        }
        if let (Some(mut timer), Some(idle)) = (idle_end.as_mut().as_pin_mut(), idle) {
            while timer.as_mut().poll(cx).is_ready() {
                if moved.elapsed() >= idle {
                    return Poll::Ready(fault.take().unwrap_or(PipeReason::Idle));
                }
                timer.as_mut().reset(moved + idle);
            }
        }
        Poll::Pending
    })
    .await;
    PipeEnd { a_to_b: up.bytes, b_to_a: down.bytes, reason }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Copying,
    Ending,
    Done,
}

enum Fault {
    Reading(io::Error),
    Writing(io::Error),
}

impl Fault {
    fn reason(self, reading: fn(io::Error) -> PipeReason, writing: fn(io::Error) -> PipeReason) -> PipeReason {
        match self {
            Self::Reading(error) => reading(error),
            Self::Writing(error) => writing(error),
        }
    }
}

#[derive(Default)]
struct Direction {
    /// What was read and not yet taken; empty, without memory, as long as the writer keeps up.
    rest: Vec<u8>,
    written: usize,
    bytes: u64,
    unflushed: bool,
    stage: Stage,
    /// Whether the source failed: then the other direction has nobody left either.
    unread: bool,
    /// Whether the source was reset, as a write to it was told. Linux tells a reset to one call alone and an end to every
    /// reader after it: what was cut in the middle must not look whole because the writer heard of it first.
    cut: bool,
}

/// Whether a direction ended because its sink was reset (EPIPE is another thing: there the end came in order).
fn is_cut(end: &Poll<Result<(), Fault>>) -> bool {
    matches!(end, Poll::Ready(Err(Fault::Writing(error))) if error.kind() == io::ErrorKind::ConnectionReset)
}

impl Direction {
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let end = self.poll_on(cx, from, to);
        if let Poll::Ready(Err(fault)) = &end {
            self.stage = Stage::Done;
            self.rest = Vec::new();
            self.unread = matches!(fault, Fault::Reading(_));
        }
        end
    }

    fn poll_on<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..BURST {
            if !self.rest.is_empty() {
                std::task::ready!(self.poll_rest(cx, to)).map_err(Fault::Writing)?;
            }
            match self.stage {
                Stage::Done => return Poll::Ready(Ok(())),
                Stage::Ending => {
                    std::task::ready!(Pin::new(&mut *to).poll_shutdown(cx)).map_err(Fault::Writing)?;
                    self.stage = Stage::Done;
                    continue;
                }
                Stage::Copying => {}
            }
            if self.poll_chunk(cx, from, to)?.is_pending() {
                // The source is dry: what was written goes out now.
                if self.unflushed {
                    std::task::ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(Fault::Writing)?;
                    self.unflushed = false;
                }
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Reads once and writes as much of it as is taken at once.
    fn poll_chunk<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Result<Poll<()>, Fault>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut space = [MaybeUninit::<u8>::uninit(); CHUNK];
        let mut chunk = ReadBuf::uninit(&mut space);
        match Pin::new(from).poll_read(cx, &mut chunk) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(read) => read.map_err(Fault::Reading)?,
        }
        let mut data = chunk.filled();
        if data.is_empty() {
            if self.cut {
                return Err(Fault::Reading(io::ErrorKind::ConnectionReset.into()));
            }
            self.stage = Stage::Ending;
            return Ok(Poll::Ready(()));
        }
        while !data.is_empty() {
            match Pin::new(&mut *to).poll_write(cx, data) {
                Poll::Ready(Ok(0)) => return Err(Fault::Writing(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => {
                    data = data.get(taken..).unwrap_or_default();
                    self.bytes += taken as u64;
                    self.unflushed = true;
                }
                Poll::Ready(Err(error)) => return Err(Fault::Writing(error)),
                Poll::Pending => {
                    self.rest = data.to_vec();
                    self.written = 0;
                    break;
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn poll_rest<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while let Some(data) = self.rest.get(self.written..).filter(|data| !data.is_empty()) {
            let taken = std::task::ready!(Pin::new(&mut *to).poll_write(cx, data))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += taken;
            self.bytes += taken as u64;
            self.unflushed = true;
        }
        self.rest = Vec::new();
        Poll::Ready(Ok(()))
    }
}
