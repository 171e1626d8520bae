//! What is known from multicast DNS, bounded whatever the LAN says: pure, with the time as an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use linkspan_protocol::discovery::{
    DEVICE_SERVICES_MAX, DEVICES_MAX, FoundService, SERVICES_MAX, TEXT_MAX, WORD_MAX, bounded,
};
use tokio::time::Instant;

use super::packet::{A, AAAA, Data, Name, PTR, Record, SRV, TXT};
use crate::discovery::claim::{Claim, Source, Spot};
use crate::discovery::lan::Interface;

/// Hosts that are known at once, as many as there can be devices, and those that one sender may tell of: a repeater speaks for
/// its whole LAN.
const HOSTS_MAX: usize = DEVICES_MAX;
const HOSTS_OF_ONE: usize = 256;
/// Instances that one sender may tell of.
const INSTANCES_OF_ONE: usize = DEVICE_SERVICES_MAX;
/// Kinds of services that are asked for.
const KINDS_MAX: usize = 96;
/// Addresses of one host.
const SPOTS_MAX: usize = 8;
/// The longest that anything is believed without being heard again (RFC 6762, section 10, recommends it).
const TTL_MAX: Duration = Duration::from_secs(75 * 60);
/// After a goodbye (RFC 6762, section 10.1).
const GOODBYE: Duration = Duration::from_secs(1);
/// Times that a missing record is asked for.
const ASK_MAX: u8 = 3;

/// The kind of all kinds (RFC 6763, section 9).
pub(super) const ALL_KINDS: &str = "_services._dns-sd._udp.local";

/// Kinds that are asked for in any case.
const KINDS: [&str; 25] = [
    "_http._tcp",
    "_https._tcp",
    "_ssh._tcp",
    "_sftp-ssh._tcp",
    "_rfb._tcp",
    "_rdp._tcp",
    "_telnet._tcp",
    "_rtsp._tcp",
    "_axis-video._tcp",
    "_onvif._tcp",
    "_ipp._tcp",
    "_printer._tcp",
    "_pdl-datastream._tcp",
    "_workstation._tcp",
    "_device-info._tcp",
    "_modbus._tcp",
    "_mbap._tcp",
    "_opcua-tcp._tcp",
    "_mqtt._tcp",
    "_secure-mqtt._tcp",
    "_hap._tcp",
    "_enip._tcp",
    "_smb._tcp",
    "_googlecast._tcp",
    "_esphomelib._tcp",
];

/// All that is known.
pub(super) struct Memory {
    pub(super) kinds: BTreeSet<Box<str>>,
    instances: HashMap<Key, Instance>,
    hosts: HashMap<Key, Host>,
    /// Instances and hosts that each sender told of.
    told: HashMap<IpAddr, (usize, usize)>,
    /// What was not taken, since there was no room.
    pub(super) dropped: u64,
}

/// Interface and name: two LANs may use one name for different machines.
type Key = (u32, Box<str>);

struct Instance {
    kind: Box<str>,
    label: Box<str>,
    from: IpAddr,
    until: Instant,
    /// When it is asked whether it still holds.
    refresh: Instant,
    host: Option<(Box<str>, u16)>,
    text: Option<Box<str>>,
    asked: u8,
}

struct Host {
    name: Box<str>,
    from: IpAddr,
    spots: BTreeMap<Spot, Fresh>,
}

/// An address: fresh while its record holds, and believed for longer, since it is not asked for again all the time.
struct Fresh {
    ttl: Duration,
    heard: Instant,
    until: Instant,
}

impl Fresh {
    /// Whoever needs it asks again from then on (RFC 6762, section 5.2).
    fn stale(&self) -> Instant {
        self.heard + self.ttl.mul_f32(0.8)
    }
}

impl Memory {
    pub(super) fn new() -> Self {
        let kinds = KINDS.iter().map(|kind| format!("{kind}.local").into()).collect();
        Self { kinds, instances: HashMap::new(), hosts: HashMap::new(), told: HashMap::new(), dropped: 0 }
    }

