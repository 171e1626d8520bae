//! Notes in the database which gateways came and went, many in one write: a fleet that comes back is not thousands of
//! transactions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::store::{GatewayId, Seen, Store};

/// Between two writes. The first note after a quiet time is written at once.
const PAUSE: Duration = Duration::from_secs(1);
/// Gateways in one write: some milliseconds, for which other writers wait.
const TOGETHER: usize = 512;

/// What is to be noted; clones share it. Of one gateway only the last is kept.
#[derive(Clone, Debug)]
pub struct Presence(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    notes: Mutex<HashMap<GatewayId, Seen>>,
    came: Notify,
}

impl Presence {
    /// Nothing is noted yet.
    pub fn new(store: Store) -> Self {
        Self(Arc::new(Shared { store, notes: Mutex::default(), came: Notify::new() }))
    }

    /// Notes that a gateway's link began or ended.
    pub fn note(&self, id: GatewayId, seen: Seen) {
        keep(&mut self.lock(), id, seen);
        self.0.came.notify_one();
    }

    /// Writes what is noted until `stop` is cancelled; what is noted after that is for [`write`](Self::write).
    pub async fn run(self, stop: CancellationToken) {
        while stop.run_until_cancelled(self.0.came.notified()).await.is_some() {
            self.write().await;
            let _ = stop.run_until_cancelled(sleep(PAUSE)).await;
        }
    }

    /// Writes what is noted now. What cannot be written is kept for the next time.
    pub async fn write(&self) {
        let mut rest: Vec<_> = std::mem::take(&mut *self.lock()).into_iter().collect();
        while !rest.is_empty() {
            let now = rest.split_off(rest.len().saturating_sub(TOGETHER));
            if let Err(error) = self.0.store.gateways_seen(&now).await {
                let gateways = rest.len() + now.len();
                warn!(
                    gateways,
                    error = error.in_full(),
                    "cannot note that gateways came or went; it will be tried again"
                );
                let mut notes = self.lock();
                for (id, seen) in rest.into_iter().chain(now) {
                    let newer = notes.remove(&id);
                    keep(&mut notes, id, seen);
                    if let Some(newer) = newer {
                        keep(&mut notes, id, newer);
                    }
                }
                self.0.came.notify_one();
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<GatewayId, Seen>> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The newer note counts, with what the older one knew besides.
fn keep(notes: &mut HashMap<GatewayId, Seen>, id: GatewayId, seen: Seen) {
    let older = notes.remove(&id).and_then(|older| older.agent);
    notes.insert(id, Seen { agent: seen.agent.or(older), ..seen });
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use linkspan_protocol::id::Secret;

    use super::*;
    use crate::store::tests::fresh;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[tokio::test]
    async fn many_are_noted_together_and_the_last_word_counts() {
        let (_dir, store) = fresh().await;
        let presence = Presence::new(store.clone());
        let mut ids = Vec::new();
        for number in 0..TOGETHER + 3 {
            let name = format!("site{number}").parse().unwrap();
            ids.push(store.add_gateway(&name, &Secret::new("s")).await.unwrap().unwrap());
        }
        for (number, id) in (0..).zip(&ids) {
            presence.note(*id, Seen { at: at(number), agent: Some("linkspan/1".into()) });
            presence.note(*id, Seen { at: at(1_000_000 + number), agent: None });
        }
        presence.write().await;
        let gateways = store.gateways().await.unwrap();
        let seen = |id| gateways.iter().find(|gateway| gateway.id == id).map(|one| (one.last_seen, one.agent.clone()));
        for (number, id) in (0..).zip(ids) {
            assert_eq!(seen(id), Some((Some(at(1_000_000 + number)), Some("linkspan/1".into()))));
        }
        assert!(presence.lock().is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_kept() {
        let (_dir, store) = fresh().await;
        let id = store.add_gateway(&"site12".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let presence = Presence::new(store.clone());
        presence.note(id, Seen { at: at(7), agent: Some("linkspan/1".into()) });
        store.close().await;
        presence.write().await;
        presence.note(id, Seen { at: at(8), agent: None });
        assert_eq!(presence.lock().get(&id), Some(&Seen { at: at(8), agent: Some("linkspan/1".into()) }));
    }
}
