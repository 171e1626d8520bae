//! Finds what is on the LAN: listens first, asks gently, and looks closer only when a person wants it.
//!
//! Each source says what it knows as claims; the inventory makes devices of them. Nothing that is found here can be reached:
//! only what the configuration lists can.

pub(crate) mod claim;
pub mod command;
pub(crate) mod identify;
mod lan;
mod leases;
#[cfg(feature = "mdns")]
pub(crate) mod mdns;
#[cfg(any(feature = "mdns", feature = "ssdp"))]
mod multicast;
#[cfg(feature = "netlink")]
mod neighbours;
#[cfg(any(feature = "mdns", feature = "ssdp"))]
mod schedule;
#[cfg(feature = "ssdp")]
mod ssdp;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::claim::Claim;
use self::identify::Desk;
use self::lan::{Interface, Lan};
#[cfg(feature = "mdns")]
use self::mdns::{Mdns, Names};
use crate::config;
use crate::inventory::Inventory;

/// Between looks of any source at a LAN on which nothing happens.
const CALM: Duration = Duration::from_secs(15);
/// What comes in bursts is put together at once.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two looks at what the sources say, if nothing else happens: what is gone is noticed.
const MERGE_EVERY: Duration = Duration::from_secs(60);

/// The next moment to look, on a LAN on which nothing happens. It is the same for all sources, so that the processor sleeps in
/// between.
fn calm(every: Duration) -> Instant {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let now = Instant::now();
    let began = *BEGAN.get_or_init(|| now);
    let passed = now.saturating_duration_since(began).as_secs() / every.as_secs().max(1);
    began + every * u32::try_from(passed + 1).unwrap_or(u32::MAX)
}

/// What is to be looked at now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Wish {
    pub(crate) lan: Vec<Interface>,
    /// Whether anything may be sent.
    pub(crate) probe: bool,
    /// Whether it may be looked closer when the server asks.
    pub(crate) identify: bool,
    pub(crate) lease_files: Vec<std::path::PathBuf>,
}

/// How a source hears what is wished.
#[derive(Clone, Debug)]
pub(crate) struct Ears(watch::Receiver<Wish>);

impl Ears {
    pub(crate) fn wish(&mut self) -> Wish {
        self.0.borrow_and_update().clone()
    }

    /// For ever, once nobody wishes anything.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

/// The worker: all sources, and the inventory that they fill.
#[derive(Clone)]
pub(crate) struct Discovery {
    /// What the configuration says now.
    pub(crate) settings: Arc<dyn Fn() -> config::Discovery + Send + Sync>,
    #[cfg(feature = "mdns")]
    pub(crate) names: Names,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) desk: Arc<Desk>,
}

impl Discovery {
    /// Never returns, unless a source fails.
    pub(crate) async fn run(self) -> Result<(), String> {
        let wishes = watch::Sender::new(Wish::default());
        let ears = || Ears(wishes.subscribe());
        let sources = Sources::default();
        let source = async {
            tokio::select! {
                ended = leases::run(ears(), &sources.leases) => ended,
                ended = Self::neighbours(ears(), &sources) => ended,
                ended = self.mdns(ears(), &sources) => ended,
                ended = Self::ssdp(ears(), &sources) => ended,
                ended = identify::run(ears(), &self.desk, &self.inventory) => ended,
            }
        };
        let mut lan = Lan::default();
        let look = async {
            loop {
                let wish = wish(&(self.settings)(), &mut lan);
                wishes.send_if_modified(|before| {
                    let news = *before != wish;
                    if news {
                        self.tell(&wish);
                    }
                    *before = wish;
                    news
                });
                sleep_until(calm(CALM)).await;
            }
        };
        tokio::select! {
            ended = source => ended,
            () = look => Ok(()),
            () = merge(&sources, &self.inventory, wishes.subscribe()) => Ok(()),
        }
    }

    fn tell(&self, wish: &Wish) {
        let names: Vec<_> = wish.lan.iter().map(|interface| interface.name.to_string()).collect();
        if self.inventory.interfaces() != names {
            match &*names.join(", ") {
                "" => log::info!("no LAN is looked at"),
                names => log::info!("devices are looked for on {names}"),
            }
            self.inventory.looks_at(names);
        }
    }

    #[cfg(feature = "mdns")]
    async fn mdns(&self, ears: Ears, sources: &Sources) -> Result<(), String> {
        Mdns { names: self.names.clone(), ears, claims: sources.mdns.clone() }.run().await
    }

    #[cfg(not(feature = "mdns"))]
    async fn mdns(&self, _: Ears, _: &Sources) -> Result<(), String> {
        std::future::pending().await
    }

    #[cfg(feature = "ssdp")]
    async fn ssdp(ears: Ears, sources: &Sources) -> Result<(), String> {
        ssdp::run(ears, &sources.ssdp).await
    }

    #[cfg(not(feature = "ssdp"))]
    async fn ssdp(_: Ears, _: &Sources) -> Result<(), String> {
        std::future::pending().await
    }

    #[cfg(feature = "netlink")]
    async fn neighbours(ears: Ears, sources: &Sources) -> Result<(), String> {
        neighbours::run(ears, sources).await
    }

    #[cfg(not(feature = "netlink"))]
    async fn neighbours(_: Ears, _: &Sources) -> Result<(), String> {
        std::future::pending().await
    }
}

fn wish(wanted: &config::Discovery, lan: &mut Lan) -> Wish {
    if !wanted.enabled {
        return Wish::default();
    }
    Wish {
        lan: lan.interfaces(&wanted.interfaces),
        probe: wanted.probe,
        identify: wanted.identify,
        lease_files: wanted.lease_files.clone(),
    }
}

/// What each source says now.
#[derive(Default)]
pub(crate) struct Sources {
    leases: watch::Sender<Vec<Claim>>,
    neighbours: watch::Sender<Vec<Claim>>,
    mdns: watch::Sender<Vec<Claim>>,
    ssdp: watch::Sender<Vec<Claim>>,
}

impl Sources {
    fn all(&self) -> [&watch::Sender<Vec<Claim>>; 4] {
        [&self.leases, &self.neighbours, &self.mdns, &self.ssdp]
    }

    /// Has somebody look at all that is said; nothing is copied for it.
    fn look(&self, look: impl FnOnce(&[&Claim])) {
        let said = self.all().map(|source| source.borrow());
        look(&said.iter().flat_map(|claims| claims.iter()).collect::<Vec<_>>());
    }
}

/// Puts together what the sources say, whenever one has news.
async fn merge(sources: &Sources, inventory: &Inventory, mut wishes: watch::Receiver<Wish>) {
    let mut heard = sources.all().map(watch::Sender::subscribe);
    loop {
        // Without a LAN nothing is gone: it is only not looked at.
        if !wishes.borrow_and_update().lan.is_empty() {
            sources.look(|claims| inventory.update(claims));
        }
        let [leases, neighbours, mdns, ssdp] = &mut heard;
        tokio::select! {
            () = sleep_until(calm(MERGE_EVERY)) => continue,
            Ok(()) = leases.changed() => {}
            Ok(()) = neighbours.changed() => {}
            Ok(()) = mdns.changed() => {}
            Ok(()) = ssdp.changed() => {}
            Ok(()) = wishes.changed() => {}
        }
        sleep(SETTLE).await;
        heard.iter_mut().for_each(watch::Receiver::mark_unchanged);
    }
}
