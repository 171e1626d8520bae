//! Silent and half-done connections on the port of a tunnel's server: whether they delay others.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::field::{Field, Who};
use crate::report::{Cell, Report, milliseconds, percentile};
use crate::visitor::Visitor;
use crate::world::Programs;

const SILENT: usize = 5;
const ROUNDS: usize = 5;

pub(crate) async fn measure(programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    let field = Field::start(programs, folder, Who::All, "clear").await?;
    let (mut before, mut beside, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for visitor in field.tunnels() {
        let Some((name, port)) = field.tunnel_ports.iter().copied().find(|(name, _)| *name == visitor.name()) else {
            continue;
        };
        let visitor = visitor.clone();
        let (quiet, crowded) = field.public.inside_async(async move || compare(&visitor, port).await)?;
        names.push(name);
        before.push(Cell(milliseconds(quiet)));
        beside.push(Cell(milliseconds(crowded)));
    }
    let mut table = report.table("Silent connections on the tunnel's port: ms for a page, median", &names);
    table.row("none".into(), before);
    table.row(format!("{SILENT} that say nothing, {SILENT} that stop in the middle of TLS"), beside);
    table.finish();
    Ok(())
}

async fn compare(visitor: &Visitor, port: SocketAddr) -> Result<(Duration, Duration)> {
    let before = page(visitor).await?;
    let mut held = Vec::new();
    for _ in 0..SILENT {
        held.push(TcpStream::connect(port).await?);
        let mut half = TcpStream::connect(port).await?;
        half.write_all(b"\x16\x03\x01\x02\x00\x01").await?;
        held.push(half);
    }
    let crowded = page(visitor).await?;
    drop(held);
    Ok((before, crowded))
}

async fn page(visitor: &Visitor) -> Result<Duration> {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        times.push(visitor.first_byte().await?);
    }
    Ok(percentile(&mut times, 50))
}
