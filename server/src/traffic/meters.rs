//! Counters for Prometheus: sums over all streams, told apart by how they ended and by nothing else.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::{Registry as Collection, Unit};

use super::StreamEnd;
use crate::store::TrafficSum;

/// How a stream ended: one of a dozen words.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct How {
    end: &'static str,
}

#[derive(Debug, Default)]
pub(super) struct Meters {
    up: Counter,
    down: Counter,
    ended: Family<How, Counter>,
}

impl Meters {
    pub(super) fn register(&self, collection: &mut Collection) {
        collection.register_with_unit("streams_up", "What streams carried from devices", Unit::Bytes, self.up.clone());
        collection.register_with_unit(
            "streams_down",
            "What streams carried to devices",
            Unit::Bytes,
            self.down.clone(),
        );
        collection.register("streams_ended", "Streams that have ended, by how", self.ended.clone());
    }

    pub(super) fn carried(&self, sum: TrafficSum) {
        self.up.inc_by(sum.up);
        self.down.inc_by(sum.down);
    }

    pub(super) fn ended(&self, end: &StreamEnd<'_>) {
        self.ended.get_or_create(&How { end: end.ending.word() }).inc();
    }
}
