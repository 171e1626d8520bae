//! Requests that try to be two things at once: none of their bytes reaches the LAN.

use http::{Request, StatusCode};
use linkspan_protocol::message::ServiceKind;
use tokio::io::AsyncWriteExt as _;

use crate::origin::Origin;
use crate::world::{World, device, eventually, nothing, to_end};

const HOST: &str = "plc1.devices.example.net";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

async fn world() -> (World, Origin) {
    let origin = Origin::always(OK);
    (World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await, origin)
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or("")
}

/// The beginning of each request is proper and says who asks: only the framing is wrong.
fn requests() -> Vec<(String, &'static str)> {
    let start = format!("Host: {HOST}\r\nLinkspan-Authorization: Bearer good\r\n");
    let mut requests = Vec::new();
    for line in [
        "GET /",
        "GET / ",
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/\tHTTP/1.1",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP/11",
        "GET / HTTP/1",
        "G(T / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET http://plc1.devices.example.net/ HTTP/1.1",
        "GET https://plc1.devices.example.net/ HTTP/1.1",
        "GET plc1.devices.example.net HTTP/1.1",
        "GET * HTTP/1.1",
        "GET index.html HTTP/1.1",
        "CONNECT plc1.devices.example.net:443 HTTP/1.1",
        "CONNECT / HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /\u{e4} HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /a b HTTP/1.1",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
    ] {
        requests.push((format!("{line}\r\n{start}\r\n"), "400"));
    }
    for version in ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/9.9"] {
        requests.push((format!("GET / {version}\r\n{start}\r\n"), "505"));
    }
    for header in [
        " folded: x",
        "\tfolded: x",
        "X: y\r\n folded",
        "X: y\r\n\tfolded",
        "X : y",
        "X\t: y",
        ": y",
        "X",
        "X(y): z",
        "X y: z",
        "\u{e4}: z",
        "X@: z",
        "X: y\0z",
        "X: y\u{1}z",
        "X: y\u{7f}",
        "X: y\u{8}",
        "X: y\nY: z",
        "X: y\rY: z",
        "X: y\r\r",
        "\0: x",
        "Host: other",
        "Host: plc1.devices.example.net",
        "host:",
        "Content-Length: 2\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 2",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 2\r\nContent-Length: 2",
        "Content-Length: 2\r\nContent-Length: 3",
        "Content-Length: 2, 2",
        "Content-Length: +2",
        "Content-Length: -2",
        "Content-Length: 0x2",
        "Content-Length: 2 2",
        "Content-Length: 2;",
        "Content-Length: ",
        "Content-Length: two",
        "Content-Length: 2.0",
        "Content-Length: 1e1",
        "Content-Length: \u{b2}",
        "Content-Length: 99999999999999999999",
        "Content-Length: 18446744073709551618",
        "Content-Length : 2",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunkedx",
        "Transfer-Encoding: chunked;x=y",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding:\u{c}chunked",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding: cHuNkEd",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "Transfer\u{0}-Encoding: chunked",
    ] {
        requests.push((format!("POST / HTTP/1.1\r\n{start}{header}\r\n\r\nhi"), "400"));
    }
    for chunk in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+2\r\nhi\r\n0\r\n\r\n",
        "0x2\r\nhi\r\n0\r\n\r\n",
        "2 \r\nhi\r\n0\r\n\r\n",
        " 2\r\nhi\r\n0\r\n\r\n",
        "2\nhi\n0\n\n",
        "2\rhi",
        "2;a\nb\r\nhi\r\n",
        "2;\0\r\nhi\r\n",
        "fffffffffffffffff\r\n",
        "10000000000000002\r\nhi\r\n",
        "g\r\n",
        "\u{b2}\r\n",
    ] {
        requests.push((format!("POST / HTTP/1.1\r\n{start}Transfer-Encoding: chunked\r\n\r\n{chunk}"), "400"));
    }
    requests.push((format!("POST / HTTP/1.0\r\n{start}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "400"));
    requests.push((format!("GET / HTTP/1.1\n{}\n", start.replace("\r\n", "\n")), "400"));
    requests.push(("GET / HTTP/1.1\r\nLinkspan-Authorization: Bearer good\r\n\r\n".into(), "400"));
    requests.push(("GET / HTTP/1.0\r\nLinkspan-Authorization: Bearer good\r\n\r\n".into(), "400"));
    requests.push((format!("GET / HTTP/1.1\r\n{start}X: {}\r\n\r\n", "y".repeat(33 * 1024)), "431"));
    requests.push((format!("GET /{} HTTP/1.1\r\n{start}\r\n", "y".repeat(33 * 1024)), "431"));
    requests.push((format!("GET / HTTP/1.1\r\n{start}{}\r\n", "X: y\r\n".repeat(101)), "431"));
    requests.push((
        format!("POST / HTTP/1.1\r\n{start}Transfer-Encoding: chunked\r\n\r\n2;{}\r\nhi\r\n", "x".repeat(300)),
        "431",
    ));
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_do_not_reach_the_device() {
    let (world, origin) = world().await;
    let requests = requests();
    assert!(requests.len() >= 100, "{}", requests.len());
    for (request, expected) in requests {
        let answer = world.raw(HOST, request.as_bytes()).await;
        let shown: String = request.chars().take(300).collect();
        // A chunk line that is too long is the fault of the body: its answer is 400 like those of all bodies.
        let expected = if request.contains("chunked\r\n\r\n2;x") { "400" } else { expected };
        assert_eq!(status(&answer), expected, "{shown:?}: {answer}");
        assert!(answer.to_lowercase().contains("linkspan-error: bad-request"), "{shown:?}: {answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{shown:?}: {answer}");
        assert_eq!(origin.heard(), "", "{shown:?}");
    }
    assert_eq!(origin.connections(), 0);
    let good =
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nLinkspan-Authorization: Bearer good\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&world.raw(HOST, good.as_bytes()).await), "200");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_good_request_a_bad_one_is_refused_alone() {
    let (world, origin) = world().await;
    let good = format!("GET /good HTTP/1.1\r\nHost: {HOST}\r\nLinkspan-Authorization: Bearer good\r\n\r\n");
    for bad in ["GET /bad HTTP/1.1\nHost: x\n\n", "GET /bad\r\n", "GET /bad HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        let answer = world.raw(HOST, format!("{good}{bad}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("okHTTP/1.1 400"), "{answer}");
    }
    assert!(!origin.heard().contains("bad"), "{}", origin.heard());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_goes_wrong_breaks_the_devices_connection() {
    let (world, origin) = world().await;
    let head = format!(
        "POST /up HTTP/1.1\r\nHost: {HOST}\r\nLinkspan-Authorization: Bearer good\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    // Had all of it come at once, it might be refused before there is a connection to break.
    let mut browser = world.tls(HOST, false).await;
    browser.write_all(format!("{head}2\r\nhi\r\n").as_bytes()).await.unwrap();
    eventually("the request reaches the device", || origin.heard().contains("hi")).await;
    browser.write_all(b"GET /smuggled HTTP/1.1\r\n\r\n").await.unwrap();
    let answer = to_end(browser).await;
    assert!(!origin.heard().contains("smuggled"), "{}", origin.heard());
    assert!(!origin.heard().contains("0\r\n\r\n"), "{}", origin.heard());
    assert!(answer.is_empty() || status(&answer) == "400" || status(&answer) == "200", "{answer}");
    let (status, ..) = world.client(HOST).await.get("/after").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(origin.connections(), 2, "the broken connection was used again");
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_are_not_ours_are_unknown() {
    let (world, origin) = world().await;
    for host in [
        "plc2.devices.example.net",
        "secret.devices.example.net",
        "devices.example.net",
        "a.plc1.devices.example.net",
        "evil.com",
        "plc1.devices.example.net.evil.com",
        "plc1.devices.example.net@evil.com",
        "plc1%2edevices.example.net",
        "plc_1.devices.example.net",
        "xn--plc1-.devices.example.net",
        "plc1.devices.example.net/x",
        "plc1.devices.example.net:x",
        "127.0.0.1",
        "[::1]",
        "a, b",
    ] {
        // Without a name in the TLS handshake, Host alone says where to.
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nLinkspan-Authorization: Bearer good\r\nConnection: close\r\n\r\n"
        );
        let answer = world.raw("127.0.0.1", request.as_bytes()).await;
        assert_eq!(status(&answer), "404", "{host}: {answer}");
        assert!(!answer.contains("evil"), "{answer}");
    }
    assert_eq!(origin.connections(), 0);
    for host in [
        "PLC1.Devices.Example.NET",
        "plc1.devices.example.net.",
        "plc1.devices.example.net:8443",
        "plc1--web.devices.example.net",
    ] {
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {host}\r\nLinkspan-Authorization: Bearer good\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(status(&world.raw("127.0.0.1", request.as_bytes()).await), "200", "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_for_the_name_it_was_made_for() {
    let (world, origin) = world().await;
    let request =
        format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nLinkspan-Authorization: Bearer good\r\nConnection: close\r\n\r\n");
    let answer = world.raw("plc2.devices.example.net", request.as_bytes()).await;
    assert_eq!(status(&answer), "421", "{answer}");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_held_to_the_same_rules() {
    let (world, origin) = world().await;
    let mut client = world.client2(HOST).await;
    let (ok, _, body) = client.get("/").await;
    assert_eq!((ok, body.as_str()), (StatusCode::OK, "ok"));
    for host in ["plc2.devices.example.net", "evil.com", ""] {
        let response = client.send(Request::get("/bad").header("host", host), nothing()).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{host}");
    }
    let response = client.send(Request::get("/good").header("host", HOST), nothing()).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!origin.heard().contains("bad"));
    let mut other = world.client2("plc2.devices.example.net").await;
    assert_eq!(other.get("/").await.0, StatusCode::NOT_FOUND);
}
