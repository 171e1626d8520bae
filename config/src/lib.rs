//! gateway.toml, or OpenWrt's /etc/config/linkspan: parsed once into types, with all its problems told at once. The
//! gateway lives by it; the server checks with the same parser what it is about to send ([`central`]).

pub mod central;
mod device;
mod discovery;
mod files;
mod mac;
pub mod nearest;
mod pair;
mod policy;
mod problem;
mod reader;
pub mod release;
mod server;
mod uci;
mod value;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use linkspan_protocol::id::{DeviceName, GatewayName, Secret, ServiceName};
use linkspan_protocol::limits;
use linkspan_protocol::message::{DeviceReport, GatewayToServer, ServiceKind, ServiceReport, Verify};
use log::LevelFilter;
use rustls_pki_types::CertificateDer;

pub use discovery::Discovery;
pub use mac::Mac;
pub use policy::{Network, Never, Policy};
pub use problem::{Problem, Problems, Severity};
pub use reader::place;
pub use value::{Fingerprint, HostPort, Proxy, TargetHost};

pub use central::Central;
pub use pair::{Files, Pair, PairError, aside};
use problem::Wrong;
use reader::{Reader, Section};

/// Where the configuration is, unless `--config` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/linkspan/gateway.toml";

/// Where it is on OpenWrt.
const UCI_FILE: &str = "/etc/config/linkspan";

/// The configuration that is meant if none is named: OpenWrt's, where that is the one that is there.
pub fn default_file() -> &'static Path {
    let (toml, uci) = (Path::new(DEFAULT_FILE), Path::new(UCI_FILE));
    if uci.exists() && !toml.exists() { uci } else { toml }
}

/// The file around which a configuration keeps what belongs to it: itself, or for one of UCI the gateway.toml in whose
/// place it is.
pub fn home(file: &Path) -> Cow<'_, Path> {
    uci::home(file)
}

/// Whether a configuration is written in UCI.
pub fn is_uci(file: &Path) -> bool {
    uci::is_uci(file)
}

/// Everything that gateway.toml says.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// What should be looked at, although the configuration can be used.
    pub warnings: Vec<Problem>,
    /// Which server, and the way to it.
    pub server: Server,
    /// Who this gateway is.
    pub identity: Identity,
    /// The socket at which `linkspan-gateway status` asks.
    pub status_socket: PathBuf,
    /// How much is logged.
    pub log_level: LevelFilter,
    /// Bounds.
    pub limits: Limits,
    /// The data this router may use.
    pub traffic: Traffic,
    /// What the router's owner forbids, whoever asks.
    pub policy: Policy,
    /// What the server may see of the file; nothing, where that cannot be told apart from what stays here.
    pub shown: Option<Arc<str>>,
    /// Where nothing is shown: what the file says beside what stays here, to notice that it was edited. It goes nowhere.
    pub counting: Option<Arc<str>>,
    /// Whether and where devices are looked for.
    pub discovery: Discovery,
    /// What can be reached through this gateway, and nothing else can.
    pub devices: Vec<Device>,
}

/// `[server]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host and port of the url, of the first one if there are several.
    pub at: HostPort,
    /// Those of the other urls.
    pub others: Vec<HostPort>,
    /// What its certificate is checked against.
    pub trust: Trust,
    /// The proxy on the way to it.
    pub proxy: Option<Proxy>,
    /// The congestion control of the link, where it is not the kernel's default.
    pub congestion: Option<Box<str>>,
    /// Where what is learned about the line is kept, if it is said.
    pub keepalive_file: Option<PathBuf>,
}

impl Server {
    /// All servers, in their order.
    pub fn all(&self) -> impl Iterator<Item = &HostPort> {
        std::iter::once(&self.at).chain(&self.others)
    }
}

/// What the server's certificate is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The CA certificates that the system has.
    System,
    /// The CA certificates of `ca_file`, and no others.
    Authorities(Vec<CertificateDer<'static>>),
    /// It must be this very certificate.
    Fingerprint(Fingerprint),
}

/// `[identity]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The gateway's name.
    pub name: GatewayName,
    /// What it proves that with.
    pub credential: Credential,
}

