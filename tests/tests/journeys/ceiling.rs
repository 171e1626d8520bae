//! A router with little memory: what it says it may hold is what it holds, also when nothing gets away.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use linkspan_tests::line::Way;
use linkspan_tests::netns::Namespace;
use linkspan_tests::noise::noise;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use crate::field::{Field, Visitor, silence, speak};
use crate::origin::{Call, Origin};
use crate::raw_stream::RawStream;

/// Bytes of each transfer, in each direction.
const EACH: usize = 4 << 20;
const HOLE: Duration = Duration::from_secs(30);

/// A device that takes and sends at once, and says last how much it took.
async fn both_ways(mut call: Call) {
    drop(call.until(b"\n").await);
    let (sent, first) = (noise(EACH), call.buffered().len());
    let (mut reader, mut writer) = call.socket.split();
    let reading = async {
        let (mut heard, mut space) = (first, vec![0; 64 * 1024]);
        while let Ok(read @ 1..) = reader.read(&mut space).await {
            heard += read;
        }
        heard
    };
    let (heard, _) = tokio::join!(reading, writer.write_all(&sent));
    drop(writer.write_all(format!("{heard:8}").as_bytes()).await);
    drop(writer.shutdown().await);
}

/// One transfer each way over a stream, and nothing but the right bytes.
async fn transfer(stream: RawStream) -> Result<()> {
    let mut tasks = JoinSet::new();
    let (mut reader, mut writer) = tokio::io::split(stream.into_bytes(&mut tasks));
    let sent = noise(EACH);
    let writing = async {
        writer.write_all(b"\n").await?;
        writer.write_all(&sent).await?;
        writer.shutdown().await
    };
    let mut heard = Vec::new();
    let (written, read) = tokio::join!(writing, reader.read_to_end(&mut heard));
    written?;
    read?;
    ensure!(heard.len() > EACH && heard[..EACH] == sent, "other bytes came: {} of them", heard.len());
    ensure!(heard[EACH..] == *format!("{EACH:8}").as_bytes(), "other bytes arrived");
    Ok(())
}

/// Eight transfers, and a hole in the middle; the most memory that was seen in it, in KB.
async fn eight(visitor: Visitor, carrier: String, resident: impl Fn() -> u64) -> Result<u64> {
    let mut transfers = JoinSet::new();
    for _ in 0..8 {
        transfers.spawn(transfer(visitor.stream_to("bulk", "tcp").await?));
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    ensure!(transfers.try_join_next().is_none(), "the line is too quick for this test");
    silence(&carrier, &["203.0.113.0/24", "10.64.0.0/24"])?;
    let (begin, mut most) = (Instant::now(), 0);
    while begin.elapsed() < HOLE {
        tokio::time::sleep(Duration::from_millis(200)).await;
        most = most.max(resident());
    }
    speak(&carrier)?;
    while let Some(transfer) = transfers.join_next().await {
        transfer??;
    }
    Ok(most)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn a_megabyte_in_all_holds_for_eight_transfers_in_a_hole() {
    let mut device = None;
    let mut field = Field::start_with("", |router: &Namespace, config| {
        let mut kept = router.keep_inside(async || Ok(Origin::start(both_ways).await))?;
        let address = kept.get()?.address;
        device = Some(kept);
        Ok(config.device("bulk", "", &[("tcp", "tcp", address)]).lines("\n[limits]\nmemory = \"1 MB\"\n"))
    })
    .await
    .unwrap();
    let pid = field.gateway.process().pid();
    let resident = move || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    field.line.set(Way::Both, "delay=40ms rate=20mbit queue=256k").unwrap();
    let (carrier, before) = (field.carrier.name().to_owned(), resident());
    let most = field.visit(async move |visitor| eight(visitor, carrier, resident).await).unwrap();
    eprintln!("eight transfers in a hole: {} KB more than the {before} KB before", most.saturating_sub(before));
    // A megabyte of data, and what the allocator, TLS and eight tasks with their buffers take.
    assert!(most < before + 2048, "{before} KB before, {most} KB in the hole");
    assert!(field.link().unwrap()["reconnects"].as_u64() >= Some(1));
}
