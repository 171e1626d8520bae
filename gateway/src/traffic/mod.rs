//! The data that this router uses: counted as the carrier counts it, by month, told to the server, and capped.

mod calendar;
mod tally;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use linkspan_protocol::message::GatewayToServer;
use linkspan_protocol::text::size;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use self::calendar::Calendar;
use self::tally::Tally;
use crate::config::{Config, DataCap};
use crate::forward::Forwarder;
use crate::platform::tcp_info::{Counter, OnTheWire};

/// How often is looked while streams are open. A cap is overrun by what the line carries in this time at most.
const LOOK: Duration = Duration::from_secs(2);
/// How often the server is told while streams are open, and how soon after that at the end of the last one.
const TELL: Duration = Duration::from_secs(60);
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Bytes after which the file is written, and the time after which it is written if there are any: flash wears out. What
/// has passed since is lost when the process is killed or the power fails.
const WRITE_BYTES: u64 = 4 * 1024 * 1024;
const WRITE: Duration = Duration::from_hours(1);
/// Without any stream, only pings are to be counted.
const LOOK_IDLE: Duration = Duration::from_hours(6);

/// What was used, shared by those who count and those who ask. Plain mutexes: there is one thread.
pub(crate) struct Traffic {
    config: watch::Receiver<Arc<Config>>,
    state: Mutex<State>,
    told: watch::Sender<Option<GatewayToServer>>,
}

struct State {
    file: PathBuf,
    tally: Tally,
    calendar: Option<Calendar>,
    /// Bytes that passed before the month was known.
    early: OnTheWire,
    link: Option<(Counter, OnTheWire)>,
    /// The kernel does not count: all that is known is what streams carry.
    blind: bool,
    services: HashMap<String, (u64, u64)>,
    unwritten: u64,
    written: Instant,
    warned: bool,
}

/// What is known of a month.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub(crate) month: String,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) services: Vec<(String, u64, u64)>,
}

impl Traffic {
    /// Goes on with what the file says.
    pub(crate) fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        let file = config.borrow().traffic.file.clone();
        let state = State {
            tally: Tally::load(&file),
            file,
            calendar: None,
            early: OnTheWire::default(),
            link: None,
            blind: false,
            services: HashMap::new(),
            unwritten: 0,
            written: Instant::now(),
            warned: false,
        };
        Self { config, state: Mutex::new(state), told: watch::Sender::new(None) }
    }

    /// A link begins on this connection: it is counted until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>, socket: &TcpStream, (time, utc_offset_s): (u64, i32)) -> LinkGuard {
        let mut state = self.state();
        state.calendar = Some(Calendar::new(time, utc_offset_s, Instant::now()));
        state.link = Counter::of(socket).map(|counter| (counter, OnTheWire::default()));
        state.blind = state.link.is_none();
        if state.blind {
            log::debug!("this kernel does not count the bytes of a connection; only what streams carry is known");
        }
        drop(state);
        LinkGuard(self.clone())
    }

    /// What the server is to be told next; changes now and then while streams are open.
    pub(crate) fn told(&self) -> watch::Receiver<Option<GatewayToServer>> {
        self.told.subscribe()
    }

    /// Why no stream may be opened now, if so.
    pub(crate) fn refusal(&self) -> Option<String> {
        let cap = self.config.borrow().traffic.cap;
        let state = self.state();
        let month = state.current()?;
        let hard = cap.hard.filter(|hard| month.bytes() >= *hard)?;
        let (used, hard) = (size(month.bytes()), size(hard));
        Some(format!("{used} of {hard} are used in {}, the cap in the gateway's configuration", month.month))
    }

    /// This month, as it is now.
    pub(crate) fn used(&self, forwarder: &Forwarder) -> Used {
        let mut state = self.state();
        state.count(forwarder);
        let month = state.current().cloned().unwrap_or_default();
        let services = month.services.into_iter().map(|(name, (up, down))| (name, up, down)).collect();
        Used { month: month.month, sent: month.sent, received: month.received, services }
    }

    /// Counts, writes down, tells the server and obeys the cap, for ever.
    pub(crate) async fn keep(self: Arc<Self>, forwarder: Arc<Forwarder>) -> Result<(), String> {
        let mut last_told = Instant::now();
        let mut moved = 0;
        loop {
            let busy = forwarder.totals().open > 0;
            tokio::select! {
                () = sleep(if busy { LOOK } else { LOOK_IDLE }) => {}
                () = forwarder.opened_or_ended() => {}
            }
            self.look(&forwarder);
            let totals = forwarder.totals();
            let ended = totals.open == 0;
            let due = if ended { TELL_AGAIN } else { TELL };
            if totals.up + totals.down != moved && last_told.elapsed() >= due {
                moved = totals.up + totals.down;
                last_told = Instant::now();
                self.tell();
            }
        }
    }

    fn look(&self, forwarder: &Forwarder) {
        let cap = self.config.borrow().traffic.cap;
        let mut state = self.state();
        state.count(forwarder);
        state.warn(&cap);
        state.write_if_due();
        drop(state);
        match self.refusal() {
            Some(why) => forwarder.end_bulk(&why),
            None => forwarder.forgive(),
        }
    }

    fn tell(&self) {
        let state = self.state();
        if let Some(month) = state.current() {
            let (sent, received) = (month.sent, month.received);
            self.told.send_replace(Some(GatewayToServer::Traffic { month: month.month.clone(), sent, received }));
        }
    }

    /// Writes down what there is; for the end.
    pub(crate) fn save(&self, forwarder: &Forwarder) {
        let mut state = self.state();
        state.count(forwarder);
        state.write();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The link's connection is counted as long as this lives.
#[must_use]
pub(crate) struct LinkGuard(Arc<Traffic>);

impl Drop for LinkGuard {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.count_link();
        state.link = None;
    }
}

