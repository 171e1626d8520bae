//! Does what the server wants with another version of this program, one thing after the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::driver::{ResetReason, Stream};
use linkspan_protocol::update::{UpdateFailed, UpdateOffer, UpdateStep};
use nix::unistd::alarm;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::folder::{self, Slot};
use super::{Order, Program, TARGET};
use crate::config::Config;
use crate::config::release::{self, HEAD_MAX, Head};
use crate::link::Report;
use crate::traffic::Traffic;
use crate::version;

/// A stream on which nothing comes for so long is given up; the server makes another one.
const STALL: Duration = Duration::from_secs(300);
/// What a server may give as a deadline.
const DEADLINES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(3600));

/// The worker.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) program: Arc<Program>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) report: watch::Receiver<Report>,
    pub(super) traffic: Arc<Traffic>,
}

/// The check that failed, and what there is to say about it.
type Failed = (&'static str, String);

impl Worker {
    /// Works for ever.
    pub(super) async fn run(mut self) -> Result<(), String> {
        let end = self.program.launch.trial.as_ref().map(|trial| Instant::now() + trial.deadline);
        loop {
            let closed = closed(&self.config.borrow_and_update());
            self.program.state.send_if_modified(|state| {
                let other = state.closed != closed;
                state.closed = closed;
                other
            });
            let end = end.filter(|_| self.is_trying());
            tokio::select! {
                () = self.program.wanted() => self.follow().await,
                Ok(()) = self.config.changed() => {}
                () = due(end) => self.give_up(),
            }
        }
    }

    async fn follow(&self) {
        match self.program.next() {
            Some(Order::Offer(offer)) => self.offered(&offer),
            Some(Order::Confirm(order)) => self.confirmed(&order),
            Some(Order::Load(stream)) => self.load(stream).await,
            None => {}
        }
    }

    fn is_trying(&self) -> bool {
        self.program.state.borrow().step == Some(UpdateStep::Trying)
    }

    fn offered(&self, offer: &UpdateOffer) {
        if self.is_trying() {
            return log::warn!("the server offers a version while another one is on trial");
        }
        match self.accept(offer) {
            Ok(head) => {
                log::info!("version {} is to be fetched ({} kB)", head.version, head.size / 1000);
                self.program.state.send_modify(|state| {
                    (state.order, state.step) = (Some(offer.order.clone()), Some(UpdateStep::Loading));
                    state.failed = None;
                });
            }
            Err(failed) => self.refuse(&offer.order, failed),
        }
    }

    /// An offer is not taken; what comes in by an earlier one may go on.
    fn refuse(&self, order: &str, (check, text): Failed) {
        log::error!("an update is not taken ({check}): {text}");
        let folder = &self.program.launch.folder;
        let failed = UpdateFailed { order: order.to_owned(), check: check.to_owned(), text };
        folder.note_failed(&failed);
        let goes_on = folder.order(Slot::Loading).is_some();
        self.program.state.send_modify(|state| {
            if !goes_on {
                (state.order, state.step) = (None, None);
            }
            state.failed = Some(failed);
        });
    }

    /// Whether the gateway is to become that program. Nothing has changed before it is.
    fn accept(&self, offer: &UpdateOffer) -> Result<Head, Failed> {
        let folder = &self.program.launch.folder;
        let config = self.config.borrow().clone();
        if let Some(closed) = closed(&config) {
            return Err(("policy", closed));
        }
        let key = release::key(&config).map_err(|text| ("policy", text))?;
        if offer.head.len() > HEAD_MAX || offer.order.contains('\n') {
            return Err(("signature", "the head is too long".to_owned()));
        }
        let head = release::open(&offer.head, &key).map_err(|e| ("signature", e.to_string()))?;
        if head.target != TARGET {
            return Err(("target", format!("it is for {}, and this gateway is {TARGET}", head.target)));
        }
        check_version(&head)?;
        let same = folder.order(Slot::Loading).is_some_and(|(_, known)| known == head);
        // What came of another one makes room.
        let have = if same { folder.loaded() } else { folder.loaded().min(head.size) };
        folder.room_for(head.size - have.min(head.size)).map_err(|text| ("disk", text))?;
        if !same {
            folder.drop(Slot::Loading);
        }
        let order = folder::Order {
            order: offer.order.clone(),
            deadline: Duration::from_secs(offer.deadline_s.into()).clamp(DEADLINES.0, DEADLINES.1),
            tries: 0,
            installed: self.program.launch.installed.0.clone(),
            head: offer.head.clone(),
        };
        folder.write(Slot::Loading, &order).map_err(|e| ("disk", format!("it cannot be written: {e}")))?;
        Ok(head)
    }

    /// Takes the program from the server, from where it is here already.
    async fn load(&self, mut stream: Stream) {
        let folder = &self.program.launch.folder;
        let loading = folder.order(Slot::Loading).filter(|_| !self.is_trying());
        let Some((order, head)) = loading else {
            return stream.reset(ResetReason::NotListed, "no program is wanted");
        };
        if let Some(why) = self.traffic.refusal() {
            return stream.reset(ResetReason::DataCap, &why);
        }
        stream.confirm();
        match self.fetch(&mut stream, &head).await {
            Ok(true) => match self.put_on_trial(&order, &head) {
                Ok(()) => {
                    log::info!("version {} is here whole: it is tried now", head.version);
                    self.program.again.notify_one();
                }
                Err(failed) => self.fail(&order.order, failed),
            },
            Ok(false) => log::info!("{} of {} bytes of the update are here", folder.loaded(), head.size),
            Err(e) => self.fail(&order.order, ("disk", format!("it cannot be written: {e}"))),
        }
    }

    /// Whether it is here whole at the end.
    ///
    /// # Errors
    /// It cannot be written.
    async fn fetch(&self, stream: &mut Stream, head: &Head) -> io::Result<bool> {
        let mut incoming = self.program.launch.folder.append()?;
        let mut piece = vec![0; 16 * 1024];
        if stream.write_all(&incoming.length().to_be_bytes()).await.is_err() {
            return Ok(false);
        }
        while incoming.length() < head.size {
            let read = tokio::select! {
                read = timeout(STALL, stream.read(&mut piece)) => read,
                // Another stream, or another order: this one is worth nothing any more.
                () = self.program.wanted() => return Ok(false),
            };
            match read {
                Ok(Ok(length)) if length > 0 => incoming.write(piece.get(..length).unwrap_or_default())?,
                Ok(Ok(_) | Err(_)) | Err(_) => return Ok(false),
            }
        }
        // What it thinks of that is nobody's business any more.
        let _ended = stream.shutdown().await;
        Ok(true)
    }

    fn put_on_trial(&self, order: &folder::Order, head: &Head) -> Result<(), Failed> {
        let folder = &self.program.launch.folder;
        let disk = |e: io::Error| ("disk", format!("it cannot be put in place: {e}"));
        if !folder.is_whole(Slot::Loading, head).map_err(disk)? {
            return Err(("hash", "what came is not what was signed".to_owned()));
        }
        folder.promote(Slot::Loading, Slot::Next, order).map_err(disk)
    }

    /// From both ends all is well with the program on trial: it counts from now on.
    fn confirmed(&self, order: &str) {
        let launch = &self.program.launch;
        let Some(trial) = launch.trial.as_ref().filter(|trial| self.is_trying() && trial.order == order) else {
            return;
        };
        match launch.folder.promote(Slot::Next, Slot::Adopted, trial) {
            Ok(()) => {
                alarm::cancel();
                log::info!("version {} is kept", version());
                self.program.state.send_modify(|state| (state.order, state.step, state.failed) = (None, None, None));
            }
            Err(e) => {
                self.fail(order, ("disk", format!("it cannot be put in place: {e}")));
                self.program.again.notify_one();
            }
        }
    }

    /// The time of the trial is over.
    fn give_up(&self) {
        let Some(trial) = &self.program.launch.trial else { return };
        let last = self.report.borrow().last_failure.as_ref().map(|(failure, _)| failure.to_string());
        let why = last.unwrap_or_else(|| "the server did not confirm that it hears this gateway".to_owned());
        self.fail(&trial.order, ("link", format!("version {} has no link in time: {why}", version())));
        self.program.again.notify_one();
    }

    /// It came to nothing; whatever of it is here is forgotten.
    fn fail(&self, order: &str, (check, text): Failed) {
        log::error!("the update is given up ({check}): {text}");
        let folder = &self.program.launch.folder;
        folder.drop(Slot::Loading);
        folder.drop(Slot::Next);
        let failed = UpdateFailed { order: order.to_owned(), check: check.to_owned(), text };
        folder.note_failed(&failed);
        self.program.state.send_modify(|state| (state.order, state.step, state.failed) = (None, None, Some(failed)));
    }
}

/// Why no program is taken from the server, if so.
fn closed(config: &Config) -> Option<String> {
    if !config.policy.updates {
        return Some("the router's owner takes no program from the server ([policy] updates = false)".to_owned());
    }
    release::key(config).err()
}

fn check_version(head: &Head) -> Result<(), Failed> {
    let own: release::Version = version().parse().map_err(|e: release::ReleaseError| ("version", e.to_string()))?;
    if head.version > own || (head.older && head.version != own) {
        return Ok(());
    }
    Err(("version", format!("it is {}, and {own} runs; who signs it can allow older ones", head.version)))
}

/// Waits until then; for ever, if there is nothing to wait for.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
