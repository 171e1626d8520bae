//! Slow, silent and too many connections: nobody else notices.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::{Request, StatusCode};
use linkspan_protocol::message::ServiceKind;
use linkspan_server::edge::limits;
use linkspan_server::edge::listener::Drained;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::origin::Origin;
use crate::world::{CONSOLE, LONG, World, device, eventually, nothing};

const HOST: &str = "plc1.devices.example.net";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_slow_clients_are_sent_away_and_delay_nobody() {
    let world = World::start(vec![]).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        // No TLS; half a TLS greeting; TLS and then no request; half a request.
        silent.push(TcpStream::connect(world.at).await.unwrap());
        let mut half = TcpStream::connect(world.at).await.unwrap();
        half.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        silent.push(half);
    }
    let mut slow = Vec::new();
    for http2 in [false, true] {
        slow.push(world.tls(CONSOLE, http2).await);
        let mut half = world.tls(CONSOLE, http2).await;
        let start: &[u8] = if http2 { b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" } else { b"GET / HTTP/1.1\r\nHost:" };
        half.write_all(start).await.unwrap();
        slow.push(half);
    }
    for _ in 0..10 {
        let started = Instant::now();
        assert_eq!(world.client(CONSOLE).await.get("/").await.0, StatusCode::OK);
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    let patience = 3 * limits::REQUEST_HEAD + Duration::from_secs(5);
    let mut space = Vec::new();
    for mut socket in silent {
        let ended = timeout(patience, socket.read_to_end(&mut space)).await;
        assert!(ended.is_ok(), "a silent connection was kept");
    }
    for mut socket in slow {
        let ended = timeout(patience, socket.read_to_end(&mut space)).await;
        assert!(ended.is_ok(), "a slow connection was kept");
    }
    let text = String::from_utf8_lossy(&space);
    assert!(text.contains("HTTP/1.1 408 Request Timeout"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_house_is_full_newcomers_wait() {
    let world = World::start_with(vec![], 10, 3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(world.client(CONSOLE).await);
    }
    let mut waiting = TcpStream::connect(world.at).await.unwrap();
    waiting.write_all(b"\x16\x03\x01").await.unwrap();
    let mut byte = [0; 1];
    assert!(timeout(Duration::from_millis(300), waiting.read(&mut byte)).await.is_err());
    drop(waiting);
    held.truncate(2);
    let mut client = timeout(LONG, world.client(CONSOLE)).await.expect("room again");
    assert_eq!(client.get("/").await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_house_closes_in_time() {
    let origin = Origin::start(|mut visit| async move {
        visit.head().await;
        visit.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        visit.say("lf").await;
        visit.drain().await;
    });
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let _idle = (world.client(HOST).await, world.client2(HOST).await);
    let mut client = world.client(HOST).await;
    let running = client.send(Request::get("/"), nothing()).await;
    let (drained, answer) = tokio::join!(world.house.drain(LONG), crate::world::read(running));
    assert_eq!(drained, Drained::InTime);
    assert_eq!(answer.2, "half");
    assert!(
        TcpStream::connect(world.at).await.is_err() || client.try_send(Request::get("/"), nothing()).await.is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_end_is_cut_at_the_deadline() {
    let origin = Origin::start(|mut visit| async move {
        visit.head().await;
        visit.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nha").await;
        visit.drain().await;
    });
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let mut client = world.client(HOST).await;
    let _running = client.send(Request::get("/"), nothing()).await;
    let started = Instant::now();
    assert!(matches!(world.house.drain(Duration::from_millis(200)).await, Drained::Cut(1..)));
    assert!(started.elapsed() < Duration::from_secs(5));
    let link = world.link.clone();
    eventually("the stream ends", || link.open_streams() == 0).await;
}

/// The same binary with few descriptors: it runs out, pauses, and goes on when some are free again.
#[test]
fn out_of_descriptors_the_server_recovers() {
    let output = Command::new("prlimit")
        .arg("--nofile=64:64")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "connections::with_few_descriptors", "--ignored", "--nocapture"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[tokio::test]
#[ignore = "run by out_of_descriptors_the_server_recovers under a limit of 64 descriptors"]
async fn with_few_descriptors() {
    let stat = std::fs::File::open("/proc/self/stat").unwrap();
    let world = World::start(vec![]).await;
    let mut held = Vec::new();
    let error = loop {
        match TcpStream::connect(world.plain).await {
            Ok(socket) => held.push(socket),
            Err(error) => break error,
        }
        assert!(held.len() < 64, "no limit");
    };
    assert_eq!(error.raw_os_error(), Some(24), "{error}");
    // The kernel has taken connections that the server has no descriptor for; it must not spin on them.
    let before = cpu(&stat);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let spent = cpu(&stat) - before;
    assert!(spent < Duration::from_millis(500), "{spent:?} of processor time while out of descriptors");
    held.clear();
    let answered = timeout(LONG, async {
        // The server closes its own ends of the dropped connections one after the other.
        let mut socket = loop {
            match TcpStream::connect(world.plain).await {
                Ok(socket) => break socket,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        socket
            .write_all(format!("GET / HTTP/1.1\r\nHost: {CONSOLE}\r\nConnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    });
    assert!(answered.await.expect("an answer").starts_with("HTTP/1.1 308"));
}

/// Processor time of this process, from /proc/self/stat in ticks of 10 ms; opened while there are descriptors.
fn cpu(stat: &std::fs::File) -> Duration {
    let mut space = [0; 1024];
    let read = std::os::unix::fs::FileExt::read_at(stat, &mut space, 0).unwrap();
    let text = String::from_utf8_lossy(&space[..read]);
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_stops_is_answered_and_the_device_let_go() {
    let origin = Origin::always(OK);
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let mut tls = world.tls(HOST, false).await;
    let head =
        format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nLinkspan-Authorization: Bearer good\r\nContent-Length: 10\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    // Not a byte of the body has come: the device has not heard of the request.
    assert_eq!(origin.connections(), 0);
    drop(tls);
    let link = world.link.clone();
    eventually("nothing is left", || link.open_streams() == 0).await;
}
