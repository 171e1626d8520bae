//! Sockets for one multicast group on each interface and family: what is heard is known to come from that LAN, and questions go
//! nowhere else.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::Poll;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use super::lan::Interface;

/// Bytes of a packet (RFC 6762, section 17); one of another language that is longer is not from a small device.
const PACKET_MAX: usize = 9000;

/// A group of both families that speaks one language.
pub(super) struct Group {
    pub(super) language: &'static str,
    pub(super) v4: Ipv4Addr,
    pub(super) v6: Ipv6Addr,
    pub(super) port: u16,
    /// Routers that a packet may pass.
    pub(super) hops: u32,
    /// Whether it is asked from the group's port, so that answers go to the group. Else they come to a socket of its own.
    pub(super) asks_from_port: bool,
}

/// A packet that came in.
pub(super) struct Heard {
    pub(super) index: u32,
    pub(super) from: IpAddr,
    pub(super) packet: Vec<u8>,
}

pub(super) struct Sockets {
    group: Group,
    interfaces: Vec<Interface>,
    open: Vec<Open>,
    /// Whose turn it is to be heard: a loud LAN does not drown another.
    turn: usize,
}

struct Open {
    index: u32,
    /// Where questions go that are sent from it; it only listens where there is none.
    to: Option<SocketAddr>,
    socket: UdpSocket,
}

impl Sockets {
    pub(super) fn new(group: Group) -> Self {
        Self { group, interfaces: Vec::new(), open: Vec::new(), turn: 0 }
    }

    /// Serves these interfaces and no others; true if that changes anything.
    pub(super) fn serve(&mut self, interfaces: &[Interface]) -> bool {
        if self.interfaces == interfaces {
            return false;
        }
        self.open.clear();
        for interface in interfaces {
            for opened in self.group.open(interface) {
                match opened {
                    Ok(open) => self.open.push(open),
                    Err(e) => log::warn!("{} on {}: {e}", self.group.language, interface.name),
                }
            }
        }
        self.interfaces = interfaces.to_vec();
        true
    }

    pub(super) fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    pub(super) fn interface(&self, index: u32) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.index == index)
    }

    /// The next packet on any interface; for ever if none is served. It may be dropped and called again at any time.
    pub(super) async fn hear(&mut self) -> Heard {
        let mut bytes = vec![0; PACKET_MAX];
        poll_fn(|cx| {
            for n in 0..self.open.len() {
                let at = (self.turn + n) % self.open.len();
                let open = &self.open[at];
                let mut buffer = ReadBuf::new(&mut bytes);
                match open.socket.poll_recv_from(cx, &mut buffer) {
                    Poll::Ready(Ok(from)) => {
                        self.turn = at + 1;
                        let packet = buffer.filled().to_vec();
                        return Poll::Ready(Heard { index: open.index, from: from.ip(), packet });
                    }
                    // The interface went away: the next look around closes it.
                    Poll::Ready(Err(e)) => log::debug!("{}: {e}", self.group.language),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Asks on an interface, in both families; the question may name the group's address.
    pub(super) async fn ask(&self, interface: &Interface, packets: impl Fn(SocketAddr) -> Vec<Vec<u8>>) {
        for open in self.open.iter().filter(|open| open.index == interface.index) {
            let Some(to) = open.to else { continue };
            for packet in packets(to) {
                if let Err(e) = open.socket.send_to(&packet, to).await {
                    log::debug!("{} on {}: {e}", self.group.language, interface.name);
                }
            }
        }
    }
}

impl Group {
    /// What listens to the group, and what asks it.
    fn open(&self, interface: &Interface) -> Vec<io::Result<Open>> {
        let (mut v4, mut v6) = (None, None);
        for (ip, _) in &interface.networks {
            match ip {
                IpAddr::V4(own) => v4 = v4.or(Some(*own)),
                // A group on the link is asked from the address on the link.
                IpAddr::V6(own) if v6.is_none() || own.is_unicast_link_local() => v6 = Some(*own),
                IpAddr::V6(_) => {}
            }
        }
        let mut opened = Vec::new();
        if let Some(own) = v4 {
            let group = (self.v4, self.port).into();
            let ears = |at, to| self.socket_v4(interface, own, at).and_then(|socket| open(interface, to, socket));
            opened.push(ears(group, self.asks_from_port.then_some(group)));
            if !self.asks_from_port {
                opened.push(ears((own, 0).into(), Some(group)));
            }
        }
        if let Some(own) = v6 {
            let on_link = |ip, port| SocketAddrV6::new(ip, port, 0, interface.index).into();
            let group = on_link(self.v6, self.port);
            let ears = |at, to| self.socket_v6(interface, at).and_then(|socket| open(interface, to, socket));
            opened.push(ears(group, self.asks_from_port.then_some(group)));
            if !self.asks_from_port {
                opened.push(ears(on_link(own, 0), Some(group)));
            }
        }
        opened
    }

    fn socket_v4(&self, interface: &Interface, own: Ipv4Addr, at: SocketAddr) -> io::Result<Socket> {
        let socket = new(Domain::IPV4)?;
        // Only what comes in on this interface, whatever other programs have joined.
        socket.set_multicast_all_v4(false)?;
        socket.bind(&at.into())?;
        if at.ip().is_multicast() {
            socket.join_multicast_v4_n(&self.v4, &InterfaceIndexOrAddress::Index(interface.index))?;
        }
        socket.set_multicast_if_v4(&own)?;
        socket.set_multicast_ttl_v4(self.hops)?;
        Ok(socket)
    }

    fn socket_v6(&self, interface: &Interface, at: SocketAddr) -> io::Result<Socket> {
        let socket = new(Domain::IPV6)?;
        socket.set_only_v6(true)?;
        socket.set_multicast_all_v6(false)?;
        // An address that is so new that it is still being checked counts as well.
        socket.set_freebind_v6(true)?;
        socket.bind(&at.into())?;
        if at.ip().is_multicast() {
            socket.join_multicast_v6(&self.v6, interface.index)?;
        }
        socket.set_multicast_if_v6(interface.index)?;
        socket.set_multicast_hops_v6(self.hops)?;
        Ok(socket)
    }
}

fn open(interface: &Interface, to: Option<SocketAddr>, socket: Socket) -> io::Result<Open> {
    Ok(Open { index: interface.index, to, socket: UdpSocket::from_std(socket.into())? })
}

fn new(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The port belongs to all programs that speak it.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
