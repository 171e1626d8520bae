//! What one source says of one device. The inventory makes devices of all claims together.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use linkspan_protocol::discovery::FoundService;

pub(crate) use crate::config::Mac;

/// An address on a LAN; a link-local one with the interface on which it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Spot {
    /// What people and devices prefer comes first: IPv4, then global IPv6, then what holds on one link.
    rank: u8,
    pub(crate) ip: IpAddr,
    pub(crate) interface: Option<Box<str>>,
}

impl Spot {
    pub(crate) fn new(ip: IpAddr, interface: &str) -> Self {
        let on_link = matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let rank = match ip {
            IpAddr::V4(v4) => u8::from(v4.is_link_local()),
            IpAddr::V6(_) if on_link => 3,
            IpAddr::V6(_) => 2,
        };
        Self { rank, ip, interface: on_link.then(|| interface.into()) }
    }
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{interface}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

impl FromStr for Spot {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('%') {
            Some((address, interface)) => Ok(Self::new(IpAddr::V6(address.parse::<Ipv6Addr>()?), interface)),
            None => Ok(Self::new(text.parse()?, "")),
        }
    }
}

/// Who says it; what comes first is believed first where names differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    Lease,
    #[cfg(feature = "mdns")]
    Mdns,
    #[cfg(feature = "ssdp")]
    WsDiscovery,
    #[cfg(feature = "ssdp")]
    Ssdp,
    Neighbour,
}

impl Source {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            #[cfg(feature = "mdns")]
            Self::Mdns => "mdns",
            #[cfg(feature = "ssdp")]
            Self::WsDiscovery => "ws-discovery",
            #[cfg(feature = "ssdp")]
            Self::Ssdp => "ssdp",
            Self::Neighbour => "neighbour",
        }
    }
}

/// What one source says of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) source: Source,
    pub(crate) mac: Option<Mac>,
    /// A word that the device itself says is its own: a UUID.
    pub(crate) unique: Option<String>,
    pub(crate) spots: Vec<Spot>,
    pub(crate) name: Option<String>,
    pub(crate) about: Option<String>,
    pub(crate) services: Vec<FoundService>,
    /// It shows that the device is there; else it is only known of it.
    pub(crate) alive: bool,
}

impl Claim {
    pub(crate) fn new(source: Source) -> Self {
        let (mac, unique, name, about) = (None, None, None, None);
        Self { source, mac, unique, spots: Vec::new(), name, about, services: Vec::new(), alive: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_in_the_order_of_their_use() {
        let mut spots: Vec<Spot> =
            ["fe80::1%br-lan", "fd00::1", "169.254.1.1", "192.168.1.10"].map(|text| text.parse().unwrap()).into();
        spots.sort();
        let texts: Vec<_> = spots.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["192.168.1.10", "169.254.1.1", "fd00::1", "fe80::1%br-lan"]);
    }
}
