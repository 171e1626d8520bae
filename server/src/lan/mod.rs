//! What gateways tell of their LANs: taken within bounds, kept, and told to whom it concerns.

pub mod vendors;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::discovery::{DEVICES_MAX, FoundDevice, TEXT_MAX, WORD_MAX, bounded};
use tokio::time::Instant;

use self::vendors::Vendors;
use crate::events::{Events, Gateway, Looked, What};
use crate::rights::GatewayId;
use crate::store::{Store, StoreError, Telling};

/// Messages of one gateway in a minute: more than a good one has to say at its first time.
const MESSAGES: u32 = 120;
const MINUTE: Duration = Duration::from_secs(60);
/// New devices that one event tells of.
const TOLD_MAX: usize = 20;

/// Takes what gateways tell. Clones share what they know.
#[derive(Clone)]
pub struct Lans {
    store: Store,
    events: Events,
    vendors: Vendors,
    /// Since when, and how often, each gateway has spoken in this minute.
    pace: Arc<Mutex<HashMap<GatewayId, (Instant, u32)>>>,
}

/// What is new on a LAN, for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDevice {
    /// What it is known by.
    pub key: String,
    /// Its best name, if it has one.
    pub name: Option<String>,
    /// Its best address, if it has one.
    pub address: Option<String>,
}

impl Lans {
    /// Keeps it in this database, and tells there.
    pub fn new(store: Store, events: Events, vendors: Vendors) -> Self {
        Self { store, events, vendors, pace: Arc::default() }
    }

    /// Who made what.
    pub fn vendors(&self) -> Vendors {
        self.vendors.clone()
    }

    /// Whether a gateway that calls all of its LAN so must tell it anew.
    ///
    /// # Errors
    /// The database failed.
    pub async fn is_other(&self, gateway: &Gateway, digest: &str) -> Result<bool, StoreError> {
        Ok(self.store.lan_digest(gateway.id).await?.as_deref() != Some(digest))
    }

    /// Takes what a gateway tells, unless it tells too much.
    ///
    /// # Errors
    /// The database failed.
    pub async fn take(&self, gateway: &Gateway, mut told: Told) -> Result<(), StoreError> {
        if !self.may_speak(gateway.id) {
            tracing::debug!(gateway = %gateway.name, "a gateway tells too much of its LAN");
            return Ok(());
        }
        told.bound();
        let told = Telling {
            keys: told.keys,
            gone: told.gone,
            digest: told.digest,
            devices: told.devices.into_iter().map(|device| self.with_words(device)).collect(),
        };
        let new = self.store.take_found(gateway.id, &told, Timestamp::now()).await?;
        let of_key = |key: &String| {
            let device = told.devices.iter().map(|(device, _)| device).find(|device| device.key == *key)?;
            let first = |list: &[String]| list.first().cloned();
            Some(NewDevice { key: key.clone(), name: first(&device.names), address: first(&device.addresses) })
        };
        let new: Vec<_> = new.iter().filter_map(of_key).take(TOLD_MAX).collect();
        if !new.is_empty() {
            self.events.tell(What::DevicesFound(gateway.clone(), new));
        }
        Ok(())
    }

    /// A gateway has looked closer.
    pub fn looked(&self, gateway: &Gateway, looked: Looked) {
        if self.may_speak(gateway.id) {
            self.events.tell(What::LookedCloser(gateway.clone(), looked));
        }
    }

    /// A device, and what it is searched by.
    fn with_words(&self, device: FoundDevice) -> (FoundDevice, String) {
        let vendor = self.vendors.of(&device).unwrap_or_default();
        let mut words: Vec<&str> = vec![&device.key, &device.about, vendor];
        words.extend(device.names.iter().chain(&device.addresses).map(String::as_str));
        let words = words.join("\n").to_lowercase();
        (device, words)
    }

    fn may_speak(&self, gateway: GatewayId) -> bool {
        let now = Instant::now();
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        if !pace.contains_key(&gateway) {
            pace.retain(|_, (since, _)| since.elapsed() < MINUTE);
        }
        let (since, count) = pace.entry(gateway).or_insert((now, 0));
        if since.elapsed() >= MINUTE {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= MESSAGES
    }
}

/// What a gateway said, not yet within bounds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Told {
    pub(crate) keys: Option<Vec<String>>,
    pub(crate) devices: Vec<FoundDevice>,
    pub(crate) gone: Vec<String>,
    pub(crate) digest: Option<String>,
}

impl Told {
    fn bound(&mut self) {
        self.devices.truncate(DEVICES_MAX);
        self.devices.iter_mut().for_each(FoundDevice::bound);
        self.devices.retain(|device| !device.key.is_empty());
        for keys in self.keys.iter_mut().chain([&mut self.gone]) {
            keys.truncate(2 * DEVICES_MAX);
            keys.iter_mut().for_each(|key| *key = bounded(key, WORD_MAX));
        }
        self.digest = self.digest.take().map(|digest| bounded(&digest, TEXT_MAX));
    }
}

#[cfg(test)]
mod tests {
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::rights::TenantId;
    use crate::store::tests::fresh;
    use crate::store::{FoundSearch, FoundState};

    #[tokio::test]
    async fn a_hostile_gateway_is_kept_within_bounds_and_told_of_once() {
        let (_folder, store) = fresh().await;
        let name = "site1".parse().unwrap();
        let id = store.add_gateway(&name, &linkspan_protocol::id::Secret::new("s")).await.unwrap().unwrap();
        let gateway = Gateway { id, name, tenant: Some(TenantId::DEFAULT) };
        let events = Events::new(CancellationToken::new());
        let mut followed = events.follow(None);
        let lans = Lans::new(store.clone(), events, Vendors::new());
        let fake = |n: usize| FoundDevice {
            key: format!("mac:08:61:95:00:{:02x}:{:02x}{}", n / 256, n % 256, "x".repeat(500)),
            names: vec![format!("<script>{n}\u{202e}\u{1b}[2J{}", "n".repeat(5000)); 100],
            present: true,
            ..FoundDevice::default()
        };
        let told = || Told { devices: (0..2000).map(fake).collect(), digest: Some("d".into()), ..Told::default() };
        lans.take(&gateway, told()).await.unwrap();
        let (found, _) = store.found(TenantId::DEFAULT, &FoundSearch::default(), 0).await.unwrap();
        assert!(found.iter().all(|one| one.report.names.len() == 8 && one.report.names[0].len() <= TEXT_MAX));
        assert!(found.iter().all(|one| !one.report.names[0].chars().any(char::is_control)));
        assert_eq!(found[0].state, FoundState::New);
        let event = followed.coming.recv().await.unwrap();
        assert!(matches!(&event.what, What::DevicesFound(_, new) if new.len() == TOLD_MAX), "{event:?}");
        let search = FoundSearch { text: Some("rockwell".into()), ..FoundSearch::default() };
        assert!(!store.found(TenantId::DEFAULT, &search, 0).await.unwrap().0.is_empty(), "the vendor is searched too");
        assert!(!lans.is_other(&gateway, "d").await.unwrap());
        for n in 0..2 * MESSAGES {
            let told = Told { digest: Some(format!("{n}")), ..Told::default() };
            lans.take(&gateway, told).await.unwrap();
        }
        assert!(lans.is_other(&gateway, &format!("{}", 2 * MESSAGES - 1)).await.unwrap(), "it spoke too much");
    }
}
