//! The audit: who did what, from where, on what, with which result; written once, in order, in a chain that shows changes.
//!
//! [`Audit::note`] waits until the entry is on disk, and is for what changes who may do what. [`Audit::note_later`] never
//! waits, and is for what goes on anyway, like the end of a stream. When entries cannot be written, `note` fails and
//! [`Audit::usable`] says so beforehand, so that such changes are refused; streams go on, and what was not written of
//! them is counted and told in the log and, later, in the audit itself.

mod action;
mod chain;
mod entry;
mod flood;
pub mod forward;
pub mod keep;
mod limits;
mod run;
mod streams;
mod verify;
pub mod view;
mod writer;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::futures::Notified;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

pub use action::Action;
pub use chain::{Anchor, Hash, Mark, hash, next};
pub use entry::{Actor, ActorKind, Carried, Entry, Origin, Outcome, Record, Target, harmless};
pub use run::{Aside, AsideError};
pub use streams::Streams;
pub use verify::{Broken, Whole, verify};

use crate::store::Store;
use flood::Flood;
use writer::{Job, Writer};

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its place in the chain.
    pub mark: Mark,
    /// What it says.
    pub record: Record,
}

/// The entry could not be written. Changes are refused until entries can be written again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit cannot be written, so nothing is changed that must stand in it")]
pub struct NotRecorded;

/// Takes entries. Clones write into the same chain.
#[derive(Clone)]
pub struct Audit {
    inner: Arc<Inner>,
}

struct Inner {
    queue: mpsc::Sender<Job>,
    shared: Arc<Shared>,
    /// One at a time looks whether entries can be written again.
    looking: Semaphore,
    looked: Mutex<Option<Instant>>,
    strangers: Mutex<Flood>,
    denied: Mutex<Flood>,
    forwarding: Mutex<BTreeMap<&'static str, Forwarding>>,
    task: Mutex<Option<JoinSet<()>>>,
}

/// How it stands with a destination that entries are sent on to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// The last entry that it took.
    pub seq: i64,
    /// Why it does not take the next ones, if it does not.
    pub failing: Option<String>,
}

/// What the writer and those who write have in common.
struct Shared {
    failing: AtomicBool,
    lost: AtomicU64,
    lost_ever: AtomicU64,
    written: broadcast::Sender<Arc<Row>>,
    woken: Notify,
}

impl Audit {
    /// Starts the writer, a task that ends with [`Audit::close`] or with the last clone.
    pub fn start(store: Store) -> Self {
        let (queue, jobs) = mpsc::channel(limits::QUEUE);
        let (written, _) = broadcast::channel(limits::FOLLOWED);
        let shared = Arc::new(Shared {
            failing: AtomicBool::new(false),
            lost: AtomicU64::new(0),
            lost_ever: AtomicU64::new(0),
            written,
            woken: Notify::new(),
        });
        let mut task = JoinSet::new();
        task.spawn(Writer::new(store, shared.clone()).run(jobs));
        let (looking, looked, task) = (Semaphore::new(1), Mutex::default(), Mutex::new(Some(task)));
        let flood = || Mutex::new(Flood::new(std::time::Instant::now()));
        let (strangers, denied, forwarding) = (flood(), flood(), Mutex::default());
        Self { inner: Arc::new(Inner { queue, shared, looking, looked, strangers, denied, forwarding, task }) }
    }

    /// Writes an entry, and waits until it is on disk.
    pub async fn note(&self, entry: Entry) -> Result<(), NotRecorded> {
        let record = Box::new(entry.record(Timestamp::now()));
        self.written(|done| Job::Write(record, Some(done))).await
    }

    /// Writes an entry some time soon. If too many wait already, it is lost, and counted.
    pub fn note_later(&self, entry: Entry) {
        let job = Job::Write(Box::new(entry.record(Timestamp::now())), None);
        if let Err(TrySendError::Full(job) | TrySendError::Closed(job)) = self.inner.queue.try_send(job) {
            self.inner.shared.lose(std::slice::from_ref(&job));
        }
    }

    /// Writes down what a stranger tried, some time soon. Of a flood of attempts only some are written, with how many more
    /// there were.
    pub fn note_stranger(&self, entry: Entry) {
        self.note_some(&self.inner.strangers, entry);
    }

    /// Writes down what somebody tried in vain who has signed in, in the same way. Strangers who make a flood hide nothing
    /// of it, nor the other way round.
    pub fn note_denied(&self, entry: Entry) {
        self.note_some(&self.inner.denied, entry);
    }

    fn note_some(&self, flood: &Mutex<Flood>, entry: Entry) {
        let admitted = flood.lock().unwrap_or_else(PoisonError::into_inner).admit(std::time::Instant::now());
        match admitted {
            Some(0) => self.note_later(entry),
            Some(more) => self.note_later(entry.with("attempts_left_out", more)),
            None => {}
        }
    }

    /// Keeps in mind how it stands with sending entries on to a destination.
    pub(crate) fn tell_forwarding(&self, destination: &'static str, forwarding: Forwarding) {
        self.inner.forwarding.lock().unwrap_or_else(PoisonError::into_inner).insert(destination, forwarding);
    }

    /// How it stands with each destination that entries are sent on to.
    pub fn forwarding(&self) -> BTreeMap<&'static str, Forwarding> {
        self.inner.forwarding.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the last entry could be written.
    pub fn is_failing(&self) -> bool {
        self.inner.shared.failing.load(Ordering::Acquire)
    }

    /// Whether entries can be written: asked before something is changed that must stand here. While they cannot, one
    /// look a second is taken whether they can again.
    pub async fn usable(&self) -> Result<(), NotRecorded> {
        let Inner { shared, looking, looked, .. } = &*self.inner;
        if !shared.failing.load(Ordering::Acquire) {
            return Ok(());
        }
        let Ok(_turn) = looking.try_acquire() else { return Err(NotRecorded) };
        let last = *looked.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < limits::LOOK_AGAIN) {
            return Err(NotRecorded);
        }
        *looked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.written(Job::Look).await
    }

    /// Wakes who sends rows on: some may have been written by another process, or by other hands than the writer's.
    pub fn wake(&self) {
        self.inner.shared.woken.notify_waiters();
    }

    /// Resolves when rows may have been written.
    pub fn woken(&self) -> Notified<'_> {
        self.inner.shared.woken.notified()
    }

    /// Entries that were lost since the server started.
    pub fn lost(&self) -> u64 {
        self.inner.shared.lost_ever.load(Ordering::Relaxed)
    }

    /// The rows that are written from now on, in order. Who is slow misses some, and is told how many.
    pub fn follow(&self) -> broadcast::Receiver<Arc<Row>> {
        self.inner.shared.written.subscribe()
    }

    async fn written(&self, job: impl FnOnce(writer::Done) -> Job) -> Result<(), NotRecorded> {
        let (done, written) = oneshot::channel();
        let wait = async {
            self.inner.queue.send(job(done)).await.map_err(|_| NotRecorded)?;
            written.await.map_err(|_| NotRecorded)?
        };
        timeout(limits::NOTE, wait).await.unwrap_or(Err(NotRecorded))
    }

    /// Writes what waits, and ends the writer.
    pub async fn close(&self) {
        let (done, ended) = oneshot::channel();
        let close = async {
            // If the writer has ended already, there is nothing to wait for.
            let _ = self.inner.queue.send(Job::Stop(done)).await;
            let _ = ended.await;
        };
        if timeout(limits::NOTE, close).await.is_err() {
            tracing::error!("the audit did not end in time; entries may be lost");
        }
        self.inner.task.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests;
