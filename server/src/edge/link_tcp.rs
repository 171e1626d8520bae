//! The TCP connection of a gateway's link: it is kept short, silent, and tried again soon after a line comes back.

use std::time::Duration;

use nix::libc;
use nix::sys::socket::sockopt::{GetStruct, SetStruct};
use nix::sys::socket::{getsockopt, setsockopt};
use socket2::SockRef;
use tokio::net::TcpStream;

use super::limits;

/// The kernel's name for it (linux/tcp.h), which `libc` does not know yet.
const TCP_RTO_MAX_MS: i32 = 44;

/// Longest time between two tries of the kernel's, since Linux 6.15.
#[derive(Clone, Copy)]
struct RetryMax;

nix::setsockopt_impl!(RetryMax, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, i32, SetStruct<i32>);
nix::getsockopt_impl!(RetryMax, libc::IPPROTO_TCP, TCP_RTO_MAX_MS, i32, GetStruct<i32>);

/// The beginning of `struct tcp_info`, which never changes, in words of 32 bits, up to `tcpi_notsent_bytes`.
type Words = [u32; 37];

#[derive(Clone, Copy)]
struct TcpInfo;

nix::getsockopt_impl!(TcpInfo, libc::IPPROTO_TCP, libc::TCP_INFO, Words, GetStruct<Words>);

/// A gateway's link asks by itself whether the other end is there, as rarely as its line allows: probes of the kernel's would
/// cost its SIM card megabytes and keep a NAT awake that it is learning about. What goes next is decided late, so that little
/// waits unsent in the kernel. What was sent into a line that is down is tried again often, and for as long as the gateway may
/// not notice by itself: also after the server has given the link up, since the kernel then tells the gateway so.
pub(super) fn tune(socket: &TcpStream) {
    let options = SockRef::from(socket);
    let tuned = options
        .set_keepalive(false)
        .and_then(|()| options.set_tcp_notsent_lowat(limits::LINK_NOT_SENT_MAX))
        .and_then(|()| options.set_tcp_user_timeout(Some(limits::LINK_GIVEN_UP)));
    if let Err(error) = tuned {
        tracing::debug!(%error, "cannot set a link's socket options");
    }
    if let Err(error) = setsockopt(socket, RetryMax, &retry_max(socket)) {
        tracing::trace!(%error, "TCP_RTO_MAX_MS: Linux has it since 6.15");
    }
}

/// Bytes that the kernel holds and has not sent yet.
pub(super) fn unsent(socket: &TcpStream) -> Option<usize> {
    getsockopt(socket, TcpInfo).ok().and_then(|words| usize::try_from(words[36]).ok())
}

/// In milliseconds. On a slow line an answer that is only late must not be taken for a loss.
fn retry_max(socket: &TcpStream) -> i32 {
    let round_trip =
        getsockopt(socket, TcpInfo).map_or(Duration::ZERO, |words| Duration::from_micros(words[17].into()));
    let (least, most) = limits::LINK_RETRY;
    let retry = (limits::LINK_RETRY_ROUND_TRIPS * round_trip).clamp(least, most);
    i32::try_from(retry.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_link_is_tried_again_often_and_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (near, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), async {
            listener.accept().await.unwrap().0
        });
        tune(&accepted);
        let options = SockRef::from(&accepted);
        assert!(!options.keepalive().unwrap());
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(limits::LINK_GIVEN_UP));
        // The loopback is quick; a kernel that does not know the option says so.
        let least = i32::try_from(limits::LINK_RETRY.0.as_millis()).unwrap();
        match getsockopt(&accepted, RetryMax) {
            Ok(set) => assert_eq!(set, least),
            Err(error) => assert_eq!(error, nix::errno::Errno::ENOPROTOOPT),
        }
        drop(near);
    }
}
