//! One socket for each interface and family: what is heard is known to come from that LAN, and questions go nowhere else.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::task::Poll;

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

use crate::discovery::lan::Interface;

const V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
const PORT: u16 = 5353;
/// Bytes of a packet (RFC 6762, section 17).
const PACKET_MAX: usize = 9000;

/// A packet that came in.
pub(super) struct Heard {
    pub(super) index: u32,
    pub(super) from: IpAddr,
    pub(super) packet: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Sockets {
    interfaces: Vec<Interface>,
    open: Vec<Open>,
    /// Whose turn it is to be heard: a loud LAN does not drown another.
    turn: usize,
}

struct Open {
    index: u32,
    to: SocketAddr,
    socket: UdpSocket,
}

impl Sockets {
    /// Serves these interfaces and no others; true if that changes anything.
    pub(super) fn serve(&mut self, interfaces: &[Interface]) -> bool {
        if self.interfaces == interfaces {
            return false;
        }
        self.open.clear();
        for interface in interfaces {
            let v4 = interface.networks.iter().find_map(|(ip, _)| match ip {
                IpAddr::V4(v4) => Some(*v4),
                IpAddr::V6(_) => None,
            });
            let v6 = interface.networks.iter().any(|(ip, _)| ip.is_ipv6());
            let opened = [v4.map(|own| open_v4(interface, own)), v6.then(|| open_v6(interface))];
            for opened in opened.into_iter().flatten() {
                match opened {
                    Ok(open) => self.open.push(open),
                    Err(e) => log::warn!("multicast DNS on {}: {e}", interface.name),
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
                    Poll::Ready(Err(e)) => log::debug!("multicast DNS: {e}"),
                    Poll::Pending => {}
                }
            }
            Poll::Pending
        })
        .await
    }

    pub(super) async fn send(&self, interface: &Interface, packets: &[Vec<u8>]) {
        for open in self.open.iter().filter(|open| open.index == interface.index) {
            for packet in packets {
                if let Err(e) = open.socket.send_to(packet, open.to).await {
                    log::debug!("multicast DNS on {}: {e}", interface.name);
                }
            }
        }
    }
}

fn open_v4(interface: &Interface, own: Ipv4Addr) -> io::Result<Open> {
    let socket = new(Domain::IPV4)?;
    // Only what comes in on this interface, whatever other programs have joined.
    socket.set_multicast_all_v4(false)?;
    socket.bind(&SocketAddr::from((V4, PORT)).into())?;
    socket.join_multicast_v4_n(&V4, &InterfaceIndexOrAddress::Index(interface.index))?;
    socket.set_multicast_if_v4(&own)?;
    socket.set_multicast_ttl_v4(255)?;
    let socket = UdpSocket::from_std(socket.into())?;
    Ok(Open { index: interface.index, to: (V4, PORT).into(), socket })
}

fn open_v6(interface: &Interface) -> io::Result<Open> {
    let socket = new(Domain::IPV6)?;
    socket.set_only_v6(true)?;
    socket.set_multicast_all_v6(false)?;
    let to = SocketAddr::V6(SocketAddrV6::new(V6, PORT, 0, interface.index));
    socket.bind(&to.into())?;
    socket.join_multicast_v6(&V6, interface.index)?;
    socket.set_multicast_if_v6(interface.index)?;
    socket.set_multicast_hops_v6(255)?;
    let socket = UdpSocket::from_std(socket.into())?;
    Ok(Open { index: interface.index, to, socket })
}

fn new(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // The port belongs to all programs that speak it.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
