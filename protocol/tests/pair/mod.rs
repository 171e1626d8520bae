//! Two sessions joined by a wire of ours under a clock of ours, and a spy that checks every message that passes.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use linkspan_protocol::frame::{Frame, StreamId, Target};
use linkspan_protocol::limits::{MESSAGE_MAX, PING_AFTER, PING_DEADLINE};
use linkspan_protocol::mux::{Event, Read, Role, Settings};
use linkspan_protocol::session::{Session, SessionError};

pub(crate) const SERVER: usize = 0;
pub(crate) const GATEWAY: usize = 1;

/// SplitMix64: the same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

pub(crate) fn target() -> Target {
    Target { device: "plc1".parse().unwrap(), service: "web".parse().unwrap(), deadline: Duration::from_secs(10) }
}

/// What each end offers on a new stream, and how many streams there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) server_window: u32,
    pub(crate) gateway_window: u32,
    pub(crate) max_streams: u32,
}

impl Default for Offer {
    fn default() -> Self {
        Self { server_window: 256 * 1024, gateway_window: 128 * 1024, max_streams: 1024 }
    }
}

/// One direction of the wire.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) queue: VecDeque<(Instant, Bytes)>,
    pub(crate) latency: Duration,
    /// Messages that fit the wire; beyond it the sender has to wait.
    pub(crate) depth: usize,
    /// Takes and delivers nothing.
    pub(crate) dead: bool,
    /// Messages that entered.
    pub(crate) messages: usize,
    /// Frames that entered, for tests to look at.
    pub(crate) log: Vec<Frame>,
}

/// What the spy knows of one direction.
#[derive(Debug, Default)]
struct Spy {
    sequenced: u64,
    allowed: HashMap<StreamId, u64>,
    newest: Option<StreamId>,
}

pub(crate) struct Pair {
    pub(crate) ends: [Session; 2],
    pub(crate) wires: [Wire; 2],
    pub(crate) now: Instant,
    windows: [u64; 2],
    spies: [Spy; 2],
}

impl Pair {
    pub(crate) fn new(offer: Offer) -> Self {
        let now = Instant::now();
        // The gateway asks first, so that a healthy link carries one ping and one pong for each span of silence.
        let end = |role, receive_window, send_window, ping_after| {
            let settings = Settings { receive_window, send_window, max_streams: offer.max_streams };
            Session::new(role, settings, ping_after, now)
        };
        let wire = || Wire {
            queue: VecDeque::new(),
            latency: Duration::from_millis(20),
            depth: 4,
            dead: false,
            messages: 0,
            log: Vec::new(),
        };
        Self {
            ends: [
                end(Role::Server, offer.server_window, offer.gateway_window, PING_AFTER + PING_DEADLINE),
                end(Role::Gateway, offer.gateway_window, offer.server_window, PING_AFTER),
            ],
            wires: [wire(), wire()],
            now,
            windows: [offer.gateway_window.into(), offer.server_window.into()],
            spies: Default::default(),
        }
    }

    /// Lets both ends send what the wire takes, and delivers what is due.
    pub(crate) fn turn(&mut self) -> Result<(), SessionError> {
        for end in [SERVER, GATEWAY] {
            self.transmit(end);
            self.deliver(end)?;
        }
        Ok(())
    }

    fn transmit(&mut self, from: usize) {
        while self.wires[from].queue.len() < self.wires[from].depth
            && let Some(message) = self.ends[from].poll_transmit(self.now)
        {
            assert!(!message.is_empty() && message.len() <= MESSAGE_MAX, "a message of {} bytes", message.len());
            self.inspect(from, message.clone());
            let wire = &mut self.wires[from];
            wire.messages += 1;
            if !wire.dead {
                wire.queue.push_back((self.now + wire.latency, message));
            }
        }
    }

