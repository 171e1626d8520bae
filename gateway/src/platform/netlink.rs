//! News about the network from the kernel (rtnetlink(7)): a bell that rings when links, addresses or routes changed, and the
//! table of neighbours.
//!
//! What changed is not read from the bell: whoever hears it looks for himself, so nothing is missed when the kernel's queue
//! overflows.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, recv, send, socket_with};
use tokio::net::UnixDatagram;
use tokio::time::{Instant, timeout_at};

/// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR` and `_IPV6_ROUTE` of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// `RTMGRP_NEIGH`.
const NEIGHBOURS: u32 = 0x4;

/// News come in bursts: it rings once the kernel has been quiet for so long, or has gone on for ten times as long.
const QUIET: Duration = Duration::from_millis(100);

/// The bell. The runtime has no word for a netlink socket; it is a datagram socket like those of its Unix family.
#[derive(Debug)]
pub(crate) struct Bell(UnixDatagram);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        Self::of(GROUPS)
    }

    /// Rings when neighbours came, went, or were heard of.
    pub(crate) fn of_neighbours() -> io::Result<Self> {
        Self::of(NEIGHBOURS)
    }

    fn of(groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // NETLINK_ROUTE is protocol 0, the default.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, groups))?;
        Ok(Self(UnixDatagram::from_std(StdDatagram::from(socket))?))
    }

    /// Waits until it rings. It may be dropped and called again at any time.
    pub(crate) async fn rings(&self) -> io::Result<()> {
        self.drained().await?;
        let last = Instant::now() + 10 * QUIET;
        while let Ok(more) = timeout_at((Instant::now() + QUIET).min(last), self.drained()).await {
            more?;
            if Instant::now() >= last {
                break;
            }
        }
        Ok(())
    }

    /// Waits for news and reads all there are.
    async fn drained(&self) -> io::Result<()> {
        self.0.readable().await?;
        loop {
            // Cut off at its first byte: only that it came matters.
            match self.0.try_recv(&mut [0; 1]) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The queue overflowed: that is news too.
                Err(e) if e.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// A neighbour as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) interface: u32,
    pub(crate) ip: IpAddr,
    pub(crate) hardware: Vec<u8>,
    /// It did not answer.
    pub(crate) is_failed: bool,
    /// How long ago it was last known to be there.
    pub(crate) confirmed_ago: Duration,
}

/// Bytes that are read at a time; the kernel sends up to 32 KiB.
const ANSWER_MAX: usize = 32 * 1024;
/// Answers that are read: as many hold 60,000 neighbours.
const ANSWERS_MAX: usize = 256;

/// The kernel has the answer ready; only one that is none would take so long.
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// The table of neighbours (`RTM_GETNEIGH`), without those that are only being asked for. The kernel answers at once.
pub(crate) fn neighbours() -> io::Result<Vec<Neighbour>> {
    const RTM_GETNEIGH: u16 = 30;
    const REQUEST_DUMP: u16 = 0x1 | 0x300;
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, 0))?;
    set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_DEADLINE))?;
    // struct nlmsghdr, and struct ndmsg of zeros: all families, all interfaces.
    let mut request = [0_u8; 28];
    request[..4].copy_from_slice(&28_u32.to_ne_bytes());
    request[4..6].copy_from_slice(&RTM_GETNEIGH.to_ne_bytes());
    request[6..8].copy_from_slice(&REQUEST_DUMP.to_ne_bytes());
    send(&socket, &request, SendFlags::empty())?;
    let (mut all, mut answer) = (Vec::new(), vec![0; ANSWER_MAX]);
    for _ in 0..ANSWERS_MAX {
        let (_, len) = recv(&socket, &mut answer[..], RecvFlags::empty())?;
        if read(&answer[..len.min(ANSWER_MAX)], &mut all)? {
            break;
        }
    }
    Ok(all)
}

