//! Devices out of claims: what speaks of one Ethernet address, one word of a device's own, or one IP address, is one device.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};

use linkspan_protocol::discovery::{
    ADDRESSES_MAX, DEVICE_SERVICES_MAX, FoundDevice, FoundService, TEXT_MAX, WORD_MAX, bounded,
};

use crate::discovery::claim::{Claim, Mac, Source, Spot};

/// A device as all claims together have it.
pub(super) struct Found {
    pub(super) device: FoundDevice,
    /// Keys by which it would have been known, had less been known of it.
    pub(super) lesser: Vec<String>,
}

pub(super) fn key_of(mac: Mac) -> String {
    format!("mac:{mac}")
}

fn key_of_word(word: &str) -> String {
    format!("id:{}", bounded(word, WORD_MAX - 3))
}

fn key_of_spot(spot: &Spot) -> String {
    bounded(&format!("ip:{spot}"), WORD_MAX)
}

/// The devices, in the order of their keys.
pub(super) fn merge(claims: &[impl Borrow<Claim>]) -> Vec<Found> {
    let claims: Vec<&Claim> = claims.iter().map(Borrow::borrow).collect();
    let macs = macs(&claims);
    let mut words: HashMap<&str, Mac> = HashMap::new();
    let mac_of = |claim: &Claim| claim.mac.or_else(|| claim.spots.iter().find_map(|spot| macs.get(spot).copied()));
    for claim in &claims {
        if let (Some(word), Some(mac)) = (&claim.unique, mac_of(claim)) {
            words.entry(word).or_insert(mac);
        }
    }
    let mut groups: BTreeMap<String, Vec<&Claim>> = BTreeMap::new();
    for claim in claims {
        let by_word = || claim.unique.as_ref().and_then(|word| words.get(&**word).copied());
        let key = match (mac_of(claim).or_else(by_word), &claim.unique, claim.spots.iter().min()) {
            (Some(mac), ..) => key_of(mac),
            (None, Some(word), _) => key_of_word(word),
            (None, None, Some(spot)) => key_of_spot(spot),
            (None, None, None) => continue,
        };
        groups.entry(key).or_default().push(claim);
    }
    groups.into_iter().map(|(key, claims)| device(key, claims, &macs)).collect()
}

/// Which Ethernet device is at an address: the kernel knows it best, a DHCP server may have old news.
fn macs<'a>(claims: &[&'a Claim]) -> HashMap<&'a Spot, Mac> {
    let mut macs = HashMap::new();
    for source in [Source::Neighbour, Source::Lease] {
        for claim in claims.iter().filter(|claim| claim.source == source) {
            for (spot, mac) in claim.spots.iter().zip(std::iter::repeat(claim.mac)) {
                if let Some(mac) = mac {
                    macs.entry(spot).or_insert(mac);
                }
            }
        }
    }
    macs
}

fn device(key: String, mut claims: Vec<&Claim>, macs: &HashMap<&Spot, Mac>) -> Found {
    claims.sort_by_key(|claim| claim.source);
    let mut lesser: Vec<_> = claims.iter().filter_map(|claim| claim.unique.as_deref().map(key_of_word)).collect();
    let mut spots: Vec<(bool, bool, &Spot)> = Vec::new();
    for claim in &claims {
        // What is known to be at this Ethernet address goes before what somebody only says is, and what is known of the present
        // before what a DHCP server once gave.
        spots.extend(claim.spots.iter().map(|spot| (!macs.contains_key(spot), !claim.alive, spot)));
    }
    // What is another's address is not its own, whoever says so.
    spots.retain(|(_, _, spot)| macs.get(spot).is_none_or(|mac| !key.starts_with("mac:") || key == key_of(*mac)));
    spots.sort();
    let mut device = FoundDevice { key, present: claims.iter().any(|claim| claim.alive), ..FoundDevice::default() };
    let (mut services, mut about): (Vec<FoundService>, _) = (Vec::new(), None);
    for (_, _, spot) in spots {
        push_new(&mut device.addresses, spot.to_string());
        lesser.push(key_of_spot(spot));
    }
    for claim in claims {
        push_new(&mut device.sources, claim.source.as_str().to_owned());
        if let Some(name) = &claim.name {
            push_new(&mut device.names, bounded(name, TEXT_MAX));
        }
        about = about.or(claim.about.as_deref());
        services.extend(claim.services.iter().cloned());
    }
    device.about = bounded(about.unwrap_or_default(), TEXT_MAX);
    device.services = together(services);
    lesser.retain(|lesser| *lesser != device.key);
    Found { device, lesser }
}