    /// Takes a record that came in on an interface; true if it is news. `wanted` are hosts that are looked for.
    pub(super) fn take(
        &mut self,
        record: &Record,
        (interface, from): (&Interface, IpAddr),
        wanted: &BTreeSet<Box<str>>,
        now: Instant,
    ) -> bool {
        let key = (interface.index, record.name.folded.clone());
        let until = match record.ttl {
            0 => now + GOODBYE,
            ttl => now + Duration::from_secs(ttl.into()).min(TTL_MAX),
        };
        match &record.data {
            Data::Pointer(kind) if &*record.name.folded == ALL_KINDS => self.take_kind(kind),
            Data::Pointer(instance) => self.take_pointer(&key, (instance, from), record.ttl, (now, until)),
            Data::Service { port, host } => self.instances.get_mut(&key).is_some_and(|instance| {
                let told = Some((host.folded.clone(), *port));
                let news = record.ttl > 0 && instance.host != told;
                if news {
                    instance.host = told;
                    instance.asked = 0;
                }
                news
            }),
            Data::Text(pairs) => self.instances.get_mut(&key).is_some_and(|instance| {
                let text = Some(summary(pairs).into());
                let news = record.ttl > 0 && instance.text != text;
                if news {
                    instance.text = text;
                }
                news
            }),
            Data::Address(ip) if interface.holds(*ip) => {
                let is_wanted = wanted.contains(&key.1);
                self.take_address(key, record, (Spot::new(*ip, &interface.name), from), (now, is_wanted))
            }
            Data::Address(_) => false,
        }
    }

    fn take_kind(&mut self, kind: &Name) -> bool {
        let is_kind = kind.folded.starts_with('_') && kind.folded.len() <= WORD_MAX;
        let is_kind = is_kind && (kind.folded.ends_with("._tcp.local") || kind.folded.ends_with("._udp.local"));
        if !is_kind || self.kinds.contains(&kind.folded) {
            return false;
        }
        if self.kinds.len() >= KINDS_MAX {
            self.dropped += 1;
            return false;
        }
        self.kinds.insert(kind.folded.clone())
    }

    fn take_pointer(
        &mut self,
        (interface, kind): &Key,
        (instance, from): (&Name, IpAddr),
        ttl: u32,
        (now, until): (Instant, Instant),
    ) -> bool {
        let key = (*interface, instance.folded.clone());
        // Asked again at four fifths of its time.
        let refresh = now + (until - now).mul_f32(0.8);
        if let Some(known) = self.instances.get_mut(&key) {
            (known.until, known.refresh) = (until, refresh);
            return false;
        }
        let is_service = kind.starts_with('_') && instance.folded.ends_with(&**kind) && kind.len() <= WORD_MAX;
        let Some(kind) = kind.strip_suffix(".local").filter(|_| is_service && ttl > 0) else { return false };
        let told = self.told.entry(from).or_default();
        if self.instances.len() >= SERVICES_MAX || told.0 >= INSTANCES_OF_ONE {
            self.dropped += 1;
            return false;
        }
        told.0 += 1;
        let label = bounded(&instance.first, TEXT_MAX).into();
        let found = Instance { kind: kind.into(), label, from, until, refresh, host: None, text: None, asked: 0 };
        self.instances.insert(key, found);
        true
    }

