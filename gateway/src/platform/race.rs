//! Connects over a line that may be down: addresses race (RFC 8305), and each is asked again and again by a new attempt.
//!
//! The kernel repeats an unanswered SYN after 1, 3, 7, 15 s: an attempt that began before the line came back would sleep
//! for as long as the line was away. New attempts beside the old ones cost 60 bytes each and find it at once.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::tcp;

/// Head start of one address before the next is tried beside it (RFC 8305, section 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// Attempts beside the first one of each address. With a new one each second, each lives three seconds: longer than the
/// round trip of any line that is of use. The first ones stay for the lines that are not.
const BESIDE: usize = 3;

/// Addresses being tried.
pub(crate) struct Race {
    known: Vec<SocketAddr>,
    refused: Vec<SocketAddr>,
    waiting: VecDeque<SocketAddr>,
    again: Duration,
    turn: usize,
    tries: JoinSet<(SocketAddr, io::Result<TcpStream>)>,
    beside: VecDeque<AbortHandle>,
    next_start: Instant,
    first_error: Option<(usize, io::Error)>,
}

impl Race {
    /// A race without addresses. `again` is the time after which an address that stays silent is asked again.
    pub(crate) fn new(again: Duration) -> Self {
        Self {
            known: Vec::new(),
            refused: Vec::new(),
            waiting: VecDeque::new(),
            again,
            turn: 0,
            tries: JoinSet::new(),
            beside: VecDeque::new(),
            next_start: Instant::now(),
            first_error: None,
        }
    }

    /// Addresses that take part from now on; those that do already are left alone.
    pub(crate) fn add(&mut self, addresses: &[SocketAddr]) {
        for address in tcp::interleaved(addresses) {
            if !self.known.contains(&address) && self.known.len() < 2 * tcp::ADDRESSES_MAX {
                self.known.push(address);
                self.waiting.push_back(address);
            }
        }
    }

    /// How many addresses take part.
    pub(crate) fn addresses(&self) -> &[SocketAddr] {
        &self.known
    }

    /// Whether [`run`](Self::run) has anything to do.
    pub(crate) fn is_on(&self) -> bool {
        !self.waiting.is_empty() || !self.tries.is_empty()
    }

    /// Runs until one address answers, or none is left that may. The error is that of the address that came first. It may
    /// be dropped and called again at any time.
    pub(crate) async fn run(&mut self) -> io::Result<TcpStream> {
        loop {
            if !self.is_on() {
                return Err(self.first_error.take().map_or_else(tcp::no_address, |(_, e)| e));
            }
            tokio::select! {
                () = sleep_until(self.next_start) => self.start_next(),
                Some(done) = self.tries.join_next(), if !self.tries.is_empty() => match done {
                    Ok((_, Ok(stream))) => return Ok(stream),
                    Ok((address, Err(e))) => self.failed(address, e),
                    // One that was stopped to make room.
                    Err(_) => {}
                },
            }
        }
    }

    fn start_next(&mut self) {
        let now = Instant::now();
        if let Some(address) = self.waiting.pop_front() {
            self.spawn(address);
            self.next_start = now + if self.waiting.is_empty() { self.again } else { HEAD_START };
            return;
        }
        let silent: Vec<_> = self.known.iter().filter(|known| !self.refused.contains(known)).collect();
        if let Some(address) = silent.get(self.turn % silent.len().max(1)).map(|address| **address) {
            if self.beside.len() >= BESIDE
                && let Some(oldest) = self.beside.pop_front()
            {
                oldest.abort();
            }
            let handle = self.spawn(address);
            self.beside.push_back(handle);
            self.turn += 1;
        }
        self.next_start = now + self.again;
    }

    fn spawn(&mut self, address: SocketAddr) -> AbortHandle {
        self.tries.spawn(async move { (address, TcpStream::connect(address).await) })
    }

    /// An address that answers with no is not asked again; the next one is, at once.
    fn failed(&mut self, address: SocketAddr, error: io::Error) {
        let Some(nth) = self.known.iter().position(|known| *known == address) else { return };
        if self.first_error.as_ref().is_none_or(|(earlier, _)| nth < *earlier) {
            self.first_error = Some((nth, error));
        }
        self.refused.push(address);
        if !self.waiting.is_empty() {
            self.next_start = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    use super::*;

    const AGAIN: Duration = Duration::from_millis(300);
    const SOON: Duration = Duration::from_secs(5);

    /// A listener whose queue is full swallows the next SYN: the address stays silent until `accept` makes room.
    fn silent() -> (std::net::TcpListener, Vec<std::net::TcpStream>, SocketAddr) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let at = listener.local_addr().unwrap();
        let fill = vec![std::net::TcpStream::connect(at).unwrap()];
        (listener, fill, at)
    }

    async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
        let mut race = Race::new(AGAIN);
        race.add(addresses);
        timeout(SOON, race.run()).await.expect("it ends")
    }

    #[tokio::test]
    async fn an_address_that_comes_to_life_is_found_at_once() {
        let (listener, _fill, at) = silent();
        let mut race = Race::new(AGAIN);
        race.add(&[at]);
        // Long enough for the kernel's own next SYN to be seconds away.
        assert!(timeout(Duration::from_millis(3300), race.run()).await.is_err());
        let _room = listener.accept().unwrap();
        let began = Instant::now();
        timeout(SOON, race.run()).await.unwrap().unwrap();
        assert!(began.elapsed() < 3 * AGAIN, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_silent_address_holds_nobody_up_and_losers_are_closed() {
        let (_listener, _fill, silent_at) = silent();
        let listener = TcpListener::bind("[::1]:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let began = Instant::now();
        assert_eq!(race(&[silent_at, at]).await.unwrap().peer_addr().unwrap(), at);
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn addresses_may_come_later_and_the_first_ones_error_is_told() {
        let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(race(&[dead]).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(race(&[]).await.unwrap_err().kind(), io::ErrorKind::NotFound);
        let (_listener, _fill, silent_at) = silent();
        let mut race = Race::new(AGAIN);
        race.add(&[silent_at]);
        assert!(timeout(2 * AGAIN, race.run()).await.is_err());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        race.add(&[silent_at, listener.local_addr().unwrap()]);
        assert_eq!(race.addresses().len(), 2);
        assert_eq!(
            timeout(SOON, race.run()).await.unwrap().unwrap().peer_addr().unwrap(),
            listener.local_addr().unwrap()
        );
    }
}
