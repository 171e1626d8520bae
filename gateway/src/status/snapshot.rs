//! The snapshot: everything that an operator may know, at one moment, without secrets. Scripts read it as JSON.

use std::sync::Arc;

use linkspan_protocol::discovery::FoundDevice;
use linkspan_protocol::message::ServerToGateway;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::central::{Central, ConfigurationStatus};
use crate::config::{Config, Device, Service};
use crate::forward::Forwarder;
use crate::inventory::Inventory;
use crate::link::{Failure, Report, ServerReport, State, Step};
use crate::supervisor::WorkerReport;
use crate::traffic::{Traffic, Used};
use crate::update::Updates;
use crate::version;

/// Everything at one moment. Times are whole seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of the program.
    pub version: String,
    /// Name of the gateway.
    pub name: String,
    /// The configuration file.
    pub config_file: String,
    /// What is wrong with the configuration file; after a reload that failed, an older content is in use.
    pub config_problems: Vec<String>,
    /// Where the configuration comes from.
    #[serde(default)]
    pub configuration: ConfigurationStatus,
    /// Since the start.
    pub uptime_s: u64,
    /// The link to the server.
    pub link: LinkStatus,
    /// What is and was carried.
    pub streams: StreamStatus,
    /// The data used this month.
    #[serde(default)]
    pub data: DataStatus,
    /// The devices of the configuration.
    pub devices: Vec<DeviceStatus>,
    /// What is found on the LAN.
    #[serde(default)]
    pub discovery: DiscoveryStatus,
    /// Other versions of the program.
    #[serde(default)]
    pub update: UpdateStatus,
    /// The workers of this process.
    pub workers: Vec<WorkerReport>,
}

/// The link to the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// Host and port.
    pub server: String,
    /// Through a proxy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// How it is.
    pub state: LinkState,
    /// For so long.
    pub for_s: u64,
    /// Which step of an attempt is going on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Step>,
    /// Until the next attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_in_s: Option<u64>,
    /// How often the link was up again after the first time.
    pub reconnects: u32,
    /// What an idle link costs, once one was up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive: Option<KeepaliveStatus>,
    /// Each server, where the configuration names several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<ServerStatus>,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<FailureStatus>,
}

/// What an idle link costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeepaliveStatus {
    /// Silence after which the gateway asks whether the server is there.
    pub ping_after_s: u64,
    /// It may still change: how long the line may be silent is being learned.
    pub learning: bool,
    /// The way out that it holds for: interface, and network of the next router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// Bytes in 30 days as the carrier counts them, both ways, while nothing else is said.
    pub idle_bytes_per_month: u64,
}

/// One of several servers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Host and port.
    pub server: String,
    /// Why it was not connected to, the last time that it was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<FailureStatus>,
    /// It is not tried before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before_s: Option<u64>,
}

/// How the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkState {
    /// Until the next attempt.
    Waiting,
    /// An attempt is going on.
    Dialing,
    /// Up.
    Connected,
    /// Another gateway with the same identity took over.
    Superseded,
    /// The gateway stops.
    Draining,
}

/// A failure of the link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// So long ago.
    pub ago_s: u64,
    /// The step that failed.
    pub step: Step,
    /// What happened.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// What is and was carried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Open now.
    pub open: u32,
    /// As many may be.
    pub max: u32,
    /// From devices to the server, since the start.
    pub bytes_up: u64,
    /// From the server to devices, since the start.
    pub bytes_down: u64,
}

/// The data used this month.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataStatus {
    /// The month by the server's clock: `2026-11`; empty if nothing was used yet.
    pub month: String,
    /// Bytes that the link sent, all headers counted.
    pub sent: u64,
    /// Bytes that the link received, all headers counted.
    pub received: u64,
    /// The cap in the configuration.
    pub cap: CapStatus,
    /// The server's cap, as it last said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cap: Option<CapStatus>,
    /// What each service carried.
    pub services: Vec<ServiceData>,
}

