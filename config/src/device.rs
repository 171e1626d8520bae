//! `[[device]]` and `[[device.service]]`: the list of what can be reached.

use std::collections::HashMap;
use std::str::FromStr;

use linkspan_protocol::id::{DeviceName, NameError, ServiceName};
use linkspan_protocol::message::{ServiceKind, Verify};

use super::files;
use super::policy::Policy;
use super::problem::{Severity, Wrong};
use super::reader::{Reader, Section, Span, Text};
use super::value;
use super::{Device, Service};
use crate::nearest::nearest;

/// Bytes of a description, and of a `host_header`.
const TEXT_MAX: usize = 255;
/// Tags of one device, and bytes of one tag.
const TAGS_MAX: usize = 32;
const TAG_MAX: usize = 64;

pub(super) fn devices(sections: Vec<Section<'_>>, policy: &Policy) -> Vec<Device> {
    let mut seen = HashMap::new();
    sections.into_iter().filter_map(|section| device(section, &mut seen, policy)).collect()
}

/// A name of any kind, checked.
pub(super) fn name<N: FromStr<Err = NameError>>(reader: &Reader<'_>, text: &Text<'_>) -> Option<N> {
    let result = text.get_ref().parse().map_err(|e| match e {
        NameError::UpperCase(lower) => {
            Wrong::new("a name is written without capital letters", format!("write \"{lower}\""))
        }
        e => Wrong::new(e.to_string(), "write a name of a-z, 0-9 and single hyphens, such as \"plc1\""),
    });
    reader.check(&text.span(), result)
}

type Seen = HashMap<String, Span>;

fn device(mut section: Section<'_>, seen: &mut Seen, policy: &Policy) -> Option<Device> {
    let reader = section.reader;
    let name = section.required("name", "\"plc1\"").and_then(|text| unique::<DeviceName>(reader, &text, seen));
    let description = section.parsed("description", |text| plain(text, TEXT_MAX)).unwrap_or_default();
    let tags = tags(&mut section);
    let host = section.required("host", "\"192.168.1.10\"");
    let host = host.and_then(|text| reader.check(&text.span(), value::target_host(text.get_ref())));
    if let Some(wrong) = host.as_ref().and_then(|host| policy.host_refused(host)) {
        reader.note(Severity::Error, &section.span_of("host"), wrong);
    }
    let mut seen_services = Seen::new();
    let services = section.sections("service", "[[device.service]]");
    if services.is_empty() && !section.has("service") {
        let instead = "write [[device.service]] with name, kind and port after it";
        reader.warning(&section.span, "this device has no service, so nothing of it can be reached", instead);
    }
    let services = services.into_iter().filter_map(|section| {
        let span = section.span.clone();
        let service = service(section, &mut seen_services)?;
        if let Some(wrong) = name.as_ref().and_then(|device| policy.service_refused(device, &service)) {
            reader.note(Severity::Error, &span, wrong);
        }
        Some(service)
    });
    let services = services.collect();
    section.finish();
    Some(Device { name: name?, description, tags, host: host?, services })
}

fn unique<N: FromStr<Err = NameError> + ToString>(reader: &Reader<'_>, text: &Text<'_>, seen: &mut Seen) -> Option<N> {
    let name: N = name(reader, text)?;
    if let Some(first) = seen.insert(name.to_string(), text.span()) {
        if reader.is_full() {
            return None;
        }
        let (line, _) = reader.place(&first);
        let what = format!("the name \"{}\" is taken already, in line {line}", name.to_string());
        reader.error(&text.span(), what, "give each its own name");
        return None;
    }
    Some(name)
}

fn tags(section: &mut Section<'_>) -> Vec<String> {
    let reader = section.reader;
    let span = section.span_of("tags");
    let texts = section.list("tags");
    if texts.len() > TAGS_MAX {
        reader.error(&span, format!("a device has at most {TAGS_MAX} tags"), "remove some");
    }
    texts.iter().filter_map(|text| reader.check(&text.span(), plain(text.get_ref(), TAG_MAX))).collect()
}

fn plain(text: &str, max: usize) -> Result<String, Wrong> {
    if text.len() > max {
        return Err(Wrong::new(format!("the text has more than {max} bytes"), "shorten it"));
    }
    if text.chars().any(char::is_control) {
        return Err(Wrong::new("the text holds a control character", "write it on one line"));
    }
    Ok(text.to_owned())
}

fn service(mut section: Section<'_>, seen: &mut Seen) -> Option<Service> {
    let reader = section.reader;
    let name = section.required("name", "\"web\"").and_then(|text| unique::<ServiceName>(reader, &text, seen));
    let kind = section.required("kind", "\"http\"");
    let kind = kind.and_then(|text| reader.check(&text.span(), service_kind(text.get_ref())));
    let port = port(&mut section, kind);
    let verify = verify(&mut section, kind);
    let host_header = section.parsed("host_header", host_header);
    if host_header.is_some() && kind.is_some_and(|kind| !kind.is_web()) {
        let what = "`host_header` belongs to services of kind http and https";
        reader.error(&section.span_of("host_header"), what, "remove it");
    }
    let rate = section.parsed("rate", value::rate);
    let compress = compress(&mut section, kind);
    section.finish();
    Some(Service { name: name?, kind: kind?, port: port?, verify: verify?, host_header, rate, compress })
}

