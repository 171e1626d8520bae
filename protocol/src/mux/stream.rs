//! One stream at one end: two directions, each with its own credit and end.

use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::buffer::Buffer;
use super::pool::Pool;
use super::queue::Queue;
use super::turns::Class;
use super::{Settings, Violation};
use crate::frame::{Reset, StreamId};
use crate::limits::{
    QUIET_BYTES, QUIET_PERIOD, SEND_QUEUE_MAX, SEND_QUEUE_MIN, WINDOW_FIRST_MAX, WINDOW_GROWN_MAX, WINDOW_IDLE,
};

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) send: Sending,
    pub(super) receive: Receiving,
    /// Whether the acceptor has reached the target.
    pub(super) opened: bool,
    /// Set once the stream ended before its time, by either end.
    pub(super) reset: Option<Reset>,
    /// What it ends with at both ends once all that was written is sent, instead of a FIN.
    pub(super) last_word: Option<Reset>,
    /// Whether the owner is gone.
    pub(super) released: bool,
}

impl Stream {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            send: Sending::new(settings.send_window),
            receive: Receiving::new(settings.receive_window),
            opened: false,
            reset: None,
            last_word: None,
            released: false,
        }
    }

    /// One that sends only when no other has anything to send, if so.
    pub(super) fn behind_all(mut self, background: bool) -> Self {
        self.send.background = background;
        self
    }

    /// Whether both directions have ended in order.
    pub(super) fn is_over(&self) -> bool {
        self.send.half == Half::Finished && self.receive.ended
    }

    /// The reset that no reader hears of, since the other end's direction had ended before.
    pub(super) fn broken(&self) -> Option<&Reset> {
        self.reset.as_ref().filter(|_| self.receive.ended)
    }

    /// Ends both directions; what came before can still be read.
    pub(super) fn end(&mut self, reset: Reset) {
        self.last_word = None;
        self.reset = Some(reset);
        self.send.half = Half::Finished;
        self.send.queue = Queue::default();
    }
}

/// How far the sending direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Open,
    /// FIN goes out behind what is queued.
    Finishing,
    Finished,
}

#[derive(Debug)]
pub(super) struct Sending {
    pub(super) half: Half,
    pub(super) credit: u64,
    pub(super) class: Option<Class>,
    /// It goes behind all others.
    pub(super) background: bool,
    queue: Queue,
    writer_waits: bool,
    period: Option<Instant>,
    sent_in_period: usize,
}

impl Sending {
    fn new(credit: u32) -> Self {
        Self {
            half: Half::Open,
            credit: u64::from(credit),
            class: None,
            background: false,
            queue: Queue::default(),
            writer_waits: false,
            period: None,
            sent_in_period: 0,
        }
    }

    /// Queues what there is room for, with `free` bytes left for the queues of all streams; `None` after
    /// [`Sending::finish`].
    pub(super) fn take(&mut self, data: &[u8], free: usize, now: Instant) -> Option<usize> {
        if self.half != Half::Open {
            return None;
        }
        if self.queue.is_empty() {
            self.begin_period(now);
        }
        let room = queue_limit(free).saturating_sub(self.queue.len());
        let (taken, rest) = data.split_at(room.min(data.len()));
        self.queue.push(taken);
        self.writer_waits = !rest.is_empty();
        Some(taken.len())
    }

    pub(super) fn finish(&mut self) {
        if self.half == Half::Open {
            self.half = Half::Finishing;
        }
    }

    /// Bytes that wait to be sent.
    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether it may send now: data with credit for it, or its end.
    pub(super) fn is_ready(&self) -> bool {
        if self.queue.is_empty() { self.half == Half::Finishing } else { self.credit > 0 }
    }

    /// Writes up to `max` bytes that there is credit for, behind what `head` writes for so many; returns how many. An idle
    /// stream holds no memory: only one that carries bulk keeps the room of its queue for what comes next, up to `keep`.
    pub(super) fn give(
        &mut self,
        max: usize,
        keep: usize,
        out: &mut BytesMut,
        head: impl FnOnce(&mut BytesMut, usize),
    ) -> usize {
        let credit = usize::try_from(self.credit).unwrap_or(usize::MAX);
        let bytes = self.queue.len().min(max).min(credit);
        if bytes > 0 {
            head(out, bytes);
            self.queue.give(bytes, out);
            self.credit -= bytes as u64;
            self.sent_in_period += bytes;
        }
        if self.queue.is_empty() && (self.class() == Class::Quiet || self.half != Half::Open || self.room() > keep) {
            self.queue = Queue::default();
        }
        bytes
    }

