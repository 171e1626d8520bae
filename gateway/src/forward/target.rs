//! From a host of the configuration to a connection: resolves it, and connects to the very address that was checked.

use std::io;
use std::net::{IpAddr, SocketAddr};

use linkspan_protocol::driver::ResetReason;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::names::Names;
use crate::config::{Policy, TargetHost};
use crate::platform::tcp;

/// Why a target was not reached, for the server and the person behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: ResetReason,
    pub(super) text: String,
}

/// Connects to a target of the configuration.
pub(super) async fn reach(
    names: &Names,
    host: &TargetHost,
    port: u16,
    (policy, deadline): (&Policy, Instant),
) -> Result<TcpStream, Refusal> {
    let addresses = permitted(policy, host, resolve(names, host, port, deadline).await?)?;
    tcp::connect(&addresses, deadline).await.map_err(|e| explain(&e, host, port))
}

async fn resolve(names: &Names, host: &TargetHost, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Refusal> {
    match host {
        TargetHost::Address(address) => Ok(vec![SocketAddr::new(*address, port)]),
        // The system knows the number of the interface.
        TargetHost::Scoped(..) => lookup(&host.to_string(), port, deadline).await,
        TargetHost::Name(name) => {
            let found = lookup(name, port, deadline).await?;
            if is_localhost(name) { Ok(found) } else { only_allowed(name, found) }
        }
        TargetHost::Mac(mac) => only_allowed(&host.to_string(), names.addresses(*mac, port)?),
        TargetHost::Local(name) => only_allowed(name, names.resolve(name, port, deadline).await?),
    }
}

/// A name may lead elsewhere than its owner thinks.
fn permitted(policy: &Policy, host: &TargetHost, mut found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
    let first = found.first().map(SocketAddr::ip);
    found.retain(|address| policy.allows_address(address.ip()));
    match first {
        Some(first) if found.is_empty() => {
            let text = format!("{host} leads to {first}, which the router's owner does not allow ([policy] networks)");
            Err(Refusal { reason: ResetReason::NotListed, text })
        }
        _ => Ok(found),
    }
}

/// The one name that says of itself that it leads to this machine (RFC 6761, section 6.3).
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

async fn lookup(name: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Refusal> {
    let refusal = |reason, text| Refusal { reason, text };
    match timeout_at(deadline, tokio::net::lookup_host((name, port))).await {
        Ok(Ok(found)) => Ok(found.collect()),
        Ok(Err(e)) => Err(refusal(ResetReason::NameNotFound, format!("{name} has no address: {e}"))),
        Err(_) => Err(refusal(ResetReason::TimedOut, format!("DNS did not answer in time for {name}"))),
    }
}

/// Whoever answers for a name must not be able to lead a stream to the router itself, to a metadata service or to many
/// hosts at once. An address in the configuration is another matter: its owner wrote it.
fn only_allowed(name: &str, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
    let first = found.first().map(SocketAddr::ip);
    let allowed: Vec<_> = found.into_iter().filter(|address| !is_forbidden(address.ip())).collect();
    match first {
        Some(first) if allowed.is_empty() => {
            let text = format!("{name} leads to {first}, where no name may lead; write the address, if it is meant");
            log::warn!("{text}");
            Err(Refusal { reason: ResetReason::NotListed, text })
        }
        _ => Ok(allowed),
    }
}

fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let this_network = v4.octets()[0] == 0;
            this_network || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
        }
        IpAddr::V6(v6) => {
            // ::a.b.c.d, deprecated and never on a LAN, holds ::1 and :: as well.
            let compatible = v6.segments()[..6] == [0; 6];
            // 64:ff9b::/96 leads to IPv4 addresses (RFC 6052).
            let [.., a, b, c, d] = v6.octets();
            let translated = v6.segments()[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
            compatible || v6.is_multicast() || (translated && is_forbidden(IpAddr::from([a, b, c, d])))
        }
    }
}

