//! Two sessions joined by a wire of ours under a clock of ours, and a spy that checks every message that passes.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use linkspan_protocol::frame::{Frame, StreamId, Target};
use linkspan_protocol::limits::{MEMORY, MESSAGE_MAX, PING_AFTER, PING_DEADLINE};
use linkspan_protocol::mux::{Event, Memory, Read, Role, Settings};
use linkspan_protocol::session::{ResumeError, Session, SessionError};

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
    Target {
        device: "plc1".parse().unwrap(),
        service: "web".parse().unwrap(),
        deadline: Duration::from_secs(10),
        packed: false,
        update: false,
    }
}

/// What each end offers on a new stream, and how many streams there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) server_window: u32,
    pub(crate) gateway_window: u32,
    pub(crate) max_streams: u32,
    pub(crate) resumable: bool,
    /// What each end may hold.
    pub(crate) memory: usize,
}

impl Default for Offer {
    fn default() -> Self {
        Self {
            server_window: 256 * 1024,
            gateway_window: 128 * 1024,
            max_streams: 1024,
            resumable: false,
            memory: MEMORY,
        }
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
    /// Sequenced frames that passed and are not known to have arrived; the first is the one after `arrived`.
    passed: VecDeque<Frame>,
    arrived: u64,
    allowed: HashMap<StreamId, u64>,
    newest: Option<StreamId>,
}

pub(crate) struct Pair {
    pub(crate) ends: [Session; 2],
    pub(crate) wires: [Wire; 2],
    pub(crate) now: Instant,
    windows: [u64; 2],
    spies: [Spy; 2],
    /// Whether there is a link; without one nothing passes and no timer runs.
    pub(crate) linked: bool,
}

impl Pair {
    pub(crate) fn new(offer: Offer) -> Self {
        let now = Instant::now();
        // The gateway asks first, so that a healthy link carries one ping and one pong for each span of silence.
        let end = |role, receive_window, send_window, ping_after| {
            let settings = Settings {
                receive_window,
                send_window,
                max_streams: offer.max_streams,
                memory: Memory::of(offer.memory),
                resumable: offer.resumable,
            };
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
            linked: true,
        }
    }

    /// The link is lost. Of what is on its way, so many messages of each direction still arrive.
    pub(crate) fn cut(&mut self, arrive: [usize; 2]) {
        for from in [SERVER, GATEWAY] {
            for _ in 0..arrive[from] {
                self.deliver_one(from).unwrap();
            }
            self.wires[from].queue.clear();
            self.ends[from].detach();
        }
        self.linked = false;
    }

    /// The server hears a gateway that wants to go on, and takes the session over.
    pub(crate) fn hear_hello(&mut self) -> Result<(), ResumeError> {
        let received = self.ends[GATEWAY].received();
        self.ends[SERVER].resume(received, self.now)?;
        self.rewind(SERVER);
        Ok(())
    }

    /// The gateway hears that the session goes on.
    pub(crate) fn hear_welcome(&mut self) -> Result<(), ResumeError> {
        let received = self.ends[SERVER].received();
        self.ends[GATEWAY].resume(received, self.now)?;
        self.rewind(GATEWAY);
        self.linked = true;
        Ok(())
    }

    fn rewind(&mut self, from: usize) {
        let received = self.ends[1 - from].received();
        let spy = &mut self.spies[from];
        spy.passed.drain(..usize::try_from(received - spy.arrived).unwrap());
        (spy.arrived, spy.sequenced) = (received, received);
    }

    /// A later link goes on with the session.
    pub(crate) fn rejoin(&mut self) {
        self.hear_hello().unwrap();
        self.hear_welcome().unwrap();
    }

    /// Lets both ends send what the wire takes, and delivers what is due.
    pub(crate) fn turn(&mut self) -> Result<(), SessionError> {
        if !self.linked {
            return Ok(());
        }
        for end in [SERVER, GATEWAY] {
            self.transmit(end);
            self.deliver(end)?;
        }
        Ok(())
    }

    pub(crate) fn transmit(&mut self, from: usize) {
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
            if frame.is_sequenced() {
                spy.sequenced += 1;
                let place = usize::try_from(spy.sequenced - spy.arrived - 1).unwrap();
                match spy.passed.get(place) {
                    Some(before) => {
                        assert_eq!(frame, *before, "what is sent again is unchanged and in order");
                        continue;
                    }
                    None => spy.passed.push_back(frame.clone()),
                }
            }
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
        let spy = &mut self.spies[from];
        let passed = spy.arrived + spy.passed.len() as u64;
        assert_eq!(passed, self.ends[from].sent().0, "the sender counts as the wire does");
        let (arrived, sent) = (self.ends[1 - from].received(), spy.sequenced);
        assert!(arrived <= sent);
        spy.passed.drain(..usize::try_from(arrived - spy.arrived).unwrap());
        spy.arrived = arrived;
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
        if !self.linked {
            self.now = end;
            return Ok(());
        }
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
            match self.ends[end].mux.read(id, usize::MAX, self.now).unwrap() {
                Read::Data(data) => all.extend_from_slice(&data),
                Read::Wait => return (all, false),
                Read::End => return (all, true),
            }
        }
    }
}
