//! A gateway behind a radio line and a carrier's NAT, and people beside the server: where holes and other lines are tried.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::https::Https;
use linkspan_tests::line::{End, Line};
use linkspan_tests::netns::{Namespace, ip};
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::origin::{Call, Origin};
use crate::raw_stream::RawStream;
use crate::site::GATEWAY;
use crate::world::status;

/// The server's two addresses: it begins at the first.
pub(crate) const SERVER: &str = "203.0.113.2";
pub(crate) const MOVED: &str = "203.0.113.3";
pub(crate) const DEVICE: &str = "192.168.7.2";

/// Who rebuilds a link: the time that the slowest step takes on a loaded machine comes on top of what is asked for.
pub(crate) const SLACK: Duration = Duration::from_secs(2);

/// The world with the server, a carrier that translates addresses, and a router with the gateway; a radio line between.
pub(crate) struct Field {
    pub(crate) line: Line,
    pub(crate) public: Namespace,
    pub(crate) carrier: Namespace,
    pub(crate) router: Namespace,
    pub(crate) server: Server,
    pub(crate) gateway: Gateway,
    pub(crate) binaries: Binaries,
    pub(crate) token: String,
    _origin: Origin,
    _folder: TempDir,
}

async fn page(mut call: Call) {
    while let Some(head) = call.head().await {
        if head.starts_with("GET") {
            call.say("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npress 3").await;
        } else {
            call.say(head).await;
        }
    }
}

impl Field {
    pub(crate) async fn start(server_lines: &str) -> Result<Self> {
        Self::start_with(server_lines, |_, config| Ok(config)).await
    }

    /// `prepare` sees the router before the gateway runs there, and may list more devices.
    pub(crate) async fn start_with(
        server_lines: &str,
        prepare: impl FnOnce(&Namespace, GatewayConfig) -> Result<GatewayConfig>,
    ) -> Result<Self> {
        let (public, carrier, router) =
            (Namespace::new("public")?, Namespace::new("carrier")?, Namespace::new("router")?);
        public.join(&format!("{SERVER}/24"), &carrier, "203.0.113.1/24")?;
        let line = Line::new(&End::new(&router, "10.64.0.2/24"), &End::new(&carrier, "10.64.0.1/24"), 7)?;
        router.route_by("10.64.0.1")?;
        carrier.forward()?;
        nft(carrier.name(), "add table inet carrier")?;
        nft(carrier.name(), "add chain inet carrier out { type nat hook postrouting priority 100 ; }")?;
        nft(carrier.name(), "add rule inet carrier out ip saddr 10.64.0.0/24 masquerade")?;
        ip(&["-n", router.name(), "address", "add", &format!("{DEVICE}/32"), "dev", "lo"])?;
        let device = router.inside(|| Ok(std::net::TcpListener::bind((DEVICE, 80))?))?;
        device.set_nonblocking(true)?;
        let origin = Origin::on(TcpListener::from_std(device)?, page);
        router.host("localhost", SERVER)?;
        let folder = tempfile::Builder::new().prefix("linkspan-field-").tempdir()?;
        let binaries = Binaries::beside_me()?;
        let setup = ServerSetup::inside(&folder.path().join("server"), &public, "0.0.0.0:8443".parse()?);
        let server = Server::start(&binaries, setup).await?;
        let secret = server.add_gateway(GATEWAY)?;
        let at = (DEVICE.parse::<std::net::IpAddr>()?, 80).into();
        let config = GatewayConfig::new(GATEWAY, &secret, "https://localhost:8443", &server.ca_file())
            .replaced("ca_file", &format!("{server_lines}\nca_file"))
            .device("plc1", "", &[("web", "http", at), ("echo", "tcp", at)]);
        let config = prepare(&router, config)?;
        let (https, console, password) = (server.https()?, server.console(), server.password()?);
        let token = public.inside_async(async move || {
            until("the server", PATIENCE, async || https.sign_in(&console, "admin", &password).await).await
        })?;
        let gateway = Gateway::start_in(Some(&router), &binaries, &folder.path().join("gateway"), &config)?;
        let field =
            Self { line, public, carrier, router, server, gateway, binaries, token, _origin: origin, _folder: folder };
        field.back_within(PATIENCE)?;
        Ok(field)
    }

