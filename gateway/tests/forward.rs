//! Streams from a server through a gateway to sockets on this machine, and every way they end.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod support;

use std::io;
use std::time::Duration;

use linkspan_gateway::Command;
use linkspan_protocol::driver::{LinkEnd, Reset, ResetReason, Stream, reset_of};
use linkspan_protocol::message::{CloseReason, DeviceRefused, ServerToGateway};
use support::{DEADLINE, Gateway, Server, ServerLink, Site, device, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn connected(devices: &str) -> (Server, Gateway, ServerLink) {
    let server = Server::new().await;
    let gateway = Site::for_server(&server, devices).start();
    let link = server.accept().await;
    (server, gateway, link)
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work).await.expect("in time")
}

async fn listen(at: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(at).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    in_time(listener.accept()).await.unwrap().0
}

async fn reset(stream: &mut Stream) -> Reset {
    in_time(stream.opened()).await.expect_err("a reset")
}

fn reset_in(result: io::Result<usize>) -> Reset {
    let error = result.expect_err("a reset");
    reset_of(&error).unwrap_or_else(|| panic!("a reset inside {error}")).clone()
}

#[tokio::test]
async fn bytes_go_both_ways_to_every_kind_of_host() {
    for (host, at) in [("127.0.0.1", "127.0.0.1:0"), ("::1", "[::1]:0"), ("localhost", "127.0.0.1:0")] {
        let (listener, port) = listen(at).await;
        let (_server, gateway, link) = connected(&device("plc1", host, port)).await;
        let mut stream = link.open("plc1");
        // Data may follow the open at once.
        stream.write_all(b"question").await.unwrap();
        let mut plc = accept(&listener).await;
        in_time(stream.opened()).await.unwrap();
        let mut question = [0; 8];
        in_time(plc.read_exact(&mut question)).await.unwrap();
        assert_eq!(&question, b"question");
        // Half-close: the device answers after the end of the question.
        stream.shutdown().await.unwrap();
        assert_eq!(in_time(plc.read(&mut question)).await.unwrap(), 0);
        plc.write_all(&vec![7; 300_000]).await.unwrap();
        drop(plc);
        let mut answer = Vec::new();
        in_time(stream.read_to_end(&mut answer)).await.unwrap();
        assert_eq!(answer.len(), 300_000, "{host}");
        let done = gateway.site.eventually("counted", |s| s.streams.open == 0).await;
        assert_eq!((done.streams.bytes_up, done.streams.bytes_down), (300_000, 8));
        assert_eq!(done.devices[0].services[0].last_error, None);
        assert!(done.devices[0].services[0].last_ago_s.is_some());
        gateway.stop().await;
    }
}

#[tokio::test]
async fn only_what_is_listed_can_be_opened() {
    let (_listener, port) = listen("127.0.0.1:0").await;
    let (_server, gateway, link) = connected(&device("plc1", "127.0.0.1", port)).await;
    assert_eq!(reset(&mut link.open("plc2")).await.reason, ResetReason::NotListed);
    in_time(link.open("plc1").opened()).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn each_failure_has_its_reason() {
    let (closed, closed_port) = listen("127.0.0.1:0").await;
    drop(closed);
    // Nobody accepts: once the queue is full, the next connection gets no answer.
    let silent = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    silent.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    silent.listen(0).unwrap();
    let silent_port = silent.local_addr().unwrap().as_socket().unwrap().port();
    let _fill = std::net::TcpStream::connect(("127.0.0.1", silent_port)).unwrap();
    let devices = [
        device("closed", "127.0.0.1", closed_port),
        device("silent", "127.0.0.1", silent_port),
        device("nameless", "no-such-host.invalid", 80),
        // Multicast cannot be connected to.
        device("nowhere", "224.0.0.1", 80),
    ];
    let (_server, gateway, link) = connected(&devices.concat()).await;
    let refused = reset(&mut link.open("closed")).await;
    assert_eq!(
        refused,
        Reset::new(ResetReason::Refused, format!("127.0.0.1 port {closed_port} refused the connection"))
    );
    let late = reset(&mut link.open_within("silent", Duration::from_millis(200))).await;
    assert_eq!(late.reason, ResetReason::TimedOut, "{late}");
    assert_eq!(reset(&mut link.open("nameless")).await.reason, ResetReason::NameNotFound);
    assert_eq!(reset(&mut link.open("nowhere")).await.reason, ResetReason::Unreachable);
    let told = gateway.site.eventually("all told", |s| s.devices[3].services[0].last_error.is_some()).await;
    assert!(told.devices[0].services[0].last_error.as_ref().unwrap().contains("refused the connection"));
    gateway.stop().await;
}

#[tokio::test]
async fn a_device_that_cuts_the_connection_is_told_from_one_that_ends_it() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let (_server, gateway, link) = connected(&device("plc1", "127.0.0.1", port)).await;
    let mut stream = link.open("plc1");
    let plc = accept(&listener).await;
    in_time(stream.opened()).await.unwrap();
    plc.set_zero_linger().unwrap();
    drop(plc);
    let cut = reset_in(in_time(stream.read(&mut [0; 8])).await);
    assert_eq!(cut.reason, ResetReason::DeviceReset, "{cut}");
    gateway.stop().await;
}