/// What a gateway proves its name with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The secret it shares with the server.
    Secret(Secret),
    /// A certificate of the server's authority, read anew for each connection: it is renewed meanwhile.
    Certificate(Files),
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections to devices at once.
    pub max_streams: u32,
    /// Time to connect to a device.
    pub connect_timeout: Duration,
    /// Silence after which a connection is ended; never, if absent.
    pub idle_timeout: Option<Duration>,
    /// Time for open connections to end by themselves when the gateway stops.
    pub drain: Duration,
    /// Time for which open connections outlive a lost link; zero for not at all.
    pub resume: Duration,
    /// Bytes of data that may be held for the link, in all.
    pub memory: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let (connect_timeout, drain) = (Duration::from_secs(10), Duration::from_secs(5));
        let (resume, memory) = (limits::RESUME_WITHIN, limits::MEMORY);
        Self { max_streams: 256, connect_timeout, idle_timeout: None, drain, resume, memory }
    }
}

/// `[traffic]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Where it is kept what was used.
    pub file: PathBuf,
    /// How much may be used in a month.
    pub cap: DataCap,
}

/// How much may be used in a month, in bytes of the link, both ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataCap {
    /// Warn from here on.
    pub warn: Option<u64>,
    /// Carry no more from here on.
    pub hard: Option<u64>,
}

/// `[[device]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name, unique on the server.
    pub name: DeviceName,
    /// For people.
    pub description: String,
    /// Words to group devices by.
    pub tags: Vec<String>,
    /// Where it is.
    pub host: TargetHost,
    /// What can be reached on it.
    pub services: Vec<Service>,
}

/// `[[device.service]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, unique within the device.
    pub name: ServiceName,
    /// What is spoken there.
    pub kind: ServiceKind,
    /// The TCP port.
    pub port: u16,
    /// How the server checks the certificate of an `https` device.
    pub verify: Verify,
    /// The `Host` the device insists on.
    pub host_header: Option<String>,
    /// Bytes per second that are carried, each way.
    pub rate: Option<u64>,
    /// Whether what is carried is packed on the link.
    pub compress: bool,
}

impl Config {
    /// The service that the list has under these names, and the device's host.
    pub fn find(&self, device: &DeviceName, service: &ServiceName) -> Option<(&TargetHost, &Service)> {
        let device = self.devices.iter().find(|candidate| candidate.name == *device)?;
        let service = device.services.iter().find(|candidate| candidate.name == *service)?;
        Some((&device.host, service))
    }

    /// Where what is learned about the line is kept.
    pub fn keepalive_file(&self) -> PathBuf {
        self.server.keepalive_file.clone().unwrap_or_else(|| self.status_socket.with_extension("keepalive"))
    }

    /// The list of devices as it is told to the server; `at` tells where a host is now.
    pub fn report(&self, at: impl Fn(&TargetHost) -> String) -> GatewayToServer {
        report(&self.devices, at)
    }
}

fn report(devices: &[Device], at: impl Fn(&TargetHost) -> String) -> GatewayToServer {
    GatewayToServer::Devices { devices: devices.iter().map(|device| device.report(at(&device.host))).collect() }
}

impl Device {
    fn report(&self, host: String) -> DeviceReport {
        let service = |service: &Service| ServiceReport {
            name: service.name.clone(),
            kind: service.kind,
            host: host.clone(),
            port: service.port,
            verify: service.verify.clone(),
            host_header: service.host_header.clone(),
            compress: service.compress && cfg!(feature = "compress"),
        };
        DeviceReport {
            name: self.name.clone(),
            description: self.description.clone(),
            tags: self.tags.clone(),
            services: self.services.iter().map(service).collect(),
        }
    }
}

/// Reads a configuration and the files it names. Warnings alone do not refuse it; they are kept in it.
pub fn load(file: &Path) -> Result<Config, Problems> {
    let whole = |wrong: Wrong| Problems(vec![Problem::with_file(file, wrong.what, wrong.instead)]);
    let (content, metadata) = files::read(file, files::CONFIG_MAX).map_err(whole)?;
    let text = match std::str::from_utf8(&content) {
        Ok(text) => text,
        Err(e) => return Err(Problems(vec![not_utf8(file, &content, e.valid_up_to())])),
    };
    let reader = Reader::new(file, text);
    let config = parse(&reader);
    if let Some(config) = &config {
        let has_password = config.server.proxy.as_ref().is_some_and(|proxy| proxy.credentials.is_some());
        if has_password && files::open_to_others(&metadata) {
            let instead = format!("chmod 640 {}", file.display());
            reader.warning(&(0..0), "other users can read this file, and it holds the proxy's password", instead);
        }
    }
    let problems = reader.problems();
    match config {
        Some(config) if problems.iter().all(|problem| problem.severity == Severity::Warning) => {
            Ok(Config { warnings: problems, ..config })
        }
        _ => Err(Problems(problems)),
    }
}