    fn inspect(&mut self, from: usize, mut message: Bytes) {
        while let Some(frame) = Frame::decode(&mut message).unwrap() {
            let spy = &mut self.spies[from];
            spy.sequenced += u64::from(frame.is_sequenced());
            match &frame {
                Frame::Open(id, _) => {
                    assert!(from == SERVER && id.0 % 2 == 0 && spy.newest.is_none_or(|newest| newest < *id), "{id}");
                    spy.newest = Some(*id);
                }
                Frame::Data(id, data) => {
                    let allowed = spy.allowed.entry(*id).or_insert(self.windows[from]);
                    *allowed = allowed.checked_sub(data.len() as u64).expect("credit exceeded");
                }
                Frame::Ack(count) => {
                    assert_eq!(*count, self.ends[from].received(), "an ACK tells all that came");
                    assert!(*count <= self.spies[1 - from].sequenced, "more acknowledged than was sent");
                }
                _ => {}
            }
            self.wires[from].log.push(frame);
        }
        assert_eq!(self.spies[from].sequenced, self.ends[from].sent().0, "the sender counts as the wire does");
    }

    /// Delivers to the other end what `from` sent and is due.
    pub(crate) fn deliver(&mut self, from: usize) -> Result<(), SessionError> {
        while self.wires[from].queue.front().is_some_and(|(due, _)| *due <= self.now) {
            self.deliver_one(from)?;
        }
        Ok(())
    }

    fn deliver_one(&mut self, from: usize) -> Result<(), SessionError> {
        let Some((_, message)) = self.wires[from].queue.pop_front() else { return Ok(()) };
        let mut frames = message.clone();
        while let Some(frame) = Frame::decode(&mut frames).unwrap() {
            if let Frame::Window(id, more) = frame {
                *self.spies[1 - from].allowed.entry(id).or_insert(self.windows[1 - from]) += more;
            }
        }
        self.ends[1 - from].handle_message(message, self.now)
    }

    /// The next time at which anything happens by itself.
    pub(crate) fn next_time(&self) -> Instant {
        let timers = self.ends.iter().map(Session::poll_timeout);
        let messages = self.wires.iter().filter_map(|wire| wire.queue.front().map(|(due, _)| *due));
        timers.chain(messages).min().unwrap().max(self.now)
    }

    /// Lets time pass, and all happen that is due in it.
    pub(crate) fn advance(&mut self, span: Duration) -> Result<(), SessionError> {
        let end = self.now + span;
        loop {
            self.turn()?;
            self.turn()?;
            let next = self.next_time();
            if next > end {
                break;
            }
            // A timer that is due but not served yet must not hold the clock.
            self.now = if next == self.now { (self.now + Duration::from_millis(1)).min(end) } else { next };
            for session in &mut self.ends {
                session.handle_timeout(self.now)?;
            }
            if self.now == end {
                self.turn()?;
                break;
            }
        }
        self.now = end;
        Ok(())
    }

    /// A stream open at both ends.
    pub(crate) fn open(&mut self) -> StreamId {
        let id = self.ends[SERVER].mux.open(target()).unwrap();
        self.advance(Duration::from_millis(50)).unwrap();
        let incoming = self.events(GATEWAY).into_iter().any(|event| event == Event::Incoming(id, target()));
        assert!(incoming, "the gateway sees stream {id}");
        id
    }

    pub(crate) fn events(&mut self, end: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.ends[end].mux.poll_event()).collect()
    }

    pub(crate) fn write(&mut self, end: usize, id: StreamId, data: &[u8]) -> usize {
        self.ends[end].mux.write(id, data, self.now).unwrap()
    }

    /// Reads all there is: the bytes, and whether the end has come.
    pub(crate) fn read(&mut self, end: usize, id: StreamId) -> (Vec<u8>, bool) {
        let mut all = Vec::new();
        loop {
            match self.ends[end].mux.read(id, usize::MAX).unwrap() {
                Read::Data(data) => all.extend_from_slice(&data),
                Read::Wait => return (all, false),
                Read::End => return (all, true),
            }
        }
    }
}