#[tokio::test]
async fn an_early_answer_is_not_lost_to_the_reset_that_follows_it() {
    for size in [100, 100_000] {
        let (listener, port) = listen("127.0.0.1:0").await;
        let (_server, gateway, link) = connected(&device("camera", "127.0.0.1", port)).await;
        let mut stream = link.open("camera");
        stream.write_all(&[1; 10_000]).await.unwrap();
        let mut camera = accept(&listener).await;
        // It answers without reading the upload, and hangs up: the kernel resets, since bytes were left unread.
        camera.write_all(&vec![9; size]).await.unwrap();
        camera.shutdown().await.unwrap();
        assert_eq!(in_time(camera.peek(&mut [0])).await.unwrap(), 1);
        drop(camera);
        let (mut read, mut write) = tokio::io::split(stream);
        let upload = async {
            while write.write_all(&[1; 10_000]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let mut answer = Vec::new();
        let download = async { in_time(read.read_to_end(&mut answer)).await };
        tokio::select! {
            ended = download => drop(ended.unwrap()),
            () = upload => panic!("the stream was reset before its answer was read"),
        }
        assert_eq!(answer.len(), size);
        drop((read, write));
        gateway.stop().await;
    }
}

#[tokio::test]
async fn an_answer_arrives_before_the_reset_that_a_careless_device_sends_behind_it() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let (_server, gateway, link) = connected(&device("camera", "127.0.0.1", port)).await;
    for size in [10, 50_000] {
        let mut stream = link.open("camera");
        stream.write_all(b"request").await.unwrap();
        let mut camera = accept(&listener).await;
        assert_eq!(in_time(camera.peek(&mut [0])).await.unwrap(), 1);
        camera.write_all(&vec![9; size]).await.unwrap();
        // The request was not read: the kernel resets instead of an orderly end.
        drop(camera);
        let mut answer = vec![0; size];
        in_time(stream.read_exact(&mut answer)).await.unwrap();
        let cut = reset_in(in_time(stream.read(&mut [0; 8])).await);
        assert_eq!(cut.reason, ResetReason::DeviceReset, "{cut}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn an_answer_with_a_hole_in_it_never_looks_whole() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let (_server, gateway, link) = connected(&device("camera", "127.0.0.1", port)).await;
    let mut stream = link.open("camera");
    let mut camera = accept(&listener).await;
    in_time(stream.opened()).await.unwrap();
    // More than the credit of the stream: some of it waits in the gateway when the camera cuts the connection.
    let picture: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_be_bytes).take(4_000_000).collect();
    let sent = tokio::time::timeout(Duration::from_millis(300), camera.write_all(&picture)).await;
    drop((sent, camera));
    let mut written = 0;
    while written < 10_000_000 && stream.write_all(&[1; 10_000]).await.is_ok() {
        written += 10_000;
    }
    let mut answer = Vec::new();
    let end = in_time(stream.read_to_end(&mut answer)).await;
    assert!(picture.starts_with(&answer), "what came is what was sent, in its order");
    assert!(end.is_err() || answer.len() == picture.len(), "{} bytes with an orderly end", answer.len());
    gateway.stop().await;
}

#[tokio::test]
async fn a_person_who_gives_up_resets_the_device() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let (_server, gateway, link) = connected(&device("plc1", "127.0.0.1", port)).await;
    let mut stream = link.open("plc1");
    let mut plc = accept(&listener).await;
    in_time(stream.opened()).await.unwrap();
    stream.reset(ResetReason::Cancelled, "gone");
    let seen = in_time(plc.read(&mut [0; 8])).await.expect_err("a reset, not an orderly end");
    assert_eq!(seen.kind(), io::ErrorKind::ConnectionReset);
    gateway.stop().await;
}

#[tokio::test]
async fn a_silent_connection_ends_if_the_owner_says_so() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let devices = format!("[limits]\nidle_timeout = \"1s\"\n{}", device("plc1", "127.0.0.1", port));
    let (_server, gateway, link) = connected(&devices).await;
    let mut stream = link.open("plc1");
    let _plc = accept(&listener).await;
    let idle = reset_in(in_time(stream.read(&mut [0; 8])).await);
    assert_eq!(idle.reason, ResetReason::Idle);
    gateway.stop().await;
}

