//! The one accept loop, used for every port: a permit first, a pause after errors, the rest in the connection's own task.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::arrivals::{Arrival, Arrivals};
use super::limits;
use super::turnstile::{TooMany, Turn, Turnstile};

/// A port could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}; is another program using the port, and may this one?")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system says.
    #[source]
    pub source: io::Error,
}

/// Opens a port. An IPv6 wildcard takes IPv4 too.
pub fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    let open = || {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(!address.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        // A fleet that reconnects after a restart comes within seconds; the kernel caps this at net.core.somaxconn.
        socket.listen(4096)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|source| BindError { address, source })
}

/// What all ports of the server share: the room for connections, their tasks, and how they end.
#[derive(Clone, Debug)]
pub struct House {
    room: Arc<Semaphore>,
    arrivals: Arrivals,
    turnstile: Turnstile,
    tasks: TaskTracker,
    /// Cancelled: no new connections and requests; what runs may finish.
    closing: CancellationToken,
    /// Cancelled: the end.
    closed: CancellationToken,
}

/// How a house was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Everybody had finished.
    InTime,
    /// So many connections were cut.
    Cut(usize),
}

/// An accepted connection with its place in the house.
#[derive(Debug)]
pub struct Guest {
    /// The socket.
    pub socket: TcpStream,
    /// Its other end.
    pub address: SocketAddr,
    /// To be dropped when the first request is complete.
    pub arrival: Arrival,
}

impl House {
    /// Room for so many connections at once.
    pub fn new(connections: usize) -> Self {
        Self {
            room: Arc::new(Semaphore::new(connections)),
            arrivals: Arrivals::new(limits::arriving_per_address(connections)),
            turnstile: Turnstile::new(connections),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Accepts on one port until the house closes. Nothing that happens on the port ends it earlier.
    pub async fn accept<F, T>(&self, listener: &TcpListener, handle: F)
    where
        F: Fn(Guest) -> T,
        T: Future<Output = ()> + Send + 'static,
    {
        let mut pause = Pause::default();
        loop {
            let Some((accepted, permit)) = self.next(listener).await else { return };
            match accepted {
                Ok((socket, address)) => {
                    pause.reset();
                    if let Some(arrival) = self.arrivals.enter(address.ip()) {
                        tune(&socket);
                        let connection = handle(Guest { socket, address, arrival });
                        self.spawn(connection, permit);
                    } else {
                        tracing::debug!(%address, "too many unfinished connections from one address");
                    }
                }
                Err(error) => {
                    let length = pause.next();
                    if length == limits::ACCEPT_PAUSE.0 {
                        tracing::warn!(%error, "cannot accept connections; pausing until it works again");
                    }
                    drop(permit);
                    let _ = self.closing.run_until_cancelled(tokio::time::sleep(length)).await;
                }
            }
        }
    }

    /// Runs a task that belongs to the house: it ends with it at the latest.
    pub fn spawn_task(&self, task: impl Future<Output = ()> + Send + 'static) {
        let closed = self.closed.clone();
        // In a box, since the future around it would hold it twice.
        let task = Box::pin(task);
        self.tasks.spawn(async move {
            let _ = closed.run_until_cancelled(task).await;
        });
    }

    /// Runs a task that ends when its handle is dropped, or with the house.
    pub fn spawn_owned(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(self.tasks.spawn(task))
    }

    /// Waits until a gateway may come in; people do not ask.
    ///
    /// # Errors
    /// [`TooMany`]: it should come another time.
    pub async fn turn(&self) -> Result<Turn, TooMany> {
        self.turnstile.turn(|pace| self.spawn_task(pace.run())).await
    }

    /// Gateways that wait for their turn.
    pub fn gateways_waiting(&self) -> usize {
        self.turnstile.waiting()
    }

    /// Cancelled when connections should come to an end.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Closes the house: no new connection, those that are here may finish until the deadline.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.closing.cancel();
        self.tasks.close();
        if tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok() {
            return Drained::InTime;
        }
        let cut = self.tasks.len();
        self.closed.cancel();
        self.tasks.wait().await;
        Drained::Cut(cut)
    }

    async fn next(
        &self,
        listener: &TcpListener,
    ) -> Option<(io::Result<(TcpStream, SocketAddr)>, OwnedSemaphorePermit)> {
        let permit = self.closing.run_until_cancelled(Arc::clone(&self.room).acquire_owned()).await?.ok()?;
        let accepted = self.closing.run_until_cancelled(listener.accept()).await?;
        Some((accepted, permit))
    }

    fn spawn(&self, connection: impl Future<Output = ()> + Send + 'static, permit: OwnedSemaphorePermit) {
        self.spawn_task(async move {
            connection.await;
            drop(permit);
        });
    }
}

/// Small answers go out at once, and a peer that vanished is noticed.
fn tune(socket: &TcpStream) {
    let (time, interval, retries) = limits::TCP_KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(time).with_interval(interval).with_retries(retries);
    let tuned = socket.set_nodelay(true).and_then(|()| SockRef::from(socket).set_tcp_keepalive(&keepalive));
    if let Err(error) = tuned {
        tracing::debug!(%error, "cannot set socket options");
    }
}

/// A pause that doubles with each failure and is bounded.
#[derive(Debug, Default)]
struct Pause(Option<Duration>);

impl Pause {
    fn next(&mut self) -> Duration {
        let (first, longest) = limits::ACCEPT_PAUSE;
        let length = self.0.map_or(first, |last| (last * 2).min(longest));
        self.0 = Some(length);
        length
    }

    fn reset(&mut self) {
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_and_is_bounded() {
        let mut pause = Pause::default();
        let lengths: Vec<u128> = (0..8).map(|_| pause.next().as_millis()).collect();
        assert_eq!(lengths, [20, 40, 80, 160, 320, 640, 1000, 1000]);
        pause.reset();
        assert_eq!(pause.next().as_millis(), 20);
    }

    #[tokio::test]
    async fn a_taken_port_is_named() {
        let taken = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = bind(taken.local_addr().unwrap()).unwrap_err();
        assert!(error.to_string().contains(&taken.local_addr().unwrap().to_string()), "{error}");
    }
}
