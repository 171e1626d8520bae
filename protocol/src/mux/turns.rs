//! Whose turn it is to send: quiet streams before bulk, each class in fair turns.

use std::collections::VecDeque;

use super::stream::Sending;
use super::{Allow, give_back};
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
    /// Whether anybody may send now.
    pub(super) fn has_any(&self, allow: Allow) -> bool {
        (allow >= Allow::Quiet && !self.quiet.is_empty()) || (allow >= Allow::All && !self.bulk.is_empty())
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
    pub(super) fn next(&mut self, allow: Allow) -> Option<StreamId> {
        let quiet = if allow >= Allow::Quiet { self.quiet.pop_front() } else { None };
        let next = quiet.or_else(|| if allow >= Allow::All { self.bulk.pop_front() } else { None });
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
