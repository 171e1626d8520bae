//! How many gateways may be on their way in at once, and when the others, or all of them after a restart, come back.

use std::sync::Arc;
use std::thread::available_parallelism;

use axum::body::Body;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::edge::pages;

/// Links between their request and their WELCOME. Each waits for the database, which answers some thousand in a second.
const ARRIVING: usize = 2048;
/// Gateways that a processor takes in within a second, cautiously: measured are 800, with nothing else to do.
const PER_PROCESSOR: usize = 400;
/// Seconds within which gateways are asked to come back after a restart, however few they are: programs start in one.
const LEAST: (u32, u32) = (1, 10);
/// And however many they are.
const MOST: u32 = 600;

/// Those on their way in; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Rush(Arc<Semaphore>);

/// A place among them, until the gateway is in or has gone.
#[derive(Debug)]
pub(super) struct Arriving {
    _place: OwnedSemaphorePermit,
}

/// As many as may be are on their way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Busy {
    retry_after_s: u32,
}

impl Default for Rush {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ARRIVING)))
    }
}

impl Rush {
    /// A place for one more; `waiting` others wait at the turnstile.
    pub(super) fn enter(&self, waiting: usize) -> Result<Arriving, Busy> {
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(place) => Ok(Arriving { _place: place }),
            Err(_) => Err(Busy { retry_after_s: within(seconds_for(ARRIVING + waiting)) }),
        }
    }
}

impl Busy {
    /// The answer before there is a WebSocket.
    pub(super) fn answer(self) -> Response<Body> {
        let mut response = Response::new(Body::from("many gateways come at once; come back later\n"));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(self.retry_after_s));
        response.headers_mut().insert(pages::ERROR_HEADER, HeaderValue::from_static("busy"));
        response
    }
}

/// Seconds between which so many gateways should come back after a restart, so that they can all be taken in.
pub(super) fn return_between(links: usize) -> (u32, u32) {
    (LEAST.0, LEAST.0 + seconds_for(links).clamp(LEAST.1 - LEAST.0, MOST))
}

/// One moment of such a span.
pub(super) fn within_span((from, to): (u32, u32)) -> u32 {
    from.saturating_sub(1) + within(to.saturating_sub(from) + 1)
}

fn seconds_for(links: usize) -> u32 {
    let rate = PER_PROCESSOR * available_parallelism().map_or(1, usize::from);
    u32::try_from(links.div_ceil(rate)).unwrap_or(u32::MAX)
}

/// From 1 to so many, by chance; the longest where the system has no random numbers.
fn within(seconds: u32) -> u32 {
    let seconds = seconds.clamp(1, MOST);
    getrandom::u32().map_or(seconds, |random| 1 + random % seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_fleet_is_given_longer_to_come_back() {
        assert_eq!(return_between(0), LEAST);
        assert_eq!(return_between(100), LEAST);
        let (from, to) = return_between(20_000);
        let rate = 20_000 / (to - from) as usize;
        assert!(rate <= PER_PROCESSOR * available_parallelism().unwrap().get(), "{from}-{to}");
        assert_eq!(return_between(usize::MAX), (LEAST.0, LEAST.0 + MOST));
    }

    #[test]
    fn moments_are_spread_over_the_span() {
        let seen: std::collections::BTreeSet<u32> = (0..1000).map(|_| within_span((3, 12))).collect();
        assert_eq!(seen, (3..=12).collect());
        assert_eq!(within_span((7, 7)), 7);
    }

    #[tokio::test]
    async fn when_too_many_arrive_the_next_is_told_when_to_come_back() {
        let rush = Rush::default();
        let mut held: Vec<_> = (0..ARRIVING).map(|_| rush.enter(0).unwrap()).collect();
        let answer = rush.enter(10_000).unwrap_err().answer();
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let after: u32 = answer.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=seconds_for(ARRIVING + 10_000)).contains(&after), "{after}");
        held.pop();
        assert!(rush.enter(0).is_ok());
    }
}
