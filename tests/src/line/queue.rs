//! One direction of a line as a pure machine: packets go in with the time, and come out when they are due.
//!
//! The order of what happens to a packet is that of a real line: a random loss, the queue in front of a slow link
//! (full: dropped at its tail), the time on the link (rate), the way to the other side (delay, jitter).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::settings::Settings;

/// Most bytes held for one direction, whatever the settings say: beyond it packets are dropped as if a buffer were full.
const HELD_MAX: usize = 256 << 20;

/// One direction: packets wait here until they are due. Times count from a start of the caller's choice.
#[derive(Debug)]
pub struct Queue {
    settings: Settings,
    random: StdRng,
    held: BinaryHeap<Reverse<Held>>,
    held_bytes: usize,
    link_free: Duration,
    last_due: Duration,
    pushed: u64,
    counts: Counts,
}

/// What became of the packets of one direction so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came in.
    pub entered: u64,
    /// Packets handed out, duplicates included.
    pub left: u64,
    /// Packets lost at random, or because the line was down.
    pub lost: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets sent twice.
    pub duplicated: u64,
    /// Packets held back so that later ones overtake them.
    pub reordered: u64,
    /// Bytes handed out.
    pub bytes: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Duration,
    number: u64,
    packet: Vec<u8>,
}

impl Queue {
    /// An empty queue. The same seed and the same packets at the same times give the same result.
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings,
            random: StdRng::seed_from_u64(seed),
            held: BinaryHeap::new(),
            held_bytes: 0,
            link_free: Duration::ZERO,
            last_due: Duration::ZERO,
            pushed: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a packet that arrives now.
    pub fn push(&mut self, now: Duration, packet: &[u8]) {
        self.counts.entered += 1;
        if self.settings.down || self.chance(self.settings.loss) {
            self.counts.lost += 1;
            return;
        }
        self.enqueue(now, packet);
        if self.chance(self.settings.duplicate) {
            self.counts.duplicated += 1;
            self.enqueue(now, packet);
        }
    }

    /// Whether a packet that arrives now would leave at once, and nothing is before it.
    pub fn is_clear(&self) -> bool {
        self.held.is_empty() && self.settings == Settings::default()
    }

    /// Counts a packet that passed by the queue because it was clear.
    pub fn passed(&mut self, bytes: usize) {
        self.counts.entered += 1;
        self.count_out(bytes);
    }

