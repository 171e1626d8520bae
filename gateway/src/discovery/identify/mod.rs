//! A closer look, only when a person asks for it, and gently: some controllers do not bear to be scanned.

mod ask;
mod speech;

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use linkspan_protocol::discovery::{FoundService, TARGETS_MAX};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::speech::Speech;
use super::claim::Spot;
use super::lan::Interface;
use crate::config::Network;
use crate::inventory::Inventory;

/// Orders that wait.
const ORDERS_MAX: usize = 4;
/// Devices that are looked at together; never more than one connection to each.
const TOGETHER: usize = 4;
/// Time to connect, and between two connections to one device.
const CONNECT: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(250);
/// Time for all that one order asks for.
const ORDER: Duration = Duration::from_secs(10 * 60);
/// Other ports of one device that are looked at, since it told of them.
const TOLD_MAX: usize = 16;
/// Longest text of a target.
const TARGET_LEN: usize = 100;

/// The ports that are looked at, and what usually speaks there.
const PORTS: [(u16, Speech); 17] = [
    (80, Speech::Http),
    (443, Speech::Https),
    (8080, Speech::Http),
    (8443, Speech::Https),
    (22, Speech::Ssh),
    (23, Speech::Silent("_telnet._tcp")),
    (5900, Speech::Rfb),
    (3389, Speech::Silent("_rdp._tcp")),
    (554, Speech::Rtsp),
    (502, Speech::Modbus),
    (102, Speech::Silent("_iso-tsap._tcp")),
    (44818, Speech::Silent("_enip._tcp")),
    (4840, Speech::Silent("_opcua-tcp._tcp")),
    (1883, Speech::Silent("_mqtt._tcp")),
    (8883, Speech::Silent("_secure-mqtt._tcp")),
    (20000, Speech::Silent("_dnp3._tcp")),
    (8000, Speech::Http),
];

/// Somebody wants to know more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Names the order in its outcome.
    pub(crate) request: u64,
    /// Keys of devices, addresses, and networks of up to 256 addresses.
    pub(crate) targets: Vec<String>,
}

/// What came of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) request: u64,
    /// Addresses that were looked at, and those at which something was found.
    pub(crate) looked: u32,
    pub(crate) found: u32,
    /// Why it was not looked, if so.
    pub(crate) refused: Option<String>,
}

