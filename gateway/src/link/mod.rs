//! The link to the server: dials for ever, keeps the one link, hands its streams to the forwarder, and says how it is.

mod backoff;
pub(crate) mod dial;
mod dialer;
mod failure;
mod keepalive;
mod lan;
mod proxy;
mod resolver;
mod serve;
mod servers;
mod session;
mod tls;
mod trust;
mod upgrade;
mod uplinks;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::discovery::DISCOVERY;
use linkspan_protocol::driver::Memory;
use linkspan_protocol::message::{CONFIG, Close, CloseReason, DeviceRefused, Hello, ServerToGateway, VERSION, Welcome};
use linkspan_protocol::text::tame;
use linkspan_protocol::update::UPDATE;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub use self::backoff::{Backoff, Retry};
use self::dialer::{Dialer, Path, Reached};
pub use self::failure::{Failure, Step};
pub use self::servers::ServerReport;
use self::session::Held;
pub(crate) use self::tls::{Memory as TlsMemory, broken};
pub(crate) use self::trust::system_has_authorities;
pub use self::uplinks::Keepalive;
use self::uplinks::Uplinks;

use crate::Phase;
use crate::central::Central;
use crate::config::{Config, Credential};
use crate::discovery::identify::Desk;
use crate::forward::Forwarder;
use crate::inventory::Inventory;
use crate::platform::uplink::Network;
use crate::traffic::Traffic;
use crate::update::Updates;

/// Program and version, as told to the server.
pub const AGENT: &str = concat!("linkspan-gateway/", env!("CARGO_PKG_VERSION"));

/// The whole life of the link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Until the next attempt.
    Waiting {
        /// When it begins.
        until: Instant,
    },
    /// An attempt, at this step.
    Dialing(Step),
    /// Up.
    Connected,
    /// Another gateway with the same identity took over: until the next look whether it is gone.
    Superseded {
        /// When that is.
        until: Instant,
    },
    /// The gateway stops.
    Draining,
}

/// What others may know about the link.
#[derive(Clone, Debug)]
pub struct Report {
    /// How it is.
    pub state: State,
    /// Since when.
    pub since: Instant,
    /// The last failure, and when it was.
    pub last_failure: Option<(Failure, Instant)>,
    /// Each server of the configuration.
    pub servers: Vec<ServerReport>,
    /// Which of them the link leads to, or led to last.
    pub server: usize,
    /// The other end of the connection, while the link is up.
    pub peer: Option<SocketAddr>,
    /// How long the line may be silent, once a link was up.
    pub keepalive: Option<Keepalive>,
    /// How often it was up.
    pub connects: u32,
    /// Devices that the server does not publish.
    pub refused: Vec<DeviceRefused>,
    /// The server's cap on the data of a month, as it last said ([`ServerToGateway::DataCap`]).
    pub data_cap: Option<ServerToGateway>,
}

impl Default for Report {
    fn default() -> Self {
        let now = Instant::now();
        let state = State::Waiting { until: now };
        Self {
            state,
            since: now,
            last_failure: None,
            servers: Vec::new(),
            server: 0,
            peer: None,
            keepalive: None,
            connects: 0,
            refused: Vec::new(),
            data_cap: None,
        }
    }
}

/// Owns the link.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) report: watch::Sender<Report>,
    /// A random word per start of the process.
    pub(crate) instance: String,
    pub(crate) tls: Arc<TlsMemory>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) central: Arc<Central>,
    pub(crate) updates: Updates,
    pub(crate) desk: Arc<Desk>,
}

/// What comes after an attempt or a link.
enum Next {
    /// It failed, at this server.
    Failed(usize, Failure),
    /// There is a better one already.
    Switch(Box<Made>),
    /// The network is another one.
    News,
    /// The configuration names another server or identity.
    Redial,
    Stop,
}

/// A link that is not served yet.
struct Made {
    socket: dial::Socket,
    path: Path,
    hello: Hello,
    welcome: Welcome,
    round_trip: Duration,
}

/// What is known of the network.
struct Outlook {
    network: Network,
    uplinks: Uplinks,
}

/// What outlives the links.
struct Lasting {
    dialer: Dialer,
    outlook: Outlook,
    held: Held,
    /// Another gateway took over: this one steps back for it.
    yielding: bool,
}

impl Lasting {
    fn new(config: &Config, tls: Arc<TlsMemory>) -> Self {
        Self {
            dialer: Dialer::new(&config.server, tls),
            outlook: Outlook { network: Network::new(), uplinks: Uplinks::load(&config.keepalive_file()) },
            held: Held::default(),
            yielding: false,
        }
    }

    /// The configuration leads elsewhere.
    fn begin_anew(&mut self) {
        self.held.end("the gateway's configuration changed");
        self.dialer.begin_anew();
        self.yielding = false;
    }
}

