//! The little that is read of XML and of URLs: the content of an element by its name, a host, a port and a path.

use linkspan_protocol::discovery::{TEXT_MAX, WORD_MAX, bounded};

/// A URL of a web server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discovery) struct Url<'a> {
    pub(in crate::discovery) is_tls: bool,
    pub(in crate::discovery) host: &'a str,
    pub(in crate::discovery) port: u16,
    pub(in crate::discovery) path: &'a str,
}

impl<'a> Url<'a> {
    pub(in crate::discovery) fn read(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let is_tls = scheme.eq_ignore_ascii_case("https");
        if !is_tls && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let (place, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (host, port) = match place.strip_prefix('[') {
            Some(six) => six.split_once(']').map(|(host, port)| (host, port.strip_prefix(':')))?,
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        // Behind a percent sign stands which of its interfaces the device means.
        let host = host.split('%').next().filter(|host| !host.is_empty())?;
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port > 0)?,
            None => {
                if is_tls {
                    443
                } else {
                    80
                }
            }
        };
        Some(Self { is_tls, host, port, path })
    }

    /// The path, if it can be kept and asked for as it is.
    pub(in crate::discovery) fn short_path(&self) -> &'a str {
        let plain = self.path.bytes().all(|b| b.is_ascii_graphic());
        if plain && self.path.len() <= TEXT_MAX && self.path.starts_with('/') { self.path } else { "" }
    }
}

/// A UUID as it is compared: `urn:` and `uuid:` are written by some and not by others.
pub(super) fn uuid(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    let word = text.trim_start_matches("urn:").trim_start_matches("uuid:");
    let plain = !word.is_empty() && word.len() <= WORD_MAX && word.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| word.to_owned())
}

/// What stands in the first element of this name, whatever its namespace is.
pub(in crate::discovery) fn inside<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = xml;
    loop {
        let (tag, content) = rest.split_once('<')?.1.split_once('>')?;
        rest = content;
        if local(tag) == name {
            return if tag.ends_with('/') { Some("") } else { until_end(content, name) };
        }
    }
}

fn until_end<'a>(content: &'a str, name: &str) -> Option<&'a str> {
    let ends = content.match_indices("</");
    let mut ends = ends.filter(|(at, _)| content[at + 2..].split_once('>').is_some_and(|(tag, _)| local(tag) == name));
    ends.next().map(|(at, _)| &content[..at])
}

fn local(tag: &str) -> &str {
    let name = tag.split(|c: char| c.is_ascii_whitespace() || c == '/').next().unwrap_or_default();
    name.rsplit(':').next().unwrap_or_default()
}

/// The text of the first element of this name, within bounds.
pub(in crate::discovery) fn words(xml: &str, name: &str) -> Option<String> {
    let text = inside(xml, name)?;
    let short = text.get(..text.len().min(4 * TEXT_MAX)).unwrap_or_default();
    let mut text = short.to_owned();
    for (written, meant) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")] {
        if text.contains(written) {
            text = text.replace(written, meant);
        }
    }
    let text = bounded(&text, TEXT_MAX);
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let read = |text| Url::read(text).map(|url| (url.is_tls, url.host, url.port, url.short_path()));
        assert_eq!(read("http://10.0.0.7/onvif/device"), Some((false, "10.0.0.7", 80, "/onvif/device")));
        assert_eq!(read("HTTPS://cam.local:8443"), Some((true, "cam.local", 8443, "")));
        assert_eq!(read("http://[fe80::1%25eth0]:5357/x"), Some((false, "fe80::1", 5357, "/x")));
        let long = format!("http://h/{}", "x".repeat(500));
        assert_eq!(read(&long), Some((false, "h", 80, "")), "what is cut cannot be asked for");
        for none in ["", "ftp://h/", "http://", "http://h:0/", "http://h:99999/", "http://[fe80::1", "http:/h"] {
            assert_eq!(read(none), None, "{none}");
        }
    }

    #[test]
    fn elements_are_found_by_their_names_and_no_text_makes_it_stumble() {
        let xml = "<?xml version='1'?><a:r xmlns:a='u'><a:e/><device x=\"1\"><friendlyName>Hall &amp;lt; 3\n</friendlyName>\
                   <b:modelName >M&lt;7</b:modelName></device><open>";
        assert_eq!(words(xml, "friendlyName").as_deref(), Some("Hall &lt; 3"));
        assert_eq!(words(xml, "modelName").as_deref(), Some("M<7"));
        assert_eq!(inside(xml, "e"), Some(""));
        for none in ["open", "Name", "x", ""] {
            assert_eq!(words(xml, none), None, "{none}");
        }
        for end in (0..xml.len()).filter(|end| xml.is_char_boundary(*end)) {
            let _read = (inside(&xml[..end], "device"), words(&xml[end..], "modelName"));
        }
        assert_eq!(uuid("urn:uuid:AB-1").as_deref(), Some("ab-1"));
        assert_eq!(uuid(" uuid: "), None);
    }
}
