//! Two drivers over a pipe in memory: streams as sockets, the end of a link, the handshake.
#![cfg(feature = "io")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the clock of a test begins at some time")]

mod pair;

use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use linkspan_protocol::driver::{
    Driver, LinkEnd, LinkHandle, OpenError, Reset, ResetReason, Role, Settings, link, reset_of, websocket_config,
};
use linkspan_protocol::frame::{Frame, StreamId};
use linkspan_protocol::handshake::{HandshakeError, await_hello, greet, refuse, welcome};
use linkspan_protocol::limits::{CLOSE_DEADLINE, HANDSHAKE_DEADLINE, PING_AFTER, PING_DEADLINE, SEND_QUEUE_MAX};
use linkspan_protocol::message::{Close, CloseReason, GatewayToServer, Hello, Refused, RefusedReason, Welcome};
use linkspan_protocol::pipe::{PipeReason, pipe};
use linkspan_protocol::session::SessionError;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex, split};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as WsRole;

use crate::pair::{Random, target};

type Socket = WebSocketStream<DuplexStream>;

/// A WebSocket in memory: the gateway's end, the server's end.
async fn sockets(buffer: usize) -> (Socket, Socket) {
    let (gateway, server) = duplex(buffer);
    (
        WebSocketStream::from_raw_socket(gateway, WsRole::Client, Some(websocket_config())).await,
        WebSocketStream::from_raw_socket(server, WsRole::Server, Some(websocket_config())).await,
    )
}

struct Link {
    server: LinkHandle,
    gateway: LinkHandle,
    server_end: tokio::task::JoinHandle<LinkEnd>,
    gateway_end: tokio::task::JoinHandle<LinkEnd>,
}

#[expect(clippy::disallowed_methods, reason = "each test looks at the end of what it starts")]
fn run<W: linkspan_protocol::websocket::WebSocket + Send + 'static>(
    driver: Driver<W>,
) -> tokio::task::JoinHandle<LinkEnd> {
    tokio::spawn(driver.run())
}

fn settings() -> Settings {
    Settings { receive_window: 64 * 1024, send_window: 64 * 1024, max_streams: 256, ..Settings::default() }
}

async fn linked(buffer: usize) -> Link {
    let (gateway, server) = sockets(buffer).await;
    let (gateway, gateway_driver) = link(gateway, Role::Gateway, settings(), PING_AFTER);
    let (server, server_driver) = link(server, Role::Server, settings(), PING_AFTER + PING_DEADLINE);
    Link { server, gateway, server_end: run(server_driver), gateway_end: run(gateway_driver) }
}

/// Fails the test rather than hang. Tests with paused time get there at once.
async fn soon<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(120), future).await.expect("this took too long")
}

/// A gateway whose every device sends back what it is sent, until the link ends.
async fn echo(gateway: LinkHandle) {
    let mut tasks = JoinSet::new();
    while let Some(mut incoming) = gateway.accept().await {
        tasks.spawn(async move {
            incoming.stream.confirm();
            let (mut from, mut to) = split(incoming.stream);
            let mut buffer = vec![0; 5000];
            while let Ok(len @ 1..) = from.read(&mut buffer).await {
                if to.write_all(&buffer[..len]).await.is_err() {
                    return;
                }
            }
            let _ = to.shutdown().await;
        });
    }
    while tasks.join_next().await.is_some() {}
}

#[tokio::test]
async fn an_echo_comes_back_whole_and_ends() {
    let link = linked(1000).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(link.gateway.clone()));
    soon(async {
        let mut stream = link.server.open(target()).unwrap();
        stream.write_all(b"before it is opened").await.unwrap();
        stream.opened().await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"before it is opened");
        drop(stream);
        until(|| link.server.open_streams() + link.gateway.open_streams() == 0).await;
    })
    .await;
}

