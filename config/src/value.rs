//! The values that gateway.toml holds as text, parsed into types: durations, addresses, URLs, fingerprints.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::time::Duration;

use linkspan_protocol::encoding::{from_hex, hex};
use linkspan_protocol::id::Secret;
use linkspan_protocol::text::{amount, size_of};

use super::mac::Mac;
use super::problem::Wrong;

/// Host and port of a server or a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A DNS name in lower case, or an IP address without brackets.
    pub host: Box<str>,
    /// The TCP port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The HTTP proxy on the way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    /// Where it listens.
    pub at: HostPort,
    /// What it wants to see as `user:password` (RFC 7617), percent-decoded.
    pub credentials: Option<Secret>,
}

/// Where a device is on the LAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetHost {
    /// An address that the owner wrote.
    Address(IpAddr),
    /// An IPv6 address that holds on one interface: `fe80::1%br-lan` (RFC 4007).
    Scoped(Ipv6Addr, Box<str>),
    /// The Ethernet address of a device, wherever on the LAN it is: `mac:b8:27:eb:00:00:01`.
    Mac(Mac),
    /// A name to ask DNS for.
    Name(Box<str>),
    /// A name under `.local`, to ask the LAN for (RFC 6762).
    Local(Box<str>),
}

impl fmt::Display for TargetHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Scoped(address, interface) => write!(f, "{address}%{interface}"),
            Self::Mac(mac) => write!(f, "mac:{mac}"),
            Self::Name(name) | Self::Local(name) => f.write_str(name),
        }
    }
}

/// The SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

pub(super) fn duration(text: &str, range: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let form = "write a number and a unit, such as \"500ms\", \"10s\", \"2m\" or \"1h\"";
    let wrong = || Wrong::new("this is not a time span", form);
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let millis = match &text[digits..] {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => return Err(wrong()),
    };
    match millis.map(Duration::from_millis).filter(|duration| range.contains(duration)) {
        Some(duration) => Ok(duration),
        None => {
            let instead = format!("write a time from {:?} to {:?}", range.start(), range.end());
            Err(Wrong::new("the time span is out of range", instead))
        }
    }
}

/// A count of bytes: "500 MB", "1.5 GB", "256 MiB".
pub(super) fn bytes(text: &str) -> Result<u64, Wrong> {
    let form = "write a number and a unit, such as \"500 MB\" or \"1.5 GB\"";
    size_of(text).ok_or_else(|| Wrong::new("this is not an amount of data", form))
}

/// An amount of memory within bounds, written like [`bytes`].
pub(super) fn memory(text: &str, range: &RangeInclusive<usize>) -> Result<usize, Wrong> {
    let bytes = usize::try_from(bytes(text)?).ok();
    bytes.filter(|bytes| range.contains(bytes)).ok_or_else(|| {
        let instead =
            format!("write an amount from \"{} kB\" to \"{} MB\"", range.start() / 1000, range.end() / 1_000_000);
        Wrong::new("the amount of memory is out of range", instead)
    })
}

/// Bytes per second: "500 kbit/s", "2 Mbit/s", "100 kB/s". The least is what a terminal needs.
pub(super) fn rate(text: &str) -> Result<u64, Wrong> {
    const UNITS: [(&str, u64); 4] = [("kbit/s", 125), ("Mbit/s", 125_000), ("kB/s", 1000), ("MB/s", 1_000_000)];
    const LEAST: u64 = 1000;
    let form = "write a number and a unit, such as \"500 kbit/s\" or \"2 Mbit/s\"";
    match amount(text, &UNITS) {
        Some(rate) if rate >= LEAST => Ok(rate),
        Some(_) => Err(Wrong::new("the rate is below 8 kbit/s, at which nothing works", form)),
        None => Err(Wrong::new("this is not a rate", form)),
    }
}

