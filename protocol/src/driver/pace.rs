//! How much a line takes in a moment, measured while the socket is full (pure).

use std::time::{Duration, Instant};

use crate::limits::{BACKLOG, MESSAGE_MAX, MESSAGE_PACED_FIRST, MESSAGE_PACED_MIN};

/// A rate is worth something after this time at least.
const SAMPLE: Duration = Duration::from_millis(50);

/// Most bytes that a socket needs to have unsent: beyond it nothing gets faster.
const UNSENT_MAX: usize = 512 * 1024;

/// The rate at which a link's socket drains.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes in [`BACKLOG`]; zero while unknown.
    bytes: usize,
    /// Since when the socket has been full, and what it took since.
    full: Option<(Instant, usize)>,
    /// Whether it was full when it was last asked.
    waited: bool,
}

impl Pace {
    /// The socket takes no more for now.
    pub(super) fn full(&mut self, now: Instant) {
        self.full.get_or_insert((now, 0));
        self.waited = true;
    }

    /// The socket has taken a message. True if the pace is another one now.
    pub(super) fn took(&mut self, message: usize, now: Instant) -> bool {
        let before = self.bytes;
        match self.full {
            Some((since, taken)) => {
                let (taken, took) = (taken + message, now.saturating_duration_since(since));
                self.full = Some((since, taken));
                if took >= SAMPLE {
                    let sample = taken as u128 * BACKLOG.as_micros() / took.as_micros();
                    self.note(usize::try_from(sample).unwrap_or(UNSENT_MAX));
                    self.full = self.waited.then_some((now, 0));
                    self.waited = false;
                }
            }
            // It took that at once: the line may have become faster.
            None if message >= self.message() / 2 => self.note(2 * self.bytes.max(MESSAGE_PACED_FIRST / 2)),
            None => {}
        }
        self.bytes != before
    }

    /// Nothing more is to be sent.
    pub(super) fn dry(&mut self) {
        (self.full, self.waited) = (None, false);
    }

    /// Bytes of a message of bulk.
    pub(super) fn message(&self) -> usize {
        if self.bytes == 0 { MESSAGE_PACED_FIRST } else { self.bytes.clamp(MESSAGE_PACED_MIN, MESSAGE_MAX) }
    }

    /// Bytes that the socket should have unsent at most.
    pub(super) fn unsent(&self) -> usize {
        self.message().max(self.bytes).max(2 * MESSAGE_PACED_MIN)
    }

    fn note(&mut self, sample: usize) {
        let sample = sample.clamp(MESSAGE_PACED_MIN, UNSENT_MAX);
        self.bytes = if self.bytes == 0 { sample } else { (self.bytes + sample) / 2 };
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "the clock of a test begins at some time")]
mod tests {
    use super::*;

    /// A line of so many bytes a second that takes message after message.
    fn on_a_line(pace: &mut Pace, now: &mut Instant, rate: usize, span: Duration) {
        let end = *now + span;
        while *now < end {
            let message = pace.message();
            pace.full(*now);
            *now += Duration::from_secs_f64(message as f64 / rate as f64);
            pace.took(message, *now);
        }
    }

    #[test]
    fn messages_follow_the_line() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        assert_eq!(pace.message(), MESSAGE_PACED_FIRST);
        on_a_line(&mut pace, &mut now, 12_500, Duration::from_secs(20));
        assert_eq!((pace.message(), pace.unsent()), (MESSAGE_PACED_MIN, 2 * MESSAGE_PACED_MIN), "2G");
        on_a_line(&mut pace, &mut now, 1_250_000, Duration::from_secs(2));
        assert!((10_000..15_000).contains(&pace.message()), "10 Mbit/s: {}", pace.message());
        on_a_line(&mut pace, &mut now, 125_000_000, Duration::from_secs(2));
        assert!(pace.message() == MESSAGE_MAX && pace.unsent() > UNSENT_MAX / 2, "1 Gbit/s: {pace:?}");
    }

    #[test]
    fn a_line_that_never_stops_is_trusted_with_more() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..10 {
            pace.took(pace.message(), now);
        }
        assert_eq!(pace.message(), MESSAGE_MAX);
        on_a_line(&mut pace, &mut now, 12_500, Duration::from_secs(20));
        pace.dry();
        for _ in 0..40 {
            pace.took(pace.message(), now);
        }
        assert_eq!(pace.message(), MESSAGE_MAX, "a slow time is not remembered for ever");
        let before = pace.message();
        assert!(!pace.took(10, now), "a keystroke says nothing");
        assert_eq!(pace.message(), before);
    }
}
