//! Whether a request that changes something comes from our own page (against forged requests from other sites).

use http::HeaderMap;
use http::header::ORIGIN;

/// Every browser says where a form or script comes from; who says nothing is not believed.
pub(crate) fn is_own_page(headers: &HeaderMap, own_origin: &str) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next(), origins.next()) {
        (Some(origin), None) => origin.as_bytes() == own_origin.as_bytes(),
        (None, _) => headers.get("sec-fetch-site").is_some_and(|site| site.as_bytes() == b"same-origin"),
        (Some(_), Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn says(headers: &[(&'static str, &'static str)]) -> bool {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
        is_own_page(&headers, "https://c.test:8443")
    }

    #[test]
    fn only_our_own_origin_is_believed() {
        assert!(says(&[("origin", "https://c.test:8443")]));
        assert!(says(&[("sec-fetch-site", "same-origin")]));
        assert!(!says(&[]));
        for evil in [
            "null",
            "",
            "https://evil.test",
            "http://c.test:8443",
            "https://c.test",
            "https://c.test:8444",
            "https://c.test:8443.evil.test",
            "https://c.test:8443/",
            "https://evil.test, https://c.test:8443",
            "https://plc1.c.test:8443",
            "HTTPS://C.TEST:8443",
            "file://",
        ] {
            assert!(!says(&[("origin", evil)]), "{evil}");
            assert!(!says(&[("origin", evil), ("sec-fetch-site", "same-origin")]), "{evil}");
        }
        assert!(!says(&[("sec-fetch-site", "same-site")]));
        assert!(!says(&[("sec-fetch-site", "none")]));
    }
}
