//! What a gateway finds on its LAN, as it is told to the server: nothing of it can be reached before somebody approves it.
//!
//! All texts are strangers' words: whoever receives them checks them against the bounds that stand here.

use serde::{Deserialize, Serialize};

use crate::message::ServiceKind;

/// Ability of a server: it takes what gateways find. Of a gateway: it tells, and looks closer when asked.
pub const DISCOVERY: &str = "discovery";

/// Devices of one gateway that are known at once.
pub const DEVICES_MAX: usize = 512;
/// Services of all devices of one gateway together.
pub const SERVICES_MAX: usize = 2048;
/// Services of one device.
pub const DEVICE_SERVICES_MAX: usize = 512;
/// Addresses, and names, of one device.
pub const ADDRESSES_MAX: usize = 8;
/// Bytes of a key, an address, a kind of service.
pub const WORD_MAX: usize = 64;
/// Bytes of a name, and of what a service says about itself.
pub const TEXT_MAX: usize = 128;
/// Targets of one request to look closer.
pub const TARGETS_MAX: usize = 256;

/// A device that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDevice {
    /// What it is known by: `mac:02:00:00:00:00:01`, else `id:…` by what it says of itself, else `ip:192.168.1.10`.
    pub key: String,
    /// The key that it had before more was known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub was: Option<String>,
    /// Its addresses on the LAN, the most useful one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// The names that it or the router's DHCP server gives it, the best one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Maker and model, as it says itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Who told of it: `mdns`, `lease`, `neighbour`, `ssdp`, `ws-discovery`, `identify`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// What it offers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<FoundService>,
    /// Whether anything still speaks for its being there.
    #[serde(default)]
    pub present: bool,
}

/// Something that a device offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FoundService {
    /// What it is, in the form of DNS-SD (RFC 6763): `_http._tcp`.
    pub kind: String,
    /// Its port.
    pub port: u16,
    /// What it is called, its banner, its title.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// What could be published of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suggestion {
    /// A name for it.
    pub name: String,
    /// What is spoken there.
    pub kind: ServiceKind,
    /// Its port.
    pub port: u16,
}

/// Kinds of DNS-SD that are worth publishing: what is spoken, and a name.
const KINDS: [(&str, ServiceKind, &str); 21] = [
    ("_http", ServiceKind::Http, "web"),
    ("_https", ServiceKind::Https, "web"),
    ("_axis-video", ServiceKind::Http, "web"),
    ("_onvif", ServiceKind::Http, "onvif"),
    ("_ipp", ServiceKind::Http, "ipp"),
    ("_ssh", ServiceKind::Ssh, "ssh"),
    ("_sftp-ssh", ServiceKind::Ssh, "ssh"),
    ("_rfb", ServiceKind::Vnc, "vnc"),
    ("_rdp", ServiceKind::Rdp, "rdp"),
    ("_telnet", ServiceKind::Tcp, "telnet"),
    ("_rtsp", ServiceKind::Tcp, "rtsp"),
    ("_modbus", ServiceKind::Tcp, "modbus"),
    ("_mbap", ServiceKind::Tcp, "modbus"),
    ("_iso-tsap", ServiceKind::Tcp, "s7"),
    ("_enip", ServiceKind::Tcp, "enip"),
    ("_opcua-tcp", ServiceKind::Tcp, "opcua"),
    ("_mqtt", ServiceKind::Tcp, "mqtt"),
    ("_secure-mqtt", ServiceKind::Tcp, "mqtts"),
    ("_dnp3", ServiceKind::Tcp, "dnp3"),
    ("_printer", ServiceKind::Tcp, "printer"),
    ("_pdl-datastream", ServiceKind::Tcp, "jetdirect"),
];

/// Most services that are suggested for one device.
const SUGGESTIONS_MAX: usize = 16;

/// What could be published of what was found, each port once and each with a name of its own; what serves a page first.
pub fn suggest(found: &[FoundService]) -> Vec<Suggestion> {
    let mut all: Vec<Suggestion> = Vec::new();
    for (kind, speaks, name) in KINDS {
        for service in found {
            let Some(word) = service.kind.strip_suffix("._tcp") else { continue };
            if word != kind || service.port == 0 || all.iter().any(|other| other.port == service.port) {
                continue;
            }
            let taken = all.iter().any(|other| other.name == name);
            let name = if taken { format!("{name}-{}", service.port) } else { name.to_owned() };
            all.push(Suggestion { name, kind: speaks, port: service.port });
            if all.len() == SUGGESTIONS_MAX {
                return all;
            }
        }
    }
    all
}

/// A stranger's text as it is kept: one line without control characters, cut to that many bytes at a character.
pub fn bounded(text: &str, max: usize) -> String {
    let mut kept = String::with_capacity(text.len().min(max));
    for c in text.trim().chars() {
        // Besides control characters, those that turn the direction of what follows.
        let odd = c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        let c = if odd { ' ' } else { c };
        if kept.len() + c.len_utf8() > max {
            break;
        }
        kept.push(c);
    }
    kept.trim_end().to_owned()
}

impl FoundDevice {
    /// Cuts everything to its bounds; what the other end says is not trusted to keep them.
    pub fn bound(&mut self) {
        self.key = bounded(&self.key, WORD_MAX);
        self.was = self.was.take().map(|key| bounded(&key, WORD_MAX));
        self.about = bounded(&self.about, TEXT_MAX);
        for (list, longest) in
            [(&mut self.addresses, WORD_MAX), (&mut self.names, TEXT_MAX), (&mut self.sources, WORD_MAX)]
        {
            list.truncate(ADDRESSES_MAX);
            list.iter_mut().for_each(|text| *text = bounded(text, longest));
        }
        self.services.truncate(DEVICE_SERVICES_MAX);
        for service in &mut self.services {
            service.kind = bounded(&service.kind, WORD_MAX);
            service.text = bounded(&service.text, TEXT_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(kind: &str, port: u16) -> FoundService {
        FoundService { kind: kind.into(), port, text: String::new() }
    }

    #[test]
    fn what_serves_a_page_is_suggested_first_and_each_port_once() {
        let services = [
            found("_ssh._tcp", 22),
            found("_sftp-ssh._tcp", 22),
            found("_http._tcp", 8080),
            found("_http._tcp", 80),
            found("_tftp._udp", 69),
            found("_workstation._tcp", 9),
        ];
        let names: Vec<_> = suggest(&services).into_iter().map(|s| (s.name, s.kind, s.port)).collect();
        assert_eq!(
            names,
            [
                ("web".to_owned(), ServiceKind::Http, 8080),
                ("web-80".to_owned(), ServiceKind::Http, 80),
                ("ssh".to_owned(), ServiceKind::Ssh, 22)
            ]
        );
    }

    #[test]
    fn strangers_texts_are_cut_to_their_bounds() {
        assert_eq!(bounded(" so\r\n\u{202e}evil\u{7} ", 20), "so   evil");
        assert_eq!(bounded("ööö", 5), "öö");
        let mut device = FoundDevice {
            key: "x".repeat(500),
            names: vec!["n".repeat(500); 50],
            services: vec![found(&"k".repeat(500), 1); 5000],
            ..FoundDevice::default()
        };
        device.bound();
        assert_eq!((device.key.len(), device.names.len(), device.names[0].len()), (WORD_MAX, ADDRESSES_MAX, TEXT_MAX));
        assert_eq!((device.services.len(), device.services[0].kind.len()), (DEVICE_SERVICES_MAX, WORD_MAX));
    }
}
