//! `/api/v1/server`: how the server as a whole is doing.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::rights::{Moment, above};
use super::signed::Signed;
use super::{ConsoleState, Problem};
use crate::access::Permission;

/// How the server as a whole is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerView {
    version: &'static str,
    /// Since when it runs.
    started: Moment,
    /// Gateways that there are, and how many of them are connected.
    gateways: usize,
    gateways_online: usize,
    /// Streams to devices that are open now.
    streams: usize,
    audit: AuditState,
}

/// How the audit is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditState {
    /// Number of the last entry.
    seq: i64,
    /// Whether entries can be written; while they cannot, changes are refused.
    writable: bool,
    /// Entries that could not be written since the server started.
    lost: u64,
    /// Where entries are sent on to.
    forwarded: Vec<ForwardState>,
}

/// How a destination of the audit is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ForwardState {
    /// `syslog` or `webhook`.
    destination: String,
    /// Number of the last entry that it took.
    seq: i64,
    /// Entries that wait for it.
    waiting: i64,
    /// Why it takes none now; null if it does.
    failing: Option<String>,
}

/// How the server as a whole is doing.
#[utoipa::path(get, path = "/api/v1/server", responses((status = 200, body = ServerView)))]
pub(super) async fn show(State(state): State<ConsoleState>, Signed(who): Signed) -> Result<Json<ServerView>, Problem> {
    above(&who, Permission::ServerSee)?;
    let gateways = state.store.gateways().await?;
    let seq = state.store.audit_ends().await?.end.seq;
    let forwarded = state.audit.forwarding().into_iter().map(|(destination, forwarding)| ForwardState {
        destination: destination.to_owned(),
        seq: forwarding.seq,
        waiting: (seq - forwarding.seq).max(0),
        failing: forwarding.failing,
    });
    Ok(Json(ServerView {
        version: env!("CARGO_PKG_VERSION"),
        started: Moment(state.memory.began()),
        gateways_online: gateways.iter().filter(|gateway| (state.online)(gateway.id).is_some()).count(),
        gateways: gateways.len(),
        streams: state.traffic.open().len(),
        audit: AuditState {
            seq,
            writable: !state.audit.is_failing(),
            lost: state.audit.lost(),
            forwarded: forwarded.collect(),
        },
    }))
}
