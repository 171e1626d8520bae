//! Server, gateway and devices on networks of their own, with a line between them that is slow, cut, or silent.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::https::Https;
use linkspan_tests::line::{End, Line, Way};
use linkspan_tests::netns::{Namespace, run};
use linkspan_tests::noise::noise;
use linkspan_tests::parts::Avahi;
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::origin::{Call, Origin, echo};
use crate::raw_stream::RawStream;
use crate::site::GATEWAY;
use crate::world::{RETURN, status};

const SERVER: &str = "10.77.0.2:8443";
const DEVICE: &str = "192.168.7.2";

/// The world with the server and its visitors, the router with the gateway, and the LAN behind it: a namespace each.
pub(crate) struct Networks {
    pub(crate) line: Line,
    pub(crate) public: Namespace,
    pub(crate) lan: Namespace,
    pub(crate) router: Namespace,
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
    pub(crate) binaries: Binaries,
    pub(crate) token: String,
    pub(crate) folder: TempDir,
}

/// What somebody in the public namespace needs.
#[derive(Clone)]
pub(crate) struct Visitor {
    pub(crate) https: Https,
    pub(crate) console: String,
    pub(crate) zone: String,
    pub(crate) token: String,
}

impl Networks {
    /// `devices` is asked once the networks are there, with the one of the devices.
    pub(crate) async fn start(devices: impl FnOnce(&Namespace, GatewayConfig) -> GatewayConfig) -> Result<Self> {
        let (public, router, lan) = (Namespace::new("public")?, Namespace::new("router")?, Namespace::new("lan")?);
        let line = Line::new(&End::new(&router, "10.77.0.1/24"), &End::new(&public, "10.77.0.2/24"), 7)?;
        lan.join("192.168.7.2/24", &router, "192.168.7.1/24")?;
        lan.join("fd77:7::2/64", &router, "fd77:7::1/64")?;
        router.host("localhost", "10.77.0.2")?;
        let folder = tempfile::Builder::new().prefix("linkspan-networks-").tempdir()?;
        let binaries = Binaries::beside_me()?;
        let setup = ServerSetup::inside(&folder.path().join("server"), &public, SERVER.parse()?);
        let server = Server::start(&binaries, setup).await?;
        let config =
            GatewayConfig::new(GATEWAY, &server.add_gateway(GATEWAY)?, "https://localhost:8443", &server.ca_file());
        let config = devices(&lan, config);
        let gateway = Gateway::start_in(Some(&router), &binaries, &folder.path().join("gateway"), &config)?;
        let (https, console, password) = (server.https()?, server.console(), server.password()?);
        let token = public.inside_async(async move || {
            until("the server", PATIENCE, async || https.sign_in(&console, "admin", &password).await).await
        })?;
        Ok(Self { line, public, lan, router, server, gateway, binaries, token, folder })
    }

    pub(crate) fn visitor(&self) -> Result<Visitor> {
        let zone = self.server.device("DEVICE");
        Ok(Visitor { https: self.server.https()?, console: self.server.console(), zone, token: self.token.clone() })
    }

    /// Does something beside the server.
    pub(crate) fn visit<T: Send + 'static>(
        &self,
        act: impl AsyncFnOnce(Visitor) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let visitor = self.visitor()?;
        self.public.inside_async(async move || act(visitor).await)
    }

    /// Waits until a device's page says that.
    pub(crate) fn wait_for_page(&self, label: &'static str, status: u16, text: &'static str) -> Result<()> {
        self.visit(async move |visitor| visitor.wait_for_page(label, status, text).await)
    }

    pub(crate) fn status(&self) -> Result<serde_json::Value> {
        status(&self.binaries, &self.gateway.config_file())
    }
}

impl Visitor {
    /// What a device's page says now: its status, its `Linkspan-Error`, its text.
    pub(crate) async fn page(&self, label: &str) -> Result<(u16, String, String)> {
        let url = format!("{}/", self.zone.replace("DEVICE", label));
        let answer = self.https.get_device(&url, &self.token).await?;
        Ok((answer.status.as_u16(), answer.header("linkspan-error").to_owned(), answer.text()))
    }

