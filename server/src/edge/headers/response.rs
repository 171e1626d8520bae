//! The headers of a device's answer on its way to the browser (pure).

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALT_SVC, CONNECTION, CONTENT_LENGTH, CONTENT_LOCATION, HOST, HeaderName, LOCATION,
    PUBLIC_KEY_PINS, REFRESH, STRICT_TRANSPORT_SECURITY, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue};

use super::{HOP_BY_HOP, Origins, cookies, rewrite, strip_hop_by_hop};
use crate::edge::pages::ERROR_HEADER;

/// A device decides for itself, not for the browser's dealings with our whole zone.
const NOT_FOR_DEVICES: [HeaderName; 5] =
    [STRICT_TRANSPORT_SECURITY, PUBLIC_KEY_PINS, ALT_SVC, HeaderName::from_static("clear-site-data"), ERROR_HEADER];

/// Turns a device's headers into those for the browser; `switching`: the answer is 101.
pub fn to_browser(headers: &mut HeaderMap, origins: &Origins, is_own: fn(&str) -> bool, switching: bool) {
    let upgrade = headers.get(UPGRADE).cloned();
    if headers.contains_key(TRANSFER_ENCODING) {
        // The body was read by its chunks, so the length is a lie (RFC 9112, section 6.3), and would cut it short.
        headers.remove(CONTENT_LENGTH);
    }
    strip_hop_by_hop(headers);
    for name in NOT_FOR_DEVICES {
        headers.remove(name);
    }
    for name in [LOCATION, CONTENT_LOCATION, ACCESS_CONTROL_ALLOW_ORIGIN] {
        rewrite(headers, &name, |url| origins.to_browser(url.trim()));
    }
    rewrite(headers, &REFRESH, |value| refresh(value, origins));
    cookies::to_browser(headers, is_own);
    if switching && let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
}

/// Removes from trailers what may not stand there (RFC 9110, section 6.5.1).
pub fn trailers(trailers: &mut HeaderMap) {
    let framing = [CONTENT_LENGTH, HOST, TRAILER, ERROR_HEADER, http::header::SET_COOKIE, http::header::COOKIE];
    for name in HOP_BY_HOP.iter().chain(&framing).chain(&NOT_FOR_DEVICES) {
        trailers.remove(name);
    }
}

/// `5; url=http://192.168.1.10/status`, with or without quotes.
fn refresh(value: &str, origins: &Origins) -> Option<String> {
    let (delay, rest) = value.split_once([';', ','])?;
    let (key, url) = rest.split_once('=')?;
    if !key.trim().eq_ignore_ascii_case("url") {
        return None;
    }
    let url = url.trim();
    let bare = url.trim_matches(['"', '\'']);
    Some(format!("{delay}; url={}", origins.to_browser(bare)?))
}
