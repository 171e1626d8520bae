//! Time to the first byte on a new connection when 50 ms lie between gateway and server, one way.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use linkspan_tests::devices::one_byte_device;
use linkspan_tests::https::Https;
use linkspan_tests::line::{End, Line, Way};
use linkspan_tests::netns::Namespace;
use linkspan_tests::programs::{Gateway, GatewayConfig, Server, ServerSetup};
use linkspan_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rathole::Rathole;
use crate::report::{Cell, Report};
use crate::world::Programs;

const ROUNDS: usize = 15;
const BURST: usize = 30;

pub(crate) async fn measure(programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    let (site, public) = (Namespace::new("site")?, Namespace::new("public")?);
    let line = Line::new(&End::new(&site, "10.77.0.1/24"), &End::new(&public, "10.77.0.2/24"), 1)?;
    public.host("localhost", "10.77.0.2")?;
    site.host("localhost", "10.77.0.2")?;
    let device: SocketAddr = "10.77.0.1:8080".parse()?;
    site.inside(move || one_byte_device(device))?;
    let at: SocketAddr = "10.77.0.2:8443".parse()?;
    std::fs::create_dir_all(folder)?;
    let setup = ServerSetup::inside(&folder.join("server"), &public, at);
    let server = Server::start(&programs.server, setup).await?;
    let secret = server.add_gateway("bench")?;
    let config = GatewayConfig::new("bench", &secret, "https://localhost:8443", &server.ca_file());
    let config = config.device("origin", "the origin", &[("web", "http", device)]);
    let _gateway = Gateway::start_in(Some(&site), &programs.gateway, &folder.join("gateway"), &config)?;
    let rathole_at = SocketAddr::new(at.ip(), 7000);
    let rathole = match &programs.rathole {
        Some(program) => {
            Some(Rathole::start_in(program, &folder.join("rathole"), (&public, &site), rathole_at, device)?)
        }
        None => None,
    };
    line.set(Way::Both, "delay=50ms")?;

    let mut names = vec!["direct"];
    let mut visitors = vec![Visitor::Plain(device)];
    if let Some(rathole) = &rathole {
        names.push("rathole (TLS)");
        visitors.push(Visitor::Plain(rathole.public(0)));
    }
    names.push("linkspan");
    let login = (server.https()?, server.console(), server.password()?);
    let token = public.inside_async(async move || login.0.sign_in(&login.1, "admin", &login.2).await)?;
    visitors.push(Visitor::Linkspan { https: server.https()?, url: format!("{}/", server.device("origin")), token });

    let mut rows = [Vec::new(), Vec::new()];
    for visitor in visitors {
        let (one, burst) = public.inside_async(async move || visitor.measure().await)?;
        rows[0].push(Cell(format!("{:.0}", one.as_secs_f64() * 1000.0)));
        rows[1].push(Cell(format!("{:.0}", burst.as_secs_f64() * 1000.0)));
    }
    let mut table = report.table("New connection over a line of 50 ms each way: ms to the first byte", &names);
    for (name, row) in
        ["one after the other, median".to_owned(), format!("{BURST} at once, the last of them")].into_iter().zip(rows)
    {
        table.row(name, row);
    }
    table.finish();
    Ok(())
}

/// Somebody near the server who asks for the page.
#[derive(Clone)]
enum Visitor {
    Plain(SocketAddr),
    Linkspan { https: Https, url: String, token: String },
}

impl Visitor {
    /// The median of visits one after the other, and the longest of many at once.
    async fn measure(self) -> Result<(Duration, Duration)> {
        wait::until("the way to the device", wait::PATIENCE, async || self.visit().await).await?;
        let mut times = Vec::new();
        for _ in 0..ROUNDS {
            times.push(self.visit().await?);
        }
        times.sort();
        let mut visits = JoinSet::new();
        for _ in 0..BURST {
            let visitor = self.clone();
            visits.spawn(async move { visitor.visit().await });
        }
        let mut longest = Duration::ZERO;
        while let Some(visit) = visits.join_next().await {
            longest = longest.max(visit??);
        }
        Ok((times[ROUNDS / 2], longest))
    }

    /// From nothing to the first byte of the answer.
    async fn visit(&self) -> Result<Duration> {
        let begin = Instant::now();
        match self {
            Self::Plain(address) => {
                let mut socket = TcpStream::connect(address).await?;
                socket.write_all(b"GET / HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n").await?;
                let mut first = [0; 1];
                socket.read_exact(&mut first).await?;
            }
            Self::Linkspan { https, url, token } => {
                let answer = https.get_device(url, token).await?;
                ensure!(answer.status.is_success(), "{}", answer.status);
            }
        }
        Ok(begin.elapsed())
    }
}
