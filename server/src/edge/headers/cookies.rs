//! Cookies: ours never reach a device, a device's never reach another device, the rest passes byte for byte (pure).

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

/// Removes our cookies, and joins what HTTP/2 had split (RFC 9113, section 8.2.3).
pub(super) fn to_device(headers: &mut HeaderMap, is_own: fn(&str) -> bool) {
    let mut kept: Vec<u8> = Vec::new();
    for value in headers.get_all(COOKIE) {
        for pair in value.as_bytes().split(|byte| *byte == b';') {
            let pair = pair.trim_ascii_start();
            if pair.is_empty() || is_ours(pair, is_own) {
                continue;
            }
            if !kept.is_empty() {
                kept.extend_from_slice(b"; ");
            }
            kept.extend_from_slice(pair);
        }
    }
    headers.remove(COOKIE);
    if !kept.is_empty()
        && let Ok(value) = HeaderValue::from_bytes(&kept)
    {
        headers.insert(COOKIE, value);
    }
}

/// Confines a device's cookies to its own host and to https, and refuses those with our names.
pub(super) fn to_browser(headers: &mut HeaderMap, is_own: fn(&str) -> bool) {
    let kept: Vec<HeaderValue> =
        headers.get_all(SET_COOKIE).iter().filter_map(|value| confine(value.as_bytes(), is_own)).collect();
    headers.remove(SET_COOKIE);
    for value in kept {
        headers.append(SET_COOKIE, value);
    }
}

fn confine(cookie: &[u8], is_own: fn(&str) -> bool) -> Option<HeaderValue> {
    let mut parts = cookie.split(|byte| *byte == b';');
    let pair = parts.next().unwrap_or_default();
    if is_ours(pair, is_own) {
        return None;
    }
    let mut confined = pair.to_vec();
    let mut secure = false;
    for attribute in parts {
        let name = attribute.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"domain") {
            continue;
        }
        secure |= name.eq_ignore_ascii_case(b"secure");
        confined.push(b';');
        confined.extend_from_slice(attribute);
    }
    if !secure {
        confined.extend_from_slice(b"; Secure");
    }
    HeaderValue::from_bytes(&confined).ok()
}

/// Whether a `name=value` pair is one of ours. A cookie without a name is sent back as its bare value, so a value that
/// looks like one of ours counts too.
fn is_ours(pair: &[u8], is_own: fn(&str) -> bool) -> bool {
    let named = |pair: &[u8]| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii();
        is_own(&String::from_utf8_lossy(name))
    };
    let pair = pair.trim_ascii();
    let without_name = pair.strip_prefix(b"=").map(<[u8]>::trim_ascii);
    named(pair) || without_name.is_some_and(named)
}