impl Link {
    /// Keeps the link until the gateway stops.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let config = self.config.borrow().clone();
        let (mut lasting, mut made) = (Lasting::new(&config, self.tls.clone()), None);
        loop {
            let config = self.config.borrow_and_update().clone();
            lasting.dialer.follow(&config.server);
            let ready = match made.take() {
                Some(made) => Ok(made),
                None => self.connect(&config, &mut lasting).await,
            };
            let next = match ready {
                Ok(made) => self.stay(made, &config, &mut lasting).await,
                Err(next) => next,
            };
            match next {
                Next::Stop => break,
                Next::Switch(new) => made = Some(new),
                Next::News => lasting.dialer.news(),
                Next::Redial => lasting.begin_anew(),
                Next::Failed(server, failure) => {
                    if !self.wait((server, failure), &config, &mut lasting).await {
                        break;
                    }
                }
            }
        }
        lasting.outlook.uplinks.save(true);
        enter(&self.report, State::Draining);
        Ok(())
    }

    /// Waits until a server is to be tried again; false if the gateway stops.
    async fn wait(&mut self, failed: (usize, Failure), config: &Config, lasting: &mut Lasting) -> bool {
        let wait = lasting.dialer.failed(failed.0, &failed.1);
        let (_, until) = lasting.dialer.servers.next(Instant::now());
        let state = if lasting.yielding { State::Superseded { until } } else { State::Waiting { until } };
        self.fail(failed, wait, state, lasting.dialer.servers.report());
        tokio::select! {
            () = sleep_until(until) => {}
            () = lasting.outlook.network.changed() => lasting.dialer.news(),
            // Whoever has it read again wants to see what happens, even if nothing in it is new.
            Ok(()) = self.config.changed() => match moved(config, &self.config.borrow_and_update()) {
                true => lasting.begin_anew(),
                false => lasting.dialer.begin_anew(),
            },
            () = leaves(&mut self.phase, Phase::Running) => return false,
        }
        true
    }

    /// One attempt at the server that is next.
    async fn connect(&mut self, config: &Config, lasting: &mut Lasting) -> Result<Box<Made>, Next> {
        let Lasting { dialer, outlook, held, yielding } = lasting;
        if let Err(failure) = self.tls.show(&config.identity) {
            return Err(Next::Failed(dialer.servers.next(Instant::now()).0, failure));
        }
        let (report, hello) = (self.report.clone(), self.hello(config, *yielding));
        let attempt = async {
            let reached = dialer.reach(&config.server, |step| enter(&report, State::Dialing(step))).await?;
            let server = reached.path.server;
            enter(&report, State::Dialing(Step::Hello));
            introduce(reached, hello, held).await.map_err(|failure| (server, failure))
        };
        tokio::select! {
            made = attempt => made.map_err(|(server, failure)| Next::Failed(server, failure)),
            () = outlook.network.changed() => Err(Next::News),
            () = config_moved(&mut self.config, config) => Err(match moved(config, &self.config.borrow()) {
                true => Next::Redial,
                false => Next::News,
            }),
            () = leaves(&mut self.phase, Phase::Running) => Err(Next::Stop),
        }
    }

    /// Serves a link, with all that is noted at its begin and end.
    async fn stay(&mut self, made: Box<Made>, config: &Arc<Config>, lasting: &mut Lasting) -> Next {
        let Made { socket, path, hello, welcome, round_trip } = *made;
        if let Err(failure) = self.tls.told(welcome.time) {
            return Next::Failed(path.server, failure);
        }
        let began = Instant::now();
        lasting.yielding = false;
        lasting.dialer.servers.connected(path.server);
        lasting.outlook.network.watch(path.peer);
        let _counted = self.traffic.begin(socket.get_ref().get_ref().0.get_ref(), (welcome.time, welcome.utc_offset_s));
        let joined = match lasting.held.join(socket, config, &hello, &welcome) {
            Ok(joined) => joined,
            Err(error) => {
                return Next::Failed(
                    path.server,
                    Failure::new(Step::Hello, error.to_string(), "it will be tried again"),
                );
            }
        };
        joined.handle.measured(round_trip);
        let goes_on = joined.goes_on;
        let session = if goes_on { ", where the session goes on" } else { "" };
        let at = lasting.dialer.servers.at(path.server).unwrap_or(&config.server.at);
        log::info!("connected to {at} ({}) as {}{session}", tame(&welcome.agent), config.identity.name);
        self.report.send_modify(|report| {
            (report.state, report.since) = (State::Connected, began);
            report.connects = report.connects.saturating_add(1);
            (report.server, report.peer) = (path.server, Some(path.peer));
            report.servers = lasting.dialer.servers.report();
            report.data_cap = None;
            if !goes_on {
                report.refused.clear();
            }
        });
        let (next, superseded) = self.serve(joined, (path, &welcome), config, lasting).await;
        if lasting.held.link_ended() {
            log::info!("the session waits for the next link");
        }
        lasting.yielding = superseded;
        lasting.dialer.servers.down(path.server, began.elapsed());
        lasting.outlook.uplinks.save(false);
        self.report.send_modify(|report| report.peer = None);
        next
    }

    fn hello(&self, config: &Config, yielding: bool) -> Hello {
        let memory = Memory::of(config.limits.memory);
        let max_streams = memory.streams(config.limits.max_streams);
        Hello {
            version: VERSION,
            agent: AGENT.to_owned(),
            name: config.identity.name.clone(),
            secret: match &config.identity.credential {
                Credential::Secret(secret) => Some(secret.clone()),
                Credential::Certificate(_) => None,
            },
            instance: self.instance.clone(),
            yielding,
            window: memory.first_window(max_streams),
            max_streams,
            capabilities: abilities(self.updates.state().is_some()),
            resume: None,
            resume_within_s: Some(u32::try_from(config.limits.resume.as_secs()).unwrap_or(u32::MAX)),
        }
    }

    /// Says what happened, once: a server that is away for days must not fill the log of a router.
    fn fail(&self, (server, failure): (usize, Failure), wait: Duration, state: State, servers: Vec<ServerReport>) {
        let now = Instant::now();
        let is_known = {
            let report = self.report.borrow();
            report.state != State::Connected && report.last_failure.as_ref().is_some_and(|(last, _)| *last == failure)
        };
        let level = if is_known { log::Level::Debug } else { log::Level::Warn };
        log::log!(level, "{failure}; next attempt in {wait:.1?}");
        self.report.send_modify(|report| {
            (report.state, report.since) = (state, now);
            report.last_failure = Some((failure, now));
            (report.server, report.servers) = (server, servers);
        });
    }
}