/// Waits for a condition; the caller holds the deadline.
async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_streams_at_once_mix_up_nothing() {
    for buffer in [64, 1000, 100_000] {
        let link = linked(buffer).await;
        let mut echoes = JoinSet::new();
        echoes.spawn(echo(link.gateway.clone()));
        let mut tasks = JoinSet::new();
        for seed in 0..100 {
            let stream = link.server.open(target()).unwrap();
            tasks.spawn(async move {
                let mut random = Random(seed);
                let sent: Vec<u8> = (0..random.below(100_000)).map(|_| random.next() as u8).collect();
                let (mut from, mut to) = split(stream);
                let write = async {
                    for piece in sent.chunks(1 + random.below(20_000)) {
                        to.write_all(piece).await.unwrap();
                    }
                    to.shutdown().await.unwrap();
                };
                let mut answer = Vec::new();
                let (_, read) = tokio::join!(write, from.read_to_end(&mut answer));
                read.unwrap();
                assert!(answer == sent, "stream {seed}");
            });
        }
        soon(async {
            while let Some(done) = tasks.join_next().await {
                done.unwrap();
            }
            until(|| link.server.open_streams() + link.gateway.open_streams() == 0).await;
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_ends_its_side_first_gets_all_of_the_answer() {
    let link = linked(4096).await;
    let (mut browser, edge) = duplex(1000);
    let (lan, mut device) = duplex(1000);
    let stream = link.server.open(target()).unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move { pipe(edge, stream, None).await });
    let gateway = link.gateway.clone();
    tasks.spawn(async move {
        let mut incoming = gateway.accept().await.unwrap();
        incoming.stream.confirm();
        pipe(incoming.stream, lan, None).await
    });
    soon(async {
        let person = async {
            browser.write_all(b"GET /").await.unwrap();
            browser.shutdown().await.unwrap();
            let mut answer = Vec::new();
            browser.read_to_end(&mut answer).await.unwrap();
            assert!(answer == vec![7; 300_000]);
        };
        let machine = async {
            let mut request = Vec::new();
            device.read_to_end(&mut request).await.unwrap();
            assert_eq!(request, b"GET /");
            device.write_all(&vec![7; 300_000]).await.unwrap();
            device.shutdown().await.unwrap();
        };
        tokio::join!(person, machine);
        while let Some(end) = tasks.join_next().await {
            let end = end.unwrap();
            assert!(matches!(end.reason, PipeReason::Done), "{end:?}");
            assert_eq!((end.a_to_b, end.b_to_a), (5, 300_000));
        }
        until(|| link.server.open_streams() + link.gateway.open_streams() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn every_reason_arrives_inside_the_error() {
    use ResetReason::*;
    let link = linked(4096).await;
    for reason in [NotListed, Refused, Unreachable, TimedOut, NameNotFound, DeviceReset, Idle, Internal, Unknown(77)] {
        let mut stream = link.server.open(target()).unwrap();
        let mut incoming = soon(link.gateway.accept()).await.unwrap();
        incoming.stream.reset(reason, "said so");
        let expected = Reset::new(reason, "said so");
        assert_eq!(soon(stream.opened()).await, Err(expected.clone()));
        let error = soon(stream.read(&mut [0; 10])).await.unwrap_err();
        assert_eq!(reset_of(&error), Some(&expected));
        let error = io::Error::other(error);
        assert_eq!(reset_of(&error), Some(&expected), "however deep");
        let error = soon(stream.write(b"x")).await.unwrap_err();
        assert_eq!(error.get_ref().and_then(|inner| inner.downcast_ref::<Reset>()), Some(&expected));
    }
}

#[tokio::test]
async fn dropping_a_stream_cancels_it_and_wakes_the_other_end() {
    let link = linked(4096).await;
    let stream = link.server.open(target()).unwrap();
    let mut incoming = soon(link.gateway.accept()).await.unwrap();
    let mut buffer = [0; 10];
    let (read, ()) = soon(async { tokio::join!(incoming.stream.read(&mut buffer), async { drop(stream) }) }).await;
    assert_eq!(reset_of(&read.unwrap_err()).unwrap().reason, ResetReason::Cancelled);
    // One that is given up before anybody took it is not handed out.
    drop(link.server.open(target()).unwrap());
    let kept = link.server.open(target()).unwrap();
    let mut next = soon(link.gateway.accept()).await.unwrap();
    next.stream.confirm();
    let mut kept = kept;
    soon(kept.opened()).await.unwrap();
}

#[tokio::test]
async fn a_driver_that_is_dropped_ends_all_streams() {
    let link = linked(4096).await;
    let mut stream = link.server.open(target()).unwrap();
    let mut blocked = link.server.open(target()).unwrap();
    let mut incoming = soon(link.gateway.accept()).await.unwrap();
    soon(async {
        let full = async {
            let error = blocked.write_all(&vec![0; 64 * 1024 + SEND_QUEUE_MAX + 1]).await.unwrap_err();
            assert_eq!(reset_of(&error).unwrap().reason, ResetReason::LinkLost);
        };
        let reading = async {
            let error = stream.read(&mut [0; 10]).await.unwrap_err();
            assert_eq!(reset_of(&error).unwrap().reason, ResetReason::LinkLost);
        };
        let cut = async {
            until(|| link.gateway.open_streams() == 2).await;
            link.server_end.abort();
        };
        tokio::join!(full, reading, cut);
        // The other end hears of it as a connection that ended.
        let error = incoming.stream.read(&mut [0; 10]).await.unwrap_err();
        assert_eq!(reset_of(&error).unwrap().reason, ResetReason::LinkLost);
        assert!(matches!(link.gateway_end.await.unwrap(), LinkEnd::Lost(_)));
        assert_eq!(link.server.open(target()).unwrap_err(), OpenError::Closed);
        assert!(link.server.send(&GatewayToServer::Unknown).is_err());
        assert!(link.server.accept().await.is_none() && link.server.accept().await.is_none());
        assert!(link.gateway.receive().await.is_none() && link.gateway.has_ended());
    })
    .await;
}

#[tokio::test]
async fn the_reason_for_closing_is_heard_at_the_other_end() {
    let close = Close { reason: CloseReason::Superseded, text: "a newer one".into(), retry_between_s: Some((30, 60)) };
    for buffer in [64, 100_000] {
        let link = linked(buffer).await;
        let mut busy = link.server.open(target()).unwrap();
        soon(async {
            busy.write_all(&vec![0; 60_000]).await.unwrap();
            link.server.close(&close);
            assert_eq!(link.server.open(target()).unwrap_err(), OpenError::Closed);
            match link.gateway_end.await.unwrap() {
                LinkEnd::Closed(heard) => assert_eq!(heard, close),
                other => panic!("{other}"),
            }
            assert!(matches!(link.server_end.await.unwrap(), LinkEnd::ClosedHere));
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn closing_takes_no_longer_than_its_deadline_on_a_stuck_socket() {
    let (gateway, server) = sockets(100).await;
    let (handle, driver) = link(server, Role::Server, settings(), PING_AFTER);
    let end = run(driver);
    let mut stream = handle.open(target()).unwrap();
    stream.write_all(&vec![0; 60_000]).await.unwrap();
    // Nobody reads the other end: let the driver run into the full socket first.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let started = Instant::now();
    handle.close(&Close { reason: CloseReason::Stopping, text: String::new(), retry_between_s: None });
    assert!(matches!(soon(end).await.unwrap(), LinkEnd::ClosedHere));
    assert!(started.elapsed() <= CLOSE_DEADLINE + Duration::from_millis(10), "{:?}", started.elapsed());
    drop(gateway);
}

#[tokio::test(start_paused = true)]
async fn a_dead_link_is_noticed_whether_idle_or_stuck() {
    for stuck in [false, true] {
        let (gateway, server) = sockets(100).await;
        let (handle, driver) = link(server, Role::Server, settings(), PING_AFTER);
        let end = run(driver);
        let mut stream = handle.open(target()).unwrap();
        if stuck {
            stream.write_all(&vec![0; 60_000]).await.unwrap();
        }
        let started = Instant::now();
        let end = soon(end).await.unwrap();
        assert!(matches!(end, LinkEnd::Session(SessionError::Silent(_))), "{end}");
        assert!(started.elapsed() <= PING_AFTER + PING_DEADLINE + Duration::from_secs(2), "{:?}", started.elapsed());
        assert_eq!(stream.opened().await.unwrap_err().reason, ResetReason::LinkLost);
        drop(gateway);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_lives_for_ever() {
    let mut link = linked(4096).await;
    assert!(timeout(Duration::from_secs(86_400), &mut link.gateway_end).await.is_err(), "a day");
    assert!(
        link.gateway.pulse().round_trip.is_some() && link.server.pulse().round_trip.is_none(),
        "only the gateway asks"
    );
}

#[tokio::test]
async fn a_gateway_that_opens_a_stream_is_cut_off() {
    let link = linked(4096).await;
    let mut stream = link.gateway.open(target()).unwrap();
    assert_eq!(soon(stream.opened()).await.unwrap_err().reason, ResetReason::LinkLost);
    let (server, gateway) = soon(async { tokio::join!(link.server_end, link.gateway_end) }).await;
    assert!(matches!(server.unwrap(), LinkEnd::Session(SessionError::Violation(_))));
    assert!(matches!(gateway.unwrap(), LinkEnd::Closed(Close { reason: CloseReason::Protocol, .. })));
}

#[tokio::test]
async fn a_broken_rule_is_told_to_the_one_who_broke_it() {
    let (mut gateway, server) = sockets(4096).await;
    let (_handle, driver) = link(server, Role::Server, settings(), PING_AFTER);
    let end = run(driver);
    soon(async {
        let mut bad = bytes::BytesMut::new();
        Frame::Fin(StreamId(6)).encode(&mut bad);
        gateway.send(Message::Binary(bad.freeze())).await.unwrap();
        let Message::Binary(mut answer) = gateway.next().await.unwrap().unwrap() else { panic!("binary is spoken") };
        let mut last = None;
        while let Some(frame) = Frame::decode(&mut answer).unwrap() {
            last = Some(frame);
        }
        let Some(Frame::Close(json)) = last else { panic!("{last:?}") };
        let close: Close = serde_json::from_slice(&json).unwrap();
        assert_eq!(close.reason, CloseReason::Protocol);
        assert!(close.text.contains("stream 6"), "{}", close.text);
        drop(gateway);
        let end = end.await.unwrap();
        assert!(matches!(end, LinkEnd::Session(SessionError::Violation(_))), "{end}");
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_stalls_does_not_stop_the_others() {
    let link = linked(1000).await;
    let mut stalled = link.server.open(target()).unwrap();
    let held = soon(link.gateway.accept()).await.unwrap();
    let mut echoes = JoinSet::new();
    echoes.spawn(echo(link.gateway.clone()));
    let full = stalled.write_all(&[0; 64 * 1024 + SEND_QUEUE_MAX + 1]);
    let others = async {
        for _ in 0..20 {
            let mut stream = link.server.open(target()).unwrap();
            stream.write_all(&[1; 30_000]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert_eq!(answer.len(), 30_000);
        }
    };
    soon(async {
        tokio::select! {
            _ = full => panic!("nobody reads it"),
            () = others => {}
        }
    })
    .await;
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn a_pipe_ends_when_nothing_moves() {
    let (mut client, a) = duplex(100);
    let (b, mut device) = duplex(100);
    let idle = Duration::from_secs(60);
    let started = Instant::now();
    let talk = async {
        for _ in 0..5 {
            tokio::time::sleep(idle - Duration::from_secs(1)).await;
            client.write_all(b"x").await.unwrap();
            assert_eq!(device.read_u8().await.unwrap(), b'x');
        }
        Instant::now()
    };
    let (end, last) = tokio::join!(pipe(a, b, Some(idle)), talk);
    assert!(matches!(end.reason, PipeReason::Idle), "{end:?}");
    assert_eq!(end.a_to_b, 5);
    assert!(last - started == 5 * (idle - Duration::from_secs(1)), "talk kept it alive");
    assert!(last.elapsed() >= idle && last.elapsed() < idle + Duration::from_secs(1), "{:?}", last.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_pipe_copies_the_early_answer_of_a_side_that_takes_no_more() {
    let (mut client, a) = duplex(100);
    let (b, mut device) = duplex(200_000);
    device.write_all(&[7; 100_000]).await.unwrap();
    drop(device);
    let upload = async {
        client.write_all(&[1; 50]).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer.len(), 100_000);
    };
    let (end, ()) = soon(async { tokio::join!(pipe(a, b, None), upload) }).await;
    assert!(matches!(end.reason, PipeReason::B(_)), "{end:?}");
    assert_eq!(end.b_to_a, 100_000);

    // One that neither takes nor says anything more does not hold the pipe.
    let (mut client, a) = duplex(100);
    let (silent, device) = duplex(100);
    let (_said, speaks) = duplex(1);
    let deaf = tokio::io::join(speaks, silent);
    drop(device);
    client.write_all(&[1; 50]).await.unwrap();
    let started = Instant::now();
    let end = soon(pipe(a, deaf, None)).await;
    assert!(matches!(end.reason, PipeReason::B(_)), "{end:?}");
    assert!(started.elapsed() <= Duration::from_secs(11));
}

#[tokio::test]
async fn a_pipe_says_which_side_failed() {
    let link = linked(4096).await;
    let stream = link.server.open(target()).unwrap();
    let mut incoming = soon(link.gateway.accept()).await.unwrap();
    let (mut client, a) = duplex(100);
    let reset = async {
        client.write_all(b"hello").await.unwrap();
        incoming.stream.read_exact(&mut [0; 5]).await.unwrap();
        incoming.stream.reset(ResetReason::DeviceReset, "");
    };
    let (end, ()) = soon(async { tokio::join!(pipe(a, stream, None), reset) }).await;
    assert_eq!(end.a_to_b, 5);
    match end.reason {
        PipeReason::B(error) => assert_eq!(reset_of(&error).unwrap().reason, ResetReason::DeviceReset),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn control_messages_arrive_in_order() {
    let link = linked(1000).await;
    for number in 0..100_u32 {
        link.gateway.send(&vec![number; 500]).unwrap();
    }
    for number in 0..100_u32 {
        let text = soon(link.server.receive()).await.unwrap();
        assert_eq!(serde_json::from_slice::<Vec<u32>>(&text).unwrap(), vec![number; 500]);
    }
}

fn hello() -> Hello {
    Hello {
        version: 1,
        agent: "test".into(),
        name: "site12".parse().unwrap(),
        secret: None,
        instance: "i".into(),
        yielding: false,
        window: 65_536,
        max_streams: 10,
        capabilities: vec![],
        resume: None,
        resume_within_s: None,
    }
}

fn answer(version: u32) -> Welcome {
    Welcome {
        version,
        agent: "test".into(),
        session: "s".into(),
        received: None,
        window: 65_536,
        ping_after_s: 55,
        ping_after_max_s: None,
        resume_within_s: None,
        time: 0,
        utc_offset_s: 0,
        capabilities: vec![],
    }
}

#[tokio::test]
async fn a_handshake_is_answered_with_welcome_or_refused() {
    let hello = hello();
    let (mut gateway, mut server) = sockets(100).await;
    let (greeted, heard) = soon(async {
        tokio::join!(greet(&mut gateway, &hello), async {
            let heard = await_hello(&mut server).await.unwrap();
            welcome(&mut server, &answer(1)).await.unwrap();
            heard
        })
    })
    .await;
    assert_eq!((greeted.unwrap(), heard), (answer(1), hello.clone()));

    let (mut gateway, mut server) = sockets(100).await;
    let no = Refused { reason: RefusedReason::Busy, text: "later".into(), retry_after_s: Some(9) };
    let (greeted, ()) = soon(async {
        tokio::join!(greet(&mut gateway, &hello), async {
            await_hello(&mut server).await.unwrap();
            refuse(&mut server, &no).await.unwrap();
        })
    })
    .await;
    assert!(matches!(greeted, Err(HandshakeError::Refused(refused)) if refused == no));

    let (mut gateway, mut server) = sockets(1000).await;
    welcome(&mut server, &answer(2)).await.unwrap();
    assert!(matches!(soon(greet(&mut gateway, &hello)).await, Err(HandshakeError::Version(2))));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_does_not_wait_for_ever() {
    let started = Instant::now();
    let (mut gateway, mut server) = sockets(10_000).await;
    assert!(matches!(await_hello(&mut server).await, Err(HandshakeError::TimedOut)));
    assert!(matches!(greet(&mut gateway, &hello()).await, Err(HandshakeError::TimedOut)), "nobody answers");
    let (mut gateway, _server) = sockets(10).await;
    assert!(matches!(greet(&mut gateway, &hello()).await, Err(HandshakeError::TimedOut)), "nobody reads");
    assert!(started.elapsed() <= 3 * HANDSHAKE_DEADLINE + Duration::from_secs(1));
    // Pings do not prolong it.
    let (mut gateway, mut server) = sockets(10_000).await;
    let pings = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            gateway.send(Message::Ping(bytes::Bytes::new())).await.unwrap();
        }
    };
    tokio::select! {
        heard = await_hello(&mut server) => assert!(matches!(heard, Err(HandshakeError::TimedOut))),
        () = pings => {}
    }
}

#[tokio::test]
async fn a_malformed_hello_is_told_so() {
    let hello_frame = || {
        let mut out = bytes::BytesMut::new();
        Frame::Hello(serde_json::to_vec(&hello()).unwrap().into()).encode(&mut out);
        out
    };
    let mut two = hello_frame();
    Frame::Ping(0).encode(&mut two);
    let mut welcome_instead = hello_frame();
    welcome_instead[0] = 2;
    let cases = [
        Message::Binary(two.freeze()),
        Message::Binary(welcome_instead.freeze()),
        Message::Binary(bytes::Bytes::new()),
        Message::Binary(bytes::Bytes::from_static(&[0x01, 0x02, b'{', b'}'])),
        Message::Binary(bytes::Bytes::from_static(&[0x01, 0x20])),
        Message::Binary(bytes::Bytes::from_static(&[0x40, 0x00, 0x00])),
        Message::Text("hello".into()),
    ];
    for case in cases {
        let (mut gateway, mut server) = sockets(100_000).await;
        gateway.send(case.clone()).await.unwrap();
        let error = soon(await_hello(&mut server)).await.unwrap_err();
        let refused = error.refusal().unwrap_or_else(|| panic!("{case:?}: {error}"));
        assert_eq!(refused.reason, RefusedReason::Malformed);
        soon(refuse(&mut server, &refused)).await.unwrap();
        assert!(
            matches!(soon(greet(&mut gateway, &hello())).await, Err(HandshakeError::Refused(heard)) if heard == refused)
        );
    }
    let (gateway, mut server) = sockets(1000).await;
    drop(gateway);
    assert!(soon(await_hello(&mut server)).await.unwrap_err().refusal().is_none(), "nobody is there to be told");
    let (mut gateway, mut server) = sockets(1000).await;
    gateway.close(None).await.unwrap();
    assert!(matches!(soon(await_hello(&mut server)).await, Err(HandshakeError::HungUp)));
}
