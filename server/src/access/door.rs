//! The way from a device's host to the console and back: sign in there, come back with a ticket, get a cookie here.
//!
//! 1. A stranger on `https://DEVICE.ZONE/x` gets a nonce cookie and goes to the console's `/open?to=…&nonce=HASH`.
//! 2. The console signs them in, looks whether they may, and sends them to `/.linkspan/ticket?t=…&to=/x` on that host.
//! 3. There the ticket is redeemed: once, within 30 s, on that host, by the browser that holds the nonce.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use jiff::Timestamp;
use maud::html;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::place::{DevicePlace, relative_path};
use super::token::Token;
use super::{Access, Principal, cookie};
use crate::store::{StoreError, Ticket};
use crate::ui;

pub use super::cookie::is_own as is_own_cookie;

/// The path on a device's host that takes tickets.
pub const TICKET_PATH: &str = "/.linkspan/ticket";
/// A ticket is redeemed by a redirect, so at once.
const TICKET_LIFE: Duration = Duration::from_secs(30);
/// Seconds within which a person signs in, from the redirect to the return.
const NONCE_LIFE: i64 = 15 * 60;
/// What needs no escape in a query.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The body of an answer.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Sends a stranger on a device's host to the console; `url` is where they come back to. A browser that holds a nonce
/// keeps it: several tabs begin to sign in at once when it opens what was open yesterday, and each of them counts.
pub fn to_console(console_origin: &str, headers: &HeaderMap, url: &str) -> Response<Body> {
    let nonce = cookie::read(headers, cookie::NONCE).unwrap_or_else(Token::random);
    let location = format!("{console_origin}/open?to={}&nonce={}", escaped(url), nonce.hash());
    let mut response = redirect(&location);
    response.headers_mut().append(SET_COOKIE, cookie::set(cookie::NONCE, &nonce, NONCE_LIFE));
    response
}

/// `GET /.linkspan/ticket?t=…&to=…` on a device's host: turns a ticket into that host's cookie.
pub async fn redeem(access: &Access, host: &str, headers: &HeaderMap, query: &str) -> Response<Body> {
    let (mut token, mut to) = (None, None);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "t" => token = Token::parse(&value),
            "to" => to = relative_path(&value).map(str::to_owned),
            _ => {}
        }
    }
    let to = to.unwrap_or_else(|| "/".to_owned());
    match redeemed(access, host, headers, token).await {
        Ok(Some(cookies)) => {
            let mut response = redirect(&to);
            response.headers_mut().extend(cookies.map(|cookie| (SET_COOKIE, cookie)));
            response
        }
        // Of several tabs that signed in at once, the first takes the nonce; the others find the cookie it got.
        Ok(None) => match access.on_device_host(host, headers).await {
            Ok(Some(_)) => redirect(&to),
            Ok(None) => stale(&to),
            Err(error) => broken(&error),
        },
        Err(error) => broken(&error),
    }
}

/// Writes a ticket for a place that this person may open; says where to send them. Tickets come of sessions alone, and
/// of none that has ended.
pub(crate) async fn issue(
    access: &Access,
    who: &Principal,
    place: &DevicePlace,
    nonce_hash: &str,
) -> Result<Option<String>, StoreError> {
    let Some(session) = who.session() else { return Ok(None) };
    let token = Token::random();
    let ticket = Ticket { token: &token.hash(), host: &place.host, nonce: nonce_hash };
    let written = access.inner.store.add_ticket(session, ticket, Timestamp::now() + TICKET_LIFE).await?;
    Ok(written.then(|| format!("{}{TICKET_PATH}?t={}&to={}", place.origin, token.expose(), escaped(&place.path))))
}

