//! Requests per second, of each person and of each address, with a burst; bounded memory, no lock.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use moka::sync::Cache;

/// Seconds' worth of requests that may come at once.
const BURST: u32 = 10;
/// An address is an office full of people.
const ADDRESS_TIMES: u32 = 4;
/// People and addresses remembered at once; beyond it the rarest are forgotten.
const REMEMBERED: u64 = 50_000;

/// Whose requests are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Address(IpAddr),
    Person(String),
}

/// What is remembered of requests.
pub(super) struct Rates {
    per_second: u32,
    began: Instant,
    /// Nanoseconds after `began` at which all requests so far would be paid for.
    seen: Cache<Key, Arc<AtomicU64>>,
}

impl Rates {
    /// So many requests a second for a person; none are counted where that is 0.
    pub(super) fn new(per_second: u32) -> Self {
        let seen = Cache::builder().max_capacity(REMEMBERED).time_to_idle(Duration::from_secs(60)).build();
        Self { per_second, began: Instant::now(), seen }
    }

    /// Counts a request from this address, or says how long to wait.
    pub(super) fn admit_address(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(address) = address else { return Ok(()) };
        self.admit(Key::Address(whole_customer(address)), self.per_second.saturating_mul(ADDRESS_TIMES), now)
    }

    /// Counts a request of this person, or says how long to wait.
    pub(super) fn admit_person(&self, person: String, now: Instant) -> Result<(), Duration> {
        self.admit(Key::Person(person), self.per_second, now)
    }

    fn admit(&self, key: Key, per_second: u32, now: Instant) -> Result<(), Duration> {
        if per_second == 0 {
            return Ok(());
        }
        let each = nanos(Duration::from_secs(1) / per_second);
        let most = nanos(Duration::from_secs(BURST.into()));
        let now = nanos(now.saturating_duration_since(self.began));
        let paid = self.seen.get_with(key, Arc::default);
        let mut wait = Duration::ZERO;
        let counted = paid.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| {
            let next = paid.max(now) + each;
            wait = Duration::from_nanos(next.saturating_sub(now + most));
            wait.is_zero().then_some(next)
        });
        counted.map(drop).map_err(|_| wait)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// One customer has a /64 in IPv6, so that is what is counted.
fn whole_customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_then_there_is_a_pace() {
        let rates = Rates::new(5);
        let mut now = rates.began;
        let admitted = (0..1000).filter(|_| rates.admit_person("anna".into(), now).is_ok()).count();
        assert_eq!(admitted, 50);
        let wait = rates.admit_person("anna".into(), now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(200));
        assert!(rates.admit_person("otto".into(), now).is_ok(), "others go on");
        now += wait;
        assert!(rates.admit_person("anna".into(), now).is_ok());
        assert!(rates.admit_person("anna".into(), now).is_err());
        now += Duration::from_secs(3600);
        assert_eq!((0..1000).filter(|_| rates.admit_person("anna".into(), now).is_ok()).count(), 50);
    }

    #[test]
    fn an_address_counts_as_a_whole_and_an_unknown_one_does_not() {
        let rates = Rates::new(5);
        let from = |n: u64| Some(format!("2001:db8:0:1::{n:x}").parse().unwrap());
        let admitted = (0..1000).filter(|n| rates.admit_address(from(*n), rates.began).is_ok()).count();
        assert_eq!(admitted, 200);
        assert!((0..1000).all(|_| rates.admit_address(None, rates.began).is_ok()));
        let free = Rates::new(0);
        assert!((0..1000).all(|_| free.admit_address(from(1), free.began).is_ok()));
    }

    #[test]
    fn many_at_once_count_as_many() {
        let rates = Rates::new(5);
        let admitted = std::thread::scope(|scope| {
            let count = || (0..50).filter(|_| rates.admit_person("anna".into(), rates.began).is_ok()).count();
            let all: Vec<_> = (0..8).map(|_| scope.spawn(count)).collect();
            all.into_iter().map(|one| one.join().unwrap()).sum::<usize>()
        });
        assert_eq!(admitted, 50);
    }
}
