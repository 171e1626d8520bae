//! Slows down who tries codes: so many attempts per address at once, and then one every few seconds, in bounded memory.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use moka::sync::Cache;

/// Attempts an address may make at once: an installer's van full of routers behind one SIM.
const AT_ONCE: u32 = 60;
/// After that, one in this time.
const ONE_IN: Duration = Duration::from_secs(2);
/// Addresses remembered; beyond it the rarest are forgotten.
const REMEMBERED: u64 = 50_000;

#[derive(Clone, Copy)]
struct Spent {
    /// When all that was spent will be forgiven.
    free_at: Instant,
}

/// What was tried from where.
pub(super) struct Pace {
    spent: Cache<IpAddr, Spent>,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { spent: Cache::builder().max_capacity(REMEMBERED).time_to_idle(ONE_IN * AT_ONCE * 2).build() }
    }

    /// Counts an attempt before it is looked at, so that a thousand at once count as a thousand; or says how long to wait.
    pub(super) fn admit(&self, from: IpAddr) -> Result<(), Duration> {
        let now = Instant::now();
        let mut wait = None;
        self.spent.entry(whole_customer(from)).and_upsert_with(|entry| {
            let free_at = entry.map_or(now, |entry| entry.into_value().free_at.max(now));
            let after = free_at + ONE_IN;
            let over = after.saturating_duration_since(now).saturating_sub(ONE_IN * AT_ONCE);
            if over.is_zero() {
                return Spent { free_at: after };
            }
            wait = Some(over);
            Spent { free_at }
        });
        wait.map_or(Ok(()), Err)
    }

    /// The attempt was a good one: it does not count.
    pub(super) fn forgive(&self, from: IpAddr) {
        self.spent.entry(whole_customer(from)).and_upsert_with(|entry| {
            let free_at = entry.map_or_else(Instant::now, |entry| entry.into_value().free_at);
            Spent { free_at: free_at.checked_sub(ONE_IN).unwrap_or(free_at) }
        });
    }
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
    fn an_address_is_slowed_alone_and_what_was_good_does_not_count() {
        let pace = Pace::new();
        let from = |text: &str| text.parse::<IpAddr>().unwrap();
        for _ in 0..1000 {
            assert_eq!(pace.admit(from("192.0.2.1")), Ok(()));
            pace.forgive(from("192.0.2.1"));
        }
        let admitted = (0..1000).filter(|_| pace.admit(from("2001:db8::1")).is_ok()).count();
        assert_eq!(admitted, AT_ONCE as usize);
        assert!(pace.admit(from("2001:db8::2")).unwrap_err() <= ONE_IN, "the same customer");
        assert_eq!(pace.admit(from("2001:db8:0:1::1")), Ok(()));
    }
}
