//! Reads what a gateway says over its link: one device that cannot be taken is refused alone, the others count (pure).

use linkspan_protocol::discovery::{TEXT_MAX, bounded};
use linkspan_protocol::message::{ConfigState, DeviceRefused, DeviceReport, GatewayToServer};
use linkspan_protocol::update::UpdateState;
use serde::Deserialize;
use serde_json::Value;

use crate::events::Looked;
use crate::lan::Told;

/// What a gateway said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its devices.
    Devices {
        /// Those that can be read, and say nothing that cannot be.
        devices: Vec<DeviceReport>,
        /// The others.
        refused: Vec<DeviceRefused>,
        /// How many have not even a name.
        nameless: usize,
    },
    /// The silence after which it asks, in seconds.
    Keepalive(u32),
    /// What its link carried.
    Traffic {
        /// The month, as it says.
        month: String,
        /// Bytes sent and received.
        sent: u64,
        received: u64,
    },
    /// How it stands with its configuration.
    Config(Box<ConfigState>),
    /// The document that it lives by, and its SHA-256.
    ConfigDocument { sha256: String, text: Option<String> },
    /// How it stands with its program.
    Update(Box<UpdateState>),
    /// What all of its LAN is called.
    Lan(String),
    /// What it has found there.
    Found(Told),
    /// What came of a closer look.
    Identified(Looked),
    /// A kind of message that this version does not know.
    Unknown,
}

/// Reads a control message.
pub(super) fn read(json: &[u8]) -> Result<Heard, serde_json::Error> {
    let heard = match serde_json::from_slice(json) {
        Ok(GatewayToServer::Devices { devices }) => Heard::Devices { devices, refused: Vec::new(), nameless: 0 },
        Ok(GatewayToServer::Keepalive { ping_after_s }) => Heard::Keepalive(ping_after_s),
        Ok(GatewayToServer::Lan { digest }) => Heard::Lan(digest),
        Ok(GatewayToServer::Found { keys, devices, gone, digest }) => {
            Heard::Found(Told { keys, devices, gone, digest })
        }
        Ok(GatewayToServer::Identified { request, looked, found, refused }) => {
            Heard::Identified(Looked { request, looked, found, refused: refused.map(|text| bounded(&text, TEXT_MAX)) })
        }
        Ok(GatewayToServer::Unknown) => Heard::Unknown,
        Ok(GatewayToServer::Config(state)) => Heard::Config(Box::new(state)),
        Ok(GatewayToServer::Update(state)) => Heard::Update(Box::new(state)),
        Ok(GatewayToServer::ConfigDocument { sha256, text }) => Heard::ConfigDocument { sha256, text },
        Ok(GatewayToServer::Traffic { month, sent, received }) => Heard::Traffic { month, sent, received },
        // The message is worth a second look only if it is a list with a spoilt device in it.
        Err(error) => one_by_one(json).ok_or(error)?,
    };
    Ok(heard.without_flawed())
}

impl Heard {
    fn without_flawed(mut self) -> Self {
        if let Self::Devices { devices, refused, .. } = &mut self {
            devices.retain(|device| {
                let Err(flaw) = sound(device) else { return true };
                refused.push(DeviceRefused { name: device.name.clone(), reason: flaw.to_owned() });
                false
            });
        }
        self
    }
}

/// What no gateway of ours reports. These texts end up on pages, in headers and in the log.
fn sound(device: &DeviceReport) -> Result<(), &'static str> {
    if device.tags.iter().chain([&device.description]).any(|text| text.chars().any(char::is_control)) {
        return Err("its description or a tag holds a control character");
    }
    let is_host = |text: &str| {
        (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]%".contains(&b))
    };
    for service in &device.services {
        if !is_host(&service.host) || !service.host_header.as_deref().is_none_or(is_host) {
            return Err("the host of a service is neither an address nor a name");
        }
        if service.port == 0 {
            return Err("a service has no port");
        }
    }
    Ok(())
}