fn enter(report: &watch::Sender<Report>, state: State) {
    report.send_modify(|report| (report.state, report.since) = (state, Instant::now()));
}

/// Says hello to a server that was reached, over which the session is to go on: nothing more is heard over an older link.
async fn introduce(reached: Reached, hello: Hello, held: &mut Held) -> Result<Box<Made>, Failure> {
    let Reached { mut socket, path } = reached;
    let hello = Hello { resume: held.resume(), ..hello };
    let (welcome, round_trip) = dial::introduce(&mut socket, &hello).await?;
    Ok(Box::new(Made { socket, path, hello, welcome, round_trip }))
}

/// A link that the server closed, as a failure.
fn closed(close: &Close) -> Failure {
    let (advice, retry) = match close.reason {
        CloseReason::Stopping | CloseReason::Restarting => ("it will be tried again", Retry::Soon),
        CloseReason::Superseded => (
            "another gateway connected with this name and secret; give each its own, or stop the other one",
            Retry::Slowly,
        ),
        CloseReason::Revoked => ("the server no longer accepts this identity", Retry::Slowly),
        CloseReason::Protocol => ("update the gateway or the server", Retry::Soon),
        CloseReason::Unknown => ("look into the server's log", Retry::Soon),
    };
    let retry = match close.retry_between_s {
        Some((from, to)) => Retry::Between(Duration::from_secs(from.into()), Duration::from_secs(to.into())),
        None => retry,
    };
    let text = match close.text.as_str() {
        "" => format!("{:?}", close.reason).to_lowercase(),
        text => tame(text),
    };
    Failure::new(Step::Link, format!("closed by the server: {text}"), advice).with_retry(retry)
}

fn abilities(updates: bool) -> Vec<String> {
    [Some(CONFIG), Some(DISCOVERY), updates.then_some(UPDATE)].into_iter().flatten().map(Into::into).collect()
}

/// Whether the new configuration leads to another session: to another server, or one that is trusted for another reason, as
/// somebody else, or with other bounds. What is open then ends.
fn moved(old: &Config, new: &Config) -> bool {
    !old.server.all().eq(new.server.all())
        || old.server.trust != new.server.trust
        || old.identity != new.identity
        || old.limits.max_streams != new.limits.max_streams
}

/// Whether the new configuration leads another way to the same servers: the session goes on over the new link.
fn rerouted(old: &Config, new: &Config) -> bool {
    old.server.proxy != new.server.proxy || old.server.congestion != new.server.congestion
}

/// Whether the new configuration leads to another link.
pub(crate) fn another(old: &Config, new: &Config) -> bool {
    moved(old, new) || rerouted(old, new)
}

async fn config_moved(config: &mut watch::Receiver<Arc<Config>>, old: &Config) {
    if config.wait_for(|new| another(old, new)).await.is_err() {
        std::future::pending().await
    }
}

/// Waits until the phase is another one than this; for ever if nobody can change it any more.
async fn leaves(phase: &mut watch::Receiver<Phase>, from: Phase) {
    if phase.wait_for(|phase| *phase != from).await.is_err() {
        std::future::pending().await
    }
}
