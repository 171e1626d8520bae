//! Holds a service to its rate, without keeping any bytes: who is ahead of his turn is not read from, or not written to.
//!
//! All streams of a service share one schedule per direction. Each pays for what it has moved by moving the schedule's
//! end, and may move more when the time has come that was the end then: so streams take turns, and one that was silent
//! goes at once. Somebody who types waits for nobody.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// What moves in one turn, as time: short, so that turns are quick.
const TURN: Duration = Duration::from_millis(20);
/// Bytes of one turn at least and at most.
const TURN_BYTES: (u64, u64) = (512, 16 * 1024);
/// Timers are late by a millisecond or two: what was missed is made up for, up to this.
const LATE: Duration = Duration::from_millis(100);
/// A piece no longer than this is something that somebody typed, or its echo ...
const SHORT: u64 = 512;
/// ... as long as its stream moves no more than this in a second.
const TYPED: u64 = 4 * 1024;

/// One direction of a service: when what has been moved is paid for.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    end: Mutex<Option<Instant>>,
}

impl Schedule {
    /// Pays for some bytes; returns the new end.
    fn pay(&self, bytes: u64, rate: u64, now: Instant) -> Instant {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(LATE).unwrap_or(now);
        let from = end.map_or(now, |end| end.max(earliest));
        *end.insert(from + time_for(bytes, rate))
    }
}

/// One direction of one stream.
#[derive(Debug)]
pub(super) struct Pace {
    schedule: Arc<Schedule>,
    /// Bytes per second; the configuration says none where nothing is held back.
    rate: Option<u64>,
    due: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    second: Instant,
    in_second: u64,
}

impl Pace {
    pub(super) fn new(schedule: Arc<Schedule>, rate: Option<u64>) -> Self {
        Self { schedule, rate, due: None, timer: None, second: Instant::now(), in_second: 0 }
    }

    /// Waits for the turn; then how many bytes may be moved, where that is bounded.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let Some(rate) = self.rate else { return Poll::Ready(None) };
        if let Some(due) = self.due {
            if due > Instant::now() {
                let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if timer.deadline() != due {
                    timer.as_mut().reset(due);
                }
                ready!(timer.as_mut().poll(cx));
            }
            self.due = None;
        }
        let turn = bytes_in(TURN, rate).clamp(TURN_BYTES.0, TURN_BYTES.1);
        Poll::Ready(Some(usize::try_from(turn).unwrap_or(usize::MAX)))
    }

    /// Notes what was moved.
    pub(super) fn moved(&mut self, bytes: usize) {
        let (Some(rate), 1..) = (self.rate, bytes) else { return };
        let (now, bytes) = (Instant::now(), bytes as u64);
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.in_second) = (now, 0);
        }
        self.in_second += bytes;
        let end = self.schedule.pay(bytes, rate, now);
        let is_typed = bytes <= SHORT && self.in_second <= TYPED;
        self.due = (!is_typed).then_some(end);
    }
}

fn time_for(bytes: u64, rate: u64) -> Duration {
    let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(u128::from(rate) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Moves as much as it may until the deadline.
    async fn bulk(mut pace: Pace, until: Instant) -> u64 {
        let mut moved = 0;
        while Instant::now() < until {
            let turn = poll_fn(|cx| pace.poll_turn(cx)).await.unwrap();
            pace.moved(turn);
            moved += turn as u64;
            tokio::task::yield_now().await;
        }
        moved
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_kept_and_shared_in_turns() {
        for rate in [8000, 62_500, 10_000_000] {
            let schedule = Arc::new(Schedule::default());
            let until = Instant::now() + Duration::from_secs(20);
            let pace = || Pace::new(schedule.clone(), Some(rate));
            let (a, b, c) = tokio::join!(bulk(pace(), until), bulk(pace(), until), bulk(pace(), until));
            let all = (a + b + c) as f64 / 20.0 / rate as f64;
            assert!((0.95..1.15).contains(&all), "{all} of {rate}");
            for one in [a, b, c] {
                let share = one as f64 * 3.0 / (a + b + c) as f64;
                assert!((0.9..1.1).contains(&share), "{share} of {rate}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_types_waits_for_nobody_and_is_paid_for_by_the_others() {
        let schedule = Arc::new(Schedule::default());
        let until = Instant::now() + Duration::from_secs(20);
        let (loud, mut quiet) = (Pace::new(schedule.clone(), Some(10_000)), Pace::new(schedule, Some(10_000)));
        let typing = async {
            let mut typed = 0;
            while Instant::now() < until {
                let before = Instant::now();
                poll_fn(|cx| quiet.poll_turn(cx)).await;
                assert_eq!(Instant::now(), before, "a key waits");
                quiet.moved(100);
                typed += 100;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            typed
        };
        let (moved, typed) = tokio::join!(bulk(loud, until), typing);
        let all = (moved + typed) as f64 / 200_000.0;
        assert!((0.95..1.1).contains(&all), "{all}: {moved} and {typed}");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_earns_no_burst() {
        let mut pace = Pace::new(Arc::default(), Some(100_000));
        pace.moved(2000);
        tokio::time::advance(Duration::from_secs(3600)).await;
        let moved = bulk(pace, Instant::now() + Duration::from_secs(1)).await;
        assert!(moved < 115_000, "{moved}");
    }
}
