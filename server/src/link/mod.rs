//! Walk 2 at the server: a gateway's WebSocket becomes a link that the registry knows, for as long as it lives.

mod hear;
mod identify;
mod member;
pub mod presence;
pub mod registry;
pub mod revocation;
mod rush;
pub mod tell;
mod waiting;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::get;
use axum::{Extension, Router};
use http::{Request, Response};
use jiff::Timestamp;
use linkspan_protocol::discovery::{DISCOVERY, bounded};
use linkspan_protocol::driver::{self, LinkEnd, Role, Settings, Unsent};
use linkspan_protocol::handshake::{self, HandshakeError};
use linkspan_protocol::limits::{PING_AFTER, STREAMS_MAX, WINDOW_MAX, WINDOW_MIN};
use linkspan_protocol::message::{
    CONFIG, Hello, LINK_PATH, Refused, RefusedReason, SUBPROTOCOL, TRAFFIC, VERSION, Welcome,
};
use linkspan_protocol::update::UPDATE;
use linkspan_protocol::websocket::WebSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::identify::Doorkeeper;
use self::member::Member;
use self::presence::Presence;
use self::registry::{Candidate, NoSession, Registry};
use self::rush::{Arriving, Rush};
use self::tell::Teller;
pub use self::waiting::Keeping;
use crate::config;
use crate::edge::connection::Peer;
use crate::edge::listener::House;
use crate::edge::upgrade::{self, Subprotocol};
use crate::fleet::Fleet;
use crate::lan::Lans;
use crate::observe::Metrics;
use crate::store::{Fingerprint, Proven, Store};
use crate::traffic::Traffic;
use crate::updates::Updates;

/// Program and version, as told to gateways.
pub const AGENT: &str = concat!("linkspan-server/", env!("CARGO_PKG_VERSION"));
/// What is kept of what a gateway calls itself, in bytes.
const AGENT_MAX: usize = 100;

/// Silence after which the server asks whether a gateway is there. Longer than the gateway's own [`PING_AFTER`]: as long
/// as the gateway asks, the server need not, and an idle link costs half.
const SERVER_PING_AFTER: Duration = PING_AFTER.saturating_mul(2);

/// How much later than the gateway the server asks: the gateway's own question may be late on a slow line.
const SERVER_PING_LATER: Duration = Duration::from_secs(30);

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
                match promised.link().await {
                    Ok(socket) => gate.serve((socket, upgrade::UNSENT), &peer, arriving).await,
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
    /// The public keys by which this server can be known.
    server_keys: watch::Receiver<Vec<String>>,
    presence: Presence,
    keeping: Keeping,
    /// Longest silence that a gateway may learn to allow, and the most that it can make the server wait for a sign of life:
    /// a gateway that lost its power shows as connected for so long, unless somebody asks for a device of it.
    silence: Duration,
    rush: Rush,
    /// When gateways are asked to come back after a restart; decided once, while all are still here.
    returning: Arc<OnceLock<(u32, u32)>>,
    traffic: Traffic,
    teller: Teller,
    /// Who looks after configurations, if anybody.
    fleet: Option<Fleet>,
    updates: Option<Updates>,
    /// Who takes what gateways find on their LANs, if anybody.
    lans: Option<Lans>,
    stop: CancellationToken,
}

impl Gate {
    /// A gate to `registry`; links close when `stop` is cancelled, and sessions end with them.
    pub fn new(
        store: Store,
        registry: Registry,
        metrics: Arc<Metrics>,
        (presence, traffic, teller): (Presence, Traffic, Teller),
        stop: CancellationToken,
    ) -> Self {
        let doorkeeper = Doorkeeper::new(store.clone(), Duration::ZERO);
        let server_keys = watch::channel(Vec::new()).1;
        let (keeping, rush, returning) = (Keeping::default(), Rush::default(), Arc::default());
        Self {
            store,
            registry,
            metrics,
            doorkeeper,
            presence,
            traffic,
            teller,
            lans: None,
            keeping,
            silence: config::Gateways::default().keepalive_max,
            rush,
            returning,
            server_keys,
            fleet: None,
            updates: None,
            stop,
        }
    }

