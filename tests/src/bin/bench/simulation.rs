//! Simulated gateways in a process of their own: light, but with real TLS, WebSockets and hellos, and they come back by
//! the gateway's own rules. What becomes of them is told line by line on standard output.
#![expect(clippy::print_stdout, reason = "its lines are read by the process that started it")]

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use linkspan_gateway::link::{Backoff, Retry};
use linkspan_protocol::driver::{self, LinkEnd, Role, Settings};
use linkspan_protocol::handshake::{HandshakeError, greet};
use linkspan_protocol::id::{GatewayName, Secret};
use linkspan_protocol::message::{ALPN, GatewayToServer, Hello, LINK_PATH, SUBPROTOCOL, VERSION, Welcome};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{CipherSuite, ClientConfig, RootCertStore};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// First handshakes at once.
const AT_ONCE: usize = 48;
/// Gateways of one source address: far fewer than the ports it has.
const PER_SOURCE: u32 = 500;
/// Between two lines on standard output.
const TELL: Duration = Duration::from_millis(100);
/// Time for one attempt; a gateway gives each of its steps as long.
const ATTEMPT: Duration = Duration::from_secs(60);

/// What the process is told.
#[derive(Args)]
pub(crate) struct Simulation {
    /// The server.
    #[arg(long)]
    server: SocketAddr,
    /// Its authority.
    #[arg(long)]
    ca_file: PathBuf,
    /// Names and secrets, a pair on each line.
    #[arg(long)]
    secrets: PathBuf,
    /// Distinguishes the source addresses of several simulations, from 1.
    #[arg(long)]
    network: u8,
}

/// How they are. Gateways that came back are counted by how many tries that took: 1, 2, 3, more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) connected: u64,
    pub(crate) lost: u64,
    pub(crate) back: [u64; 4],
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, three, more] = self.back;
        write!(f, "{} {} {one} {two} {three} {more}", self.connected, self.lost)
    }
}

impl FromStr for Told {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Self> {
        let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
        let [connected, lost, one, two, three, more] = numbers[..] else { return Err(anyhow!("`{line}`")) };
        Ok(Self { connected, lost, back: [one, two, three, more] })
    }
}

#[derive(Default)]
struct Counts {
    connected: AtomicU64,
    lost: AtomicU64,
    back: [AtomicU64; 4],
}

impl Counts {
    fn told(&self) -> Told {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Told { connected: read(&self.connected), lost: read(&self.lost), back: self.back.each_ref().map(read) }
    }
}

/// Runs until the process is ended by who started it.
pub(crate) async fn run(simulation: &Simulation) -> Result<()> {
    let world = Arc::new(World {
        tls: connector(&simulation.ca_file)?,
        server: simulation.server,
        network: simulation.network,
        counts: Counts::default(),
        first: Semaphore::new(AT_ONCE),
    });
    let secrets = std::fs::read_to_string(&simulation.secrets)?;
    let mut gateways = JoinSet::new();
    for (number, line) in (0..).zip(secrets.lines()) {
        let (name, secret) = line.split_once(' ').context("no secret")?;
        let gateway = Gateway { number, name: name.parse()?, secret: Secret::new(secret), instance: word() };
        let world = Arc::clone(&world);
        gateways.spawn(async move { gateway.live(&world).await });
    }
    loop {
        println!("{}", world.counts.told());
        sleep(TELL).await;
    }
}

fn connector(ca_file: &Path) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca_file)? {
        roots.add(certificate?)?;
    }
    let mut provider = rustls::crypto::ring::default_provider();
    // Gateways prefer it too.
    provider.cipher_suites.sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

fn word() -> String {
    format!("{:016x}", rand::random::<u64>())
}

struct World {
    tls: TlsConnector,
    server: SocketAddr,
    network: u8,
    counts: Counts,
    first: Semaphore,
}

struct Gateway {
    number: u32,
    name: GatewayName,
    secret: Secret,
    instance: String,
}

type Socket = WebSocketStream<TlsStream<TcpStream>>;

