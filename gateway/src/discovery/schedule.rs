//! When all is asked for: soon at first, then more and more seldom.

use std::time::Duration;

use tokio::time::Instant;

/// The longest pause.
const LAST: Duration = Duration::from_secs(60 * 60);

pub(super) struct Schedule {
    next: Instant,
    pause: Duration,
}

impl Schedule {
    /// At once, after that pause, and after twice as long each time.
    pub(super) fn new(pause: Duration) -> Self {
        Self { next: Instant::now(), pause }
    }

    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + self.pause;
            self.pause = (2 * self.pause).min(LAST);
        }
        due
    }

    /// When it is next.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// There is something new to be asked for, within that time.
    #[cfg(feature = "mdns")]
    pub(super) fn within(&mut self, pause: Duration, now: Instant) {
        self.next = self.next.min(now + pause);
    }
}
