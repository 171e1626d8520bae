//! What is measured: an origin, and the ways to it that are open at the same time.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use axum::routing::put;
use futures_util::StreamExt;
use linkspan_tests::netns::run;
use linkspan_tests::parts::{Nginx, free_port, loopback};
use linkspan_tests::programs::{Binaries, Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::memory::cpu_seconds;
use crate::rathole::Rathole;
use crate::route::Route;

/// Bytes of the file for bulk transfers.
pub(crate) const BULK: u64 = 512 << 20;

/// Built programs: the server as released, the gateway as shipped to routers.
#[derive(Clone)]
pub(crate) struct Programs {
    pub(crate) server: Binaries,
    pub(crate) gateway: Binaries,
    pub(crate) rathole: Option<PathBuf>,
}

/// An origin, and the ways to it.
pub(crate) struct World {
    pub(crate) folder: PathBuf,
    /// To a web server with the files `1k`, `100k` and `bulk`.
    pub(crate) pages: Vec<Route>,
    /// To a server that takes uploads (PUT) and forgets them.
    pub(crate) sinks: Vec<Route>,
    /// To the same pages, for visitors who open a connection for each request: direct access is TLS here, since ours is.
    pub(crate) secure_pages: Vec<Route>,
    /// Process ids of server and gateway.
    pub(crate) pids: (u32, u32),
    pub(crate) rathole: Option<Rathole>,
    _parts: Parts,
}

/// What must live as long as the world.
struct Parts {
    _server: Server,
    _gateway: Gateway,
    _nginx: Nginx,
    _sink: JoinSet<()>,
}

impl Programs {
    pub(crate) fn find(with_rathole: bool) -> Result<Self> {
        let release = std::env::current_exe()?.parent().context("no folder")?.to_owned();
        ensure!(release.ends_with("release"), "figures of a debug build mean nothing; run `make bench`");
        let target = release.parent().context("no target folder")?;
        let programs = Self {
            server: Binaries::in_folder(&release),
            gateway: Binaries::in_folder(&target.join("gateway")),
            rathole: if with_rathole { Some(Rathole::install()?) } else { None },
        };
        programs.server.path("linkspan-server")?;
        programs.gateway.path("linkspan-gateway")?;
        Ok(programs)
    }
}

impl World {
    pub(crate) async fn start(programs: &Programs, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let secure = loopback(free_port()?);
        make_certificate(folder)?;
        let files = folder.display();
        let directives =
            format!("listen {secure} ssl; ssl_certificate {files}/tls.pem; ssl_certificate_key {files}/tls.key;");
        let nginx = Nginx::start_with(folder, &directives).await?;
        write_files(nginx.root())?;
        let mut tasks = JoinSet::new();
        let sink = start_sink(&mut tasks).await?;
        let mut server = Server::start(&programs.server, ServerSetup::new(&folder.join("server"))?).await?;
        let secret = server.add_gateway("bench")?;
        let config = GatewayConfig::new("bench", &secret, &server_url(&server), &server.ca_file());
        let services = [("web", "http", nginx.address()), ("sink", "http", sink)];
        let config = config.device("origin", "the origin", &services);
        let mut gateway = Gateway::start(&programs.gateway, &folder.join("gateway"), &config)?;
        let token = server.sign_in().await?;
        let linkspan = |label: &str| Route::linkspan(server.device(label), server.address(), &token, server.ca_file());
        let mut pages = vec![Route::plain("direct", nginx.address())];
        let mut sinks = vec![Route::plain("direct", sink)];
        let rathole = match &programs.rathole {
            Some(program) => Some(Rathole::start(program, &folder.join("rathole"), &[nginx.address(), sink]).await?),
            None => None,
        };
        if let Some(rathole) = &rathole {
            pages.push(Route::plain("rathole (TLS)", rathole.public(0)));
            sinks.push(Route::plain("rathole (TLS)", rathole.public(1)));
        }
        pages.push(linkspan("origin"));
        let secure_pages = vec![Route::secure("direct", secure), linkspan("origin")];
        sinks.push(linkspan("origin--sink"));
        let https = server.https()?;
        let url = format!("{}/1k", server.device("origin"));
        let ready = async || {
            let answer = https.get_device(&url, &token).await?;
            ensure!(answer.status.is_success() && answer.body.len() == 1024, "{}", answer.status);
            Ok(())
        };
        gateway.process().until("the origin through the gateway", ready).await?;
        let pids = (server.process().pid(), gateway.process().pid());
        let parts = Parts { _server: server, _gateway: gateway, _nginx: nginx, _sink: tasks };
        Ok(Self { folder: folder.to_owned(), pages, sinks, secure_pages, pids, rathole, _parts: parts })
    }

    /// Processor time so far of the two programs that make up a route, the server first.
    pub(crate) fn cpu(&self, route: &Route) -> Result<Option<(f64, f64)>> {
        let (a, b) = match (route.name, &self.rathole) {
            ("linkspan", _) => self.pids,
            ("direct", _) | (_, None) => return Ok(None),
            (_, Some(rathole)) => (rathole.server.pid(), rathole.client.pid()),
        };
        Ok(Some((cpu_seconds(a)?, cpu_seconds(b)?)))
    }
}

/// The server's address for a gateway on this machine.
pub(crate) fn server_url(server: &Server) -> String {
    format!("https://localhost:{}", server.address().port())
}

/// A certificate like the server's own, for nginx.
fn make_certificate(folder: &Path) -> Result<()> {
    let mut command = std::process::Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]);
    command.args(["-keyout", "tls.key", "-out", "tls.pem", "-subj", "/CN=localhost"]);
    run(command.current_dir(folder)).map(drop)
}

fn write_files(root: &Path) -> Result<()> {
    std::fs::write(root.join("1k"), vec![b'x'; 1024])?;
    std::fs::write(root.join("100k"), vec![b'x'; 100 * 1024])?;
    // Written out, so that it is in memory when it is asked for, as it is for the second who asks.
    let mut bulk = std::fs::File::create(root.join("bulk"))?;
    let chunk = vec![b'x'; 1 << 20];
    for _ in 0..BULK / chunk.len() as u64 {
        bulk.write_all(&chunk)?;
    }
    Ok(())
}

async fn start_sink(tasks: &mut JoinSet<()>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(loopback(0)).await?;
    let address = listener.local_addr()?;
    let take = async |body: Body| {
        let mut data = body.into_data_stream();
        let mut bytes = 0;
        while let Some(Ok(chunk)) = data.next().await {
            bytes += chunk.len();
        }
        bytes.to_string()
    };
    let pages = Router::new().route("/sink", put(take).layer(axum::extract::DefaultBodyLimit::disable()));
    tasks.spawn(async move { drop(axum::serve(listener, pages).await) });
    wait::listening(address).await?;
    Ok(address)
}
