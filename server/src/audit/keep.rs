//! Takes old rows away, a few thousand at a time, and writes into the chain up to where: what is left can be verified. By a
//! clock that goes steadily: one that jumps ahead, by accident or on purpose, would have all of them taken away at once.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{Action, Actor, Audit, Entry, Mark, Record};
use crate::store::{AuditSearch, Store, StoreError};

/// How often it is looked for rows that are old enough.
const LOOK: Duration = Duration::from_secs(3600);
/// Rows taken away in one transaction: others wait for its end.
const AT_ONCE: i64 = 5000;

/// After a jump of the clock nothing is taken away until it has gone steadily for so long: time for somebody to see it.
const STEADY: Duration = Duration::from_hours(24);
/// A clock that is set by as much as this has jumped.
const JUMP: SignedDuration = SignedDuration::from_hours(1);
/// A server that was off for longer cannot tell whether the clock is right.
const AWAY: SignedDuration = SignedDuration::from_hours(24 * 30);

/// Takes away what is older than this, for as long as the server runs; `None` keeps everything.
pub async fn keep(store: &Store, audit: &Audit, age: Option<Duration>) {
    let Some(age) = age else { return std::future::pending().await };
    let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
    let mut steady = Steady::new(Instant::now(), Timestamp::now(), last_before_start(store).await);
    loop {
        let now = Timestamp::now();
        match now.checked_sub(age) {
            Ok(_) if !steady.is_so(Instant::now(), now) => {
                tracing::warn!(
                    "the clock has jumped, or the server was off for long: old entries of the audit stay for a day"
                );
            }
            Ok(cutoff) => match prune(store, cutoff).await {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "old entries of the audit were taken away"),
                Err(error) => tracing::warn!(error = error.in_full(), "old entries of the audit stay"),
            },
            Err(error) => tracing::warn!(%error, "old entries of the audit stay: the clock is wrong"),
        }
        // What was pruned by other hands than the writer's is to be sent on as well.
        audit.wake();
        tokio::time::sleep(LOOK).await;
    }
}

/// When the last row was written before this start of the server; none if there is none, or it cannot be read now.
async fn last_before_start(store: &Store) -> Option<Timestamp> {
    // The entry of the start itself may be there already.
    let until = Timestamp::now().checked_sub(SignedDuration::from_mins(1)).ok()?;
    let search = AuditSearch { until: Some(until), ..AuditSearch::default() };
    let rows = store.search_audit(&search, None, 1).await.ok()?;
    Timestamp::from_millisecond(rows.first()?.record.at).ok()
}

/// Whether the clock goes as time does.
#[derive(Debug)]
struct Steady {
    /// Since when it does.
    since: (Instant, Timestamp),
    /// Whether it was believed from then on.
    believed: bool,
}

impl Steady {
    fn new(at: Instant, clock: Timestamp, last: Option<Timestamp>) -> Self {
        let believed = last.is_none_or(|last| clock.duration_since(last) < AWAY);
        Self { since: (at, clock), believed }
    }

    fn is_so(&mut self, at: Instant, clock: Timestamp) -> bool {
        let passed = at.saturating_duration_since(self.since.0);
        let told = clock.duration_since(self.since.1);
        let off = told - SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX);
        if off.abs() > JUMP {
            *self = Self { since: (at, clock), believed: false };
            return false;
        }
        self.believed || passed >= STEADY
    }
}

/// Takes away what is older; how many rows those were.
pub async fn prune(store: &Store, cutoff: Timestamp) -> Result<i64, StoreError> {
    let mut all = 0;
    loop {
        let rows = store.prune_audit(cutoff, AT_ONCE, told).await?;
        all += rows;
        if rows < AT_ONCE {
            return Ok(all);
        }
    }
}

fn told(last: &Mark, rows: i64) -> Record {
    let entry = Entry::new(Action::AUDIT_PRUNE, Actor::system());
    entry.with("anchor", last.to_string()).with("rows", rows).record(Timestamp::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    /// Threat 42: a clock that is set a year ahead has nothing taken away, and one that is right does.
    #[test]
    fn threat_42_a_clock_that_jumps_takes_nothing_away() {
        let (at, clock) = (Instant::now(), Timestamp::from_second(1_800_000_000).unwrap());
        let mut steady = Steady::new(at, clock, Some(clock - 5 * HOUR));
        assert!(steady.is_so(at, clock) && steady.is_so(at + HOUR, clock + HOUR));
        assert!(steady.is_so(at + 2 * HOUR, clock + 2 * HOUR + HOUR / 2), "set by a little");
        let jump = 24 * 366 * HOUR;
        for hours in 3..27 {
            assert!(!steady.is_so(at + hours * HOUR, clock + jump + hours * HOUR), "{hours} h");
        }
        assert!(steady.is_so(at + 27 * HOUR, clock + jump + 27 * HOUR), "nobody has set it right for a day");
        assert!(!steady.is_so(at + 28 * HOUR, clock + 28 * HOUR), "back is a jump too");

        let mut away = Steady::new(at, clock, Some(clock - 24 * 31 * HOUR));
        assert!(!away.is_so(at, clock) && away.is_so(at + STEADY, clock + STEADY));
        assert!(Steady::new(at, clock, None).is_so(at, clock), "a new server");
    }
}
