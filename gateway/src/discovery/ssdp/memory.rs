//! Who has told of itself, bounded whatever the LAN says: pure, with the time as an argument.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use linkspan_protocol::discovery::FoundService;
use tokio::time::Instant;

use super::{Here, Said};
use crate::discovery::claim::{Claim, Source, Spot};
use crate::discovery::lan::Interface;

/// Addresses that are known at once, of each language.
const SPEAKERS_MAX: usize = 256;
/// Services at one address.
const SERVICES_MAX: usize = 4;
/// What is said holds at least and at most so long.
const HOLDS_MIN: Duration = Duration::from_secs(60);
const HOLDS_MAX: Duration = Duration::from_secs(75 * 60);
/// WS-Discovery does not say how long: until two questions in a row were not answered.
const HOLDS_ELSE: Duration = Duration::from_secs(135 * 60);

/// All that is known.
#[derive(Default)]
pub(super) struct Memory {
    speakers: BTreeMap<Key, Speaker>,
}

/// The language, the interface and the address: whoever speaks tells of itself alone.
type Key = (Source, u32, IpAddr);

struct Speaker {
    spot: Spot,
    here: Here,
    services: Vec<FoundService>,
    until: Instant,
}

impl Memory {
    /// Takes what somebody said; true if it is news.
    pub(super) fn take(
        &mut self,
        said: Said,
        (source, interface, from): (Source, &Interface, IpAddr),
        now: Instant,
    ) -> bool {
        let key = (source, interface.index, from);
        match said {
            Said::Gone(unique) => {
                let is_it = self.speakers.get(&key).is_some_and(|known| known.here.unique.as_ref() == Some(&unique));
                is_it && self.speakers.remove(&key).is_some()
            }
            Said::Here(here) => self.take_here(key, here, (interface, now)),
        }
    }

    fn take_here(&mut self, key: Key, mut here: Here, (interface, now): (&Interface, Instant)) -> bool {
        let holds = here.holds.take().map_or(HOLDS_ELSE, |holds| holds.clamp(HOLDS_MIN, HOLDS_MAX));
        let (until, service) = (now + holds, here.service.take());
        if !self.speakers.contains_key(&key) {
            if self.speakers.keys().filter(|(source, ..)| *source == key.0).count() >= SPEAKERS_MAX {
                return false;
            }
            let spot = Spot::new(key.2, &interface.name);
            let services = Vec::from_iter(service);
            self.speakers.insert(key, Speaker { spot, here, services, until });
            return true;
        }
        let Some(known) = self.speakers.get_mut(&key) else { return false };
        known.until = until;
        let before = known.services.len();
        if let Some(service) = service {
            known.place(service);
        }
        let mut news = known.services.len() != before;
        // What speaks of the whole device is not replaced by what speaks of a part of it.
        if here.is_whole || !known.here.is_whole {
            here.about = here.about.or(known.here.about.take());
            news |= known.here != here;
            known.here = here;
        }
        news
    }

    /// Forgets what no longer holds; true if that is news.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let before = self.speakers.len();
        self.speakers.retain(|_, speaker| speaker.until > now);
        before != self.speakers.len()
    }

    /// Forgets what was heard on interfaces that are no longer looked at.
    pub(super) fn keep_interfaces(&mut self, still: &[Interface]) {
        self.speakers.retain(|(_, index, _), _| still.iter().any(|interface| interface.index == *index));
    }

    pub(super) fn claims(&self) -> Vec<Claim> {
        let claim = |((source, ..), speaker): (&Key, &Speaker)| Claim {
            unique: speaker.here.unique.clone(),
            spots: vec![speaker.spot.clone()],
            name: speaker.here.name.clone(),
            about: speaker.here.about.clone(),
            services: speaker.services.clone(),
            ..Claim::new(*source)
        };
        self.speakers.iter().map(claim).collect()
    }
}

impl Speaker {
    fn place(&mut self, service: FoundService) {
        let is_same = |other: &FoundService| other.kind == service.kind && other.port == service.port;
        if !self.services.iter().any(is_same) && self.services.len() < SERVICES_MAX {
            self.services.push(service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lan() -> Interface {
        Interface { name: "br-lan".into(), index: 3, networks: vec![("10.0.0.1".parse().unwrap(), 8)] }
    }

    fn here(unique: &str, is_whole: bool, port: u16) -> Said {
        let service = FoundService { kind: "_upnp._tcp".into(), port, text: "/d.xml".into() };
        let (unique, holds) = (Some(unique.to_owned()), Some(Duration::from_secs(1800)));
        Said::Here(Here { unique, is_whole, service: Some(service), holds, ..Here::default() })
    }

    fn from(n: u32) -> IpAddr {
        IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0002 + n))
    }

    #[tokio::test]
    async fn a_device_is_known_until_it_says_goodbye_or_its_time_is_over() {
        let (mut memory, lan, now) = (Memory::default(), lan(), Instant::now());
        let mut take = |said, now| memory.take(said, (Source::Ssdp, &lan, from(0)), now);
        assert!(take(here("part", false, 80), now));
        assert!(take(here("root", true, 80), now), "the device itself is heard after a part of it");
        assert!(!take(here("part", false, 80), now) && !take(here("root", true, 80), now), "nothing new");
        assert!(!take(Said::Gone("part".into()), now));
        let claims = memory.claims();
        assert_eq!((claims.len(), claims[0].unique.as_deref(), claims[0].services.len()), (1, Some("root"), 1));
        assert!(!memory.expire(now + Duration::from_secs(1799)));
        assert!(memory.expire(now + Duration::from_secs(1800)));
        let mut take = |said| memory.take(said, (Source::Ssdp, &lan, from(0)), now);
        assert!(take(here("root", true, 80)) && take(Said::Gone("root".into())));
        assert!(memory.claims().is_empty());
    }

    #[tokio::test]
    async fn a_hostile_lan_fills_no_more_than_its_part() {
        let (mut memory, lan, now) = (Memory::default(), lan(), Instant::now());
        for n in 0..10_000 {
            for port in 1..20 {
                memory.take(here(&format!("fake {n}"), true, port), (Source::Ssdp, &lan, from(n)), now);
            }
        }
        memory.take(here("camera", true, 80), (Source::WsDiscovery, &lan, from(0)), now);
        let claims = memory.claims();
        assert_eq!(claims.len(), SPEAKERS_MAX + 1, "one language does not take the other's room");
        assert!(claims.iter().all(|claim| claim.services.len() <= SERVICES_MAX));
    }
}
