//! The device side of Linkspan: keeps one link to the server and leads its streams to devices on the LAN.
//!
//! [`run`] is the whole gateway and holds nothing that is not in its arguments: a process may run several.

mod central;
pub mod cli;
pub mod discovery;
pub mod enrol;
mod forward;
mod identity;
mod inventory;
pub mod link;
mod platform;
pub mod status;
mod supervisor;
mod traffic;
#[cfg(feature = "update")]
pub mod update;
#[cfg(not(feature = "update"))]
#[path = "update/none.rs"]
pub mod update;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};

pub use linkspan_config as config;

pub use crate::platform::service_manager::ServiceManager;
pub use crate::supervisor::WorkerReport;

use crate::central::{Central, Trials};
use crate::config::{Config, Trust};
use crate::discovery::Discovery;
use crate::discovery::identify::Desk;
use crate::forward::{Forwarder, Names};
use crate::identity::clock::Clock;
use crate::identity::renew::Renewal;
use crate::inventory::Inventory;
use crate::link::Link;
use crate::status::{ClaimError, Socket, Sources};
use crate::supervisor::Supervisor;
use crate::traffic::Traffic;
use crate::update::Updates;

/// What the outside wants of a running gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// End, in good order; a second time: without waiting for open connections.
    Stop,
    /// Read the configuration file again.
    Reload,
}

/// The process around a gateway.
#[derive(Clone, Debug)]
pub struct Host {
    /// Who wants to know how it is.
    pub service_manager: ServiceManager,
    /// Changes how much is logged.
    pub set_log_level: fn(log::LevelFilter),
    /// How this process came to be the version that it is; none, where it cannot become another.
    pub launch: Option<update::Launch>,
}

/// How a gateway ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it was asked to.
    Stopped,
    /// It is to start anew, perhaps as another version.
    Again,
}

impl Host {
    /// For a gateway inside another program: no service manager, and logging is the program's own.
    pub fn none() -> Self {
        Self { service_manager: ServiceManager::none(), set_log_level: |_| {}, launch: None }
    }
}

/// Why a gateway did not run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Another one runs with the same configuration.
    #[error("another linkspan-gateway runs with this configuration already; its status socket is {}", .0.display())]
    AlreadyRunning(PathBuf),
}

/// What the whole gateway is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// No new connections; the open ones may end.
    Draining,
    /// The link ends now.
    Stopping,
}

/// The version of this program.
pub fn version() -> &'static str {
    link::AGENT.rsplit('/').next().unwrap_or(link::AGENT)
}

/// A warning for a configuration that counts on the system's authorities where there are none.
pub fn lacks_authorities(config: &Config) -> Option<&'static str> {
    let lacks = config.server.trust == Trust::System && !link::system_has_authorities();
    lacks.then_some(
        "this system has no CA certificates to check the server's with; install them (package ca-certificates or \
         ca-bundle), or set [server] ca_file or fingerprint",
    )
}

