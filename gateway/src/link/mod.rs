//! The link to the server: dials for ever, keeps the one link, hands its streams to the forwarder, and says how it is.

mod backoff;
mod dial;
mod failure;
mod proxy;
mod session;
mod tls;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::driver::{LinkEnd, LinkHandle};
use linkspan_protocol::limits::GATEWAY_WINDOW;
use linkspan_protocol::message::{Close, CloseReason, DeviceRefused, GatewayToServer, Hello, ServerToGateway, VERSION};
use linkspan_protocol::text::tame;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub use self::backoff::{Backoff, Retry};
pub use self::failure::{Failure, Step};
use self::session::{Held, Joined};
pub(crate) use self::tls::{Memory as TlsMemory, system_has_authorities};

use crate::Phase;
use crate::config::Config;
use crate::forward::Forwarder;
use crate::traffic::Traffic;

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
        Self { state, since: now, last_failure: None, connects: 0, refused: Vec::new(), data_cap: None }
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
}

/// What comes after an attempt or a link.
enum Next {
    Failed(Failure),
    /// The configuration names another server or identity.
    Redial,
    Stop,
}

impl Link {
    /// Keeps the link until the gateway stops.
    pub(crate) async fn run(mut self) -> Result<(), String> {
        let mut backoff = Backoff::default();
        let mut yielding = false;
        let mut held = Held::default();
        loop {
            let config = self.config.borrow_and_update().clone();
            let next = self.connect_and_serve(&config, &mut held, &mut yielding, &mut backoff).await;
            let failure = match next {
                Next::Stop => break,
                Next::Redial => {
                    held.end("the gateway's configuration changed");
                    backoff.reset();
                    yielding = false;
                    continue;
                }
                Next::Failed(failure) => failure,
            };
            let wait = backoff.next(failure.retry, fastrand::f64());
            let until = Instant::now() + wait;
            self.fail(failure, wait, if yielding { State::Superseded { until } } else { State::Waiting { until } });
            tokio::select! {
                () = sleep_until(until) => {}
                () = config_moved(&mut self.config, &config) => {
                    held.end("the gateway's configuration changed");
                    backoff.reset();
                    yielding = false;
                }
                () = leaves(&mut self.phase, Phase::Running) => break,
            }
        }
        enter(&self.report, State::Draining);
        Ok(())
    }

    async fn connect_and_serve(
        &mut self,
        config: &Config,
        held: &mut Held,
        yielding: &mut bool,
        backoff: &mut Backoff,
    ) -> Next {
        let hello = Hello { resume: held.resume(), ..self.hello(config, *yielding) };
        let report = self.report.clone();
        let dialed = tokio::select! {
            dialed = dial::dial(&config.server, &hello, &self.tls, |step| enter(&report, State::Dialing(step))) => dialed,
            () = config_moved(&mut self.config, config) => return Next::Redial,
            () = leaves(&mut self.phase, Phase::Running) => return Next::Stop,
        };
        let (socket, welcome) = match dialed {
            Ok(link) => link,
            Err(failure) => return Next::Failed(failure),
        };
        *yielding = false;
        let _counted = self.traffic.begin(socket.get_ref().get_ref().0, (welcome.time, welcome.utc_offset_s));
        let joined = match held.join(socket, config, &hello, &welcome) {
            Ok(joined) => joined,
            Err(error) => return Next::Failed(Failure::new(Step::Hello, error.to_string(), "it will be tried again")),
        };
        let goes_on = joined.goes_on;
        let session = if goes_on { ", where the session goes on" } else { "" };
        log::info!("connected to {} ({}) as {}{session}", config.server.at, tame(&welcome.agent), config.identity.name);
        let began = Instant::now();
        self.report.send_modify(|report| {
            (report.state, report.since) = (State::Connected, began);
            report.connects = report.connects.saturating_add(1);
            report.data_cap = None;
            if !goes_on {
                report.refused.clear();
            }
        });
        let (next, superseded) = self.serve(joined, held).await;
        if held.link_ended() {
            log::info!("the session waits for the next link");
        }
        *yielding = superseded;
        backoff.link_held(began.elapsed());
        next
    }

    fn hello(&self, config: &Config, yielding: bool) -> Hello {
        Hello {
            version: VERSION,
            agent: AGENT.to_owned(),
            name: config.identity.name.clone(),
            secret: Some(config.identity.secret.clone()),
            instance: self.instance.clone(),
            yielding,
            window: GATEWAY_WINDOW,
            max_streams: config.limits.max_streams,
            capabilities: Vec::new(),
            resume: None,
            resume_within_s: Some(u32::try_from(config.limits.resume.as_secs()).unwrap_or(u32::MAX)),
        }
    }

