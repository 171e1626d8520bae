//! How much a line takes in a moment, measured while the socket is full (pure).

use std::time::{Duration, Instant};

use crate::limits::{BACKLOG, MESSAGE_MAX, MESSAGE_PACED_FIRST, MESSAGE_PACED_MIN};

/// A rate is worth something after this time at least.
const SAMPLE: Duration = Duration::from_millis(50);

/// Most bytes that a socket needs to have unsent: beyond it nothing gets faster.
const UNSENT_MAX: usize = 512 * 1024;

/// How often the time for which a socket holds bytes may be doubled: 80 ms cover a processor that is busy with others.
const LATE_MAX: u32 = 3;

/// Samples in time after which it is halved again.
const IN_TIME: u32 = 20;

/// The rate at which a link's socket drains.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes in [`BACKLOG`]; zero while unknown.
    bytes: usize,
    /// Since when the socket has been full, and what it took since.
    full: Option<(Instant, usize)>,
    /// Whether it was full when it was last asked.
    waited: bool,
    /// Bytes that it took since there was last nothing to send, without being full.
    at_once: usize,
    /// It had sent all when its turn came: the line was idle, and took less than it could.
    was_late: bool,
    /// How often what it holds was doubled for that.
    late: u32,
    /// Samples since then.
    in_time: u32,
}

impl Pace {
    /// The socket takes no more for now.
    pub(super) fn full(&mut self, now: Instant) {
        self.full.get_or_insert((now, 0));
        (self.waited, self.at_once) = (true, 0);
    }

    /// Whether the socket took no more when it was last asked, on a line that is not known to be fast.
    pub(super) fn is_held(&self) -> bool {
        self.waited && self.message() < MESSAGE_MAX
    }

    /// It took no more, and had nothing left to send when it was asked again.
    pub(super) fn late(&mut self) {
        self.was_late = true;
    }

    /// The socket has taken a message. True if the pace is another one now.
    pub(super) fn took(&mut self, message: usize, now: Instant) -> bool {
        let before = (self.bytes, self.late);
        match self.full {
            Some((since, taken)) => {
                let (taken, took) = (taken + message, now.saturating_duration_since(since));
                self.full = Some((since, taken));
                if took >= SAMPLE {
                    let sample = taken as u128 * BACKLOG.as_micros() / took.as_micros();
                    self.judge(usize::try_from(sample).unwrap_or(UNSENT_MAX));
                    self.full = self.waited.then_some((now, 0));
                    self.waited = false;
                }
            }
            None => {
                self.at_once += message;
                // More than it holds when the line takes nothing: the line may have become faster.
                if message >= self.message() / 2 && self.at_once > 2 * self.unsent() {
                    self.note(2 * self.bytes.max(MESSAGE_PACED_FIRST / 2));
                }
            }
        }
        (self.bytes, self.late) != before
    }

    /// Nothing more is to be sent.
    pub(super) fn dry(&mut self) {
        (self.full, self.waited, self.at_once) = (None, false, 0);
    }

    /// Bytes of a message of bulk.
    pub(super) fn message(&self) -> usize {
        if self.bytes == 0 { MESSAGE_PACED_FIRST } else { self.bytes.clamp(MESSAGE_PACED_MIN, MESSAGE_MAX) }
    }

    /// Bytes that the socket should have unsent at most.
    pub(super) fn unsent(&self) -> usize {
        (self.message().max(self.bytes) << self.late).clamp(2 * MESSAGE_PACED_MIN, UNSENT_MAX)
    }

    /// A line that was idle meanwhile says how busy this machine is, not how slow the line.
    fn judge(&mut self, sample: usize) {
        if std::mem::take(&mut self.was_late) {
            (self.late, self.in_time) = ((self.late + 1).min(LATE_MAX), 0);
            return self.note(sample.max(self.bytes));
        }
        self.note(sample);
        self.in_time += 1;
        if self.in_time >= IN_TIME {
            (self.late, self.in_time) = (self.late.saturating_sub(1), 0);
        }
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

    /// A machine that comes to its turn so late that the socket has run dry, as long as it holds less than that takes.
    #[test]
    fn a_busy_machine_is_no_slow_line() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        on_a_line(&mut pace, &mut now, 1_250_000, Duration::from_secs(2));
        let (rate, turn, mut sent) = (1_250_000.0, Duration::from_millis(40), 0);
        let (begin, mut line_free) = (now, now);
        while now < begin + Duration::from_secs(10) {
            // All that the socket takes now; then others have the processor.
            let mut held = line_free.saturating_duration_since(now).as_secs_f64() * rate;
            if held == 0.0 && pace.is_held() {
                pace.late();
            }
            while held < pace.unsent() as f64 {
                let message = pace.message();
                pace.took(message, now);
                line_free = line_free.max(now) + Duration::from_secs_f64(message as f64 / rate);
                (held, sent) = (held + message as f64, sent + message);
            }
            pace.full(now);
            now += turn;
        }
        let share = sent as f64 / rate / (now - begin).as_secs_f64();
        assert!(share > 0.9, "{share} of the line: {pace:?}");
        on_a_line(&mut pace, &mut now, 1_250_000, Duration::from_secs(10));
        assert!(pace.unsent() < 20_000, "not for ever: {pace:?}");
    }

    #[test]
    fn a_sender_that_pauses_makes_no_line_faster() {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        on_a_line(&mut pace, &mut now, 1_250_000, Duration::from_secs(2));
        let before = pace.message();
        for _ in 0..100 {
            // What it wrote meanwhile is two messages; the socket, empty by then, takes them at once.
            pace.dry();
            pace.took(before, now);
            pace.took(before, now);
        }
        assert_eq!(pace.message(), before);
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
