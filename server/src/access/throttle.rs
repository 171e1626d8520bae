//! Slows down guessing: each wrong password makes the next attempt wait longer, in bounded memory.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use moka::sync::Cache;
use ring::digest::{SHA256, digest};

use crate::store::Failed;

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

/// The second factor of one person: whoever gets here knows the password.
const CODE: Rule = Rule { free: 5, longest: Duration::from_secs(5 * 60) };

/// What is counted together: the kind, and the rest as hash, so that nothing of it can be read where it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key(String);

impl Key {
    fn new(kind: &str, rest: &str) -> Self {
        Self(format!("{kind}/{}", HEXLOWER.encode(digest(&SHA256, rest.as_bytes()).as_ref())))
    }

    fn code(person: &str) -> Self {
        Self::new("code", person)
    }

    fn rule(&self) -> Rule {
        match self.0.split('/').next() {
            Some("pair") => PAIR,
            Some("address") => ADDRESS,
            Some("code") => CODE,
            _ => PERSON,
        }
    }

    fn is_address(&self) -> bool {
        self.0.starts_with("address/")
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

    /// Remembers what was counted before a restart.
    pub(super) fn restore(&self, all: Vec<Failed>) {
        let (now, today) = (Instant::now(), Timestamp::now());
        for Failed { counted, times, last } in all {
            // A clock that was set back makes the age negative: then it was just now.
            let age = Duration::try_from(today.duration_since(last)).unwrap_or_default();
            let last = now.checked_sub(age).unwrap_or(now);
            self.seen.insert(Key(counted), Failures { count: times, last });
        }
    }

    /// Counts an attempt as failed before it is looked at, so that a thousand at once count as a thousand; or says how
    /// long to wait. What is slowed from now on is returned, to be kept.
    pub(super) fn admit(&self, person: &str, address: Option<IpAddr>, now: Instant) -> Result<Vec<Failed>, Duration> {
        self.count(keys(person, address), now)
    }

    /// The same for a code of a person's second factor.
    pub(super) fn admit_code(&self, person: &str, now: Instant) -> Result<Vec<Failed>, Duration> {
        self.count(vec![Key::code(person)], now)
    }

    fn count(&self, keys: Vec<Key>, now: Instant) -> Result<Vec<Failed>, Duration> {
        let wait = keys.iter().filter_map(|key| self.wait(key, now)).max();
        if let Some(wait) = wait {
            return Err(wait);
        }
        let mut wait: Option<Duration> = None;
        let mut slowed = Vec::new();
        for key in keys {
            let (rule, counted) = (key.rule(), key.0.clone());
            self.seen.entry(key).and_upsert_with(|seen| {
                let Some(seen) = seen.map(moka::Entry::into_value) else { return Failures { count: 1, last: now } };
                // Somebody else may have been counted since we looked.
                if let Some(left) = left(rule, seen, now) {
                    wait = wait.max(Some(left));
                    return seen;
                }
                let times = seen.count.saturating_add(1);
                if times >= rule.free {
                    slowed.push(Failed { counted, times, last: Timestamp::now() });
                }
                Failures { count: times, last: now }
            });
        }
        wait.map_or(Ok(slowed), Err)
    }

    /// The attempt was right: the person is forgiven, the address only this one attempt. Says what need not be kept.
    pub(super) fn forgive(&self, person: &str, address: Option<IpAddr>) -> Vec<String> {
        keys(person, address).into_iter().filter_map(|key| self.forgive_key(key)).collect()
    }

    /// The code was right.
    pub(super) fn forgive_code(&self, person: &str) -> Vec<String> {
        self.forgive_key(Key::code(person)).into_iter().collect()
    }

    fn forgive_key(&self, key: Key) -> Option<String> {
        if key.is_address() {
            self.seen.entry(key).and_compute_with(|seen| match seen.map(moka::Entry::into_value) {
                Some(seen) if seen.count > 1 => moka::ops::compute::Op::Put(Failures { count: seen.count - 1, ..seen }),
                _ => moka::ops::compute::Op::Remove,
            });
            return None;
        }
        let was = self.seen.remove(&key)?;
        (was.count >= key.rule().free).then_some(key.0)
    }

    fn wait(&self, key: &Key, now: Instant) -> Option<Duration> {
        self.seen.get(key).and_then(|seen| left(key.rule(), seen, now))
    }
}

/// How long what is kept of failures matters.
pub(super) const REMEMBERED_FOR: Duration = FORGIVEN;

/// What an attempt counts for. Where the address is not known, nothing is counted for everybody together.
fn keys(person: &str, address: Option<IpAddr>) -> Vec<Key> {
    let address = address.map(whole_customer);
    let both = [Key::new("pair", &format!("{person} {address:?}")), Key::new("person", person)];
    both.into_iter().chain(address.map(|address| Key::new("address", &address.to_string()))).collect()
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
            throttle.admit("anna", HERE, now).unwrap();
        }
        for wait in [1, 2, 4, 8, 16, 32, 60, 60] {
            let wait = Duration::from_secs(wait);
            assert_eq!(throttle.admit("anna", HERE, now), Err(wait));
            throttle.admit("bob", HERE, now).expect("others go on");
            throttle.forgive("bob", HERE);
            now += wait;
            throttle.admit("anna", HERE, now).unwrap();
        }
        throttle.forgive("anna", HERE);
        throttle.admit("anna", HERE, now).unwrap();
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
        throttle.admit("anna", from(5000), later).expect("nobody is kept out for long");
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

    #[test]
    fn a_restart_forgives_nothing() {
        let (before, after) = (Throttle::new(), Throttle::new());
        let now = Instant::now();
        let kept: Vec<Failed> = (0..5).flat_map(|_| before.admit("anna", HERE, now).unwrap()).collect();
        assert_eq!(kept.len(), 1, "typing errors are not written down");
        assert!(!kept[0].counted.contains("anna"), "nor is who it was");
        after.restore(kept);
        assert!(after.admit("anna", HERE, Instant::now()).is_err());
        after.admit("bob", HERE, Instant::now()).unwrap();
        assert_eq!(after.forgive("anna", HERE).len(), 1, "the one that was kept");
    }

    #[test]
    fn codes_are_counted_apart_and_nobody_is_kept_out_for_ever() {
        let throttle = Throttle::new();
        let begin = Instant::now();
        let second = |n| begin + Duration::from_secs(n);
        let admitted = (0..3600).filter(|n| throttle.admit_code("anna", second(*n)).is_ok()).count();
        let now = second(3600);
        assert!((10..30).contains(&admitted), "{admitted} codes within an hour");
        throttle.admit("anna", HERE, now).unwrap();
        throttle.admit_code("anna", now + CODE.longest).unwrap();
        throttle.forgive_code("anna");
        throttle.admit_code("anna", now).unwrap();
    }
}
