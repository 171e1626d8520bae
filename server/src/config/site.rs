//! The names under which people reach the server, and the warning when console and devices share a domain.

/// The names under which people reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The host of the console and the API.
    pub console: String,
    /// The zone whose labels are devices: `DEVICE.ZONE`.
    pub zone: String,
    /// The https port as people see it.
    pub port: u16,
}

impl Site {
    /// `https://remote.example.com`, with the port where it is not 443.
    pub fn console_origin(&self) -> String {
        self.origin(&self.console)
    }

    /// The origin of a device's page: the label is `DEVICE` or `DEVICE--SERVICE`.
    pub fn origin_of(&self, label: &str) -> String {
        self.origin(&format!("{label}.{}", self.zone))
    }

    /// The label of a host name that is exactly one label below the zone.
    pub fn label_of<'h>(&self, host: &'h str) -> Option<&'h str> {
        let label = host.strip_suffix(self.zone.as_str())?.strip_suffix('.')?;
        (!label.is_empty() && !label.contains('.')).then_some(label)
    }

    /// Why console and zone should not be as they are, if so.
    pub(super) fn shared_domain_warning(&self) -> Option<String> {
        let console = psl::domain_str(&self.console)?;
        let zone = psl::domain_str(&self.zone)?;
        (console == zone).then(|| {
            format!(
                "console `{}` and device zone `{}` share the domain `{console}`: pages of devices are strangers' code, \
                 and a browser lets them set cookies for that whole domain, the console included; \
                 give the zone a domain of its own",
                self.console, self.zone
            )
        })
    }

    /// The origin of a host, with the port that people use.
    pub(crate) fn origin(&self, host: &str) -> String {
        format!("https://{}", self.authority(host))
    }

    /// A host with the port that people use, as a browser writes it in `Host`.
    pub fn authority(&self, host: &str) -> String {
        if self.port == 443 { host.to_owned() } else { format!("{host}:{}", self.port) }
    }
}

/// A host name as the site needs it, or what to write instead.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    if text.contains("://") || text.contains('/') {
        return Err(format!("`{text}` is a URL; write the host name alone, like `remote.example.com`"));
    }
    if let Some((host, port)) = text.rsplit_once(':') {
        return Err(format!("`{text}` names a port; write `{host}` here and `port = {port}` in [site]"));
    }
    if let Some(rest) = text.strip_prefix("*.").or(text.strip_prefix('.')) {
        return Err(format!("write `{rest}`; that names below it are meant goes without saying"));
    }
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Err(format!("`{text}` is an address; a host name is needed, since devices are told apart by name"));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(format!("write it in lower case: `{}`", name.to_ascii_lowercase()));
    }
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    };
    // One label of up to 63 bytes and a dot come in front of a zone; a name has at most 253 (RFC 1035).
    if name.len() > 253 - 64 || !name.split('.').all(label_is_good) {
        return Err(format!(
            "`{text}` is not a host name: labels of a-z, 0-9 and - parted by dots, at most 189 characters \
             (other letters as punycode, `xn--…`)"
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(console: &str, zone: &str, port: u16) -> Site {
        Site { console: console.into(), zone: zone.into(), port }
    }

    #[test]
    fn sharing_a_registrable_domain_is_warned_of() {
        assert!(site("remote.example.com", "devices.example.com", 443).shared_domain_warning().is_some());
        assert!(site("example.co.uk", "devices.example.co.uk", 443).shared_domain_warning().is_some());
        assert_eq!(site("remote.example.com", "devices.example.net", 443).shared_domain_warning(), None);
        // github.io is a public suffix: names below it are strangers to each other.
        assert_eq!(site("a.github.io", "b.github.io", 443).shared_domain_warning(), None);
        assert_eq!(site("linkspan.localhost", "devices.localhost", 8443).shared_domain_warning(), None);
    }

    #[test]
    fn origins_name_the_port_only_where_needed() {
        assert_eq!(site("c.example.com", "z.example.net", 443).console_origin(), "https://c.example.com");
        assert_eq!(site("c.localhost", "z.localhost", 8443).origin_of("plc1"), "https://plc1.z.localhost:8443");
    }

    #[test]
    fn only_one_label_below_the_zone_is_a_device() {
        let site = site("c.test", "z.test", 443);
        assert_eq!(site.label_of("plc1.z.test"), Some("plc1"));
        assert_eq!(site.label_of("plc1--web.z.test"), Some("plc1--web"));
        for other in ["z.test", ".z.test", "a.b.z.test", "plc1.zz.test", "plc1-z.test", "c.test"] {
            assert_eq!(site.label_of(other), None, "{other}");
        }
    }
}
