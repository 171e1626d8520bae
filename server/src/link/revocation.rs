//! Ends links whose gateway's identity no longer counts, whoever decided so: this process, or a command line beside it.

use std::collections::HashMap;
use std::time::Duration;

use linkspan_protocol::message::{Close, CloseReason};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::registry::Registry;
use crate::store::{Store, StoreError};

/// How often the database is asked whether anything changed: one row, so that a revoked gateway is gone within a second.
const LOOK: Duration = Duration::from_millis(400);

/// What a gateway hears whose identity has ended.
pub(super) fn revoked() -> Close {
    let text = "this gateway's identity was revoked, or another router was enrolled in its place";
    Close { reason: CloseReason::Revoked, text: text.into(), retry_between_s: None }
}

/// Looks until `stop`.
pub async fn keep(store: &Store, registry: &Registry, stop: &CancellationToken) {
    let mut seen = None;
    let mut failing = false;
    loop {
        match look(store, registry, seen).await {
            Ok(change) => (seen, failing) = (Some(change), false),
            Err(failure) if !failing => {
                error!(error = failure.in_full(), "cannot see whether gateways were revoked; trying on");
                failing = true;
            }
            Err(_) => {}
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

async fn look(store: &Store, registry: &Registry, seen: Option<i64>) -> Result<i64, StoreError> {
    let change = store.identity_change().await?;
    if seen != Some(change) {
        // Before the epochs are read: whoever comes in meanwhile with an older proof looks by itself.
        registry.identities_changed(change);
        let epochs: HashMap<_, _> = store.identity_epochs().await?.into_iter().collect();
        for (gateway, link) in registry.out_of_date(&epochs) {
            info!(?gateway, "a link is ended, since its gateway's identity no longer counts");
            link.close(&revoked());
        }
    }
    Ok(change)
}
