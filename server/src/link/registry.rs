//! Which gateway is connected, and by which link: a map of handles behind a plain mutex.
//!
//! The newest link of a gateway wins, since after a hole in coverage the old one may look alive for minutes. The older
//! one is told so; it comes back *yielding* and is not let in while the newer one lives. Two processes with one identity
//! that fight all the same are slowed down to one change in [`TAKEOVER_PAUSE`].
//!
//! A gateway whose link was lost keeps its place while its session waits for the next link. To people it is connected as
//! long as it is away but [`BRIEFLY`], and offline from then on.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use linkspan_protocol::driver::{LinkHandle, ResumeError, Resumed, Stream, Target};
use linkspan_protocol::message::{Close, CloseReason, Resume, ServerToGateway};
use linkspan_protocol::mux;
use tokio::time::Instant;

use crate::store::GatewayId;

/// After another process took a gateway's place, a third change must wait this long.
pub const TAKEOVER_PAUSE: Duration = Duration::from_secs(30);

/// A gateway that has lost its link is back within this time, or it is worth telling people: new streams wait so long.
pub const BRIEFLY: Duration = Duration::from_secs(5);

/// Why no stream to a gateway was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The gateway is not connected.
    #[error("the gateway is offline")]
    Offline,
    /// The gateway carries as many streams as it may.
    #[error("the gateway carries {limit} streams, as many as it may")]
    StreamLimit {
        /// How many.
        limit: u32,
    },
}

/// Another process with the same identity is connected, and this one must not take its place now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("another gateway with this identity is connected")]
pub struct InUse;

/// Why a session does not go on over a new link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSession {
    /// This gateway has no session of that name, or none any more.
    #[error("there is no such session of this gateway")]
    Unknown,
    /// A later link goes on with it already.
    #[error("a later link goes on with the session")]
    Late,
    /// The counts of the two ends do not fit.
    #[error(transparent)]
    Counts(#[from] ResumeError),
}

/// A gateway that has proved its identity and wants to be the one that is reached.
#[derive(Debug)]
pub struct Candidate {
    /// Its link.
    pub link: LinkHandle,
    /// The name of its session.
    pub session: String,
    /// The random word of its process.
    pub instance: String,
    /// Whether it steps back for another one.
    pub yielding: bool,
    /// Where it calls from.
    pub peer: SocketAddr,
    /// What its proof counted under; see [`Registry::out_of_date`].
    pub epoch: i64,
}

/// What admission replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nobody was connected.
    First,
    /// An older link of the same process.
    Reconnected,
    /// A link of another process, at this address: perhaps a cloned identity.
    TookOver(SocketAddr),
}

/// The links that are up.
#[derive(Clone, Default)]
pub struct Registry {
    links: Arc<Mutex<Links>>,
}

#[derive(Default)]
struct Links {
    by_gateway: HashMap<GatewayId, Entry>,
    next: u64,
    /// The last change of identities that all links here were looked at for.
    change: i64,
}

struct Entry {
    number: u64,
    candidate: Candidate,
    since: Timestamp,
    taken_over: Option<Instant>,
    /// The latest attempt to go on with the session.
    attempt: u32,
}

impl Entry {
    fn is_away(&self) -> bool {
        self.candidate.link.detached_for().is_some_and(|away| away >= BRIEFLY)
    }
}

