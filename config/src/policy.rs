//! `[policy]`: what the router's owner forbids. It wins over whatever the server sends.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;

use linkspan_protocol::id::{DeviceName, ServiceName};
use linkspan_protocol::message::ServiceKind;

use super::problem::Wrong;
use super::reader::Section;
use super::release::ReleaseKey;
use super::{Service, TargetHost};

/// Entries of one list.
const ENTRIES_MAX: usize = 64;

/// What the router's owner forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether the server may send a configuration at all.
    pub central: bool,
    /// Whether the server may send another version of this program.
    pub updates: bool,
    /// The key by which such versions are signed, in place of the one in a file.
    pub update_key: Option<ReleaseKey>,
    /// The networks that devices may be in; any, if absent.
    pub networks: Option<Vec<Network>>,
    /// The ports that services may be at; any, if absent.
    pub ports: Option<Vec<RangeInclusive<u16>>>,
    /// What may never be published.
    pub never: Vec<Never>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { central: true, updates: true, update_key: None, networks: None, ports: None, never: Vec::new() }
    }
}

/// A network: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// Something that may never be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Never {
    /// All services of a device.
    Device(DeviceName),
    /// One service of a device.
    Service(DeviceName, ServiceName),
    /// All services that speak this.
    Kind(ServiceKind),
}

impl Network {
    /// All its addresses, if they are no more than that.
    pub fn addresses(&self, most: usize) -> Option<impl Iterator<Item = IpAddr>> {
        let (base, of) = match self.address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        let count = 1_u128.checked_shl(of - u32::from(self.bits)).filter(|count| *count <= most as u128)?;
        let is_v4 = self.address.is_ipv4();
        Some((0..count).map(move |n| match u32::try_from(base + n) {
            Ok(v4) if is_v4 => Ipv4Addr::from_bits(v4).into(),
            _ => Ipv6Addr::from_bits(base + n).into(),
        }))
    }

    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(v4)) => same(net.to_bits().into(), v4.to_bits().into(), self.bits, 32),
            (IpAddr::V6(net), IpAddr::V6(v6)) => same(net.to_bits(), v6.to_bits(), self.bits, 128),
            _ => false,
        }
    }
}

fn same(one: u128, other: u128, bits: u8, of: u8) -> bool {
    bits == 0 || (one ^ other) >> (of - bits) == 0
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            "" if !text.contains('/') => most,
            bits => bits.parse().ok().filter(|bits| *bits <= most).ok_or(())?,
        };
        let network = Self { address, bits };
        // 192.168.1.10/24 is an address, and who wrote it may have meant that one alone.
        let base = match address {
            IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask32(bits))),
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask128(bits))),
        };
        if base == address { Ok(network) } else { Err(()) }
    }
}

fn mask32(bits: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0)
}