#[tokio::test]
async fn a_reload_ends_only_what_is_no_longer_listed() {
    let (first, first_port) = listen("127.0.0.1:0").await;
    let (second, second_port) = listen("127.0.0.1:0").await;
    let (third, third_port) = listen("127.0.0.1:0").await;
    let devices = [device("a", "127.0.0.1", first_port), device("b", "127.0.0.1", second_port)];
    let moved = device("c", "127.0.0.1", third_port);
    let (server, gateway, link) = connected(&(devices.concat() + &moved)).await;
    let names = |devices: Vec<linkspan_protocol::message::DeviceReport>| -> Vec<String> {
        devices.iter().map(|device| device.name.to_string()).collect()
    };
    assert_eq!(names(link.devices().await), ["a", "b", "c"]);
    let (mut a, mut b, mut c) = (link.open("a"), link.open("b"), link.open("c"));
    let (mut a_far, _b_far, _c_far) = (accept(&first).await, accept(&second).await, accept(&third).await);

    // A file that cannot be used changes nothing.
    gateway.site.configure(&server, "ca_file = \"ca.pem\"", "[[device]]\nname = \"BAD\"\n");
    gateway.reload().await;
    let bad = gateway.site.eventually("problems", |s| !s.config_problems.is_empty()).await;
    assert_eq!(bad.devices.len(), 3, "the last good one stays: {:?}", bad.config_problems);

    let moved = device("c", "127.0.0.1", first_port);
    gateway.site.configure(&server, "ca_file = \"ca.pem\"", &(devices[0].clone() + &moved));
    gateway.reload().await;
    assert_eq!(names(link.devices().await), ["a", "c"]);
    assert_eq!(reset_in(in_time(b.read(&mut [0; 8])).await).reason, ResetReason::NotListed);
    assert_eq!(reset_in(in_time(c.read(&mut [0; 8])).await).reason, ResetReason::NotListed, "it is elsewhere now");
    a.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    in_time(a_far.read_exact(&mut heard)).await.unwrap();
    assert_eq!(gateway.site.eventually("good", |s| s.config_problems.is_empty()).await.link.reconnects, 0);

    // Another identity: another link.
    gateway.site.write("secret", "new-secret");
    gateway.reload().await;
    let LinkEnd::Closed(close) = link.end().await else { panic!("a reason") };
    assert_eq!(close.reason, CloseReason::Restarting);
    assert_eq!(server.accept().await.hello.secret.unwrap().expose(), "new-secret");
    gateway.stop().await;
}

#[tokio::test]
async fn devices_that_the_server_does_not_publish_are_told() {
    let (_server, gateway, link) = connected(&device("plc1", "127.0.0.1", 1)).await;
    let reported = link.devices().await;
    assert_eq!((reported[0].services[0].host.as_str(), reported[0].services[0].port), ("127.0.0.1", 1));
    let refused = DeviceRefused { name: "plc1".parse().unwrap(), reason: "the name is taken\n".into() };
    link.handle.send(&serde_json::json!({"type": "tomorrow", "x": 1})).unwrap();
    let of_others = DeviceRefused { name: "cam9".parse().unwrap(), reason: "not ours".into() };
    link.handle.send(&ServerToGateway::DevicesTaken { refused: vec![of_others, refused] }).unwrap();
    let told = gateway.site.eventually("refused", |s| s.devices[0].refused.is_some()).await;
    assert_eq!(told.devices[0].refused.as_deref(), Some("the name is taken"));
    gateway.stop().await;
}

