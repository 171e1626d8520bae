//! One attempt to reach the server: name, proxy, TCP, TLS, WebSocket, hello; each step under its own deadline.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use linkspan_protocol::ahead::Ahead;
use linkspan_protocol::handshake::{HandshakeError, greet};
use linkspan_protocol::message::{Hello, Refused, RefusedReason, Welcome};
use linkspan_protocol::text::tame;
use linkspan_protocol::websocket;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::backoff::Retry;
use super::failure::{Failure, Step};
use super::resolver::Resolver;
use super::upgrade::{Answer, UpgradeError, upgrade};
use super::{closed, proxy, tls};
use crate::config::{HostPort, Server};
use crate::platform::race::Race;
use crate::platform::tcp;

/// What a link is made of.
pub(super) type Transport = TlsStream<Ahead<TcpStream>>;

/// A WebSocket that leads to the server.
pub(super) type Socket = websocket::Socket<Transport>;

/// Time for the resolver before the addresses of its last answer are tried without it.
const RESOLVER_HEAD_START: Duration = Duration::from_millis(500);

/// Where nothing is known of the line, a silent address is asked again after this.
const ANOTHER_SYN: Duration = Duration::from_secs(3);

/// Reaches the server, up to where a hello can be said. An address that stays silent is asked `again` after that time.
/// `at_step` hears of each step as it begins. Our address and the other end's come with the WebSocket.
pub(super) async fn reach(
    server: &Server,
    (resolver, again): (&mut Resolver, Duration),
    tls: &tls::Memory,
    mut at_step: impl FnMut(Step),
) -> Result<(Socket, SocketAddr, SocketAddr), Failure> {
    let (stream, local, peer) = secure(server, (resolver, again), tls, &mut at_step).await?;
    at_step(Step::Websocket);
    Ok((open_websocket(stream, &server.at).await?, local, peer))
}

/// The same, up to where the server's certificate was checked.
async fn secure(
    server: &Server,
    (resolver, again): (&mut Resolver, Duration),
    tls: &tls::Memory,
    at_step: &mut impl FnMut(Step),
) -> Result<(Transport, SocketAddr, SocketAddr), Failure> {
    let (first, key) = match &server.proxy {
        Some(proxy) => (&proxy.at, "proxy"),
        None => (&server.at, "url"),
    };
    at_step(Step::Name);
    let mut stream = connect((first, key), resolver, again, at_step).await?;
    tcp::carry_a_link(&stream, server.congestion.as_deref());
    let addresses = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, peer) = addresses.map_err(|e| Failure::new(Step::Tcp, e.to_string(), "it will be tried again"))?;
    if let Some(proxy) = &server.proxy {
        at_step(Step::Proxy);
        proxy::connect(&mut stream, proxy, &server.at).await?;
    }
    at_step(Step::Tls);
    Ok((tls::handshake(stream, server, tls).await?, local, peer))
}

/// A connection to the server for a single request.
pub(crate) async fn once(server: &Server, tls: &tls::Memory) -> Result<Transport, Failure> {
    let dialed = (&mut Resolver::default(), ANOTHER_SYN);
    Ok(secure(server, dialed, tls, &mut |_| ()).await?.0)
}

/// Says hello; what the server answers, and how long that took.
pub(super) async fn introduce(socket: &mut Socket, hello: &Hello) -> Result<(Welcome, Duration), Failure> {
    let began = Instant::now();
    let welcome = greet(socket, hello).await.map_err(explain_hello)?;
    Ok((welcome, began.elapsed()))
}

/// Asks for the addresses anew each time: the server may have moved. All of them race; those of the last answer too, if
/// the resolver is as silent as the line.
async fn connect(
    (at, key): (&HostPort, &str),
    resolver: &mut Resolver,
    again: Duration,
    at_step: &mut impl FnMut(Step),
) -> Result<TcpStream, Failure> {
    let known = resolver.known(at);
    let mut race = Race::new(again);
    let mut asked = pin!(resolver.ask(at));
    let mut answered = false;
    let began = Instant::now();
    let (mut head_start, mut deadline) = (Some(began + RESOLVER_HEAD_START), began + Step::Name.deadline());
    loop {
        let more = tokio::select! {
            answer = &mut asked, if !answered => {
                answered = true;
                match answer {
                    Ok(addresses) => addresses,
                    Err(e) if known.is_empty() => return Err(no_address(at, key, &e)),
                    Err(_) => known.clone(),
                }
            }
            () = sleep_until(head_start.unwrap_or(began)), if head_start.is_some() && !answered && !known.is_empty() => {
                head_start = None;
                known.clone()
            }
            connected = race.run(), if race.is_on() => match connected {
                Ok(stream) => return Ok(stream),
                Err(e) if answered => return Err(no_connection(at, race.addresses(), &e)),
                Err(_) => continue,
            },
            () = sleep_until(deadline) => return Err(match race.addresses() {
                [] => Failure::timed_out(Step::Name, "DNS", &name_advice(key)),
                silent => no_connection(at, silent, &io::ErrorKind::TimedOut.into()),
            }),
        };
        if race.addresses().is_empty() {
            at_step(Step::Tcp);
            deadline = Instant::now() + Step::Tcp.deadline();
        }
        race.add(&more);
        if answered && !race.is_on() {
            return Err(no_connection(at, race.addresses(), &io::ErrorKind::NotFound.into()));
        }
    }
}