    /// The same, on the terms of the configuration and for gateways with certificates, which are told how to know this
    /// server again when their clocks are wrong.
    #[must_use]
    pub fn with_identities(self, terms: &config::Gateways, server_keys: watch::Receiver<Vec<String>>) -> Self {
        let doorkeeper = Doorkeeper::new(self.store.clone(), terms.certificate_grace);
        Self { doorkeeper, silence: terms.keepalive_max, server_keys, ..self }
    }

    /// Hears of the configurations of gateways.
    #[must_use]
    pub fn with_fleet(self, fleet: Fleet) -> Self {
        Self { fleet: Some(fleet), ..self }
    }

    /// Hears of the programs of gateways.
    #[must_use]
    pub fn with_updates(self, updates: Updates) -> Self {
        Self { updates: Some(updates), ..self }
    }

    /// Takes what gateways find on their LANs.
    #[must_use]
    pub fn with_lans(self, lans: Lans) -> Self {
        Self { lans: Some(lans), ..self }
    }

    /// Lets sessions outlive their links.
    #[must_use]
    pub fn keeping(self, keeping: Keeping) -> Self {
        Self { keeping, ..self }
    }

    /// Serves one gateway's WebSocket, from its hello to its end.
    async fn serve<W>(&self, (socket, unsent): (W, Unsent<W>), peer: &Peer, arriving: Arriving)
    where
        W: WebSocket,
    {
        // In a box of its own, since the way in takes more memory than the link that then stays for months.
        match Box::pin(self.let_in(socket, peer, arriving)).await {
            Some((member, Some(driver))) => member.run(driver.keep_unsent(unsent)).await,
            Some((member, None)) => Box::pin(member.link_ended(&LinkEnd::Lost("it never was up".into()))).await,
            None => {}
        }
    }

    fn return_between(&self) -> (u32, u32) {
        *self.returning.get_or_init(|| rush::return_between(self.registry.gateways_online()))
    }

