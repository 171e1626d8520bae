//! Bytes that came on a stream and wait for their reader, without keeping alive more memory than they are.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::limits::DATA_MAX;

/// A received piece shorter than a full frame is copied: a slice would keep its whole message alive, and a peer could
/// fill the rest of that with what costs it no credit. So a stream holds at most 2.5 times its window.
const COPY_BELOW: usize = DATA_MAX;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pieces: VecDeque<Bytes>,
    /// Short pieces, put together; they come after `pieces`.
    tail: BytesMut,
}

impl Buffer {
    pub(super) fn push(&mut self, data: Bytes) {
        if data.len() < COPY_BELOW {
            self.tail.extend_from_slice(&data);
            return;
        }
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
        self.pieces.push_back(data);
    }

    /// Takes up to `max` bytes from the front; `None` if there are none.
    pub(super) fn take(&mut self, max: usize) -> Option<Bytes> {
        if let Some(front) = self.pieces.front_mut() {
            let data = front.split_to(max.min(front.len()));
            if !front.has_remaining() {
                self.pieces.pop_front();
            }
            return Some(data);
        }
        if self.tail.is_empty() {
            return None;
        }
        let data = self.tail.split_to(max.min(self.tail.len())).freeze();
        if self.tail.is_empty() {
            // Give the memory back with the last reader of it: an idle stream holds none.
            self.tail = BytesMut::new();
        }
        Some(data)
    }
}
