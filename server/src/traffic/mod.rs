//! What passes through the server: each stream to a device is counted, can be ended from here, and tells its end here.

mod book;
mod keeper;
mod live;
mod meters;
mod stream;
mod way;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use linkspan_protocol::driver::Stream;
use linkspan_protocol::frame::Reset;
use linkspan_protocol::id::GatewayName;
use prometheus_client::registry::Registry as Collection;

use self::book::Book;
pub use self::book::{Level, Standing};
pub use self::live::{Ending, Live, Passage, StreamEnd};
use self::meters::Meters;
pub use self::stream::Metered;
use self::way::Way;
use crate::audit::{Audit, Streams};
use crate::store::{LinkCount, Month, TrafficSum};

/// Knows all streams that are open now, and what was carried this month. Clones share what they know.
#[derive(Clone)]
pub struct Traffic {
    inner: Arc<Inner>,
}

struct Inner {
    meters: Meters,
    zone: TimeZone,
    next: AtomicU64,
    names: RandomState,
    open: Mutex<HashMap<u64, Arc<Live>>>,
    book: Mutex<Book>,
    noted: Option<Streams>,
}

impl Traffic {
    /// Nothing carried yet; months begin and end in this zone. Streams are noted down in the audit, if there is one.
    pub fn new(zone: TimeZone, audit: Option<Audit>) -> Self {
        let book = Mutex::new(Book::new(Month::of(Timestamp::now(), &zone)));
        let noted = audit.map(Streams::new);
        Self {
            inner: Arc::new(Inner {
                meters: Meters::default(),
                zone,
                next: AtomicU64::new(0),
                names: RandomState::new(),
                open: Mutex::default(),
                book,
                noted,
            }),
        }
    }

    /// Puts a stream that was just opened, packed or not, under the meter.
    pub fn meter(&self, stream: Stream, packed: bool, passage: Passage) -> Metered {
        if let Some(noted) = &self.inner.noted {
            noted.begun(&passage);
        }
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let live = Arc::new(Live::new(passage, self.inner.names.hash_one(number), stream.resetter()));
        self.open_now().insert(number, live.clone());
        Metered::new(Way::new(stream, packed), live, number, self.clone())
    }

    /// What is noted down of streams, where anything is.
    pub fn noted(&self) -> Option<&Streams> {
        self.inner.noted.as_ref()
    }

    /// Ends at once each open stream that `which` picks, and says why to both its ends. Returns how many there were.
    ///
    /// A stream may be opened by somebody whose right to it is withdrawn in the same moment: withdraw first, then cut.
    pub fn cut(&self, why: &Reset, which: impl Fn(&Passage) -> bool) -> usize {
        let picked: Vec<Arc<Live>> = self.open().into_iter().filter(|live| which(&live.passage)).collect();
        picked.iter().for_each(|live| live.cut(why.clone()));
        picked.len()
    }

    /// The streams that are open now, in no order.
    pub fn open(&self) -> Vec<Arc<Live>> {
        self.open_now().values().cloned().collect()
    }

    /// How a gateway stands this month.
    pub fn standing(&self, gateway: &GatewayName) -> Standing {
        self.book().standing(gateway)
    }

    /// Why no stream to this gateway may be opened now, if so: its data is used up.
    pub fn refusal(&self, gateway: &GatewayName) -> Option<String> {
        let standing = self.standing(gateway);
        (standing.level == Level::Reached).then(|| keeper::used_up(&standing, &self.inner.zone))
    }

    /// Takes a gateway's word for what its link carried in a month.
    pub fn hear(&self, gateway: &GatewayName, month: Month, count: LinkCount) {
        self.book().hear(gateway, month, count);
    }

    /// The month it is now.
    pub fn month_now(&self) -> Month {
        Month::of(Timestamp::now(), &self.inner.zone)
    }

    /// Seconds by which the clock of the months' zone is ahead of UTC now.
    pub fn utc_offset(&self) -> i32 {
        self.inner.zone.to_offset(Timestamp::now()).seconds()
    }

    /// A stream has ended: whoever wants to know of each hears of it here, once.
    fn ended(&self, number: u64, live: &Live, end: &StreamEnd<'_>) {
        self.open_now().remove(&number);
        self.inner.meters.ended(end);
        if let Some(noted) = &self.inner.noted {
            noted.ended(end);
        }
        let mut book = self.book();
        let sum = TrafficSum { streams: 1, ..live.take() };
        book.add(end.passage, sum);
        drop(book);
        self.inner.meters.carried(sum);
        let Passage { who, device, service, .. } = end.passage;
        tracing::debug!(
            person = who.name, %device, %service, up = end.up, down = end.down, lasted = ?end.lasted, end = %end.ending,
            "stream ended"
        );
    }

    /// Has the counters shown to who collects them.
    pub fn register(&self, collection: &mut Collection) {
        self.inner.meters.register(collection);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open_now(&self) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").field("open", &self.open_now().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