pub(super) fn fingerprint(text: &str) -> Result<Fingerprint, Wrong> {
    let hex: String = text.strip_prefix("sha256:").unwrap_or(text).chars().filter(|c| *c != ':').collect();
    let bytes = from_hex(&hex);
    bytes.and_then(|bytes| bytes.try_into().ok()).map(Fingerprint).ok_or_else(|| {
        Wrong::new(
            "this is not the SHA-256 fingerprint of a certificate",
            "write \"sha256:\" and 64 hexadecimal digits, with or without colons between them",
        )
    })
}

pub(super) fn server_url(text: &str) -> Result<HostPort, Wrong> {
    let example = "write \"https://remote.example.com\", with \":port\" if it is not 443";
    let Some(rest) = strip_scheme(text, "https") else {
        return Err(Wrong::new("the server's url must begin with https://", example));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        return Err(Wrong::new("the url holds a user name", "remove it; the credential goes into [identity]"));
    }
    if !matches!(path, "" | "/") {
        return Err(Wrong::new("the server's url has a path", "end it after the host or the port"));
    }
    host_port(authority, Some(443)).map_err(|what| Wrong::new(what, example))
}

pub(super) fn proxy_url(text: &str) -> Result<Proxy, Wrong> {
    let example = "write \"http://proxy:3128\" or \"http://user:password@proxy:3128\"";
    let Some(rest) = strip_scheme(text, "http") else {
        let what = "only HTTP proxies are spoken to, and their url begins with http://";
        return Err(Wrong::new(what, example));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (credentials, authority) = match rest.rsplit_once('@') {
        Some((credentials, authority)) => (Some(credentials), authority),
        None => (None, rest),
    };
    let credentials = credentials.map(proxy_credentials).transpose()?;
    // The authority is not quoted: with a forgotten @ it would be the password.
    let at = host_port(authority, None)
        .map_err(|_| Wrong::new("the proxy's url has no host, or no port after it", example))?;
    Ok(Proxy { at, credentials })
}

fn proxy_credentials(text: &str) -> Result<Secret, Wrong> {
    let wrong = |what| Wrong::new(what, "write http://user:password@host:port, with %40 for @ and %3A for :");
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let decode = |part| percent_decode(part).ok_or_else(|| wrong("a % in the proxy's credentials is no escape"));
    let (user, password) = (decode(user)?, decode(password)?);
    if user.contains(':') || [&user, &password].iter().any(|part| part.chars().any(char::is_control)) {
        return Err(wrong("the proxy's credentials hold a character that HTTP cannot carry"));
    }
    Ok(Secret::new(format!("{user}:{password}")))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let mut digit = || char::from(*rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

fn strip_scheme<'a>(text: &'a str, scheme: &str) -> Option<&'a str> {
    let (found, rest) = text.split_once("://")?;
    found.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn host_port(text: &str, default_port: Option<u16>) -> Result<HostPort, String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or("a ] is missing after the address")?;
            address.parse::<Ipv6Addr>().map_err(|_| "between [ and ] there must be an IPv6 address")?;
            (address, port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok().filter(|port| *port != 0),
        Some(_) => None,
        None if port.is_empty() => default_port,
        None => None,
    };
    let port = port.ok_or("the port must be a number from 1 to 65535")?;
    let host = host.to_ascii_lowercase();
    if host.parse::<IpAddr>().is_err() {
        check_name(&host)?;
    }
    Ok(HostPort { host: host.into(), port })
}

pub(super) fn target_host(text: &str) -> Result<TargetHost, Wrong> {
    let example = "write an address (\"192.168.1.10\", \"fd00::10\", \"fe80::10%br-lan\") or a name (\"plc.lan\", \"camera.local\")";
    if let Ok(address) = text.parse() {
        return Ok(TargetHost::Address(address));
    }
    if let Some((address, interface)) = text.split_once('%') {
        let fits = (1..=15).contains(&interface.len()) && interface.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        return match address.parse::<Ipv6Addr>() {
            Ok(address) if fits && address.is_unicast_link_local() => Ok(TargetHost::Scoped(address, interface.into())),
            Ok(_) if fits => {
                Err(Wrong::new("only addresses of fe80::/10 belong to an interface", "write the address without %…"))
            }
            _ => Err(Wrong::new("this is not an IPv6 address with the name of an interface", example)),
        };
    }
    if let Some(mac) = text.strip_prefix("mac:") {
        return mac.parse().map(TargetHost::Mac).map_err(|what| Wrong::new(what, "write \"mac:b8:27:eb:00:00:01\""));
    }
    if text.contains("://") {
        return Err(Wrong::new("a host is written without http:// and path", example));
    }
    if text.starts_with('[') {
        return Err(Wrong::new("a host is written without brackets and port", example));
    }
    if text.contains(':') {
        let instead = "write the host alone; the port goes into [[device.service]] as port = …";
        return Err(Wrong::new("this is neither an address nor a name", instead));
    }
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    check_name(&name).map_err(|what| Wrong::new(what, example))?;
    let is_local = name.ends_with(".local");
    Ok(if is_local { TargetHost::Local(name.into()) } else { TargetHost::Name(name.into()) })
}

/// A DNS name in lower case. One whose last label is a number is refused: the system's resolver would take `127.1` or
/// `0x7f000001` for an address.
pub(super) fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 253 {
        return Err("a host name has from 1 to 253 characters".into());
    }
    if !name.is_ascii() {
        return Err("a host name is written in ASCII (xn--…)".into());
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return Err("a part of the host name is empty, too long, or begins or ends with `-`".into());
        }
        if let Some(bad) = label.chars().find(|c| !matches!(c, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_')) {
            return Err(format!("{bad:?} is not allowed in a host name"));
        }
    }
    let last = name.rsplit('.').next().unwrap_or(name);
    let hexadecimal = last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_hexdigit()));
    if hexadecimal || last.bytes().all(|b| b.is_ascii_digit()) {
        return Err("this is neither an address with all four numbers nor a name".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_a_range() {
        let range = Duration::from_millis(100)..=Duration::from_secs(3600);
        assert_eq!(duration("10s", &range), Ok(Duration::from_secs(10)));
        assert_eq!(duration("500ms", &range), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m", &range), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "s", "10 s", "-1s", "1.5s", "10days", "99999999999999999999s"] {
            assert!(duration(bad, &range).unwrap_err().what.contains("not a time span"), "{bad}");
        }
        for far in ["0s", "2h", "18446744073709551615h"] {
            assert!(duration(far, &range).unwrap_err().what.contains("out of range"), "{far}");
        }
    }

    #[test]
    fn an_amount_of_memory_has_a_range() {
        let range = 500_000..=1_000_000_000;
        assert_eq!(memory("1MB", &range), Ok(1_000_000));
        assert_eq!(memory("500 kB", &range), Ok(500_000));
        assert!(memory("1", &range).unwrap_err().what.contains("not an amount"));
        for far in ["499 kB", "1001 MB", "1 TB"] {
            assert!(memory(far, &range).unwrap_err().what.contains("out of range"), "{far}");
        }
        assert_eq!(memory("1 kB", &range).unwrap_err().instead, "write an amount from \"500 kB\" to \"1000 MB\"");
    }

    #[test]
    fn a_fingerprint_is_64_digits_in_any_usual_spelling() {
        let plain = "ab".repeat(32);
        let colons = ["AB"; 32].join(":");
        for text in [plain.clone(), format!("sha256:{plain}"), colons.clone(), format!("sha256:{colons}")] {
            assert_eq!(fingerprint(&text), Ok(Fingerprint([0xab; 32])), "{text}");
        }
        for bad in ["", "sha256:", "sha1:ab", &plain[1..], &plain[2..], &format!("{plain}ab"), &"zz".repeat(32)] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_server_is_https_host_and_port() {
        let at = |text: &str| server_url(text).map(|at| at.to_string());
        assert_eq!(at("https://Remote.example.com"), Ok("remote.example.com:443".into()));
        assert_eq!(at("https://remote.example.com:8443/"), Ok("remote.example.com:8443".into()));
        assert_eq!(at("HTTPS://[2001:db8::1]"), Ok("[2001:db8::1]:443".into()));
        assert_eq!(at("https://192.0.2.1:1"), Ok("192.0.2.1:1".into()));
        for bad in [
            "",
            "remote.example.com",
            "http://a.example",
            "wss://a.example",
            "https://",
            "https://a/b",
            "https://a?b",
            "https://u:p@a",
            "https://a:0",
            "https://a:65536",
            "https://a:+1",
            "https://a:",
            "https://[::1",
            "https://a b",
            "https://bücher.example",
            "https://1.2.3",
            "https://[fe80::1%eth0]",
            "https://[::1]x",
        ] {
            assert!(server_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_proxy_has_a_port_and_perhaps_credentials() {
        let proxy = proxy_url("http://us%65r:p%40ss%3Aw:rd@Proxy.lan:3128/").unwrap();
        assert_eq!(proxy.at.to_string(), "proxy.lan:3128");
        assert_eq!(proxy.credentials.unwrap().expose(), "user:p@ss:w:rd");
        assert_eq!(proxy_url("http://[::1]:8080").unwrap().at.to_string(), "[::1]:8080");
        assert!(proxy_url("http://proxy:1").unwrap().credentials.is_none());
        for bad in [
            "proxy:3128",
            "https://hunter2:hunter2@p:1",
            "socks5://hunter2@p:1",
            "http://u:hunter2@proxy",
            "http://u:hunter2%zz@p:1",
            "http://u:hunter2%0a@p:1",
            "http://hunter2%3A:x@p:1",
            "http://u:hunter2",
            "http://user:hunter2@p:port",
            "http://u:hunter2%4",
        ] {
            let wrong = proxy_url(bad).unwrap_err();
            assert!(!format!("{wrong:?}").contains("hunter2"), "{wrong:?}");
        }
    }

    #[test]
    fn a_target_is_an_address_or_a_name_and_nothing_that_looks_like_both() {
        let host = |text: &str| target_host(text).unwrap();
        assert_eq!(host("192.168.1.10"), TargetHost::Address("192.168.1.10".parse().unwrap()));
        assert_eq!(host("fd00::10"), TargetHost::Address("fd00::10".parse().unwrap()));
        assert_eq!(host("fe80::1%br-lan"), TargetHost::Scoped("fe80::1".parse().unwrap(), "br-lan".into()));
        assert_eq!(host("PLC.lan"), TargetHost::Name("plc.lan".into()));
        assert_eq!(host("camera.local."), TargetHost::Local("camera.local".into()));
        assert_eq!(host("my_cam"), TargetHost::Name("my_cam".into()));
        for bad in [
            "",
            ".",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "0177.0.0.1",
            "1.2.3.4.5",
            "http://plc",
            "plc:80",
            "192.168.1.10:80",
            "[fd00::1]",
            "[fd00::1]:80",
            "a..b",
            "-a",
            "a b",
            "fe80::1%",
            "fd00::1%eth0",
            "fe80::1%a/b",
            "1.2.3.4%eth0",
            "plc/web",
            "größe.lan",
            "fe80::1%averyverylonginterface",
        ] {
            assert!(target_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn amounts_of_data_and_rates() {
        let told = |text| bytes(text).ok();
        assert_eq!(told("500 MB"), Some(500_000_000));
        assert_eq!(told("1.5GB"), Some(1_500_000_000));
        assert_eq!(told("0.001 kB"), Some(1));
        assert_eq!(told("256 MiB"), Some(256 << 20));
        for wrong in ["", "MB", "500", "500 mb", "-1 MB", "1,5 GB", "1. GB", ".5 GB", "1.2345 GB", "0 MB", "1e3 MB"] {
            assert_eq!(told(wrong), None, "{wrong}");
        }
        assert_eq!(told("999999999999999 TB"), None, "more than there is");
        assert_eq!(rate("500 kbit/s").ok(), Some(62_500));
        assert_eq!(rate("2 Mbit/s").ok(), Some(250_000));
        assert_eq!(rate("1.5 MB/s").ok(), Some(1_500_000));
        for wrong in ["7 kbit/s", "500 kbps", "500", "0 Mbit/s"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
    }
}
