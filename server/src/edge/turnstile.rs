//! Lets gateways into the costly part of their way in at the pace of the processors, so that people never wait behind a
//! fleet that comes back.
//!
//! A handshake costs some hundred microseconds, a waiting socket next to nothing. So a fleet waits here, in its order,
//! until the tasks that are ready to run have had their turn: then a few more are let in. While the processors are busy, only
//! few are inside; while they are not, since lines are slow, many more. Nothing is tuned to a number
//! of handshakes a second, and no processor idles while somebody waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::limits;

/// The turnstile; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Turnstile(Arc<State>);

#[derive(Debug)]
struct State {
    /// Places between the turnstile and the first request.
    inside: Arc<Semaphore>,
    /// One permit for each that is let in; the pace adds them.
    gate: Semaphore,
    /// In front of the gate, with a place inside.
    at_gate: AtomicUsize,
    /// All that wait.
    queued: AtomicUsize,
    queue_max: usize,
    /// Whether somebody sets the pace.
    paced: AtomicBool,
}

/// A place inside; to be dropped when the costly part is over.
#[derive(Debug)]
pub struct Turn {
    _place: OwnedSemaphorePermit,
}

/// As many wait as may: the newcomer should come another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} gateways wait for their turn already")]
pub struct TooMany {
    /// How many.
    pub waiting: usize,
}

impl Turnstile {
    /// A turnstile in a house with room for so many connections.
    pub(super) fn new(connections: usize) -> Self {
        Self(Arc::new(State {
            inside: Arc::new(Semaphore::new(limits::ARRIVING_INSIDE)),
            gate: Semaphore::new(0),
            at_gate: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            queue_max: limits::queue_for(connections),
            paced: AtomicBool::new(false),
        }))
    }

    /// Gateways that wait now.
    pub(super) fn waiting(&self) -> usize {
        self.0.queued.load(Ordering::Relaxed)
    }

    /// Waits for a turn. `spawn` runs the task that sets the pace; it ends when nobody waits.
    pub(super) async fn turn<F>(&self, spawn: F) -> Result<Turn, TooMany>
    where
        F: FnOnce(Pace),
    {
        let _queued = Counted::enter(self, |state| &state.queued);
        let waiting = self.waiting();
        if waiting > self.0.queue_max {
            return Err(TooMany { waiting });
        }
        // Neither semaphore is ever closed.
        let place = Arc::clone(&self.0.inside).acquire_owned().await.map_err(|_| TooMany { waiting })?;
        let _at_gate = Counted::enter(self, |state| &state.at_gate);
        if !self.0.paced.swap(true, Ordering::AcqRel) {
            spawn(Pace(self.clone()));
        }
        self.0.gate.acquire().await.map_err(|_| TooMany { waiting })?.forget();
        Ok(Turn { _place: place })
    }
}

/// What lets gateways in, a few at a time.
#[derive(Debug)]
pub(super) struct Pace(Turnstile);

impl Pace {
    /// Runs until nobody waits.
    pub(super) async fn run(self) {
        let Self(Turnstile(state)) = &self;
        let mut waited = Duration::ZERO;
        loop {
            let waiting = state.at_gate.load(Ordering::Acquire);
            if waiting == 0 {
                state.paced.store(false, Ordering::Release);
                // Somebody may have come between the look and the word, and seen that there is a pace.
                if state.at_gate.load(Ordering::Acquire) == 0 || state.paced.swap(true, Ordering::AcqRel) {
                    return;
                }
                continue;
            }
            if state.inside() < limits::ARRIVING_BUSY || waited < limits::BUSY {
                let wanted = waiting.min(limits::ARRIVALS_AT_ONCE);
                state.gate.add_permits(wanted.saturating_sub(state.gate.available_permits()));
            }
            // Comes back when all tasks that were ready before have run.
            let begin = Instant::now();
            tokio::task::yield_now().await;
            waited = begin.elapsed();
        }
    }
}

