//! Multicast DNS (RFC 6762) and DNS-SD (RFC 6763): what devices say of themselves, and names under `.local`.

mod memory;
mod packet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::memory::{ALL_KINDS, Memory};
use self::packet::{A, AAAA, PTR};
use super::claim::{Claim, Spot};
use super::lan::multicasting;
use super::multicast::{Group, Heard, Sockets};
use super::schedule::Schedule;
use super::{CALM, Ears, Wish, calm};

/// Names under `.local` that are looked for at once.
const WANTED_MAX: usize = 64;
/// Between looks at what has expired and what must be asked, while anything happens.
const TICK: Duration = Duration::from_secs(1);
/// The pause after the first questions for all kinds.
const ASK_FIRST: Duration = Duration::from_secs(1);
/// RFC 6762, sections 3 and 11.
const GROUP: Group = Group {
    language: "multicast DNS",
    v4: Ipv4Addr::new(224, 0, 0, 251),
    v6: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb),
    port: 5353,
    hops: 255,
    asks_from_port: true,
};
/// Questions in a second and on an interface, for what is missing.
const QUESTIONS: usize = 20;
/// Records that are taken in a second; a LAN that says more is not listened to until the next one.
const RECORDS_A_SECOND: usize = 5000;

/// Names that are looked for, and their addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    wanted: watch::Sender<BTreeSet<Box<str>>>,
    found: watch::Sender<Arc<BTreeMap<Box<str>, BTreeSet<Spot>>>>,
}

impl Names {
    /// The addresses of a name, once somebody on the LAN has answered for it. From then on they are kept fresh.
    pub(crate) async fn look_up(&self, name: &str, deadline: Instant) -> Option<BTreeSet<Spot>> {
        let name = name.trim_end_matches('.').to_lowercase();
        self.wanted.send_if_modified(|wanted| wanted.len() < WANTED_MAX && wanted.insert(name.as_str().into()));
        let mut found = self.found.subscribe();
        let known = |found: &Arc<BTreeMap<Box<str>, BTreeSet<Spot>>>| found.contains_key(&*name);
        let answer = tokio::time::timeout_at(deadline, found.wait_for(known)).await;
        let spots = answer.ok().and_then(Result::ok).and_then(|found| found.get(&*name).cloned());
        if spots.is_none() {
            // Asked anew next time, with patience anew.
            self.wanted.send_if_modified(|wanted| wanted.remove(&*name));
        }
        spots
    }
}

/// Listens, asks and remembers until what is wished changes.
pub(crate) struct Mdns {
    pub(crate) names: Names,
    pub(crate) ears: Ears,
    pub(crate) claims: watch::Sender<Vec<Claim>>,
}

impl Mdns {
    /// Never returns.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let wanted = self.names.wanted.subscribe();
        let wish = self.ears.wish();
        let mut engine = Engine {
            memory: Memory::new(),
            sockets: Sockets::new(GROUP),
            wish,
            wanted,
            asked: BTreeMap::new(),
            schedule: Schedule::new(ASK_FIRST),
            budget: RECORDS_A_SECOND,
            news: true,
            busy: false,
        };
        let (mut tick, mut look) = (Instant::now(), Instant::now());
        loop {
            tokio::select! {
                heard = engine.sockets.hear() => {
                    if engine.hear(&heard) {
                        engine.news = true;
                        engine.tell_names(&self.names);
                    }
                }
                () = sleep_until(tick) => {
                    if look <= Instant::now() {
                        look = calm(CALM);
                        engine.look_around();
                    }
                    engine.news |= engine.tick().await;
                    engine.tell_claims(&self.claims);
                    engine.tell_names(&self.names);
                    tick = engine.next();
                }
                () = self.ears.changed() => {
                    engine.wish = self.ears.wish();
                    engine.look_around();
                    engine.news = true;
                    tick = Instant::now();
                }
                Ok(()) = engine.wanted.changed() => {
                    // The list of this gateway's own interest is taken up at once.
                    engine.look_around();
                    tick = Instant::now();
                }
            }
            if engine.is_busy() {
                tick = tick.min(Instant::now() + TICK);
            }
        }
    }
}

struct Engine {
    memory: Memory,
    sockets: Sockets,
    wish: Wish,
    wanted: watch::Receiver<BTreeSet<Box<str>>>,
    /// Names that are looked for: how often each was asked for in vain, and when next.
    asked: BTreeMap<Box<str>, (u32, Instant)>,
    schedule: Schedule,
    /// Records that are still read in this second.
    budget: usize,
    /// Something has changed since the claims were told.
    news: bool,
    /// Something expired or was asked when it was last looked at.
    busy: bool,
}

impl Engine {
    /// Whether something was heard in this second, is waited for, or a name was never answered for.
    fn is_busy(&self) -> bool {
        self.news || self.busy || self.budget < RECORDS_A_SECOND || self.asked.values().any(|(times, _)| *times > 0)
    }

    fn next(&self) -> Instant {
        let asks = if self.wish.probe && !self.wish.lan.is_empty() { self.schedule.next() } else { calm(CALM) };
        let stale = self.memory.next_stale(&self.wanted.borrow()).unwrap_or(asks);
        asks.min(stale).min(calm(CALM)).max(Instant::now() + TICK)
    }

