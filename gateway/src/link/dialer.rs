//! Reaches one of the servers, whichever and whenever that may be, up to where a hello could be said.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::backoff;
use super::dial::{self, Socket};
use super::failure::{Failure, Step};
use super::resolver::Resolver;
use super::servers::Servers;
use super::tls;
use crate::config::{HostPort, Server};

/// The way that a link takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Which server, counted in the configuration.
    pub(super) server: usize,
    pub(super) local: SocketAddr,
    pub(super) peer: SocketAddr,
}

/// A WebSocket that leads to a server which does not know yet who calls.
pub(super) struct Reached {
    pub(super) socket: Socket,
    pub(super) path: Path,
}

/// Dials, and knows what came of it before.
pub(super) struct Dialer {
    pub(super) servers: Servers,
    pub(super) resolver: Resolver,
    tls: Arc<tls::Memory>,
    all: Vec<HostPort>,
}

impl Dialer {
    pub(super) fn new(server: &Server, tls: Arc<tls::Memory>) -> Self {
        let all: Vec<_> = server.all().cloned().collect();
        Self { servers: Servers::new(all.clone(), Instant::now()), resolver: Resolver::default(), tls, all }
    }

    /// Takes over another list of servers.
    pub(super) fn follow(&mut self, server: &Server) {
        if !server.all().eq(self.all.iter()) {
            *self = Self::new(server, self.tls.clone());
        }
    }

    /// The configuration has changed: what was refused may be accepted.
    pub(super) fn begin_anew(&mut self) {
        self.servers = Servers::new(self.all.clone(), Instant::now());
    }

    /// The network, or what is known of it, has changed.
    pub(super) fn news(&mut self) {
        self.resolver.renew();
        self.servers.news(Instant::now());
    }

    /// One attempt at the server that is next; which one it was, if it fails.
    pub(super) async fn reach(
        &mut self,
        config: &Server,
        at_step: impl FnMut(Step),
    ) -> Result<Reached, (usize, Failure)> {
        let now = Instant::now();
        let (nth, _) = self.servers.next(now);
        let at = self.servers.at(nth).unwrap_or(&config.at).clone();
        let server = Server { at, ..config.clone() };
        let again = backoff::pause(self.servers.down_for(now));
        let (socket, local, peer) = dial::reach(&server, (&mut self.resolver, again), &self.tls, at_step)
            .await
            .map_err(|failure| (nth, failure))?;
        Ok(Reached { socket, path: Path { server: nth, local, peer } })
    }

    /// Attempts until one succeeds, and tells of those that do not. It may be dropped and called again at any time.
    pub(super) async fn persist(&mut self, config: &Server, failed: impl Fn(Failure, Duration)) -> Reached {
        loop {
            sleep_until(self.servers.next(Instant::now()).1).await;
            match self.reach(config, |_| {}).await {
                Ok(reached) => return reached,
                Err((nth, failure)) => {
                    let wait = self.failed(nth, &failure);
                    failed(failure, wait);
                }
            }
        }
    }

    /// Notes a failure; the wait before that server is tried again.
    pub(super) fn failed(&mut self, nth: usize, failure: &Failure) -> Duration {
        self.servers.failed(nth, failure, Instant::now(), fastrand::f64())
    }
}
