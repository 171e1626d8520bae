//! Memory that connected, idle gateways cost the server, with simulated ones that speak the real language over TLS; and
//! the memory of one real gateway.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_protocol::driver::{self, Role, Settings};
use linkspan_protocol::handshake::greet;
use linkspan_protocol::id::{GatewayName, Secret};
use linkspan_protocol::message::{GatewayToServer, Hello, LINK_PATH, SUBPROTOCOL, VERSION};
use linkspan_server::store::Store;
use linkspan_tests::programs::{Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::memory::resident;
use crate::report::Report;
use crate::world::{Programs, server_url};

/// Handshakes at once.
const AT_ONCE: usize = 32;
/// Gateways of one source address: far fewer than the ports it has.
const PER_SOURCE: u32 = 500;

pub(crate) async fn measure(programs: &Programs, folder: &Path, count: u32, report: &mut Report) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut server = Server::start(&programs.server, ServerSetup::new(&folder.join("server"))?).await?;
    let secret = server.add_gateway("real")?;
    let config = GatewayConfig::new("real", &secret, &server_url(&server), &server.ca_file());
    let mut gateway = Gateway::start(&programs.gateway, &folder.join("gateway"), &config)?;
    let secrets = register(&folder.join("server/linkspan.db"), count).await?;
    let simulation = Arc::new(Simulation::new(&server)?);
    // One gateway first: what the server needs once and for all is not theirs.
    let mut links = JoinSet::new();
    connect(&simulation, &secrets[..1], &mut links).await?;
    let (pid, before) = (server.process().pid(), settled(server.process().pid()).await?);
    let begin = Instant::now();
    connect(&simulation, &secrets[1..], &mut links).await?;
    let took = begin.elapsed();
    let after = settled(pid).await?;
    ensure!(links.try_join_next().is_none(), "a simulated gateway lost its link");
    let each = after.saturating_sub(before) / u64::from(count - 1);
    report.line(
        "Memory",
        format!(
            "server, per connected idle gateway: {:.1} KiB ({count} gateways, {:.1} MiB before)",
            kib(each),
            kib(before) / 1024.0
        ),
    );
    let rate = f64::from(count - 1) / took.as_secs_f64();
    report.line("Memory", format!("connecting them: {rate:.0} a second, with the simulation on the same processors"));
    let own = resident(gateway.process().pid())?;
    report.line("Memory", format!("gateway, idle and connected: {:.1} MiB resident", kib(own) / 1024.0));
    Ok(())
}

/// Gateways as the server's database has them: added straight to it, since thousands of commands would take minutes.
async fn register(database: &Path, count: u32) -> Result<Vec<(GatewayName, Secret)>> {
    let store = Store::open(&format!("sqlite:{}", database.display())).await?;
    let mut all = Vec::new();
    for number in 0..count {
        let name: GatewayName = format!("sim{number}").parse()?;
        let secret = Secret::new(format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()));
        store.add_gateway(&name, &secret).await?.context("the name is taken")?;
        all.push((name, secret));
    }
    Ok(all)
}

struct Simulation {
    tls: TlsConnector,
    server: SocketAddr,
}

/// Connects them all, and leaves each link to run in the set.
async fn connect(
    simulation: &Arc<Simulation>,
    who: &[(GatewayName, Secret)],
    links: &mut JoinSet<Result<()>>,
) -> Result<()> {
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let (done, mut connected) = mpsc::channel(AT_ONCE);
    for (number, (name, secret)) in (0..).zip(who.iter().cloned()) {
        let (simulation, permits, done) = (Arc::clone(simulation), Arc::clone(&permits), done.clone());
        links.spawn(async move {
            let permit = permits.acquire_owned().await?;
            let link = simulation.link(number, name, secret).await;
            let report = link.as_ref().map(drop).map_err(|error| format!("{error:#}"));
            done.send(report).await?;
            drop((permit, done));
            link?.await
        });
    }
    drop(done);
    while let Some(result) = connected.recv().await {
        result.map_err(anyhow::Error::msg).context("a simulated gateway cannot connect")?;
    }
    Ok(())
}

impl Simulation {
    fn new(server: &Server) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(server.ca_file())? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)), server: server.address() })
    }

    /// Dials and greets; the future that comes back runs the link until it ends.
    async fn link(
        &self,
        number: u32,
        name: GatewayName,
        secret: Secret,
    ) -> Result<impl Future<Output = Result<()>> + use<>> {
        let mut socket = self.dial(number).await?;
        let hello = Hello {
            version: VERSION,
            agent: "linkspan-bench".into(),
            name,
            secret: Some(secret),
            instance: format!("{:016x}", rand::random::<u64>()),
            yielding: false,
            window: 65536,
            max_streams: 16,
            capabilities: Vec::new(),
            resume: None,
            resume_within_s: None,
        };
        let welcome = greet(&mut socket, &hello).await?;
        let settings =
            Settings { receive_window: 65536, send_window: welcome.window, max_streams: 16, ..Settings::default() };
        let ping_after = Duration::from_secs(welcome.ping_after_s.into());
        let (handle, driver) = driver::link(socket, Role::Gateway, settings, ping_after);
        handle.send(&GatewayToServer::Devices { devices: Vec::new() })?;
        Ok(async move {
            let _handle = handle;
            let end = driver.run().await;
            anyhow::bail!("the link ended: {end:?}")
        })
    }

    async fn dial(&self, number: u32) -> Result<WebSocketStream<TlsStream<TcpStream>>> {
        let socket = TcpSocket::new_v4()?;
        let [_, _, high, low] = (number / PER_SOURCE + 2).to_be_bytes();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 1, high, low), 0)))?;
        let stream = socket.connect(self.server).await?;
        let stream = self.tls.connect(ServerName::try_from("localhost")?, stream).await?;
        let mut request = format!("wss://localhost:{}{LINK_PATH}", self.server.port()).into_client_request()?;
        request.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse()?);
        let config = Some(driver::websocket_config());
        Ok(tokio_tungstenite::client_async_with_config(request, stream, config).await?.0)
    }
}

/// Resident memory once it no longer changes.
async fn settled(pid: u32) -> Result<u64> {
    let mut last = 0;
    wait::until("the server's memory to settle", Duration::from_secs(20), async || {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let now = resident(pid)?;
        let difference = now.abs_diff(last);
        last = now;
        ensure!(difference < 64 << 10, "it changed by {difference} bytes");
        Ok(now)
    })
    .await
}

fn kib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0
}
