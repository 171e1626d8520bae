//! What is found on the LAN on its way to the server: an unchanged LAN says nothing, and a hostile one little.

use std::collections::HashMap;
use std::time::Duration;

use linkspan_protocol::discovery::FoundDevice;
use linkspan_protocol::encoding::hex;
use linkspan_protocol::message::GatewayToServer;
use ring::digest::{SHA256, digest};
use tokio::time::Instant;

/// What comes in bursts goes up together.
const SETTLE: Duration = Duration::from_secs(2);
/// Bytes that may be told at once, and so many more in each hour: a day of the worst LAN is 2 MB.
const BURST: usize = 192 * 1024;
const PER_HOUR: usize = 64 * 1024;
/// Bytes of one message, about: a keystroke does not wait behind more.
const MESSAGE: usize = 12 * 1024;

/// What the server has been told in this session.
pub(super) struct LanTold {
    /// The digest of each device's text.
    told: HashMap<String, [u8; 8]>,
    /// Everything is to be told, and whatever else the server knows is to be forgotten.
    whole: bool,
    /// The server was not told what all of it is called since the last change.
    open: bool,
    budget: usize,
    filled: Instant,
    due: Option<Instant>,
}

impl LanTold {
    pub(super) fn new(now: Instant) -> Self {
        Self { told: HashMap::new(), whole: false, open: false, budget: BURST, filled: now, due: None }
    }

    /// The first word in a session: what all of it is called. Only a server that knows something else asks for more.
    pub(super) fn begin(&mut self, devices: &[FoundDevice]) -> GatewayToServer {
        self.told = devices.iter().map(|device| (device.key.clone(), short(device))).collect();
        (self.whole, self.open, self.due) = (false, false, None);
        GatewayToServer::Lan { digest: name_of(devices) }
    }

    /// The server wants to be told everything.
    pub(super) fn asked(&mut self, now: Instant) {
        self.told.clear();
        (self.whole, self.open, self.due) = (true, true, Some(now));
    }

    /// Something may have changed.
    pub(super) fn changed(&mut self, now: Instant) {
        self.due.get_or_insert(now + SETTLE);
    }

    /// When there may be something to tell.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What is to be told now, if anything.
    pub(super) fn next(&mut self, devices: &[FoundDevice], now: Instant) -> Option<GatewayToServer> {
        self.due = None;
        self.refill(now);
        let gone: Vec<_> = self.told.keys().filter(|key| devices.iter().all(|one| one.key != **key)).cloned().collect();
        let other = |device: &&FoundDevice| self.told.get(&device.key) != Some(&short(device));
        let waiting: Vec<_> = devices.iter().filter(other).collect();
        if waiting.is_empty() && gone.is_empty() && !self.open {
            return None;
        }
        let keys: Option<Vec<_>> = self.whole.then(|| devices.iter().map(|device| device.key.clone()).collect());
        let mut bytes = 100 + keys.iter().flatten().chain(&gone).map(|key| key.len() + 3).sum::<usize>();
        let mut chosen = Vec::new();
        for device in &waiting {
            let size = serde_json::to_vec(device).map_or(MESSAGE, |text| text.len() + 1);
            if !chosen.is_empty() && bytes + size > MESSAGE {
                break;
            }
            bytes += size;
            chosen.push((*device).clone());
        }
        if bytes > self.budget {
            let missing = u32::try_from(bytes - self.budget).unwrap_or(u32::MAX);
            let second = Duration::from_secs(3600) / u32::try_from(PER_HOUR).unwrap_or(1);
            self.due = Some(now + second * missing + SETTLE);
            return None;
        }
        self.budget -= bytes;
        let all = chosen.len() == waiting.len();
        self.told.retain(|key, _| !gone.contains(key));
        self.told.extend(chosen.iter().map(|device| (device.key.clone(), short(device))));
        (self.whole, self.open) = (false, !all);
        if !all {
            self.due = Some(now + SETTLE / 4);
        }
        let digest = all.then(|| name_of(devices));
        Some(GatewayToServer::Found { keys, devices: chosen, gone, digest })
    }

    fn refill(&mut self, now: Instant) {
        let millis = now.saturating_duration_since(self.filled).as_millis();
        let more = usize::try_from(millis * PER_HOUR as u128 / 3_600_000).unwrap_or(BURST);
        if more > 0 {
            self.budget = self.budget.saturating_add(more).min(BURST);
            self.filled = now;
        }
    }
}

fn short(device: &FoundDevice) -> [u8; 8] {
    let text = serde_json::to_vec(device).unwrap_or_default();
    let mut short = [0; 8];
    short.copy_from_slice(&digest(&SHA256, &text).as_ref()[..8]);
    short
}

/// What all of it is called: it changes whenever anything of it does.
fn name_of(devices: &[FoundDevice]) -> String {
    let text = serde_json::to_vec(devices).unwrap_or_default();
    hex(&digest(&SHA256, &text).as_ref()[..16])
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::discovery::{DEVICES_MAX, FoundService};

    use super::*;

    fn device(n: usize, address: &str) -> FoundDevice {
        let key = format!("mac:02:00:00:00:{:02x}:{:02x}", n / 256, n % 256);
        FoundDevice { key, addresses: vec![address.to_owned()], present: true, ..FoundDevice::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_unchanged_lan_is_one_short_word() {
        let now = Instant::now();
        let devices = [device(1, "10.0.0.1"), device(2, "10.0.0.2")];
        let mut told = LanTold::new(now);
        let GatewayToServer::Lan { digest } = told.begin(&devices) else { panic!() };
        told.changed(now);
        assert_eq!(told.due(), Some(now + SETTLE));
        assert_eq!(told.next(&devices, now), None, "nothing is new");
        assert_eq!(told.due(), None);
        told.asked(now);
        let Some(GatewayToServer::Found { keys, devices: all, gone, digest: after }) = told.next(&devices, now) else {
            panic!()
        };
        assert_eq!((keys.unwrap().len(), all.len(), gone.len(), after), (2, 2, 0, Some(digest)));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_differs_is_told() {
        let now = Instant::now();
        let mut told = LanTold::new(now);
        told.begin(&[device(1, "10.0.0.1"), device(2, "10.0.0.2")]);
        let devices = [device(2, "10.0.0.9"), device(3, "10.0.0.3")];
        let Some(GatewayToServer::Found { keys: None, devices: all, gone, digest: Some(_) }) = told.next(&devices, now)
        else {
            panic!()
        };
        assert_eq!((all, gone), (devices.to_vec(), vec![device(1, "").key]));
        assert_eq!(told.next(&devices, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lan_that_never_rests_says_little() {
        let begin = Instant::now();
        let mut told = LanTold::new(begin);
        told.begin(&[]);
        let (mut bytes, mut longest) = (0, 0);
        // For a day, all devices change each minute.
        for minute in 0..24 * 60_u64 {
            let now = begin + Duration::from_secs(60 * minute);
            let service = FoundService { kind: "_http._tcp".into(), port: 80, text: format!("name {minute}") };
            let devices: Vec<_> = (0..DEVICES_MAX)
                .map(|n| FoundDevice { services: vec![service.clone()], ..device(n, "10.0.0.1") })
                .collect();
            told.changed(now);
            while let Some(message) = told.next(&devices, now) {
                let size = serde_json::to_vec(&message).unwrap().len();
                bytes += size;
                longest = longest.max(size);
            }
        }
        assert!(bytes < 2_000_000, "{bytes}");
        assert!(bytes > 1_000_000, "it still speaks: {bytes}");
        assert!(longest < 2 * MESSAGE, "{longest}");
    }
}
