//! Takes old rows away, a few thousand at a time, and writes into the chain up to where: what is left can be verified.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Actor, Audit, Entry, Mark, Record};
use crate::store::{Store, StoreError};

/// How often it is looked for rows that are old enough.
const LOOK: Duration = Duration::from_secs(3600);
/// Rows taken away in one transaction: others wait for its end.
const AT_ONCE: i64 = 5000;

/// Takes away what is older than this, for as long as the server runs; `None` keeps everything.
pub async fn keep(store: &Store, audit: &Audit, age: Option<Duration>) {
    let Some(age) = age else { return std::future::pending().await };
    loop {
        let age = SignedDuration::try_from(age).unwrap_or(SignedDuration::MAX);
        match Timestamp::now().checked_sub(age) {
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
