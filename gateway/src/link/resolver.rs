//! Addresses of the server: asked for anew on each dial, never by more than a few threads, remembered for when no answer
//! comes.
//!
//! The system's resolver blocks, for up to half a minute where nobody answers, and cannot be stopped. So one question is
//! asked at a time; and while the line is down, the addresses that were good before are tried without its answer.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tokio::task::JoinHandle;

use crate::config::HostPort;

/// Questions that wait for the system's resolver at once: a second one is asked after the network has changed, since the
/// first may ask a server that is no more.
const ASKED_MAX: usize = 3;

/// Hosts whose addresses are remembered: servers, and a proxy.
const KNOWN_MAX: usize = 8;

type Answer = io::Result<Vec<SocketAddr>>;

/// Asks for addresses, and remembers them.
#[derive(Default)]
pub(super) struct Resolver {
    asked: Vec<(HostPort, JoinHandle<Answer>)>,
    known: Vec<(HostPort, Vec<SocketAddr>)>,
    renew: bool,
}

impl Resolver {
    /// The addresses of the last answer.
    pub(super) fn known(&self, at: &HostPort) -> Vec<SocketAddr> {
        self.known.iter().find(|(known, _)| known == at).map(|(_, addresses)| addresses.clone()).unwrap_or_default()
    }

    /// The network is another one: what is being asked is asked again.
    pub(super) fn renew(&mut self) {
        self.renew = true;
    }

    /// Asks, or waits for an answer that is on its way. It may be dropped and called again at any time.
    pub(super) async fn ask(&mut self, at: &HostPort) -> Answer {
        if let Ok(address) = at.host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, at.port)]);
        }
        let index = self.question(at);
        let Some((_, question)) = self.asked.get_mut(index) else {
            return Err(io::Error::other("the system's resolver does not answer"));
        };
        let answer = question.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        self.asked.swap_remove(index);
        if let Ok(addresses) = &answer {
            self.known.retain(|(known, _)| known != at);
            self.known.truncate(KNOWN_MAX - 1);
            self.known.insert(0, (at.clone(), addresses.clone()));
        }
        answer
    }

    /// Where the newest question about a host is, asked now if there is none.
    fn question(&mut self, at: &HostPort) -> usize {
        self.asked.retain(|(about, question)| about == at || !question.is_finished());
        let asked = self.asked.iter().rposition(|(about, _)| about == at);
        let renew = std::mem::take(&mut self.renew);
        match asked {
            Some(index) if !renew || self.asked.len() >= ASKED_MAX => index,
            _ if self.asked.len() >= ASKED_MAX => usize::MAX,
            _ => {
                let (host, port) = (at.host.clone(), at.port);
                let ask = move || Ok((&*host, port).to_socket_addrs()?.collect());
                self.asked.push((at.clone(), tokio::task::spawn_blocking(ask)));
                self.asked.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str) -> HostPort {
        HostPort { host: host.into(), port: 443 }
    }

    #[tokio::test]
    async fn what_was_answered_is_remembered() {
        let mut resolver = Resolver::default();
        assert!(resolver.known(&at("localhost")).is_empty());
        let addresses = resolver.ask(&at("localhost")).await.unwrap();
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 443), "{addresses:?}");
        assert_eq!(resolver.known(&at("localhost")), addresses);
        assert_eq!(resolver.ask(&at("::1")).await.unwrap(), ["[::1]:443".parse().unwrap()]);
        for n in 0..2 * KNOWN_MAX {
            resolver.known.insert(0, (at(&n.to_string()), Vec::new()));
            resolver.ask(&at("localhost")).await.unwrap();
        }
        assert!(resolver.known.len() <= KNOWN_MAX);
    }

    #[tokio::test]
    async fn questions_do_not_pile_up() {
        let mut resolver = Resolver::default();
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let mut stuck = |about: &str| {
            let held = held.clone();
            let question = tokio::task::spawn_blocking(move || {
                drop(held.lock().map(|held| held.recv()));
                Ok(Vec::new())
            });
            resolver.asked.push((at(about), question));
        };
        stuck("slow.invalid");
        let slow = at("slow.invalid");
        let asked = tokio::time::timeout(std::time::Duration::from_millis(10), resolver.ask(&slow)).await;
        assert!(asked.is_err());
        assert_eq!(resolver.asked.len(), 1, "the question that waits is waited for");
        for _ in 0..10 {
            resolver.renew();
            resolver.question(&at("localhost"));
            resolver.question(&at("slow.invalid"));
        }
        assert!(resolver.asked.len() <= ASKED_MAX, "{}", resolver.asked.len());
        drop(hold);
    }
}
