//! Strangers may fill the audit only so fast: beyond that their attempts are counted, and the count is written down (pure).

use std::time::{Duration, Instant};

/// Entries of strangers that are written at once.
const BURST: u32 = 200;
/// After that, one is written each.
const EACH: Duration = Duration::from_millis(500);

/// How much strangers have written lately.
#[derive(Debug)]
pub(super) struct Flood {
    paid: Instant,
    left_out: u64,
}

impl Flood {
    pub(super) fn new(now: Instant) -> Self {
        Self { paid: now, left_out: 0 }
    }

    /// Whether one more is written, and how many were left out before it.
    pub(super) fn admit(&mut self, now: Instant) -> Option<u64> {
        let next = self.paid.max(now) + EACH;
        if next > now + EACH * BURST {
            self.left_out += 1;
            return None;
        }
        self.paid = next;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_does_not_fill_the_disk() {
        let now = Instant::now();
        let mut flood = Flood::new(now);
        let written = (0..10_000).filter(|_| flood.admit(now).is_some()).count();
        assert_eq!(written, 200);
        assert_eq!(flood.admit(now + EACH), Some(9800));
        assert_eq!(flood.admit(now + 10 * EACH), Some(0));
    }
}