impl State {
    /// How many have been let in and have not shown their first request.
    fn inside(&self) -> usize {
        let held = limits::ARRIVING_INSIDE.saturating_sub(self.inside.available_permits());
        held.saturating_sub(self.at_gate.load(Ordering::Acquire))
    }
}

impl Drop for Pace {
    /// Not only at its end: the house may cut it off.
    fn drop(&mut self) {
        self.0.0.paced.store(false, Ordering::Release);
    }
}

/// Counts somebody for as long as it lives.
struct Counted<'a> {
    state: &'a State,
    which: fn(&State) -> &AtomicUsize,
}

impl<'a> Counted<'a> {
    fn enter(turnstile: &'a Turnstile, which: fn(&State) -> &AtomicUsize) -> Self {
        which(&turnstile.0).fetch_add(1, Ordering::AcqRel);
        Self { state: &turnstile.0, which }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        (self.which)(self.state).fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::JoinSet;

    use super::*;

    async fn turn(turnstile: &Turnstile) -> Result<Turn, TooMany> {
        #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
        turnstile
            .turn(|pace| {
                tokio::task::spawn(pace.run());
            })
            .await
    }

    #[tokio::test]
    async fn all_get_their_turn_and_the_pace_ends() {
        let turnstile = Turnstile::new(10_000);
        let mut all = JoinSet::new();
        for _ in 0..3 * limits::ARRIVING_INSIDE {
            let turnstile = turnstile.clone();
            all.spawn(async move { turn(&turnstile).await.map(drop) });
        }
        while let Some(done) = all.join_next().await {
            done.unwrap().unwrap();
        }
        assert_eq!(turnstile.waiting(), 0);
        tokio::time::timeout(Duration::from_secs(10), async {
            while turnstile.0.paced.load(Ordering::Acquire) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .unwrap();
        assert!(turn(&turnstile).await.is_ok(), "and begins again");
    }

    #[tokio::test]
    async fn a_few_are_let_in_at_a_time() {
        let turnstile = Turnstile::new(10_000);
        let mut all = JoinSet::new();
        for _ in 0..10 * limits::ARRIVALS_AT_ONCE {
            let turnstile = turnstile.clone();
            all.spawn(async move { turn(&turnstile).await.unwrap() });
        }
        let mut held = Vec::new();
        let mut most = 0;
        while !all.is_empty() {
            tokio::task::yield_now().await;
            let before = held.len();
            while let Some(turn) = all.try_join_next() {
                held.push(turn.unwrap());
            }
            most = most.max(held.len() - before);
        }
        assert!((1..=2 * limits::ARRIVALS_AT_ONCE).contains(&most), "{most} at once");
    }

    #[tokio::test]
    async fn those_inside_hold_the_others_back_and_too_many_are_sent_away() {
        let turnstile = Turnstile::new(limits::ARRIVING_INSIDE + 1024);
        let mut inside = Vec::new();
        for _ in 0..limits::ARRIVING_INSIDE {
            inside.push(turn(&turnstile).await.unwrap());
        }
        let most = limits::queue_for(limits::ARRIVING_INSIDE + 1024);
        let mut waiting = JoinSet::new();
        for _ in 0..most {
            let turnstile = turnstile.clone();
            waiting.spawn(async move { turn(&turnstile).await.map(drop) });
        }
        while turnstile.waiting() < most {
            tokio::task::yield_now().await;
        }
        assert_eq!(turn(&turnstile).await.unwrap_err(), TooMany { waiting: most + 1 });
        assert_eq!(waiting.try_join_next().map(|_| ()), None);
        drop(inside);
        while let Some(done) = waiting.join_next().await {
            done.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn who_leaves_the_queue_leaves_nothing_behind() {
        let turnstile = Turnstile::new(10_000);
        let mut inside = Vec::new();
        for _ in 0..limits::ARRIVING_INSIDE {
            inside.push(turn(&turnstile).await.unwrap());
        }
        assert!(tokio::time::timeout(Duration::from_millis(20), turn(&turnstile)).await.is_err());
        assert_eq!(turnstile.waiting(), 0);
        drop(inside);
        assert!(turn(&turnstile).await.is_ok());
    }
}