fn name_advice(key: &str) -> String {
    format!("is the network up, does its DNS work, and is the host in [server] {key} right?")
}

fn no_address(at: &HostPort, key: &str, error: &io::Error) -> Failure {
    Failure::new(Step::Name, format!("{} has no address: {error}", at.host), name_advice(key)).with_retry(Retry::Line)
}

fn no_connection(at: &HostPort, addresses: &[SocketAddr], error: &io::Error) -> Failure {
    let whom = match addresses {
        [one] => format!("{at} ({})", one.ip()),
        all => format!("{at} ({} addresses)", all.len()),
    };
    let advice = match error.kind() {
        io::ErrorKind::ConnectionRefused => "is the server running, and is the port right?",
        io::ErrorKind::TimedOut => "is there a firewall on the way? It may take a [server] proxy",
        _ => "is the network up?",
    };
    match error.kind() {
        io::ErrorKind::TimedOut => Failure::timed_out(Step::Tcp, &whom, advice),
        io::ErrorKind::ConnectionRefused => Failure::new(Step::Tcp, format!("{whom}: {error}"), advice),
        _ => Failure::new(Step::Tcp, format!("{whom}: {error}"), advice).with_retry(Retry::Line),
    }
}

async fn open_websocket(mut stream: Transport, at: &HostPort) -> Result<Socket, Failure> {
    match timeout(Step::Websocket.deadline(), upgrade(&mut stream, at)).await {
        Ok(Ok(read)) => Ok(Socket::new(stream, Role::Client, &read)),
        Ok(Err(e)) => Err(explain_upgrade(&e)),
        Err(_) => Err(Failure::timed_out(Step::Websocket, "the server", "is it a Linkspan server?")),
    }
}

fn explain_upgrade(error: &UpgradeError) -> Failure {
    let no_linkspan = "is [server] url that of a Linkspan server, and not of a device's page?";
    match error {
        UpgradeError::Answered(answer) => explain_answer(answer, tame(&error.to_string()), no_linkspan),
        UpgradeError::Io(e) if tls::refuses_us(e) => tls::not_accepted(),
        UpgradeError::Subprotocol => {
            Failure::new(Step::Websocket, error.to_string(), no_linkspan).with_retry(Retry::Slowly)
        }
        other => Failure::new(Step::Websocket, tame(&other.to_string()), no_linkspan),
    }
}

fn explain_answer(answer: &Answer, mut what: String, no_linkspan: &str) -> Failure {
    let (advice, retry) = match answer.status {
        300..=399 => {
            if let Some(location) = &answer.location {
                what += &format!(" to {}", tame(location));
            }
            ("redirects are not followed: write the final host as [server] url", Retry::Slowly)
        }
        429 | 500..=599 => ("the server, or what stands before it, is busy or starting", Retry::Soon),
        _ => (no_linkspan, Retry::Slowly),
    };
    let after = answer.retry_after.as_deref().and_then(|wish| retry_after(wish, answer.date.as_deref()));
    let retry = after.map_or(retry, Retry::After);
    Failure::new(Step::Websocket, what, advice).with_retry(retry)
}

/// Seconds, or a date (RFC 9110, section 10.2.3). A date is compared with the one the server says it is: clocks of routers
/// are not to be trusted.
fn retry_after(wish: &str, date: Option<&str>) -> Option<Duration> {
    if let Ok(seconds) = wish.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let (then, now) = (httpdate::parse_http_date(wish).ok()?, httpdate::parse_http_date(date?).ok()?);
    Some(then.duration_since(now).unwrap_or_default())
}

fn explain_hello(error: HandshakeError) -> Failure {
    match error {
        HandshakeError::Refused(refused) => explain_refusal(&refused),
        HandshakeError::Closed(close) => Failure { step: Step::Hello, ..closed(&close) },
        HandshakeError::Version(_) => {
            Failure::new(Step::Hello, error.to_string(), "update the gateway or the server").with_retry(Retry::Slowly)
        }
        HandshakeError::TimedOut => {
            Failure::new(Step::Hello, error.to_string(), "if it stays so, look into the server's log")
                .with_retry(Retry::Line)
        }
        HandshakeError::HungUp
        | HandshakeError::WebSocket(_)
        | HandshakeError::Frame(_)
        | HandshakeError::Malformed(_) => {
            Failure::new(Step::Hello, tame(&error.to_string()), "if it stays so, look into the server's log")
        }
    }
}

fn explain_refusal(refused: &Refused) -> Failure {
    let (advice, retry) = match refused.reason {
        RefusedReason::Identity => (
            "compare [identity] name and secret_file with what `linkspan-server gateway add` said; or enrol it again",
            Retry::Slowly,
        ),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_to_wait_is_seconds_or_a_date_by_the_servers_clock() {
        let date = Some("Thu, 01 Jan 1970 00:00:10 GMT");
        assert_eq!(retry_after(" 40 ", None), Some(Duration::from_secs(40)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:10 GMT", date), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:00:01 GMT", date), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-1", "Thu, 32 Jan 1970 00:00:01 GMT"] {
            assert_eq!(retry_after(nonsense, date), None, "{nonsense}");
        }
        assert_eq!(retry_after("Thu, 01 Jan 1970 00:01:10 GMT", None), None);
    }
}