#[tokio::test]
async fn stopping_lets_open_connections_end() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let (_server, gateway, link) = connected(&device("plc1", "127.0.0.1", port)).await;
    let mut stream = link.open("plc1");
    let mut plc = accept(&listener).await;
    in_time(stream.opened()).await.unwrap();
    gateway.commands.send(Command::Stop).await.unwrap();
    eventually("new connections are refused", async || {
        let refused = link.open("plc1").opened().await.err()?;
        (refused.reason == ResetReason::Stopping).then_some(())
    })
    .await;
    stream.write_all(b"last").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = String::new();
    in_time(plc.read_to_string(&mut heard)).await.unwrap();
    assert_eq!(heard, "last");
    drop(plc);
    assert_eq!(in_time(stream.read(&mut [0; 8])).await.unwrap(), 0);
    let LinkEnd::Closed(close) = link.end().await else { panic!("a reason") };
    assert_eq!(close.reason, CloseReason::Stopping);
    in_time(gateway.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let devices = format!("[limits]\ndrain = \"100ms\"\n{}", device("plc1", "127.0.0.1", port));
    let (_server, gateway, link) = connected(&devices).await;
    let mut stream = link.open("plc1");
    let mut plc = accept(&listener).await;
    in_time(stream.opened()).await.unwrap();
    gateway.stop().await;
    assert!(in_time(stream.read(&mut [0; 8])).await.is_err(), "an end that was not orderly");
    assert!(!matches!(in_time(plc.read(&mut [0; 8])).await, Ok(1..)));
}

#[tokio::test]
async fn many_streams_at_once_up_to_the_limit() {
    let (listener, port) = listen("127.0.0.1:0").await;
    let devices = format!("[limits]\nmax_streams = 40\n{}", device("plc1", "127.0.0.1", port));
    let (_server, gateway, link) = connected(&devices).await;
    assert_eq!(link.hello.max_streams, 40);
    let mut open = Vec::new();
    for n in 0..40_u8 {
        let mut stream = link.open("plc1");
        stream.write_all(&[n]).await.unwrap();
        open.push((stream, accept(&listener).await));
    }
    for (stream, far) in &mut open {
        let n = in_time(far.read_u8()).await.unwrap();
        far.write_all(&[n]).await.unwrap();
        assert_eq!(in_time(stream.read_u8()).await.unwrap(), n);
    }
    let told = gateway.site.eventually("40 open", |s| s.streams.open == 40).await;
    assert_eq!(told.devices[0].services[0].open, 40);
    drop(open);
    gateway.site.eventually("all ended", |s| s.streams.open == 0).await;
    gateway.stop().await;
}

#[cfg(feature = "compress")]
mod packed {
    use linkspan_protocol::pack::Packed;

    use super::*;

    #[tokio::test]
    async fn packed_is_what_the_server_asks_for_packed_and_nothing_else() {
        let (listener, port) = listen("127.0.0.1:0").await;
        let devices = device("plc1", "127.0.0.1", port) + "compress = true\n";
        let (_server, gateway, link) = connected(&devices).await;
        assert!(link.devices().await[0].services[0].compress, "so that the server knows");
        let text = b"the same again and again ".repeat(10_000);
        // An older server does not know of it, and asks for nothing.
        let mut plain = link.open("plc1");
        let mut plc = accept(&listener).await;
        plain.write_all(b"plain").await.unwrap();
        let mut heard = vec![0; 5];
        in_time(plc.read_exact(&mut heard)).await.unwrap();
        assert_eq!(heard, b"plain");
        drop((plain, plc));

        let mut stream = Packed::new(link.open_packed("plc1"));
        let mut plc = accept(&listener).await;
        let both = async {
            stream.write_all(&text).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let (_, read) = in_time(async { tokio::join!(both, plc.read_to_end(&mut heard)) }).await;
        assert!(read.unwrap() == text.len() && heard == text);
        // The end of the answer comes whole, with what was packed before it.
        let mut answer = Vec::new();
        let said = async {
            plc.write_all(&text).await.unwrap();
            drop(plc);
        };
        let (_, read) = in_time(async { tokio::join!(said, stream.read_to_end(&mut answer)) }).await;
        assert!(read.unwrap() == text.len() && answer == text);
        let (came, went) = stream.passed();
        assert!(came < text.len() as u64 / 20 && went < text.len() as u64 / 20, "{came} and {went}");
        gateway.stop().await;
    }

    #[tokio::test]
    async fn what_cannot_be_unpacked_ends_the_stream_and_the_devices_connection() {
        let (listener, port) = listen("127.0.0.1:0").await;
        let (_server, gateway, link) = connected(&device("plc1", "127.0.0.1", port)).await;
        let mut stream = link.open_packed("plc1");
        let mut plc = accept(&listener).await;
        stream.write_all(b"\x80\x04hostile bytes").await.unwrap();
        let mut space = [0; 16];
        let why = reset_in(in_time(stream.read(&mut space)).await);
        assert_eq!((why.reason, why.text.contains("unpacked")), (ResetReason::Internal, true), "{why}");
        assert!(in_time(plc.read(&mut space)).await.is_err(), "no orderly end");
        assert_eq!(link.handle.open_streams(), 1, "the link stays");
        gateway.stop().await;
    }
}
