//! Waiting for a condition with a deadline: how a test waits for anything.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

/// How long something on this machine may take before a test gives up, on a slow day.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again and again until there is an answer; the last refusal is the error if there is none in time.
pub async fn until<T, F>(what: &str, deadline: Duration, mut ask: F) -> Result<T>
where
    F: AsyncFnMut() -> Result<T>,
{
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(5);
    loop {
        let refusal = match tokio::time::timeout_at(end, ask()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(refusal)) => refusal,
            Err(_) => bail!("{what}: no answer within {deadline:?}"),
        };
        if Instant::now() + pause > end {
            return Err(refusal.context(format!("{what}: not within {deadline:?}")));
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

/// Whether something accepts TCP connections there, now.
pub async fn accepts(address: SocketAddr) -> Result<()> {
    TcpStream::connect(address).await?;
    Ok(())
}

/// Waits until something accepts TCP connections there.
pub async fn listening(address: SocketAddr) -> Result<()> {
    until(&format!("a listener on {address}"), PATIENCE, async || accepts(address).await).await
}
