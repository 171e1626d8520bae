//! Random schedules: every promise checked byte by byte. `SEED=n` repeats one.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use linkspan_protocol::frame::{Reset, ResetReason, StreamId};
use linkspan_protocol::mux::{Allow, Event, Read};

use crate::pair::{GATEWAY, Offer, Pair, Random, SERVER, target};

/// What one end has done on a stream, and what came of it.
#[derive(Debug, Default)]
struct End {
    written: u64,
    read: u64,
    finished: bool,
    heard_end: bool,
    failed: bool,
    released: bool,
    /// It was reset behind what was written: all of that arrives.
    last_word: bool,
}

/// The byte that stands at a place of a stream: wrong stream, direction or order all show.
fn byte(id: StreamId, from: usize, at: u64) -> u8 {
    (id.0.wrapping_mul(31) ^ (from as u64 * 131) ^ at.wrapping_mul(0x9e37_79b9) >> 7) as u8
}

struct Chaos {
    pair: Pair,
    random: Random,
    streams: BTreeMap<StreamId, [End; 2]>,
    control: [VecDeque<Bytes>; 2],
    /// Links are lost, and found again, once in so many steps.
    faults: Option<usize>,
    links: usize,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        Self::with_faults(seed, None)
    }

    fn with_faults(seed: u64, faults: Option<usize>) -> Self {
        let mut random = Random(seed);
        let windows = [16 * 1024, 20_001, 64 * 1024, 256 * 1024];
        let mut pair = Pair::new(Offer {
            server_window: windows[random.below(4)],
            gateway_window: windows[random.below(4)],
            max_streams: 1 + random.below(40) as u32,
            resumable: faults.is_some(),
            memory: [512 << 10, 1 << 20, 16 << 20][random.below(3)],
        });
        for wire in &mut pair.wires {
            wire.latency = Duration::from_millis(random.below(300) as u64);
            wire.depth = 1 + random.below(6);
        }
        Self { pair, random, streams: BTreeMap::new(), control: Default::default(), faults, links: 1 }
    }

    fn step(&mut self) {
        if self.faults.is_some_and(|often| self.random.one_in(often)) {
            self.lose_or_find_link();
        }
        match self.random.below(20) {
            0 => {
                if let Ok(id) = self.pair.ends[SERVER].mux.open(target()) {
                    // The gateway's half begins when it hears of the stream.
                    let unheard = End { released: true, ..End::default() };
                    assert!(self.streams.insert(id, [End::default(), unheard]).is_none(), "stream {id} was used twice");
                }
            }
            1 => {
                let end = self.random.below(2);
                let text: Bytes = (0..self.random.below(30_000)).map(|at| at as u8).collect();
                if self.pair.ends[end].send_control(&text).is_ok() {
                    self.control[end].push_back(text);
                }
            }
            2 => {
                let wire = self.random.below(2);
                self.pair.wires[wire].latency = Duration::from_millis(self.random.below(300) as u64);
                self.pair.wires[wire].depth = self.random.below(6);
            }
            3..=5 => {
                let span = Duration::from_millis(self.random.below(200) as u64);
                self.pair.advance(span).unwrap();
            }
            6 => self.listen(),
            _ => self.touch(),
        }
    }

    fn lose_or_find_link(&mut self) {
        if self.pair.linked {
            let arrive = [self.random.below(4), self.random.below(4)];
            return self.pair.cut(arrive);
        }
        match self.random.below(5) {
            // HELLO is lost.
            0 => {}
            // WELCOME is lost, with what the server sends behind it.
            1 => {
                self.pair.hear_hello().unwrap();
                self.pair.transmit(SERVER);
                self.pair.cut([0, 0]);
            }
            // A long hole: nobody's timer runs.
            2 => self.pair.now += Duration::from_secs(self.random.below(100) as u64),
            _ => {
                self.links += 1;
                self.pair.rejoin();
            }
        }
    }

    /// Takes events and control messages.
    fn listen(&mut self) {
        for event in self.pair.events(GATEWAY) {
            if let Event::Incoming(id, _) = event {
                self.streams.get_mut(&id).unwrap()[GATEWAY].released = false;
            }
        }
        self.pair.events(SERVER);
        for end in [SERVER, GATEWAY] {
            while let Some(text) = self.pair.ends[end].poll_control() {
                assert_eq!(self.control[1 - end].pop_front(), Some(text));
            }
        }
    }

    /// Does something with a stream.
    fn touch(&mut self) {
        let live: Vec<(StreamId, usize)> = self
            .streams
            .iter()
            .flat_map(|(id, ends)| [(*id, SERVER), (*id, GATEWAY)].into_iter().filter(|(_, end)| !ends[*end].released))
            .collect();
        if live.is_empty() {
            return;
        }
        let (id, end) = live[self.random.below(live.len())];
        match self.random.below(40) {
            0..=14 => self.write(id, end),
            15..=34 => {
                let max = 1 + self.random.below(40_000);
                self.read(id, end, max);
            }
            35 | 36 => {
                self.pair.ends[end].mux.finish(id);
                self.half(id, end).finished = true;
            }
            37 if end == GATEWAY => self.pair.ends[end].mux.confirm(id),
            38 if self.random.one_in(3) => {
                let (reset, behind) = (Reset::new(ResetReason::DeviceReset, "chaos"), self.random.one_in(2));
                if behind {
                    self.pair.ends[end].mux.reset_behind(id, reset);
                } else {
                    self.pair.ends[end].mux.reset(id, reset);
                }
                let half = self.half(id, end);
                half.last_word = behind && (!half.failed || half.last_word);
                (half.failed, half.finished) = (true, true);
            }
            39 if self.random.one_in(3) => self.release(id, end),
            _ => {}
        }
    }

    fn half(&mut self, id: StreamId, end: usize) -> &mut End {
        &mut self.streams.get_mut(&id).unwrap()[end]
    }

    fn write(&mut self, id: StreamId, end: usize) {
        let from = self.half(id, end).written;
        let len = if self.random.one_in(3) { 1 + self.random.below(100) } else { 1 + self.random.below(50_000) };
        let data: Vec<u8> = (from..from + len as u64).map(|at| byte(id, end, at)).collect();
        match self.pair.ends[end].mux.write(id, &data, self.pair.now) {
            Ok(taken) => self.half(id, end).written += taken as u64,
            Err(reset) => self.check_failure(id, end, &reset),
        }
    }

    /// True if there was something.
    fn read(&mut self, id: StreamId, end: usize, max: usize) -> bool {
        match self.pair.ends[end].mux.read(id, max, self.pair.now) {
            Ok(Read::Data(data)) => {
                assert!(!data.is_empty() && data.len() <= max);
                let at = self.half(id, end).read;
                assert!(!self.half(id, end).heard_end, "data after the end");
                for (offset, found) in data.iter().enumerate() {
                    assert_eq!(*found, byte(id, 1 - end, at + offset as u64), "stream {id} at {}", at + offset as u64);
                }
                self.half(id, end).read += data.len() as u64;
                assert!(self.half(id, end).read <= self.half(id, 1 - end).written, "more read than written");
                true
            }
            Ok(Read::Wait) => false,
            Ok(Read::End) => {
                self.half(id, end).heard_end = true;
                let (read, far) = (self.half(id, end).read, self.half(id, 1 - end));
                assert!(far.finished && far.written == read, "the end came early on stream {id}");
                false
            }
            Err(reset) => {
                self.check_failure(id, end, &reset);
                false
            }
        }
    }

    fn check_failure(&mut self, id: StreamId, end: usize, reset: &Reset) {
        let excused = {
            let [server, gateway] = &self.streams[&id];
            let own = [server, gateway][end];
            server.failed || gateway.failed || [server, gateway][1 - end].released || own.finished
        };
        assert!(excused, "stream {id} failed at end {end} for no reason: {reset}");
    }

    fn release(&mut self, id: StreamId, end: usize) {
        let half = self.half(id, end);
        half.released = true;
        // Dropped before its end, it counts as cancelled.
        half.failed |= !(half.finished && half.heard_end);
        self.pair.ends[end].mux.release(id, self.pair.now);
    }

    /// Ends everything in order, and checks that nothing was lost and nothing is left.
    fn wind_up(&mut self) {
        self.faults = None;
        if !self.pair.linked {
            self.pair.rejoin();
        }
        for wire in &mut self.pair.wires {
            wire.depth = 4;
        }
        let live = |chaos: &Self| -> Vec<(StreamId, usize)> {
            let both = chaos.streams.iter().flat_map(|(id, ends)| [(*id, SERVER, &ends[0]), (*id, GATEWAY, &ends[1])]);
            both.filter(|(_, _, half)| !half.released).map(|(id, end, _)| (id, end)).collect()
        };
        for _ in 0..400 {
            self.pair.advance(Duration::from_millis(400)).unwrap();
            self.listen();
            for (id, end) in live(self) {
                self.pair.ends[end].mux.finish(id);
                self.half(id, end).finished = true;
                while self.read(id, end, 1 << 20) {}
            }
        }
        for (id, ends) in &self.streams {
            for end in [SERVER, GATEWAY] {
                let far = &ends[1 - end];
                if ends[end].last_word && !far.failed && !far.released {
                    assert_eq!(far.read, ends[end].written, "stream {id} was reset before its last byte");
                }
            }
            if ends.iter().all(|half| !half.released && !half.failed) {
                for end in [SERVER, GATEWAY] {
                    assert!(ends[end].heard_end && ends[end].read == ends[1 - end].written, "stream {id} lost bytes");
                }
            }
        }
        for (id, end) in live(self) {
            self.release(id, end);
        }
        self.pair.advance(Duration::from_secs(30)).unwrap();
        self.listen();
        assert!(self.control.iter().all(VecDeque::is_empty), "every control message came");
        for end in [SERVER, GATEWAY] {
            assert_eq!(self.pair.ends[end].mux.open_streams(), 0, "no stream is left at end {end}");
            let (sent, acked) = self.pair.ends[end].sent();
            assert_eq!((sent, acked), (self.pair.ends[1 - end].received(), sent), "all was counted and acknowledged");
        }
    }
}