    fn take_address(
        &mut self,
        key: Key,
        record: &Record,
        (spot, from): (Spot, IpAddr),
        (now, is_wanted): (Instant, bool),
    ) -> bool {
        if !self.hosts.contains_key(&key) {
            let told = self.told.entry(from).or_default();
            let full = self.hosts.len() >= HOSTS_MAX || told.1 >= HOSTS_OF_ONE;
            let is_host = key.1.ends_with(".local") && key.1.len() <= TEXT_MAX && record.ttl > 0;
            if !is_host || (full && !is_wanted) {
                self.dropped += u64::from(is_host);
                return false;
            }
            told.1 += 1;
            let name = bounded(record.name.first.as_ref(), TEXT_MAX).into();
            self.hosts.insert(key.clone(), Host { name, from, spots: BTreeMap::new() });
        }
        let Some(host) = self.hosts.get_mut(&key) else { return false };
        let mut news = false;
        if record.flush {
            // All others of this family that were not heard just now hold no longer (RFC 6762, section 10.2).
            let stale = |other: &Spot, fresh: &Fresh| {
                other.ip.is_ipv4() == spot.ip.is_ipv4() && *other != spot && fresh.heard + GOODBYE < now
            };
            let before = host.spots.len();
            host.spots.retain(|other, fresh| !stale(other, fresh));
            news = host.spots.len() != before;
        }
        if record.ttl == 0 {
            if let Some(fresh) = host.spots.get_mut(&spot) {
                fresh.until = now + GOODBYE;
            }
            return news;
        }
        let ttl = Duration::from_secs(record.ttl.into()).min(TTL_MAX);
        let is_new = !host.spots.contains_key(&spot);
        if is_new && host.spots.len() >= SPOTS_MAX {
            self.dropped += 1;
            return news;
        }
        host.spots.insert(spot, Fresh { ttl, heard: now, until: now + TTL_MAX });
        news || is_new
    }

