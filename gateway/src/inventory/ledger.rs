//! The list of devices with its bounds and its file: pure but for that file, with the time as an argument.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use linkspan_protocol::discovery::{DEVICES_MAX, FoundDevice, FoundService, SERVICES_MAX};
use serde::{Deserialize, Serialize};

use super::merge::{Found, merge, together};
use crate::discovery::claim::{Claim, Spot};
use crate::identity;

/// Devices of which no Ethernet address is known: whoever is on the LAN can make up any number of them.
const UNSURE_MAX: usize = 128;
/// Bytes of the file that are read: all bounds together stay below.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// A device, and when it was seen, in seconds since 1970 by this machine's clock.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(flatten)]
    pub(crate) device: FoundDevice,
    pub(crate) first_seen: u64,
    pub(crate) last_seen: u64,
    /// What a closer look has shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) identified: Vec<FoundService>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) identified_about: Option<String>,
}

/// All devices.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    kept: Vec<Kept>,
    /// What was known before the start, by key, until the sources have had time to say it again.
    remembered: HashMap<String, FoundDevice>,
    /// Devices that were not taken, since there was no room.
    pub(super) dropped: u64,
}

impl Ledger {
    pub(super) fn kept(&self) -> &[Kept] {
        &self.kept
    }

    pub(super) fn devices(&self) -> Vec<FoundDevice> {
        self.kept.iter().map(|kept| kept.device.clone()).collect()
    }

    /// Nothing counts as there before it is seen.
    pub(super) fn all_are_gone(&mut self) {
        self.kept.iter_mut().for_each(|kept| kept.device.present = false);
    }

    /// Takes what the sources say; true if a device has changed. Until it is `settled`, nothing that was known before the start
    /// counts as gone.
    pub(super) fn update(&mut self, claims: &[impl Borrow<Claim>], (now, settled): (u64, bool)) -> bool {
        let before = self.devices();
        let found = merge(claims);
        if settled {
            self.remembered.clear();
        }
        for kept in self.kept.iter_mut().filter(|kept| !self.remembered.contains_key(&kept.device.key)) {
            kept.device.present = false;
        }
        for found in found {
            self.take(found, now);
        }
        self.bound_services();
        self.kept.sort_by(|a, b| a.device.key.cmp(&b.device.key));
        before.len() != self.kept.len() || before.iter().zip(&self.kept).any(|(before, kept)| *before != kept.device)
    }

    fn take(&mut self, Found { mut device, lesser }: Found, now: u64) {
        let known = self.kept.iter().position(|kept| kept.device.key == device.key);
        // One that was known by less than now.
        let by_less = || self.kept.iter().position(|kept| lesser.contains(&kept.device.key));
        let Some(at) = known.or_else(by_less) else {
            if self.make_room(&device) {
                let (first_seen, last_seen) = (now, now);
                self.kept.push(Kept { device, first_seen, last_seen, ..Kept::default() });
            }
            return;
        };
        let kept = &mut self.kept[at];
        device.was = if known.is_some() { kept.device.was.take() } else { Some(kept.device.key.clone()) };
        if device.present {
            kept.last_seen = now;
        }
        if let Some(old) = self.remembered.remove(&kept.device.key) {
            remember(&mut device, &old);
            self.remembered.insert(device.key.clone(), old);
        }
        kept.device = device;
        kept.finish();
    }

    /// Whether a new device can be taken. One that is gone goes for it, the one that was seen longest ago; one that is there
    /// never does, however many others are made up.
    fn make_room(&mut self, new: &FoundDevice) -> bool {
        let is_unsure = |device: &FoundDevice| !device.key.starts_with("mac:");
        let unsure = self.kept.iter().filter(|kept| is_unsure(&kept.device)).count();
        let crowded = is_unsure(new) && unsure >= UNSURE_MAX;
        if !crowded && self.kept.len() < DEVICES_MAX {
            return true;
        }
        let may_go = |kept: &&Kept| !kept.device.present && (!crowded || is_unsure(&kept.device));
        let oldest =
            self.kept.iter().filter(may_go).min_by_key(|kept| kept.last_seen).map(|kept| kept.device.key.clone());
        let Some(oldest) = oldest else {
            self.dropped += 1;
            return false;
        };
        self.kept.retain(|kept| kept.device.key != oldest);
        true
    }

    /// While all services together are too many, those with the most have fewer.
    fn bound_services(&mut self) {
        let mut all: usize = self.kept.iter().map(|kept| kept.device.services.len()).sum();
        while all > SERVICES_MAX {
            let Some(most) = self.kept.iter_mut().max_by_key(|kept| kept.device.services.len()) else { return };
            let fewer = most.device.services.len() / 2;
            all -= most.device.services.len() - fewer;
            most.device.services.truncate(fewer);
        }
    }

