use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALT_SVC, AUTHORIZATION, COOKIE, HOST, LOCATION, ORIGIN, REFERER, REFRESH, SET_COOKIE,
};
use linkspan_protocol::message::{DeviceReport, ServiceKind, ServiceReport, Verify};

use super::*;
use crate::edge::target::Site;

fn is_own(name: &str) -> bool {
    name == "__Host-linkspan" || name == "__Host-linkspan-nonce"
}

fn service(name: &str, kind: ServiceKind, port: u16) -> ServiceReport {
    let (host, verify) = ("192.168.1.10".to_owned(), Verify::Off);
    ServiceReport { name: name.parse().unwrap(), kind, host, port, verify, host_header: None, compress: false }
}

fn origins(port: u16) -> Origins {
    let site = Site { console: "remote.example.com".into(), zone: "dev.example.net".into(), port };
    let mut cam = service("cam", ServiceKind::Http, 8080);
    cam.host = "fe80::7".into();
    let mut named = service("named", ServiceKind::Http, 81);
    named.host_header = Some("plc.local".into());
    let services = vec![
        service("ssh", ServiceKind::Ssh, 22),
        service("web", ServiceKind::Http, 80),
        service("tls", ServiceKind::Https, 8443),
        cam,
        named,
    ];
    let device = DeviceReport { name: "plc1".parse().unwrap(), description: String::new(), tags: vec![], services };
    Origins::new(&site, &device, &device.services[1])
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

fn sent(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = headers(lines);
    to_device(&mut headers, "plc1.dev.example.net", &origins(443), is_own);
    headers
}

fn answered(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = headers(lines);
    to_browser(&mut headers, &origins(443), is_own, false);
    headers
}

fn cookie_after(cookie: &str) -> Option<String> {
    let value = answered(&[("set-cookie", cookie)]).get(SET_COOKIE)?.clone();
    Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[test]
fn the_device_sees_its_own_address() {
    let sent = sent(&[
        ("host", "plc1.dev.example.net"),
        ("origin", "https://plc1.dev.example.net"),
        ("referer", "https://plc1--tls.dev.example.net/a?b"),
    ]);
    assert_eq!(sent[HOST], "192.168.1.10");
    assert_eq!(sent[ORIGIN], "http://192.168.1.10");
    assert_eq!(sent[REFERER], "https://192.168.1.10:8443/a?b");
    assert_eq!(sent["x-forwarded-proto"], "https");
    assert_eq!(sent["x-forwarded-host"], "plc1.dev.example.net");
}

#[test]
fn other_origins_stay_what_they_are() {
    for origin in
        ["null", "https://plc1.dev.example.net.evil.com", "https://remote.example.com", "http://plc1.dev.example.net"]
    {
        assert_eq!(sent(&[("origin", origin)])[ORIGIN], *origin);
    }
}

#[test]
fn claims_of_proxies_are_ours_alone() {
    let sent = sent(&[
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "evil"),
        ("x_forwarded_proto", "http"),
        ("x-forwarded_host", "evil"),
        ("forwarded", "for=1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("x_real_ip", "1.2.3.4"),
        ("content_length", "5"),
        ("linkspan-authorization", "Bearer secret"),
        ("linkspan_authorization", "Bearer secret"),
        ("authorization", "Basic device"),
        ("api_key", "device"),
        ("connection", "x-forwarded-proto, host, authorization, x-private, close"),
        ("x-private", "1"),
        ("keep-alive", "5"),
        ("proxy-authorization", "Basic x"),
        ("te", "trailers, deflate"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
    ]);
    assert_eq!(sent["x-forwarded-proto"], "https");
    assert_eq!(sent["x-forwarded-host"], "plc1.dev.example.net");
    assert_eq!(sent[AUTHORIZATION], "Basic device");
    assert_eq!(sent["api_key"], "device");
    assert_eq!(sent[TE], "trailers");
    assert_eq!(sent[CONNECTION], "te");
    let mut names: Vec<_> = sent.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["api_key", "authorization", "connection", "host", "te", "x-forwarded-host", "x-forwarded-proto"]
    );
}

#[test]
fn an_upgrade_is_asked_for_anew() {
    let upgraded = sent(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
    assert_eq!(upgraded[CONNECTION], "upgrade");
    assert_eq!(upgraded[UPGRADE], "websocket");
    for not in [[("connection", "upgrade"), ("upgrade", "h2c")], [("connection", "close"), ("upgrade", "websocket")]] {
        assert!(!sent(&not).contains_key(UPGRADE));
    }
}

#[test]
fn our_cookies_stay_here() {
    let sent = sent(&[
        ("cookie", "a=1; __Host-linkspan=secret;b=\"x y\"; =odd; bare"),
        ("cookie", "__Host-linkspan-nonce=secret"),
        ("cookie", "c=3;"),
        ("cookie", " =__Host-linkspan=secret"),
    ]);
    assert_eq!(sent[COOKIE], "a=1; b=\"x y\"; =odd; bare; c=3");
    assert!(!super::tests::sent(&[("cookie", "__Host-linkspan=secret")]).contains_key(COOKIE));
}

#[test]
fn links_of_the_device_become_ours() {
    for (from, to) in [
        ("http://192.168.1.10/x?y#z", "https://plc1.dev.example.net/x?y#z"),
        ("http://192.168.1.10", "https://plc1.dev.example.net"),
        ("http://192.168.1.10:80/", "https://plc1.dev.example.net/"),
        ("HTTP://192.168.1.10/", "https://plc1.dev.example.net/"),
        ("https://192.168.1.10:8443/login", "https://plc1--tls.dev.example.net/login"),
        ("http://[fe80::7]:8080/jpg", "https://plc1--cam.dev.example.net/jpg"),
        ("http://plc.local/x", "https://plc1--named.dev.example.net/x"),
        ("//192.168.1.10/x", "https://plc1.dev.example.net/x"),
        ("ws://192.168.1.10/live", "wss://plc1.dev.example.net/live"),
        // Not the device's own: as it was.
        ("http://192.168.1.11/x", "http://192.168.1.11/x"),
        ("https://192.168.1.10/x", "https://192.168.1.10/x"),
        ("http://192.168.1.10.evil.com/x", "http://192.168.1.10.evil.com/x"),
        ("http://a@192.168.1.10/", "http://a@192.168.1.10/"),
        ("/x", "/x"),
        ("x/y", "x/y"),
        ("?q=http://192.168.1.10/", "?q=http://192.168.1.10/"),
        ("", ""),
    ] {
        assert_eq!(answered(&[("location", from)])[LOCATION], *to, "{from}");
        assert_eq!(answered(&[("content-location", from)])["content-location"], *to, "{from}");
    }
    let mut on_8443 = headers(&[("location", "http://192.168.1.10/x")]);
    to_browser(&mut on_8443, &origins(8443), is_own, false);
    assert_eq!(on_8443[LOCATION], "https://plc1.dev.example.net:8443/x");
}

#[test]
fn refresh_and_cors_follow() {
    for (from, to) in [
        ("5; url=http://192.168.1.10/s", "5; url=https://plc1.dev.example.net/s"),
        ("0;URL='http://192.168.1.10/s'", "0; url=https://plc1.dev.example.net/s"),
        ("5", "5"),
        ("5; url=/s", "5; url=/s"),
        ("5; url=http://other/", "5; url=http://other/"),
    ] {
        assert_eq!(answered(&[("refresh", from)])[REFRESH], *to, "{from}");
    }
    for (from, to) in [("http://192.168.1.10", "https://plc1.dev.example.net"), ("*", "*"), ("null", "null")] {
        let answered = answered(&[("access-control-allow-origin", from)]);
        assert_eq!(answered[ACCESS_CONTROL_ALLOW_ORIGIN], *to);
    }
}

#[test]
fn cookies_are_confined_and_otherwise_kept() {
    for (from, to) in [
        ("a=1", "a=1; Secure"),
        ("a=1; Path=/; HttpOnly", "a=1; Path=/; HttpOnly; Secure"),
        ("a=1; secure", "a=1; secure"),
        ("a=1; Domain=.dev.example.net; Path=/", "a=1; Path=/; Secure"),
        ("a=1;DOMAIN = x ;SameSite=None;Secure", "a=1;SameSite=None;Secure"),
        (
            "a=\"x,y\" ;  Expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "a=\"x,y\" ;  Expires=Thu, 01 Jan 1970 00:00:00 GMT; Secure",
        ),
        ("odd", "odd; Secure"),
        ("=nameless", "=nameless; Secure"),
        ("ü=1", "ü=1; Secure"),
        ("a=domain=x", "a=domain=x; Secure"),
    ] {
        assert_eq!(cookie_after(from).as_deref(), Some(to), "{from}");
    }
    for ours in [
        "__Host-linkspan=x",
        " __Host-linkspan =x; Path=/",
        "__Host-linkspan",
        "=__Host-linkspan=x",
        "__Host-linkspan-nonce=; Max-Age=0",
    ] {
        assert_eq!(cookie_after(ours), None, "{ours}");
    }
    let two = answered(&[("set-cookie", "a=1"), ("set-cookie", "b=2")]);
    assert_eq!(two.get_all(SET_COOKIE).iter().count(), 2);
}

#[test]
fn a_device_does_not_speak_for_the_zone() {
    let answered = answered(&[
        ("strict-transport-security", "max-age=1; includeSubDomains"),
        ("public-key-pins", "x"),
        ("alt-svc", "h3=\":443\""),
        ("clear-site-data", "\"*\""),
        ("linkspan-error", "internal"),
        ("connection", "close, x-hop, content-type"),
        ("x-hop", "1"),
        ("content-type", "text/html"),
        ("upgrade", "h2c"),
    ]);
    assert!(!answered.contains_key(ALT_SVC));
    assert_eq!(answered.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
}

#[test]
fn of_two_framings_the_one_that_was_read_counts() {
    let both = answered(&[("content-length", "2"), ("transfer-encoding", "chunked")]);
    assert!(both.is_empty(), "{both:?}");
    assert_eq!(answered(&[("content-length", "2")]).len(), 1);
}
