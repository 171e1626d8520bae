//! Reads a request's authority once and says whom it is for: the console, a device, this machine, or nobody (pure).

use std::net::{IpAddr, Ipv6Addr};

use linkspan_protocol::id::{DeviceName, ServiceName};

pub use crate::config::Site;

/// Whom a request is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The console and the API.
    Console,
    /// A device; its first web service, or the named one.
    Device {
        /// The device.
        device: DeviceName,
        /// The service after `--`.
        service: Option<ServiceName>,
    },
    /// An address of this machine, or `localhost`: gateways and monitoring may come this way.
    Address,
    /// A name that is not ours.
    Unknown,
}

impl Site {
    /// The origin of a device's first web service, or of the named one.
    pub fn device_origin(&self, device: &DeviceName, service: Option<&ServiceName>) -> String {
        self.origin(&self.device_host(device, service))
    }

    /// The host of a device's first web service, or of the named one.
    pub fn device_host(&self, device: &DeviceName, service: Option<&ServiceName>) -> String {
        match service {
            Some(service) => format!("{device}--{service}.{}", self.zone),
            None => format!("{device}.{}", self.zone),
        }
    }

    /// Whom an authority names. Upper case, a port and one dot at the end do not matter.
    pub fn target(&self, authority: &str) -> Target {
        let Some(host) = host_of(authority) else { return Target::Unknown };
        if host == self.console {
            return Target::Console;
        }
        if let Some(label) = host.strip_suffix(&self.zone).and_then(|rest| rest.strip_suffix('.')) {
            return device(label).unwrap_or(Target::Unknown);
        }
        if host == "localhost" || is_address(&host) { Target::Address } else { Target::Unknown }
    }

    /// Whom an origin (`https://host[:port]`) names, if it is one of ours with the port that people use.
    pub fn origin_target(&self, origin: &str) -> Option<Target> {
        let authority = origin.strip_prefix("https://")?;
        if authority.contains(['/', '?', '#', '@']) || port_of(authority)?.unwrap_or(443) != self.port {
            return None;
        }
        Some(self.target(authority))
    }
}

/// The host of an authority in lower case, without port and final dot; none if it cannot be a host.
pub fn host_of(authority: &str) -> Option<String> {
    port_of(authority)?;
    let host = split_port(authority).0;
    let host = host.strip_suffix('.').unwrap_or(host);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let fits = match bracketed {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.len() <= 253 && host.bytes().all(plain),
    };
    (fits && !host.is_empty()).then(|| host.to_ascii_lowercase())
}

/// The port of an authority; none if what stands there is not one.
fn port_of(authority: &str) -> Option<Option<u16>> {
    match split_port(authority).1 {
        None => Some(None),
        Some(digits) if digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().map(Some)
        }
        Some(_) => None,
    }
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// `plc1` or `plc1--web`: exactly one label. `xn--…` is read as device `xn`, whose service then is unknown like any other.
fn device(label: &str) -> Option<Target> {
    let (device, service) = match label.split_once("--") {
        Some((device, service)) => (device, Some(service.parse().ok()?)),
        None => (label, None),
    };
    Some(Target::Device { device: device.parse().ok()?, service })
}

fn is_address(host: &str) -> bool {
    host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        Site { console: "remote.example.com".into(), zone: "devices.example.net".into(), port: 443 }
    }

    fn plc1(service: Option<&str>) -> Target {
        Target::Device { device: "plc1".parse().unwrap(), service: service.map(|name| name.parse().unwrap()) }
    }

    #[test]
    fn spelling_does_not_matter() {
        for host in ["remote.example.com", "REMOTE.example.COM", "remote.example.com:443", "remote.example.com.:8443"] {
            assert_eq!(site().target(host), Target::Console, "{host}");
        }
        for host in ["plc1.devices.example.net", "PLC1.Devices.Example.Net:443", "plc1.devices.example.net."] {
            assert_eq!(site().target(host), plc1(None), "{host}");
        }
        assert_eq!(site().target("plc1--cam.devices.example.net"), plc1(Some("cam")));
    }

    #[test]
    fn addresses_are_this_machine() {
        for host in ["127.0.0.1", "127.0.0.1:8443", "[::1]", "[::1]:443", "localhost", "LOCALHOST:1", "192.0.2.7"] {
            assert_eq!(site().target(host), Target::Address, "{host}");
        }
    }

    #[test]
    fn everything_else_is_unknown() {
        let long = format!("{}.devices.example.net", "x".repeat(300));
        let long_label = format!("{}.devices.example.net", "x".repeat(64));
        for host in [
            "",
            ".",
            "devices.example.net",
            ".devices.example.net",
            "a.b.devices.example.net",
            "plc1.devices.example.net..",
            "evildevices.example.net",
            "plc1.devices.example.net.evil.com",
            "xn--plc1-.devices.example.net",
            "plc_1.devices.example.net",
            "plc%31.devices.example.net",
            "plc1----cam.devices.example.net",
            "--cam.devices.example.net",
            "plc1--.devices.example.net",
            "user@plc1.devices.example.net",
            "plc1.devices.example.net:",
            "plc1.devices.example.net:99999",
            "plc1.devices.example.net:+443",
            "plc1.devices.example.net:443:443",
            "plc1.devices.example.net/x",
            "plc1.devices.example.net\\x",
            "pлc1.devices.example.net",
            "remote.example.com, plc1.devices.example.net",
            "[::1",
            "::1",
            "[fe80::1%25eth0]",
            "0x7f.1",
            &long,
            &long_label,
        ] {
            assert_eq!(site().target(host), Target::Unknown, "{host}");
        }
    }

    #[test]
    fn an_origin_has_scheme_and_port() {
        let mut site = site();
        assert_eq!(site.origin_target("https://plc1.devices.example.net"), Some(plc1(None)));
        assert_eq!(site.origin_target("http://plc1.devices.example.net"), None);
        assert_eq!(site.origin_target("https://plc1.devices.example.net:8443"), None);
        assert_eq!(site.origin_target("https://plc1.devices.example.net/"), None);
        assert_eq!(site.origin_target("null"), None);
        site.port = 8443;
        assert_eq!(site.origin_target("https://plc1.devices.example.net:8443"), Some(plc1(None)));
        assert_eq!(site.origin_target("https://plc1.devices.example.net"), None);
        assert_eq!(site.device_origin(&"plc1".parse().unwrap(), None), "https://plc1.devices.example.net:8443");
    }
}
