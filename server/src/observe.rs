//! What an operator sees: liveness, readiness that tells the truth, and counters for Prometheus.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Permission, Target};
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
    /// All at zero; `more` adds counters of other rooms.
    pub fn new(more: impl FnOnce(&mut Collection)) -> Self {
        let mut collection = Collection::with_prefix("linkspan");
        let links_admitted = Counter::<u64, AtomicU64>::default();
        let links_refused = Counter::<u64, AtomicU64>::default();
        let gateways_online = Gauge::default();
        let streams_open = Gauge::default();
        collection.register("links_admitted", "Links of gateways that were admitted", links_admitted.clone());
        collection.register("links_refused", "Links that were refused", links_refused.clone());
        collection.register("gateways_online", "Gateways connected now", gateways_online.clone());
        collection.register("streams_open", "Streams to devices open now", streams_open.clone());
        more(&mut collection);
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

/// Whether the database could be written to, asked at most once in a while: anybody may ask for `/readyz`, and each look
/// takes the turn of a writer.
struct Readiness {
    store: Store,
    believed: Duration,
    turn: Semaphore,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    fn new(store: Store, believed: Duration) -> Arc<Self> {
        Arc::new(Self { store, believed, turn: Semaphore::new(1), last: Mutex::default() })
    }

    async fn look(&self) -> bool {
        // Those who come meanwhile wait for the one who looks, and get what was found. Nobody closes the semaphore.
        let _turn = self.turn.acquire().await;
        let known = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, ready)) = known.filter(|(at, _)| at.elapsed() < self.believed) {
            return ready;
        }
        let found = self.store.ping().await;
        if let Err(error) = &found {
            tracing::error!(error = error.in_full(), "not ready: the database failed");
        }
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), found.is_ok()));
        found.is_ok()
    }
}

/// How long an answer to "can the database be written to" is believed.
const READY_BELIEVED: Duration = Duration::from_secs(1);

/// What the routes for operators look at.
#[derive(Clone)]
pub struct Observer {
    readiness: Arc<Readiness>,
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
        Self { readiness: Readiness::new(store, READY_BELIEVED), access, registry, metrics, closing }
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
    if observer.readiness.look().await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database cannot be used\n")
    }
}

async fn metrics(
    State(observer): State<Observer>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    if !peer.address.ip().to_canonical().is_loopback() {
        let who = observer.access.on_console(&headers).await.map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
        who.filter(|who| who.may(Permission::ServerSee, &Target::Server)).ok_or(StatusCode::NOT_FOUND)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::fresh;

    #[tokio::test]
    async fn many_who_ask_whether_the_server_is_ready_cost_one_look() {
        let (_dir, store) = fresh().await;
        let slow = Readiness::new(store.clone(), Duration::from_secs(3600));
        let quick = Readiness::new(store.clone(), Duration::ZERO);
        assert!(slow.look().await && quick.look().await);
        store.close().await;
        assert!(slow.look().await, "what was found a moment ago");
        assert!(!quick.look().await, "the truth");
    }
}