/// Whether this can be the hash of a nonce.
pub(crate) fn is_nonce_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Text as the value of a query parameter.
pub(crate) fn escaped(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

async fn redeemed(
    access: &Access,
    host: &str,
    headers: &HeaderMap,
    token: Option<Token>,
) -> Result<Option<[HeaderValue; 2]>, StoreError> {
    let (Some(token), Some(nonce)) = (token, cookie::read(headers, cookie::NONCE)) else { return Ok(None) };
    let device_token = Token::random();
    let (token_hash, nonce_hash) = (token.hash(), nonce.hash());
    let ticket = Ticket { token: &token_hash, host, nonce: &nonce_hash };
    let Some(until) = access.inner.store.redeem_ticket(ticket, &device_token.hash()).await? else { return Ok(None) };
    let seconds = until.duration_since(Timestamp::now()).as_secs();
    Ok(Some([cookie::set(cookie::DEVICE, &device_token, seconds), cookie::clear(cookie::NONCE)]))
}

fn redirect(location: &str) -> Response<Body> {
    let mut response = answer(StatusCode::SEE_OTHER, String::new());
    match HeaderValue::from_str(location) {
        Ok(location) => {
            response.headers_mut().insert(LOCATION, location);
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}

fn stale(to: &str) -> Response<Body> {
    let page = ui::page(
        "Please try again",
        html! {
            h1 { "Please try again" }
            p { "The sign-in for this device took too long, was used already, or was begun in another browser." }
            p { a.button href=(to) { "Try again" } }
        },
    );
    answer(StatusCode::FORBIDDEN, page.into_string())
}

fn broken(error: &StoreError) -> Response<Body> {
    tracing::error!(error = error.in_full(), "a ticket cannot be redeemed");
    answer(StatusCode::INTERNAL_SERVER_ERROR, ui::own_fault().into_string())
}

fn answer(status: StatusCode, html: String) -> Response<Body> {
    let mut response = Response::new(Full::from(html).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, ui::content_security_policy());
    // The ticket stands in the URL of this answer.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use linkspan_protocol::id::Secret;

    use crate::access::tests::{PASSWORD, cookies, sign_in, with_people};
    use crate::access::{Attempt, SessionKind, device_place};
    use crate::config::Site;

    const HOST: &str = "plc1.z.test";

    fn header(response: &Response<Body>, name: http::HeaderName) -> &str {
        response.headers()[name].to_str().unwrap()
    }

    fn cookie_in(response: &Response<Body>, name: &str) -> Token {
        let all = response.headers().get_all(SET_COOKIE).iter().map(|value| value.to_str().unwrap());
        let line = all.filter_map(|line| line.strip_prefix(&format!("{name}="))).next().unwrap();
        assert!(line.contains("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{line}");
        assert!(!line.contains("Domain"), "{line}");
        Token::parse(line.split(';').next().unwrap()).unwrap()
    }

    /// Walks to the console; the nonce that the browser holds, and the query of the ticket.
    async fn walk(access: &Access, to: &str) -> (Token, String) {
        let away = to_console("https://c.test", &HeaderMap::new(), &format!("https://{HOST}{to}"));
        assert_eq!(away.status(), StatusCode::SEE_OTHER);
        let nonce = cookie_in(&away, cookie::NONCE);
        let location = url::Url::parse(header(&away, LOCATION)).unwrap();
        let asked: std::collections::HashMap<_, _> = location.query_pairs().into_owned().collect();
        assert!(is_nonce_hash(&asked["nonce"]));
        let console = sign_in(access, "otto", SessionKind::Console).await;
        let who = access.by_console_cookie(&cookies(cookie::CONSOLE, &console)).await.unwrap().unwrap();
        let site = Site { console: "c.test".into(), zone: "z.test".into(), port: 443 };
        let place = device_place(&site, &asked["to"]).unwrap();
        let back = issue(access, &who, &place, &asked["nonce"]).await.unwrap().unwrap();
        let query = back.strip_prefix("https://plc1.z.test/.linkspan/ticket?").unwrap().to_owned();
        (nonce, query)
    }

    #[tokio::test]
    async fn there_and_back() {
        let (_dir, _store, access) = with_people().await;
        let (nonce, query) = walk(&access, "/a?b=c&d=%2f").await;
        let back = redeem(&access, HOST, &cookies(cookie::NONCE, &nonce), &query).await;
        assert_eq!(back.status(), StatusCode::SEE_OTHER);
        assert_eq!(header(&back, LOCATION), "/a?b=c&d=%2f");
        let here = cookies(cookie::DEVICE, &cookie_in(&back, cookie::DEVICE));
        let who = access.on_device_host(HOST, &here).await.unwrap().unwrap();
        assert_eq!(who.name, "otto");
        assert!(access.on_device_host("plc2.z.test", &here).await.unwrap().is_none(), "another device's host");
        assert!(access.by_console_cookie(&here).await.unwrap().is_none(), "the console");
        access.sign_out(&who).await.unwrap();
        assert!(access.on_device_host(HOST, &here).await.unwrap().is_none(), "signed out");
    }

    #[tokio::test]
    async fn a_ticket_works_once_here_and_for_this_browser() {
        let (_dir, _store, access) = with_people().await;
        let (nonce, query) = walk(&access, "/").await;
        let mine = cookies(cookie::NONCE, &nonce);
        assert_eq!(redeem(&access, "plc2.z.test", &mine, &query).await.status(), StatusCode::FORBIDDEN);
        assert_eq!(redeem(&access, HOST, &mine, &query).await.status(), StatusCode::FORBIDDEN, "used up");
        let (_, query) = walk(&access, "/").await;
        assert_eq!(redeem(&access, HOST, &mine, &query).await.status(), StatusCode::FORBIDDEN, "another nonce");
        let (_, query) = walk(&access, "/").await;
        assert_eq!(redeem(&access, HOST, &HeaderMap::new(), &query).await.status(), StatusCode::FORBIDDEN);
        for query in ["", "t=x", "t=%00", "to=//evil", "t=&t=&t="] {
            let response = redeem(&access, HOST, &mine, query).await;
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{query}");
            assert!(response.headers().get(SET_COOKIE).is_none());
        }
    }

    #[tokio::test]
    async fn a_ticket_leads_to_no_other_host() {
        let (_dir, _store, access) = with_people().await;
        for evil in ["//evil.test", "https://evil.test", "/\\evil.test", "%2f%2fevil.test", "/%09/evil.test"] {
            let (nonce, query) = walk(&access, "/").await;
            let query = format!("{}&to={evil}", query.split('&').next().unwrap());
            let response = redeem(&access, HOST, &cookies(cookie::NONCE, &nonce), &query).await;
            assert_eq!(header(&response, LOCATION), "/", "{evil}");
        }
    }

    #[tokio::test]
    async fn who_signs_in_anew_keeps_the_pages_that_are_open_and_another_person_does_not() {
        let (_dir, _store, access) = with_people().await;
        let password = Secret::new(PASSWORD);
        for (name, stays) in [("otto", true), ("anna", false)] {
            let (nonce, query) = walk(&access, "/").await;
            let back = redeem(&access, HOST, &cookies(cookie::NONCE, &nonce), &query).await;
            let here = cookies(cookie::DEVICE, &cookie_in(&back, cookie::DEVICE));
            let before = access.on_device_host(HOST, &here).await.unwrap().unwrap();
            let attempt = Attempt::new(name, &password, SessionKind::Console);
            let after = access.sign_in(attempt).await.unwrap();
            access.replace(&before, &after).await.unwrap();
            let found = access.on_device_host(HOST, &here).await.unwrap();
            assert_eq!(found.is_some(), stays, "{name}");
            let after = access.by_console_cookie(&cookies(cookie::CONSOLE, &after.token)).await.unwrap().unwrap();
            assert!(
                found.is_none_or(|found| found.session() == after.session() && found.session() != before.session())
            );
            access.sign_out(&after).await.unwrap();
            assert!(access.on_device_host(HOST, &here).await.unwrap().is_none(), "signed out");
        }
    }

    #[test]
    fn tabs_that_begin_one_after_the_other_share_a_nonce() {
        let first = to_console("https://c.test", &HeaderMap::new(), "https://plc1.z.test/one");
        let nonce = cookie_in(&first, cookie::NONCE);
        let second = to_console("https://c.test", &cookies(cookie::NONCE, &nonce), "https://plc1.z.test/two");
        assert_eq!(cookie_in(&second, cookie::NONCE).hash(), nonce.hash());
        assert!(header(&second, LOCATION).ends_with(&nonce.hash()));
    }

    #[tokio::test]
    async fn the_second_tab_comes_through_with_the_first_ones_cookie() {
        let (_dir, _store, access) = with_people().await;
        let (nonce, query) = walk(&access, "/one").await;
        let back = redeem(&access, HOST, &cookies(cookie::NONCE, &nonce), &query).await;
        let here = cookies(cookie::DEVICE, &cookie_in(&back, cookie::DEVICE));
        let (_, query) = walk(&access, "/two").await;
        let response = redeem(&access, HOST, &here, &query).await;
        assert_eq!(header(&response, LOCATION), "/two");
    }
}
