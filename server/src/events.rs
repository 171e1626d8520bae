//! What has just happened, for whoever follows: gateways that come and go, devices, entries of the audit. The last ones are
//! kept, so that who was away for a moment misses nothing.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use linkspan_protocol::id::{DeviceName, GatewayName};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::audit::{Audit, Row};
use crate::lan::NewDevice;
use crate::rights::{GatewayId, TenantId};

/// Events that are kept for who comes back, and that who follows may be behind.
const KEPT: usize = 1024;

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A gateway's link began.
    GatewayConnected(Gateway),
    /// A gateway's link ended.
    GatewayDisconnected(Gateway),
    /// The devices of a gateway are not what they were.
    DevicesChanged(Gateway, Vec<DeviceName>),
    /// A gateway lives by another configuration, something became of one that was sent to it, or what it has for itself is
    /// another.
    ConfigChanged(Gateway),
    /// A template of this organisation was written or removed.
    TemplateChanged(TenantId, String),
    /// Something became of another version of a gateway's program.
    GatewayUpdated(Gateway),
    /// A gateway has found devices on its LAN that nobody has decided about yet.
    DevicesFound(Gateway, Vec<NewDevice>),
    /// A gateway has looked closer, as it was asked.
    LookedCloser(Gateway, Looked),
    /// An entry of the audit was written.
    Audited(Arc<Row>),
}

/// What came of a closer look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// The request.
    pub request: u64,
    /// Addresses that were looked at.
    pub looked: u32,
    /// Those at which something was found.
    pub found: u32,
    /// Why it was not looked, if so.
    pub refused: Option<String>,
}

/// The gateway it happened to.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// In the database.
    pub id: GatewayId,
    /// Its name.
    pub name: GatewayName,
    /// Whose it is, if that is known.
    pub tenant: Option<TenantId>,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Counts up from the start of the server. Nobody is told: it says how much happens to others.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// Tells everybody who follows. Clones tell the same.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    /// Ends what follows.
    closing: CancellationToken,
    /// Names events, in this run of the server only.
    names: RandomState,
    kept: Mutex<VecDeque<Arc<Event>>>,
    told: broadcast::Sender<Arc<Event>>,
}

/// What somebody follows: first what they have missed, then what comes.
pub struct Followed {
    /// What they have missed.
    pub missed: Vec<Arc<Event>>,
    /// Whether there was more than is kept, or another run of the server: they must look at everything anew.
    pub gap: bool,
    /// What comes.
    pub coming: broadcast::Receiver<Arc<Event>>,
}

impl Events {
    /// Nothing has happened yet; who follows stops when `closing` is cancelled.
    pub fn new(closing: CancellationToken) -> Self {
        let (names, told) = (RandomState::new(), broadcast::channel(KEPT).0);
        let inner = Inner { closing, names, kept: Mutex::default(), told };
        Self { inner: Arc::new(inner) }
    }

    /// This has happened.
    pub fn tell(&self, what: What) {
        let mut kept = self.kept();
        let number = kept.back().map_or(1, |last| last.number + 1);
        let event = Arc::new(Event { number, at: Timestamp::now(), what });
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Under the lock, so that everybody hears of events in the order of their numbers. Nobody may be following.
        let _ = self.inner.told.send(event);
    }

    /// Follows from after the event with this id on; from now on, if there is none.
    pub fn follow(&self, last: Option<&str>) -> Followed {
        let kept = self.kept();
        let coming = self.inner.told.subscribe();
        let Some(last) = last else { return Followed { missed: Vec::new(), gap: false, coming } };
        // What is too old to be kept, and what another run of the server has told of, is not found.
        let Some(place) = kept.iter().position(|event| self.id(event) == last) else {
            return Followed { missed: Vec::new(), gap: true, coming };
        };
        Followed { missed: kept.iter().skip(place + 1).cloned().collect(), gap: false, coming }
    }

    /// Tells of each entry of the audit, until the end.
    pub async fn tell_audit(self, audit: Audit) {
        let mut rows = audit.follow();
        loop {
            let row = tokio::select! {
                row = rows.recv() => row,
                () = self.inner.closing.cancelled() => return,
            };
            match row {
                Ok(row) => self.tell(What::Audited(row)),
                // The audit itself has them; only who follows misses some.
                Err(RecvError::Lagged(rows)) => tracing::debug!(rows, "too many entries at once to tell of each"),
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Cancelled when everybody who follows must stop.
    pub fn closing(&self) -> &CancellationToken {
        &self.inner.closing
    }

    /// How an event is called by who follows; from one such name no other can be told.
    pub fn id(&self, event: &Event) -> String {
        format!("{:016x}", self.inner.names.hash_one(event.number))
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.inner.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn what() -> What {
        What::GatewayConnected(Gateway {
            id: GatewayId(7),
            name: "site12".parse().unwrap(),
            tenant: Some(TenantId::DEFAULT),
        })
    }

    #[test]
    fn who_was_away_gets_what_was_missed_and_is_told_of_a_gap() {
        let events = Events::new(CancellationToken::new());
        for _ in 0..3 {
            events.tell(what());
        }
        let ids: Vec<_> = events.kept().iter().map(|event| events.id(event)).collect();
        let rest = events.follow(Some(&ids[1]));
        assert_eq!((rest.missed.len(), rest.gap), (1, false));
        let none = events.follow(Some(&ids[2]));
        assert_eq!((none.missed.len(), none.gap), (0, false));
        assert_eq!(events.follow(None).missed.len(), 0);
        for strange in ["", "x-1", "1", "0000000000000001", &format!("{}0", ids[0])] {
            let followed = events.follow(Some(strange));
            assert_eq!((followed.missed.len(), followed.gap), (0, true), "{strange}");
        }
        for _ in 0..KEPT {
            events.tell(what());
        }
        let followed = events.follow(Some(&ids[1]));
        assert_eq!((followed.missed.len(), followed.gap), (0, true), "too long ago");
    }

    /// Whoever follows sees events of their own organisation; how many others there were in between is not theirs to know.
    #[test]
    fn names_do_not_count() {
        let (one, other) = (Events::new(CancellationToken::new()), Events::new(CancellationToken::new()));
        for events in [&one, &other] {
            events.tell(what());
            events.tell(what());
        }
        let names = |events: &Events| events.kept().iter().map(|event| events.id(event)).collect::<Vec<_>>();
        assert_ne!(names(&one), names(&other));
        let number = |name: &str| u64::from_str_radix(name, 16).unwrap();
        assert_ne!(number(&names(&one)[0]).abs_diff(number(&names(&one)[1])), 1);
    }

    #[tokio::test]
    async fn who_follows_hears_of_each_once_and_in_order() {
        let events = Events::new(CancellationToken::new());
        events.tell(what());
        events.tell(what());
        let first = events.id(&events.kept()[0].clone());
        let mut followed = events.follow(Some(&first));
        events.tell(what());
        assert_eq!(followed.missed.len(), 1);
        assert_eq!(followed.coming.recv().await.unwrap().number, 3);
        assert!(followed.coming.try_recv().is_err());
    }
}
