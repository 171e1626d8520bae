//! The one task that writes: whatever waits goes into one transaction, so that many entries cost one wait for the disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::entry::Record;
use super::{Action, Actor, Entry, NotRecorded, Shared, limits};
use crate::store::{Store, StoreError};

/// Who waits for an entry.
pub(super) type Done = oneshot::Sender<Result<(), NotRecorded>>;

/// What the writer is asked for.
pub(super) enum Job {
    /// Write this, and tell who waits for it.
    Write(Box<Record>, Option<Done>),
    /// Write that entries were lost, and tell whether it could be written.
    Look(Done),
    /// Write what came before, and end.
    Stop(oneshot::Sender<()>),
}

pub(super) struct Writer {
    store: Store,
    shared: Arc<Shared>,
}

impl Writer {
    pub(super) fn new(store: Store, shared: Arc<Shared>) -> Self {
        Self { store, shared }
    }

    pub(super) async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(limits::BATCH);
        while jobs.recv_many(&mut batch, limits::BATCH).await > 0 {
            let stop = batch.iter().position(|job| matches!(job, Job::Stop(_)));
            let after = stop.map(|at| batch.split_off(at));
            self.write(std::mem::take(&mut batch)).await;
            if let Some(after) = after {
                self.shared.lose(&after);
                for job in after {
                    if let Job::Stop(done) = job {
                        // Who asked may have given up.
                        let _ = done.send(());
                    }
                }
                return;
            }
        }
    }

    async fn write(&self, batch: Vec<Job>) {
        if batch.is_empty() {
            return;
        }
        let lost = self.shared.lost.load(Ordering::Acquire);
        let mut records: Vec<&Record> = batch.iter().filter_map(Job::record).collect();
        let told = (lost > 0).then(|| {
            let entry = Entry::new(Action::AUDIT_LOST, Actor::system()).failed("the audit could not be written");
            entry.with("entries", lost).record(Timestamp::now())
        });
        records.extend(&told);
        match self.store.append_audit(&records).await {
            Ok(rows) => {
                self.shared.lost.fetch_sub(lost, Ordering::AcqRel);
                if self.shared.failing.swap(false, Ordering::AcqRel) {
                    tracing::warn!(lost, "the audit can be written again");
                }
                for row in rows {
                    // Nobody may be following.
                    let _ = self.shared.written.send(Arc::new(row));
                }
                self.shared.woken.notify_waiters();
                answer(batch, Ok(()));
            }
            Err(error) => {
                self.failed(&error);
                self.shared.lose(&batch);
                answer(batch, Err(NotRecorded));
            }
        }
    }

    fn failed(&self, error: &StoreError) {
        if !self.shared.failing.swap(true, Ordering::AcqRel) {
            let error = error.in_full();
            tracing::error!(error, "the audit cannot be written: what must stand in it is refused until it can");
        }
    }
}

impl Job {
    fn record(&self) -> Option<&Record> {
        match self {
            Self::Write(record, _) => Some(record),
            Self::Look(_) | Self::Stop(_) => None,
        }
    }
}

impl Shared {
    /// The log is the last place where these can be found.
    pub(super) fn lose(&self, jobs: &[Job]) {
        for record in jobs.iter().filter_map(Job::record) {
            self.lost.fetch_add(1, Ordering::AcqRel);
            self.lost_ever.fetch_add(1, Ordering::Relaxed);
            let Record { action, actor, target, result, details, .. } = record;
            tracing::error!(action, actor, target, result, details, "lost for the audit");
        }
    }
}

fn answer(batch: Vec<Job>, result: Result<(), NotRecorded>) {
    for job in batch {
        if let Job::Write(_, Some(done)) | Job::Look(done) = job {
            // Who waits may have given up.
            let _ = done.send(result);
        }
    }
}
