//! News about the network from the kernel (rtnetlink(7)): a bell that rings when links, addresses or routes changed.
//!
//! What changed is not read from it: whoever hears the bell looks for himself. That needs no parsing of strangers' bytes,
//! and nothing is missed when the kernel's queue overflows.

use std::io;
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use tokio::net::UnixDatagram;
use tokio::time::{Instant, timeout_at};

/// `RTMGRP_LINK`, `_IPV4_IFADDR`, `_IPV4_ROUTE`, `_IPV6_IFADDR` and `_IPV6_ROUTE` of linux/rtnetlink.h.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;

/// News come in bursts: it rings once the kernel has been quiet for so long, or has gone on for ten times as long.
const QUIET: Duration = Duration::from_millis(100);

/// The bell. The runtime has no word for a netlink socket; it is a datagram socket like those of its Unix family.
#[derive(Debug)]
pub(crate) struct Bell(UnixDatagram);

impl Bell {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // NETLINK_ROUTE is protocol 0, the default.
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
        bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
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
}
