//! Walk 2 at the server: a gateway's WebSocket becomes a link that the registry knows, for as long as it lives.

mod hear;
mod identify;
pub mod presence;
pub mod registry;
pub mod revocation;
mod rush;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use http::{Request, Response};
use jiff::Timestamp;
use linkspan_protocol::driver::{self, LinkEnd, LinkHandle, Role, Settings};
use linkspan_protocol::handshake::{self, HandshakeError};
use linkspan_protocol::id::GatewayName;
use linkspan_protocol::limits::{CLOSE_DEADLINE, PING_AFTER, SERVER_WINDOW, STREAMS_MAX, WINDOW_MAX, WINDOW_MIN};
use linkspan_protocol::message::{
    Close, CloseReason, DeviceRefused, DeviceReport, Hello, LINK_PATH, Refused, RefusedReason, SUBPROTOCOL,
    ServerToGateway, TRAFFIC, VERSION, Welcome,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::hear::Heard;
use self::identify::Doorkeeper;
use self::presence::Presence;
use self::registry::{Admission, Candidate, Registered, Registry};
use self::rush::{Arriving, Rush};
use crate::edge::connection::Peer;
use crate::edge::listener::House;
use crate::edge::upgrade::{self, Subprotocol};
use crate::observe::Metrics;
use crate::store::{DataCap, Fingerprint, GatewayId, LinkCount, Proven, Seen, Store};
use crate::traffic::Traffic;

/// Program and version, as told to gateways.
pub const AGENT: &str = concat!("linkspan-server/", env!("CARGO_PKG_VERSION"));

/// Silence after which the server asks whether a gateway is there. Longer than the gateway's own [`PING_AFTER`]: as long
/// as the gateway asks, the server need not, and an idle link costs half.
const SERVER_PING_AFTER: Duration = PING_AFTER.saturating_mul(2);

/// Longest silence that a gateway may learn to allow, and the most that it can make the server wait for a sign of life:
/// a gateway that lost its power shows as connected for so long, unless somebody asks for a device of it.
const PING_AFTER_LONGEST: Duration = Duration::from_secs(15 * 60);

/// How much later than the gateway the server asks: the gateway's own question may be late on a slow line.
const SERVER_PING_LATER: Duration = Duration::from_secs(30);

/// A certificate that ended no longer ago than this still lets its gateway in, which then asks for a new one: a router that
/// was off over the winter need not be visited.
const GRACE: Duration = Duration::from_hours(180 * 24);

/// The route that gateways ask for. Their links belong to the house.
pub fn routes(gate: Gate, house: House) -> Router {
    Router::new().route(LINK_PATH, get(arrive)).with_state((gate, house))
}

async fn arrive(
    State((gate, house)): State<(Gate, House)>,
    Extension(peer): Extension<Peer>,
    mut request: Request<Body>,
) -> Response<Body> {
    match upgrade::accept(&mut request, Subprotocol::Required(SUBPROTOCOL)) {
        Ok((response, promised)) => {
            let arriving = match gate.rush.enter(house.gateways_waiting()) {
                Ok(arriving) => arriving,
                Err(busy) => {
                    gate.metrics.links_refused.inc();
                    return busy.answer();
                }
            };
            house.spawn_task(async move {
                match promised.socket(driver::websocket_config()).await {
                    Ok(socket) => gate.serve(socket, &peer, arriving).await,
                    Err(error) => tracing::debug!(peer = %peer.address, %error, "a link's WebSocket was not set up"),
                }
            });
            response.map(Body::new)
        }
        Err(not_websocket) => not_websocket.answer().map(Body::new),
    }
}

/// Takes gateways in.
#[derive(Clone)]
pub struct Gate {
    store: Store,
    registry: Registry,
    metrics: Arc<Metrics>,
    doorkeeper: Doorkeeper,
    presence: Presence,
    rush: Rush,
    /// When gateways are asked to come back after a restart; decided once, while all are still here.
    returning: Arc<OnceLock<(u32, u32)>>,
    traffic: Traffic,
    stop: CancellationToken,
}

impl Gate {
    /// A gate to `registry`; links close when `stop` is cancelled.
    pub fn new(
        store: Store,
        registry: Registry,
        metrics: Arc<Metrics>,
        (presence, traffic): (Presence, Traffic),
        stop: CancellationToken,
    ) -> Self {
        let doorkeeper = Doorkeeper::new(store.clone(), GRACE);
        let (rush, returning) = (Rush::default(), Arc::default());
        Self { store, registry, metrics, doorkeeper, presence, traffic, rush, returning, stop }
    }

    /// Serves one gateway's WebSocket, from its hello to its end.
    async fn serve<S>(&self, socket: WebSocketStream<S>, peer: &Peer, arriving: Arriving)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // In a box of its own, since the way in takes more memory than the link that then stays for months.
        if let Some((member, driver)) = Box::pin(self.let_in(socket, peer, arriving)).await {
            member.run(driver).await;
        }
    }

    fn return_between(&self) -> (u32, u32) {
        *self.returning.get_or_init(|| rush::return_between(self.registry.gateways_online()))
    }

    async fn let_in<S>(
        &self,
        mut socket: WebSocketStream<S>,
        from: &Peer,
        _arriving: Arriving,
    ) -> Option<(Member<'_>, driver::Driver<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let peer = from.address;
        let hello = match handshake::await_hello(&mut socket).await {
            Ok(hello) => hello,
            Err(error) => {
                self.turn_away_stranger(socket, peer, &error).await;
                return None;
            }
        };
        match self.identify(&hello, from.certificate.as_ref()).await {
            Ok(proven) => self.welcome(socket, peer, proven, hello).await,
            Err(refused) => {
                info!(gateway = %hello.name, %peer, reason = ?refused.reason, "gateway refused");
                self.refuse(&mut socket, &refused).await;
                None
            }
        }
    }

    async fn turn_away_stranger<S>(&self, mut socket: WebSocketStream<S>, peer: SocketAddr, error: &HandshakeError)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        info!(%peer, %error, "no gateway's hello");
        if let Some(refused) = error.refusal() {
            self.refuse(&mut socket, &refused).await;
        }
    }

    async fn refuse<S>(&self, socket: &mut WebSocketStream<S>, refused: &Refused)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.metrics.links_refused.inc();
        // Whether the refusal arrives is the other end's concern: the connection ends either way.
        let _ = handshake::refuse(socket, refused).await;
    }

    /// Checks who calls.
    async fn identify(&self, hello: &Hello, shown: Option<&Fingerprint>) -> Result<Proven, Refused> {
        if self.stop.is_cancelled() {
            return Err(self.stopping());
        }
        if hello.version < VERSION {
            let text = format!("this server speaks version {VERSION} of the language, the gateway {}", hello.version);
            return Err(refused(RefusedReason::Version, &text, None));
        }
        self.doorkeeper.identify(hello, shown).await
    }

    fn stopping(&self) -> Refused {
        let back = rush::within_span(self.return_between());
        refused(RefusedReason::Busy, "the server is stopping", Some(back))
    }

    async fn welcome<S>(
        &self,
        mut socket: WebSocketStream<S>,
        peer: SocketAddr,
        proven: Proven,
        hello: Hello,
    ) -> Option<(Member<'_>, driver::Driver<S>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        // The registry must not send streams into a link whose WELCOME is not out yet; so WELCOME goes first, and a
        // gateway that may not come in is told by a CLOSE instead.
        let Some(session) = session_name() else {
            warn!("the system gives no random numbers");
            return None;
        };
        if let Err(error) = handshake::welcome(&mut socket, &welcome(session, self.traffic.utc_offset())).await {
            info!(gateway = %hello.name, %peer, %error, "gateway left during the handshake");
            return None;
        }
        let settings = Settings {
            receive_window: SERVER_WINDOW,
            send_window: hello.window.clamp(WINDOW_MIN, WINDOW_MAX),
            max_streams: hello.max_streams.clamp(1, STREAMS_MAX),
        };
        let (link, driver) = driver::link(socket, Role::Server, settings, SERVER_PING_AFTER);
        let Proven { id, name, epoch, change } = proven;
        let candidate =
            Candidate { link: link.clone(), instance: hello.instance, yielding: hello.yielding, peer, epoch };
        let mut member = Member { gate: self, id, name, link, registered: None };
        member.admit(candidate, &hello.agent).await;
        if self.registry.identity_change() != change {
            member.look_again(epoch).await;
        }
        Some((member, driver))
    }
}