impl State {
    fn count(&mut self, forwarder: &Forwarder) {
        self.count_link();
        let Some(calendar) = self.calendar else { return };
        let name = calendar.month(Instant::now());
        for (service, (up, down)) in forwarder.carried() {
            let before = self.services.insert(service.clone(), (up, down)).unwrap_or_default();
            let more = (up.saturating_sub(before.0), down.saturating_sub(before.1));
            if more != (0, 0) {
                self.tally.month(&name).add_service(&service, more);
                if self.blind {
                    self.book(OnTheWire { sent: more.0, received: more.1 });
                }
            }
        }
    }

    /// The month it is, if anything was used in it; the last one that is known, as long as no server has told the time.
    fn current(&self) -> Option<&tally::Month> {
        match self.calendar {
            Some(calendar) => self.tally.find(&calendar.month(Instant::now())),
            None => self.tally.latest(),
        }
    }

    fn count_link(&mut self) {
        let Some((counter, before)) = &mut self.link else { return };
        let Some(now) = counter.read() else { return };
        let more = OnTheWire {
            sent: now.sent.saturating_sub(before.sent),
            received: now.received.saturating_sub(before.received),
        };
        *before = now;
        self.book(more);
    }

    fn book(&mut self, more: OnTheWire) {
        self.early.sent += more.sent;
        self.early.received += more.received;
        if let Some(calendar) = self.calendar {
            let wire = std::mem::take(&mut self.early);
            self.unwritten += wire.sent + wire.received;
            self.tally.month(&calendar.month(Instant::now())).add(wire);
        }
    }

    /// Says once in a month that the warning is reached.
    fn warn(&mut self, cap: &DataCap) {
        let Some(month) = self.current() else { return };
        let reached = [cap.warn, cap.hard].iter().flatten().any(|bound| month.bytes() >= *bound);
        if reached && !self.warned {
            log::warn!("data: {} are used in {}", size(month.bytes()), month.month);
        }
        self.warned = reached;
    }

    fn write_if_due(&mut self) {
        if self.unwritten >= WRITE_BYTES || self.unwritten > 0 && self.written.elapsed() >= WRITE {
            self.write();
        }
    }

    fn write(&mut self) {
        self.written = Instant::now();
        match self.tally.save(&self.file) {
            Ok(()) => self.unwritten = 0,
            Err(e) => log::warn!("{}: {e}; the data used is not written down", self.file.display()),
        }
    }
}
