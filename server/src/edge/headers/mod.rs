//! What changes in the headers between a browser and a device, so that ordinary device pages work and ours stay ours.

mod cookies;
mod origins;
mod request;
mod response;

pub use self::origins::Origins;
pub use self::request::{Upgrade, to_device, upgrade_wanted};
pub use self::response::{to_browser, trailers};

use http::header::{CONNECTION, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

/// Headers of one connection only (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("proxy-authenticate"),
    HeaderName::from_static("proxy-authorization"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// What `Connection` may not remove: a device that does not get these would read another request than we allowed.
const PROTECTED: [&str; 9] =
    ["host", "content-length", "content-type", "cookie", "set-cookie", "authorization", "origin", "expect", "trailer"];

/// Removes what belongs to one connection only, also what `Connection` names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = words(headers, &CONNECTION)
        .filter(|word| !PROTECTED.contains(&word.as_str()))
        .filter_map(|word| word.parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

/// The words of a list header in lower case.
fn words<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = String> + 'h {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|word| word.trim().to_ascii_lowercase())
}

/// Replaces each value for which `map` has another one.
fn rewrite(headers: &mut HeaderMap, name: &HeaderName, map: impl Fn(&str) -> Option<String>) {
    for value in headers.get_all_mut(name) {
        if let Some(new) = value.to_str().ok().and_then(&map)
            && let Ok(new) = HeaderValue::from_str(&new)
        {
            *value = new;
        }
    }
}

trait GetAllMut {
    fn get_all_mut(&mut self, name: &HeaderName) -> Vec<&mut HeaderValue>;
}

impl GetAllMut for HeaderMap {
    fn get_all_mut(&mut self, name: &HeaderName) -> Vec<&mut HeaderValue> {
        self.iter_mut().filter(|(found, _)| *found == name).map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests;