/// Runs a gateway until a command, or the end of the commands, stops it.
pub async fn run(config: Config, mut commands: mpsc::Receiver<Command>, host: Host) -> Result<Ending, RunError> {
    let socket = claim(&config)?;
    let (central, config) = Central::open(config);
    (host.set_log_level)(config.log_level);
    let problems = watch::Sender::new(config.warnings.iter().map(ToString::to_string).collect());
    let config = watch::Sender::new(config);
    let (phase, report) = (watch::Sender::new(Phase::Running), watch::Sender::new(link::Report::default()));
    let (mut supervisor, traffic) = (Supervisor::new(), Arc::new(Traffic::new(config.subscribe())));
    let (inventory, desk) = (Arc::new(Inventory::load(config.borrow().discovery.file.clone())), Arc::default());
    let (discovery, names) = look_around(config.subscribe(), inventory.clone(), Arc::clone(&desk));
    let forwarder = Arc::new(Forwarder::new(config.subscribe(), phase.subscribe(), names, traffic.clone()));

    let updates = Updates::open(host.launch.clone());
    let tls = Arc::new(link::TlsMemory::new(Arc::new(Clock::new(Clock::file_of(&config.borrow().file)))));
    let link = Link {
        config: config.subscribe(),
        phase: phase.subscribe(),
        forwarder: forwarder.clone(),
        traffic: traffic.clone(),
        report: report.clone(),
        instance: format!("{:016x}", fastrand::u64(..)),
        tls: tls.clone(),
        inventory: inventory.clone(),
        central: central.clone(),
        updates: updates.clone(),
        desk,
    };
    supervisor.start("discovery", move || discovery.clone().run());
    supervisor.start("link", move || link.clone().run());
    start_trials(&mut supervisor, &central, &config, (&report, &forwarder), &host);
    updates.start(&mut supervisor, &config, (&report, &traffic));
    let renewal = Renewal { config: config.subscribe(), tls };
    supervisor.start("renewal", move || renewal.clone().run());
    let sources = Sources {
        started: Instant::now(),
        config: config.subscribe(),
        problems: problems.subscribe(),
        central: central.clone(),
        link: report.subscribe(),
        forwarder: forwarder.clone(),
        traffic: traffic.clone(),
        inventory: inventory.clone(),
        updates: updates.clone(),
        workers: supervisor.report(),
    };
    serve_status(&mut supervisor, socket, sources);
    let (kept, carrying) = (traffic.clone(), forwarder.clone());
    supervisor.start("traffic", move || kept.clone().keep(carrying.clone()));
    let mut keeper = Keeper::new(supervisor, report.subscribe(), config.subscribe(), host);
    keeper.host.service_manager.ready();
    let ending = live(&mut keeper, &mut commands, &updates, (&config, &central, &problems)).await;
    let drain = config.borrow().limits.drain;
    stop(&mut keeper, &phase, &mut commands, (&forwarder, drain)).await;
    traffic.save(&forwarder);
    inventory.save();
    Ok(ending)
}

/// Until it is to end.
async fn live(
    keeper: &mut Keeper,
    commands: &mut mpsc::Receiver<Command>,
    updates: &Updates,
    (config, central, problems): (&watch::Sender<Arc<Config>>, &Central, &watch::Sender<Vec<String>>),
) -> Ending {
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Reload) => keeper.reload(config, central, problems),
                Some(Command::Stop) | None => return Ending::Stopped,
            },
            () = updates.again() => return Ending::Again,
            () = keeper.keep() => {}
        }
    }
}

/// Somebody tries what the server sends.
fn start_trials(
    supervisor: &mut Supervisor,
    central: &Arc<Central>,
    config: &watch::Sender<Arc<Config>>,
    (report, forwarder): (&watch::Sender<link::Report>, &Arc<Forwarder>),
    host: &Host,
) {
    let trials = Trials {
        central: central.clone(),
        config: config.clone(),
        report: report.subscribe(),
        forwarder: forwarder.clone(),
        set_log_level: host.set_log_level,
    };
    supervisor.start("configuration", move || trials.clone().run());
}

/// Who looks at the LAN, and who is asked for what DNS does not know.
fn look_around(config: watch::Receiver<Arc<Config>>, inventory: Arc<Inventory>, desk: Arc<Desk>) -> (Discovery, Names) {
    let names = Names {
        #[cfg(feature = "mdns")]
        local: discovery::mdns::Names::default(),
        inventory: inventory.clone(),
    };
    let discovery = Discovery {
        settings: Arc::new(move || config.borrow().discovery.clone()),
        #[cfg(feature = "mdns")]
        names: names.local.clone(),
        inventory,
        desk,
    };
    (discovery, names)
}

/// No new connections, time for the open ones to end, then the link says goodbye.
async fn stop(
    keeper: &mut Keeper,
    phase: &watch::Sender<Phase>,
    commands: &mut mpsc::Receiver<Command>,
    (forwarder, drain): (&Forwarder, Duration),
) {
    let mut workers = keeper.supervisor.report();
    keeper.host.service_manager.stopping();
    phase.send_replace(Phase::Draining);
    tokio::select! {
        () = forwarder.drained() => log::info!("stopping: no connection is open"),
        () = sleep(drain) => log::warn!("stopping: {} connections are cut", forwarder.totals().open),
        () = stopped_again(commands) => log::warn!("stopping at once"),
        () = keeper.keep() => {}
    }
    phase.send_replace(Phase::Stopping);
    let link_done = workers.wait_for(|workers| workers.iter().any(|worker| worker.name == "link" && worker.done));
    tokio::select! {
        ended = timeout(LINK_END, link_done) => drop(ended),
        () = keeper.keep() => {}
    }
}