    pub(crate) fn visitor(&self) -> Result<Visitor> {
        Ok(Visitor {
            https: self.server.https()?,
            console: self.server.console(),
            page: format!("{}/", self.server.device("plc1")),
            token: self.token.clone(),
        })
    }

    /// Does something beside the server.
    pub(crate) fn visit<T: Send + 'static>(
        &self,
        act: impl AsyncFnOnce(Visitor) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let visitor = self.visitor()?;
        self.public.inside_async(async move || act(visitor).await)
    }

    /// How long it takes until the device's page is there; each request may wait for a second.
    pub(crate) fn back_within(&self, deadline: Duration) -> Result<Duration> {
        self.visit(async move |visitor| {
            let begin = Instant::now();
            until("the page", deadline, async || visitor.sees_page(Duration::from_secs(1)).await).await?;
            Ok(begin.elapsed())
        })
    }

    /// Keeps something in flight for a while, as people do who wait for an answer.
    pub(crate) fn ask_for(&self, span: Duration) -> Result<()> {
        self.visit(async move |visitor| {
            let end = Instant::now() + span;
            while Instant::now() < end {
                drop(visitor.sees_page(Duration::from_secs(1)).await);
            }
            Ok(())
        })
    }

    /// The device that the router's default route leads out by.
    pub(crate) fn uplink(&self) -> Result<String> {
        let routes = ip(&["-n", self.router.name(), "-o", "route", "show", "default"])?;
        let device = routes.split_whitespace().skip_while(|word| *word != "dev").nth(1);
        Ok(device.with_context(|| format!("no default route in {routes:?}"))?.to_owned())
    }

    pub(crate) fn link(&self) -> Result<Value> {
        Ok(status(&self.binaries, &self.gateway.config_file())?["link"].clone())
    }

    /// Bytes that passed at the router's end of the line, IP headers included, both ways.
    pub(crate) fn bytes(&self) -> u64 {
        let (up, down) = self.line.counts();
        up.bytes + down.bytes
    }
}

pub(crate) struct Visitor {
    pub(crate) https: Https,
    pub(crate) console: String,
    pub(crate) page: String,
    pub(crate) token: String,
}

impl Visitor {
    pub(crate) async fn sees_page(&self, patience: Duration) -> Result<()> {
        let answer = tokio::time::timeout(patience, self.https.get_device(&self.page, &self.token)).await??;
        ensure!(answer.status.as_u16() == 200, "{}: {}", answer.status, answer.header("linkspan-error"));
        Ok(())
    }

    pub(crate) async fn stream(&self) -> Result<RawStream> {
        self.stream_to("plc1", "echo").await
    }

    pub(crate) async fn stream_to(&self, device: &str, service: &str) -> Result<RawStream> {
        RawStream::open(&self.https, &self.console, &self.token, device, service).await
    }
}

/// Words that the device says back.
pub(crate) async fn talk(stream: &mut RawStream, words: &str) -> Result<()> {
    let said = format!("{words}\r\n\r\n");
    stream.send(said.as_bytes()).await?;
    let heard = tokio::time::timeout(PATIENCE, stream.receive_exactly(said.len())).await??;
    ensure!(heard == said.as_bytes(), "{heard:?}");
    Ok(())
}

pub(crate) fn nft(namespace: &str, rules: &str) -> Result<()> {
    ip(&["netns", "exec", namespace, "nft", rules]).map(drop)
}

/// Has the carrier drop without a word what comes from there.
pub(crate) fn silence(carrier: &str, from: &[&str]) -> Result<()> {
    nft(carrier, "add table inet silence")?;
    nft(carrier, "add chain inet silence pass { type filter hook forward priority 0 ; }")?;
    from.iter().try_for_each(|from| nft(carrier, &format!("add rule inet silence pass ip saddr {from} drop")))
}

pub(crate) fn speak(carrier: &str) -> Result<()> {
    nft(carrier, "delete table inet silence")
}
