//! One attempt to reach the server: name, proxy, TCP, TLS, WebSocket, hello; each step under its own deadline.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use linkspan_protocol::driver::websocket_config;
use linkspan_protocol::handshake::{HandshakeError, greet};
use linkspan_protocol::message::{Hello, LINK_PATH, Refused, RefusedReason, SUBPROTOCOL, Welcome};
use linkspan_protocol::text::tame;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::http::{Response, Uri, header};
use tokio_tungstenite::tungstenite::{ClientRequestBuilder, Error as WsError};

use super::backoff::Retry;
use super::failure::{Failure, Step};
use super::{closed, proxy, tls};
use crate::config::{HostPort, Server};
use crate::platform::tcp;

/// What a link is made of.
pub(super) type Transport = TlsStream<TcpStream>;

/// A WebSocket that leads to the server.
pub(super) type Socket = WebSocketStream<Transport>;

/// Reaches the server and says hello. `at_step` hears of each step as it begins.
pub(super) async fn dial(
    server: &Server,
    hello: &Hello,
    tls: &tls::Memory,
    mut at_step: impl FnMut(Step),
) -> Result<(Socket, Welcome), Failure> {
    let (first, key) = match &server.proxy {
        Some(proxy) => (&proxy.at, "proxy"),
        None => (&server.at, "url"),
    };
    at_step(Step::Name);
    let addresses = lookup(first, key).await?;
    at_step(Step::Tcp);
    let mut stream = connect(first, &addresses).await?;
    if let Some(proxy) = &server.proxy {
        at_step(Step::Proxy);
        proxy::connect(&mut stream, proxy, &server.at).await?;
    }
    at_step(Step::Tls);
    let stream = tls::handshake(stream, server, tls).await?;
    at_step(Step::Websocket);
    let mut socket = upgrade(stream, &server.at, &hello.agent).await?;
    at_step(Step::Hello);
    let welcome = greet(&mut socket, hello).await.map_err(explain_hello)?;
    Ok((socket, welcome))
}

/// Asks anew each time: the server may have moved, and the resolver may have changed with the SIM's network.
async fn lookup(at: &HostPort, key: &str) -> Result<Vec<SocketAddr>, Failure> {
    let advice = || format!("is the network up, does its DNS work, and is the host in [server] {key} right?");
    match timeout(Step::Name.deadline(), tokio::net::lookup_host((&*at.host, at.port))).await {
        Ok(Ok(addresses)) => Ok(addresses.collect()),
        Ok(Err(e)) => Err(Failure::new(Step::Name, format!("{} has no address: {e}", at.host), advice())),
        Err(_) => Err(Failure::timed_out(Step::Name, "DNS", &advice())),
    }
}

async fn connect(at: &HostPort, addresses: &[SocketAddr]) -> Result<TcpStream, Failure> {
    tcp::connect(addresses, Instant::now() + Step::Tcp.deadline()).await.map_err(|e| {
        let whom = match addresses {
            [one] => format!("{at} ({})", one.ip()),
            all => format!("{at} ({} addresses)", all.len()),
        };
        let advice = match e.kind() {
            io::ErrorKind::ConnectionRefused => "is the server running, and is the port right?",
            io::ErrorKind::TimedOut => "is there a firewall on the way? It may take a [server] proxy",
            _ => "is the network up?",
        };
        match e.kind() {
            io::ErrorKind::TimedOut => Failure::timed_out(Step::Tcp, &whom, advice),
            _ => Failure::new(Step::Tcp, format!("{whom}: {e}"), advice),
        }
    })
}

async fn upgrade(stream: TlsStream<TcpStream>, at: &HostPort, agent: &str) -> Result<Socket, Failure> {
    let authority = at.to_string();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    let uri: Uri = format!("wss://{authority}{LINK_PATH}").parse().map_err(|_| {
        Failure::new(Step::Websocket, format!("{authority} cannot stand in a url"), "correct [server] url")
            .with_retry(Retry::Slowly)
    })?;
    let request =
        ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL).with_header(header::USER_AGENT.as_str(), agent);
    let upgrading = tokio_tungstenite::client_async_with_config(request, stream, Some(websocket_config()));
    match timeout(Step::Websocket.deadline(), upgrading).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(e)) => Err(explain_upgrade(e)),
        Err(_) => Err(Failure::timed_out(Step::Websocket, "the server", "is it a Linkspan server?")),
    }
}

fn explain_upgrade(error: WsError) -> Failure {
    let no_linkspan = "is [server] url that of a Linkspan server, and not of a device's page?";
    match error {
        WsError::Http(response) => explain_answer(&response),
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(
            SubProtocolError::NoSubProtocol | SubProtocolError::InvalidSubProtocol,
        )) => Failure::new(Step::Websocket, format!("the server does not speak {SUBPROTOCOL}"), no_linkspan)
            .with_retry(Retry::Slowly),
        other => Failure::new(Step::Websocket, tame(&other.to_string()), no_linkspan),
    }
}

fn explain_answer<B>(response: &Response<B>) -> Failure {
    let status = response.status();
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let mut what = format!("the server answered {status}");
    let (advice, retry) = match status.as_u16() {
        300..=399 => {
            if let Some(location) = text(header::LOCATION) {
                what += &format!(" to {}", tame(location));
            }
            ("redirects are not followed: write the final host as [server] url", Retry::Slowly)
        }
        429 | 500..=599 => ("the server, or what stands before it, is busy or starting", Retry::Soon),
        _ => ("is [server] url that of a Linkspan server, and not of a device's page?", Retry::Slowly),
    };
    // Only the form in seconds is understood; the other one is a date, and clocks of routers are not to be trusted.
    let after = text(header::RETRY_AFTER).and_then(|seconds| seconds.trim().parse().ok());
    let retry = after.map_or(retry, |seconds| Retry::After(Duration::from_secs(seconds)));
    Failure::new(Step::Websocket, what, advice).with_retry(retry)
}

fn explain_hello(error: HandshakeError) -> Failure {
    match error {
        HandshakeError::Refused(refused) => explain_refusal(&refused),
        HandshakeError::Closed(close) => Failure { step: Step::Hello, ..closed(&close) },
        HandshakeError::Version(_) => {
            Failure::new(Step::Hello, error.to_string(), "update the gateway or the server").with_retry(Retry::Slowly)
        }
        HandshakeError::TimedOut
        | HandshakeError::HungUp
        | HandshakeError::WebSocket(_)
        | HandshakeError::Frame(_)
        | HandshakeError::Malformed(_) => {
            Failure::new(Step::Hello, tame(&error.to_string()), "if it stays so, look into the server's log")
        }
    }
}

fn explain_refusal(refused: &Refused) -> Failure {
    let (advice, retry) = match refused.reason {
        RefusedReason::Identity => {
            ("compare [identity] name and secret_file with what `linkspan-server gateway add` said", Retry::Slowly)
        }
        RefusedReason::Version => ("update the gateway or the server", Retry::Slowly),
        RefusedReason::InUse => {
            ("another gateway with this name and secret is connected; give each its own", Retry::Slowly)
        }
        RefusedReason::Busy => ("it will be tried again", Retry::Soon),
        RefusedReason::Malformed => ("update the gateway or the server", Retry::Slowly),
        RefusedReason::Unknown => ("look into the server's log", Retry::Soon),
    };
    let retry = refused.retry_after_s.map_or(retry, |seconds| Retry::After(Duration::from_secs(seconds.into())));
    Failure::new(Step::Hello, format!("the server refused: {}", tame(&refused.text)), advice).with_retry(retry)
}
