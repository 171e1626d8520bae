//! The devices that were found on the LAN: made of what all sources claim, kept across restarts, bounded.

mod ledger;
mod merge;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkspan_protocol::discovery::{FoundDevice, FoundService};
use tokio::sync::watch;
use tokio::time::Instant;

pub(crate) use self::ledger::Kept;

use self::ledger::Ledger;
use crate::discovery::claim::{Claim, Mac, Spot};

/// After the start, what was known before is not taken for gone yet: the sources are only waking up.
const SETTLED_AFTER: Duration = Duration::from_secs(150);
/// Between two writings of the file: on most routers it is on flash memory.
const SAVE_EVERY: Duration = Duration::from_secs(60 * 60);

/// What is known of the LAN. Others see it through [`Inventory::watch`].
pub(crate) struct Inventory {
    /// None: it is not written.
    file: Option<PathBuf>,
    held: Mutex<Held>,
    devices: watch::Sender<Arc<Vec<FoundDevice>>>,
}

struct Held {
    ledger: Ledger,
    /// From then on, what nobody speaks of is gone.
    settled_at: Instant,
    /// When it may be written again, and whether there is anything new to write.
    save_at: Instant,
    unsaved: bool,
    interfaces: Vec<String>,
}

impl Inventory {
    /// Reads what was known before.
    pub(crate) fn load(file: PathBuf) -> Self {
        let ledger = Ledger::load(&file);
        let devices = watch::Sender::new(Arc::new(ledger.devices()));
        let now = Instant::now();
        let settled_at = now + SETTLED_AFTER;
        let interfaces = Vec::new();
        let held = Held { ledger, settled_at, save_at: now + SAVE_EVERY / 10, unsaved: false, interfaces };
        Self { file: Some(file), held: Mutex::new(held), devices }
    }

    /// What a file says, for somebody who wants to know what is there now; it is not written.
    pub(crate) fn look_into(file: &Path) -> Self {
        let mut inventory = Self::load(file.to_owned());
        inventory.file = None;
        let mut held = inventory.lock();
        held.settled_at = Instant::now();
        held.ledger.all_are_gone();
        drop(held);
        inventory
    }

    /// The interfaces that are looked at.
    pub(crate) fn interfaces(&self) -> Vec<String> {
        self.lock().interfaces.clone()
    }

    pub(crate) fn looks_at(&self, interfaces: Vec<String>) {
        self.lock().interfaces = interfaces;
    }

    /// All devices, whenever one has changed.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Vec<FoundDevice>>> {
        self.devices.subscribe()
    }

    /// All devices with the times at which they were seen.
    pub(crate) fn kept(&self) -> Vec<Kept> {
        self.lock().ledger.kept().to_vec()
    }

    /// Devices that were not taken, since there was no room.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().ledger.dropped
    }

    /// Takes what all sources say now.
    pub(crate) fn update(&self, claims: &[&Claim]) {
        let mut held = self.lock();
        let settled = held.settled_at <= Instant::now();
        let news = held.ledger.update(claims, (seconds(), settled));
        self.changed(held, news);
    }

    /// Takes what a closer look at an address has shown; it stays until the next look.
    pub(crate) fn identified(&self, spot: &Spot, services: Vec<FoundService>, about: Option<String>) {
        let mut held = self.lock();
        let news = held.ledger.identified(spot, services, about, seconds());
        self.changed(held, news);
    }

    /// The addresses of a device, by its key.
    pub(crate) fn addresses_of(&self, key: &str) -> Vec<Spot> {
        let devices = self.devices.borrow();
        let device = devices.iter().find(|device| device.key == key);
        device.into_iter().flat_map(|device| &device.addresses).filter_map(|text| text.parse().ok()).collect()
    }

    /// What the device at an address is known to offer.
    pub(crate) fn services_at(&self, spot: &Spot) -> Vec<FoundService> {
        let text = spot.to_string();
        let devices = self.devices.borrow();
        let device = devices.iter().find(|device| device.addresses.contains(&text));
        device.map(|device| device.services.clone()).unwrap_or_default()
    }

    /// The addresses at which an Ethernet device is now, the best one first.
    pub(crate) fn spots(&self, mac: Mac) -> Vec<Spot> {
        self.addresses_of(&merge::key_of(mac))
    }

    /// Writes the file now, if there is anything new.
    pub(crate) fn save(&self) {
        let Some(file) = &self.file else { return };
        let mut held = self.lock();
        if held.unsaved {
            held.unsaved = false;
            held.save_at = Instant::now() + SAVE_EVERY;
            if let Err(e) = held.ledger.save(file) {
                log::warn!("{}: {e}; what was found is forgotten at the next start", file.display());
            }
        }
    }

    fn changed(&self, mut held: MutexGuard<'_, Held>, news: bool) {
        held.unsaved |= news;
        let due = held.unsaved && held.save_at <= Instant::now();
        if news {
            self.devices.send_replace(Arc::new(held.ledger.devices()));
        }
        drop(held);
        if due {
            self.save();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
