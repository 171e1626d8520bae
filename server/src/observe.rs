//! What an operator sees: liveness, readiness that tells the truth, and counters for Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry as Collection;
use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Action};
use crate::edge::connection::Peer;
use crate::link::registry::Registry;
use crate::store::Store;

/// Counters that the rooms of the server add to, and what is read off when somebody asks.
pub struct Metrics {
    /// Links that were admitted.
    pub links_admitted: Counter,
    /// Gateways that were refused.
    pub links_refused: Counter,
    gateways_online: Gauge,
    streams_open: Gauge<i64>,
    collection: Collection,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut collection = Collection::with_prefix("linkspan");
        let links_admitted = Counter::<u64, AtomicU64>::default();
        let links_refused = Counter::<u64, AtomicU64>::default();
        let gateways_online = Gauge::default();
        let streams_open = Gauge::default();
        collection.register("links_admitted", "Links of gateways that were admitted", links_admitted.clone());
        collection.register("links_refused", "Links that were refused", links_refused.clone());
        collection.register("gateways_online", "Gateways connected now", gateways_online.clone());
        collection.register("streams_open", "Streams to devices open now", streams_open.clone());
        Self { links_admitted, links_refused, gateways_online, streams_open, collection }
    }

    /// The numbers in the OpenMetrics text format.
    pub fn text(&self, links: &Registry) -> String {
        self.gateways_online.set(i64::try_from(links.gateways_online()).unwrap_or(i64::MAX));
        self.streams_open.set(i64::try_from(links.streams_open()).unwrap_or(i64::MAX));
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.collection);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// What the routes for operators look at.
#[derive(Clone)]
pub struct Observer {
    store: Store,
    access: Access,
    registry: Registry,
    metrics: Arc<Metrics>,
    closing: CancellationToken,
}

impl Observer {
    /// Looks at these; not ready once `closing` is cancelled.
    pub fn new(
        store: Store,
        access: Access,
        registry: Registry,
        metrics: Arc<Metrics>,
        closing: CancellationToken,
    ) -> Self {
        Self { store, access, registry, metrics, closing }
    }
}

/// `/healthz`: the process answers. `/readyz`: it can do its work. `/metrics`: for administrators, and for programs on
/// this machine.
pub fn routes(observer: Observer) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(observer)
}

async fn ready(State(observer): State<Observer>) -> (StatusCode, &'static str) {
    if observer.closing.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    match observer.store.ping().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::error!(error = %error.in_full(), "not ready: the database failed");
            (StatusCode::SERVICE_UNAVAILABLE, "the database cannot be used\n")
        }
    }
}

async fn metrics(
    State(observer): State<Observer>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    if !peer.address.ip().to_canonical().is_loopback() {
        let who = observer.access.on_console(&headers).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        who.filter(|who| observer.access.may_in_general(who, Action::SeeGateways)).ok_or(StatusCode::NOT_FOUND)?;
    }
    let kind = [(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Ok((kind, observer.metrics.text(&observer.registry)).into_response())
}

/// Tells systemd, where there is one, that connections are taken.
pub fn tell_service_manager_ready() {
    tell(&[NotifyState::Ready]);
}

/// Tells systemd that the end has begun.
pub fn tell_service_manager_stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds systemd's watchdog as long as the database answers; for ever, also where there is no watchdog.
pub async fn keep_watchdog_quiet(store: &Store) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let pause = (limit / 2).max(Duration::from_millis(100));
    loop {
        tokio::time::sleep(pause).await;
        match store.ping().await {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            Err(error) => tracing::error!(error = %error.in_full(), "the watchdog goes hungry: the database failed"),
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
