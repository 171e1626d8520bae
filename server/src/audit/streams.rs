//! What is noted down of streams: each raw stream's beginning and end; of pages, that somebody uses them, and what each
//! connection to the device carried.

use std::time::Duration;

use linkspan_protocol::id::{DeviceName, GatewayName};
use moka::sync::Cache;

use super::{Action, Audit, Carried, Entry, Origin, Target};
use crate::access::Principal;
use crate::edge::doors::Purpose;
use crate::traffic::{Ending, Passage, StreamEnd};

/// Somebody who looks at the same pages for so long uses them once.
const SAME_VISIT: Duration = Duration::from_secs(15 * 60);
/// Visits to pages that are remembered at once.
const REMEMBERED: u64 = 50_000;

/// Notes streams down; never waits.
pub struct Streams {
    audit: Audit,
    visits: Cache<String, ()>,
}

impl Streams {
    /// Into this audit.
    pub fn new(audit: Audit) -> Self {
        Self { audit, visits: Cache::builder().max_capacity(REMEMBERED).time_to_idle(SAME_VISIT).build() }
    }

    /// A stream begins.
    pub fn begun(&self, passage: &Passage) {
        let action = match passage.purpose {
            Purpose::Stream => Action::STREAM_BEGIN,
            Purpose::Page if self.is_new_visit(passage) => Action::PAGE_OPEN,
            Purpose::Page => return,
        };
        self.audit.note_later(entry(action, passage));
    }

    /// A stream was wished for, and is not theirs to have.
    pub fn denied(&self, passage: &Passage) {
        self.audit.note_denied(not_begun(passage).denied("not allowed"));
    }

    /// A stream could not be opened. Somebody may try again and again.
    pub fn failed(&self, passage: &Passage, why: &str) {
        self.audit.note_denied(not_begun(passage).failed(why));
    }

    /// Somebody asked for a device that they may not even know of.
    pub fn unknown(&self, who: &Principal, gateway: &GatewayName, device: &DeviceName) {
        let entry = Entry::new(Action::ACCESS_DENY, who).on(Target::device(gateway, device));
        self.audit.note_denied(entry.denied("may not know of this device"));
    }

    /// A stream has ended.
    pub fn ended(&self, end: &StreamEnd<'_>) {
        let action = match end.passage.purpose {
            Purpose::Stream => Action::STREAM_END,
            Purpose::Page => Action::PAGE_CLOSE,
        };
        let carried = Carried { up: end.up, down: end.down, duration: end.lasted };
        let entry = entry(action, end.passage).carried(carried).with("end", end.ending.word());
        self.audit.note_later(match &end.ending {
            Ending::Done | Ending::Left => entry,
            Ending::Cut(_) => entry.denied(end.ending.to_string()),
            Ending::Reset(_) => entry.failed(end.ending.to_string()),
        });
    }

    fn is_new_visit(&self, passage: &Passage) -> bool {
        let Passage { who, device, service, .. } = passage;
        let key = format!("{:?}\0{device}\0{service}", who.credential);
        self.visits.entry(key).or_insert(()).is_fresh()
    }
}

fn not_begun(passage: &Passage) -> Entry {
    let action = match passage.purpose {
        Purpose::Stream => Action::STREAM_BEGIN,
        Purpose::Page => Action::PAGE_OPEN,
    };
    entry(action, passage)
}

fn entry(action: Action, passage: &Passage) -> Entry {
    let Passage { who, client, device, service, gateway_name, .. } = passage;
    let origin = Origin { address: Some(*client), client: None };
    Entry::new(action, who).from(&origin).on(Target::service(gateway_name, device, service))
}
