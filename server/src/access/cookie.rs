//! Our cookies: their names, and how they are written and read.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

use super::token::Token;

/// The console's session.
pub(crate) const CONSOLE: &str = "__Host-linkspan-console";
/// A device host's share of a session.
pub(super) const DEVICE: &str = "__Host-linkspan";
/// A sign-in that waits for the second factor.
pub(super) const HALF: &str = "__Host-linkspan-half";
/// The visit of a guest, on the console's host.
pub(super) const VISIT: &str = "__Host-linkspan-visit";
/// A sign-in that is under way at an OpenID provider.
pub(super) const PROVIDER: &str = "__Host-linkspan-provider";
/// Binds a sign-in under way to the browser that began it.
pub(super) const NONCE: &str = "__Host-linkspan-nonce";

/// Whether a cookie of this name is ours: no device may be shown it, and none may set it. Browsers do not agree on
/// whether the prefix has a case, so it has none here.
pub fn is_own(name: &str) -> bool {
    let prefix = DEVICE.as_bytes();
    name.trim().as_bytes().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The token in the cookie of this name. Two of that name are one too many: then it counts as absent.
pub(super) fn read(headers: &HeaderMap, name: &str) -> Option<Token> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut found = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let value = found.by_ref().find(|(key, _)| *key == name)?.1;
    if found.any(|(key, _)| key == name) {
        return None;
    }
    Token::parse(value)
}

/// A `Set-Cookie` for this host alone, over TLS alone, that no script reads and no other site's form sends.
pub(super) fn set(name: &str, token: &Token, seconds: i64) -> HeaderValue {
    written(&format!("{name}={}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={}", token.expose(), seconds.max(0)))
}

/// A `Set-Cookie` that removes the cookie.
pub(super) fn clear(name: &str) -> HeaderValue {
    written(&format!("{name}=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0"))
}

#[expect(clippy::expect_used, reason = "names are constants, a token is base64 and a number is digits")]
fn written(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("a cookie is written in ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_known_in_every_spelling() {
        for own in [CONSOLE, DEVICE, NONCE, "__host-LINKSPAN", " __Host-linkspan-x "] {
            assert!(is_own(own), "{own}");
        }
        for other in ["session", "__Host-links", "linkspan", "", "__Secure-linkspan", "__Höst-linkspan"] {
            assert!(!is_own(other), "{other}");
        }
    }

    #[test]
    fn a_cookie_is_read_once_and_only_if_it_is_a_token() {
        let token = Token::random();
        let headers = |line: &str| HeaderMap::from_iter([(COOKIE, line.parse().unwrap())]);
        let good = format!("a=b; {DEVICE}={}; c", token.expose());
        assert_eq!(read(&headers(&good), DEVICE).unwrap().hash(), token.hash());
        assert!(read(&headers(&good), CONSOLE).is_none());
        assert!(read(&headers(&format!("{good}; {DEVICE}=x")), DEVICE).is_none(), "two of the name");
        assert!(read(&headers(&format!("{DEVICE}=x")), DEVICE).is_none());
        assert!(read(&HeaderMap::new(), DEVICE).is_none());
    }
}