/// Takes orders, and tells what came of them.
#[derive(Default)]
pub(crate) struct Desk {
    orders: Mutex<VecDeque<Order>>,
    bell: Notify,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Desk {
    /// Takes an order; one too many is refused at once.
    pub(crate) fn order(&self, order: Order) {
        let mut orders = self.orders();
        if orders.len() >= ORDERS_MAX {
            drop(orders);
            return self.refuse(order.request, "it looks at other devices already; ask again later");
        }
        orders.push_back(order);
        drop(orders);
        self.bell.notify_one();
    }

    pub(crate) fn outcomes(&self) -> watch::Receiver<Option<Outcome>> {
        self.outcome.subscribe()
    }

    async fn next(&self) -> Order {
        loop {
            if let Some(order) = self.orders().pop_front() {
                return order;
            }
            self.bell.notified().await;
        }
    }

    fn refuse(&self, request: u64, why: &str) {
        self.outcome.send_replace(Some(Outcome { request, looked: 0, found: 0, refused: Some(why.to_owned()) }));
    }

    fn orders(&self) -> MutexGuard<'_, VecDeque<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks closer, for as long as somebody asks for it. Never returns.
pub(super) async fn run(mut ears: super::Ears, desk: &Desk, inventory: &Inventory) -> Result<(), String> {
    loop {
        let order = desk.next().await;
        let wish = ears.wish();
        if !wish.identify {
            desk.refuse(order.request, "the router's owner does not allow it ([discovery] identify = false)");
            continue;
        }
        match targets(&order.targets, &wish.lan, inventory) {
            Ok(spots) => {
                log::info!("asked to look closer at {} addresses", spots.len());
                let outcome = look(order.request, spots, &wish.lan, inventory).await;
                log::info!("looked closer at {} addresses, found something at {}", outcome.looked, outcome.found);
                desk.outcome.send_replace(Some(outcome));
            }
            Err(why) => desk.refuse(order.request, &why),
        }
    }
}

/// The addresses that are meant: on the LAN, and no more than a small network has.
pub(super) fn targets(wanted: &[String], lan: &[Interface], inventory: &Inventory) -> Result<Vec<Spot>, String> {
    let mut spots = BTreeSet::new();
    for text in wanted {
        if text.len() > TARGET_LEN {
            return Err("a target is longer than anything that could be meant".to_owned());
        }
        let of_device = inventory.addresses_of(text);
        if let Some(best) = of_device.into_iter().find(|spot| is_on(lan, spot)) {
            spots.insert(best);
        } else if let Ok(spot) = text.parse::<Spot>() {
            spots.insert(spot);
        } else if let Ok(network) = text.parse::<Network>() {
            let all = network.addresses(TARGETS_MAX);
            spots.extend(all.ok_or_else(|| format!("{text} has more than {TARGETS_MAX} addresses"))?.map(of_ip));
        } else {
            return Err(format!("{text} is neither a device that is known here, nor an address, nor a network"));
        }
    }
    let many = spots.len() > TARGETS_MAX;
    spots.retain(|spot| is_on(lan, spot));
    match (many, spots.is_empty()) {
        (true, _) => Err(format!("these are more than {TARGETS_MAX} addresses")),
        (false, true) => Err("none of this is on the LAN that is looked at".to_owned()),
        (false, false) => Ok(spots.into_iter().collect()),
    }
}

fn of_ip(ip: IpAddr) -> Spot {
    Spot::new(ip, "")
}

fn is_on(lan: &[Interface], spot: &Spot) -> bool {
    socket_address(lan, spot, 0).is_some()
}

fn socket_address(lan: &[Interface], spot: &Spot, port: u16) -> Option<SocketAddr> {
    let named = |on: &&Interface| spot.interface.as_ref().is_none_or(|name| *name == on.name);
    let on = lan.iter().filter(named).find(|on| on.holds(spot.ip))?;
    match (spot.ip, &spot.interface) {
        (IpAddr::V6(ip), Some(_)) => Some(SocketAddrV6::new(ip, port, 0, on.index).into()),
        (IpAddr::V6(ip), None) if ip.is_unicast_link_local() => None,
        (ip, _) => Some(SocketAddr::new(ip, port)),
    }
}

/// Looks at these addresses; what is found stands in the inventory.
pub(super) async fn look(request: u64, spots: Vec<Spot>, lan: &[Interface], inventory: &Inventory) -> Outcome {
    let end = Instant::now() + ORDER;
    let looked = u32::try_from(spots.len()).unwrap_or(u32::MAX);
    let (mut waiting, mut running, mut found) = (spots.into_iter(), JoinSet::new(), 0);
    loop {
        while running.len() < TOGETHER
            && let Some(spot) = waiting.next()
        {
            let lan: Arc<[Interface]> = lan.into();
            let ports = ports(&inventory.services_at(&spot));
            running.spawn(async move {
                let seen = timeout_at(end, device(&lan, &spot, ports)).await.ok().flatten();
                (spot, seen)
            });
        }
        match running.join_next().await {
            None => return Outcome { request, looked, found, refused: None },
            Some(Ok((spot, Some(seen)))) => {
                found += u32::from(!seen.services.is_empty());
                inventory.identified(&spot, seen.services, seen.about);
            }
            // It is not there, or there was no time left: what is known of it stays.
            Some(Ok((_, None)) | Err(_)) => {}
        }
    }
}

/// What a device shows.
struct Seen {
    services: Vec<FoundService>,
    about: Option<String>,
}

/// The usual ports, and those that the device told of and of which it is known what is spoken there.
fn ports(told: &[FoundService]) -> Vec<(u16, Speech)> {
    let mut all = Vec::from(PORTS);
    let other = told.iter().filter(|service| service.port > 0 && PORTS.iter().all(|(port, _)| *port != service.port));
    for (port, speech) in other.filter_map(|service| Some((service.port, Speech::told_of(service)?))).take(TOLD_MAX) {
        if all.iter().all(|(known, _)| *known != port) {
            all.push((port, speech));
        }
    }
    all
}

/// One port after the other; nothing, if nobody is there.
async fn device(lan: &[Interface], spot: &Spot, ports: Vec<(u16, Speech)>) -> Option<Seen> {
    let (mut seen, mut answered) = (Seen { services: Vec::new(), about: None }, false);
    for (port, speech) in ports {
        let address = socket_address(lan, spot, port)?;
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                answered = true;
                let shown = speech.listen(stream, spot.ip).await;
                seen.about = seen.about.or(shown.about);
                seen.services.push(FoundService { kind: shown.kind.to_owned(), port, text: shown.text });
                seen.services.extend(shown.page);
            }
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => answered = true,
            // Nobody is there: the other ports would only wait for nobody.
            Ok(Err(_)) if !answered => return None,
            Ok(Err(_)) | Err(_) => {}
        }
        sleep(PAUSE).await;
    }
    answered.then_some(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan() -> [Interface; 1] {
        [Interface { name: "br-lan".into(), index: 3, networks: vec![("192.168.1.1".parse().unwrap(), 24)] }]
    }

    #[test]
    fn only_what_is_on_the_lan_is_looked_at_and_not_too_much() {
        let inventory = Inventory::load("/nowhere/inventory.json".into());
        let meant = |wanted: &[&str]| {
            let wanted: Vec<_> = wanted.iter().map(|text| (*text).to_owned()).collect();
            targets(&wanted, &lan(), &inventory).map(|spots| spots.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(meant(&["192.168.1.10", "192.168.1.10"]), Ok(vec!["192.168.1.10".to_owned()]));
        assert_eq!(meant(&["fe80::1%br-lan"]), Ok(vec!["fe80::1%br-lan".to_owned()]));
        assert_eq!(meant(&["192.168.1.0/24"]).unwrap().len(), 254, "neither the router nor everybody");
        for wrong in [
            "8.8.8.8",
            "127.0.0.1",
            "192.168.0.0/16",
            "10.0.0.0/30",
            "fe80::1%eth9",
            "fe80::1",
            "mac:02:00:00:00:00:01",
            "x",
            "",
        ] {
            assert!(meant(&[wrong]).is_err(), "{wrong}");
        }
        assert!(meant(&["192.168.1.0/24", "8.8.8.0/24"]).is_err());
    }

    #[tokio::test]
    async fn one_order_too_many_is_refused() {
        let desk = Desk::default();
        for request in 0..=ORDERS_MAX as u64 {
            desk.order(Order { request, targets: Vec::new() });
        }
        let outcome = desk.outcomes().borrow().clone().unwrap();
        assert_eq!((outcome.request, outcome.refused.is_some()), (ORDERS_MAX as u64, true));
        assert_eq!(desk.next().await.request, 0);
    }
}