    async fn let_in<W>(
        &self,
        mut socket: W,
        from: &Peer,
        _arriving: Arriving,
    ) -> Option<(Member<'_>, Option<driver::Driver<W>>)>
    where
        W: WebSocket,
    {
        let peer = from.address;
        let hello = match handshake::await_hello(&mut socket).await {
            Ok(hello) => tamed(hello),
            Err(error) => {
                self.turn_away_stranger(socket, peer, &error).await;
                return None;
            }
        };
        match self.identify(&hello, from.certificate.as_ref()).await {
            Ok(proven) => self.welcome(socket, peer, proven, hello).await,
            Err(refused) => {
                info!(gateway = %hello.name, %peer, reason = ?refused.reason, "gateway refused");
                // Who is only asked to come back later was not turned away.
                if refused.reason != RefusedReason::Busy {
                    self.teller.refused(&hello.name, peer, &refused.text);
                }
                self.refuse(&mut socket, &refused).await;
                None
            }
        }
    }

    async fn turn_away_stranger<W>(&self, mut socket: W, peer: SocketAddr, error: &HandshakeError)
    where
        W: WebSocket,
    {
        info!(%peer, %error, "no gateway's hello");
        if let Some(refused) = error.refusal() {
            self.refuse(&mut socket, &refused).await;
        }
    }

    async fn refuse<W>(&self, socket: &mut W, refused: &Refused)
    where
        W: WebSocket,
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

    /// A driver is missing where a session was to go on and its new link was lost at once: it waits for the next.
    async fn welcome<W>(
        &self,
        mut socket: W,
        peer: SocketAddr,
        proven: Proven,
        hello: Hello,
    ) -> Option<(Member<'_>, Option<driver::Driver<W>>)>
    where
        W: WebSocket,
    {
        let Some(resume) = &hello.resume else {
            return self.begin(socket, peer, proven, hello).await.map(|(member, driver)| (member, Some(driver)));
        };
        match self.registry.resume(proven.id, proven.epoch, resume, peer) {
            Ok((registered, link, resumed)) => {
                let within = self.keeping.within(hello.resume_within_s);
                let Proven { id, name, epoch, change } = proven;
                let tenant = self.store.gateway_tenant(id).await.ok().flatten();
                let member = Member { gate: self, id, tenant, name, link, within, registered: Some(registered) };
                let answer = self.answer(resume.session.clone(), Some(resumed.received()));
                if let Err(error) = handshake::welcome(&mut socket, &answer).await {
                    info!(gateway = %member.name, %peer, %error, "gateway left during the handshake");
                    return Some((member, None));
                }
                member.came_back(peer, &hello.agent);
                if self.registry.identity_change() != change {
                    member.look_again(epoch).await;
                }
                Some((member, Some(resumed.over(socket))))
            }
            Err(late @ NoSession::Late) => {
                self.refuse(&mut socket, &refused(RefusedReason::Busy, &late.to_string(), None)).await;
                None
            }
            Err(error) => {
                info!(gateway = %hello.name, %peer, %error, "a session does not go on");
                self.begin(socket, peer, proven, hello).await.map(|(member, driver)| (member, Some(driver)))
            }
        }
    }

    async fn begin<W>(
        &self,
        mut socket: W,
        peer: SocketAddr,
        proven: Proven,
        hello: Hello,
    ) -> Option<(Member<'_>, driver::Driver<W>)>
    where
        W: WebSocket,
    {
        // The registry must not send streams into a link whose WELCOME is not out yet; so WELCOME goes first, and a
        // gateway that may not come in is told by a CLOSE instead.
        let Some(session) = session_name() else {
            warn!("the system gives no random numbers");
            return None;
        };
        let memory = self.keeping.memory();
        let max_streams = memory.streams(hello.max_streams.clamp(1, STREAMS_MAX));
        let window = memory.first_window(max_streams);
        let answer = Welcome { window, ..self.answer(session.clone(), None) };
        if let Err(error) = handshake::welcome(&mut socket, &answer).await {
            info!(gateway = %hello.name, %peer, %error, "gateway left during the handshake");
            return None;
        }
        let within = self.keeping.within(hello.resume_within_s);
        let settings = Settings {
            receive_window: window,
            send_window: hello.window.clamp(WINDOW_MIN, WINDOW_MAX),
            max_streams,
            memory,
            resumable: !within.is_zero(),
        };
        let (link, driver) = driver::link(socket, Role::Server, settings, SERVER_PING_AFTER);
        let Proven { id, name, epoch, change } = proven;
        let (instance, yielding) = (hello.instance, hello.yielding);
        let candidate = Candidate { link: link.clone(), session, instance, yielding, peer, epoch };
        let mut member = Member { gate: self, id, tenant: None, name, link, within, registered: None };
        member.admit(candidate, &hello.agent).await;
        if self.registry.identity_change() != change {
            member.look_again(epoch).await;
        }
        Some((member, driver))
    }

    fn answer(&self, session: String, received: Option<u64>) -> Welcome {
        Welcome {
            version: VERSION,
            agent: AGENT.into(),
            session,
            received,
            // A session that goes on keeps the credit it began with.
            window: WINDOW_MIN,
            ping_after_s: u32::try_from(PING_AFTER.min(self.silence).as_secs()).unwrap_or(u32::MAX),
            ping_after_max_s: u32::try_from(self.silence.as_secs()).ok(),
            resume_within_s: self.keeping.offer(),
            time: u64::try_from(Timestamp::now().as_second()).unwrap_or(0),
            utc_offset_s: self.traffic.utc_offset(),
            capabilities: self.abilities(),
        }
    }
}

impl Gate {
    fn abilities(&self) -> Vec<String> {
        let fleet = self.fleet.as_ref().map(|_| CONFIG);
        let (lans, updates) = (self.lans.as_ref().map(|_| DISCOVERY), self.updates.as_ref().map(|_| UPDATE));
        [Some(TRAFFIC), fleet, lans, updates].into_iter().flatten().map(Into::into).collect()
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

/// What a gateway calls itself is a stranger's text: it is kept, listed and logged.
fn tamed(hello: Hello) -> Hello {
    Hello { agent: bounded(&hello.agent, AGENT_MAX), ..hello }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threat_21_what_a_gateway_calls_itself_is_one_short_line() {
        let agent = format!("linkspan\u{1b}[2J\r\n<script>\u{202e}{}", "x".repeat(60_000));
        let hello = serde_json::json!({
            "version": 1, "agent": agent, "name": "site12", "instance": "i", "window": 65_536, "max_streams": 10,
        });
        let hello = tamed(serde_json::from_value(hello).unwrap());
        assert!(hello.agent.len() <= AGENT_MAX && hello.agent.starts_with("linkspan [2J"), "{}", hello.agent);
        assert!(!hello.agent.chars().any(|c| c.is_control() || c == '\u{202e}'), "{}", hello.agent);
    }
}