/// The `[server]` and `[identity]` of a configuration, as far as they can be read: for `enroll`, before there is an
/// identity. The problems are those of `[server]`.
pub fn draft(file: &Path) -> Result<Draft, Problems> {
    let whole = |wrong: Wrong| Problems(vec![Problem::with_file(file, wrong.what, wrong.instead)]);
    let (content, _) = files::read(file, files::CONFIG_MAX).map_err(whole)?;
    let text = String::from_utf8_lossy(&content);
    let reader = Reader::new(file, &text);
    let table = reader.tables();
    let mut root = Section::new(&reader, "the file", &table, 0..0);
    let server = server::server(Some(root.section("server", "[server]")));
    let problems = reader.problems();
    let reader = Reader::new(file, &text);
    let mut root = Section::new(&reader, "the file", &table, 0..0);
    let mut identity = root.section("identity", "[identity]");
    let name = identity.text("name").and_then(|name| name.get_ref().parse().ok());
    let mut path = |key| identity.text(key).map(|text| reader.beside(text.get_ref()));
    let files = path("certificate_file").zip(path("key_file"));
    let files = files.map(|(certificate, key)| Files { certificate, key });
    let Some(server) = server else { return Err(Problems(problems)) };
    Ok(Draft { server, name, files })
}

/// Host and port of a server's address as somebody typed it.
pub fn server_url(text: &str) -> Result<HostPort, String> {
    value::server_url(text).map_err(|wrong| wrong.sentence())
}

/// A proxy as somebody typed it.
pub fn proxy(text: &str) -> Result<Proxy, String> {
    value::proxy_url(text).map_err(|wrong| wrong.sentence())
}

/// A fingerprint as somebody typed it.
pub fn fingerprint(text: &str) -> Result<Fingerprint, String> {
    value::fingerprint(text).map_err(|wrong| wrong.sentence())
}

/// The CA certificates in a file that somebody named.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    files::certificates(file).map_err(|wrong| wrong.sentence())
}

/// What a configuration says of a gateway that may not be enrolled yet.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Which server.
    pub server: Server,
    /// The gateway's name.
    pub name: Option<GatewayName>,
    /// Its certificate and key.
    pub files: Option<Files>,
}

/// The status socket that a configuration names, even if the rest of it cannot be used.
pub fn status_socket(file: &Path) -> PathBuf {
    let content = files::read(file, files::CONFIG_MAX).map(|(content, _)| content).unwrap_or_default();
    let text = String::from_utf8_lossy(&content);
    let reader = Reader::new(file, &text);
    let table = reader.tables();
    let mut root = Section::new(&reader, "the file", &table, 0..0);
    socket(root.section("status", "[status]")).unwrap_or_else(|| home(file).with_extension("sock"))
}

/// The `[discovery]` of a configuration, even if the rest of it cannot be used; the default where there is no file.
pub fn discovery(file: &Path) -> Result<Discovery, Problems> {
    let content = match files::read(file, files::CONFIG_MAX) {
        Ok((content, _)) => content,
        Err(_) if !file.exists() => return Ok(Discovery::beside(file)),
        Err(wrong) => return Err(Problems(vec![Problem::with_file(file, wrong.what, wrong.instead)])),
    };
    let text = String::from_utf8_lossy(&content);
    let reader = Reader::new(file, &text);
    let table = reader.tables();
    let mut root = Section::new(&reader, "the file", &table, 0..0);
    let discovery = discovery::discovery(root.section("discovery", "[discovery]"));
    let problems = reader.problems();
    if problems.is_empty() { Ok(discovery) } else { Err(Problems(problems)) }
}

fn not_utf8(file: &Path, content: &[u8], valid: usize) -> Problem {
    let before = String::from_utf8_lossy(content.get(..valid).unwrap_or_default());
    let place = Some(reader::place(&before, before.len()));
    Problem { place, ..Problem::with_file(file, "this is not UTF-8 text", "save the file in UTF-8") }
}