fn compress(section: &mut Section<'_>, kind: Option<ServiceKind>) -> bool {
    let wanted = section.flag("compress").unwrap_or(false);
    let span = section.span_of("compress");
    let why_not = match kind {
        Some(kind @ (ServiceKind::Https | ServiceKind::Ssh | ServiceKind::Rdp)) => {
            Some(format!("`compress` does nothing for kind \"{}\": what is encrypted does not shrink", kind.as_str()))
        }
        _ if cfg!(not(feature = "compress")) => Some("this gateway was built without compression".to_owned()),
        _ => None,
    };
    match why_not {
        Some(why_not) if wanted => {
            section.reader.warning(&span, why_not, "remove it");
            false
        }
        _ => wanted,
    }
}

fn service_kind(text: &str) -> Result<ServiceKind, Wrong> {
    let all = "write one of \"http\", \"https\", \"ssh\", \"vnc\", \"rdp\", \"tcp\"";
    if let Some(kind) = ServiceKind::ALL.into_iter().find(|kind| kind.as_str() == text) {
        return Ok(kind);
    }
    match text {
        "udp" | "serial" => {
            Err(Wrong::new(format!("services of kind \"{text}\" are not carried by this version"), all))
        }
        _ => {
            let near = nearest(&text.to_ascii_lowercase(), ServiceKind::ALL.iter().map(|kind| kind.as_str()));
            let instead = near.map_or(all.to_owned(), |near| format!("did you mean \"{near}\"?"));
            Err(Wrong::new("this kind of service is not known", instead))
        }
    }
}

fn port(section: &mut Section<'_>, kind: Option<ServiceKind>) -> Option<u16> {
    if section.has("port") {
        return section.integer("port", 1..=65535).and_then(|port| port.try_into().ok());
    }
    let _absent = section.value("port");
    match kind? {
        ServiceKind::Http => Some(80),
        ServiceKind::Https => Some(443),
        ServiceKind::Ssh => Some(22),
        ServiceKind::Vnc => Some(5900),
        ServiceKind::Rdp => Some(3389),
        ServiceKind::Tcp | ServiceKind::Unknown => {
            section.reader.error(&section.span, "`port` is missing", "write port = 102, the device's TCP port");
            None
        }
    }
}

fn verify(section: &mut Section<'_>, kind: Option<ServiceKind>) -> Option<Verify> {
    let reader = section.reader;
    let mode = section.text("verify");
    let fingerprint = section.parsed("fingerprint", value::fingerprint);
    let ca_file = section.text("ca_file");
    let server_name = section.parsed("server_name", |text| {
        let name = text.to_ascii_lowercase();
        let is_address = text.parse::<std::net::IpAddr>().is_ok();
        let checked = if is_address { Ok(()) } else { value::check_name(&name) };
        checked.map(|()| name).map_err(|what| Wrong::new(what, "write the name that the certificate bears"))
    });
    if kind.is_some_and(|kind| kind != ServiceKind::Https) {
        return misplaced(section, &["verify", "fingerprint", "ca_file", "server_name"], "kind = \"https\"");
    }
    match mode.as_ref().map_or("off", |mode| mode.get_ref()) {
        "off" => misplaced(section, &["fingerprint", "ca_file", "server_name"], "verify = \"pinned\" or \"ca\""),
        "pinned" => {
            misplaced(section, &["ca_file", "server_name"], "verify = \"ca\"")?;
            if !section.has("fingerprint") {
                let instead = "write fingerprint = \"sha256:…\", the SHA-256 of the device's certificate";
                reader.error(&section.span_of("verify"), "verify = \"pinned\" needs a `fingerprint`", instead);
            }
            fingerprint.map(|fingerprint| Verify::Pinned { sha256: fingerprint.hex() })
        }
        "ca" => {
            misplaced(section, &["fingerprint"], "verify = \"pinned\"")?;
            let Some(file) = ca_file else {
                let instead = "write ca_file = \"plc-ca.pem\"";
                reader.error(&section.span_of("verify"), "verify = \"ca\" needs a `ca_file`", instead);
                return None;
            };
            let pem = match reader.is_here() {
                true => reader.check(&file.span(), files::device_ca(&reader.beside(file.get_ref())))?,
                false => String::new(),
            };
            Some(Verify::Ca { pem, server_name })
        }
        _ => {
            let what = "this way to check a certificate is not known";
            reader.error(&section.span_of("verify"), what, "write \"off\", \"pinned\" or \"ca\"");
            None
        }
    }
}

/// Notes each of the keys that stands where it has no meaning; [`Verify::Off`] if none does.
fn misplaced(section: &Section<'_>, keys: &[&str], belongs_to: &str) -> Option<Verify> {
    let mut found = keys.iter().filter(|key| section.has(key)).peekable();
    let none = found.peek().is_none();
    for key in found {
        let what = format!("`{key}` has no meaning here: it belongs to {belongs_to}");
        section.reader.error(&section.span_of(key), what, "remove it or change the other");
    }
    none.then_some(Verify::Off)
}

fn host_header(text: &str) -> Result<String, Wrong> {
    let fits = !text.is_empty() && text.len() <= TEXT_MAX;
    if fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b)) {
        return Ok(text.to_owned());
    }
    Err(Wrong::new("this is not a host with an optional port", "write \"plc.factory.lan\" or \"plc.factory.lan:8080\""))
}
