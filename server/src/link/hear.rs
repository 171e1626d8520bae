//! Reads what a gateway says over its link: one device that cannot be read is refused alone, the others count (pure).

use linkspan_protocol::message::{DeviceRefused, DeviceReport, GatewayToServer};
use serde::Deserialize;
use serde_json::Value;

/// What a gateway said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Its devices.
    Devices {
        /// Those that can be read.
        devices: Vec<DeviceReport>,
        /// Those that cannot, but for their names.
        refused: Vec<DeviceRefused>,
        /// How many have not even a name.
        nameless: usize,
    },
    /// A kind of message that this version does not know.
    Unknown,
}

/// Reads a control message.
pub(super) fn read(json: &[u8]) -> Result<Heard, serde_json::Error> {
    match serde_json::from_slice(json) {
        Ok(GatewayToServer::Devices { devices }) => Ok(Heard::Devices { devices, refused: Vec::new(), nameless: 0 }),
        Ok(GatewayToServer::Unknown) => Ok(Heard::Unknown),
        // The message is worth a second look only if it is a list with a spoilt device in it.
        Err(error) => one_by_one(json).ok_or(error),
    }
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
    fn a_way_of_checking_certificates_that_is_not_known_spoils_nothing() {
        let new = GOOD.replace(r#""port":80"#, r#""port":443,"verify":{"mode":"dane","usage":[3]}"#);
        assert_eq!(devices(&format!("{new},{}", GOOD.replace("plc1", "plc2"))).0, ["plc1", "plc2"]);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert_eq!(read(br#"{"type":"weather","devices":7}"#).unwrap(), Heard::Unknown);
        for nonsense in
            ["", "{", "[]", "7", r#"{"type":7}"#, r#"{"type":"devices"}"#, r#"{"type":"devices","devices":7}"#]
        {
            assert!(read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