    async fn wait_for_page(&self, label: &str, status: u16, text: &str) -> Result<()> {
        until(&format!("the page of {label}"), RETURN, async || {
            let page = self.page(label).await?;
            ensure!(page.0 == status && page.2.contains(text), "{page:?}");
            Ok(())
        })
        .await
    }

    pub(crate) async fn stream(&self, device: &str, service: &str) -> Result<RawStream> {
        RawStream::open(&self.https, &self.console, &self.token, device, service).await
    }
}

/// A device in a namespace, at a port of all its addresses.
pub(crate) fn device_in<F, T>(namespace: &Namespace, port: u16, handle: F) -> Origin
where
    F: Fn(Call) -> T + Send + 'static,
    T: Future<Output = ()> + Send + 'static,
{
    let listener = namespace.inside(move || Ok(std::net::TcpListener::bind(("::", port))?)).unwrap();
    listener.set_nonblocking(true).unwrap();
    Origin::on(TcpListener::from_std(listener).unwrap(), handle)
}

async fn page(mut call: Call) {
    while call.head().await.is_some() {
        call.say("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npress 3").await;
    }
}

pub(crate) fn at(port: u16) -> SocketAddr {
    SocketAddr::new(DEVICE.parse().unwrap(), port)
}

/// Runs `nft` with a rule set inside a namespace.
fn nft(namespace: &str, rules: &str) -> Result<()> {
    run(Command::new("ip").args(["netns", "exec", namespace, "nft", rules])).map(drop)
}

/// Drops without a word what comes for a port.
fn silence(namespace: &str, port: u16) -> Result<()> {
    nft(namespace, "add table inet journey")?;
    nft(namespace, "add chain inet journey in { type filter hook input priority 0 ; }")?;
    nft(namespace, &format!("add rule inet journey in tcp dport {port} drop"))?;
    nft(namespace, &format!("add rule inet journey in tcp sport {port} drop"))
}