/// A cap on the data of a month, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CapStatus {
    /// A warning is given from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warn: Option<u64>,
    /// No more is carried from here on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard: Option<u64>,
    /// Until then, in seconds since 1970-01-01 UTC, the second does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifted_until: Option<u64>,
}

/// What a service carried this month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceData {
    /// `device:service`
    pub name: String,
    /// Bytes from the device.
    pub up: u64,
    /// Bytes to the device.
    pub down: u64,
}

/// What is found on the LAN.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscoveryStatus {
    /// It is looked for devices.
    pub enabled: bool,
    /// On these interfaces.
    pub interfaces: Vec<String>,
    /// So many are known.
    pub devices: usize,
    /// So many of them are there now.
    pub present: usize,
    /// So often one was not taken, since there was no room.
    pub dropped: u64,
    /// Each of them, in a few words; `discover` tells more.
    #[serde(default)]
    pub found: Vec<FoundStatus>,
}

/// A device that was found on the LAN. All texts are strangers' words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundStatus {
    /// What it is known by: `mac:…`, `id:…` or `ip:…`.
    pub key: String,
    /// Its best name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its best address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Maker and model, as it says itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// Whether it is there now.
    pub present: bool,
}

impl From<&FoundDevice> for FoundStatus {
    fn from(device: &FoundDevice) -> Self {
        Self {
            key: device.key.clone(),
            name: device.names.first().cloned(),
            address: device.addresses.first().cloned(),
            about: device.about.clone(),
            present: device.present,
        }
    }
}

/// A device of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub host: String,
    /// Why the server does not publish it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Its services.
    pub services: Vec<ServiceStatus>,
}

/// A service of a device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: String,
    /// What is spoken there.
    pub kind: String,
    /// The port.
    pub port: u16,
    /// Streams open now.
    pub open: u32,
    /// The last attempt to reach it was so long ago.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_ago_s: Option<u64>,
    /// Why that attempt failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// How an update is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// What the program was built for, as Rust calls it; empty where it cannot become another.
    #[serde(default)]
    pub target: String,
    /// The version of the installed program, where another one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed: Option<String>,
    /// Why no other version is taken from the server, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    /// The version that comes in, or is on trial.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Bytes of it that are here, while it comes in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<u64>,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why the last one came to nothing, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Where a snapshot comes from.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) started: Instant,
    pub(crate) config: watch::Receiver<Arc<Config>>,
    pub(crate) problems: watch::Receiver<Vec<String>>,
    pub(crate) central: Arc<Central>,
    pub(crate) link: watch::Receiver<Report>,
    pub(crate) forwarder: Arc<Forwarder>,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) inventory: Arc<Inventory>,
    pub(crate) updates: Updates,
    pub(crate) workers: watch::Receiver<Vec<WorkerReport>>,
}

impl Sources {
    pub(crate) fn snapshot(&self) -> Snapshot {
        let config = self.config.borrow().clone();
        let report = self.link.borrow().clone();
        let totals = self.forwarder.totals();
        Snapshot {
            version: version().to_owned(),
            name: config.identity.name.to_string(),
            config_file: config.file.display().to_string(),
            config_problems: self.problems.borrow().clone(),
            configuration: self.central.standing(),
            uptime_s: self.started.elapsed().as_secs(),
            link: link(&config, &report),
            streams: StreamStatus {
                open: totals.open,
                max: config.limits.max_streams,
                bytes_up: totals.up,
                bytes_down: totals.down,
            },
            data: data(self.traffic.used(&self.forwarder), &config, &report),
            devices: config.devices.iter().map(|device| self.device(device, &report)).collect(),
            discovery: self.discovery(&config),
            update: self.updates.status(),
            workers: self.workers.borrow().clone(),
        }
    }

