//! Where a person may be sent after signing in: a path of this host, or a page in the device zone; nowhere else (pure).

use linkspan_protocol::id::{DeviceName, ServiceName};
use url::{Host, Url};

use crate::config::Site;

/// Longest place; browsers go further, devices do not.
const LONGEST: usize = 8 * 1024;

/// A page on a device's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DevicePlace {
    pub(crate) device: DeviceName,
    pub(crate) service: Option<ServiceName>,
    /// The host, lower case, without port.
    pub(crate) host: String,
    /// `https://` with host and port.
    pub(crate) origin: String,
    /// Path and query.
    pub(crate) path: String,
}

/// The text, if it is a path on the same host for every browser: one slash first, then neither slash nor backslash,
/// and nothing that a browser strips or decodes before it looks.
pub(crate) fn relative_path(text: &str) -> Option<&str> {
    let rest = text.strip_prefix('/')?;
    let plain = text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    (plain && text.len() <= LONGEST && !rest.starts_with('/')).then_some(text)
}

/// The URL as a page in the device zone, if it is one.
pub(crate) fn device_place(site: &Site, text: &str) -> Option<DevicePlace> {
    if text.len() > LONGEST
        || !text.starts_with("https://")
        || !text.bytes().all(|b| b.is_ascii_graphic() && b != b'\\')
    {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let Some(Host::Domain(host)) = url.host() else { return None };
    let authority = text.strip_prefix("https://")?.split(['/', '?', '#']).next()?;
    if authority.contains(['@', '%']) || url.port_or_known_default() != Some(site.port) {
        return None;
    }
    let label = site.label_of(host)?;
    let (device, service) = match label.split_once("--") {
        Some((device, service)) => (device, Some(service.parse().ok()?)),
        None => (label, None),
    };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let path = format!("{}{query}", url.path());
    Some(DevicePlace {
        device: device.parse().ok()?,
        service,
        origin: site.origin_of(label),
        host: host.to_owned(),
        // A path like `//x` cannot be told from another host in a Location, so such a page is left for the first one.
        path: relative_path(&path).unwrap_or("/").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_path_leads_to_another_host() {
        for good in ["/", "/a/b?c=d//e", "/open?to=https%3A%2F%2Fplc1.z.test%2F", "/a//b", "/%2f%2fevil", "/@evil"] {
            assert_eq!(relative_path(good), Some(good));
        }
        let long = format!("/{}", "x".repeat(LONGEST));
        for evil in [
            "",
            "evil",
            "//evil",
            "///evil",
            "//evil/%2f..",
            "/\\evil",
            "\\\\evil",
            "\\/evil",
            "/\t/evil",
            "\t//evil",
            "/\n/evil",
            "/\r\nLocation: //evil",
            " //evil",
            "/ /evil",
            "https:evil",
            "https:/evil",
            "https://evil",
            "HTTPS://evil",
            "http://evil",
            "javascript:alert(1)",
            "data:text/html,x",
            "%2f%2fevil",
            "@evil",
            ".//evil",
            "/\u{0}/evil",
            "/a\\..\\evil",
            "/ö",
            &long,
        ] {
            assert_eq!(relative_path(evil), None, "{evil:?}");
        }
    }

    fn site(port: u16) -> Site {
        Site { console: "c.test".into(), zone: "z.test".into(), port }
    }

    #[test]
    fn only_pages_in_the_zone_are_places() {
        let place = device_place(&site(8443), "https://plc1--cam.z.test:8443/a/b?x=1&y=%2f#frag").unwrap();
        assert_eq!(place.host, "plc1--cam.z.test");
        assert_eq!(place.origin, "https://plc1--cam.z.test:8443");
        assert_eq!(place.path, "/a/b?x=1&y=%2f");
        assert_eq!(place.device.as_str(), "plc1");
        assert_eq!(place.service.unwrap().as_str(), "cam");
        assert_eq!(device_place(&site(443), "https://plc1.z.test").unwrap().path, "/");
        assert_eq!(device_place(&site(443), "https://plc1.z.test//evil").unwrap().path, "/");
        assert_eq!(device_place(&site(443), "https://PLC1.Z.test/").unwrap().host, "plc1.z.test");
    }

    #[test]
    fn no_url_leads_out_of_the_zone() {
        for evil in [
            "",
            "/",
            "//plc1.z.test/",
            "http://plc1.z.test/",
            "https:plc1.z.test/",
            "https:/plc1.z.test/",
            "HTTPS://plc1.z.test/",
            "https://evil/",
            "https://z.test/",
            "https://c.test/",
            "https://a.b.z.test/",
            "https://plc1.z.test.evil/",
            "https://plc1.z.test:8443/",
            "https://plc1.z.test@evil/",
            "https://evil@plc1.z.test/",
            "https://evil:x@plc1.z.test/",
            "https://evil\\@plc1.z.test/",
            "https://evil\\.z.test/",
            "https://evil/.z.test",
            "https://evil#.z.test",
            "https://evil?.z.test",
            "https://evil%2f.z.test/",
            "https://evil%23.z.test/",
            "https://pl\tc1.z.test/",
            "https://plc1.z.test\n.evil/",
            " https://plc1.z.test/",
            "https:///plc1.z.test@evil/",
            "https://[::1]/",
            "https://127.0.0.1/",
            "https://plc1.z.test./",
            "https://plc1\u{3002}z.test/",
            "javascript://plc1.z.test/%0aalert(1)",
        ] {
            assert_eq!(device_place(&site(443), evil), None, "{evil:?}");
        }
    }
}