/// Each kind at each port once, with the first text that is told of it.
pub(super) fn together(mut services: Vec<FoundService>) -> Vec<FoundService> {
    services.sort_by(|a, b| (&a.kind, a.port, a.text.is_empty()).cmp(&(&b.kind, b.port, b.text.is_empty())));
    services.dedup_by(|a, b| a.kind == b.kind && a.port == b.port);
    services.truncate(DEVICE_SERVICES_MAX);
    services
}

fn push_new(list: &mut Vec<String>, text: String) {
    if list.len() < ADDRESSES_MAX && !text.is_empty() && !list.contains(&text) {
        list.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "b8:27:eb:00:00:01";

    fn claim(source: Source, mac: Option<&str>, spot: &str, name: Option<&str>) -> Claim {
        let claim = Claim::new(source);
        let mac = mac.map(|mac| mac.parse().unwrap());
        Claim { mac, spots: vec![spot.parse().unwrap()], name: name.map(Into::into), ..claim }
    }

    #[test]
    fn what_speaks_of_one_ethernet_address_is_one_device() {
        let lease = Claim { alive: false, ..claim(Source::Lease, Some(MAC), "192.168.1.9", Some("plc")) };
        let mdns = claim(Source::Mdns, None, "192.168.1.10", Some("plc-7"));
        let neighbour = claim(Source::Neighbour, Some(MAC), "192.168.1.10", None);
        let v6 = claim(Source::Neighbour, Some(MAC), "fe80::1%br-lan", None);
        let [Found { device, .. }] = &merge(&[neighbour, mdns, v6, lease])[..] else { panic!() };
        assert_eq!(device.key, format!("mac:{MAC}"));
        assert_eq!(device.addresses, ["192.168.1.10", "fe80::1%br-lan", "192.168.1.9"]);
        assert_eq!(device.names, ["plc", "plc-7"]);
        assert_eq!(device.sources, ["lease", "mdns", "neighbour"]);
        assert!(device.present);
    }

    #[test]
    fn nobody_makes_an_address_anothers_by_saying_so() {
        let plc = claim(Source::Neighbour, Some(MAC), "192.168.1.10", None);
        let thief = claim(Source::Neighbour, Some("02:00:00:00:00:66"), "192.168.1.2", None);
        let mut says = claim(Source::Lease, None, "192.168.1.10", Some("plc"));
        says.spots.extend(["192.168.1.2", "192.168.1.3"].map(|text| text.parse::<Spot>().unwrap()));
        let found = merge(&[plc, thief, says]);
        let plc = found.iter().find(|found| found.device.key == format!("mac:{MAC}")).unwrap();
        assert_eq!(plc.device.addresses, ["192.168.1.10", "192.168.1.3"], "what is known goes first");
    }

    #[test]
    fn without_an_ethernet_address_a_devices_own_word_or_its_address_is_its_key() {
        let mut camera = claim(Source::Mdns, None, "192.168.1.20", None);
        camera.unique = Some("urn:uuid:7".into());
        let other = claim(Source::Mdns, None, "192.168.1.30", Some("hmi"));
        let found = merge(&[camera.clone(), other]);
        let keys: Vec<_> = found.iter().map(|found| found.device.key.as_str()).collect();
        assert_eq!(keys, ["id:urn:uuid:7", "ip:192.168.1.30"]);
        let neighbour = claim(Source::Neighbour, Some(MAC), "192.168.1.20", None);
        let [Found { device, lesser }] = &merge(&[camera, neighbour])[..] else { panic!() };
        assert_eq!(device.key, format!("mac:{MAC}"));
        assert_eq!(lesser[0], "id:urn:uuid:7");
    }

    #[test]
    fn a_service_that_two_sources_tell_of_is_one() {
        let service = |text: &str| FoundService { kind: "_http._tcp".into(), port: 80, text: text.into() };
        assert_eq!(together(vec![service(""), service("Camera"), service("Zoom")]), [service("Camera")]);
    }
}
