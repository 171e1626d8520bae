//! Brings a program to one gateway: from where the gateway has it, behind everybody's streams, and not faster than asked.

use std::io;
use std::path::Path;
use std::time::Duration;

use linkspan_protocol::driver::{Stream, Target};
use linkspan_protocol::id::{DeviceName, ServiceName};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep_until, timeout};

use crate::link::registry::Registry;
use crate::store::{Store, Updated};

/// Time for the gateway to take the stream.
const OPEN: Duration = Duration::from_secs(60);
/// Nothing moves for so long: the link is away, or worse.
const STALL: Duration = Duration::from_secs(600);
/// What is written at a time.
const PIECE: usize = 8 * 1024;
/// How often it is noted how far it is.
const NOTE: Duration = Duration::from_secs(2);

/// Brings it all, or as much as the link takes.
pub(super) async fn feed(store: &Store, registry: &Registry, member: &Updated, file: &Path) -> io::Result<()> {
    let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
    let mut stream = open(registry, member)?;
    timeout(OPEN, stream.opened()).await.map_err(stalled)?.map_err(io::Error::other)?;
    let mut at = timeout(OPEN, stream.read_u64()).await.map_err(stalled)??;
    let mut file = File::open(file).await?;
    let size = file.metadata().await?.len();
    file.seek(io::SeekFrom::Start(at.min(size))).await?;
    let (mut piece, mut due, mut noted) = (vec![0; PIECE], Instant::now(), Instant::now());
    store.note_loaded(member, at).await.map_err(io::Error::other)?;
    while at < size {
        let length = file.read(&mut piece).await?;
        let bytes = piece.get(..length).filter(|bytes| !bytes.is_empty()).ok_or(io::ErrorKind::UnexpectedEof)?;
        timeout(STALL, stream.write_all(bytes)).await.map_err(stalled)??;
        at += length as u64;
        due = due.max(Instant::now()) + Duration::from_secs_f64(length as f64 / f64::from(member.rate.max(1)));
        sleep_until(due).await;
        if noted.elapsed() >= NOTE {
            noted = Instant::now();
            store.note_loaded(member, at).await.map_err(io::Error::other)?;
        }
    }
    timeout(STALL, stream.shutdown()).await.map_err(stalled)??;
    // Once it has it all, the gateway ends its direction too.
    while timeout(STALL, stream.read(&mut piece)).await.map_err(stalled)?? > 0 {}
    store.note_loaded(member, size).await.map_err(io::Error::other)
}

fn open(registry: &Registry, member: &Updated) -> io::Result<Stream> {
    let name = |text: &str| io::Error::other(format!("`{text}` is no name"));
    let device: DeviceName = "gateway".parse().map_err(|_| name("gateway"))?;
    let service: ServiceName = "update".parse().map_err(|_| name("update"))?;
    let target = Target { device, service, deadline: OPEN, packed: false, update: true };
    registry.open(member.gateway, target).map_err(io::Error::other)
}
