//! Hosts that DNS does not know: names under `.local`, and devices by their Ethernet address.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use linkspan_protocol::driver::ResetReason;
use nix::net::if_::if_nametoindex;
use tokio::time::Instant;

use super::target::Refusal;
use crate::discovery::claim::{Mac, Spot};
#[cfg(feature = "mdns")]
use crate::discovery::mdns;
use crate::inventory::Inventory;

/// Who is asked for them.
pub(crate) struct Names {
    #[cfg(feature = "mdns")]
    pub(crate) local: mdns::Names,
    pub(crate) inventory: Arc<Inventory>,
}

impl Names {
    /// The addresses of a name under `.local`. Once asked for, it is kept fresh, so that a connection does not wait.
    #[cfg(feature = "mdns")]
    pub(super) async fn resolve(&self, name: &str, port: u16, deadline: Instant) -> Result<Vec<SocketAddr>, Refusal> {
        match self.local.look_up(name, deadline).await {
            Some(spots) => Ok(spots.iter().filter_map(|spot| at_port(spot, port)).collect()),
            None => Err(not_found(format!("{name}: nobody on the LAN answers to this name"))),
        }
    }

    #[cfg(not(feature = "mdns"))]
    pub(super) async fn resolve(&self, name: &str, _: u16, _: Instant) -> Result<Vec<SocketAddr>, Refusal> {
        Err(not_found(format!("{name}: this gateway was built without multicast DNS; write the address instead")))
    }

    /// The addresses that a device has now.
    pub(super) fn addresses(&self, mac: Mac, port: u16) -> Result<Vec<SocketAddr>, Refusal> {
        let found: Vec<_> = self.inventory.spots(mac).iter().filter_map(|spot| at_port(spot, port)).collect();
        if found.is_empty() {
            return Err(not_found(format!("mac:{mac}: this device was not seen on the LAN yet")));
        }
        Ok(found)
    }
}

fn not_found(text: String) -> Refusal {
    Refusal { reason: ResetReason::NameNotFound, text }
}

/// None if the interface on which the address holds is gone.
fn at_port(spot: &Spot, port: u16) -> Option<SocketAddr> {
    match (spot.ip, &spot.interface) {
        (IpAddr::V6(ip), Some(interface)) => {
            Some(SocketAddrV6::new(ip, port, 0, if_nametoindex(&**interface).ok()?).into())
        }
        (ip, _) => Some(SocketAddr::new(ip, port)),
    }
}