    /// Forgets what no longer holds; true if that is news.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.instances.len() + self.hosts.values().map(|host| host.spots.len()).sum::<usize>();
        self.instances.retain(|_, instance| instance.until > now);
        for host in self.hosts.values_mut() {
            host.spots.retain(|_, fresh| fresh.until > now);
        }
        self.hosts.retain(|_, host| !host.spots.is_empty());
        self.told.clear();
        for instance in self.instances.values() {
            self.told.entry(instance.from).or_default().0 += 1;
        }
        for host in self.hosts.values() {
            self.told.entry(host.from).or_default().1 += 1;
        }
        before != self.instances.len() + self.hosts.values().map(|host| host.spots.len()).sum::<usize>()
    }

    /// Forgets what was heard on interfaces that are no longer looked at.
    pub(super) fn keep_interfaces(&mut self, still: &[Interface]) {
        let known = |index: u32| still.iter().any(|interface| interface.index == index);
        self.instances.retain(|(index, _), _| known(*index));
        self.hosts.retain(|(index, _), _| known(*index));
    }

    /// What has to be asked on an interface: what is missing of an instance, and what soon holds no longer. At most so
    /// many questions.
    pub(super) fn missing(&mut self, interface: u32, now: Instant, most: usize) -> Vec<(Box<str>, u16)> {
        let mut asked = Vec::new();
        let mut kinds = BTreeSet::new();
        let of_interface = self.instances.iter_mut().filter(|((index, _), _)| *index == interface);
        for ((_, name), instance) in of_interface {
            if asked.len() + kinds.len() >= most {
                break;
            }
            if instance.refresh <= now {
                kinds.insert(format!("{}.local", instance.kind).into_boxed_str());
                instance.refresh = now + (instance.until - now).mul_f32(0.5) + Duration::from_secs(5);
            }
            match &instance.host {
                None if instance.asked < ASK_MAX => {
                    instance.asked += 1;
                    asked.extend([(name.clone(), SRV), (name.clone(), TXT)]);
                }
                Some((host, _)) if instance.asked < ASK_MAX => {
                    let key = (interface, host.clone());
                    if self.hosts.get(&key).is_none_or(|host| host.spots.is_empty()) {
                        instance.asked += 1;
                        asked.extend([(host.clone(), A), (host.clone(), AAAA)]);
                    }
                }
                _ => {}
            }
        }
        asked.extend(kinds.into_iter().map(|kind| (kind, PTR)));
        asked.sort();
        asked.dedup();
        asked
    }

    /// Hosts that somebody looks for, and whose addresses are unknown or soon no longer fresh.
    pub(super) fn stale<'a>(
        &'a self,
        wanted: &'a BTreeSet<Box<str>>,
        interface: u32,
        now: Instant,
    ) -> impl Iterator<Item = &'a str> {
        wanted.iter().map(|name| &**name).filter(move |name| {
            let host = self.hosts.get(&(interface, Box::from(*name)));
            host.is_none_or(|host| host.spots.values().all(|fresh| fresh.stale() <= now))
        })
    }

    /// When the first of these names is to be asked for again.
    pub(super) fn next_stale(&self, wanted: &BTreeSet<Box<str>>) -> Option<Instant> {
        let of_wanted = self.hosts.iter().filter(|((_, host), _)| wanted.contains(host));
        of_wanted.flat_map(|(_, host)| host.spots.values()).map(Fresh::stale).min()
    }

    /// The addresses of a host that are fresh.
    pub(super) fn addresses(&self, name: &str, now: Instant) -> BTreeSet<Spot> {
        let of_name = self.hosts.iter().filter(|((_, host), _)| **host == *name);
        let fresh = |(spot, fresh): (&Spot, &Fresh)| (fresh.heard + fresh.ttl > now).then(|| spot.clone());
        of_name.flat_map(|(_, host)| host.spots.iter().filter_map(fresh)).collect()
    }

    /// The instances of a kind that need not be told again, for the known answers of a question.
    pub(super) fn known(&self, interface: u32, now: Instant) -> Vec<(String, &str, u32)> {
        let of_interface = self.instances.iter().filter(|((index, _), _)| *index == interface);
        // Only those that hold for more than half of their time spare an answer.
        let fresh = of_interface.filter(|(_, instance)| instance.refresh > now + (instance.until - now).mul_f32(0.3));
        fresh
            .map(|((_, name), instance)| {
                let left = u32::try_from((instance.until - now).as_secs()).unwrap_or(0);
                (format!("{}.local", instance.kind), &**name, left)
            })
            .collect()
    }

    /// What is known of each host, on the interfaces that are part of the LAN.
    pub(super) fn claims(&self, lan: &[Interface]) -> Vec<Claim> {
        let mut claims: BTreeMap<&Key, Claim> = BTreeMap::new();
        for (key, host) in &self.hosts {
            if host.spots.is_empty() || !lan.iter().any(|interface| interface.index == key.0) {
                continue;
            }
            let mut claim = Claim::new(Source::Mdns);
            claim.name = Some(host.name.to_string());
            claim.spots = host.spots.keys().cloned().collect();
            claims.insert(key, claim);
        }
        for ((index, _), instance) in &self.instances {
            let Some((host, port)) = &instance.host else { continue };
            let Some(claim) = claims.get_mut(&(*index, host.clone())) else { continue };
            let about = instance.text.as_deref().unwrap_or_default();
            if claim.about.is_none() && !about.is_empty() {
                claim.about = Some(about.to_owned());
            }
            let service =
                FoundService { kind: instance.kind.to_string(), port: *port, text: instance.label.to_string() };
            claim.services.push(service);
        }
        let mut claims: Vec<_> = claims.into_values().collect();
        claims.iter_mut().for_each(|claim| claim.services.sort());
        claims
    }
}