/// Prints the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("this was SEED={}", self.0);
        }
    }
}

/// Another one each time, and short enough to be written down; `SEED` alone repeats a run.
fn seed_of_now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    if std::env::var("SEED").is_ok() { 0 } else { now.as_secs() * 10_000 }
}

fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (0..count).collect(),
    }
}

#[test]
fn random_schedules_lose_and_mix_up_nothing() {
    for seed in seeds(25) {
        let _seed = Seed(seed);
        let mut chaos = Chaos::new(seed);
        for _ in 0..1500 {
            chaos.step();
        }
        chaos.wind_up();
    }
}

#[test]
fn links_that_are_lost_at_any_moment_lose_and_double_nothing() {
    let (mut links, mut time) = (0, Duration::ZERO);
    // `make soak` asks for more.
    // `make soak` asks for more, and begins elsewhere each time.
    let more = std::env::var("SOAK").map_or(1, |times| times.parse().unwrap());
    let first = if more > 1 { seed_of_now() } else { 0 };
    for seed in seeds(30 * more).into_iter().map(|seed| first + seed) {
        let _seed = Seed(seed);
        let mut chaos = Chaos::with_faults(seed, Some([5, 30, 150][seed as usize % 3]));
        let begun = chaos.pair.now;
        for _ in 0..1500 {
            chaos.step();
        }
        chaos.wind_up();
        links += chaos.links;
        time += chaos.pair.now - begun;
    }
    eprintln!("seeds from {first}: {links} links in {:.1} hours of simulated time", time.as_secs_f64() / 3600.0);
}