fn speak(namespace: &str) -> Result<()> {
    nft(namespace, "delete table inet journey")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_are_reached_by_every_kind_of_address_and_missed_in_every_kind_of_way() {
    let mut origin = None;
    let raw = |name: &str, host: &str| {
        format!(
            "\n[[device]]\nname = \"{name}\"\nhost = \"{host}\"\n[[device.service]]\nname = \"web\"\nkind = \"http\"\nport = 8080\n"
        )
    };
    let networks = Networks::start(|lan, config| {
        origin = Some(device_in(lan, 8080, page));
        silence(lan.name(), 9000).unwrap();
        config
            .device("plain", "", &[("web", "http", at(8080)), ("dropped", "http", at(9000))])
            .lines(&raw("six", "fd77:7::2"))
            .lines(&raw("local", "plc-seven.local"))
            .lines(&raw("nobody", "plc-eight.local"))
            .lines(&raw("gone", "192.168.7.99"))
            .lines(&raw("nowhere", "203.0.113.5"))
            .lines("\n[limits]\nconnect_timeout = \"6s\"\n")
    })
    .await
    .unwrap();
    let _avahi = Avahi::start(networks.folder.path(), &networks.lan, "plc-seven").await.unwrap();
    for label in ["plain", "six", "local"] {
        networks.wait_for_page(label, 200, "press 3").unwrap();
    }
    for (label, status, code, words) in [
        ("plain--dropped", 504, "device-timed-out", "did not accept a connection in time"),
        ("gone", 502, "device-unreachable", "cannot reach the device's address"),
        ("nowhere", 502, "device-unreachable", "cannot reach the device's address"),
        ("nobody", 502, "name-not-found", "name is not known on its LAN"),
    ] {
        let begin = Instant::now();
        let page = networks.visit(async move |visitor| visitor.page(label).await).unwrap();
        assert_eq!((page.0, page.1.as_str()), (status, code), "{label}: {}", page.2);
        assert!(page.2.contains(words), "{label}: {}", page.2);
        assert!(begin.elapsed() < Duration::from_secs(9), "{label} took {:?}", begin.elapsed());
    }
    assert!(origin.unwrap().calls() >= 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_and_lossy_line_carries_all_of_it() {
    let mut origins = Vec::new();
    let networks = Networks::start(|lan, config| {
        origins.push(device_in(lan, 8080, page));
        origins.push(device_in(lan, 8081, echo));
        config.device("plc1", "", &[("web", "http", at(8080)), ("echo", "tcp", at(8081))])
    })
    .await
    .unwrap();
    networks.line.set(Way::Both, "delay=250ms jitter=50ms loss=1% rate=2mbit").unwrap();
    networks.wait_for_page("plc1", 200, "press 3").unwrap();
    networks
        .visit(async |visitor| {
            let begin = Instant::now();
            assert_eq!(visitor.page("plc1").await?.0, 200);
            let page = begin.elapsed();
            let mut stream = visitor.stream("plc1", "echo").await?;
            let sent = noise(300_000);
            for piece in sent.chunks(16_000) {
                stream.send(piece).await?;
            }
            let received = tokio::time::timeout(Duration::from_secs(60), stream.receive_exactly(sent.len())).await??;
            ensure!(received == sent, "other bytes came back");
            eprintln!("on a line of 500 ms: a page in {page:?}, 300 KB there and back in {:?}", begin.elapsed() - page);
            Ok(())
        })
        .unwrap();
    assert_eq!(networks.status().unwrap()["link"]["reconnects"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_short_hole_in_the_line_is_only_a_pause() {
    let mut origin = None;
    let networks = Networks::start(|lan, config| {
        origin = Some(device_in(lan, 8081, echo));
        config.device("plc1", "", &[("echo", "tcp", at(8081))])
    })
    .await
    .unwrap();
    let public = networks.public.name().to_owned();
    networks
        .visit(async move |visitor| {
            let stream = until("the device", PATIENCE, async || visitor.stream("plc1", "echo").await);
            let mut stream = stream.await?;
            stream.send(b"before").await?;
            ensure!(stream.receive_exactly(6).await? == b"before");
            // A visitor beside the server is not cut off: only packets that come over the line are.
            nft(&public, "add table inet journey")?;
            nft(&public, "add chain inet journey in { type filter hook input priority 0 ; }")?;
            nft(&public, "add rule inet journey in ip saddr 10.77.0.1 drop")?;
            stream.send(b"during").await?;
            let silent = tokio::time::timeout(Duration::from_secs(6), stream.receive()).await;
            ensure!(silent.is_err(), "{silent:?} came through a cut line");
            speak(&public)?;
            let back = tokio::time::timeout(Duration::from_secs(30), stream.receive_exactly(6)).await;
            ensure!(back.context("the line did not come back")?? == b"during");
            Ok(())
        })
        .unwrap();
    assert_eq!((origin.unwrap().calls(), networks.status().unwrap()["link"]["reconnects"].as_u64()), (1, Some(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_silent_for_long_is_noticed_and_comes_back_by_itself() {
    let mut origin = None;
    let mut networks = Networks::start(|lan, config| {
        origin = Some(device_in(lan, 8080, page));
        config.device("plc1", "", &[("web", "http", at(8080))])
    })
    .await
    .unwrap();
    networks.wait_for_page("plc1", 200, "press 3").unwrap();
    networks.line.set(Way::Both, "down").unwrap();
    // Whoever asks is told in bounded time: what was asked needs an answer, and none comes.
    let begin = Instant::now();
    networks
        .visit(async |visitor| {
            until("the link's end", Duration::from_secs(75), async || {
                let page = visitor.page("plc1").await?;
                ensure!(page.1 == "link-lost" || page.1 == "gateway-offline", "{page:?}");
                Ok(())
            })
            .await
        })
        .unwrap();
    networks.wait_for_page("plc1", 503, "is not connected").unwrap();
    let noticed = begin.elapsed();
    assert!(noticed < Duration::from_secs(60), "it took {noticed:?} to notice");
    networks.line.set(Way::Both, "up").unwrap();
    let begin = Instant::now();
    networks
        .visit(async |visitor| {
            until("the page", Duration::from_secs(120), async || {
                let page = visitor.page("plc1").await?;
                ensure!(page.0 == 200, "{page:?}");
                Ok(())
            })
            .await
        })
        .unwrap();
    eprintln!("a silent line was noticed after {noticed:?}; the page was back {:?} after the line", begin.elapsed());
    networks.gateway.process().still_runs().unwrap();
    assert!(origin.unwrap().calls() >= 2);
}
