//! Keeps one device's page, or a stranger's, from using another device through a person's browser (pure).

use http::header::{HeaderName, ORIGIN, REFERER};
use http::{HeaderMap, Request};
use linkspan_protocol::id::DeviceName;

use crate::edge::fault::Fault;
use crate::edge::target::{Site, Target};

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Refuses what another origin's page asks of this device: changes, upgrades, and being embedded or read. Programs
/// that are not browsers send neither `Origin` nor `Sec-Fetch-Site`, and pass; browsers cannot leave them out.
pub(super) fn check<B>(site: &Site, device: &DeviceName, request: &Request<B>, upgrade: bool) -> Result<(), Fault> {
    let headers = request.headers();
    let own = |url: &str| is_own(site, device, url);
    let fetch_site = text(headers, &FETCH_SITE).unwrap_or_default();
    let mut origins = headers.get_all(ORIGIN).iter();
    if !request.method().is_safe() || upgrade {
        let foreign = origins.any(|origin| {
            let origin = origin.to_str().unwrap_or_default();
            // A page with `Referrer-Policy: no-referrer` posts its own forms with `Origin: null`.
            !(own(origin) || (origin == "null" && fetch_site == "same-origin"))
        });
        if foreign || (fetch_site == "cross-site" && headers.get(ORIGIN).is_none()) {
            return Err(Fault::ForbiddenOrigin);
        }
    }
    if !matches!(fetch_site, "same-site" | "cross-site") {
        return Ok(());
    }
    let embedded = matches!(text(headers, &FETCH_DEST), Some("iframe" | "frame" | "object" | "embed" | "fencedframe"));
    if text(headers, &FETCH_MODE) == Some("navigate") && !embedded {
        return Ok(());
    }
    let from_here = [ORIGIN, REFERER].iter().filter_map(|name| text(headers, name)).any(own);
    if from_here { Ok(()) } else { Err(Fault::ForbiddenOrigin) }
}

/// Whether an origin, or the origin of a URL, is this device's at any of its services.
fn is_own(site: &Site, device: &DeviceName, url: &str) -> bool {
    let start = url.find("://").map_or(0, |scheme| scheme + 3);
    let end = url.get(start..).and_then(|rest| rest.find('/')).map_or(url.len(), |slash| start + slash);
    let origin = url.get(..end).unwrap_or_default();
    matches!(site.origin_target(origin), Some(Target::Device { device: name, .. }) if name == *device)
}

fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(request: http::request::Builder, upgrade: bool) -> bool {
        let site = Site { console: "remote.example.com".into(), zone: "dev.example.net".into(), port: 443 };
        check(&site, &"plc1".parse().unwrap(), &request.body(()).unwrap(), upgrade).is_ok()
    }

    #[test]
    fn changes_come_from_the_device_itself_or_from_a_program() {
        let post = |origin: &str| Request::post("/").header(ORIGIN, origin);
        assert!(allowed(Request::post("/"), false));
        assert!(allowed(post("https://plc1.dev.example.net"), false));
        assert!(allowed(post("https://plc1--cam.dev.example.net"), false));
        for foreign in [
            "https://plc2.dev.example.net",
            "https://remote.example.com",
            "http://plc1.dev.example.net",
            "https://plc1.dev.example.net:444",
            "https://plc1.dev.example.net.evil.com",
            "https://evil.com",
            "null",
            "",
            "https://plc1.dev.example.net@evil.com",
            "https://127.0.0.1",
            "file://",
            "https://xplc1.dev.example.net",
        ] {
            assert!(!allowed(post(foreign), false), "{foreign}");
            assert!(!allowed(Request::get("/").header(ORIGIN, foreign), true), "upgrade from {foreign}");
            assert!(allowed(Request::get("/").header(ORIGIN, foreign), false), "read from {foreign}");
        }
        assert!(allowed(post("null").header(FETCH_SITE, "same-origin"), false));
        assert!(!allowed(post("null").header(FETCH_SITE, "cross-site"), false));
        assert!(!allowed(Request::post("/").header(FETCH_SITE, "cross-site"), false));
        assert!(!allowed(post("https://plc1.dev.example.net").header(ORIGIN, "https://evil.com"), false));
    }

    #[test]
    fn nobody_else_embeds_or_reads() {
        let get = |site: &str, mode: &str, dest: &str| {
            Request::get("/").header(FETCH_SITE, site).header(FETCH_MODE, mode).header(FETCH_DEST, dest)
        };
        assert!(allowed(get("none", "navigate", "document"), false));
        assert!(allowed(get("cross-site", "navigate", "document"), false));
        assert!(allowed(get("same-origin", "no-cors", "image"), false));
        for site in ["same-site", "cross-site"] {
            assert!(!allowed(get(site, "no-cors", "image"), false));
            assert!(!allowed(get(site, "cors", "empty"), false));
            assert!(!allowed(get(site, "navigate", "iframe"), false));
            assert!(!allowed(get(site, "navigate", "object"), false));
        }
        let own = get("same-site", "no-cors", "image").header(REFERER, "https://plc1.dev.example.net/index.htm");
        assert!(allowed(own, false));
        let other = get("same-site", "no-cors", "image").header(REFERER, "https://plc2.dev.example.net/");
        assert!(!allowed(other, false));
    }
}