    fn discovery(&self, config: &Config) -> DiscoveryStatus {
        let kept = self.inventory.kept();
        DiscoveryStatus {
            enabled: config.discovery.enabled,
            interfaces: self.inventory.interfaces(),
            devices: kept.len(),
            present: kept.iter().filter(|kept| kept.device.present).count(),
            dropped: self.inventory.dropped(),
            found: kept.iter().map(|kept| (&kept.device).into()).collect(),
        }
    }

    fn device(&self, device: &Device, report: &Report) -> DeviceStatus {
        let refused = report.refused.iter().find(|refused| refused.name == device.name);
        DeviceStatus {
            name: device.name.to_string(),
            host: device.host.to_string(),
            refused: refused.map(|refused| refused.reason.clone()),
            services: device.services.iter().map(|service| self.service(device, service)).collect(),
        }
    }

    fn service(&self, device: &Device, service: &Service) -> ServiceStatus {
        let state = self.forwarder.service(device.name.as_str(), service.name.as_str());
        ServiceStatus {
            name: service.name.to_string(),
            kind: service.kind.as_str().to_owned(),
            port: service.port,
            open: state.open,
            last_ago_s: state.last.as_ref().map(|last| last.at.elapsed().as_secs()),
            last_error: state.last.and_then(|last| last.error),
        }
    }
}

fn data(used: Used, config: &Config, report: &Report) -> DataStatus {
    let server_cap = match report.data_cap {
        Some(ServerToGateway::DataCap { warn, hard, lifted_until, .. }) => Some(CapStatus { warn, hard, lifted_until }),
        _ => None,
    };
    let cap = config.traffic.cap;
    let services = used.services.into_iter().map(|(name, up, down)| ServiceData { name, up, down });
    DataStatus {
        month: used.month,
        sent: used.sent,
        received: used.received,
        cap: CapStatus { warn: cap.warn, hard: cap.hard, lifted_until: None },
        server_cap,
        services: services.collect(),
    }
}

fn link(config: &Config, report: &Report) -> LinkStatus {
    let (state, step, until) = match &report.state {
        State::Waiting { until } => (LinkState::Waiting, None, Some(until)),
        State::Dialing(step) => (LinkState::Dialing, Some(*step), None),
        State::Connected => (LinkState::Connected, None, None),
        State::Superseded { until } => (LinkState::Superseded, None, Some(until)),
        State::Draining => (LinkState::Draining, None, None),
    };
    let several = report.servers.len() > 1;
    let at = report.servers.get(report.server).map_or(&config.server.at, |server| &server.at);
    LinkStatus {
        server: at.to_string(),
        proxy: config.server.proxy.as_ref().map(|proxy| proxy.at.to_string()),
        state,
        for_s: report.since.elapsed().as_secs(),
        step,
        next_attempt_in_s: until.map(in_seconds),
        reconnects: report.connects.saturating_sub(1),
        keepalive: report.keepalive.as_ref().map(|keepalive| KeepaliveStatus {
            ping_after_s: keepalive.span.as_secs(),
            learning: keepalive.learning,
            uplink: keepalive.uplink.clone(),
            idle_bytes_per_month: keepalive.bytes_per_month(),
        }),
        servers: report.servers.iter().filter(|_| several).map(server).collect(),
        last_error: report.last_failure.as_ref().map(failure),
    }
}

fn server(report: &ServerReport) -> ServerStatus {
    ServerStatus {
        server: report.at.to_string(),
        last_error: report.failure.as_ref().map(failure),
        not_before_s: report.due.as_ref().map(in_seconds).filter(|seconds| *seconds > 0),
    }
}

fn failure((failure, at): &(Failure, Instant)) -> FailureStatus {
    FailureStatus {
        ago_s: at.elapsed().as_secs(),
        step: failure.step,
        what: failure.what.clone(),
        advice: failure.advice.clone(),
    }
}

fn in_seconds(until: &Instant) -> u64 {
    until.saturating_duration_since(Instant::now()).as_secs()
}
