//! Named workers: each is started again when it fails, and an operator can see how each is.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep;

/// Pause before a failed worker is started again, doubled up to the last one for each failure.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LAST: Duration = Duration::from_secs(60);

type Work = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// How a worker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its name.
    pub name: String,
    /// It has done all it had to do.
    pub done: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Why it was, the last time.
    pub last_error: Option<String>,
}

/// Owns the workers.
pub(crate) struct Supervisor {
    tasks: JoinSet<Result<(), String>>,
    workers: HashMap<Id, usize>,
    make: Vec<Box<dyn FnMut() -> Work + Send>>,
    report: watch::Sender<Vec<WorkerReport>>,
}

impl Supervisor {
    pub(crate) fn new() -> Self {
        let (tasks, workers, make) = (JoinSet::new(), HashMap::new(), Vec::new());
        Self { tasks, workers, make, report: watch::Sender::new(Vec::new()) }
    }

    /// Starts a worker. One that returns `Ok` is done; after an error or a panic a new one is made after a pause.
    pub(crate) fn start<F>(&mut self, name: &str, mut make: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let worker = WorkerReport { name: name.to_owned(), done: false, restarts: 0, last_error: None };
        self.report.send_modify(|workers| workers.push(worker));
        self.make.push(Box::new(move || Box::pin(make())));
        self.spawn(self.make.len() - 1, Duration::ZERO);
    }

    /// How the workers are, in the order in which they were started.
    pub(crate) fn report(&self) -> watch::Receiver<Vec<WorkerReport>> {
        self.report.subscribe()
    }

    /// Starts again what failed; never returns. It may be dropped and called again at any time.
    pub(crate) async fn tend(&mut self) {
        loop {
            match self.tasks.join_next_with_id().await {
                Some(Ok((id, result))) => self.ended(id, result),
                Some(Err(e)) => self.ended(e.id(), Err(panic_text(e))),
                None => std::future::pending().await,
            }
        }
    }

    fn ended(&mut self, id: Id, result: Result<(), String>) {
        let Some(worker) = self.workers.remove(&id) else { return };
        let mut pause = None;
        self.report.send_modify(|workers| {
            let Some(report) = workers.get_mut(worker) else { return };
            match result {
                Ok(()) => report.done = true,
                Err(error) => {
                    let wait = PAUSE_FIRST.saturating_mul(1 << report.restarts.min(10)).min(PAUSE_LAST);
                    log::error!("{}: {error}; it is started again in {wait:?}", report.name);
                    report.restarts = report.restarts.saturating_add(1);
                    report.last_error = Some(error);
                    pause = Some(wait);
                }
            }
        });
        if let Some(pause) = pause {
            self.spawn(worker, pause);
        }
    }

    fn spawn(&mut self, worker: usize, pause: Duration) {
        let Some(make) = self.make.get_mut(worker) else { return };
        let work = make();
        let task = self.tasks.spawn(async move {
            sleep(pause).await;
            work.await
        });
        self.workers.insert(task.id(), worker);
    }
}

fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => {
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            format!("stopped by a bug: {}", text.unwrap_or("no message"))
        }
        Err(e) => e.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_fails_or_panics_is_started_again() {
        let mut supervisor = Supervisor::new();
        let mut starts = 0;
        supervisor.start("shaky", move || {
            starts += 1;
            let nth = starts;
            async move {
                match nth {
                    1 => Err("no luck".to_owned()),
                    2 => panic!("oh no"),
                    _ => Ok(()),
                }
            }
        });
        supervisor.start("steady", std::future::pending);
        let mut report = supervisor.report();
        let mut errors = Vec::new();
        loop {
            tokio::select! {
                () = supervisor.tend() => {}
                Ok(()) = report.changed() => {}
            }
            let shaky = report.borrow_and_update()[0].clone();
            errors.extend(shaky.last_error.clone());
            if shaky.done {
                assert_eq!(shaky.restarts, 2);
                break;
            }
        }
        errors.dedup();
        assert_eq!(errors, ["no luck", "stopped by a bug: oh no"]);
        let steady = report.borrow()[1].clone();
        assert_eq!(steady, WorkerReport { name: "steady".into(), done: false, restarts: 0, last_error: None });
    }
}
