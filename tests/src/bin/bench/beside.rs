//! A keystroke, and a new connection, beside one bulk transfer that fills a line of 10 Mbit/s and 50 ms round trip; and
//! the same while somebody does not read.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use linkspan_tests::wait;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::field::{Field, Who};
use crate::report::{Cell, Report, milliseconds, percentile};
use crate::targets::{Moved, Service};
use crate::visitor::{Connection, Visitor};
use crate::world::Programs;

const LINE: &str = "delay=25ms rate=10mbit queue=100k";
/// Bytes of that line in a second.
const LINE_BYTES: f64 = 10e6 / 8.0;
const SETTLE: Duration = Duration::from_secs(4);
const WATCH: Duration = Duration::from_secs(6);

/// Which way the bulk goes.
#[derive(Clone, Copy)]
enum Bulk {
    Down,
    Up,
}

/// What was seen.
struct Seen {
    idle: Duration,
    keys: Vec<Duration>,
    news: Vec<Duration>,
    share: f64,
}

pub(crate) async fn measure(programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    let field = Field::start(programs, &folder.join("beside"), Who::All, LINE).await?;
    let title = "Beside one bulk transfer on a line of 10 Mbit/s and 50 ms: ms p50 / p99 (p99 as a multiple of the idle \
                 round trip of the way), share of the line that the bulk gets";
    let mut table = report.table(title, &field.names());
    for (word, bulk) in [("from the device", Bulk::Down), ("to the device", Bulk::Up)] {
        let mut rows = [Vec::new(), Vec::new(), Vec::new()];
        for visitor in field.visitors.clone() {
            let moved = field.moved.clone();
            let seen = field.public.inside_async(async move || watch(&visitor, bulk, &moved).await)?;
            rows[0].push(seen.cell(&seen.keys));
            rows[1].push(seen.cell(&seen.news));
            rows[2].push(Cell(format!("{:.2}", seen.share)));
        }
        for (name, row) in ["keystroke", "new connection", "bulk"].into_iter().zip(rows) {
            table.row(format!("{name}, bulk {word}"), row);
        }
    }
    table.finish();
    Ok(())
}

/// The share of a bulk transfer, and a keystroke, while another visitor does not read what a device sends.
pub(crate) async fn measure_stalled(programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    let field = Field::start(programs, &folder.join("stalled"), Who::All, LINE).await?;
    let title = "While somebody does not read a bulk transfer, on the same line: ms p50 / p99 of a keystroke, share of the \
                 line that another bulk transfer from the device gets";
    let mut table = report.table(title, &field.names());
    let (mut keys, mut shares) = (Vec::new(), Vec::new());
    for visitor in field.visitors.clone() {
        let (stalling, sent) = (visitor.clone(), field.moved.sent.clone());
        let runtime = tokio::runtime::Handle::current();
        // The connection must outlive the thread that goes inside, so it belongs to this runtime.
        let stalled = field.public.inside(move || runtime.block_on(stall(&stalling, &sent)))?;
        let moved = field.moved.clone();
        let seen = field.public.inside_async(async move || watch(&visitor, Bulk::Down, &moved).await)?;
        drop(stalled);
        keys.push(seen.cell(&seen.keys));
        shares.push(Cell(format!("{:.2}", seen.share)));
    }
    table.row("keystroke".into(), keys);
    table.row("bulk".into(), shares);
    table.finish();
    Ok(())
}

/// A connection to the source that nobody reads, once the source cannot send any more.
async fn stall(visitor: &Visitor, sent: &AtomicU64) -> Result<Connection> {
    let connection = visitor.open(Service::Source).await?;
    wait::until("the source to be stopped", wait::PATIENCE, async || {
        let before = sent.load(Ordering::Relaxed);
        sleep(Duration::from_millis(700)).await;
        anyhow::ensure!(sent.load(Ordering::Relaxed) == before && before > 0, "it still sends");
        Ok(())
    })
    .await?;
    Ok(connection)
}

async fn watch(visitor: &Visitor, bulk: Bulk, moved: &Moved) -> Result<Seen> {
    let mut quiet = visitor.open(Service::Echo).await?;
    let mut idle = Vec::new();
    for _ in 0..11 {
        idle.push(quiet.keystroke().await?);
    }
    let mut tasks = JoinSet::new();
    let arrived = match bulk {
        Bulk::Down => download(visitor, &mut tasks).await?,
        Bulk::Up => upload(visitor, &mut tasks, moved).await?,
    };
    sleep(SETTLE).await;
    let (before, begin) = (arrived.load(Ordering::Relaxed), Instant::now());
    let (keys, news) = tokio::join!(keystrokes(&mut quiet, begin), connections(visitor, begin));
    let share = (arrived.load(Ordering::Relaxed) - before) as f64 / begin.elapsed().as_secs_f64() / LINE_BYTES;
    anyhow::ensure!(tasks.try_join_next().is_none(), "{}: the bulk transfer broke off", visitor.name());
    Ok(Seen { idle: percentile(&mut idle, 50), keys: keys?, news: news?, share })
}

async fn keystrokes(quiet: &mut Connection, begin: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while begin.elapsed() < WATCH {
        times.push(quiet.keystroke().await.context("a keystroke")?);
        sleep(Duration::from_millis(20)).await;
    }
    Ok(times)
}

async fn connections(visitor: &Visitor, begin: Instant) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while begin.elapsed() < WATCH {
        times.push(visitor.new_echo().await.context("a new connection")?);
        sleep(Duration::from_millis(50)).await;
    }
    Ok(times)
}

async fn download(visitor: &Visitor, tasks: &mut JoinSet<Result<()>>) -> Result<Arc<AtomicU64>> {
    let mut source = visitor.open(Service::Source).await?;
    let arrived = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&arrived);
    tasks.spawn(async move {
        loop {
            count.fetch_add(source.receive().await? as u64, Ordering::Relaxed);
        }
    });
    Ok(arrived)
}

async fn upload(visitor: &Visitor, tasks: &mut JoinSet<Result<()>>, moved: &Moved) -> Result<Arc<AtomicU64>> {
    let mut sink = visitor.open(Service::Sink).await?;
    tasks.spawn(async move {
        let chunk = Bytes::from(vec![b'x'; 16 * 1024]);
        loop {
            sink.send(chunk.clone()).await?;
        }
    });
    Ok(Arc::clone(&moved.taken))
}

impl Seen {
    fn cell(&self, times: &[Duration]) -> Cell {
        let mut times = times.to_vec();
        let (p50, p99) = (percentile(&mut times, 50), percentile(&mut times, 99));
        let multiple = p99.as_secs_f64() / self.idle.as_secs_f64();
        Cell(format!("{} / {} ({multiple:.1})", milliseconds(p50), milliseconds(p99)))
    }
}
