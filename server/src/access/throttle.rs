//! Slows down guessing: each wrong password makes the next attempt wait longer, in bounded memory.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use moka::sync::Cache;

/// Attempts remembered; beyond it the rarest are forgotten.
const REMEMBERED: u64 = 50_000;
/// Without an attempt for so long, all is forgiven.
const FORGIVEN: Duration = Duration::from_secs(15 * 60);

/// How one kind of guessing is slowed: attempts that are free, and the longest wait after that.
#[derive(Clone, Copy)]
struct Rule {
    free: u32,
    longest: Duration,
}

/// One person from one address: typing errors are free.
const PAIR: Rule = Rule { free: 5, longest: Duration::from_secs(60) };
/// One address, whoever is tried: an office behind one address mistypes more.
const ADDRESS: Rule = Rule { free: 20, longest: Duration::from_secs(60) };
/// One person, from wherever: short waits, or strangers could keep somebody out.
const PERSON: Rule = Rule { free: 20, longest: Duration::from_secs(5) };

#[derive(Clone, PartialEq, Eq, Hash)]
enum Key {
    Pair(String, Option<IpAddr>),
    Address(IpAddr),
    Person(String),
}

impl Key {
    fn rule(&self) -> Rule {
        match self {
            Self::Pair(..) => PAIR,
            Self::Address(_) => ADDRESS,
            Self::Person(_) => PERSON,
        }
    }
}

#[derive(Clone, Copy)]
struct Failures {
    count: u32,
    last: Instant,
}

/// What is remembered of attempts to sign in.
pub(super) struct Throttle {
    seen: Cache<Key, Failures>,
}

impl Throttle {
    pub(super) fn new() -> Self {
        Self { seen: Cache::builder().max_capacity(REMEMBERED).time_to_idle(FORGIVEN).build() }
    }

    /// Counts an attempt as failed before it is looked at, so that a thousand at once count as a thousand; or says how
    /// long to wait.
    pub(super) fn admit(&self, person: &str, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let keys = keys(person, address);
        let wait = keys.iter().filter_map(|key| self.wait(key, now)).max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        let mut wait: Option<Duration> = None;
        for key in keys {
            let rule = key.rule();
            self.seen.entry(key).and_upsert_with(|seen| {
                let Some(seen) = seen.map(moka::Entry::into_value) else { return Failures { count: 1, last: now } };
                // Somebody else may have been counted since we looked.
                if let Some(left) = left(rule, seen, now) {
                    wait = wait.max(Some(left));
                    return seen;
                }
                Failures { count: seen.count.saturating_add(1), last: now }
            });
        }
        wait.map_or(Ok(()), Err)
    }

    /// The attempt was right: the person is forgiven, the address only this one attempt.
    pub(super) fn forgive(&self, person: &str, address: Option<IpAddr>) {
        for key in keys(person, address) {
            if matches!(key, Key::Address(_)) {
                self.seen.entry(key).and_compute_with(|seen| match seen.map(moka::Entry::into_value) {
                    Some(seen) if seen.count > 1 => {
                        moka::ops::compute::Op::Put(Failures { count: seen.count - 1, ..seen })
                    }
                    _ => moka::ops::compute::Op::Remove,
                });
            } else {
                self.seen.invalidate(&key);
            }
        }
    }

    fn wait(&self, key: &Key, now: Instant) -> Option<Duration> {
        self.seen.get(key).and_then(|seen| left(key.rule(), seen, now))
    }
}

/// What an attempt counts for. Where the address is not known, nothing is counted for everybody together.
fn keys(person: &str, address: Option<IpAddr>) -> Vec<Key> {
    let address = address.map(whole_customer);
    let both = [Key::Pair(person.to_owned(), address), Key::Person(person.to_owned())];
    both.into_iter().chain(address.map(Key::Address)).collect()
}

/// One customer has a /64 in IPv6, so that is what is counted.
fn whole_customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

fn left(rule: Rule, seen: Failures, now: Instant) -> Option<Duration> {
    let doublings = seen.count.checked_sub(rule.free)?;
    let pause = Duration::from_secs(1 << doublings.min(10)).min(rule.longest);
    let left = pause.saturating_sub(now.saturating_duration_since(seen.last));
    (!left.is_zero()).then_some(left)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7)));

    #[test]
    fn waits_double_up_to_a_bound_and_end_with_the_right_password() {
        let throttle = Throttle::new();
        let mut now = Instant::now();
        for _ in 0..5 {
            assert_eq!(throttle.admit("anna", HERE, now), Ok(()));
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(wait);
            assert_eq!(throttle.admit("anna", HERE, now), Err(wait));
            assert_eq!(throttle.admit("bob", HERE, now), Ok(()), "others go on");
            throttle.forgive("bob", HERE);
            now += wait;
            assert_eq!(throttle.admit("anna", HERE, now), Ok(()));
        }
        throttle.forgive("anna", HERE);
        assert_eq!(throttle.admit("anna", HERE, now), Ok(()));
    }

    #[test]
    fn an_address_and_a_person_are_slowed_as_a_whole() {
        let throttle = Throttle::new();
        let now = Instant::now();
        let admitted = (0..1000).filter(|n| throttle.admit(&format!("p{n}"), HERE, now).is_ok()).count();
        assert_eq!(admitted, 20);
        let from = |n: u32| Some(IpAddr::V4((0x0a00_0000 + n).into()));
        let admitted = (0..1000).filter(|n| throttle.admit("anna", from(*n), now).is_ok()).count();
        assert_eq!(admitted, 20);
        let later = now + PERSON.longest;
        assert_eq!(throttle.admit("anna", from(5000), later), Ok(()), "nobody is kept out for long");
    }

    #[test]
    fn without_an_address_nobody_is_slowed_for_others() {
        let throttle = Throttle::new();
        let now = Instant::now();
        assert!((0..1000).all(|n| throttle.admit(&format!("p{n}"), None, now).is_ok()));
        assert_eq!((0..1000).filter(|_| throttle.admit("anna", None, now).is_ok()).count(), 5);
    }

    #[test]
    fn many_at_once_count_as_many() {
        let throttle = Throttle::new();
        let now = Instant::now();
        let admitted = std::thread::scope(|scope| {
            let all: Vec<_> = (0..50).map(|_| scope.spawn(|| throttle.admit("anna", HERE, now).is_ok())).collect();
            all.into_iter().map(|one| one.join().unwrap()).filter(|ok| *ok).count()
        });
        assert_eq!(admitted, 5);
    }

    #[test]
    fn a_whole_ipv6_network_is_one_address() {
        let one: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let two: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        assert_eq!(whole_customer(one), whole_customer(two));
        assert_eq!(whole_customer("::ffff:192.0.2.7".parse().unwrap()), HERE.unwrap());
    }
}