impl Gateway {
    async fn live(self, world: &World) {
        let mut backoff = Backoff::default();
        let mut tries = None;
        let mut down_since = Instant::now();
        // Only the first connections are made with measure; when they are lost, all come back as they like.
        let mut measure = world.first.acquire().await.ok();
        loop {
            if let Some(tries) = &mut tries {
                *tries += 1;
            }
            // In a box: the way in takes more memory than the link.
            let attempt = timeout(ATTEMPT, Box::pin(self.connect(world))).await;
            let retry = match attempt.unwrap_or(Err(Retry::Soon)) {
                Ok((socket, welcome)) => {
                    drop(measure.take());
                    if let Some(tries @ 1..) = tries {
                        world.counts.back[(tries - 1).min(3)].fetch_add(1, Ordering::Relaxed);
                    }
                    tries = Some(0);
                    let begin = Instant::now();
                    let retry = self.hold(world, socket, &welcome).await;
                    backoff.link_held(begin.elapsed());
                    down_since = Instant::now();
                    retry
                }
                Err(retry) => retry,
            };
            sleep(backoff.next(retry, down_since.elapsed(), rand::random())).await;
        }
    }

    async fn hold(&self, world: &World, socket: Socket, welcome: &Welcome) -> Retry {
        world.counts.connected.fetch_add(1, Ordering::Relaxed);
        let settings =
            Settings { receive_window: 65536, send_window: welcome.window, max_streams: 16, ..Settings::default() };
        let ping_after = Duration::from_secs(welcome.ping_after_s.into());
        let (handle, driver) = driver::link(socket, Role::Gateway, settings, ping_after);
        let told = handle.send(&GatewayToServer::Devices { devices: Vec::new() });
        let end = driver.run().await;
        drop((handle, told));
        world.counts.connected.fetch_sub(1, Ordering::Relaxed);
        world.counts.lost.fetch_add(1, Ordering::Relaxed);
        match end {
            LinkEnd::Closed(close) => close.retry_between_s.map_or(Retry::Soon, |(from, to)| {
                Retry::Between(Duration::from_secs(from.into()), Duration::from_secs(to.into()))
            }),
            _ => Retry::Soon,
        }
    }

    async fn connect(&self, world: &World) -> Result<(Socket, Welcome), Retry> {
        let mut socket = self.dial(world).await?;
        let hello = Hello {
            version: VERSION,
            agent: "linkspan-bench".into(),
            name: self.name.clone(),
            secret: Some(self.secret.clone()),
            instance: self.instance.clone(),
            yielding: false,
            window: 65536,
            max_streams: 16,
            capabilities: Vec::new(),
            resume: None,
            resume_within_s: Some(120),
        };
        match greet(&mut socket, &hello).await {
            Ok(welcome) => Ok((socket, welcome)),
            Err(HandshakeError::Refused(refused)) => Err(after(refused.retry_after_s.map(u64::from))),
            Err(_) => Err(Retry::Soon),
        }
    }

    async fn dial(&self, world: &World) -> Result<Socket, Retry> {
        let stream = self.connect_tcp(world).await.map_err(|_| Retry::Soon)?;
        let name = ServerName::try_from("localhost").map_err(|_| Retry::Soon)?;
        let stream = world.tls.connect(name, stream).await.map_err(|_| Retry::Soon)?;
        let url = format!("wss://localhost:{}{LINK_PATH}", world.server.port());
        let mut request = url.into_client_request().map_err(|_| Retry::Soon)?;
        request.headers_mut().insert("sec-websocket-protocol", http::HeaderValue::from_static(SUBPROTOCOL));
        let config = Some(driver::websocket_config());
        match tokio_tungstenite::client_async_with_config(request, stream, config).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(answer)) => {
                let seconds = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
                Err(after(seconds))
            }
            Err(_) => Err(Retry::Soon),
        }
    }

    async fn connect_tcp(&self, world: &World) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        let [_, _, high, low] = (self.number / PER_SOURCE + 2).to_be_bytes();
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, world.network, high, low), 0)))?;
        let stream = socket.connect(world.server).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

fn after(seconds: Option<u64>) -> Retry {
    seconds.map_or(Retry::Soon, |seconds| Retry::After(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_is_read() {
        let told = Told { connected: 19_000, lost: 7, back: [1, 2, 3, 4] };
        assert_eq!(told.to_string().parse::<Told>().unwrap(), told);
        assert!("1 2 3".parse::<Told>().is_err());
    }
}
