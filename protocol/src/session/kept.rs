//! Sequenced frames that were sent and are not acknowledged yet: what a later link says again, unchanged and in order.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};

use crate::frame::Frame;

/// What an entry costs beside its bytes.
const ENTRY: usize = 64;

/// A message shorter than this is copied, so that a keystroke does not keep the buffer it was written in.
const COPY_BELOW: usize = 2048;

/// The frames of one message.
#[derive(Debug)]
struct Entry {
    frames: u64,
    bytes: Bytes,
}

/// A queue of frames, by the messages they went out in. Empty, it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Kept {
    entries: VecDeque<Entry>,
    /// Frames before the first entry.
    before: u64,
    cost: usize,
    /// Entries from here on have not been sent over the present link.
    next: usize,
}

impl Kept {
    /// Keeps frames that have just been sent.
    pub(super) fn push(&mut self, frames: u64, bytes: Bytes) {
        let bytes = if bytes.len() < COPY_BELOW { Bytes::copy_from_slice(&bytes) } else { bytes };
        self.cost += bytes.len() + ENTRY;
        self.entries.push_back(Entry { frames, bytes });
        self.next = self.entries.len();
    }

    /// Bytes that it holds.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Lets go of all messages that the count covers.
    pub(super) fn acknowledge(&mut self, count: u64) {
        while let Some(front) = self.entries.front()
            && self.before + front.frames <= count
        {
            self.before += front.frames;
            self.cost -= front.bytes.len() + ENTRY;
            self.next = self.next.saturating_sub(1);
            self.entries.pop_front();
        }
        if self.entries.is_empty() {
            self.entries = VecDeque::new();
        }
    }

    /// All but the first `count` frames of the session are to be sent again.
    pub(super) fn rewind(&mut self, count: u64) {
        self.acknowledge(count);
        self.next = 0;
        let Some(front) = self.entries.front_mut() else { return };
        // The other end may count in the middle of what was one message.
        let before = front.bytes.len();
        while self.before < count {
            // These are bytes of our own making: each frame of them can be read.
            let Ok(Some(_)) = Frame::decode(&mut front.bytes) else { return };
            self.before += 1;
            front.frames -= 1;
        }
        self.cost -= before - front.bytes.len();
    }

    /// Whether some of it waits to be sent again.
    pub(super) fn is_behind(&self) -> bool {
        self.next < self.entries.len()
    }

    /// Bytes of the first entry that waits to be sent again.
    pub(super) fn next_len(&self) -> usize {
        self.entries.get(self.next).map_or(0, |entry| entry.bytes.len())
    }

    /// Appends whole entries that wait to be sent again, at least one, as long as the message stays below `max`.
    pub(super) fn fill(&mut self, message: &mut BytesMut, max: usize) {
        let mut first = true;
        while let Some(entry) = self.entries.get(self.next)
            && (first || message.len() + entry.bytes.len() <= max)
        {
            message.put_slice(&entry.bytes);
            self.next += 1;
            first = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::StreamId;

    fn fins(ids: std::ops::Range<u64>) -> Bytes {
        let mut bytes = BytesMut::new();
        for id in ids {
            Frame::Fin(StreamId(id)).encode(&mut bytes);
        }
        bytes.freeze()
    }

    fn again(kept: &mut Kept, max: usize) -> Bytes {
        let mut message = BytesMut::new();
        kept.fill(&mut message, max);
        message.freeze()
    }

    #[test]
    fn what_is_acknowledged_is_let_go() {
        let mut kept = Kept::default();
        kept.push(3, fins(0..3));
        kept.push(2, fins(3..5));
        kept.acknowledge(2);
        assert_eq!(kept.cost(), fins(0..5).len() + 2 * ENTRY, "part of a message stays");
        kept.acknowledge(3);
        assert_eq!(kept.cost(), fins(3..5).len() + ENTRY);
        assert!(!kept.is_behind());
        kept.acknowledge(5);
        assert_eq!((kept.cost(), kept.entries.capacity()), (0, 0));
    }

    #[test]
    fn a_count_in_the_middle_of_a_message_is_met_exactly() {
        let mut kept = Kept::default();
        kept.push(3, fins(0..3));
        kept.push(2, fins(3..5));
        kept.rewind(1);
        assert_eq!(kept.cost(), fins(1..5).len() + 2 * ENTRY);
        assert_eq!(again(&mut kept, 1), fins(1..3), "at least one entry");
        assert_eq!(again(&mut kept, 1000), fins(3..5));
        assert!(!kept.is_behind());
        kept.rewind(4);
        assert_eq!(again(&mut kept, 1000), fins(4..5));
        kept.push(1, fins(5..6));
        kept.rewind(4);
        assert_eq!(again(&mut kept, 1000), fins(4..6));
        kept.rewind(6);
        assert!(!kept.is_behind() && kept.cost() == 0);
    }
}
