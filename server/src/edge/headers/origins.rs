//! Translates between a device's own addresses on its LAN and the origins at which people see them (pure).

use linkspan_protocol::message::{DeviceReport, ServiceKind, ServiceReport};

use crate::edge::target::Site;

/// The addresses of one device's web services, as the device writes them and as people see them.
#[derive(Clone, Debug)]
pub struct Origins {
    services: Vec<Published>,
    /// Which of them this request is for.
    current: usize,
}

#[derive(Clone, Debug)]
struct Published {
    scheme: &'static str,
    hosts: Vec<String>,
    port: u16,
    /// As a client that is asked to send it writes `Host`.
    host_header: String,
    /// `https://plc1.devices.example.net`; the first web service has two.
    seen: Vec<String>,
}

impl Origins {
    /// The web services of a device; `service` must be one of them.
    pub fn new(site: &Site, device: &DeviceReport, service: &ServiceReport) -> Self {
        let web: Vec<&ServiceReport> = device.services.iter().filter(|service| service.kind.is_web()).collect();
        let services =
            web.iter().enumerate().map(|(index, service)| Published::new(site, device, service, index == 0)).collect();
        let current = web.iter().position(|other| other.name == service.name).unwrap_or(0);
        Self { services, current }
    }

    /// What the device is sent as `Host`.
    pub fn host_header(&self) -> &str {
        self.services.get(self.current).map_or("", |service| &service.host_header)
    }

    /// A URL or origin that begins with one of our origins for this device, as the device itself would write it.
    pub fn to_device(&self, url: &str) -> Option<String> {
        self.services.iter().find_map(|service| {
            let rest = service.seen.iter().find_map(|origin| strip_origin(url, origin))?;
            Some(format!("{}://{}{rest}", service.scheme, service.host_header))
        })
    }

    /// A URL that begins with one of the device's own addresses, as people see it. Relative ones stay as they are.
    pub fn to_browser(&self, url: &str) -> Option<String> {
        let (scheme, rest) = match url.split_once("//") {
            Some(("", rest)) => (None, rest),
            Some((scheme, rest)) => (Some(scheme.strip_suffix(':')?), rest),
            None => return None,
        };
        let split = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(split)?;
        let current = self.services.get(self.current)?;
        let scheme = scheme.map(str::to_ascii_lowercase);
        let scheme = scheme.as_deref().unwrap_or(current.scheme);
        let origin = self.services.iter().find(|service| service.is_at(scheme, authority))?.seen.first()?;
        match scheme {
            "ws" | "wss" => Some(format!("{}{path}", origin.replacen("https", "wss", 1))),
            _ => Some(format!("{origin}{path}")),
        }
    }
}

impl Published {
    fn new(site: &Site, device: &DeviceReport, service: &ServiceReport, first: bool) -> Self {
        let scheme = if service.kind == ServiceKind::Https { "https" } else { "http" };
        let named = site.device_origin(&device.name, Some(&service.name));
        let seen = if first { vec![site.device_origin(&device.name, None), named] } else { vec![named] };
        let host = bracketed(&service.host).to_ascii_lowercase();
        let host_header = service.host_header.clone().unwrap_or_else(|| {
            if service.port == default_port(scheme) { host.clone() } else { format!("{host}:{}", service.port) }
        });
        let mut hosts = vec![host];
        hosts.extend(service.host_header.as_deref().map(|header| split(header, scheme).0));
        Self { scheme, hosts, port: service.port, host_header, seen }
    }

    fn is_at(&self, scheme: &str, authority: &str) -> bool {
        let own = match scheme {
            "http" | "ws" => "http",
            "https" | "wss" => "https",
            _ => return false,
        };
        let (host, port) = split(authority, own);
        let listed = port == Some(self.port) && self.hosts.contains(&host);
        own == self.scheme && (listed || authority.eq_ignore_ascii_case(&self.host_header))
    }
}

/// Host in lower case and port of an authority; user information is not looked at.
fn split(authority: &str, scheme: &str) -> (String, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host.to_ascii_lowercase(), port.parse().ok()),
        _ => (authority.to_ascii_lowercase(), Some(default_port(scheme))),
    }
}

fn default_port(scheme: &str) -> u16 {
    if scheme == "https" { 443 } else { 80 }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

/// What follows an origin in a URL; none if the URL is of another origin.
fn strip_origin<'u>(url: &'u str, origin: &str) -> Option<&'u str> {
    let start = url.get(..origin.len())?;
    let rest = url.get(origin.len()..)?;
    (start.eq_ignore_ascii_case(origin) && (rest.is_empty() || rest.starts_with(['/', '?', '#']))).then_some(rest)
}
