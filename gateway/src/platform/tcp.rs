//! Connects to the first of several addresses that answers, without waiting for each to time out (RFC 8305, the simple part).

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Head start of one address before the next is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Addresses tried at most: a name with hundreds of them must not cost hundreds of sockets.
pub(super) const ADDRESSES_MAX: usize = 8;

/// Silence after which the kernel asks whether the other end is still there, and how often it asks again.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);

/// Connects to whichever address answers first. The error is that of the address that was tried first.
pub(crate) async fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut waiting = interleaved(addresses);
    let mut tries: JoinSet<(usize, io::Result<TcpStream>)> = JoinSet::new();
    let mut first_error: Option<(usize, io::Error)> = None;
    let mut next_start = Instant::now();
    let mut started = 0;
    let race = async {
        loop {
            if tries.is_empty() && waiting.is_empty() {
                return Err(first_error.take().map_or_else(no_address, |(_, e)| e));
            }
            tokio::select! {
                () = sleep_until(next_start), if !waiting.is_empty() => {
                    if let Some(address) = waiting.pop_front() {
                        let nth = started;
                        tries.spawn(async move { (nth, TcpStream::connect(address).await) });
                        started += 1;
                        next_start = Instant::now() + HEAD_START;
                    }
                }
                Some(done) = tries.join_next(), if !tries.is_empty() => match done {
                    Ok((_, Ok(stream))) => return Ok(stream),
                    Ok((nth, Err(e))) => {
                        if first_error.as_ref().is_none_or(|(earlier, _)| nth < *earlier) {
                            first_error = Some((nth, e));
                        }
                        next_start = Instant::now();
                    }
                    Err(stopped) => return Err(io::Error::other(stopped)),
                },
            }
        }
    };
    let stream = match timeout_at(deadline, race).await {
        Ok(result) => result?,
        Err(_) => return Err(io::ErrorKind::TimedOut.into()),
    };
    set_options(&stream);
    Ok(stream)
}

/// Small writes go out at once, and a peer that vanished is noticed. Neither is needed for bytes to flow.
fn set_options(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    let options = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&keepalive));
    if let Err(e) = options {
        log::debug!("socket options of {:?}: {e}", stream.peer_addr());
    }
}

/// Bytes that may wait in the kernel of a link's socket before it takes more, while nothing is known of the line: what goes
/// next is decided as late as that.
const NOT_SENT_MAX: u32 = 16 * 1024;

/// Time after which the kernel gives a connection up whose bytes nobody acknowledges. It is the protocol's own time for a
/// sign of life: the kernel notices where the protocol has nothing to ask about.
const USER_TIMEOUT: Duration = linkspan_protocol::limits::PING_DEADLINE;

/// The options of the connection that carries the link. It has no keepalive of TCP's: the protocol asks by itself, and
/// each packet costs.
pub(crate) fn carry_a_link(stream: &TcpStream, congestion: Option<&str>) {
    let socket = SockRef::from(stream);
    let options = [
        stream.set_nodelay(true),
        socket.set_tcp_notsent_lowat(NOT_SENT_MAX),
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT)),
    ];
    for e in options.into_iter().filter_map(Result::err) {
        log::debug!("socket options of {:?}: {e}", stream.peer_addr());
    }
    if let Some(name) = congestion
        && let Err(e) = socket.set_tcp_congestion(name.as_bytes())
    {
        log::debug!("congestion control {name}: {e}");
    }
}

/// Has a socket take more only while it has fewer bytes than that unsent. Some kernels of routers cannot.
pub(crate) fn keep_unsent(stream: &TcpStream, bytes: usize) {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    if let Err(e) = SockRef::from(stream).set_tcp_notsent_lowat(bytes) {
        log::debug!("TCP_NOTSENT_LOWAT: {e}");
    }
}

/// IPv6 and IPv4 by turns, beginning with the kind that the resolver put first (RFC 8305, section 4).
pub(super) fn interleaved(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut turns = VecDeque::with_capacity(addresses.len().min(ADDRESSES_MAX));
    loop {
        let pair = [first.next(), second.next()];
        turns.extend(pair.iter().flatten());
        if pair == [None, None] || turns.len() >= ADDRESSES_MAX {
            turns.truncate(ADDRESSES_MAX);
            return turns;
        }
    }
}

pub(super) fn no_address() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "the name has no address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// A port of 127.0.0.1 at which nobody listens.
    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    #[tokio::test]
    async fn the_address_that_answers_is_taken() {
        let v4 = TcpListener::bind("127.0.0.1:0").await.unwrap().into_std().unwrap();
        let v6 = TcpListener::bind("[::1]:0").await.unwrap().into_std().unwrap();
        for listener in [v4, v6] {
            let at = listener.local_addr().unwrap();
            let stream = connect(&[closed().await, closed().await, at], soon()).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), at);
            assert!(stream.nodelay().unwrap());
            assert!(SockRef::from(&stream).keepalive().unwrap());
        }
    }

    #[tokio::test]
    async fn a_silent_address_does_not_hold_up_the_next_one() {
        // A listener whose queue is full swallows the next SYN: the address stays silent.
        let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        silent.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        silent.listen(0).unwrap();
        let silent_at = silent.local_addr().unwrap().as_socket().unwrap();
        let _fill: Vec<_> = (0..2).map(|_| std::net::TcpStream::connect(silent_at).ok()).take(1).collect();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let began = Instant::now();
        let stream = connect(&[silent_at, at], soon()).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), at);
        assert!(began.elapsed() < Duration::from_secs(3));
        let short = Instant::now() + Duration::from_millis(300);
        assert_eq!(connect(&[silent_at], short).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn the_first_address_gives_the_error() {
        let refused = connect(&[closed().await], soon()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(connect(&[], soon()).await.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_links_socket_decides_late_and_is_given_up_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        for name in ["reno", "no-such-algorithm"] {
            carry_a_link(&stream, Some(name));
            let socket = SockRef::from(&stream);
            assert!(stream.nodelay().unwrap() && !socket.keepalive().unwrap());
            assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOT_SENT_MAX);
            assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
            assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
        }
    }

    #[test]
    fn kinds_of_address_take_turns() {
        let parse = |list: &str| -> Vec<SocketAddr> { list.split(' ').map(|a| a.parse().unwrap()).collect() };
        let given = parse("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 1.1.1.2:1");
        assert_eq!(Vec::from(interleaved(&given)), parse("[::1]:1 1.1.1.1:1 [::2]:1 1.1.1.2:1 [::3]:1"));
        let many: Vec<SocketAddr> = (1..100).map(|n| SocketAddr::from(([10, 0, 0, n], 1))).collect();
        assert_eq!(interleaved(&many).len(), ADDRESSES_MAX);
    }
}
