//! A controller of a water works with the status page such controllers have: live values, an event log, a form, a login.

use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::body::Body;
use axum::extract::{Form, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use futures_util::{SinkExt, Stream, StreamExt, stream};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use super::plant::{Plant, Values};

/// How often the values change.
const TICK: Duration = Duration::from_millis(500);
/// People that may be logged in to the device at once; more forget the others, as small devices do.
const SESSIONS: usize = 8;

/// The controller; it ends when dropped.
#[derive(Debug)]
pub struct Plc {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    /// The name it believes to have on its LAN; its login cookie is for that name.
    lan_name: String,
    plant: Mutex<Plant>,
    sessions: Mutex<HashSet<String>>,
    changed: watch::Sender<()>,
    sockets: Mutex<JoinSet<()>>,
}

impl Plc {
    /// Starts it on an address; port 0 takes a free one. `lan_name` is what it believes to be called: `plc1.local`.
    pub async fn start(address: SocketAddr, lan_name: &str) -> Result<Self> {
        let (listener, address) = super::listen(address).await?;
        let shared = Arc::new(Shared {
            lan_name: lan_name.to_owned(),
            plant: Mutex::new(Plant::new(7)),
            sessions: Mutex::default(),
            changed: watch::channel(()).0,
            sockets: Mutex::default(),
        });
        let mut tasks = JoinSet::new();
        super::serve(listener, pages(&shared), &mut tasks);
        tasks.spawn(run(Arc::clone(&shared)));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A line of the values for a console.
    pub fn summary(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || {
            let values = shared.plant().values().clone();
            let pump = |on| if on { "ON" } else { "OFF" };
            format!(
                "level {:.1} %  setpoint {:.1} %  inflow {:.1} l/s  outflow {:.1} l/s  pressure {:.2} bar  P1 {}  P2 {}",
                values.level,
                values.setpoint,
                values.inflow,
                values.outflow,
                values.pressure,
                pump(values.running[0]),
                pump(values.running[1])
            )
        }
    }
}

impl Shared {
    fn plant(&self) -> MutexGuard<'_, Plant> {
        self.plant.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions(&self) -> MutexGuard<'_, HashSet<String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_logged_in(&self, headers: &HeaderMap) -> bool {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.any(|(name, value)| name == "PLCSESSION" && self.sessions().contains(value))
    }
}

async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(TICK);
    loop {
        ticks.tick().await;
        shared.plant().step(TICK);
        shared.changed.send_replace(());
    }
}

fn pages(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(status_page))
        .route("/style.css", get(async || ([(header::CONTENT_TYPE, "text/css")], include_str!("plc.css"))))
        .route("/status.js", get(async || ([(header::CONTENT_TYPE, "text/javascript")], include_str!("plc.js"))))
        .route("/api/values", get(values))
        .route("/ws", get(live_values))
        .route("/events", get(events))
        .route("/setpoint", post(setpoint))
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .with_state(Arc::clone(shared))
}

async fn status_page(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Html<String> {
    let user =
        if shared.is_logged_in(&headers) { include_str!("plc-operator.html") } else { include_str!("plc-guest.html") };
    Html(include_str!("plc.html").replace("<!-- user -->", user))
}

async fn login_page() -> Html<String> {
    Html(include_str!("plc-login.html").replace("<!-- message -->", ""))
}

async fn values(State(shared): State<Arc<Shared>>) -> Json<Values> {
    Json(shared.plant().values().clone())
}

#[derive(Deserialize)]
struct Credentials {
    user: String,
    password: String,
}

/// As devices do, the cookie names the device's own domain, and the way back is by an old-fashioned 302.
async fn login(State(shared): State<Arc<Shared>>, Form(form): Form<Credentials>) -> Response {
    if (form.user.as_str(), form.password.as_str()) != ("operator", "operator") {
        let page = include_str!("plc-login.html")
            .replace("<!-- message -->", "<p class=\"alarm\">Wrong user or password.</p>");
        return (StatusCode::FORBIDDEN, Html(page)).into_response();
    }
    let session = format!("{:032x}", rand::random::<u128>());
    let cookie = format!("PLCSESSION={session}; Path=/; Domain={}; HttpOnly", shared.lan_name);
    let mut sessions = shared.sessions();
    if sessions.len() >= SESSIONS {
        sessions.clear();
    }
    sessions.insert(session);
    (StatusCode::FOUND, [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)]).into_response()
}

async fn logout(State(shared): State<Arc<Shared>>) -> Response {
    shared.sessions().clear();
    (StatusCode::FOUND, [(header::LOCATION, "/")]).into_response()
}

#[derive(Deserialize)]
struct Setpoint {
    level: f64,
}

async fn setpoint(State(shared): State<Arc<Shared>>, headers: HeaderMap, Form(form): Form<Setpoint>) -> Response {
    if !shared.is_logged_in(&headers) {
        return (StatusCode::FOUND, [(header::LOCATION, "/login")]).into_response();
    }
    shared.plant().set_setpoint(form.level, "operator");
    shared.changed.send_replace(());
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response()
}

/// The event log as server-sent events: what has happened so far, then what happens.
async fn events(State(shared): State<Arc<Shared>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let changes = shared.changed.subscribe();
    let lines = stream::unfold((shared, changes, 0), async |(shared, mut changes, seen)| {
        loop {
            let (new, happened) = shared.plant().events_after(seen);
            if !new.is_empty() {
                let event = Event::default().id(happened.to_string()).data(new.join("\n"));
                return Some((Ok(event), (shared, changes, happened)));
            }
            changes.changed().await.ok()?;
        }
    });
    Sse::new(lines).keep_alive(KeepAlive::default())
}

/// The values as JSON over a WebSocket; a text from the page is sent back with `echo:` before it.
async fn live_values(State(shared): State<Arc<Shared>>, mut request: Request) -> Response {
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| derive_accept_key(key.as_bytes()));
    let (Some(accept), Some(upgrade)) = (key, request.extensions_mut().remove::<OnUpgrade>()) else {
        return (StatusCode::UPGRADE_REQUIRED, "This is a WebSocket.").into_response();
    };
    let socket = feed(Arc::clone(&shared), upgrade);
    let mut sockets = shared.sockets.lock().unwrap_or_else(PoisonError::into_inner);
    while sockets.try_join_next().is_some() {}
    sockets.spawn(socket);
    let head =
        [(header::CONNECTION, "Upgrade"), (header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_ACCEPT, &accept)];
    (StatusCode::SWITCHING_PROTOCOLS, head, Body::empty()).into_response()
}

async fn feed(shared: Arc<Shared>, upgrade: OnUpgrade) {
    let Ok(upgraded) = upgrade.await else { return };
    let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, None).await;
    let mut changes = shared.changed.subscribe();
    changes.mark_changed();
    loop {
        let message = tokio::select! {
            changed = changes.changed() => match changed {
                Ok(()) => Message::text(serde_json::to_string(shared.plant().values()).unwrap_or_default()),
                Err(_) => return,
            },
            heard = socket.next() => match heard {
                Some(Ok(Message::Text(text))) => Message::text(format!("echo:{text}")),
                Some(Ok(Message::Binary(bytes))) => Message::Binary(bytes),
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return,
            },
        };
        if send(&mut socket, message).await.is_err() {
            return;
        }
    }
}

/// A viewer that takes nothing for a while is let go.
async fn send(socket: &mut WebSocketStream<TokioIo<Upgraded>>, message: Message) -> Result<()> {
    Ok(tokio::time::timeout(Duration::from_secs(30), socket.send(message)).await??)
}