fn explain(error: &io::Error, host: &TargetHost, port: u16) -> Refusal {
    /// Numbers of errno(3) on Linux, the same on each processor that Rust runs on: no more files in the system, in
    /// the process.
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    let (reason, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (ResetReason::Refused, "refused the connection".to_owned()),
        io::ErrorKind::TimedOut => (ResetReason::TimedOut, "did not answer in time".to_owned()),
        io::ErrorKind::NotFound => (ResetReason::NameNotFound, "has no address".to_owned()),
        io::ErrorKind::ConnectionReset => (ResetReason::DeviceReset, "cut the connection at once".to_owned()),
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::InvalidInput => (ResetReason::Unreachable, format!("cannot be reached: {error}")),
        _ if matches!(error.raw_os_error(), Some(ENFILE | EMFILE)) => {
            (ResetReason::Internal, "was not tried: the gateway has no free file descriptor".to_owned())
        }
        _ => (ResetReason::Internal, format!("was not reached: {error}")),
    };
    Refusal { reason, text: format!("{host} port {port} {what}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_may_not_lead_to_the_router_itself_or_to_many() {
        for forbidden in [
            "127.0.0.1",
            "127.9.9.9",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.251",
            "255.255.255.255",
            "::1",
            "::",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "ff02::fb",
            "64:ff9b::7f00:1",
        ] {
            assert!(is_forbidden(forbidden.parse().unwrap()), "{forbidden}");
        }
        for allowed in [
            "192.168.1.10",
            "10.0.0.1",
            "100.64.0.1",
            "8.8.8.8",
            "fd00::10",
            "fe80::1",
            "2001:db8::1",
            "64:ff9b::808:808",
        ] {
            assert!(!is_forbidden(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn a_name_keeps_only_its_allowed_addresses() {
        let at = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 80)).collect()
        };
        assert_eq!(only_allowed("plc", at(&["127.0.0.1", "10.0.0.1"])), Ok(at(&["10.0.0.1"])));
        let refusal = only_allowed("plc", at(&["127.0.0.1", "::1"])).unwrap_err();
        assert_eq!(refusal.reason, ResetReason::NotListed);
        assert!(refusal.text.contains("plc leads to 127.0.0.1"), "{refusal:?}");
    }

    #[test]
    fn a_name_that_leads_out_of_the_allowed_networks_leads_nowhere() {
        let at = |list: &[&str]| -> Vec<SocketAddr> {
            list.iter().map(|a| SocketAddr::new(a.parse().unwrap(), 80)).collect()
        };
        let policy = Policy { networks: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..Policy::default() };
        let host = TargetHost::Name("plc".into());
        assert_eq!(permitted(&policy, &host, at(&["192.168.1.1", "10.0.0.1"])), Ok(at(&["10.0.0.1"])));
        let refusal = permitted(&policy, &host, at(&["192.168.1.1"])).unwrap_err();
        assert_eq!(refusal.reason, ResetReason::NotListed);
        assert!(refusal.text.contains("plc leads to 192.168.1.1") && refusal.text.contains("owner"), "{refusal:?}");
        assert_eq!(permitted(&Policy::default(), &host, at(&["192.168.1.1"])), Ok(at(&["192.168.1.1"])));
    }

    #[tokio::test]
    async fn localhost_is_meant_and_scopes_are_known_to_the_system() {
        let deadline = Instant::now() + std::time::Duration::from_secs(5);
        let names = Names {
            #[cfg(feature = "mdns")]
            local: crate::discovery::mdns::Names::default(),
            inventory: std::sync::Arc::new(crate::inventory::Inventory::load("/nowhere/inventory.json".into())),
        };
        let unseen = TargetHost::Mac("b8:27:eb:00:00:01".parse().unwrap());
        let refusal = resolve(&names, &unseen, 80, deadline).await.unwrap_err();
        assert_eq!(refusal.text, "mac:b8:27:eb:00:00:01: this device was not seen on the LAN yet");
        let found = resolve(&names, &TargetHost::Name("localhost".into()), 80, deadline).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback()) && !found.is_empty(), "{found:?}");
        let scoped = TargetHost::Scoped("fe80::1".parse().unwrap(), "lo".into());
        let found = resolve(&names, &scoped, 80, deadline).await.unwrap();
        assert!(matches!(found[..], [SocketAddr::V6(v6)] if v6.scope_id() == 1), "{found:?}");
        let nowhere = TargetHost::Scoped("fe80::1".parse().unwrap(), "nowhere0".into());
        assert_eq!(resolve(&names, &nowhere, 80, deadline).await.unwrap_err().reason, ResetReason::NameNotFound);
    }

    #[test]
    fn errors_have_their_reasons() {
        let host = TargetHost::Address("192.168.1.10".parse().unwrap());
        let reason = |errno| explain(&io::Error::from_raw_os_error(errno), &host, 80);
        assert_eq!(reason(111).reason, ResetReason::Refused);
        assert_eq!(reason(111).text, "192.168.1.10 port 80 refused the connection");
        assert_eq!(reason(113).reason, ResetReason::Unreachable);
        assert_eq!(reason(101).reason, ResetReason::Unreachable);
        assert_eq!(reason(110).reason, ResetReason::TimedOut);
        assert_eq!(reason(24).reason, ResetReason::Internal);
        assert!(reason(23).text.contains("no free file descriptor"));
    }
}
