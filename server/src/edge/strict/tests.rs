use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// All bytes at once: how many went on, and the refusal if there was one.
fn run(bytes: &[u8]) -> (usize, Option<Refusal>) {
    let (mut framing, mut released) = (Framing::default(), 0);
    loop {
        if framing.phase(bytes.len() - released) == Phase::Switching {
            return (released, None);
        }
        match framing.advance(&bytes[released..]) {
            Ok(0) => return (released, None),
            Ok(more) => released += more,
            Err(refusal) => return (released, Some(refusal)),
        }
    }
}

/// The same one byte after the other.
fn run_slowly(bytes: &[u8]) -> (usize, Option<Refusal>) {
    let (mut framing, mut released) = (Framing::default(), 0);
    for end in 1..=bytes.len() {
        loop {
            if released == end || framing.phase(end - released) == Phase::Switching {
                break;
            }
            match framing.advance(&bytes[released..end]) {
                Ok(0) => break,
                Ok(more) => released += more,
                Err(refusal) => return (released, Some(refusal)),
            }
        }
    }
    (released, None)
}

fn passes(request: &str) {
    assert_eq!(run(request.as_bytes()), (request.len(), None), "{request:?}");
    assert_eq!(run_slowly(request.as_bytes()), (request.len(), None), "{request:?}");
}

fn refused(request: &[u8], status: u16) {
    for (released, refusal) in [run(request), run_slowly(request)] {
        let text = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        assert_eq!(refusal.map(|refusal| refusal.status().0), Some(status), "{text:?}");
        assert_eq!(released, 0, "{text:?}");
    }
}

#[test]
fn proper_requests_pass() {
    passes("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    passes("\r\nGET /?a={b}|c HTTP/1.0\r\nHost: a\r\n\r\n");
    passes("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    passes("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
    passes("POST / HTTP/1.1\r\nhOST:a\r\nCONTENT-length:   005\t \r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    passes(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
    );
    passes(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    passes("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=\u{fc}; b=\t1\r\nEmpty:\r\n\r\n");
}

#[expect(clippy::too_many_lines, reason = "a long list of cases")]
#[test]
fn a_refused_request_does_not_pass_by_a_single_byte() {
    for bad in [
        "GET /\r\n",
        "GET / \r\nHost: a\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET / http/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1x\r\nHost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{fc} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\rHost: a\r\r",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: \t\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\tz\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: y\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX(y): z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\u{fc}: z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\u{1}z\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\u{7f}z\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551621\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1e1\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\x0bchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n",
        "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\n",
        "\0",
        "HTTP/1.1 200 OK\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\x7c\n",
    ] {
        refused(bad.as_bytes(), 400);
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0"] {
        let request = format!("GET / {version}\r\nHost: a\r\n\r\n");
        let expected = if version.starts_with("HTTP/1.") || version.contains('.') { 505 } else { 400 };
        refused(request.as_bytes(), expected);
    }
}

#[test]
fn large_heads_are_refused() {
    let many: String = (0..101).map(|line| format!("X-{line}: y\r\n")).collect();
    refused(format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes(), 431);
    refused(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(40_000)).as_bytes(), 431);
    refused(format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(40_000)).as_bytes(), 431);
    refused("A".repeat(40_000).as_bytes(), 431);
}

#[test]
fn bad_chunks_end_the_body() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("5;{}", "x".repeat(300));
    for bad in [
        "x\r\n",
        "\r\n",
        "-1\r\n",
        "+5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5 \r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5\nhello\n",
        "5\rhello",
        "5;a\nb\r\nhello\r\n",
        "5;a\0\r\n",
        "fffffffffffffffff\r\n",
        "10000000000000000\r\n",
        "5\r\nhellox\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n",
        "5\r\nhello0\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\n\n",
        &long,
    ] {
        let request = format!("{head}{bad}");
        for (released, refusal) in [run(request.as_bytes()), run_slowly(request.as_bytes())] {
            assert!(refusal.is_some(), "{bad:?}");
            assert!(released >= head.len() && released < request.len(), "{bad:?}");
        }
    }
}

#[test]
fn nothing_passes_behind_an_upgrade_until_it_is_answered() {
    let head = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let bytes = format!("{head}GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut framing = Framing::default();
    assert_eq!(framing.advance(bytes.as_bytes()), Ok(head.len()));
    let rest = &bytes.as_bytes()[head.len()..];
    assert_eq!(framing.advance(rest), Ok(0));
    framing.switched(false);
    assert_eq!(framing.advance(rest), Ok(rest.len()));
    assert_eq!(framing.requests(), 2);
    let mut framing = Framing::default();
    assert_eq!(framing.advance(bytes.as_bytes()), Ok(head.len()));
    framing.switched(true);
    assert_eq!(framing.advance(b"\0\n\xff"), Ok(3));
}

/// Random bytes, and proper requests with random changes: never a panic, and slowly is the same as at once.
#[test]
fn any_input_is_read_alike_at_once_and_slowly() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x1234_5678_9abc_def1_u64);
    let mut random = seed;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let words = [
        "GET ",
        "POST ",
        "/",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\r",
        "\n",
        "Host: a",
        "Content-Length: 3",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        ":",
        " ",
        "\t",
        "\0",
        "X: y",
        "Upgrade: x",
        ";",
        "ff",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    for _ in 0..20_000 {
        let mut bytes = Vec::new();
        for _ in 0..next() % 12 {
            match next() % 8 {
                0 => bytes.push((next() % 256) as u8),
                _ => bytes.extend_from_slice(words[(next() % words.len() as u64) as usize].as_bytes()),
            }
        }
        let (at_once, slowly) = (run(&bytes), run_slowly(&bytes));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert_eq!(at_once.1, slowly.1, "seed {seed}: {text:?}");
        assert_eq!(at_once.0, slowly.0, "seed {seed}: {text:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_head_is_answered_with_408() {
    let (mut client, server) = tokio::io::duplex(4096);
    let mut guard = Guard::new(server, Turns::default());
    client.write_all(b"GET / HTTP/1.1\r\nHo").await.unwrap();
    let mut heard = Vec::new();
    let started = Instant::now();
    guard.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"");
    assert!(started.elapsed() <= limits::REQUEST_HEAD + Duration::from_secs(1));
    let (shut, read) = tokio::join!(guard.shutdown(), async {
        let mut answer = [0; 20];
        client.read_exact(&mut answer).await.map(|_| answer)
    });
    shut.unwrap();
    assert_eq!(read.unwrap(), *b"HTTP/1.1 408 Request");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_an_error_and_one_that_trickles_is_not() {
    let (mut client, server) = tokio::io::duplex(4096);
    let turns = Turns::default();
    let mut guard = Guard::new(server, turns);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n";
    client.write_all(head).await.unwrap();
    let mut space = vec![0; head.len()];
    guard.read_exact(&mut space).await.unwrap();
    for _ in 0..3 {
        let writing = async {
            tokio::time::sleep(limits::BODY_SILENCE - Duration::from_secs(1)).await;
            client.write_all(b"x").await
        };
        let (read, written) = tokio::join!(guard.read_u8(), writing);
        assert_eq!(read.unwrap(), b'x');
        written.unwrap();
    }
    let error = guard.read_u8().await.unwrap_err();
    assert_eq!(error.get_ref().unwrap().downcast_ref::<Refusal>(), Some(&Refusal::Timeout));
}
