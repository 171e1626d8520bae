//! What the mux and its owner say to each other: settings, events, and what can go wrong.

use bytes::Bytes;

use crate::frame::{StreamId, Target};
use crate::limits::{MEMORY, MEMORY_MIN, STREAMS_MAX, WINDOW_FIRST_MAX, WINDOW_MIN};

/// Which end of the link this is. It decides whose stream numbers are even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepts streams and reaches devices.
    Gateway,
    /// Opens streams.
    Server,
}

/// What the two ends agreed on in the handshake. Windows are taken for no less than [`WINDOW_MIN`](crate::limits::WINDOW_MIN) and no more than
/// [`WINDOW_MAX`](crate::limits::WINDOW_MAX), by both ends alike.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Credit in bytes that this end gives on a new stream.
    pub receive_window: u32,
    /// Credit in bytes that the other end gives on a new stream.
    pub send_window: u32,
    /// Streams that may be open at once.
    pub max_streams: u32,
    /// What this end may hold for the whole link.
    pub memory: Memory,
    /// Whether the session may outlive its link: then what was sent is kept until it is acknowledged.
    pub resumable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            receive_window: WINDOW_FIRST_MAX,
            send_window: WINDOW_FIRST_MAX,
            max_streams: STREAMS_MAX,
            memory: Memory::of(MEMORY),
            resumable: false,
        }
    }
}

/// The most data that one end holds for a link, in bytes, by what it is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// What came and is not read yet, with what the other end has credit for.
    pub unread: usize,
    /// What was written and is not sent yet.
    pub queued: usize,
    /// What was sent and is not acknowledged yet.
    pub unacknowledged: usize,
}

impl Memory {
    /// A ceiling for all of it, shared out; not less than [`MEMORY_MIN`].
    pub fn of(total: usize) -> Self {
        let eighth = total.max(MEMORY_MIN) / 8;
        Self { unread: 5 * eighth, queued: eighth, unacknowledged: 2 * eighth }
    }

    /// How many streams there may be, of so many that are wanted: each needs its least credit.
    pub fn streams(&self, wanted: u32) -> u32 {
        let most = u32::try_from(self.for_new_streams() / WINDOW_MIN as usize).unwrap_or(u32::MAX);
        wanted.min(most).max(1)
    }

    /// The credit in bytes that a new stream gets where there may be so many.
    pub fn first_window(&self, streams: u32) -> u32 {
        let share = self.for_new_streams() / streams.max(1) as usize;
        u32::try_from(share).unwrap_or(u32::MAX).clamp(WINDOW_MIN, WINDOW_FIRST_MAX)
    }

    /// A quarter is for those that grow.
    fn for_new_streams(&self) -> usize {
        self.unread / 4 * 3
    }
}

/// How much of what waits may be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Allow {
    /// Nothing that is numbered.
    Nothing,
    /// Short frames and control messages.
    Short,
    /// Quiet streams as well.
    Quiet,
    /// Everything.
    All,
}

/// Something the owner of the streams should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end opened a stream.
    Incoming(StreamId, Target),
    /// The other end has reached the target, or something came to read, or the stream was reset.
    Readable(StreamId),
    /// There is room again for a writer that was told to wait, or the stream was reset.
    Writable(StreamId),
}

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The link has ended.
    #[error("the link has ended")]
    Closed,
    /// As many streams are open as may be.
    #[error("{limit} streams are open already")]
    StreamLimit {
        /// How many may be.
        limit: u32,
    },
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Some bytes, never none.
    Data(Bytes),
    /// Nothing yet: [`Event::Readable`] tells when.
    Wait,
    /// No more will come.
    End,
}

/// A rule of the language that the other end broke. It ends the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A stream number of the wrong end, or not larger than the last.
    #[error("stream {0} may not be opened")]
    StreamNumber(StreamId),
    /// This end does not take streams.
    #[error("this end opens streams, it does not take any")]
    OpenNotTaken,
    /// A frame for a stream that was never opened.
    #[error("a frame for stream {0}, which was never opened")]
    NeverOpened(StreamId),
    /// More data than there was credit.
    #[error("more data on stream {0} than it had credit for")]
    Credit(StreamId),
    /// More credit than a stream may have.
    #[error("more credit for stream {0} than a stream may have")]
    Window(StreamId),
    /// Data, or another FIN, after FIN.
    #[error("data on stream {0} after its end")]
    AfterEnd(StreamId),
    /// Answers pile up because the other end asks without reading.
    #[error("too many answers wait for an end that does not read them")]
    Flood,
}
