//! Requests and answers through the whole path, with a device that does what it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_LENGTH, COOKIE, LOCATION, SET_COOKIE, TE};
use http::{HeaderMap, Request, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use linkspan_protocol::message::ServiceKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::origin::Origin;
use crate::world::{LONG, World, bytes, device, eventually, nothing, read};

const HOST: &str = "plc1.devices.example.net";

async fn world(origin: &Origin) -> World {
    World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at), ("cam", ServiceKind::Http, origin.at)])])
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_device_sees_an_ordinary_request() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=1; Domain=.devices.example.net\r\nLinkspan-Error: x\r\n\r\nok",
    );
    let world = world(&origin).await;
    let mut client = world.client(HOST).await;
    let request = Request::get("/a/../b?x=%2f&y=[1]")
        .header(COOKIE, "__Host-linkspan=good; sid=7")
        .header("X-Forwarded-For", "1.2.3.4")
        .header("X-Odd-CASE", "kept");
    let (status, headers, _) = read(client.send(request, nothing()).await).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[SET_COOKIE], "a=1; Secure");
    assert!(!headers.contains_key("linkspan-error"));
    let heard = origin.heard();
    assert!(heard.starts_with("GET /a/../b?x=%2f&y=[1] HTTP/1.1\r\n"), "{heard}");
    let lower = heard.to_lowercase();
    assert!(lower.contains(&format!("\r\nhost: {}\r\n", origin.at)), "{heard}");
    assert!(lower.contains("\r\ncookie: sid=7\r\n") && lower.contains("x-forwarded-proto: https"), "{heard}");
    for secret in ["linkspan", "good", "1.2.3.4"] {
        assert!(!lower.contains(secret), "{secret}: {heard}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_a_device_are_used_again_within_a_session_only() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let world = world(&origin).await;
    let mut client = world.client(HOST).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.0, StatusCode::OK);
        tokio::task::yield_now().await;
    }
    assert!(origin.connections() <= 2, "{}", origin.connections());
    let before = origin.connections();
    let other = Request::get("/").header("linkspan-authorization", "Bearer other");
    assert_eq!(client.send(other, nothing()).await.status(), StatusCode::OK);
    assert_eq!(origin.connections(), before + 1);
    let mut cam = world.client("plc1--cam.devices.example.net").await;
    assert_eq!(cam.get("/").await.0, StatusCode::OK);
    assert_eq!(origin.connections(), before + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_has_died_is_not_noticed_by_the_person() {
    let origin = Origin::start(|mut visit| async move {
        if visit.head().await.is_some() {
            visit.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
            // The next request is read, and the connection closed without a word.
            visit.head().await;
        }
    });
    let world = world(&origin).await;
    let mut client = world.client(HOST).await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await.0, StatusCode::OK);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(origin.heard().matches("GET").count() > 6, "no connection was used twice");
    // A request that changes something is not sent twice.
    let posts = origin.heard().matches("POST").count();
    let answer = client.send(Request::post("/"), nothing()).await.status();
    assert!(answer == StatusCode::OK || answer == StatusCode::BAD_GATEWAY);
    assert_eq!(origin.heard().matches("POST").count(), posts + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_all_kinds_arrive_as_they_are() {
    let origin = Origin::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            let path = head.split(' ').nth(1).unwrap().to_owned();
            let answer = match path.as_str() {
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
                "/206" => "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 1-3/9\r\nContent-Length: 3\r\n\r\nbcd",
                "/redirect" => "HTTP/1.1 302 Found\r\nLocation: http://ORIGIN/there\r\nContent-Length: 0\r\n\r\n",
                "/lenient" => {
                    "HTTP/1.1 200\r\nX-Spaced : 1\r\nFolded: a\r\n b\r\nB\u{1}d: x\r\nContent-Length: 2\r\n\r\nok"
                }
                "/1.0" => "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end",
                _ => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            };
            let at = visit.socket.local_addr().unwrap().to_string();
            visit.say(&answer.replace("ORIGIN", &at)).await;
            if path == "/1.0" {
                return;
            }
        }
    });
    let world = world(&origin).await;
    for mut client in [world.client(HOST).await, world.client2(HOST).await] {
        let head = client.send(Request::head("/head"), nothing()).await;
        assert_eq!(head.headers()[CONTENT_LENGTH], "12345");
        assert_eq!(client.get("/304").await.0, StatusCode::NOT_MODIFIED);
        assert_eq!(client.get("/204").await.0, StatusCode::NO_CONTENT);
        assert_eq!(client.get("/chunked").await.2, "abcdef");
        let (status, headers, body) = client.get("/206").await;
        assert_eq!(
            (status, &headers["content-range"], body.as_str()),
            (StatusCode::PARTIAL_CONTENT, &"bytes 1-3/9".parse().unwrap(), "bcd")
        );
        assert_eq!(client.get("/redirect").await.1[LOCATION], format!("https://{HOST}/there"));
        let (status, headers, body) = client.get("/lenient").await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "ok"));
        assert_eq!(headers["x-spaced"], "1");
        assert_eq!(client.get("/1.0").await.2, "until the end");
        assert_eq!(client.get("/missing").await.0, StatusCode::NOT_FOUND);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_answer_is_not_taken_for_a_whole_one() {
    let origin = Origin::start(|mut visit| async move {
        let Some(head) = visit.head().await else { return };
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
        let length = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
        visit.say(if head.contains("chunked") { chunked } else { length }).await;
    });
    let world = world(&origin).await;
    for path in ["/chunked", "/length"] {
        for mut client in [world.client(HOST).await, world.client2(HOST).await] {
            let response = client.send(Request::get(path), nothing()).await;
            assert_eq!(response.status(), StatusCode::OK);
            let body = timeout(LONG, response.into_body().collect()).await.unwrap();
            assert!(body.is_err(), "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_announced_with_expect_waits_for_the_device() {
    let origin = Origin::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            match head.split(' ').nth(1).unwrap() {
                "/yes" => {
                    let mut early = [0; 1];
                    assert!(timeout(Duration::from_millis(200), visit.socket.peek(&mut early)).await.is_err());
                    visit.say("HTTP/1.1 100 Continue\r\n\r\n").await;
                    assert_eq!(visit.until(b"hello").await.as_deref(), Some("hello"));
                    visit.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes").await;
                }
                "/no" => visit.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno").await,
                _ => {
                    // Knows nothing of 100: just waits.
                    assert_eq!(visit.until(b"hello").await.as_deref(), Some("hello"));
                    visit.say("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nold").await;
                }
            }
        }
    });
    let world = world(&origin).await;
    for (path, expected) in [("/yes", "yes"), ("/no", "no"), ("/old", "old")] {
        let mut tls = world.tls(HOST, false).await;
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: {HOST}\r\nLinkspan-Authorization: Bearer good\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        );
        tls.write_all(head.as_bytes()).await.unwrap();
        let mut heard = String::new();
        if expected != "no" {
            let mut line = vec![0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
            timeout(LONG, tls.read_exact(&mut line)).await.unwrap().unwrap();
            assert_eq!(String::from_utf8_lossy(&line), "HTTP/1.1 100 Continue\r\n\r\n");
            tls.write_all(b"hello").await.unwrap();
        }
        while !heard.ends_with(expected) {
            let mut space = [0; 1024];
            let read = timeout(LONG, tls.read(&mut space)).await.unwrap().unwrap();
            assert!(read > 0, "{path}: {heard}");
            heard.push_str(&String::from_utf8_lossy(&space[..read]));
        }
        assert!(!heard.contains("100 Continue"), "{heard}");
    }
    assert_eq!(origin.heard().to_lowercase().matches("expect: 100-continue").count(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_go_both_ways() {
    let origin = Origin::start(|mut visit| async move {
        visit.head().await;
        let body = visit.until(b"\r\n\r\n").await.unwrap();
        assert!(body.to_lowercase().contains("x-sum: 42") && !body.to_lowercase().contains("content-length"), "{body}");
        visit.say("HTTP/1.1 200 OK\r\nTrailer: x-back\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Back: 7\r\nTransfer-Encoding: x\r\n\r\n").await;
    });
    let world = world(&origin).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "42".parse().unwrap());
    let frames = [Ok(Frame::data(Bytes::from("hello"))), Ok(Frame::trailers(trailers))];
    let body = BodyExt::boxed(StreamBody::new(stream::iter(frames)));
    let request = Request::post("/").header("trailer", "x-sum").header(TE, "trailers");
    let mut client = world.client(HOST).await;
    let response = client.send(request, body).await;
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    assert_eq!(trailers.get("x-back").map(|value| value.as_bytes()), Some(&b"7"[..]));
    assert!(!trailers.contains_key("transfer-encoding"));
    assert_eq!(collected.to_bytes(), "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_arrives_while_the_upload_still_runs() {
    let origin = Origin::start(|mut visit| async move {
        visit.head().await;
        visit.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 7\r\nConnection: close\r\n\r\ntoo big").await;
        std::future::pending::<()>().await;
    });
    let world = world(&origin).await;
    for mut client in [world.client(HOST).await, world.client2(HOST).await] {
        let endless = stream::unfold((), |()| async { Some((Ok(Frame::data(Bytes::from(vec![0; 16 * 1024]))), ())) });
        let body = BodyExt::boxed(StreamBody::new(endless));
        let response = client.send(Request::post("/"), body).await;
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let mut body = response.into_body();
        let first = timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "too big");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_flows_in_constant_memory() {
    const SIZE: u64 = 256 * 1024 * 1024;
    let origin = Origin::start(|mut visit| async move {
        visit.head().await;
        assert_eq!(visit.count(SIZE).await, SIZE);
        visit.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    });
    let world = world(&origin).await;
    let mut client = world.client(HOST).await;
    let before = resident();
    let piece = Bytes::from(vec![7; 128 * 1024]);
    let pieces = (0..SIZE / piece.len() as u64).map(move |_| Ok(Frame::data(piece.clone())));
    let request = Request::post("/").header(CONTENT_LENGTH, SIZE);
    let (status, _, body) =
        read(client.send(request, BodyExt::boxed(StreamBody::new(stream::iter(pieces)))).await).await;
    assert_eq!((status, body.as_str()), (StatusCode::OK, "ok"));
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_arrive_one_by_one_and_the_device_hears_when_nobody_listens() {
    let (go, gone) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (going, noted) = (Arc::clone(&go), Arc::clone(&gone));
    let origin = Origin::start(move |mut visit| {
        let (go, gone) = (Arc::clone(&going), Arc::clone(&noted));
        async move {
            visit.head().await;
            visit.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n").await;
            go.notified().await;
            visit.say("data: 2\n\n").await;
            visit.drain().await;
            gone.store(true, Ordering::SeqCst);
        }
    });
    let world = world(&origin).await;
    for http2 in [false, true] {
        let mut client = if http2 { world.client2(HOST).await } else { world.client(HOST).await };
        let mut body = client.send(Request::get("/events"), nothing()).await.into_body();
        for expected in ["data: 1\n\n", "data: 2\n\n"] {
            let event = timeout(LONG, body.frame()).await.unwrap().unwrap().unwrap();
            assert_eq!(event.into_data().unwrap(), expected);
            if expected == "data: 1\n\n" {
                go.notify_one();
            }
        }
        drop((body, client));
        eventually("the device hears of the end", || gone.swap(false, Ordering::SeqCst)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_slow_reader_does_not_delay_another() {
    let origin = Origin::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            if head.contains("/big") {
                visit.say("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n").await;
                let piece = vec![b'x'; 100_000];
                for _ in 0..1000 {
                    if visit.socket.write_all(&piece).await.is_err() {
                        return;
                    }
                }
            }
            visit.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let world = world(&origin).await;
    let mut stuck = Vec::new();
    for _ in 0..10 {
        let mut client = world.client(HOST).await;
        stuck.push((client.send(Request::get("/big"), nothing()).await, client));
    }
    let mut client = world.client(HOST).await;
    let started = Instant::now();
    for _ in 0..20 {
        assert_eq!(client.get("/small").await.0, StatusCode::OK);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunked_upload_stays_chunked_and_a_counted_one_counted() {
    let origin = Origin::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            let end: &[u8] = if head.to_lowercase().contains("chunked") { b"0\r\n\r\n" } else { b"hello" };
            visit.until(end).await;
            visit.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        }
    });
    let world = world(&origin).await;
    let mut client = world.client(HOST).await;
    assert_eq!(read(client.send(Request::post("/"), bytes("hello")).await).await.0, StatusCode::OK);
    assert!(origin.heard().to_lowercase().contains("content-length: 5"), "{}", origin.heard());
    let chunked = BodyExt::boxed(StreamBody::new(stream::iter([Ok(Frame::data(Bytes::from("hello")))])));
    assert_eq!(client.send(Request::put("/"), chunked).await.status(), StatusCode::OK);
    assert!(origin.heard().to_lowercase().contains("transfer-encoding: chunked"), "{}", origin.heard());
}
