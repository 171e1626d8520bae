//! How long to wait before the next attempt: a pure function of what happened, a count and a random number.

use std::time::Duration;

/// Ceiling of the first wait, and of all waits, after an ordinary failure.
const SOON_FIRST: Duration = Duration::from_secs(1);
const SOON_LAST: Duration = Duration::from_secs(60);

/// The same after a refusal that somebody has to do something about.
const SLOWLY_FIRST: Duration = Duration::from_secs(30);
const SLOWLY_LAST: Duration = Duration::from_secs(600);

/// Least and most time between two attempts while nobody answers: a thirtieth of how long that has been so. An attempt
/// costs 60 bytes then, so a server that is gone for good costs two megabytes a month, and a hole in coverage is over soon
/// after its end.
const LINE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The time between two attempts while nobody answers.
pub(super) fn pause(down_for: Duration) -> Duration {
    (down_for / 30).clamp(LINE.0, LINE.1)
}

/// Shortest wait: no bug on either side may turn into a storm.
const LEAST: Duration = Duration::from_millis(100);

/// Longest wait that a server may ask for: one mistyped number must not park a fleet.
const LONGEST: Duration = Duration::from_secs(3600);

/// A link that lasted this long was a good one: the count begins anew after it.
const LASTED: Duration = Duration::from_secs(60);

/// What the last attempt says about the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// An ordinary failure.
    Soon,
    /// Nobody answered: the line may be down, and come back at any moment.
    Line,
    /// It will be the same next time, unless somebody does something.
    Slowly,
    /// The server asked to wait at least so long.
    After(Duration),
    /// The server asked to wait for a time between these.
    Between(Duration, Duration),
}

/// Counts the attempts that failed in a row.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait before the next attempt. `down_for` is how long there has been no link, `random` is from 0 up to, not including, 1. It is spread over the whole span, so
    /// that gateways which lost their server at one moment do not come back at one moment ("full jitter").
    pub fn next(&mut self, retry: Retry, down_for: Duration, random: f64) -> Duration {
        let random = random.clamp(0.0, 1.0);
        let ceiling = |first: Duration, last: Duration| first.saturating_mul(1 << self.failures.min(16)).min(last);
        let wait = match retry {
            Retry::Soon => ceiling(SOON_FIRST, SOON_LAST).mul_f64(random),
            Retry::Line => pause(down_for).mul_f64(random),
            Retry::Slowly => ceiling(SLOWLY_FIRST, SLOWLY_LAST).mul_f64(0.5 + random / 2.0),
            // Some more than was asked for, lest all who were asked come at once.
            Retry::After(wait) => {
                let wait = wait.min(LONGEST);
                wait + (wait / 4).max(SOON_FIRST).mul_f64(random)
            }
            Retry::Between(from, to) => {
                let (from, to) = (from.min(LONGEST), to.min(LONGEST));
                from + to.saturating_sub(from).mul_f64(random)
            }
        };
        if retry != Retry::Line {
            self.failures = self.failures.saturating_add(1);
        }
        wait.max(LEAST)
    }

    /// Notes how long a link held that has just ended.
    pub fn link_held(&mut self, held: Duration) {
        if held >= LASTED {
            self.failures = 0;
        }
    }

    /// Begins anew: something changed.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALMOST_ONE: f64 = 1.0 - f64::EPSILON;

    #[test]
    fn ceilings_double_up_to_the_last() {
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> =
            (0..8).map(|_| backoff.next(Retry::Soon, Duration::ZERO, ALMOST_ONE).as_secs_f64().round()).collect();
        assert_eq!(ceilings, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        let mut backoff = Backoff::default();
        let ceilings: Vec<_> =
            (0..6).map(|_| backoff.next(Retry::Slowly, Duration::ZERO, ALMOST_ONE).as_secs_f64().round()).collect();
        assert_eq!(ceilings, [30.0, 60.0, 120.0, 240.0, 480.0, 600.0]);
    }

    #[test]
    fn every_wait_is_within_its_bounds() {
        let mut random = fastrand::Rng::with_seed(0x11_2358);
        for round in 0..20_000 {
            let mut backoff = Backoff { failures: if round % 7 == 0 { u32::MAX - 1 } else { random.u32(0..80) } };
            let failures = backoff.failures;
            let (a, b) = (Duration::from_secs(random.u64(..)), Duration::from_millis(random.u64(..1 << 33)));
            let checks: [(Retry, Duration, Duration); 5] = [
                (Retry::Line, LEAST, LINE.1),
                (Retry::Soon, LEAST, SOON_LAST),
                (Retry::Slowly, SLOWLY_FIRST / 2, SLOWLY_LAST),
                (Retry::After(b), b.min(LONGEST), (b.min(LONGEST) * 5 / 4).max(b.min(LONGEST) + SOON_FIRST)),
                (Retry::Between(a, b), a.min(LONGEST), b.max(a).min(LONGEST).max(LEAST)),
            ];
            for (retry, least, most) in checks {
                let wait = backoff.next(retry, a, random.f64());
                assert!(
                    (least..=most).contains(&wait),
                    "{retry:?} after {failures}: {wait:?} not in {least:?}..={most:?}"
                );
            }
        }
    }

    #[test]
    fn waits_are_spread_over_the_whole_span() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut tenths = [0; 10];
        for _ in 0..10_000 {
            let wait = Backoff { failures: 20 }.next(Retry::Soon, Duration::ZERO, random.f64());
            tenths[(wait.as_secs_f64() / 6.001) as usize] += 1;
        }
        assert!(tenths.iter().all(|n| (850..1150).contains(n)), "{tenths:?}");
    }

    #[test]
    fn a_line_that_is_down_is_tried_often_at_first_and_ever_more_rarely() {
        let pause = |seconds| pause(Duration::from_secs(seconds)).as_secs_f64();
        assert_eq!([0, 20, 60, 600, 3600, 86_400].map(pause), [1.0, 1.0, 2.0, 20.0, 60.0, 60.0]);
        let mut backoff = Backoff::default();
        backoff.next(Retry::Line, Duration::ZERO, 0.5);
        assert_eq!(backoff.failures, 0, "it is no failure of the server");
    }

    #[test]
    fn only_a_link_that_lasted_begins_anew() {
        let mut backoff = Backoff { failures: 5 };
        backoff.link_held(LASTED - Duration::from_millis(1));
        assert_eq!(backoff.failures, 5);
        backoff.link_held(LASTED);
        assert_eq!(backoff.failures, 0);
    }
}
