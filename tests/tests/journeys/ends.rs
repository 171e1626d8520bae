//! Whatever a right ends by, and whatever was opened with it: it ends within a second. Each cause against each kind of
//! stream, against real parts.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http::Method;
use linkspan_server::access::Role;
use linkspan_tests::parts::Vnc;
use linkspan_tests::wait::{self, PATIENCE};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use crate::origin::{Call, Origin, echo};
use crate::raw_stream::RawStream;
use crate::rights::{api, person};
use crate::site::Site;

/// What is promised.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Kinds of streams to a device.
const STREAMS: &[&str] = &["tcp", "device done", "client done", "vnc", "websocket", "download"];
/// The same, and what the server itself sends.
const ALL: &[&str] = &["tcp", "device done", "client done", "vnc", "websocket", "download", "events"];

/// A site with a device that has a page, a screen and a port.
struct House {
    site: Site,
    /// Connections that the device has of those whose one direction has ended.
    half: Arc<AtomicUsize>,
    _parts: (Origin, Origin, Origin, Vnc),
}

/// Something that is open.
enum Open {
    Raw(Box<RawStream>),
    Plain(Box<TlsStream<TcpStream>>),
}

/// Streams that are open; each tells when it ended.
type Streams = JoinSet<(&'static str, Instant)>;

/// A page that sends without end, and a WebSocket that echoes.
async fn page(mut call: Call) {
    let Some(head) = call.head().await else { return };
    if head.starts_with("GET /live ") {
        call.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        return echo(call).await;
    }
    call.say("HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n\r\n").await;
    while call.socket.write_all(&[7; 4096]).await.is_ok() {
        // As fast as a slow line.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A port whose device answers once, and is silent from then on: `d` ends its direction too, until the other is reset.
async fn half(mut call: Call, open: Arc<AtomicUsize>) {
    open.fetch_add(1, Ordering::SeqCst);
    let mut byte = [0];
    if call.socket.read_exact(&mut byte).await.is_ok() {
        call.say(byte).await;
        if byte == *b"d" {
            drop(call.socket.shutdown().await);
        }
        // Reading would end at the client's end of its direction: what is waited for is that all of it is over.
        let gone = call.socket.ready(Interest::ERROR).await;
        assert!(gone.is_ok());
    }
    open.fetch_sub(1, Ordering::SeqCst);
}

impl House {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (page, port) = (Origin::start(page).await, Origin::start(echo).await);
        let open = Arc::<AtomicUsize>::default();
        let counted = open.clone();
        let quiet = Origin::start(move |call| half(call, counted.clone())).await;
        let vnc = Vnc::start(folder.path()).await.unwrap();
        let services = [
            ("web", "http", page.address),
            ("vnc", "vnc", vnc.address()),
            ("echo", "tcp", port.address),
            ("quiet", "tcp", quiet.address),
        ];
        let site = Site::open(|config| config.device("plc1", "a machine", &services)).await.unwrap();
        Self { site, half: open, _parts: (page, port, quiet, vnc) }
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Value {
        api(&self.site, &self.site.token, method, path, body).await.unwrap()
    }

    /// Opens one stream of each of these kinds, and has each carry something.
    async fn open(&self, token: &str, kinds: &[&'static str]) -> Streams {
        let mut streams = JoinSet::new();
        for kind in kinds.iter().copied() {
            let open = self.open_one(token, kind).await.with_context(|| format!("no {kind}")).unwrap();
            streams.spawn(async move {
                open.end().await;
                (kind, Instant::now())
            });
        }
        streams
    }

    async fn open_one(&self, token: &str, kind: &str) -> Result<Open> {
        let (rig, https) = (&self.site.rig, self.site.rig.https()?);
        let raw = async |service: &str| RawStream::open(&https, &rig.console(), token, "plc1", service).await;
        match kind {
            "tcp" => {
                let mut stream = raw("echo").await?;
                stream.send(b"here").await?;
                ensure!(stream.receive_exactly(4).await? == b"here");
                Ok(Open::Raw(stream.into()))
            }
            "device done" => {
                let mut stream = raw("quiet").await?;
                stream.send(b"d").await?;
                ensure!(stream.receive().await? == "d" && stream.receive().await?.is_empty());
                Ok(Open::Raw(stream.into()))
            }
            "client done" => {
                let mut stream = raw("quiet").await?;
                stream.send(b"c").await?;
                stream.send(b"").await?;
                ensure!(stream.receive().await? == "c");
                Ok(Open::Raw(stream.into()))
            }
            "vnc" => {
                let mut stream = raw("vnc").await?;
                ensure!(stream.receive_exactly(4).await?.starts_with(b"RFB "));
                Ok(Open::Raw(stream.into()))
            }
            "websocket" => {
                let more = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                            sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
                let mut page = self.request(&rig.device("plc1"), "/live", token, more).await?;
                read_until(&mut page, "101 ").await?;
                read_until(&mut page, "\r\n\r\n").await?;
                page.write_all(b"ping").await?;
                read_until(&mut page, "ping").await?;
                Ok(Open::Plain(page.into()))
            }
            "download" => {
                let mut page = self.request(&rig.device("plc1"), "/", token, "").await?;
                read_until(&mut page, "\u{7}\u{7}\u{7}\u{7}").await?;
                Ok(Open::Plain(page.into()))
            }
            _ => {
                let mut events = self.request(&rig.console(), "/api/v1/events", token, "connection: close\r\n").await?;
                read_until(&mut events, "retry:").await?;
                Ok(Open::Plain(events.into()))
            }
        }
    }

    /// A request on a connection of its own, for what has no end.
    async fn request(&self, origin: &str, path: &str, token: &str, more: &str) -> Result<TlsStream<TcpStream>> {
        let authority = origin.strip_prefix("https://").context("no https")?;
        let host = authority.split(':').next().unwrap_or_default();
        let mut stream = self.site.rig.https()?.connect(host).await?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nauthorization: Bearer {token}\r\n\
             linkspan-authorization: Bearer {token}\r\norigin: {origin}\r\n{more}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        Ok(stream)
    }
}

impl Open {
    /// Reads until the end; a raw stream says that it was meant to end.
    async fn end(self) {
        match self {
            Self::Raw(mut stream) => {
                let close = stream.closed().await.unwrap();
                assert_eq!(close.map(|close| u16::from(close.code)), Some(4403));
            }
            Self::Plain(mut stream) => {
                let mut space = [0; 16 * 1024];
                while let Ok(1..) = stream.read(&mut space).await {}
            }
        }
    }
}

async fn read_until(stream: &mut TlsStream<TcpStream>, text: &str) -> Result<()> {
    let mut all = String::new();
    while !all.contains(text) {
        let byte = tokio::time::timeout(PATIENCE, stream.read_u8()).await.context(all.clone())?;
        all.push(char::from(byte.context(all.clone())?));
    }
    Ok(())
}

/// All of them end in time, and none ended before.
async fn end_at_once(mut streams: Streams, begun: Instant, done: Instant, cause: &str) {
    let mut all = Vec::new();
    while let Some(ended) = tokio::time::timeout(PATIENCE, streams.join_next())
        .await
        .unwrap_or_else(|_| panic!("{cause}: only {all:?} ended"))
    {
        let (kind, at) = ended.unwrap();
        all.push(kind);
        assert!(at >= begun, "{cause}: {kind} ended by itself before");
        let took = at.saturating_duration_since(done);
        assert!(took < AT_ONCE, "{cause}: {kind} ended after {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_stream_ends_at_once_whatever_the_right_ends_by() {
    let house = House::new().await;
    let mut witness = house.open(&house.site.token, &["tcp", "events"]).await;

    let token = person(&house.site, "tina", Role::Technician).await;
    let streams = house.open(&token, ALL).await;
    let begun = Instant::now();
    api(&house.site, &token, Method::DELETE, "/api/v1/session", Value::Null).await.unwrap();
    end_at_once(streams, begun, Instant::now(), "signed out").await;

    let token = person(&house.site, "toni", Role::Technician).await;
    let streams = house.open(&token, STREAMS).await;
    let begun = Instant::now();
    house.ask(Method::PUT, "/api/v1/people/toni", json!({"role": "viewer"})).await;
    end_at_once(streams, begun, Instant::now(), "another role").await;

    let grant = json!({"to": {"user": "toni"}, "role": "technician", "scope": {"kind": "device", "device": "plc1"}});
    let grant = house.ask(Method::POST, "/api/v1/grants", grant).await["id"].as_str().unwrap().to_owned();
    let streams = house.open(&token, STREAMS).await;
    let begun = Instant::now();
    house.ask(Method::DELETE, &format!("/api/v1/grants/{grant}"), Value::Null).await;
    end_at_once(streams, begun, Instant::now(), "a grant").await;

    let end = jiff::Timestamp::now() + Duration::from_secs(4);
    let grant = json!({
        "to": {"user": "toni"}, "role": "technician", "scope": {"kind": "everything"}, "when": {"until": end.to_string()},
    });
    house.ask(Method::POST, "/api/v1/grants", grant).await;
    let streams = house.open(&token, STREAMS).await;
    let begun = Instant::now();
    let left = Duration::try_from(end.duration_since(jiff::Timestamp::now())).expect("opening took too long");
    end_at_once(streams, begun, begun + left, "the time of a grant").await;

    let token = person(&house.site, "tara", Role::Technician).await;
    let streams = house.open(&token, ALL).await;
    let begun = Instant::now();
    house.ask(Method::DELETE, "/api/v1/people/tara", Value::Null).await;
    end_at_once(streams, begun, Instant::now(), "the person is removed").await;

    let made = house.ask(Method::POST, "/api/v1/tokens", json!({"name": "x"})).await;
    let streams = house.open(made["token"].as_str().unwrap(), ALL).await;
    let begun = Instant::now();
    house.ask(Method::DELETE, &format!("/api/v1/tokens/{}", made["id"].as_str().unwrap()), Value::Null).await;
    end_at_once(streams, begun, Instant::now(), "a token").await;

    let end = jiff::Timestamp::now() + Duration::from_secs(4);
    let made = house.ask(Method::POST, "/api/v1/tokens", json!({"name": "y", "expires": end.to_string()})).await;
    let streams = house.open(made["token"].as_str().unwrap(), ALL).await;
    let begun = Instant::now();
    let left = Duration::try_from(end.duration_since(jiff::Timestamp::now())).expect("opening took too long");
    end_at_once(streams, begun, begun + left, "the time of a token").await;

    assert!(witness.try_join_next().is_none(), "everybody else goes on");
    // The device hears of each end too, also where nobody has anything to say any more.
    wait::until("the end of every silent connection at the device", PATIENCE, async || {
        let open = house.half.load(Ordering::SeqCst);
        ensure!(open == 0, "{open} are open");
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_guest_has_open_ends_at_once_with_the_visit_and_with_the_host() {
    let house = House::new().await;
    let host = person(&house.site, "tina", Role::Technician).await;
    let invite = async |speaks: &str, view_only: bool, seconds: u64| {
        let until = (jiff::Timestamp::now() + Duration::from_secs(seconds)).to_string();
        let visit = json!({
            "guest": "Vendor", "device": "plc1", "speaks": speaks, "reason": "repair", "until": until, "view_only": view_only,
        });
        let made = api(&house.site, &host, Method::POST, "/api/v1/visits", visit).await.unwrap();
        let link = made["link"].as_str().unwrap().rsplit_once('/').unwrap().1.to_owned();
        let guest = api(&house.site, "", Method::POST, "/api/v1/visit", json!({"token": link})).await.unwrap();
        let path = format!("/api/v1/visits/{}", made["visit"]["id"].as_str().unwrap());
        (guest["token"].as_str().unwrap().to_owned(), path)
    };

    let (guest, path) = invite("http", false, 600).await;
    let streams = house.open(&guest, &["websocket", "download", "events"]).await;
    let begun = Instant::now();
    api(&house.site, &host, Method::DELETE, &path, Value::Null).await.unwrap();
    end_at_once(streams, begun, Instant::now(), "a visit to pages is revoked").await;

    // Only watched: the server follows the screen's own language, and ends it all the same.
    let (guest, path) = invite("vnc", true, 600).await;
    let streams = house.open(&guest, &["vnc"]).await;
    let begun = Instant::now();
    house.ask(Method::DELETE, &path, Value::Null).await;
    end_at_once(streams, begun, Instant::now(), "a visit to a screen is revoked").await;

    let end = Instant::now() + Duration::from_secs(4);
    let (guest, _) = invite("http", false, 4).await;
    let streams = house.open(&guest, &["websocket", "download", "events"]).await;
    end_at_once(streams, Instant::now(), end, "the time of a visit").await;

    let (pages, screen) = (invite("http", false, 600).await.0, invite("vnc", false, 600).await.0);
    let mut streams = house.open(&pages, &["websocket", "download"]).await;
    let mut of_screen = house.open(&screen, &["vnc"]).await;
    let begun = Instant::now();
    house.ask(Method::PUT, "/api/v1/people/tina", json!({"role": "operator"})).await;
    end_at_once(of_screen, begun, Instant::now(), "the host may not any more").await;
    end_at_once(streams, begun, Instant::now(), "the host invites nobody any more").await;

    house.ask(Method::PUT, "/api/v1/people/tina", json!({"role": "technician"})).await;
    streams = house.open(&pages, &["websocket", "download"]).await;
    of_screen = house.open(&screen, &["vnc"]).await;
    let begun = Instant::now();
    house.ask(Method::DELETE, "/api/v1/people/tina", Value::Null).await;
    let done = Instant::now();
    end_at_once(streams, begun, done, "the host is removed").await;
    end_at_once(of_screen, begun, done, "the host is removed").await;
}
