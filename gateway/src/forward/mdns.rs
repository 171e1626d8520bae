//! Names under `.local`, asked of the LAN by multicast DNS (RFC 6762); nothing runs before the first such name is needed.

use std::collections::{BTreeSet, HashMap};
use std::net::{SocketAddr, SocketAddrV6};
use std::sync::{Mutex, MutexGuard, PoisonError};

use linkspan_protocol::driver::ResetReason;
use mdns_sd::{HostnameResolutionEvent, Receiver, ScopedIp, ServiceDaemon};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::target::Refusal;

/// The names asked for so far. Each is followed from then on: an answer that is known already costs a connection no
/// time, and the daemon asks again before one expires.
#[derive(Default)]
pub(in crate::forward) struct Names {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    daemon: Option<ServiceDaemon>,
    followed: HashMap<Box<str>, watch::Receiver<Addresses>>,
    followers: JoinSet<()>,
}

/// Addresses without a port; IPv4 comes first, which is what most devices serve on.
type Addresses = BTreeSet<SocketAddr>;

impl Names {
    pub(in crate::forward) async fn resolve(
        &self,
        name: &str,
        port: u16,
        deadline: Instant,
    ) -> Result<Vec<SocketAddr>, Refusal> {
        let refusal = |text| Refusal { reason: ResetReason::NameNotFound, text };
        let mut addresses = self.follow(name).map_err(|e| refusal(format!("multicast DNS does not start: {e}")))?;
        if let Ok(Ok(found)) = timeout_at(deadline, addresses.wait_for(|addresses| !addresses.is_empty())).await {
            let at_port = |mut address: SocketAddr| {
                address.set_port(port);
                address
            };
            return Ok(found.iter().copied().map(at_port).collect());
        }
        // Asked anew next time: by now the daemon asks more and more seldom.
        self.forget(name);
        Err(refusal(format!("{name}: nobody on the LAN answers to this name")))
    }

    fn follow(&self, name: &str) -> Result<watch::Receiver<Addresses>, mdns_sd::Error> {
        let mut inner = self.lock();
        if let Some(addresses) = inner.followed.get(name).filter(|addresses| addresses.has_changed().is_ok()) {
            return Ok(addresses.clone());
        }
        let daemon = match &inner.daemon {
            Some(daemon) => daemon.clone(),
            None => inner.daemon.insert(ServiceDaemon::new()?).clone(),
        };
        let events = daemon.resolve_hostname(&format!("{name}."), None)?;
        let (tell, addresses) = watch::channel(Addresses::new());
        while inner.followers.try_join_next().is_some() {}
        inner.followers.spawn(follow(events, tell));
        inner.followed.insert(name.into(), addresses.clone());
        Ok(addresses)
    }

    fn forget(&self, name: &str) {
        let mut inner = self.lock();
        let still_unknown = inner.followed.get(name).is_some_and(|addresses| addresses.borrow().is_empty());
        if still_unknown {
            inner.followed.remove(name);
            if let Some(daemon) = &inner.daemon
                && let Err(e) = daemon.stop_resolve_hostname(&format!("{name}."))
            {
                log::debug!("multicast DNS: {e}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        if let Some(daemon) = self.lock().daemon.take()
            && let Err(e) = daemon.shutdown()
        {
            log::debug!("multicast DNS: {e}");
        }
    }
}

async fn follow(events: Receiver<HostnameResolutionEvent>, tell: watch::Sender<Addresses>) {
    while let Ok(event) = events.recv_async().await {
        match event {
            HostnameResolutionEvent::AddressesFound(_, found) => {
                tell.send_modify(|addresses| addresses.extend(found.iter().map(without_port)));
            }
            HostnameResolutionEvent::AddressesRemoved(_, gone) => tell.send_modify(|addresses| {
                for address in &gone {
                    addresses.remove(&without_port(address));
                }
            }),
            HostnameResolutionEvent::SearchStopped(_) | HostnameResolutionEvent::SearchTimeout(_) => return,
            _ => {}
        }
    }
}

fn without_port(address: &ScopedIp) -> SocketAddr {
    match address {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.addr(), 0, 0, v6.scope_id().index).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), 0),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mdns_sd::ServiceInfo;

    use super::*;

    #[tokio::test]
    async fn a_name_that_is_answered_on_the_lan_has_an_address() {
        let device = ServiceDaemon::new().unwrap();
        let host = format!("linkspan-test-{}.local", std::process::id());
        let name = format!("{host}.");
        let service = ServiceInfo::new("_linkspan-test._tcp.local.", &host, &name, "", 80, None).unwrap();
        device.register(service.enable_addr_auto()).unwrap();
        let names = Names::default();
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = names.resolve(&host, 8080, deadline).await.unwrap();
        assert!(found.iter().all(|address| address.port() == 8080) && !found.is_empty(), "{found:?}");
        let again = names.resolve(&host, 80, Instant::now()).await.unwrap();
        assert!(!again.is_empty(), "the second question is answered at once");
        device.shutdown().unwrap();
    }

    #[tokio::test]
    async fn a_name_that_nobody_has_is_not_found_in_time() {
        let names = Names::default();
        let deadline = Instant::now() + Duration::from_millis(300);
        let refusal = names.resolve("nobody-has-this.local", 80, deadline).await.unwrap_err();
        assert_eq!(refusal.reason, ResetReason::NameNotFound);
        assert!(names.lock().followed.is_empty(), "it will be asked for anew");
    }
}
