//! What passes through the server: each stream to a device is counted, can be ended from here, and tells its end here.

mod live;
mod stream;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linkspan_protocol::driver::Stream;
use linkspan_protocol::frame::Reset;

pub use self::live::{Ending, Live, Passage, StreamEnd};
pub use self::stream::Metered;

/// Knows all streams that are open now. Clones share what they know.
#[derive(Clone, Default)]
pub struct Traffic {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Arc<Live>>>,
}

impl Traffic {
    /// Puts a stream that was just opened under the meter.
    pub fn meter(&self, stream: Stream, passage: Passage) -> Metered {
        let live = Arc::new(Live::new(passage, stream.resetter()));
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        self.open_now().insert(number, live.clone());
        Metered::new(stream, live, number, self.clone())
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

    /// A stream has ended: whoever wants to know of each hears of it here, once.
    fn ended(&self, number: u64, end: &StreamEnd<'_>) {
        self.open_now().remove(&number);
        let Passage { who, device, service, .. } = end.passage;
        tracing::debug!(
            person = who.name, %device, %service, up = end.up, down = end.down, lasted = ?end.lasted, end = %end.ending,
            "stream ended"
        );
    }

    fn open_now(&self) -> MutexGuard<'_, HashMap<u64, Arc<Live>>> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Traffic").field("open", &self.open_now().len()).finish()
    }
}

#[cfg(test)]
mod tests;
