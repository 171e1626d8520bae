//! The headers of a request on its way to a device (pure).

use http::header::{CONNECTION, COOKIE, EXPECT, FORWARDED, HOST, HeaderName, ORIGIN, REFERER, TE, TRAILER, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::{Origins, cookies, rewrite, strip_hop_by_hop, words};

/// Another protocol that a client asks for.
pub type Upgrade = HeaderValue;

/// Turns a browser's headers into those for the device. `authority` is the host the browser asked, with port;
/// `is_own` tells our cookies by name.
pub fn to_device(headers: &mut HeaderMap, authority: &str, origins: &Origins, is_own: fn(&str) -> bool) {
    let upgrade = upgrade_wanted(headers);
    let trailers = words(headers, &TE).any(|word| word == "trailers");
    strip_hop_by_hop(headers);
    strip_claims(headers);
    cookies::to_device(headers, is_own);
    for name in [ORIGIN, REFERER] {
        rewrite(headers, &name, |url| origins.to_device(url));
    }
    set(headers, HOST, origins.host_header());
    set(headers, HeaderName::from_static("x-forwarded-proto"), "https");
    set(headers, HeaderName::from_static("x-forwarded-host"), authority);
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    } else if trailers {
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The protocol a client asks for, if it does so properly. HTTP/2 in the clear is not one: it would hide requests.
pub fn upgrade_wanted(headers: &HeaderMap) -> Option<Upgrade> {
    let upgrade = headers.get(UPGRADE)?;
    let asked = words(headers, &CONNECTION).any(|word| word == "upgrade");
    let http2 = words(headers, &UPGRADE).any(|word| word.starts_with("h2"));
    (asked && !http2).then(|| upgrade.clone())
}

/// Removes what only a proxy may say, in every spelling that a device could read as the same name, and our token.
fn strip_claims(headers: &mut HeaderMap) {
    let claims: Vec<HeaderName> = headers.keys().filter(|name| is_claim(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

fn is_claim(name: &str) -> bool {
    // CGI writes `-` and `_` alike (RFC 3875, section 4.1.18): the underscore form is an alias.
    let alias = name.contains('_');
    let name = name.replace('_', "-");
    let claimed = name.starts_with("x-forwarded")
        || name.starts_with("linkspan-")
        || [FORWARDED.as_str(), "x-real-ip", "x-client-ip", "client-ip", "true-client-ip", "x-cluster-client-ip"]
            .contains(&name.as_str())
        || ["x-original-url", "x-rewrite-url", "x-original-host", "x-host", "http2-settings", "proxy"]
            .contains(&name.as_str());
    let aliased = ["host", "cookie", "authorization", "content-length", "content-type", "transfer-encoding", "origin"]
        .contains(&name.as_str())
        || [CONNECTION, EXPECT, REFERER, TE, TRAILER, UPGRADE, COOKIE].iter().any(|known| *known == *name);
    claimed || (alias && aliased)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    } else {
        headers.remove(name);
    }
}