/// Time for the link to say that it ends; the protocol has its own, shorter one.
const LINK_END: Duration = Duration::from_secs(5);

/// Whoever cannot be asked for its status still does its work: only another gateway at the same place is an error.
fn claim(config: &Config) -> Result<Option<Socket>, RunError> {
    match Socket::claim(&config.status_socket) {
        Ok(socket) => Ok(Some(socket)),
        Err(ClaimError::InUse(path)) => Err(RunError::AlreadyRunning(path)),
        Err(e @ ClaimError::Io { .. }) => {
            log::error!("{e}");
            Ok(None)
        }
    }
}

fn serve_status(supervisor: &mut Supervisor, socket: Option<Socket>, sources: Sources) {
    let Some(socket) = socket.map(Arc::new) else { return };
    // Bound before the service manager hears READY.
    let mut first = Some(socket.bind());
    supervisor.start("status", move || {
        let bound = first.take();
        let (socket, sources) = (socket.clone(), sources.clone());
        async move {
            let listener = bound.unwrap_or_else(|| socket.bind());
            Socket::serve(listener.map_err(|e| e.to_string())?, sources).await;
            drop(socket);
            Ok(())
        }
    });
}

async fn stopped_again(commands: &mut mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        if command == Command::Stop {
            return;
        }
    }
    std::future::pending().await
}

/// What goes on beside everything: workers that failed are started again, and the service manager hears how it goes.
struct Keeper {
    supervisor: Supervisor,
    report: watch::Receiver<link::Report>,
    config: watch::Receiver<Arc<Config>>,
    host: Host,
    watchdog: Option<Interval>,
    told: String,
}

impl Keeper {
    fn new(
        supervisor: Supervisor,
        report: watch::Receiver<link::Report>,
        config: watch::Receiver<Arc<Config>>,
        host: Host,
    ) -> Self {
        let watchdog = host.service_manager.watchdog_period().map(|period| {
            let mut watchdog = interval(period);
            watchdog.set_missed_tick_behavior(MissedTickBehavior::Delay);
            watchdog
        });
        Self { supervisor, report, config, host, watchdog, told: String::new() }
    }

    /// Never returns. It may be dropped and called again at any time.
    async fn keep(&mut self) {
        self.tell_status();
        loop {
            let alive = async {
                match &mut self.watchdog {
                    Some(watchdog) => watchdog.tick().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.supervisor.tend() => {}
                // There is one thread: if this comes in time, so does everything else.
                _ = alive => self.host.service_manager.alive(),
                Ok(()) = self.report.changed() => self.tell_status(),
            }
        }
    }

    fn tell_status(&mut self) {
        let report = self.report.borrow_and_update().clone();
        let at = self.config.borrow().server.at.to_string();
        let text = match &report.state {
            link::State::Connected => format!("Connected to {at}"),
            link::State::Dialing(_) => format!("Connecting to {at}"),
            link::State::Draining => "Stopping".to_owned(),
            link::State::Waiting { .. } | link::State::Superseded { .. } => match &report.last_failure {
                Some((failure, _)) => format!("Not connected to {at}: {failure}"),
                None => format!("Not connected to {at}"),
            },
        };
        if text != self.told {
            self.host.service_manager.status(&text);
            self.told = text;
        }
    }

    /// A file that cannot be used changes nothing, and is told in the log and in the status.
    fn reload(
        &mut self,
        config: &watch::Sender<Arc<Config>>,
        central: &Central,
        problems: &watch::Sender<Vec<String>>,
    ) {
        self.host.service_manager.reloading();
        let old = config.borrow().clone();
        let told = match config::load(&old.file) {
            Ok(new) => {
                for warning in &new.warnings {
                    log::warn!("{warning}");
                }
                if new.status_socket != old.status_socket {
                    log::warn!("the new [status] socket counts after a restart");
                }
                let new = central.reloaded(new);
                (self.host.set_log_level)(new.log_level);
                let told = new.warnings.iter().map(ToString::to_string).collect();
                log::info!("{} was read again: {} devices", new.file.display(), new.devices.len());
                config.send_replace(new);
                told
            }
            Err(errors) => {
                log::error!("the configuration was not read again, the last good one stays:\n{errors}");
                errors.0.iter().map(ToString::to_string).collect()
            }
        };
        problems.send_replace(told);
        self.host.service_manager.ready();
    }
}