    /// Opens and closes sockets as interfaces and wishes come and go. Nothing is open while nobody wants to know anything.
    fn look_around(&mut self) {
        let mut open = self.wish.lan.clone();
        if !self.wanted.borrow().is_empty() {
            let others = multicasting().into_iter().filter(|other| !open.iter().any(|lan| lan.index == other.index));
            open.extend(others.collect::<Vec<_>>());
        }
        if self.sockets.serve(&open) {
            self.memory.keep_interfaces(&open);
            self.schedule = Schedule::new(ASK_FIRST);
        }
    }

    fn hear(&mut self, heard: &Heard) -> bool {
        let Some(interface) = self.sockets.interface(heard.index).cloned() else { return false };
        let now = Instant::now();
        let kinds = self.memory.kinds.len();
        let wanted = self.wanted.borrow().clone();
        let mut news = false;
        for record in packet::answers(&heard.packet) {
            let Some(left) = self.budget.checked_sub(1) else { break };
            self.budget = left;
            news |= self.memory.take(&record, (&interface, heard.from), &wanted, now);
        }
        if self.memory.kinds.len() > kinds {
            // Not at once for each.
            self.schedule.within(2 * ASK_FIRST, now);
        }
        news
    }

    async fn tick(&mut self) -> bool {
        let now = Instant::now();
        self.budget = RECORDS_A_SECOND;
        let news = self.memory.expire(now);
        self.busy = news;
        let due = self.schedule.is_due(now);
        let names = self.names_to_ask(now);
        for interface in self.sockets.interfaces().to_vec() {
            let is_lan = self.wish.lan.iter().any(|lan| lan.index == interface.index);
            let mut asked: Vec<(Box<str>, u16)> = Vec::new();
            let mut known = Vec::new();
            if is_lan && self.wish.probe {
                asked = self.memory.missing(interface.index, now, QUESTIONS);
                if due {
                    asked.push((ALL_KINDS.into(), PTR));
                    asked.extend(self.memory.kinds.iter().map(|kind| (kind.clone(), PTR)));
                    known = self.memory.known(interface.index, now);
                }
            }
            let stale = self.memory.stale(&names, interface.index, now);
            asked.extend(stale.flat_map(|name| [(name.into(), A), (name.into(), AAAA)]));
            let known: Vec<_> = known.iter().map(|(kind, name, left)| (kind.as_str(), *name, *left)).collect();
            let asked: Vec<_> = asked.iter().map(|(name, kind)| (&**name, *kind)).collect();
            self.busy |= !asked.is_empty();
            let packets = packet::questions(&asked, &known);
            self.sockets.ask(&interface, |_| packets.clone()).await;
        }
        news
    }

    /// The names whose turn it is: at once, then more and more seldom as long as nobody answers.
    fn names_to_ask(&mut self, now: Instant) -> BTreeSet<Box<str>> {
        let wanted = self.wanted.borrow().clone();
        self.asked.retain(|name, _| wanted.contains(name));
        let mut due = BTreeSet::new();
        for name in wanted {
            let (times, next) = self.asked.entry(name.clone()).or_insert((0, now));
            if !self.memory.addresses(&name, now).is_empty() {
                *times = 0;
                due.insert(name);
            } else if *next <= now {
                *times += 1;
                *next = now + ASK_FIRST * (1 << (*times).min(6)) / 2;
                due.insert(name);
            }
        }
        due
    }

    /// What devices say, no more often than it ticks: a loud LAN is not gone through for each packet.
    fn tell_claims(&mut self, claims: &watch::Sender<Vec<Claim>>) {
        if !std::mem::take(&mut self.news) {
            return;
        }
        let told = self.memory.claims(&self.wish.lan);
        claims.send_if_modified(|before| {
            let news = *before != told;
            *before = told;
            news
        });
    }

    /// The addresses of names that somebody looks for, at once.
    fn tell_names(&self, names: &Names) {
        if self.wanted.borrow().is_empty() && names.found.borrow().is_empty() {
            return;
        }
        let now = Instant::now();
        let mut found = BTreeMap::new();
        for name in self.wanted.borrow().iter() {
            let spots = self.memory.addresses(name, now);
            if !spots.is_empty() {
                found.insert(name.clone(), spots);
            }
        }
        names.found.send_if_modified(|before| {
            let news = **before != found;
            *before = Arc::new(found);
            news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following(names: &Names) -> impl Future<Output = Result<(), String>> {
        let (wishes, _) = watch::channel(Wish::default());
        let ears = Ears(wishes.subscribe());
        let mdns = Mdns { names: names.clone(), ears, claims: watch::Sender::default() };
        async move {
            let _wishes = wishes;
            mdns.run().await
        }
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_not_found_in_time() {
        let names = Names::default();
        let look = async {
            let deadline = Instant::now() + Duration::from_millis(300);
            assert_eq!(names.look_up("nobody-has-this.local", deadline).await, None);
            assert!(names.wanted.borrow().is_empty(), "it will be asked for anew");
        };
        tokio::select! {
            ended = following(&names) => panic!("{ended:?}"),
            () = look => {}
        }
    }
}