    /// Lives as long as the link does. True beside the reason: another gateway took over.
    async fn serve(&mut self, Joined { handle, driver, books, .. }: Joined, held: &mut Held) -> (Next, bool) {
        let handle = &handle;
        let mut told = self.traffic.told();
        let mut served = self.config.borrow_and_update().clone();
        if held.is_news(&served) {
            tell_devices(handle, &served);
        }
        let mut driver = pin!(driver.run());
        let mut next = None;
        loop {
            tokio::select! {
                end = &mut driver => return ended(&end, next),
                Some(incoming) = handle.accept() => self.forwarder.take(incoming),
                Some(message) = handle.receive() => self.hear(&message),
                Ok(()) = told.changed(), if books => tell_traffic(handle, told.borrow_and_update().as_ref()),
                Ok(()) = self.config.changed(), if next.is_none() => {
                    let config = self.config.borrow_and_update().clone();
                    if moved(&served, &config) {
                        handle.close(&close(CloseReason::Restarting, "the configuration changed"));
                        next = Some(Next::Redial);
                    } else {
                        // Even if it is the same list: what the server refused before may be free by now.
                        held.is_news(&config);
                        tell_devices(handle, &config);
                    }
                    served = config;
                }
                () = reaches(&mut self.phase, Phase::Stopping), if !matches!(next, Some(Next::Stop)) => {
                    handle.close(&close(CloseReason::Stopping, "the gateway stops"));
                    next = Some(Next::Stop);
                }
            }
        }
    }

    fn hear(&self, message: &[u8]) {
        match serde_json::from_slice(message) {
            Ok(ServerToGateway::DevicesTaken { refused }) => self.note_refused(&refused),
            Ok(cap @ ServerToGateway::DataCap { .. }) => self.report.send_modify(|report| report.data_cap = Some(cap)),
            Ok(ServerToGateway::ServerKeys { .. } | ServerToGateway::Unknown) => {
                log::debug!("the server sent a message that this version does not know")
            }
            Err(e) => log::warn!("the server sent a message that cannot be read: {}", tame(&e.to_string())),
        }
    }

    /// Notes which devices of ours the server does not publish, and says so if it is news: a server that talks of others,
    /// or repeats itself, must not fill the log.
    fn note_refused(&self, told: &[DeviceRefused]) {
        let config = self.config.borrow().clone();
        let of_ours = config.devices.iter().filter_map(|listed| told.iter().find(|device| device.name == listed.name));
        let refused: Vec<_> =
            of_ours.map(|device| DeviceRefused { reason: tame(&device.reason), ..device.clone() }).collect();
        let news = self.report.borrow().refused != refused;
        if news {
            for device in &refused {
                log::warn!("the server does not publish {}: {}", device.name, device.reason);
            }
            self.report.send_modify(|report| report.refused = refused);
        }
    }

    /// Says what happened, once: a server that is away for days must not fill the log of a router.
    fn fail(&self, failure: Failure, wait: Duration, state: State) {
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
        });
    }
}

fn enter(report: &watch::Sender<Report>, state: State) {
    report.send_modify(|report| (report.state, report.since) = (state, Instant::now()));
}

fn tell_devices(handle: &LinkHandle, config: &Config) {
    if let Err(e) = handle.send(&config.report()) {
        log::warn!("the list of devices was not sent: {e}");
    }
}

fn tell_traffic(handle: &LinkHandle, told: Option<&GatewayToServer>) {
    if let Some(told) = told
        && let Err(e) = handle.send(told)
    {
        log::debug!("the data used was not told: {e}");
    }
}

fn close(reason: CloseReason, text: &str) -> Close {
    Close { reason, text: text.to_owned(), retry_between_s: None }
}

/// What comes after a link; `planned` if this end closed it.
fn ended(end: &LinkEnd, planned: Option<Next>) -> (Next, bool) {
    if let Some(next) = planned {
        return (next, false);
    }
    match end {
        LinkEnd::Closed(close) => (Next::Failed(closed(close)), close.reason == CloseReason::Superseded),
        LinkEnd::ClosedHere | LinkEnd::Left | LinkEnd::Lost(_) | LinkEnd::Session(_) => {
            (Next::Failed(Failure::new(Step::Link, tame(&end.to_string()), "it will be tried again")), false)
        }
    }
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

/// Whether the new configuration leads to another link.
fn moved(old: &Config, new: &Config) -> bool {
    old.server != new.server || old.identity != new.identity || old.limits.max_streams != new.limits.max_streams
}

async fn config_moved(config: &mut watch::Receiver<Arc<Config>>, old: &Config) {
    if config.wait_for(|new| moved(old, new)).await.is_err() {
        std::future::pending().await
    }
}

/// Waits until the phase is another one than this; for ever if nobody can change it any more.
async fn leaves(phase: &mut watch::Receiver<Phase>, from: Phase) {
    if phase.wait_for(|phase| *phase != from).await.is_err() {
        std::future::pending().await
    }
}

async fn reaches(phase: &mut watch::Receiver<Phase>, to: Phase) {
    if phase.wait_for(|phase| *phase == to).await.is_err() {
        std::future::pending().await
    }
}
