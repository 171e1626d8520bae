//! What the kernel has counted on a TCP connection (TCP_INFO, tcp(7)): the bytes of all its packets, as a carrier counts.

use std::os::fd::{AsFd, OwnedFd};

use nix::libc;
use nix::sys::socket::sockopt::GetStruct;
use nix::sys::socket::{SockaddrStorage, getpeername, getsockopt};

/// The beginning of `struct tcp_info`, which never changes, in words of 32 bits, up to `tcpi_segs_in`.
type Words = [u32; 36];

/// The same, up to `tcpi_notsent_bytes`.
type MoreWords = [u32; 37];

#[derive(Clone, Copy)]
struct TcpInfo;

#[derive(Clone, Copy)]
struct MoreTcpInfo;

nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, Words, GetStruct<Words>);
nix::getsockopt_impl!(MoreTcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, MoreWords, GetStruct<MoreWords>);

/// Linux counts the bytes and segments of a connection since this version.
const COUNTS_SINCE: (u32, u32) = (4, 2);

/// It tells what is not sent yet since this one.
const UNSENT_SINCE: (u32, u32) = (4, 6);

/// Bytes of all packets of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OnTheWire {
    pub(crate) sent: u64,
    pub(crate) received: u64,
}

/// A connection whose packets are counted. It holds the socket open: drop it when the connection ends.
#[derive(Debug)]
pub(crate) struct Counter {
    socket: OwnedFd,
    ip_header: u64,
}

impl Counter {
    /// `None` where the kernel does not count, or the system has no descriptor left.
    pub(crate) fn of(socket: &impl AsFd) -> Option<Self> {
        if !is_kernel(COUNTS_SINCE) {
            return None;
        }
        let socket = socket.as_fd().try_clone_to_owned().ok()?;
        let peer: SockaddrStorage = getpeername(std::os::fd::AsRawFd::as_raw_fd(&socket)).ok()?;
        let is_v4 = peer.as_sockaddr_in().is_some()
            || peer.as_sockaddr_in6().is_some_and(|v6| v6.ip().to_ipv4_mapped().is_some());
        Some(Self { socket, ip_header: if is_v4 { 20 } else { 40 } })
    }

    /// What has passed since the connection began; `None` if the kernel does not say.
    pub(crate) fn read(&self) -> Option<OnTheWire> {
        getsockopt(&self.socket, TcpInfo).ok().map(|words| on_the_wire(&words, self.ip_header))
    }
}

/// Whether [`unsent`] may be asked.
pub(crate) fn tells_unsent() -> bool {
    is_kernel(UNSENT_SINCE)
}

/// Bytes that the kernel holds and has not sent yet.
pub(crate) fn unsent(socket: &impl AsFd) -> Option<usize> {
    getsockopt(&socket.as_fd(), MoreTcpInfo).ok().and_then(|words| usize::try_from(words[36]).ok())
}

fn is_kernel(since: (u32, u32)) -> bool {
    let Ok(system) = nix::sys::utsname::uname() else { return false };
    let release = system.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= since
}

fn on_the_wire(words: &Words, ip_header: u64) -> OnTheWire {
    let [_, options, ..] = words.map(u32::to_ne_bytes);
    /// `TCPI_OPT_TIMESTAMPS`: each segment bears 12 bytes of options.
    const TIMESTAMPS: u8 = 1;
    let tcp_header = if options[1] & TIMESTAMPS == 0 { 20 } else { 32 };
    let header = ip_header + tcp_header;
    let segment = u64::from(words[4]);
    let sent_again = u64::from(words[25]) * segment;
    OnTheWire {
        sent: long(words[30], words[31]) + sent_again + u64::from(words[34]) * header,
        received: long(words[32], words[33]) + u64::from(words[35]) * header,
    }
}

/// A number of 64 bits that lies in two words.
fn long(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_connections_bytes_are_counted_with_their_headers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let counter = Counter::of(&near).unwrap();
        let before = counter.read().unwrap();
        assert!(before.sent < 500 && before.received < 500, "{before:?}");
        let mut near = near;
        near.write_all(&[1; 100_000]).await.unwrap();
        let mut heard = vec![0; 100_000];
        far.read_exact(&mut heard).await.unwrap();
        far.write_all(&[2; 1000]).await.unwrap();
        near.read_exact(&mut heard[..1000]).await.unwrap();
        let after = counter.read().unwrap();
        assert!((100_000..110_000).contains(&after.sent), "{after:?}");
        assert!((1000..10_000).contains(&after.received), "{after:?}");
    }

    #[test]
    fn headers_and_what_was_sent_again_count() {
        let mut words = [0; 36];
        words[1] = u32::from_ne_bytes([0, TIMESTAMPS_ON, 0, 0]);
        (words[4], words[25], words[34], words[35]) = (1000, 2, 10, 5);
        let bytes = 5000_u64.to_ne_bytes();
        let [a, b, c, d, e, f, g, h] = bytes;
        (words[30], words[31]) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        assert_eq!(on_the_wire(&words, 20), OnTheWire { sent: 5000 + 2000 + 10 * 52, received: 5 * 52 });
        words[1] = 0;
        assert_eq!(on_the_wire(&words, 40).received, 5 * 60);
    }

    const TIMESTAMPS_ON: u8 = 1;
}
