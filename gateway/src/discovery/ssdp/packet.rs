//! The packets of SSDP: a question is written, answers and notices are read, and no byte of them is trusted.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use linkspan_protocol::discovery::{TEXT_MAX, bounded};

use super::text::uuid;
use super::{Here, Said, service_at};

/// Lines of a packet that are read.
const LINES_MAX: usize = 32;
/// Seconds within which devices answer, each at a moment of its own.
const WITHIN: u8 = 3;

/// Asks each device for one answer, not for one about each of its parts.
pub(super) fn question(group: SocketAddr) -> Vec<u8> {
    let (ip, port) = (group.ip(), group.port());
    let host = if ip.is_ipv6() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
    format!(
        "M-SEARCH * HTTP/1.1\r\nHOST: {host}\r\nMAN: \"ssdp:discover\"\r\nMX: {WITHIN}\r\nST: upnp:rootdevice\r\n\r\n"
    )
    .into()
}

/// What an answer or a notice says of its sender; nothing, if it is neither.
pub(super) fn said(packet: &str, from: IpAddr) -> Option<Said> {
    let mut lines = packet.lines().take(LINES_MAX);
    let is_notice = match lines.next()? {
        first if first.starts_with("NOTIFY ") => true,
        first if first.starts_with("HTTP/1.") && first.contains(" 200") => false,
        _ => return None,
    };
    let headers: Vec<_> = lines.filter_map(|line| line.split_once(':')).collect();
    let header = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name.trim().eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    let unique = header("usn").and_then(|usn| uuid(usn.split("::").next()?));
    match header("nts") {
        Some("ssdp:byebye") if is_notice => return unique.map(Said::Gone),
        Some("ssdp:alive" | "ssdp:update") => {}
        _ if is_notice => return None,
        _ => {}
    }
    let what = header(if is_notice { "nt" } else { "st" });
    let seconds = header("cache-control").and_then(|value| {
        let digits = value.to_ascii_lowercase().split_once("max-age")?.1.trim_start_matches([' ', '=']).to_owned();
        digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    });
    Some(Said::Here(Here {
        unique,
        is_whole: what == Some("upnp:rootdevice"),
        name: None,
        about: header("server").map(|server| bounded(server, TEXT_MAX)),
        service: header("location").and_then(|place| service_at("_upnp._tcp", place, from)),
        holds: seconds.map(Duration::from_secs),
    }))
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::discovery::FoundService;

    use super::*;

    const ALIVE: &str = "NOTIFY * HTTP/1.1\r\nHost: 239.255.255.250:1900\r\nNT: upnp:rootdevice\r\nNTS: ssdp:alive\r\n\
        Usn: uuid:4D696E69-0001::upnp:rootdevice\r\nLOCATION:http://192.168.1.9:8200/rootDesc.xml\r\n\
        Cache-Control: no-cache=\"Ext\", max-age = 1800\r\nServer: Linux/5 UPnP/1.1 Recorder/7\r\n\r\n";

    fn from() -> IpAddr {
        "192.168.1.9".parse().unwrap()
    }

    #[test]
    fn a_notice_tells_of_its_sender() {
        let here = Here {
            unique: Some("4d696e69-0001".into()),
            is_whole: true,
            name: None,
            about: Some("Linux/5 UPnP/1.1 Recorder/7".into()),
            service: Some(FoundService { kind: "_upnp._tcp".into(), port: 8200, text: "/rootDesc.xml".into() }),
            holds: Some(Duration::from_secs(1800)),
        };
        assert_eq!(said(ALIVE, from()), Some(Said::Here(here.clone())));
        let answer = ALIVE.replace("NOTIFY * HTTP/1.1", "HTTP/1.1 200 OK").replace("NT:", "ST:").replace("NTS:", "X:");
        assert_eq!(said(&answer, from()), Some(Said::Here(here)));
        assert_eq!(said(&ALIVE.replace("alive", "byebye"), from()), Some(Said::Gone("4d696e69-0001".into())));
        let Some(Said::Here(here)) = said(ALIVE, "192.168.1.66".parse().unwrap()) else { panic!() };
        assert_eq!(here.service, None, "a place on another machine");
    }

    #[test]
    fn what_is_none_says_nothing() {
        let question = String::from_utf8(question("[ff02::c]:1900".parse().unwrap())).unwrap();
        assert!(question.contains("HOST: [ff02::c]:1900\r\n"), "{question}");
        for none in ["", "x", &question, "NOTIFY * HTTP/1.1\r\nNT: x\r\n", "HTTP/1.1 404 no\r\nUSN: uuid:1\r\n"] {
            assert_eq!(said(none, from()), None, "{none}");
        }
        for end in 0..ALIVE.len() {
            let _read = said(&ALIVE[..end], from());
        }
    }
}