    /// Bytes of room that an empty queue keeps.
    pub(super) fn room(&self) -> usize {
        if self.queue.is_empty() { self.queue.room() } else { 0 }
    }

    /// Gives that back.
    pub(super) fn cool(&mut self) {
        if self.queue.is_empty() {
            self.queue = Queue::default();
        }
    }

    /// True once when a writer that waits can go on.
    pub(super) fn has_room_for_writer(&mut self, free: usize) -> bool {
        self.queue.len() <= queue_limit(free) / 2 && std::mem::take(&mut self.writer_waits)
    }

    /// Quiet if all it has to say in its period is at most [`QUIET_BYTES`].
    pub(super) fn class(&self) -> Class {
        match self.sent_in_period + self.queue.len() > QUIET_BYTES {
            _ if self.background => Class::Background,
            true => Class::Bulk,
            false => Class::Quiet,
        }
    }

    /// Called only when nothing waits: a stream that never catches up stays bulk, however slow the link is.
    fn begin_period(&mut self, now: Instant) {
        if self.period.is_none_or(|begun| now.saturating_duration_since(begun) >= QUIET_PERIOD) {
            self.period = Some(now);
            self.sent_in_period = 0;
        }
    }
}

/// What one stream may queue when `free` bytes are left for all: the fuller it gets the less, so that those who stall
/// leave room for the others, and always a little, so that whoever can send does.
fn queue_limit(free: usize) -> usize {
    free.clamp(SEND_QUEUE_MIN, SEND_QUEUE_MAX)
}

#[derive(Debug)]
pub(super) struct Receiving {
    /// FIN has come.
    pub(super) ended: bool,
    buffer: Buffer,
    discarding: bool,
    /// What is held for this stream at most: `credit`, what is unread, and `consumed` together.
    window: u64,
    first_window: u64,
    /// What the other end may still send.
    credit: u64,
    /// Read but not yet given back as credit.
    consumed: u64,
    /// When credit was given last.
    given: Option<Instant>,
}

impl Receiving {
    fn new(window: u32) -> Self {
        let window = u64::from(window);
        Self {
            ended: false,
            buffer: Buffer::default(),
            discarding: false,
            window,
            first_window: window,
            credit: window,
            consumed: 0,
            given: None,
        }
    }

    pub(super) fn push(&mut self, id: StreamId, data: Bytes) -> Result<(), Violation> {
        if self.ended {
            return Err(Violation::AfterEnd(id));
        }
        self.credit = self.credit.checked_sub(data.len() as u64).ok_or(Violation::Credit(id))?;
        if self.discarding {
            self.discard();
        } else {
            self.buffer.push(data);
        }
        Ok(())
    }

    /// Nobody will read: what came and what comes is dropped, and counts as read so that neither end waits for ever.
    pub(super) fn discard(&mut self) {
        self.discarding = true;
        self.buffer = Buffer::default();
        self.consumed = self.window - self.credit;
    }

    /// Bytes that wait for their reader.
    pub(super) fn unread(&self) -> usize {
        usize::try_from(self.window - self.credit - self.consumed).unwrap_or(usize::MAX)
    }

    pub(super) fn read(&mut self, max: usize) -> Option<Bytes> {
        let data = self.buffer.take(max)?;
        self.consumed += data.len() as u64;
        Some(data)
    }

    /// Credit to give back: a good part of a window at a time, so that few WINDOW frames are needed and the sender never
    /// stops. The window follows what the reader takes in a round trip, within the pool.
    pub(super) fn credit_due(&mut self, pool: &mut Pool, now: Instant) -> Option<u64> {
        let step = if self.window > u64::from(WINDOW_FIRST_MAX) { self.window / 4 } else { self.window / 2 };
        if self.ended || self.consumed < step {
            return None;
        }
        let mut more = std::mem::take(&mut self.consumed);
        let since = self.given.replace(now).map(|given| now.saturating_duration_since(given));
        match since {
            Some(idle) if idle >= WINDOW_IDLE => {
                let less = more.min((self.window - self.first_window).div_ceil(2));
                more -= less;
                self.window -= less;
                pool.give_back(less);
            }
            Some(took) if !self.discarding => {
                let wanted = pool.wanted(more, took).min(2 * self.window).min(WINDOW_GROWN_MAX);
                let extra = pool.take(wanted.saturating_sub(self.window));
                self.window += extra;
                more += extra;
            }
            _ => {}
        }
        self.credit += more;
        (more > 0).then_some(more)
    }

    /// What this stream has beyond the credit it began with.
    pub(super) fn grown(&self) -> u64 {
        self.window - self.first_window
    }
}
