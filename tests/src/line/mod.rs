//! A line between two network namespaces, as bad as wanted: a pair of TUN devices with a program between them.
//!
//! The kernel's own line emulator (netem) is not everywhere; this one needs only TUN, and is seeded. Each direction has
//! settings of its own, which can be changed while packets flow.

mod queue;
mod settings;
mod tun;

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use queue::{Counts, Queue};
pub use settings::{Settings, SettingsError};

use crate::netns::{self, Namespace};

/// Longest packet a line carries: the usual MTU.
const MTU: usize = 1500;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the first namespace to the second.
    AToB,
    /// From the second namespace to the first.
    BToA,
    /// Each of both.
    Both,
}

/// One end of a line: the namespace it appears in, and its address with prefix length.
#[derive(Clone, Debug)]
pub struct End<'a> {
    /// The namespace.
    pub namespace: &'a str,
    /// Like `10.77.0.1/24`.
    pub address: &'a str,
}

impl<'a> End<'a> {
    /// An end in a namespace.
    pub fn new(namespace: &'a Namespace, address: &'a str) -> Self {
        Self { namespace: namespace.name(), address }
    }
}

/// A line that is up. Dropping it removes its devices and ends its threads.
#[derive(Debug)]
pub struct Line {
    a_to_b: Arc<Direction>,
    b_to_a: Arc<Direction>,
    devices: [(String, String); 2],
    threads: Vec<JoinHandle<()>>,
}

impl Line {
    /// Joins two namespaces by a perfect line; the seed decides on every random loss to come.
    pub fn new(a: &End<'_>, b: &End<'_>, seed: u64) -> Result<Self> {
        let word: u32 = rand::random();
        let (name_a, name_b) = (format!("line{word:08x}a"), format!("line{word:08x}b"));
        let (file_a, file_b) = (place(&name_a, a)?, place(&name_b, b)?);
        let a_to_b = Arc::new(Direction::new(seed));
        let b_to_a = Arc::new(Direction::new(seed.wrapping_add(1)));
        let mut line = Self {
            a_to_b: Arc::clone(&a_to_b),
            b_to_a: Arc::clone(&b_to_a),
            devices: [(a.namespace.to_owned(), name_a), (b.namespace.to_owned(), name_b)],
            threads: Vec::new(),
        };
        for (direction, from, to) in [(a_to_b, &file_a, &file_b), (b_to_a, &file_b, &file_a)] {
            line.run(direction, from.try_clone()?, to.try_clone()?)?;
        }
        Ok(line)
    }

    /// Changes the settings of one or both directions, in words: `delay=50ms loss=1%`, `down`, `clear`.
    pub fn set(&self, way: Way, words: &str) -> Result<(), SettingsError> {
        let directions: Vec<_> = self.directions(way).collect();
        let mut changed = Vec::new();
        for direction in &directions {
            let mut settings = direction.lock().queue.settings().clone();
            settings.apply(words)?;
            changed.push(settings);
        }
        for (direction, settings) in directions.into_iter().zip(changed) {
            direction.lock().queue.change(settings);
            direction.wake.notify_all();
        }
        Ok(())
    }

    /// What became of the packets from the first namespace to the second, and of those of the other direction.
    pub fn counts(&self) -> (Counts, Counts) {
        (self.a_to_b.lock().queue.counts(), self.b_to_a.lock().queue.counts())
    }

    /// The settings in force, and what became of the packets; two lines of text.
    pub fn describe(&self) -> String {
        let line = |way, direction: &Direction| {
            let state = direction.lock();
            format!("{way}: {}; {:?}", state.queue.settings(), state.queue.counts())
        };
        format!("{}\n{}", line("a-b", &self.a_to_b), line("b-a", &self.b_to_a))
    }

    fn directions(&self, way: Way) -> impl Iterator<Item = &Arc<Direction>> {
        let a_to_b = (way != Way::BToA).then_some(&self.a_to_b);
        a_to_b.into_iter().chain((way != Way::AToB).then_some(&self.b_to_a))
    }

    /// Two threads a direction: one waits for packets, the other for the time of the next.
    fn run(&mut self, direction: Arc<Direction>, from: File, to: File) -> io::Result<()> {
        let (reader, to_too) = (Arc::clone(&direction), to.try_clone()?);
        let take = move || reader.take_in(from, to_too);
        let give = move || direction.give_out(to);
        self.threads.push(std::thread::Builder::new().name("line-in".into()).spawn(take)?);
        self.threads.push(std::thread::Builder::new().name("line-out".into()).spawn(give)?);
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        for direction in [&self.a_to_b, &self.b_to_a] {
            direction.lock().stopped = true;
            direction.wake.notify_all();
        }
        for (namespace, device) in &self.devices {
            // Ends the reads too. It fails if the namespace has gone, and then the device has gone with it.
            drop(netns::ip(&["-n", namespace, "link", "delete", device]));
        }
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Makes a TUN device here and moves it to where it belongs; the open file keeps serving it.
fn place(name: &str, end: &End<'_>) -> Result<File> {
    let file = tun::open(name).with_context(|| format!("cannot make the network device {name}; is this root?"))?;
    netns::ip(&["link", "set", name, "netns", end.namespace])?;
    netns::ip(&["-n", end.namespace, "address", "add", end.address, "dev", name])?;
    netns::ip(&["-n", end.namespace, "link", "set", name, "mtu", &MTU.to_string(), "txqueuelen", "1000", "up"])?;
    Ok(file)
}

#[derive(Debug)]
struct Direction {
    start: Instant,
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug)]
struct State {
    queue: Queue,
    stopped: bool,
}

impl Direction {
    fn new(seed: u64) -> Self {
        let queue = Queue::new(Settings::default(), seed);
        Self { start: Instant::now(), state: Mutex::new(State { queue, stopped: false }), wake: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_in(&self, mut from: File, mut to: File) {
        let mut buffer = [0; MTU];
        // A read fails when the device has gone: that is how the line ends.
        while let Ok(bytes) = from.read(&mut buffer) {
            let packet = &buffer[..bytes];
            let mut state = self.lock();
            if state.stopped {
                return;
            }
            if state.queue.is_clear() {
                state.queue.passed(bytes);
                drop(state);
                hand_over(&mut to, packet);
                continue;
            }
            let now = self.start.elapsed();
            let before = state.queue.next_due();
            state.queue.push(now, packet);
            if state.queue.next_due() != before {
                self.wake.notify_one();
            }
        }
    }

    fn give_out(&self, mut to: File) {
        let mut state = self.lock();
        while !state.stopped {
            let now = self.start.elapsed();
            if let Some(packet) = state.queue.pop(now) {
                drop(state);
                hand_over(&mut to, &packet);
                state = self.lock();
                continue;
            }
            let wait = state.queue.next_due().map_or(Duration::from_secs(3600), |due| due.saturating_sub(now));
            state = self.wake.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The kernel refuses a packet while the other device is not up: then it is lost, as on any line.
fn hand_over(to: &mut File, packet: &[u8]) {
    drop(to.write(packet));
}
