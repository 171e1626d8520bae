//! Whose turn it is to send: quiet streams before bulk, each class in fair turns, and the background when nobody else wants to.

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
    /// Nobody waits for it.
    Background,
}

/// Streams that may send now, each in one place at most.
#[derive(Debug, Default)]
pub(super) struct Turns {
    quiet: VecDeque<StreamId>,
    bulk: VecDeque<StreamId>,
    background: VecDeque<StreamId>,
}

impl Turns {
    /// Whether anybody may send now.
    pub(super) fn has_any(&self, allow: Allow) -> bool {
        (allow >= Allow::Quiet && !self.quiet.is_empty())
            || (allow >= Allow::All && !(self.bulk.is_empty() && self.background.is_empty()))
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
            Class::Background => self.background.push_back(id),
        }
    }

    /// The next stream's turn. It no longer waits: schedule it again afterwards.
    pub(super) fn next(&mut self, allow: Allow) -> Option<StreamId> {
        let quiet = if allow >= Allow::Quiet { self.quiet.pop_front() } else { None };
        let rest = |turns: &mut Self| turns.bulk.pop_front().or_else(|| turns.background.pop_front());
        let next = quiet.or_else(|| if allow >= Allow::All { rest(self) } else { None });
        self.give_back();
        next
    }

    /// Takes a stream out that ended.
    pub(super) fn forget(&mut self, id: StreamId) {
        for queue in [&mut self.quiet, &mut self.bulk, &mut self.background] {
            queue.retain(|other| *other != id);
        }
        self.give_back();
    }

    fn give_back(&mut self) {
        for queue in [&mut self.quiet, &mut self.bulk, &mut self.background] {
            give_back(queue);
        }
    }
}