    /// Takes what a closer look at an address has shown; true if it is news.
    pub(super) fn identified(
        &mut self,
        spot: &Spot,
        services: Vec<FoundService>,
        about: Option<String>,
        now: u64,
    ) -> bool {
        let text = spot.to_string();
        let found = self.kept.iter().position(|kept| kept.device.addresses.contains(&text));
        let at = match found {
            Some(at) => at,
            None if services.is_empty() => return false,
            None => {
                let device = FoundDevice { key: format!("ip:{text}"), addresses: vec![text], ..FoundDevice::default() };
                if !self.make_room(&device) {
                    return false;
                }
                self.kept.push(Kept { device, first_seen: now, last_seen: now, ..Kept::default() });
                self.kept.len() - 1
            }
        };
        let kept = &mut self.kept[at];
        let before = kept.device.clone();
        // It has answered just now.
        (kept.device.present, kept.last_seen) = (true, now);
        let old = std::mem::replace(&mut kept.identified, services);
        kept.device.services.retain(|service| !old.contains(service));
        kept.identified_about = about.or(kept.identified_about.take());
        kept.finish();
        let news = kept.device != before;
        self.bound_services();
        self.kept.sort_by(|a, b| a.device.key.cmp(&b.device.key));
        news
    }

    /// Reads the file. One that is not there, or cannot be read, is an empty list.
    pub(super) fn load(path: &Path) -> Self {
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(FILE_MAX).read_to_end(&mut text));
        let kept = match read.and_then(|_| serde_json::from_slice::<Vec<Kept>>(&text).map_err(io::Error::from)) {
            Ok(mut kept) => {
                kept.truncate(DEVICES_MAX);
                kept.iter_mut().for_each(|kept| kept.device.bound());
                kept
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(e) => {
                log::warn!("{}: {e}; what was found before is forgotten", path.display());
                Vec::new()
            }
        };
        let remembered = kept.iter().map(|kept| (kept.device.key.clone(), kept.device.clone())).collect();
        Self { kept, remembered, dropped: 0 }
    }

    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        identity::replace(path, &serde_json::to_vec(&self.kept)?, 0o600)
    }
}

/// What is not said yet is as it was.
fn remember(device: &mut FoundDevice, old: &FoundDevice) {
    device.present |= old.present;
    for (new, old) in
        [(&mut device.addresses, &old.addresses), (&mut device.names, &old.names), (&mut device.sources, &old.sources)]
    {
        if new.is_empty() || !old.is_empty() && new.iter().all(|text| old.contains(text)) {
            new.clone_from(old);
        }
    }
    device.services.extend(old.services.iter().cloned());
    if device.about.is_empty() {
        device.about.clone_from(&old.about);
    }
}

