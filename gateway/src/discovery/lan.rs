//! Which interfaces lead to a LAN: never the way out, and never a radio.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};

use crate::platform::uplink;

/// An interface of this machine that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub(crate) name: Box<str>,
    pub(crate) index: u32,
    /// Its addresses, with the bits that are the same in all of its network.
    pub(crate) networks: Vec<(IpAddr, u32)>,
}

impl Interface {
    /// Whether an address is of a network that this interface is in, and not its own.
    pub(crate) fn holds(&self, ip: IpAddr) -> bool {
        if self.networks.iter().any(|(own, _)| *own == ip)
            || ip.is_loopback()
            || ip.is_multicast()
            || ip.is_unspecified()
        {
            return false;
        }
        let v6_on_link = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        v6_on_link || self.networks.iter().any(|(own, bits)| same_network(*own, ip, *bits))
    }
}

fn same_network(a: IpAddr, b: IpAddr, bits: u32) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let differ = a.to_bits() ^ b.to_bits();
            // The broadcast address is nobody's.
            let is_broadcast = bits < 31 && b.to_bits() | (u32::MAX >> bits) == b.to_bits();
            differ.leading_zeros() >= bits && !is_broadcast
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros() >= bits,
        _ => false,
    }
}

/// The interfaces that are looked at. What was once a way out stays one: a modem that has just lost its network must not be
/// taken for a LAN.
#[derive(Debug, Default)]
pub(crate) struct Lan {
    outward: BTreeSet<Box<str>>,
}

impl Lan {
    /// Those that are named, or all that lead to a LAN where none are. A point-to-point line is never one.
    pub(crate) fn interfaces(&mut self, named: &[Box<str>]) -> Vec<Interface> {
        self.outward.extend(uplink::outward());
        let mut all = multicasting();
        all.retain(|interface| match named {
            [] => !self.outward.contains(&interface.name),
            named => named.contains(&interface.name),
        });
        all
    }
}

/// All interfaces on which there are neighbours.
pub(crate) fn multicasting() -> Vec<Interface> {
    let mut all: Vec<Interface> = Vec::new();
    let listed = match getifaddrs() {
        Ok(listed) => listed,
        Err(e) => {
            log::warn!("the interfaces of this machine are not told: {e}");
            return all;
        }
    };
    for entry in listed {
        let wanted = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_MULTICAST;
        let never = InterfaceFlags::IFF_LOOPBACK | InterfaceFlags::IFF_POINTOPOINT | InterfaceFlags::IFF_NOARP;
        let Some(ip) = entry.address.and_then(|address| ip_of(&address)) else { continue };
        if !entry.flags.contains(wanted) || entry.flags.intersects(never) || is_radio(&entry.interface_name) {
            continue;
        }
        let bits = entry.netmask.and_then(|mask| ip_of(&mask)).map_or(128, ones);
        match all.iter_mut().find(|known| *known.name == *entry.interface_name) {
            Some(known) => known.networks.push((ip, bits)),
            None => {
                let Ok(index) = if_nametoindex(&*entry.interface_name) else { continue };
                all.push(Interface { name: entry.interface_name.into(), index, networks: vec![(ip, bits)] });
            }
        }
    }
    all
}

/// Names of mobile networks' interfaces that pretend to be Ethernet, and ports of a bridge, which is an interface itself.
fn is_radio(name: &str) -> bool {
    ["wwan", "ppp", "rmnet", "qmi", "3g-", "4g-"].iter().any(|word| name.starts_with(word))
        || Path::new("/sys/class/net").join(name).join("brport").exists()
}

fn ip_of(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

fn ones(mask: IpAddr) -> u32 {
    match mask {
        IpAddr::V4(v4) => v4.to_bits().count_ones(),
        IpAddr::V6(v6) => v6.to_bits().count_ones(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_neighbours_are_on_the_lan() {
        let networks = vec![("192.168.1.1".parse().unwrap(), 24), ("fd00::1".parse().unwrap(), 64)];
        let lan = Interface { name: "br-lan".into(), index: 3, networks };
        for near in ["192.168.1.10", "fd00::10", "fe80::10"] {
            assert!(lan.holds(near.parse().unwrap()), "{near}");
        }
        for far in [
            "192.168.1.1",
            "192.168.1.255",
            "192.168.2.10",
            "8.8.8.8",
            "127.0.0.1",
            "169.254.169.254",
            "::1",
            "fd01::1",
            "224.0.0.251",
            "ff02::fb",
        ] {
            assert!(!lan.holds(far.parse().unwrap()), "{far}");
        }
    }

    #[test]
    fn a_way_out_is_no_lan_unless_it_is_named() {
        let mut lan = Lan::default();
        let all = multicasting();
        let chosen = lan.interfaces(&[]);
        for way_out in uplink::outward() {
            assert!(chosen.iter().all(|interface| interface.name != way_out), "{chosen:?}");
            let named = lan.interfaces(std::slice::from_ref(&way_out));
            assert_eq!(named.len(), usize::from(all.iter().any(|interface| interface.name == way_out)));
        }
        assert!(chosen.iter().all(|interface| &*interface.name != "lo"));
    }
}