/// One gateway's link while it is up.
struct Member<'a> {
    gate: &'a Gate,
    id: GatewayId,
    name: GatewayName,
    link: LinkHandle,
    registered: Option<Registered>,
}

impl Member<'_> {
    async fn run<S>(self, driver: driver::Driver<S>)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let mut running = std::pin::pin!(driver.run());
        let end = tokio::select! {
            end = &mut running => end,
            () = self.converse() => (&mut running).await,
            () = self.gate.stop.cancelled() => {
                self.link.close(&Close {
                    reason: CloseReason::Restarting,
                    text: "the server is stopping".into(),
                    retry_between_s: Some(self.gate.return_between()),
                });
                timeout(CLOSE_DEADLINE * 2, &mut running).await.unwrap_or(LinkEnd::ClosedHere)
            }
        };
        Box::pin(self.leave(&end)).await;
    }

    async fn admit(&mut self, candidate: Candidate, agent: &str) {
        let peer = candidate.peer;
        match self.gate.registry.admit(self.id, candidate, Timestamp::now()) {
            Ok((registered, admission)) => {
                self.registered = Some(registered);
                self.gate.metrics.links_admitted.inc();
                match admission {
                    Admission::First | Admission::Reconnected => {
                        info!(gateway = %self.name, %peer, agent, "gateway connected");
                    }
                    Admission::TookOver(older) => {
                        warn!(gateway = %self.name, %peer, %older, "another process with this gateway's identity took over");
                    }
                }
                self.gate.presence.note(self.id, Seen { at: Timestamp::now(), agent: Some(agent.to_owned()) });
            }
            Err(in_use) => {
                info!(gateway = %self.name, %peer, "{in_use}; the newcomer stepped back");
                self.link.close(&Close {
                    reason: CloseReason::Superseded,
                    text: in_use.to_string(),
                    retry_between_s: None,
                });
            }
        }
    }

    /// The proof was looked up before something changed, and the link is here only since then: perhaps nobody saw it.
    async fn look_again(&self, epoch: i64) {
        match self.gate.store.identity_epoch(self.id).await {
            Ok(now) if now == Some(epoch) => {}
            Ok(_) => self.link.close(&revocation::revoked()),
            Err(error) => {
                warn!(gateway = %self.name, error = error.in_full(), "cannot check a gateway's identity again");
                self.link.close(&revocation::revoked());
            }
        }
    }

    /// Answers the gateway's control messages until the link ends, or the gateway talks nonsense.
    async fn converse(&self) {
        while let Some(json) = self.link.receive().await {
            match hear::read(&json) {
                Ok(Heard::Devices { devices, refused, nameless }) if self.registered.is_some() => {
                    if nameless > 0 {
                        warn!(gateway = %self.name, nameless, "a gateway reports devices without a name that can be read");
                    }
                    Box::pin(self.take_devices(&devices, refused)).await;
                }
                Ok(Heard::Keepalive(seconds)) => {
                    let asks = Duration::from_secs(seconds.into()).min(PING_AFTER_LONGEST);
                    self.link.set_ping_after((asks + SERVER_PING_LATER).max(SERVER_PING_AFTER));
                }
                Ok(Heard::Traffic { month, sent, received }) if self.registered.is_some() => {
                    self.take_traffic(&month, sent, received);
                }
                Ok(Heard::Devices { .. } | Heard::Traffic { .. } | Heard::Unknown) => {}
                Err(error) => {
                    warn!(gateway = %self.name, %error, "a gateway's message cannot be read");
                    self.link.close(&Close {
                        reason: CloseReason::Protocol,
                        text: format!("a control message cannot be read: {error}"),
                        retry_between_s: None,
                    });
                    return;
                }
            }
        }
    }

    async fn take_devices(&self, devices: &[DeviceReport], mut refused: Vec<DeviceRefused>) {
        match self.gate.store.report_devices(self.id, devices).await {
            Ok(more) => {
                refused.extend(more);
                self.answer(&ServerToGateway::DevicesTaken { refused });
            }
            Err(error) => {
                warn!(gateway = %self.name, error = error.in_full(), "cannot keep a gateway's list of devices");
            }
        }
    }

    /// A gateway without a cap is not answered: its link may be about to fall silent.
    fn take_traffic(&self, month: &str, sent: u64, received: u64) {
        let Ok(month) = month.parse() else {
            tracing::debug!(gateway = %self.name, "a gateway counts for a month that is none");
            return;
        };
        self.gate.traffic.hear(&self.name, month, LinkCount { sent, received, told: Timestamp::now() });
        let standing = self.gate.traffic.standing(&self.name);
        if standing.cap != DataCap::default() {
            let lifted = standing.cap.lifted_until.and_then(|until| u64::try_from(until.as_second()).ok());
            let DataCap { warn, hard, .. } = standing.cap;
            self.answer(&ServerToGateway::DataCap { used: standing.used, warn, hard, lifted_until: lifted });
        }
    }

    fn answer(&self, message: &ServerToGateway) {
        if let Err(error) = self.link.send(message) {
            // The link ends, or is choked: either way its end is logged by `leave`.
            tracing::debug!(gateway = %self.name, %error, "control message not sent");
        }
    }

    async fn leave(self, end: &LinkEnd) {
        let Some(registered) = self.registered else { return };
        let current = registered.is_current();
        drop(registered);
        if !current {
            info!(gateway = %self.name, "older link ended: {end}");
            return;
        }
        info!(gateway = %self.name, "gateway disconnected: {end}");
        self.gate.presence.note(self.id, Seen { at: Timestamp::now(), agent: None });
    }
}

fn welcome(session: String, utc_offset_s: i32) -> Welcome {
    Welcome {
        version: VERSION,
        agent: AGENT.into(),
        session,
        received: None,
        window: SERVER_WINDOW,
        ping_after_s: u32::try_from(PING_AFTER.as_secs()).unwrap_or(u32::MAX),
        ping_after_max_s: u32::try_from(PING_AFTER_LONGEST.as_secs()).ok(),
        time: u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
        utc_offset_s,
        capabilities: vec![TRAFFIC.into()],
    }
}

/// 128 random bits: a session may be resumed only by whoever was told its name.
fn session_name() -> Option<String> {
    let mut word = [0; 16];
    getrandom::fill(&mut word).ok()?;
    Some(data_encoding::HEXLOWER.encode(&word))
}

fn refused(reason: RefusedReason, text: &str, retry_after_s: Option<u32>) -> Refused {
    Refused { reason, text: text.into(), retry_after_s }
}
