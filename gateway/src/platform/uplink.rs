//! What the system's network looks like from here: the way out, our address on it, and news when that changes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

#[cfg(feature = "netlink")]
use super::netlink::Bell;

/// Addresses nobody has (RFC 5737, RFC 3849): the way to them is the default route.
const ANYWHERE: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Our address on the way to another one, if there is a way. No packet is sent for it.
pub(crate) fn source_toward(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Whether an address is still one of this machine.
pub(crate) fn is_ours(address: SocketAddr) -> bool {
    let mut address = address;
    address.set_port(0);
    UdpSocket::bind(address).is_ok()
}

/// What the way out is called in what is remembered of it: its interface, and the network of the next router.
pub(crate) fn name(v6: bool) -> Option<String> {
    // Of this process, since the unit hides what is not below /proc/PID.
    let table = std::fs::read_to_string(if v6 { "/proc/self/net/ipv6_route" } else { "/proc/self/net/route" }).ok()?;
    if v6 { default_v6(&table) } else { default_v4(&table) }
}

/// The interfaces that lead out: those of all default routes.
pub(crate) fn outward() -> Vec<Box<str>> {
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    let v4 = read("/proc/self/net/route");
    let v4 = v4.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        matches!(fields[..], [_, "00000000", _, _, _, _, _, "00000000", ..]).then(|| fields[0].into())
    });
    let v6 = read("/proc/self/net/ipv6_route");
    let v6 = v6.lines().filter_map(|line| default_of_v6(line).map(|(_, _, interface)| interface.into()));
    v4.chain(v6).collect()
}

/// Of lines `Iface Destination Gateway Flags RefCnt Use Metric Mask …`, numbers in hexadecimal and in the machine's order.
fn default_v4(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [interface, "00000000", gateway, _, _, _, metric, "00000000", ..] = fields[..] else { return None };
        let [a, b, ..] = u32::from_str_radix(gateway, 16).ok()?.to_ne_bytes();
        Some((metric.parse::<u32>().ok()?, format!("{interface} {a}.{b}")))
    });
    routes.min().map(|(_, name)| name)
}

/// Of lines `Destination Length Source Length NextHop Metric … Iface`, numbers in hexadecimal.
fn default_v6(table: &str) -> Option<String> {
    let routes = table.lines().filter_map(|line| {
        let (metric, hop, interface) = default_of_v6(line)?;
        Some((u32::from_str_radix(metric, 16).ok()?, format!("{interface} {}", hop.get(..8)?)))
    });
    routes.min().map(|(_, name)| name)
}

/// Metric, next hop and interface of a line that is a default route.
fn default_of_v6(line: &str) -> Option<(&str, &str, &str)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [destination, "00", _, _, hop, metric, .., interface] = fields[..] else { return None };
    let leads_out = interface != "lo" && destination.bytes().all(|digit| digit == b'0');
    leads_out.then_some((metric, hop, interface))
}

/// The way out, as far as it is looked at: two that are equal are taken for the same.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Picture {
    sources: Vec<Option<IpAddr>>,
    names: [Option<String>; 2],
}

impl Picture {
    fn take(peer: Option<SocketAddr>) -> Self {
        let anywhere = ANYWHERE.map(|address| SocketAddr::new(address, 443));
        let sources = peer.into_iter().chain(anywhere).map(source_toward).collect();
        Self { sources, names: [name(false), name(true)] }
    }
}

/// Tells when the way out has changed.
#[derive(Debug)]
pub(crate) struct Network {
    #[cfg(feature = "netlink")]
    bell: Option<Bell>,
    picture: Picture,
    /// Whom the way should lead to.
    peer: Option<SocketAddr>,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            #[cfg(feature = "netlink")]
            bell: Bell::new().map_err(|e| log::warn!("the kernel tells no news of the network: {e}")).ok(),
            picture: Picture::take(None),
            peer: None,
        }
    }

    /// What matters from now on is the way to that one.
    pub(crate) fn watch(&mut self, peer: SocketAddr) {
        self.peer = Some(peer);
        self.picture = Picture::take(self.peer);
    }

    /// Waits until the way out is another one, or there is one again; for ever where the kernel tells nothing. It may be
    /// dropped and called again at any time.
    pub(crate) async fn changed(&mut self) {
        loop {
            self.rings().await;
            let picture = Picture::take(self.peer);
            if picture != self.picture {
                log::debug!("the network changed: {picture:?}");
                self.picture = picture;
                return;
            }
        }
    }

    #[cfg(feature = "netlink")]
    async fn rings(&mut self) {
        if let Some(bell) = &self.bell {
            match bell.rings().await {
                Ok(()) => return,
                Err(e) => log::warn!("the kernel tells no more news of the network: {e}"),
            }
            self.bell = None;
        }
        std::future::pending().await
    }

    #[cfg(not(feature = "netlink"))]
    async fn rings(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_the_default_route_of_least_metric() {
        let gateway = |a, b| format!("{:08X}", u32::from_ne_bytes([a, b, 8, 1]));
        let table = format!(
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
             wwan0\t00000000\t{}\t0003\t0\t0\t700\t00000000\t0\t0\t0\n\
             eth1\t00000000\t{}\t0003\t0\t0\t10\t00000000\t0\t0\t0\n\
             br-lan\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n",
            gateway(10, 64),
            gateway(192, 168)
        );
        assert_eq!(default_v4(&table).as_deref(), Some("eth1 192.168"));
        assert_eq!(default_v4("Iface\n"), None);
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     wwan0\n\
             {zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             fd000000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001     eth0\n"
        );
        assert_eq!(default_v6(&table).as_deref(), Some("wwan0 fe800000"));
    }

    #[test]
    fn our_addresses_are_known() {
        let local: SocketAddr = "127.0.0.1:443".parse().unwrap();
        assert_eq!(source_toward(local), Some(local.ip()));
        assert!(is_ours(local));
        assert!(!is_ours("192.0.2.7:443".parse().unwrap()));
        assert_eq!(Picture::take(Some(local)), Picture::take(Some(local)));
    }
}