fn one_by_one(json: &[u8]) -> Option<Heard> {
    #[derive(Deserialize)]
    #[serde(tag = "type", rename_all = "kebab-case")]
    enum List {
        Devices { devices: Vec<Value> },
    }
    let List::Devices { devices: all } = serde_json::from_slice(json).ok()?;
    let (mut devices, mut refused, mut nameless) = (Vec::new(), Vec::new(), 0);
    for device in all {
        match DeviceReport::deserialize(&device) {
            Ok(device) => devices.push(device),
            Err(error) => match device.get("name").and_then(Value::as_str).and_then(|name| name.parse().ok()) {
                Some(name) => refused.push(DeviceRefused { name, reason: format!("it cannot be read: {error}") }),
                None => nameless += 1,
            },
        }
    }
    Some(Heard::Devices { devices, refused, nameless })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"name":"plc1","services":[{"name":"web","kind":"http","host":"10.0.0.1","port":80}]}"#;

    fn devices(of: &str) -> (Vec<String>, Vec<String>, usize) {
        let json = format!(r#"{{"type":"devices","devices":[{of}]}}"#);
        let Heard::Devices { devices, refused, nameless } = read(json.as_bytes()).unwrap() else { panic!("{json}") };
        let refused = refused.iter().map(|one| format!("{}: {}", one.name, one.reason)).collect();
        (devices.iter().map(|device| device.name.to_string()).collect(), refused, nameless)
    }

    #[test]
    fn a_spoilt_device_does_not_spoil_the_others() {
        assert_eq!(devices(GOOD), (vec!["plc1".into()], vec![], 0));
        let no_port = r#"{"name":"cam1","services":[{"name":"web","kind":"http","host":"h","port":70000}]}"#;
        let (taken, refused, nameless) = devices(&format!(r#"{no_port},{{"name":"PLC 9","services":[]}},7,{GOOD}"#));
        assert_eq!((taken, nameless), (vec!["plc1".to_owned()], 2));
        assert_eq!(refused.len(), 1);
        assert!(refused[0].starts_with("cam1: it cannot be read: ") && refused[0].contains("70000"), "{refused:?}");
    }

    #[test]
    fn a_device_that_says_what_cannot_be_is_refused_alone() {
        for (from, to, why) in [
            (r#""port":80"#, r#""port":0"#, "a service has no port"),
            ("10.0.0.1", "a b", "the host of a service is neither an address nor a name"),
            ("10.0.0.1", "", "the host of a service is neither an address nor a name"),
            (
                r#""port":80"#,
                r#""port":80,"host_header":"x\r\nY: z""#,
                "the host of a service is neither an address nor a name",
            ),
            (
                r#""services""#,
                r#""tags":["a\u001b[2J"],"services""#,
                "its description or a tag holds a control character",
            ),
            (
                r#""services""#,
                r#""description":"a\nb","services""#,
                "its description or a tag holds a control character",
            ),
        ] {
            let bad = GOOD.replace("plc1", "bad").replace(from, to);
            let expected = (vec!["plc1".to_owned()], vec![format!("bad: {why}")], 0);
            assert_eq!(devices(&format!("{bad},{GOOD}")), expected, "{bad}");
        }
        for host in ["fe80::10%br-lan", "[fd00::10]", "plc.local", "plc_1.lan"] {
            assert_eq!(devices(&GOOD.replace("10.0.0.1", host)).0, ["plc1"], "{host}");
        }
    }

    #[test]
    fn a_way_of_checking_certificates_that_is_not_known_spoils_nothing() {
        let new = GOOD.replace(r#""port":80"#, r#""port":443,"verify":{"mode":"dane","usage":[3]}"#);
        assert_eq!(devices(&format!("{new},{}", GOOD.replace("plc1", "plc2"))).0, ["plc1", "plc2"]);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert_eq!(read(br#"{"type":"weather","devices":7}"#).unwrap(), Heard::Unknown);
        assert_eq!(read(br#"{"type":"keepalive","ping_after_s":300,"why":7}"#).unwrap(), Heard::Keepalive(300));
        for nonsense in
            ["", "{", "[]", "7", r#"{"type":7}"#, r#"{"type":"devices"}"#, r#"{"type":"devices","devices":7}"#]
        {
            assert!(read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
