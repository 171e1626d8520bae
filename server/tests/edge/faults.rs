//! Each failure between a browser and a device has its own status, code and words.

use http::header::{ACCEPT, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, ORIGIN, RETRY_AFTER};
use http::{Request, StatusCode};
use linkspan_protocol::message::ServiceKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::origin::Origin;
use crate::world::{CONSOLE, Client, World, device, local, nothing, read};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn host(service: &str) -> String {
    format!("plc1--{service}.devices.example.net")
}

async fn code(client: &mut Client, path: &str) -> (u16, String) {
    let response = client.send(Request::get(path), nothing()).await;
    let code = response.headers().get("linkspan-error").map_or("", |value| value.to_str().unwrap()).to_owned();
    (response.status().as_u16(), code)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_failure_of_device_and_gateway_says_whose_it_is() {
    let free = linkspan_server::edge::listener::bind(local()).unwrap().local_addr().unwrap();
    let origin = Origin::start(|mut visit| async move {
        let head = visit.head().await.unwrap_or_default();
        match head.split(' ').nth(1).unwrap_or("") {
            "/ssh" => visit.say("SSH-2.0-OpenSSH_9.2\r\n").await,
            "/http09" => visit.say("<html>hello</html>").await,
            "/status" => visit.say("HTTP/1.1 abc OK\r\n\r\n").await,
            "/lengths" => visit.say("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nok").await,
            "/huge" => visit.say(&format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(200_000))).await,
            "/half" => visit.say("HTTP/1.1 200 OK\r\nContent-Le").await,
            "/switch" => {
                visit.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n").await
            }
            "/reset" => {
                let socket = socket2::SockRef::from(&visit.socket);
                socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
            }
            _ => {}
        }
    });
    let all = ["unreachable", "timed-out", "no-name", "not-listed", "full", "internal", "ended", "data-cap"];
    let mut services = vec![
        ("web", ServiceKind::Http, origin.at),
        ("refused", ServiceKind::Http, free),
        ("tls", ServiceKind::Https, origin.at),
    ];
    services.extend(all.map(|name| (name, ServiceKind::Http, free)));
    services.push(("ssh", ServiceKind::Ssh, free));
    let world = World::start(vec![device("plc1", &services), device("secret", &services)]).await;
    for (service, path, status, expected) in [
        ("refused", "/", 502, "device-refused"),
        ("unreachable", "/", 502, "device-unreachable"),
        ("timed-out", "/", 504, "device-timed-out"),
        ("no-name", "/", 502, "name-not-found"),
        ("not-listed", "/", 502, "not-listed"),
        ("ended", "/", 403, "ended"),
        ("data-cap", "/", 429, "data-cap"),
        ("full", "/", 429, "gateway-full"),
        ("internal", "/", 502, "gateway-failed"),
        ("ssh", "/", 404, "not-a-page"),
        ("nothing", "/", 404, "not-found"),
        ("web", "/.linkspan/other", 404, "not-found"),
        ("web", "/ssh", 502, "device-garbage"),
        ("web", "/http09", 502, "device-garbage"),
        ("web", "/status", 502, "device-garbage"),
        ("web", "/lengths", 502, "device-garbage"),
        ("web", "/huge", 502, "device-garbage"),
        ("web", "/half", 502, "device-reset"),
        ("web", "/close", 502, "device-reset"),
        ("web", "/reset", 502, "device-reset"),
        ("web", "/switch", 502, "device-garbage"),
        ("tls", "/", 502, "device-tls"),
    ] {
        let mut client = world.client(&host(service)).await;
        assert_eq!(code(&mut client, path).await, (status, expected.to_owned()), "{service} {path}");
        // The person's own connection is not harmed by the device's.
        assert_eq!(code(&mut client, "/.linkspan/x").await.0, 404, "{service} {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_seen_looks_like_what_does_not_exist() {
    let origin = Origin::always(OK);
    let world = World::start(vec![device("secret", &[("web", ServiceKind::Http, origin.at)])]).await;
    let mut answers = Vec::new();
    for name in ["secret", "nothing"] {
        let mut client = world.client(&format!("{name}.devices.example.net")).await;
        let (status, mut headers, body) = client.get("/").await;
        headers.remove("date");
        answers.push((status, format!("{headers:?}"), body));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].0, StatusCode::NOT_FOUND);
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offline_gateway_is_said_to_be_offline_and_since_when() {
    let origin = Origin::always(OK);
    let mut world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let mut client = world.client("plc1.devices.example.net").await;
    assert_eq!(client.get("/").await.0, StatusCode::OK);
    world.link.close(&linkspan_protocol::message::Close {
        reason: linkspan_protocol::message::CloseReason::Restarting,
        text: String::new(),
        retry_between_s: None,
    });
    let link = world.link.clone();
    crate::world::eventually("the link ends", || link.has_ended()).await;
    let request = Request::get("/").header(ACCEPT, "text/html,*/*;q=0.8");
    let (status, headers, page) = read(client.send(request, nothing()).await).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers["linkspan-error"], "gateway-offline");
    assert_eq!(headers[RETRY_AFTER], "30");
    assert!(headers[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("default-src 'none'"));
    assert!(page.contains("2023-11-14 22:13:20 UTC") && page.contains("<h1>"), "{page}");
    let request = Request::get("/").header(ACCEPT, "application/json");
    let (_, headers, json) = read(client.send(request, nothing()).await).await;
    assert_eq!(headers[CONTENT_TYPE], "application/problem+json");
    let problem: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&problem["status"], &problem["code"]), (&503.into(), &"gateway-offline".into()));
    let (_, headers, text) = client.get("/").await;
    assert!(headers[CONTENT_TYPE].to_str().unwrap().starts_with("text/plain") && !text.contains('<'));
    world.cut();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_link_ends_answers_and_is_named() {
    let origin = Origin::start(|mut visit| async move {
        visit.head().await;
        visit.head().await;
    });
    let mut world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let mut client = world.client("plc1.devices.example.net").await;
    let (answer, ()) = tokio::join!(code(&mut client, "/"), async {
        crate::world::eventually("the device hears", || !origin.heard().is_empty()).await;
        world.cut();
    });
    assert_eq!(answer, (502, "link-lost".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_limit_is_named() {
    let origin = Origin::start(|mut visit| async move {
        visit.head().await;
        visit.say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n").await;
        visit.drain().await;
    });
    let devices = vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])];
    let world = World::start_with(devices, 2, 100).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut client = world.client("plc1.devices.example.net").await;
        held.push((client.send(Request::get("/"), nothing()).await, client));
    }
    let mut client = world.client("plc1.devices.example.net").await;
    let (status, headers, text) = client.get("/").await;
    assert_eq!((status, &headers["linkspan-error"]), (StatusCode::TOO_MANY_REQUESTS, &"stream-limit".parse().unwrap()));
    assert!(headers.contains_key(RETRY_AFTER) && text.contains('2'), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_sent_to_sign_in_and_programs_are_told() {
    let origin = Origin::always(OK);
    let world = World::start(vec![device("plc1", &[("web", ServiceKind::Http, origin.at)])]).await;
    let mut client = world.client("plc1.devices.example.net").await;
    let stranger = |request: http::request::Builder| request.header("linkspan-authorization", "Bearer wrong");
    let request = stranger(Request::get("/a?b=c")).header(ACCEPT, "text/html");
    let (status, headers, _) = read(client.send(request, nothing()).await).await;
    assert_eq!(status, StatusCode::SEE_OTHER);
    let to = format!("https://{CONSOLE}/open?to=https://plc1.devices.example.net/a?b=c");
    assert_eq!(headers[LOCATION], to);
    for request in [
        stranger(Request::get("/")),
        stranger(Request::post("/")).header(ACCEPT, "text/html"),
        stranger(Request::get("/")).header(ACCEPT, "text/html").header("sec-fetch-mode", "no-cors"),
    ] {
        let (status, headers, _) = read(client.send(request, nothing()).await).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert_eq!(headers["linkspan-error"], "sign-in-needed");
    }
    let (_, _, text) = client.get("/.linkspan/ticket?t=1").await;
    assert_eq!(text, "redeemed t=1 at plc1.devices.example.net");
    let foreign = Request::post("/").header(ORIGIN, "https://plc2.devices.example.net");
    assert_eq!(client.send(foreign, nothing()).await.headers()["linkspan-error"], "forbidden-origin");
    assert_eq!(origin.connections(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plain_port_sends_our_names_to_https_and_nobody_else() {
    let world = World::start(vec![]).await;
    for (host, path, expected) in [
        ("remote.example.com", "/a?b", Some("https://remote.example.com/a?b")),
        ("PLC1.devices.example.net:80", "/", Some("https://plc1.devices.example.net/")),
        ("evil.com", "/", None),
        ("127.0.0.1", "/", None),
    ] {
        let mut socket = TcpStream::connect(world.plain).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        match expected {
            Some(location) => {
                assert!(answer.starts_with("HTTP/1.1 308"), "{answer}");
                assert!(answer.contains(&format!("location: {location}\r\n")), "{answer}");
            }
            None => assert!(answer.starts_with("HTTP/1.1 404") && !answer.contains("evil"), "{answer}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_console_is_at_its_name_and_little_at_an_address() {
    let world = World::start(vec![]).await;
    assert_eq!(world.client(CONSOLE).await.get("/").await.2, "the console");
    assert_eq!(world.client("127.0.0.1").await.get("/healthz").await.2, "ok");
    assert_eq!(world.client("127.0.0.1").await.get("/").await.0, StatusCode::NOT_FOUND);
    assert_eq!(world.client2(CONSOLE).await.get("/").await.2, "the console");
}
