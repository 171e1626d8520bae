//! The public side of Linkspan: who are you, may you, which gateway.
pub mod access;
pub mod api;
pub mod config;
pub mod store;
pub mod ui;

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown` is cancelled.
pub async fn run(config: config::Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let store = store::Store::open(&config.store.url).await.context("the database cannot be used")?;
    tracing::info!(console = config.site.console_origin(), "ready");
    shutdown.cancelled().await;
    store.close().await;
    Ok(())
}
