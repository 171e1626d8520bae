//! The texts of WS-Discovery: two questions are written, answers and notices are read, and no byte of them is trusted.

use std::net::IpAddr;

use linkspan_protocol::discovery::{TEXT_MAX, bounded};

use super::text::{inside, uuid, words};
use super::{Here, Said, service_at};

/// Places, and words about itself, that are read of one device.
const WORDS_MAX: usize = 32;
/// Before a word that a camera says about itself (ONVIF Core Specification, 7.3.2.2).
const ONVIF: &str = "onvif://www.onvif.org/";

/// Asks everybody, then cameras, then computers and printers: some answer only when they are meant, and in the words that
/// are usual.
pub(super) fn questions() -> Vec<Vec<u8>> {
    let camera = "<d:Types xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\">dn:NetworkVideoTransmitter</d:Types>";
    let device = "<d:Types xmlns:wsdp=\"http://schemas.xmlsoap.org/ws/2006/02/devprof\">wsdp:Device</d:Types>";
    ["", camera, device].map(question).into()
}

fn question(types: &str) -> Vec<u8> {
    // A word that nobody else has used (RFC 9562, version 4): answers name it.
    let id = fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let hex = format!("{id:032x}");
    let (a, b, c, d, e) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\"><s:Header>\
         <a:Action>http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</a:Action>\
         <a:MessageID>urn:uuid:{a}-{b}-{c}-{d}-{e}</a:MessageID>\
         <a:To>urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To></s:Header>\
         <s:Body><d:Probe>{types}</d:Probe></s:Body></s:Envelope>"
    )
    .into()
}

/// What an answer or a notice says of its sender; nothing, if it is neither.
pub(super) fn said(text: &str, from: IpAddr) -> Option<Said> {
    let body = inside(text, "Body")?;
    let unique = |part| uuid(&words(inside(part, "EndpointReference")?, "Address")?);
    if let Some(bye) = inside(body, "Bye") {
        return unique(bye).map(Said::Gone);
    }
    let here = ["Hello", "ProbeMatch", "ResolveMatch"].into_iter().find_map(|name| inside(body, name))?;
    let list = |name| inside(here, name).unwrap_or_default().split_ascii_whitespace().take(WORDS_MAX);
    let about_itself = |word: &str| list("Scopes").find_map(|scope| scope.strip_prefix(ONVIF)?.strip_prefix(word));
    let is_camera = list("Scopes").any(|scope| scope.starts_with(ONVIF))
        || list("Types").any(|kind| kind.ends_with(":NetworkVideoTransmitter"));
    // `onvif` is a page's address for programs; `wsd` is what IANA calls the other.
    let kind = if is_camera { "_onvif._tcp" } else { "_wsd._tcp" };
    Some(Said::Here(Here {
        unique: unique(here),
        is_whole: true,
        name: about_itself("name/").and_then(unescaped),
        about: about_itself("hardware/").and_then(unescaped),
        service: list("XAddrs").find_map(|place| service_at(kind, place, from)),
        holds: None,
    }))
}

/// A word of a URI, of which `%20` is a space (RFC 3986, section 2.1).
fn unescaped(word: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(word.len().min(TEXT_MAX));
    let mut rest = word.bytes().take(3 * TEXT_MAX);
    while let Some(byte) = rest.next() {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        bytes.push(if byte == b'%' { digit(rest.next()?)? << 4 | digit(rest.next()?)? } else { byte });
    }
    let text = bounded(&String::from_utf8_lossy(&bytes), TEXT_MAX);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use linkspan_protocol::discovery::FoundService;

    use super::*;

    const MATCH: &str = r#"<?xml version="1.0"?><SOAP-ENV:Envelope xmlns:wsa="x"><SOAP-ENV:Header><wsa:RelatesTo>urn:uuid:9
        </wsa:RelatesTo></SOAP-ENV:Header><SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch><wsa:EndpointReference>
        <wsa:Address>urn:uuid:0A1B-2C</wsa:Address></wsa:EndpointReference><d:Types>dn:NetworkVideoTransmitter tds:Device
        </d:Types><d:Scopes>onvif://www.onvif.org/type/ptz onvif://www.onvif.org/name/Hall%203%3Cb%3E
        onvif://www.onvif.org/hardware/M7</d:Scopes><d:XAddrs>http://10.9.9.9/onvif http://192.168.1.9:8899/onvif/device
        </d:XAddrs><d:MetadataVersion>1</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"#;

    fn from() -> IpAddr {
        "192.168.1.9".parse().unwrap()
    }

    #[test]
    fn a_camera_tells_what_it_is() {
        let Some(Said::Here(here)) = said(MATCH, from()) else { panic!() };
        assert_eq!(here.unique.as_deref(), Some("0a1b-2c"));
        assert_eq!((here.name.as_deref(), here.about.as_deref()), (Some("Hall 3<b>"), Some("M7")));
        let service = FoundService { kind: "_onvif._tcp".into(), port: 8899, text: "/onvif/device".into() };
        assert_eq!(here.service, Some(service), "a place on another machine does not count");
        let hello = MATCH.replace("ProbeMatches>", "x>").replace("ProbeMatch>", "Hello>");
        assert_eq!(said(&hello, from()), Some(Said::Here(here)));
        let bye = MATCH.replace("ProbeMatches>", "x>").replace("ProbeMatch>", "Bye>");
        assert_eq!(said(&bye, from()), Some(Said::Gone("0a1b-2c".into())));
    }

    #[test]
    fn questions_are_no_answers_and_no_text_makes_it_stumble() {
        for question in questions() {
            let question = String::from_utf8(question).unwrap();
            assert!(question.len() < 1000, "{question}");
            assert_eq!(said(&question, from()), None);
            let id = inside(&question, "MessageID").unwrap();
            assert_eq!((id.len(), &id[23..24]), (45, "4"), "{id}");
        }
        for end in 0..MATCH.len() {
            let _read = said(&MATCH[..end], from());
        }
        for odd in ["%", "%4", "%zz", "%00", ""] {
            assert_eq!(unescaped(odd), None, "{odd}");
        }
    }
}
