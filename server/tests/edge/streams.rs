//! Raw streams over WebSocket.

use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderValue, Response};
use linkspan_protocol::message::ServiceKind;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::origin::Origin;
use crate::world::{CONSOLE, LONG, World, device, eventually, local};

type Socket = WebSocketStream<TlsStream<TcpStream>>;

async fn open(
    world: &World,
    path: &str,
    headers: &[(&'static str, &str)],
) -> Result<Socket, Box<Response<Option<Vec<u8>>>>> {
    let mut request = format!("wss://{CONSOLE}/api/v1/devices/{path}/stream").into_client_request().unwrap();
    request.headers_mut().insert(AUTHORIZATION, HeaderValue::from_static("Bearer good"));
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("binary"));
    for (name, value) in headers {
        request.headers_mut().insert(*name, HeaderValue::from_str(value).unwrap());
    }
    match tokio_tungstenite::client_async(request, world.tls(CONSOLE, false).await).await {
        Ok((socket, response)) => {
            assert_eq!(response.headers()[SEC_WEBSOCKET_PROTOCOL], "binary");
            Ok(socket)
        }
        Err(Error::Http(response)) => Err(response),
        Err(error) => panic!("{error}"),
    }
}

async fn next(socket: &mut Socket) -> Option<Message> {
    timeout(LONG, socket.next()).await.expect("a message in time").map(|message| message.expect("no error"))
}

fn error_code(response: &Response<Option<Vec<u8>>>) -> (u16, &str) {
    (response.status().as_u16(), response.headers()["linkspan-error"].to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_each_direction_ends_alone() {
    let origin = Origin::start(|mut visit| async move {
        let count = visit.drain().await;
        visit.say(&format!("heard {count}")).await;
    });
    let world = World::start(vec![device("plc1", &[("ssh", ServiceKind::Ssh, origin.at)])]).await;
    let mut socket = open(&world, "plc1/services/ssh", &[]).await.unwrap();
    for _ in 0..20 {
        socket.send(Message::binary(vec![1; 100_000])).await.unwrap();
    }
    socket.send(Message::Ping("here?".into())).await.unwrap();
    socket.send(Message::binary(Vec::new())).await.unwrap();
    let (mut heard, mut ponged, mut ended) = (Vec::new(), false, false);
    let close = loop {
        match next(&mut socket).await {
            Some(Message::Binary(bytes)) if bytes.is_empty() => ended = true,
            Some(Message::Binary(bytes)) => heard.extend_from_slice(&bytes),
            Some(Message::Pong(bytes)) => ponged = &bytes[..] == b"here?",
            Some(Message::Close(frame)) => break frame.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(String::from_utf8_lossy(&heard), "heard 2000000");
    assert!(ponged && ended);
    assert_eq!(u16::from(close.code), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_may_end_its_direction_first() {
    let origin = Origin::start(|mut visit| async move {
        visit.say("bye").await;
        visit.socket.shutdown().await.unwrap();
        assert_eq!(visit.until(b"still here").await.as_deref(), Some("still here"));
    });
    let world = World::start(vec![device("plc1", &[("ssh", ServiceKind::Ssh, origin.at)])]).await;
    let mut socket = open(&world, "plc1/services/ssh", &[]).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::binary("bye")));
    assert_eq!(next(&mut socket).await, Some(Message::binary("")));
    socket.send(Message::binary("still here")).await.unwrap();
    eventually("the device hears it", || origin.heard() == "still here").await;
    socket.send(Message::binary("")).await.unwrap();
    assert!(matches!(next(&mut socket).await, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_hears_of_the_end_although_the_device_has_said_all_it_had_to_say() {
    let origin = Origin::start(|mut visit| async move {
        visit.say("bye").await;
        visit.socket.shutdown().await.unwrap();
        visit.drain().await;
    });
    let mut world = World::start(vec![device("plc1", &[("ssh", ServiceKind::Ssh, origin.at)])]).await;
    let mut socket = open(&world, "plc1/services/ssh", &[]).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::binary("bye")));
    assert_eq!(next(&mut socket).await, Some(Message::binary("")));
    world.cut();
    assert!(matches!(next(&mut socket).await, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 4503));
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_after_the_upgrade_are_close_codes() {
    let free = linkspan_server::edge::listener::bind(local()).unwrap().local_addr().unwrap();
    let all = ["refused", "unreachable", "timed-out", "no-name", "not-listed", "ended", "data-cap"];
    let world = World::start(vec![device("plc1", &all.map(|name| (name, ServiceKind::Tcp, free)))]).await;
    for (service, code) in all.into_iter().zip([4502, 4502, 4504, 4502, 4502, 4403, 4429]) {
        let mut socket = open(&world, &format!("plc1/services/{service}"), &[]).await.unwrap();
        let Some(Message::Close(Some(frame))) = next(&mut socket).await else { panic!("{service}") };
        assert_eq!(u16::from(frame.code), code, "{service}");
        assert!(frame.reason.len() > 10 && frame.reason.len() <= 123, "{}", frame.reason);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_is_4503() {
    let origin = Origin::start(|mut visit| async move {
        visit.drain().await;
    });
    let mut world = World::start(vec![device("plc1", &[("ssh", ServiceKind::Ssh, origin.at)])]).await;
    let mut socket = open(&world, "plc1/services/ssh", &[]).await.unwrap();
    eventually("the device is reached", || origin.connections() == 1).await;
    world.cut();
    assert!(matches!(next(&mut socket).await, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 4503));
    let refused = open(&world, "plc1/services/ssh", &[]).await.unwrap_err();
    assert_eq!(error_code(&refused), (503, "gateway-offline"));
    assert_eq!(refused.headers()["content-type"], "application/problem+json");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_opened_is_said_before_the_upgrade() {
    let origin = Origin::start(|mut visit| async move {
        visit.drain().await;
    });
    let devices = ["plc1", "secret"].map(|name| device(name, &[("ssh", ServiceKind::Ssh, origin.at)]));
    let world = World::start_with(devices.to_vec(), 1, 100).await;
    for (path, headers, expected) in [
        ("plc1/services/ssh", vec![("authorization", "Bearer wrong")], (401, "sign-in-needed")),
        ("plc1/services/ssh", vec![("origin", "https://plc1.devices.example.net")], (403, "forbidden-origin")),
        ("plc1/services/ssh", vec![("origin", "null")], (403, "forbidden-origin")),
        ("plc1/services/ssh", vec![("upgrade", "other")], (426, "not-a-websocket")),
        ("plc1/services/ssh", vec![("sec-websocket-version", "8")], (426, "not-a-websocket")),
        ("plc1/services/ssh", vec![("sec-websocket-key", "short")], (400, "not-a-websocket")),
        ("plc1/services/nothing", vec![], (404, "not-found")),
        ("nothing/services/ssh", vec![], (404, "not-found")),
        ("secret/services/ssh", vec![], (404, "not-found")),
        ("PLC1/services/ssh", vec![], (404, "not-found")),
    ] {
        let refused = open(&world, path, &headers).await.unwrap_err();
        assert_eq!(error_code(&refused), expected, "{path} {headers:?}");
    }
    assert_eq!(origin.connections(), 0);
    let origin_header = format!("https://{CONSOLE}");
    let held = open(&world, "plc1/services/ssh", &[(ORIGIN.as_str(), "")]).await;
    assert!(held.is_err());
    let _held = open(&world, "plc1/services/ssh", &[("origin", &origin_header)]).await.unwrap();
    let refused = open(&world, "plc1/services/ssh", &[]).await.unwrap_err();
    assert_eq!(error_code(&refused), (429, "stream-limit"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_the_rules_is_told() {
    let origin = Origin::start(|mut visit| async move {
        visit.drain().await;
        std::future::pending::<()>().await;
    });
    let world = World::start(vec![device("plc1", &[("ssh", ServiceKind::Ssh, origin.at)])]).await;
    let mut socket = open(&world, "plc1/services/ssh", &[]).await.unwrap();
    socket.send(Message::text("text")).await.unwrap();
    assert!(matches!(next(&mut socket).await, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1003));
    let mut socket = open(&world, "plc1/services/ssh", &[]).await.unwrap();
    socket.send(Message::binary("")).await.unwrap();
    socket.send(Message::binary("more")).await.unwrap();
    assert!(matches!(next(&mut socket).await, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1002));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_ends_the_devices_connection() {
    let origin = Origin::start(|mut visit| async move {
        visit.until(b"hello").await;
        visit.drain().await;
        visit.say("").await;
    });
    let world = World::start(vec![device("plc1", &[("ssh", ServiceKind::Ssh, origin.at)])]).await;
    for politely in [true, false] {
        let mut socket = open(&world, "plc1/services/ssh", &[]).await.unwrap();
        socket.send(Message::binary("hello")).await.unwrap();
        let link = world.link.clone();
        eventually("the stream is open", || link.open_streams() == 1).await;
        if politely {
            socket.close(None).await.unwrap();
        }
        drop(socket);
        eventually("the stream is closed", || link.open_streams() == 0).await;
    }
}