/// What the file says, or nothing once the reader has noted an error that leaves a hole.
fn parse(reader: &Reader<'_>) -> Option<Config> {
    let table = reader.tables();
    let mut root = Section::new(reader, "the file", &table, 0..0);
    let server = server::server(Some(root.section("server", "[server]")));
    let identity = server::identity(root.section("identity", "[identity]"));
    let status_socket = socket(root.section("status", "[status]"));
    let log_level = log_level(root.section("log", "[log]"));
    let limits = limits(root.section("limits", "[limits]"));
    let traffic = traffic(root.section("traffic", "[traffic]"));
    let policy = policy::policy(root.section("policy", "[policy]"));
    let discovery = discovery::discovery(root.section("discovery", "[discovery]"));
    let devices = device::devices(root.sections("device", "[[device]]"), &policy);
    root.finish();
    let shown = central::shown(reader.text());
    let config = Config {
        file: reader.file.to_owned(),
        warnings: Vec::new(),
        server: server?,
        identity: identity?,
        status_socket: status_socket?,
        log_level,
        limits,
        traffic,
        policy,
        counting: shown.is_none().then(|| central::counting(&table).into()),
        shown,
        discovery,
        devices,
    };
    check_size(reader, &config.devices);
    Some(config)
}

/// The list of devices is one control message.
fn check_size(reader: &Reader<'_>, devices: &[Device]) {
    let size = serde_json::to_vec(&report(devices, TargetHost::to_string)).map_or(0, |message| message.len());
    if size > limits::CONTROL_MAX {
        let what = format!("the list of devices has {size} bytes, and at most {} can be sent", limits::CONTROL_MAX);
        reader.error(&(0..0), what, "list fewer devices, or shorten descriptions and CA files");
    }
}

fn socket(mut section: Section<'_>) -> Option<PathBuf> {
    let reader = section.reader;
    let text = section.text("socket");
    let span = section.span_of("socket");
    let path = match text {
        Some(text) => reader.beside(text.get_ref()),
        None if home(reader.file) == Path::new(DEFAULT_FILE) => PathBuf::from("/run/linkspan/gateway.sock"),
        None => home(reader.file).with_extension("sock"),
    };
    section.finish();
    // sun_path of sockaddr_un(7), without its NUL and the ".new" it bears while it is made.
    if path.as_os_str().len() > 103 {
        let what = format!("the path of the status socket is longer than 103 bytes: {}", path.display());
        reader.error(&span, what, "write [status] socket = \"/run/linkspan/gateway.sock\" or another short path");
        return None;
    }
    Some(path)
}

fn log_level(mut section: Section<'_>) -> LevelFilter {
    let level = section.parsed("level", |text| {
        let instead = "write \"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"";
        text.parse().map_err(|_| Wrong::new("this is not a log level", instead))
    });
    section.finish();
    level.unwrap_or(LevelFilter::Info)
}

fn traffic(mut section: Section<'_>) -> Traffic {
    let reader = section.reader;
    reader.stays(&section, "file");
    let file = match section.text("file") {
        Some(text) => reader.beside(text.get_ref()),
        // OpenWrt's /var is in memory, and a month outlives a boot.
        None if is_uci(reader.file) => home(reader.file).with_extension("traffic.json"),
        None if reader.file == Path::new(DEFAULT_FILE) => PathBuf::from("/var/lib/linkspan/traffic.json"),
        None => reader.file.with_extension("traffic.json"),
    };
    let cap = DataCap { warn: section.parsed("warn", value::bytes), hard: section.parsed("cap", value::bytes) };
    if let (Some(warn), Some(hard)) = (cap.warn, cap.hard)
        && warn > hard
    {
        let what = "`warn` is above `cap`, so it is never reached";
        reader.warning(&section.span_of("warn"), what, "write a smaller one");
    }
    section.finish();
    Traffic { file, cap }
}

fn limits(mut section: Section<'_>) -> Limits {
    let (tenth, second, hour) = (Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(3600));
    let default = Limits::default();
    let max_streams = section.integer("max_streams", 1..=i64::from(limits::STREAMS_MAX));
    let limits = Limits {
        max_streams: max_streams.and_then(|max| u32::try_from(max).ok()).unwrap_or(default.max_streams),
        connect_timeout: section.duration("connect_timeout", tenth..=300 * second).unwrap_or(default.connect_timeout),
        idle_timeout: section.duration("idle_timeout", second..=720 * hour),
        drain: section.duration("drain", Duration::ZERO..=hour).unwrap_or(default.drain),
        resume: section.duration("resume", Duration::ZERO..=hour).unwrap_or(default.resume),
        memory: section.parsed("memory", |text| value::memory(text, &MEMORY)).unwrap_or(default.memory),
    };
    section.finish();
    limits
}

/// What `[limits] memory` may be.
const MEMORY: std::ops::RangeInclusive<usize> = limits::MEMORY_MIN..=1_000_000_000;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod uci_tests;