/// Of what a service says about its device, what people look for.
fn summary(pairs: &[(String, String)]) -> String {
    let of = |keys: &[&str]| keys.iter().find_map(|key| pairs.iter().find(|(found, _)| found == key));
    let maker = of(&["manufacturer", "usb_mfg", "mfg", "vendor"]).map(|(_, value)| value.as_str());
    let model = of(&["model", "ty", "md", "product", "usb_mdl", "mdl"]).map(|(_, value)| value.as_str());
    let words: Vec<_> = [maker, model].into_iter().flatten().collect();
    bounded(&words.join(" "), TEXT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        let first = text.split('.').next().unwrap_or_default();
        Name { folded: text.to_lowercase().into(), first: first.into() }
    }

    fn record(owner: &str, data: Data, ttl: u32) -> Record {
        Record { name: name(owner), data, ttl, flush: !owner.starts_with('_') }
    }

    fn lan() -> Interface {
        Interface { name: "br-lan".into(), index: 3, networks: vec![("192.168.1.1".parse().unwrap(), 24)] }
    }

    struct Ear {
        memory: Memory,
        from: IpAddr,
        now: Instant,
    }

    impl Ear {
        fn new() -> Self {
            Self { memory: Memory::new(), from: "192.168.1.10".parse().unwrap(), now: Instant::now() }
        }

        fn hear(&mut self, owner: &str, data: Data, ttl: u32) -> bool {
            self.memory.take(&record(owner, data, ttl), (&lan(), self.from), &BTreeSet::new(), self.now)
        }

        fn camera(&mut self, address: &str) {
            self.hear("_http._tcp.local", Data::Pointer(name("Cam._http._tcp.local")), 4500);
            self.hear("Cam._http._tcp.local", Data::Service { port: 80, host: name("cam.local") }, 120);
            self.hear("Cam._http._tcp.local", Data::Text(vec![("model".into(), "M7".into())]), 4500);
            self.hear("cam.local", Data::Address(address.parse().unwrap()), 120);
        }

        fn claims(&self) -> Vec<Claim> {
            self.memory.claims(&[lan()])
        }
    }

    #[tokio::test]
    async fn a_device_comes_changes_its_address_and_goes() {
        let mut ear = Ear::new();
        ear.camera("192.168.1.10");
        let [claim] = &ear.claims()[..] else { panic!("{:?}", ear.claims()) };
        assert_eq!((claim.name.as_deref(), claim.about.as_deref()), (Some("cam"), Some("M7")));
        assert_eq!(claim.services, [FoundService { kind: "_http._tcp".into(), port: 80, text: "Cam".into() }]);
        ear.now += Duration::from_secs(10);
        assert!(ear.hear("cam.local", Data::Address("192.168.1.20".parse().unwrap()), 120));
        assert_eq!(ear.claims()[0].spots, ["192.168.1.20".parse().unwrap()], "the old address was flushed");
        ear.now += Duration::from_secs(3700);
        assert!(!ear.memory.expire(ear.now), "silence for an hour is no goodbye");
        assert_eq!(ear.memory.missing(3, ear.now, 50), [("_http._tcp.local".into(), PTR)], "but it is asked");
        assert!(ear.memory.addresses("cam.local", ear.now).is_empty(), "who connects asks anew");
        ear.hear("_http._tcp.local", Data::Pointer(name("Cam._http._tcp.local")), 0);
        ear.now += Duration::from_secs(2);
        assert!(ear.memory.expire(ear.now));
        assert!(ear.claims()[0].services.is_empty(), "it said goodbye");
    }

    #[tokio::test]
    async fn addresses_that_are_not_on_the_lan_are_not_taken() {
        let mut ear = Ear::new();
        for far in ["8.8.8.8", "127.0.0.1", "192.168.1.1", "169.254.169.254"] {
            ear.camera(far);
        }
        assert!(ear.claims().is_empty());
    }

    #[tokio::test]
    async fn one_liar_does_not_fill_it() {
        let mut ear = Ear::new();
        for n in 0..10_000 {
            let (instance, host) = (format!("fake{n}._http._tcp.local"), format!("fake{n}.local"));
            ear.hear("_http._tcp.local", Data::Pointer(name(&instance)), 4500);
            ear.hear(&instance, Data::Service { port: 80, host: name(&host) }, 4500);
            ear.hear(&host, Data::Address(format!("192.168.1.{}", 2 + n % 200).parse().unwrap()), 4500);
            ear.hear(ALL_KINDS, Data::Pointer(name(&format!("_fake{n}._tcp.local"))), 4500);
        }
        assert_eq!((ear.memory.instances.len(), ear.memory.hosts.len()), (INSTANCES_OF_ONE, HOSTS_OF_ONE));
        assert_eq!(ear.memory.kinds.len(), KINDS_MAX);
        assert!(ear.memory.dropped > 20_000);
        ear.from = "192.168.1.11".parse().unwrap();
        ear.camera("192.168.1.11");
        assert!(ear.claims().iter().any(|claim| claim.about.as_deref() == Some("M7")), "others are still heard");
    }
}
