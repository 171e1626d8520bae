//! What an operator sees: liveness, readiness that tells the truth, and counters for Prometheus.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Collection;

use crate::link::registry::Registry;

/// Counters that the rooms of the server add to, and what is read off when somebody asks.
pub struct Metrics {
    /// Links that were admitted.
    pub links_admitted: Counter,
    /// Gateways that were refused.
    pub links_refused: Counter,
    gateways_online: Gauge,
    streams_open: Gauge<i64>,
    collection: Collection,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut collection = Collection::with_prefix("linkspan");
        let links_admitted = Counter::<u64, AtomicU64>::default();
        let links_refused = Counter::<u64, AtomicU64>::default();
        let gateways_online = Gauge::default();
        let streams_open = Gauge::default();
        collection.register("links_admitted", "Links of gateways that were admitted", links_admitted.clone());
        collection.register("links_refused", "Links that were refused", links_refused.clone());
        collection.register("gateways_online", "Gateways connected now", gateways_online.clone());
        collection.register("streams_open", "Streams to devices open now", streams_open.clone());
        Self { links_admitted, links_refused, gateways_online, streams_open, collection }
    }

    /// The numbers in the OpenMetrics text format.
    pub fn text(&self, links: &Registry) -> String {
        self.gateways_online.set(i64::try_from(links.gateways_online()).unwrap_or(i64::MAX));
        self.streams_open.set(i64::try_from(links.streams_open()).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.collection);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}
