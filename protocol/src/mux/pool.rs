//! The credit that streams may have beyond their first: shared by those whose readers and round trip ask for it.

use std::time::Duration;

/// Less than this is not worth a change.
const LEAST: u64 = 16 * 1024;

/// Round trips' worth of what a reader takes that its window is for. Credit is given back half a window at a time, which alone
/// takes two to keep a line busy; and the way through both ends takes longer than the line's own round trip, the more so
/// where the processor has others to serve. With less, a window that is too small to fill the line is never seen to be.
const ROUND_TRIPS: u128 = 6;

/// What is left of it, and how long a round trip takes.
#[derive(Debug)]
pub(super) struct Pool {
    free: u64,
    pub(super) round_trip: Option<Duration>,
}

impl Pool {
    pub(super) fn new(free: usize) -> Self {
        Self { free: free as u64, round_trip: None }
    }

    /// The window for a reader that took so many bytes in that time.
    pub(super) fn wanted(&self, bytes: u64, took: Duration) -> u64 {
        let round_trip = self.round_trip.unwrap_or_default().as_micros();
        let wanted = ROUND_TRIPS * u128::from(bytes) * round_trip / took.as_micros().max(1);
        u64::try_from(wanted).unwrap_or(u64::MAX)
    }

    /// Takes as much of what is asked for as leaves something to those who ask later.
    pub(super) fn take(&mut self, wanted: u64) -> u64 {
        let taken = wanted.min(self.free / 4 * 3);
        if taken < LEAST {
            return 0;
        }
        self.free -= taken;
        taken
    }

    pub(super) fn give_back(&mut self, bytes: u64) {
        self.free += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asks_later_finds_something() {
        let mut pool = Pool::new(1 << 20);
        let taken: Vec<u64> = (0..4).map(|_| pool.take(u64::MAX)).collect();
        assert_eq!(taken, [786_432, 196_608, 49_152, 0], "too little is nothing");
        taken.into_iter().for_each(|bytes| pool.give_back(bytes));
        assert_eq!(pool.take(100_000), 100_000);
    }

    #[test]
    fn a_window_is_for_six_round_trips() {
        let mut pool = Pool::new(0);
        assert_eq!(pool.wanted(1 << 20, Duration::from_millis(100)), 0, "without a round trip nothing grows");
        pool.round_trip = Some(Duration::from_millis(100));
        assert_eq!(pool.wanted(1 << 20, Duration::from_millis(50)), 12 << 20);
        assert_eq!(pool.wanted(u64::MAX, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn a_small_window_grows_until_it_fills_the_line() {
        // 10 Mbit/s, 50 ms; the way through both ends, and what waits there, makes three times of that.
        let (line, shortest, whole) = (1.25e6, Duration::from_millis(50), 0.15);
        let mut pool = Pool::new(4 << 20);
        pool.round_trip = Some(shortest);
        let mut window: u64 = 16 * 1024;
        // Half a window comes, is read and given back while the other half is on its way.
        let rate = |window: u64| (window as f64 / (whole + window as f64 / 2.0 / line)).min(line);
        for _ in 0..20 {
            let took = Duration::from_secs_f64(window as f64 / 2.0 / rate(window));
            window = window.max(pool.wanted(window / 2, took).min(2 * window));
        }
        assert!(rate(window) > 0.9 * line, "{} of the line, {window} bytes", rate(window) / line);
    }
}
