//! The kernel's table of neighbours (rtnetlink(7)): which Ethernet address has which IP address on the LAN.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use linkspan_protocol::discovery::DEVICES_MAX;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep, timeout_at};

use super::claim::{Claim, Mac, Source, Spot};
use super::lan::Interface;
use super::{Ears, Sources, Wish, calm};
use crate::platform::netlink::{Bell, Neighbour, neighbours};

/// The table changes all the time: it is looked at no more often, and no less.
const PAUSE: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// A neighbour that was not heard for so long may be gone: the kernel is made to ask.
const STALE_AFTER: Duration = Duration::from_secs(10 * 60);
/// Without an answer for so long it is.
const GONE_AFTER: Duration = Duration::from_secs(15 * 60);
/// Neighbours that are nudged at a time, and the least time between two nudges of one.
const NUDGES: usize = 16;
const NUDGE_EVERY: Duration = Duration::from_secs(5 * 60);

/// Never returns, unless the kernel does not tell.
pub(super) async fn run(mut ears: Ears, sources: &Sources) -> Result<(), String> {
    let told = |e: io::Error| format!("the kernel does not tell its neighbours: {e}");
    let bell = Bell::of_neighbours().map_err(told)?;
    let mut nudged = BTreeMap::new();
    let (mut mdns, mut ssdp) = (sources.mdns.subscribe(), sources.ssdp.subscribe());
    let mut leases = sources.leases.subscribe();
    loop {
        let wish = ears.wish();
        let table = if wish.lan.is_empty() { Vec::new() } else { neighbours().map_err(told)? };
        let claims: Vec<_> = table.iter().filter_map(|entry| claim(entry, &wish.lan)).take(DEVICES_MAX).collect();
        sources.neighbours.send_if_modified(|before| {
            let news = *before != claims;
            *before = claims;
            news
        });
        if wish.probe {
            nudge(&table, &wish, sources, &mut nudged).await;
        }
        let rung = async {
            tokio::select! {
                rang = bell.rings() => rang,
                // Whoever they tell of may not have been heard by the kernel yet.
                Ok(()) = mdns.changed() => Ok(()),
                Ok(()) = ssdp.changed() => Ok(()),
                Ok(()) = leases.changed() => Ok(()),
                () = ears.changed() => Ok(()),
            }
        };
        match timeout_at(calm(LOOK_EVERY), rung).await {
            Ok(Err(e)) => return Err(told(e)),
            // What comes in bursts is looked at once.
            Ok(Ok(())) => sleep(PAUSE).await,
            Err(_) => {}
        }
    }
}

fn claim(entry: &Neighbour, lan: &[Interface]) -> Option<Claim> {
    let interface = lan.iter().find(|interface| interface.index == entry.interface)?;
    let mac = Mac::of(&entry.hardware)?;
    if entry.is_failed || !interface.holds(entry.ip) {
        return None;
    }
    let claim = Claim::new(Source::Neighbour);
    let spots = vec![Spot::new(entry.ip, &interface.name)];
    Some(Claim { mac: Some(mac), spots, alive: entry.confirmed_ago < GONE_AFTER, ..claim })
}

/// Has the kernel find out whether a neighbour is there, and what Ethernet address it has: by a datagram without content to
/// the port that discards (RFC 863). Only for addresses on the LAN, few at a time, and seldom.
async fn nudge(table: &[Neighbour], wish: &Wish, sources: &Sources, nudged: &mut BTreeMap<(u32, IpAddr), Instant>) {
    let now = Instant::now();
    nudged.retain(|_, at| *at + NUDGE_EVERY > now);
    let stale = table.iter().filter(|entry| !entry.is_failed && entry.confirmed_ago >= STALE_AFTER);
    let mut wanted: Vec<_> = stale.map(|entry| (entry.interface, entry.ip)).collect();
    for claim in [&sources.mdns, &sources.ssdp, &sources.leases].into_iter().flat_map(|source| source.borrow().clone())
    {
        for spot in &claim.spots {
            let on = wish.lan.iter().filter(|on| spot.interface.as_ref().is_none_or(|name| *name == on.name));
            wanted.extend(on.filter(|on| on.holds(spot.ip)).map(|on| (on.index, spot.ip)));
        }
    }
    let known = |at: &(u32, IpAddr)| {
        table.iter().any(|entry| (entry.interface, entry.ip) == *at && entry.confirmed_ago < STALE_AFTER)
    };
    wanted.retain(|at| !nudged.contains_key(at) && !known(at));
    wanted.retain(|(index, ip)| wish.lan.iter().any(|on| on.index == *index && on.holds(*ip)));
    wanted.sort();
    wanted.dedup();
    for (index, ip) in wanted.into_iter().take(NUDGES) {
        nudged.insert((index, ip), now);
        if let Err(e) = discard(index, ip).await {
            log::debug!("{ip} is not nudged: {e}");
        }
    }
}

async fn discard(index: u32, ip: IpAddr) -> io::Result<()> {
    const DISCARD: u16 = 9;
    let to: SocketAddr = match ip {
        IpAddr::V4(_) => (ip, DISCARD).into(),
        IpAddr::V6(v6) => SocketAddrV6::new(v6, DISCARD, 0, if v6.is_unicast_link_local() { index } else { 0 }).into(),
    };
    let any: SocketAddr = if ip.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
    UdpSocket::bind(any).await?.send_to(&[], to).await.map(drop)
}
