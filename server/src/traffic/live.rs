//! A stream that is open: whose it is, what has passed, and the means to end it.

use std::fmt;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use linkspan_protocol::driver::{Line, Resetter};
use linkspan_protocol::frame::{Reset, ResetReason};
use linkspan_protocol::id::{DeviceName, GatewayName, ServiceName};
use linkspan_protocol::text::tame;

use crate::access::Principal;
use crate::edge::doors::Purpose;
use crate::rights::TenantId;
use crate::store::{GatewayId, TrafficSum};

/// What a stream is for.
#[derive(Clone, Debug)]
pub struct Passage {
    /// The person. A connection that pages share belongs to one session of one person.
    pub who: Principal,
    /// Where the request came from that the stream was opened for.
    pub client: IpAddr,
    /// The device.
    pub device: DeviceName,
    /// The device's service.
    pub service: ServiceName,
    /// Whose the gateway is.
    pub tenant: TenantId,
    /// The gateway in front of it.
    pub gateway: GatewayId,
    /// The gateway's name.
    pub gateway_name: GatewayName,
    /// A page, or a raw stream.
    pub purpose: Purpose,
}

/// An open stream, as everybody but its owner sees it.
pub struct Live {
    /// What it is for.
    pub passage: Passage,
    /// Names it for this run of the server, and tells nothing of how many others there are.
    pub name: u64,
    /// When it was opened.
    pub began: Timestamp,
    since: Instant,
    up: AtomicU64,
    down: AtomicU64,
    /// What of `up` and `down` is booked already; only touched with the book in hand.
    booked: (AtomicU64, AtomicU64),
    /// What had passed when the cap was first found reached; `u64::MAX` while it is not.
    at_cap: AtomicU64,
    cut: OnceLock<Reset>,
    resetter: Resetter,
}

impl Live {
    /// The link below it.
    pub(super) fn line(&self) -> Line {
        self.resetter.line()
    }

    /// Resolves when it is cut or reset after the device had said all it had to say.
    pub(super) async fn broken(&self) -> Reset {
        self.resetter.broken().await
    }

    pub(super) fn new(passage: Passage, name: u64, resetter: Resetter) -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            passage,
            name,
            began: Timestamp::now(),
            since: Instant::now(),
            up: zero(),
            down: zero(),
            booked: (zero(), zero()),
            at_cap: AtomicU64::new(u64::MAX),
            cut: OnceLock::new(),
            resetter,
        }
    }

    /// Bytes from the device.
    pub fn up(&self) -> u64 {
        self.up.load(Ordering::Relaxed)
    }

    /// Bytes to the device.
    pub fn down(&self) -> u64 {
        self.down.load(Ordering::Relaxed)
    }

    /// For how long it has been open.
    pub fn lasted(&self) -> Duration {
        self.since.elapsed()
    }

    /// Ends the stream at once: its readers, its writers and the gateway are told why. The first reason stays.
    pub fn cut(&self, why: Reset) {
        if self.cut.set(why.clone()).is_ok() {
            self.resetter.reset(why.reason, &why.text);
        }
    }

    /// Why it was cut, if it was.
    pub(super) fn was_cut(&self) -> Option<&Reset> {
        self.cut.get()
    }

    /// What has passed since the last call. Whoever calls holds the book that it goes into.
    pub(super) fn take(&self) -> TrafficSum {
        let (up, down) = (self.up(), self.down());
        let before = (self.booked.0.swap(up, Ordering::Relaxed), self.booked.1.swap(down, Ordering::Relaxed));
        TrafficSum { up: up.saturating_sub(before.0), down: down.saturating_sub(before.1), streams: 0 }
    }

    /// Bytes that passed since the cap was first found reached, which is now if it was not before.
    pub(super) fn carried_since_cap(&self) -> u64 {
        let all = self.up().saturating_add(self.down());
        if self.at_cap.load(Ordering::Relaxed) == u64::MAX {
            self.at_cap.store(all, Ordering::Relaxed);
        }
        all.saturating_sub(self.at_cap.load(Ordering::Relaxed))
    }

    /// The cap is not reached any more.
    pub(super) fn forgive(&self) {
        self.at_cap.store(u64::MAX, Ordering::Relaxed);
    }

    // Only the stream's owner counts, one call at a time: there is no addition by another that could be lost.
    pub(super) fn count_up(&self, bytes: usize) {
        self.up.store(self.up() + bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn set_passed(&self, up: u64, down: u64) {
        self.up.store(up, Ordering::Relaxed);
        self.down.store(down, Ordering::Relaxed);
    }

    pub(super) fn count_down(&self, bytes: usize) {
        self.down.store(self.down() + bytes as u64, Ordering::Relaxed);
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("passage", &self.passage).finish_non_exhaustive()
    }
}

/// The end of a stream.
#[derive(Debug)]
pub struct StreamEnd<'a> {
    /// What it was for.
    pub passage: &'a Passage,
    /// Bytes from the device.
    pub up: u64,
    /// Bytes to the device.
    pub down: u64,
    /// When it began.
    pub began: Timestamp,
    /// How long it was open.
    pub lasted: Duration,
    /// How it ended.
    pub ending: Ending,
}

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Both directions ended in order.
    Done,
    /// This side wanted no more of it.
    Left,
    /// It was ended from here, with this reason.
    Cut(Reset),
    /// The device, the gateway or the link ended it, with this reason.
    Reset(Reset),
}

impl Ending {
    /// One word, for logs and counters.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Left => "left",
            Self::Cut(_) => "cut",
            Self::Reset(reset) => match reset.reason {
                ResetReason::Refused
                | ResetReason::Unreachable
                | ResetReason::TimedOut
                | ResetReason::NameNotFound
                | ResetReason::DeviceReset => "device-failed",
                ResetReason::LinkLost => "link-lost",
                ResetReason::Idle => "idle",
                ResetReason::NotListed => "not-listed",
                ResetReason::DataCap => "data-cap",
                ResetReason::Cancelled
                | ResetReason::StreamLimit
                | ResetReason::Protocol
                | ResetReason::Stopping
                | ResetReason::Internal
                | ResetReason::Ended
                | ResetReason::Unknown(_) => "gateway-ended",
            },
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done | Self::Left => f.write_str(self.word()),
            Self::Cut(reset) | Self::Reset(reset) => write!(f, "{}: {}", self.word(), tame(&reset.to_string())),
        }
    }
}