impl Kept {
    /// What was seen from close by is part of what it offers.
    fn finish(&mut self) {
        self.device.services.extend(self.identified.iter().cloned());
        self.device.services = together(std::mem::take(&mut self.device.services));
        if !self.identified.is_empty() && !self.device.sources.iter().any(|source| source == "identify") {
            self.device.sources.push("identify".to_owned());
        }
        // Who was asked knows better than who was overheard.
        if let Some(about) = &self.identified_about {
            self.device.about.clone_from(about);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::claim::Source;

    fn claim(mac: Option<u32>, spot: &str, port: u16) -> Claim {
        let claim = Claim::new(if mac.is_some() { Source::Neighbour } else { Source::Mdns });
        let mac = mac.map(|n| {
            let [a, b, c, d] = n.to_be_bytes();
            format!("02:00:{a:02x}:{b:02x}:{c:02x}:{d:02x}").parse().unwrap()
        });
        let services = vec![FoundService { kind: "_http._tcp".into(), port, text: String::new() }];
        Claim { mac, spots: vec![spot.parse().unwrap()], services, ..claim }
    }

    #[test]
    fn a_device_keeps_its_identity_when_its_address_changes() {
        let mut ledger = Ledger::default();
        assert!(ledger.update(&[claim(Some(1), "192.168.1.10", 80)], (100, true)));
        assert!(!ledger.update(&[claim(Some(1), "192.168.1.10", 80)], (200, true)), "an unchanged LAN is no news");
        assert!(ledger.update(&[claim(Some(1), "192.168.1.77", 80)], (300, true)));
        let [kept] = ledger.kept() else { panic!() };
        assert_eq!(kept.device.addresses, ["192.168.1.77"]);
        assert_eq!((kept.first_seen, kept.last_seen), (100, 300));
        assert!(ledger.update(&[] as &[Claim], (400, true)));
        let [kept] = ledger.kept() else { panic!() };
        assert!(!kept.device.present && kept.device.addresses == ["192.168.1.77"], "it is gone, and remembered");
        assert_eq!(kept.last_seen, 300);
    }

    #[test]
    fn a_device_of_which_more_becomes_known_says_what_it_was() {
        let mut ledger = Ledger::default();
        ledger.update(&[claim(None, "192.168.1.10", 80)], (100, true));
        assert!(ledger.update(&[claim(None, "192.168.1.10", 80), claim(Some(1), "192.168.1.10", 80)], (200, true)));
        let [kept] = ledger.kept() else { panic!("{:?}", ledger.kept()) };
        assert_eq!((kept.device.key.as_str(), kept.first_seen), ("mac:02:00:00:00:00:01", 100));
        assert_eq!(kept.device.was.as_deref(), Some("ip:192.168.1.10"));
    }

    #[test]
    fn it_survives_a_restart_and_nothing_is_gone_before_the_sources_are_awake() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("sub/inventory.json");
        let mut ledger = Ledger::default();
        ledger.update(&[claim(Some(1), "192.168.1.10", 80)], (100, true));
        let spot = "192.168.1.10".parse().unwrap();
        let ssh = FoundService { kind: "_ssh._tcp".into(), port: 22, text: "OpenSSH".into() };
        assert!(ledger.identified(&spot, vec![ssh.clone()], None, 150));
        ledger.save(&file).unwrap();
        let mut again = Ledger::load(&file);
        assert_eq!(again.kept(), ledger.kept());
        assert!(!again.update(&[] as &[Claim], (200, false)), "nothing is gone yet");
        let bare = Claim { services: Vec::new(), ..claim(Some(1), "192.168.1.10", 80) };
        assert!(!again.update(std::slice::from_ref(&bare), (200, false)));
        let new = claim(Some(2), "192.168.1.20", 80);
        assert!(again.update(&[bare.clone(), new], (250, false)));
        assert!(again.update(std::slice::from_ref(&bare), (300, false)));
        assert!(!again.kept()[1].device.present, "what came after the start goes at once");
        assert!(again.update(&[bare], (400, true)), "now it counts");
        assert_eq!(again.kept()[0].device.services, [ssh], "what a closer look has shown stays");
        std::fs::write(&file, "[{").unwrap();
        assert!(Ledger::load(&file).kept().is_empty());
    }

    #[test]
    fn a_hostile_lan_fills_no_more_than_its_part() {
        let mut ledger = Ledger::default();
        let real: Vec<_> = (0..20).map(|n| claim(Some(n), &format!("192.168.1.{}", 10 + n), 80)).collect();
        ledger.update(&real, (100, true));
        let mut all = real;
        all.extend((0..10_000).map(|n| claim(None, &format!("10.{}.{}.1", n / 250, n % 250), 80)));
        ledger.update(&all, (200, true));
        assert_eq!(ledger.kept().len(), 20 + UNSURE_MAX);
        assert!(ledger.dropped >= 9000);
        assert_eq!(ledger.kept().iter().filter(|kept| kept.device.key.starts_with("mac:")).count(), 20);
        let made_up: Vec<_> =
            (0..10_000).map(|n| claim(Some(n), &format!("10.{}.{}.1", n / 250, n % 250), 80)).collect();
        ledger.update(&made_up, (300, true));
        assert_eq!(ledger.kept().len(), DEVICES_MAX);
        let bytes = serde_json::to_vec(ledger.kept()).unwrap().len();
        assert!(bytes < 200_000, "{bytes}");
    }

    #[test]
    fn the_services_of_all_are_bounded_where_there_are_most() {
        let mut ledger = Ledger::default();
        let many = |n: u32| {
            let mut claim = claim(Some(n), &format!("192.168.1.{}", 10 + n), 80);
            claim.services = (1..=512).map(|port| FoundService { port, ..claim.services[0].clone() }).collect();
            claim
        };
        let mut claims: Vec<_> = (0..6).map(many).collect();
        claims.push(claim(Some(9), "192.168.1.200", 80));
        ledger.update(&claims, (100, true));
        let all: usize = ledger.kept().iter().map(|kept| kept.device.services.len()).sum();
        assert!(all <= SERVICES_MAX && all > SERVICES_MAX / 2, "{all}");
        assert_eq!(ledger.kept().last().unwrap().device.services.len(), 1);
    }
}