/// Reads one answer; true if it was the last.
fn read(mut rest: &[u8], all: &mut Vec<Neighbour>) -> io::Result<bool> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const RTM_NEWNEIGH: u16 = 28;
    while let Some((len, kind)) = header(rest) {
        let Some(message) = rest.get(16..len) else { break };
        match kind {
            DONE => return Ok(true),
            ERROR => return Err(io::Error::other("RTM_GETNEIGH is refused")),
            RTM_NEWNEIGH => all.extend(neighbour(message)),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let len = usize::try_from(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?)).ok()?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (len >= 16).then_some((len, kind))
}

/// `struct ndmsg` and its attributes.
fn neighbour(message: &[u8]) -> Option<Neighbour> {
    const DESTINATION: u16 = 1;
    const HARDWARE: u16 = 2;
    const CACHE: u16 = 3;
    /// `NUD_INCOMPLETE` and `NUD_NOARP`: nobody has answered; there is nobody to ask. `NUD_FAILED`, `NUD_PERMANENT`.
    const NOBODY: u16 = 0x01 | 0x40;
    const FAILED: u16 = 0x20;
    const PERMANENT: u16 = 0x80;
    let interface = u32::from_ne_bytes(message.get(4..8)?.try_into().ok()?);
    let state = u16::from_ne_bytes(message.get(8..10)?.try_into().ok()?);
    if state == 0 || state & NOBODY != 0 {
        return None;
    }
    let (mut ip, mut hardware, mut ticks) = (None, Vec::new(), 0);
    let mut rest = message.get(12..)?;
    while let (Some(len), Some(kind)) = (rest.get(..2), rest.get(2..4)) {
        let len = usize::from(u16::from_ne_bytes(len.try_into().ok()?));
        let Some(value) = rest.get(4..len) else { break };
        match u16::from_ne_bytes(kind.try_into().ok()?) & 0x3fff {
            DESTINATION if value.len() == 4 => ip = <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
            DESTINATION => ip = <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
            HARDWARE => hardware = value.to_vec(),
            // struct nda_cacheinfo: confirmed, used, updated, refcnt; in hundredths of a second.
            CACHE => ticks = u32::from_ne_bytes(value.get(..4)?.try_into().ok()?),
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    let confirmed_ago = if state & PERMANENT != 0 { Duration::ZERO } else { Duration::from_millis(10) * ticks };
    Some(Neighbour { interface, ip: ip?, hardware, is_failed: state & FAILED != 0, confirmed_ago })
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn it_is_silent_while_nothing_changes() {
        let bell = Bell::new().unwrap();
        // Other programs may change the network of this machine at any time: a ring is no failure, an error is.
        if let Ok(rang) = timeout(Duration::from_millis(50), bell.rings()).await {
            rang.unwrap();
        }
    }

    #[test]
    fn the_table_is_told() {
        // Whoever is in it, it can be read to its end.
        let table = neighbours().unwrap();
        assert!(table.iter().all(|entry| entry.interface > 0), "{table:?}");
    }

    #[test]
    fn an_entry_is_read_and_a_short_one_is_none() {
        let mut message = vec![2, 0, 0, 0];
        message.extend(3_u32.to_ne_bytes());
        message.extend(4_u16.to_ne_bytes());
        message.extend([0, 1]);
        for (kind, value) in [
            (1_u16, vec![192, 168, 1, 10]),
            (2, vec![2, 0, 0, 0, 0, 1]),
            (3, [500_u32.to_ne_bytes(), [0; 4], [0; 4], [0; 4]].concat()),
        ] {
            message.extend((u16::try_from(value.len()).unwrap() + 4).to_ne_bytes());
            message.extend(kind.to_ne_bytes());
            message.extend(&value);
            message.resize(message.len().next_multiple_of(4), 0);
        }
        let entry = neighbour(&message).unwrap();
        assert_eq!((entry.interface, entry.ip.to_string().as_str(), entry.is_failed), (3, "192.168.1.10", false));
        assert_eq!((entry.hardware, entry.confirmed_ago), (vec![2, 0, 0, 0, 0, 1], Duration::from_secs(5)));
        for end in 0..message.len() {
            let _read = neighbour(&message[..end]);
        }
    }
}