#[test]
fn a_link_cut_anywhere_ends_every_stream_with_a_true_beginning() {
    for seed in seeds(25) {
        let _seed = Seed(seed);
        let mut chaos = Chaos::new(seed);
        let cut = 50 + chaos.random.below(1000);
        for _ in 0..cut {
            chaos.step();
        }
        chaos.listen();
        for end in [SERVER, GATEWAY] {
            chaos.pair.ends[end].end("cut");
        }
        for (id, halves) in std::mem::take(&mut chaos.streams) {
            let released = [halves[0].released, halves[1].released];
            chaos.streams.insert(id, halves);
            for end in [SERVER, GATEWAY].into_iter().filter(|end| !released[*end]) {
                for half in [SERVER, GATEWAY] {
                    chaos.half(id, half).failed = true;
                }
                while chaos.read(id, end, 1 << 20) {}
                assert_ne!(
                    chaos.pair.ends[end].mux.read(id, 1, chaos.pair.now),
                    Ok(Read::Wait),
                    "nobody waits for ever"
                );
                chaos.pair.ends[end].mux.release(id, chaos.pair.now);
            }
        }
        for end in [SERVER, GATEWAY] {
            assert_eq!(chaos.pair.ends[end].mux.open_streams(), 0);
            assert!(!chaos.pair.ends[end].mux.wants_to_send(Allow::All));
        }
    }
}
