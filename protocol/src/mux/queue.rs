//! Bytes that were written and wait to be sent.

use bytes::{BufMut as _, BytesMut};

/// A queue of bytes in one piece of memory.
#[derive(Debug, Default)]
pub(super) struct Queue {
    bytes: Vec<u8>,
    /// Where the first that waits is.
    from: usize,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.from
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that it has memory for.
    pub(super) fn room(&self) -> usize {
        self.bytes.capacity()
    }

    pub(super) fn push(&mut self, data: &[u8]) {
        if self.bytes.len() + data.len() > self.bytes.capacity() {
            self.bytes.drain(..self.from);
            self.from = 0;
        }
        self.bytes.extend_from_slice(data);
    }

    /// Moves the first bytes, as many as there are at most, into a message.
    pub(super) fn give(&mut self, bytes: usize, out: &mut BytesMut) {
        let to = self.from + bytes;
        out.put_slice(self.bytes.get(self.from..to).unwrap_or_default());
        self.from = to;
        if self.is_empty() {
            self.bytes.clear();
            self.from = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_in_comes_out_in_order_without_growing_for_ever() {
        let (mut queue, mut out) = (Queue::default(), BytesMut::new());
        let mut expected = Vec::new();
        for round in 0..1000_u32 {
            let data: Vec<u8> = (0..round % 97 + 3).map(|byte| (byte + round) as u8).collect();
            queue.push(&data);
            expected.extend(data);
            let some = queue.len().min(round as usize % 131);
            queue.give(some, &mut out);
            if queue.len() > 500 {
                queue.give(queue.len(), &mut out);
            }
        }
        queue.give(queue.len(), &mut out);
        assert_eq!(out, expected);
        assert!(queue.is_empty() && queue.room() < 2048, "{}", queue.room());
    }
}