    /// The next packet, if one is due by now.
    pub fn pop(&mut self, now: Duration) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(held) = self.held.pop()?;
        self.held_bytes -= held.packet.len();
        self.count_out(held.packet.len());
        Some(held.packet)
    }

    /// When the next packet is due.
    pub fn next_due(&self) -> Option<Duration> {
        self.held.peek().map(|Reverse(held)| held.due)
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Changes the settings. What is on its way keeps its time, except that a line that goes down loses it.
    pub fn change(&mut self, settings: Settings) {
        if settings.down {
            self.counts.lost += self.held.len() as u64;
            self.held.clear();
            self.held_bytes = 0;
        }
        if settings.rate != self.settings.rate {
            self.link_free = Duration::ZERO;
        }
        self.settings = settings;
    }

    /// What became of the packets so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.random.random_bool(probability.min(1.0))
    }

    fn count_out(&mut self, bytes: usize) {
        self.counts.left += 1;
        self.counts.bytes += bytes as u64;
    }

    fn enqueue(&mut self, now: Duration, packet: &[u8]) {
        let Some(through) = self.through_link(now, packet.len()) else {
            self.counts.overflowed += 1;
            return;
        };
        let mut due = through + self.settings.delay;
        if !self.settings.jitter.is_zero() {
            due += self.random.random_range(Duration::ZERO..=self.settings.jitter);
        }
        if self.chance(self.settings.reorder) {
            self.counts.reordered += 1;
            due = due.max(self.last_due) + self.settings.reorder_by;
        } else {
            // Jitter alone delays; it does not change the order.
            due = due.max(self.last_due);
            self.last_due = due;
        }
        self.pushed += 1;
        self.held_bytes += packet.len();
        self.held.push(Reverse(Held { due, number: self.pushed, packet: packet.to_vec() }));
    }

    /// When the packet's last bit is on its way; `None` if the queue in front of the link is full.
    fn through_link(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        if self.held_bytes + bytes > HELD_MAX {
            return None;
        }
        let Some(rate) = self.settings.rate else {
            return Some(now);
        };
        let bits_per_second = rate.get();
        let waiting = self.link_free.saturating_sub(now);
        let waiting_bytes = waiting.as_nanos() * u128::from(bits_per_second) / 8 / 1_000_000_000;
        if waiting_bytes + bytes as u128 > self.settings.queue as u128 {
            return None;
        }
        let nanos = (bytes as u128 * 8 * 1_000_000_000).div_ceil(u128::from(bits_per_second));
        self.link_free = now.max(self.link_free) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Some(self.link_free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn queue(settings: &str) -> Queue {
        let mut all = Settings::default();
        all.apply(settings).unwrap();
        Queue::new(all, 7)
    }

    /// Pushes `n` numbered packets, one each `gap`, and returns what comes out as (time, number).
    fn run(queue: &mut Queue, n: u32, gap: Duration) -> Vec<(Duration, u32)> {
        for i in 0..n {
            let mut packet = vec![0; 1000];
            packet[..4].copy_from_slice(&i.to_be_bytes());
            queue.push(gap * i, &packet);
        }
        let mut out = Vec::new();
        while let Some(due) = queue.next_due() {
            let packet = queue.pop(due).unwrap();
            out.push((due, u32::from_be_bytes(packet[..4].try_into().unwrap())));
        }
        out
    }

    #[test]
    fn delay_is_exact_and_keeps_the_order() {
        let mut queue = queue("delay=50ms");
        queue.push(MS, &[1]);
        assert_eq!(queue.next_due(), Some(51 * MS));
        assert_eq!(queue.pop(50 * MS), None);
        assert_eq!(queue.pop(51 * MS), Some(vec![1]));
        assert_eq!(queue.next_due(), None);
    }

    #[test]
    fn jitter_delays_within_its_bound_and_keeps_the_order() {
        let mut queue = queue("delay=10ms jitter=5ms");
        let out = run(&mut queue, 2000, 2 * MS);
        assert!(out.iter().zip(0..).all(|((_, number), i)| *number == i));
        let late: Vec<Duration> = out.iter().map(|(due, i)| *due - 2 * MS * *i).collect();
        assert!(late.iter().all(|d| (10 * MS..=15 * MS).contains(d)), "{:?}", late.iter().max());
        assert!(late.iter().max() > Some(&(14 * MS)) && late.iter().min() < Some(&(11 * MS)));
    }

    #[test]
    fn loss_and_duplication_come_as_often_as_asked_for() {
        let mut queue = queue("loss=10% dup=5%");
        let out = run(&mut queue, 20_000, MS);
        let counts = queue.counts();
        assert!((1800..2200).contains(&counts.lost), "{counts:?}");
        assert!((800..1000).contains(&counts.duplicated), "{counts:?}");
        assert_eq!(out.len() as u64, 20_000 - counts.lost + counts.duplicated);
        assert_eq!(counts.left, out.len() as u64);
    }

    #[test]
    fn reordering_holds_some_packets_back() {
        let mut queue = queue("delay=5ms reorder=10% reorder-by=3ms");
        let out = run(&mut queue, 1000, MS);
        let overtaken = out.windows(2).filter(|w| w[0].1 > w[1].1).count() as u64;
        assert!((70..130).contains(&queue.counts().reordered), "{:?}", queue.counts());
        assert!(overtaken > 50, "{overtaken}");
        assert_eq!(out.len(), 1000);
    }

    #[test]
    fn rate_spaces_packets_and_a_full_queue_drops_the_tail() {
        // 1000 bytes at 8 Mbit/s take 1 ms; the queue holds 4 of them.
        let mut queue = queue("rate=8mbit queue=4000");
        for _ in 0..10 {
            queue.push(Duration::ZERO, &[0; 1000]);
        }
        assert_eq!(queue.counts().overflowed, 6);
        let dues: Vec<_> = std::iter::from_fn(|| queue.next_due().inspect(|due| drop(queue.pop(*due)))).collect();
        assert_eq!(dues, [MS, 2 * MS, 3 * MS, 4 * MS]);
        queue.push(100 * MS, &[0; 500]);
        assert_eq!(queue.next_due(), Some(100 * MS + MS / 2), "an idle link starts at once");
    }

    #[test]
    fn a_line_that_goes_down_loses_what_is_on_its_way() {
        let mut queue = queue("delay=50ms");
        queue.push(Duration::ZERO, &[1]);
        let mut settings = queue.settings().clone();
        settings.apply("down").unwrap();
        queue.change(settings.clone());
        queue.push(MS, &[2]);
        settings.apply("up").unwrap();
        queue.change(settings);
        queue.push(2 * MS, &[3]);
        assert_eq!(queue.pop(100 * MS), Some(vec![3]));
        assert_eq!(queue.pop(100 * MS), None);
        assert_eq!(queue.counts().lost, 2);
    }

    #[test]
    fn the_same_seed_gives_the_same_line() {
        let settings = "delay=3ms jitter=2ms loss=3% dup=2% reorder=5% rate=10mbit queue=20k";
        let one = run(&mut queue(settings), 3000, MS / 4);
        assert_eq!(one, run(&mut queue(settings), 3000, MS / 4));
        let mut other = Queue::new(queue(settings).settings().clone(), 8);
        assert_ne!(one, run(&mut other, 3000, MS / 4));
    }
}
