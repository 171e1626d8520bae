//! Whose turn it is to send: quiet streams before bulk, each class in fair turns.

use std::collections::VecDeque;

use super::give_back;
use super::stream::Sending;
use crate::frame::StreamId;

/// How a stream behaves of late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Sends little: a keystroke, a request, a value.
    Quiet,
    /// Sends a lot: a file, a picture.
    Bulk,
}

/// Streams that may send now, each in one place at most.
#[derive(Debug, Default)]
pub(super) struct Turns {
    quiet: VecDeque<StreamId>,
    bulk: VecDeque<StreamId>,
}

impl Turns {
    pub(super) fn is_empty(&self) -> bool {
        self.quiet.is_empty() && self.bulk.is_empty()
    }

    /// Queues a stream up behind its like, if it may send and does not wait already.
    pub(super) fn schedule(&mut self, id: StreamId, sending: &mut Sending) {
        if sending.class.is_some() || !sending.is_ready() {
            return;
        }
        let class = sending.class();
        sending.class = Some(class);
        match class {
            Class::Quiet => self.quiet.push_back(id),
            Class::Bulk => self.bulk.push_back(id),
        }
    }

    /// The next stream's turn. It no longer waits: schedule it again afterwards.
    pub(super) fn next(&mut self) -> Option<StreamId> {
        let next = self.quiet.pop_front().or_else(|| self.bulk.pop_front());
        give_back(&mut self.quiet);
        give_back(&mut self.bulk);
        next
    }

    /// Takes a stream out that ended.
    pub(super) fn forget(&mut self, id: StreamId) {
        self.quiet.retain(|other| *other != id);
        self.bulk.retain(|other| *other != id);
        give_back(&mut self.quiet);
        give_back(&mut self.bulk);
    }
}