impl Registry {
    /// Opens a stream through a gateway.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(&self, gateway: GatewayId, target: Target) -> Result<Stream, OpenError> {
        // The handle is taken out first: opening takes the link's own lock.
        let link = self.lock().by_gateway.get(&gateway).map(|entry| entry.candidate.link.clone());
        let link = link.filter(|link| link.detached_for().is_none_or(|away| away < BRIEFLY));
        link.ok_or(OpenError::Offline)?.open(target).map_err(|error| match error {
            mux::OpenError::Closed => OpenError::Offline,
            mux::OpenError::StreamLimit { limit } => OpenError::StreamLimit { limit },
        })
    }

    /// Sends a gateway a control message; false if it is not connected.
    pub fn tell(&self, gateway: GatewayId, message: &ServerToGateway) -> bool {
        let link = self
            .lock()
            .by_gateway
            .get(&gateway)
            .filter(|entry| !entry.is_away())
            .map(|entry| entry.candidate.link.clone());
        link.is_some_and(|link| link.send(message).is_ok())
    }

    /// Since when a gateway is connected; `None` if it is not.
    pub fn online_since(&self, gateway: GatewayId) -> Option<Timestamp> {
        self.lock().by_gateway.get(&gateway).filter(|entry| !entry.is_away()).map(|entry| entry.since)
    }

    /// Gateways connected now.
    pub fn gateways_online(&self) -> usize {
        self.lock().by_gateway.values().filter(|entry| !entry.is_away()).count()
    }

    /// Those connected now, in no order.
    pub fn online(&self) -> Vec<GatewayId> {
        self.lock().by_gateway.iter().filter(|(_, entry)| !entry.is_away()).map(|(gateway, _)| *gateway).collect()
    }

    /// From now on, a proof that was looked up before this change must be looked at again.
    pub fn identities_changed(&self, change: i64) {
        self.lock().change = change;
    }

    /// The last such change.
    pub fn identity_change(&self) -> i64 {
        self.lock().change
    }

    /// Links whose proof counts under another number now, or whose gateway is gone.
    pub fn out_of_date(&self, epochs: &HashMap<GatewayId, i64>) -> Vec<(GatewayId, LinkHandle)> {
        let links = self.lock();
        let stale = links.by_gateway.iter().filter(|(id, entry)| epochs.get(id) != Some(&entry.candidate.epoch));
        stale.map(|(id, entry)| (*id, entry.candidate.link.clone())).collect()
    }

    /// Streams open now, over all links.
    pub fn streams_open(&self) -> usize {
        let links: Vec<LinkHandle> =
            self.lock().by_gateway.values().map(|entry| entry.candidate.link.clone()).collect();
        links.iter().map(LinkHandle::open_streams).sum()
    }

    /// Lets a gateway in, in place of an older link of its identity. It is reachable until the returned guard drops.
    ///
    /// # Errors
    /// [`InUse`].
    pub fn admit(
        &self,
        gateway: GatewayId,
        candidate: Candidate,
        now: Timestamp,
    ) -> Result<(Registered, Admission), InUse> {
        let mut links = self.lock();
        // One that has lost its link is in nobody's way.
        let lives = |entry: &&Entry| !entry.candidate.link.has_ended() && entry.candidate.link.detached_for().is_none();
        let older = links.by_gateway.get(&gateway).filter(lives);
        let (admission, taken_over) = match older {
            None => (Admission::First, None),
            Some(older) if older.candidate.instance == candidate.instance => (Admission::Reconnected, older.taken_over),
            Some(_) if candidate.yielding => return Err(InUse),
            Some(older) if older.taken_over.is_some_and(|at| at.elapsed() < TAKEOVER_PAUSE) => return Err(InUse),
            Some(older) => (Admission::TookOver(older.candidate.peer), Some(Instant::now())),
        };
        links.next += 1;
        let number = links.next;
        let older = links.by_gateway.insert(gateway, Entry { number, candidate, since: now, taken_over, attempt: 0 });
        drop(links);
        if let Some(older) = older {
            older.candidate.link.close(&Close {
                reason: CloseReason::Superseded,
                text: "a newer link of this gateway took over".into(),
                retry_between_s: None,
            });
        }
        Ok((Registered { registry: self.clone(), gateway, number }, admission))
    }

    /// Lets a gateway go on with its session over a new link, in place of the older one, which need not have been
    /// noticed dead. The session is looked up among those of the gateway that has proved its identity, and no others.
    ///
    /// # Errors
    /// [`NoSession`], and then nothing has changed.
    pub fn resume(
        &self,
        gateway: GatewayId,
        epoch: i64,
        resume: &Resume,
        peer: SocketAddr,
    ) -> Result<(Registered, LinkHandle, Resumed), NoSession> {
        let mut links = self.lock();
        let number = links.next + 1;
        let entry = links.by_gateway.get_mut(&gateway).ok_or(NoSession::Unknown)?;
        // Another epoch is another router under the same name.
        let is_its_own = entry.candidate.session == resume.session && entry.candidate.epoch == epoch;
        if !is_its_own || entry.candidate.link.has_ended() {
            return Err(NoSession::Unknown);
        }
        if (1..=entry.attempt).contains(&resume.attempt) {
            return Err(NoSession::Late);
        }
        let resumed = entry.candidate.link.resume(resume.received)?;
        (entry.number, entry.attempt, entry.candidate.peer) = (number, resume.attempt, peer);
        let link = entry.candidate.link.clone();
        links.next = number;
        drop(links);
        Ok((Registered { registry: self.clone(), gateway, number }, link, resumed))
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a link in the registry; dropping it takes the link out, unless a newer one stands in its place.
#[must_use]
pub struct Registered {
    registry: Registry,
    gateway: GatewayId,
    number: u64,
}

impl Registered {
    /// Whether this link is still the one that is reached.
    pub fn is_current(&self) -> bool {
        self.registry.lock().by_gateway.get(&self.gateway).is_some_and(|entry| entry.number == self.number)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut links = self.registry.lock();
        if links.by_gateway.get(&self.gateway).is_some_and(|entry| entry.number == self.number) {
            links.by_gateway.remove(&self.gateway);
        }
    }
}