fn mask128(bits: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Policy {
    /// Whether a connection may lead to this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.networks.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }

    /// Why a device may not be where it is, if so. A name is judged once it is known where it leads.
    pub(super) fn host_refused(&self, host: &TargetHost) -> Option<Wrong> {
        let address = match host {
            TargetHost::Address(address) => *address,
            TargetHost::Scoped(address, _) => IpAddr::V6(*address),
            TargetHost::Mac(_) | TargetHost::Name(_) | TargetHost::Local(_) => return None,
        };
        let networks = self.networks.as_ref().filter(|_| !self.allows_address(address))?;
        let known = networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Some(Wrong::new(
            format!("the router's owner does not allow {address} ([policy] networks = {known})"),
            "ask the owner, or choose another address",
        ))
    }

    /// Why a service may not be published, if so.
    pub(super) fn service_refused(&self, device: &DeviceName, service: &Service) -> Option<Wrong> {
        let port = service.port;
        if self.ports.as_ref().is_some_and(|ports| !ports.iter().any(|range| range.contains(&port))) {
            let what = format!("the router's owner does not allow port {port} ([policy] ports)");
            return Some(Wrong::new(what, "ask the owner, or remove the service"));
        }
        let hit = self.never.iter().any(|never| match never {
            Never::Device(name) => name == device,
            Never::Service(name, one) => name == device && *one == service.name,
            Never::Kind(kind) => *kind == service.kind,
        });
        hit.then(|| {
            let what = format!("the router's owner never publishes {device}:{} ([policy] never)", service.name);
            Wrong::new(what, "ask the owner, or remove the service")
        })
    }
}

pub(super) fn policy(mut section: Section<'_>) -> Policy {
    let central = section.flag("central").unwrap_or(true);
    let updates = section.flag("updates").unwrap_or(true);
    let update_key = section.parsed("update_key", |text| {
        let form = "write the second line of the public key that signify, usign or minisign made: \"RW…\"";
        text.parse::<ReleaseKey>().map_err(|e| Wrong::new(e.to_string(), form))
    });
    let networks = entries(&mut section, "networks", |text| {
        let form = "write a network such as \"192.168.1.0/24\" or \"fd00::/8\", its address ending in zeros";
        text.parse().map_err(|()| Wrong::new("this is not a network", form))
    });
    let ports = entries(&mut section, "ports", ports);
    let never = entries(&mut section, "never", never).unwrap_or_default();
    section.finish();
    Policy { central, updates, update_key, networks, ports, never }
}

fn entries<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parse: impl Fn(&str) -> Result<T, Wrong>,
) -> Option<Vec<T>> {
    let (reader, is_there, span) = (section.reader, section.has(key), section.span_of(key));
    let texts = section.list(key);
    if texts.len() > ENTRIES_MAX {
        reader.error(&span, format!("`{key}` has more than {ENTRIES_MAX} entries"), "write fewer, larger ones");
    }
    let parsed = texts.iter().filter_map(|text| reader.check(&text.span(), parse(text.get_ref()))).collect();
    is_there.then_some(parsed)
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let range = port(first).zip(port(last)).filter(|(first, last)| first <= last);
    range.map(|(first, last)| first..=last).ok_or_else(|| {
        Wrong::new("this is neither a port nor a range of ports", "write \"443\" or \"5900-5999\", in quotes")
    })
}

fn never(text: &str) -> Result<Never, Wrong> {
    let form = "write a device (\"plc1\"), a service (\"plc1:web\") or a kind (\"kind:ssh\")";
    let wrong = || Wrong::new("this names nothing that could be published", form);
    let name = |text: &str| text.parse().map_err(|_| wrong());
    match text.split_once(':') {
        None => Ok(Never::Device(name(text)?)),
        Some(("kind", kind)) => {
            ServiceKind::ALL.into_iter().find(|known| known.as_str() == kind).map(Never::Kind).ok_or_else(wrong)
        }
        Some((device, service)) => Ok(Never::Service(name(device)?, service.parse().map_err(|_| wrong())?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_its_own_addresses_and_no_others() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        for (net, inside, outside) in [
            ("192.168.1.0/24", "192.168.1.255", "192.168.2.0"),
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("0.0.0.0/0", "8.8.8.8", "fd00::1"),
            ("192.168.1.10", "192.168.1.10", "192.168.1.11"),
            ("192.168.1.0/24", "::ffff:192.168.1.7", "::ffff:192.168.2.7"),
            ("fd00::/8", "fdff::1", "fe80::1"),
            ("::/0", "::1", "10.0.0.1"),
        ] {
            assert!(network(net).contains(inside.parse().unwrap()), "{inside} in {net}");
            assert!(!network(net).contains(outside.parse().unwrap()), "{outside} not in {net}");
        }
        for bad in ["", "plc", "192.168.1.10/24", "10.0.0.0/33", "fd00::1/64", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn entries_are_ports_and_names() {
        assert_eq!(ports("443").unwrap(), 443..=443);
        assert_eq!(ports("5900-5999").unwrap(), 5900..=5999);
        for bad in ["", "0", "70000", "9-8", "-", "a-b", "1-2-3"] {
            assert!(ports(bad).is_err(), "{bad}");
        }
        assert_eq!(never("kind:ssh").unwrap(), Never::Kind(ServiceKind::Ssh));
        assert!(matches!(never("plc1:web").unwrap(), Never::Service(..)));
        assert!(matches!(never("plc1").unwrap(), Never::Device(..)));
        for bad in ["", "PLC", "plc1:", "kind:telepathy", ":web"] {
            assert!(never(bad).is_err(), "{bad}");
        }
    }
}
