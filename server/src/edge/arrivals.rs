//! Counts, per address, the connections that have not shown a request yet, so that no single address fills the house.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts; clones share them.
#[derive(Clone, Debug)]
pub(super) struct Arrivals {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    limit: usize,
}

/// One connection that has not shown a request yet. Dropping it ends that.
#[derive(Debug)]
pub struct Arrival {
    arrivals: Arrivals,
    address: IpAddr,
}

impl Arrivals {
    /// At most so many at once for each address.
    pub(super) fn new(limit: usize) -> Self {
        Self { counts: Arc::default(), limit }
    }

    /// Counts a new connection; none if its address has too many.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Arrival> {
        let address = group(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Arrival { arrivals: self.clone(), address })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        let mut counts = self.arrivals.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = counts.entry(self.address) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

/// One customer has a whole /64 (RFC 6177), so that is what counts as an address.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_limit() {
        let arrivals = Arrivals::new(2);
        let here: IpAddr = "192.0.2.1".parse().unwrap();
        let first = arrivals.enter(here);
        let second = arrivals.enter("::ffff:192.0.2.1".parse().unwrap());
        assert!(first.is_some() && second.is_some());
        assert!(arrivals.enter(here).is_none());
        assert!(arrivals.enter("192.0.2.2".parse().unwrap()).is_some());
        drop(first);
        assert!(arrivals.enter(here).is_some());
        drop(second);
        assert!(arrivals.counts.lock().unwrap().is_empty());
    }

    #[test]
    fn a_slash_64_is_one_address() {
        let arrivals = Arrivals::new(1);
        let _held = arrivals.enter("2001:db8::1".parse().unwrap());
        assert!(arrivals.enter("2001:db8::ffff:2".parse().unwrap()).is_none());
        assert!(arrivals.enter("2001:db8:0:1::1".parse().unwrap()).is_some());
    }
}
