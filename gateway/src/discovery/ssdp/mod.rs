//! SSDP (UPnP Device Architecture 2.0, chapter 1) and WS-Discovery (OASIS 1.1), in which cameras and recorders tell that they
//! are there: it is listened to both, and asked gently. No address that somebody names is ever fetched for it.

mod memory;
mod packet;
mod soap;
pub(super) mod text;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use linkspan_protocol::discovery::FoundService;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::memory::Memory;
use super::claim::{Claim, Source};
use super::multicast::{Group, Heard, Sockets};
use super::schedule::Schedule;
use super::{CALM, Ears, Wish, calm};

/// The group of both languages.
const V4: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x0c);
const SSDP_PORT: u16 = 1900;
const WS_PORT: u16 = 3702;
/// Between looks at what has expired and what must be asked.
const TICK: Duration = Duration::from_secs(1);
/// The pause after the first questions.
const ASK_FIRST: Duration = Duration::from_secs(4);
/// Packets that are read in a second; a LAN that says more is not listened to until the next one.
const PACKETS_A_SECOND: usize = 500;

/// What a packet says of its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Here(Here),
    /// Who bore this word of its own is gone.
    Gone(String),
}

/// Somebody is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Here {
    /// A UUID, without what stands before it.
    unique: Option<String>,
    /// It speaks of the device itself, not of a part of it.
    is_whole: bool,
    name: Option<String>,
    about: Option<String>,
    service: Option<FoundService>,
    /// For how long this holds, if it is said.
    holds: Option<Duration>,
}

/// Listens, asks and remembers. Never returns.
pub(super) async fn run(mut ears: Ears, claims: &watch::Sender<Vec<Claim>>) -> Result<(), String> {
    let mut engine = Engine {
        memory: Memory::default(),
        ssdp: Sockets::new(group("SSDP", SSDP_PORT)),
        ws: Sockets::new(group("WS-Discovery", WS_PORT)),
        wish: ears.wish(),
        schedule: Schedule::new(ASK_FIRST),
        budget: PACKETS_A_SECOND,
        news: false,
    };
    engine.look_around();
    let mut tick = Instant::now();
    loop {
        tokio::select! {
            heard = engine.ssdp.hear() => engine.hear(Source::Ssdp, &heard),
            heard = engine.ws.hear() => engine.hear(Source::WsDiscovery, &heard),
            () = sleep_until(tick) => {
                engine.tick(claims).await;
                tick = engine.next();
            }
            () = ears.changed() => {
                engine.wish = ears.wish();
                engine.look_around();
            }
        }
        if engine.is_busy() {
            tick = tick.min(Instant::now() + TICK);
        }
    }
}

fn group(language: &'static str, port: u16) -> Group {
    // Neither leaves the LAN, whatever stands between two parts of it.
    Group { language, v4: V4, v6: V6, port, hops: 1, asks_from_port: false }
}

struct Engine {
    memory: Memory,
    ssdp: Sockets,
    ws: Sockets,
    wish: Wish,
    schedule: Schedule,
    budget: usize,
    /// Something has changed since it was told.
    news: bool,
}

impl Engine {
    fn look_around(&mut self) {
        let [ssdp, ws] = [&mut self.ssdp, &mut self.ws].map(|sockets| sockets.serve(&self.wish.lan));
        if ssdp || ws {
            self.memory.keep_interfaces(&self.wish.lan);
            self.schedule = Schedule::new(ASK_FIRST);
            self.news = true;
        }
    }

    /// Whether something is to be told, or was heard in this second.
    fn is_busy(&self) -> bool {
        self.news || self.budget < PACKETS_A_SECOND
    }

    fn next(&self) -> Instant {
        let asks = if self.wish.probe { self.schedule.next() } else { calm(CALM) };
        asks.min(calm(CALM)).max(Instant::now() + TICK)
    }

    fn hear(&mut self, source: Source, heard: &Heard) {
        let Some(left) = self.budget.checked_sub(1) else { return };
        self.budget = left;
        let Some(interface) = self.ssdp.interface(heard.index).filter(|on| on.holds(heard.from)) else { return };
        let text = String::from_utf8_lossy(&heard.packet);
        let said = match source {
            Source::Ssdp => packet::said(&text, heard.from),
            _ => soap::said(&text, heard.from),
        };
        if let Some(said) = said {
            self.news |= self.memory.take(said, (source, interface, heard.from), Instant::now());
        }
    }

    async fn tick(&mut self, claims: &watch::Sender<Vec<Claim>>) {
        let now = Instant::now();
        self.budget = PACKETS_A_SECOND;
        self.news |= self.memory.expire(now);
        if self.news {
            self.news = false;
            let told = self.memory.claims();
            claims.send_if_modified(|before| {
                let news = *before != told;
                *before = told;
                news
            });
        }
        if self.wish.probe && self.schedule.is_due(now) {
            for interface in self.ssdp.interfaces() {
                self.ssdp.ask(interface, |group| vec![packet::question(group)]).await;
                self.ws.ask(interface, |_: SocketAddr| soap::questions()).await;
            }
        }
    }
}

/// A service at the place that a device names, if that is on the device itself.
fn service_at(kind: &str, place: &str, from: IpAddr) -> Option<FoundService> {
    let url = text::Url::read(place)?;
    // Whoever speaks of another machine's place is not believed.
    let elsewhere = url.host.parse::<IpAddr>().is_ok_and(|ip| ip != from);
    (!elsewhere).then(|| FoundService { kind: kind.to_owned(), port: url.port, text: url.short_path().to_owned() })
}
