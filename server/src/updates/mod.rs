//! Other versions of the program on gateways: signed programs that the server keeps, and their way there.

mod drive;
mod feed;
mod programs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use linkspan_protocol::update::UpdateState;
use tokio::sync::Notify;
use tokio::time::Instant;

pub use self::programs::{KeyError, NotAdded, PROGRAMS_MAX, Programs};
use crate::audit::Audit;
use crate::events::Events;
use crate::link::registry::Registry;
use crate::rights::GatewayId;
use crate::store::Store;
use crate::traffic::Traffic;

/// Within which a new program must have a link, unless asked otherwise.
pub const DEADLINE: Duration = Duration::from_secs(120);
/// The shortest and the longest such time, in seconds.
pub const DEADLINES: std::ops::RangeInclusive<u64> = 5..=3600;
/// Bytes per second to each gateway, unless asked otherwise: half a megabit.
pub const RATE: u32 = 64 * 1024;
/// The slowest and the fastest.
pub const RATES: std::ops::RangeInclusive<u32> = 1024..=16 * 1024 * 1024;

/// Looks after the programs of gateways. Clones share what they know.
#[derive(Clone)]
pub struct Updates {
    store: Store,
    registry: Registry,
    programs: Programs,
    traffic: Traffic,
    told: (Audit, Events),
    wake: Arc<Notify>,
    /// Gateways that have said in their session how they stand with their program.
    here: Arc<Mutex<HashMap<GatewayId, Here>>>,
}

/// A gateway that can become another program.
#[derive(Clone, Debug)]
struct Here {
    state: UpdateState,
    /// Somebody feeds it, or it is not fed again before then.
    not_before: Option<Instant>,
    feeding: bool,
}

impl Updates {
    /// Looks after the gateways of this database, which are reached through the registry.
    pub fn new(store: Store, registry: Registry, programs: Programs, traffic: Traffic, told: (Audit, Events)) -> Self {
        Self { store, registry, programs, traffic, told, wake: Arc::default(), here: Arc::default() }
    }

    /// A gateway begins a session: whether it can become another program, it is about to say.
    pub fn arrived(&self, gateway: GatewayId) {
        self.here().remove(&gateway);
    }

    fn here(&self) -> MutexGuard<'_, HashMap<GatewayId, Here>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
