//! WebSockets and other protocols through the proxy.

use futures_util::{SinkExt, StreamExt};
use http::header::{CONNECTION, ORIGIN, UPGRADE};
use http::{Request, StatusCode};
use linkspan_protocol::message::ServiceKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::origin::Origin;
use crate::world::{LONG, World, device, local, nothing};

const HOST: &str = "plc1.devices.example.net";

/// A device whose only page is a WebSocket that says back what it hears.
async fn echo() -> (std::net::SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(local()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut sockets = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            sockets.spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(socket).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    (at, task)
}

fn request(origin: Option<&str>) -> Request<()> {
    let mut request = format!("wss://{HOST}/live?x=1").into_client_request().unwrap();
    request.headers_mut().insert("linkspan-authorization", "Bearer good".parse().unwrap());
    if let Some(origin) = origin {
        request.headers_mut().insert(ORIGIN, origin.parse().unwrap());
    }
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn a_websocket_goes_through() {
    let (at, _task) = echo().await;
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, at)])]).await;
    let own = format!("https://{HOST}");
    for origin in [None, Some(own.as_str())] {
        let tls = world.tls(HOST, false).await;
        let (mut socket, response) = tokio_tungstenite::client_async(request(origin), tls).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        for message in [Message::text("hello"), Message::binary(vec![7; 300_000]), Message::text("")] {
            socket.send(message.clone()).await.unwrap();
            assert_eq!(timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap(), message);
        }
        socket.close(None).await.unwrap();
        assert!(
            timeout(LONG, socket.next())
                .await
                .unwrap()
                .is_none_or(|message| message.is_ok_and(|message| message.is_close()))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_websocket_is_stopped_before_the_device() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    for foreign in [
        "https://evil.com",
        "https://plc2.devices.example.net",
        "https://remote.example.com",
        "null",
        "http://plc1.devices.example.net",
        "https://plc1.devices.example.net:444",
        "https://plc1.devices.example.net.evil.com",
        "https://devices.example.net",
        "file://",
        "https://plc1.devices.example.net@evil.com",
        "https://xplc1.devices.example.net",
        "chrome-extension://plc1",
    ] {
        let tls = world.tls(HOST, false).await;
        let error = tokio_tungstenite::client_async(request(Some(foreign)), tls).await.unwrap_err();
        let tokio_tungstenite::tungstenite::Error::Http(response) = error else { panic!("{foreign}: {error}") };
        assert_eq!(response.status(), StatusCode::FORBIDDEN, "{foreign}");
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_sent_right_behind_an_upgrade_belong_to_it() {
    let origin = Origin::start(|mut visit| async move {
        while let Some(head) = visit.head().await {
            if head.contains("/refuse") {
                visit.say("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
                continue;
            }
            visit.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\nwelcome").await;
            let heard = visit.until(b"\n\n").await.unwrap();
            visit.say(&heard).await;
            return;
        }
    });
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let mut tls = world.tls(HOST, false).await;
    let head = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nLinkspan-Authorization: Bearer good\r\nConnection: upgrade\r\nUpgrade: raw\r\n\r\n"
        )
    };
    // Refused: the connection goes on with ordinary requests. Switched: what follows is not HTTP any more.
    tls.write_all(format!("{}{}GET not http\n\n", head("/refuse"), head("/switch")).as_bytes()).await.unwrap();
    tls.shutdown().await.unwrap();
    let mut heard = String::new();
    timeout(LONG, tls.read_to_string(&mut heard)).await.unwrap().unwrap();
    assert!(
        heard.contains("no") && heard.contains("101 Switching") && heard.ends_with("welcomeGET not http\n\n"),
        "{heard}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_in_the_clear_is_not_switched_to() {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let request = Request::get("/")
        .header(CONNECTION, "Upgrade, HTTP2-Settings")
        .header(UPGRADE, "h2c")
        .header("http2-settings", "x");
    let response = world.client(HOST).await.send(request, nothing()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let heard = origin.heard().to_lowercase();
    assert!(!heard.contains("h2c") && !heard.contains("http2-settings"), "{heard}");
}
