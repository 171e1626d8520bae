//! Connections to devices that wait a moment for the next request of the same session to the same service.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use linkspan_protocol::id::{DeviceName, ServiceName};
use tokio::time::Instant;

use super::connection::Connection;
use crate::edge::limits;
use crate::edge::listener::House;

/// Who may use a waiting connection. Devices tie a login to a connection (NTLM), so sessions are never mixed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) device: DeviceName,
    pub(super) service: ServiceName,
    pub(super) session: String,
}

struct Waiting {
    connection: Connection,
    since: Instant,
}

/// The waiting connections.
pub(super) struct Pool {
    waiting: Mutex<HashMap<Key, Vec<Waiting>>>,
    house: House,
}

impl Pool {
    /// An empty pool, swept by a task of the house.
    pub(super) fn new(house: &House) -> Arc<Self> {
        let pool = Arc::new(Self { waiting: Mutex::default(), house: house.clone() });
        let swept = Arc::downgrade(&pool);
        let closing = house.closing().clone();
        house.spawn_task(async move {
            let _ = closing.run_until_cancelled(sweep(&swept)).await;
            if let Some(pool) = swept.upgrade() {
                pool.lock().clear();
            }
        });
        pool
    }

    /// A waiting connection that is still open.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        std::iter::from_fn(|| self.pop(key))
            .find_map(|mut waiting| waiting.connection.is_ready().then_some(waiting.connection))
    }

    /// Takes a connection whose answer has been read, when it is ready for the next request.
    pub(super) fn give_back(self: &Arc<Self>, key: Key, mut connection: Connection) {
        if connection.is_ready() {
            return self.put(key, connection);
        }
        let pool = Arc::clone(self);
        self.house.spawn_task(async move {
            if tokio::time::timeout(limits::POOL_SETTLE, connection.ready()).await == Ok(true) {
                pool.put(key, connection);
            }
        });
    }

    fn pop(&self, key: &Key) -> Option<Waiting> {
        let mut waiting = self.lock();
        let connections = waiting.get_mut(key)?;
        let newest = connections.pop();
        if connections.is_empty() {
            waiting.remove(key);
        }
        newest.filter(|waiting| waiting.since.elapsed() < limits::POOL_IDLE)
    }

    fn put(&self, key: Key, connection: Connection) {
        let mut waiting = self.lock();
        if self.house.closing().is_cancelled() {
            return;
        }
        if waiting.len() >= limits::POOL_KEYS && !waiting.contains_key(&key) {
            return;
        }
        let connections = waiting.entry(key).or_default();
        if connections.len() < limits::POOL_PER_KEY {
            connections.push(Waiting { connection, since: Instant::now() });
        }
    }

    fn expire(&self) {
        self.lock().retain(|_, connections| {
            connections
                .retain_mut(|waiting| waiting.since.elapsed() < limits::POOL_IDLE && !waiting.connection.is_closed());
            !connections.is_empty()
        });
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Vec<Waiting>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: &Weak<Pool>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.expire();
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").finish_non_exhaustive()
    }
}
