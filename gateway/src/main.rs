//! The program: understands its words, sets up logging, signals and the one thread, and says how it went as a sysexit.

use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use linkspan_gateway::cli::{self, Action};
use linkspan_gateway::config::{self, Config, Problems, Severity};
use linkspan_gateway::enrol::{self, EnrolError, Order};
use linkspan_gateway::update::Launch;
use linkspan_gateway::{Command, Ending, Host, ServiceManager, status};
use linkspan_protocol::id::Secret;
use log::{Level, LevelFilter, Record};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// sysexits.h
const EX_USAGE: u8 = 64;
const EX_UNAVAILABLE: u8 = 69;
const EX_OSERR: u8 = 71;
const EX_CANTCREAT: u8 = 73;
const EX_NOPERM: u8 = 77;
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let code = match cli::parse(std::env::args_os().skip(1)) {
        Ok(Action::Run { config, stay }) => run(&config, stay),
        Ok(Action::Check(config)) => check(&config),
        Ok(Action::Status { config, json }) => tell_status(&config, json),
        Ok(Action::Discover { config, json, wait, identify }) => discover(&config, json, wait, &identify),
        Ok(Action::Enroll(order)) => enroll(*order),
        Ok(Action::Print(text)) => print(text),
        Err(usage) => {
            complain(&format!("linkspan-gateway: {usage}\nTry `linkspan-gateway --help`."));
            EX_USAGE
        }
    };
    if code != 0 {
        Launch::rescue(code);
    }
    ExitCode::from(code)
}

fn check(file: &Path) -> u8 {
    match config::load(file) {
        Ok(config) => {
            config.warnings.iter().for_each(|warning| complain(&warning.to_string()));
            if let Some(warning) = linkspan_gateway::lacks_authorities(&config) {
                complain(&format!("{}: warning: {warning}", file.display()));
            }
            print(&summary(&config))
        }
        Err(problems) => refuse(&problems),
    }
}

fn summary(config: &Config) -> String {
    let services: usize = config.devices.iter().map(|device| device.services.len()).sum();
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let (devices, services) = (count(config.devices.len(), "device"), count(services, "service"));
    let (file, name, server) = (config.file.display(), &config.identity.name, &config.server.at);
    format!("{file}: OK: gateway {name} at {server}, {devices}, {services}\n")
}

fn refuse(problems: &Problems) -> u8 {
    complain(&problems.to_string());
    let errors = problems.0.iter().filter(|problem| problem.severity == Severity::Error).count();
    complain(&format!("linkspan-gateway: the configuration cannot be used ({errors} to correct)"));
    EX_CONFIG
}

fn tell_status(config: &Path, json: bool) -> u8 {
    match status::ask(&config::status_socket(config)) {
        Ok(told) => print(if json { &told.json } else { &told.text }),
        Err(e) => {
            complain(&format!("linkspan-gateway: {e}"));
            EX_UNAVAILABLE
        }
    }
}

fn discover(file: &Path, json: bool, wait: Duration, identify: &[String]) -> u8 {
    let settings = match config::discovery(file) {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            complain(&format!("linkspan-gateway: {e}"));
            return EX_OSERR;
        }
    };
    let findings = runtime.block_on(linkspan_gateway::discovery::command::discover(settings, wait, identify));
    if let Some(why) = &findings.refused {
        complain(&format!("linkspan-gateway: {why}"));
    }
    let printed = print(&if json { findings.json() } else { findings.text() });
    match (printed, findings.interfaces.is_empty(), findings.refused.is_some()) {
        (0, true, _) => EX_UNAVAILABLE,
        (0, false, true) => EX_USAGE,
        (printed, ..) => printed,
    }
}

fn run(file: &Path, stay: bool) -> u8 {
    start_log();
    log::set_max_level(LevelFilter::Info);
    a_panic_ends_the_process();
    // Before the configuration is read: another version may know more of it.
    let launch = Launch::begin(file);
    let config = config::load(file);
    if let (Err(problems), false) = (&config, stay) {
        return refuse(problems);
    }
    match run_in_one_thread(file, config, &launch) {
        Ok(Ending::Stopped) => 0,
        Ok(Ending::Again) => {
            log::error!("it cannot start anew: {}", launch.again());
            EX_OSERR
        }
        Err(e) => {
            log::error!("{e}");
            if matches!(e, Ended::Run(_)) { EX_UNAVAILABLE } else { EX_OSERR }
        }
    }
}

fn enroll(mut order: Order) -> u8 {
    if order.code.expose() == "-" {
        let mut line = String::new();
        if let Err(e) = std::io::stdin().lock().take(4096).read_line(&mut line) {
            complain(&format!("linkspan-gateway: the code cannot be read: {e}"));
            return EX_USAGE;
        }
        order.code = Secret::new(line.trim());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            complain(&format!("linkspan-gateway: {e}"));
            return EX_OSERR;
        }
    };
    let enrolled = runtime.block_on(enrol::enrol(&order, &mut |text| complain(&text)));
    runtime.shutdown_background();
    match enrolled {
        Ok(name) => print(&format!("{name}\n")),
        Err(error) => {
            complain(&format!("linkspan-gateway: {error}"));
            match error {
                EnrolError::Usage(_) => EX_USAGE,
                EnrolError::Config(_) => EX_CONFIG,
                EnrolError::Exists(_) | EnrolError::Write { .. } => EX_CANTCREAT,
                EnrolError::Unreachable(_) => EX_UNAVAILABLE,
                EnrolError::Refused(_) => EX_NOPERM,
            }
        }
    }
}

/// Why it does not run any more. (No anyhow here: its backtraces are 30 KB of a router's flash.)
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Run(linkspan_gateway::RunError),
    #[error("{0}")]
    System(#[from] std::io::Error),
}

/// In builds that unwind as in those that abort; see docs/decisions/0001.
fn a_panic_ends_the_process() {
    std::panic::set_hook(Box::new(|panic| {
        log::error!("{panic}");
        std::process::abort();
    }));
}

fn run_in_one_thread(file: &Path, config: Result<Config, Problems>, launch: &Launch) -> Result<Ending, Ended> {
    // Besides the one thread, a few short-lived ones wait for the system's resolver.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(5))
        .build()?;
    let ended = runtime.block_on(async {
        let (commands, received) = mpsc::channel(8);
        let mut signals = Signals::catch()?;
        let Some(config) = signals.wait_for(file, config).await else { return Ok(Ending::Stopped) };
        log::set_max_level(config.log_level);
        config.warnings.iter().for_each(|warning| log::warn!("{warning}"));
        let (service_manager, launch) = (ServiceManager::from_environment(), Some(launch.clone()));
        let host = Host { service_manager, set_log_level: log::set_max_level, launch };
        log::info!("linkspan-gateway {} starts as {}", linkspan_gateway::version(), config.identity.name);
        let ending = tokio::select! {
            ended = linkspan_gateway::run(config, received, host) => ended.map_err(Ended::Run)?,
            () = signals.forward(commands) => Ending::Stopped,
        };
        log::info!("stopped");
        Ok(ending)
    });
    // A lookup that hangs must not hold up the end.
    runtime.shutdown_background();
    ended
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The configuration, once it can be used; nothing, if there is to be an end before that.
    async fn wait_for(&mut self, file: &Path, mut config: Result<Config, Problems>) -> Option<Config> {
        loop {
            match config {
                Ok(config) => return Some(config),
                Err(problems) => {
                    log::error!("the configuration cannot be used; it is read again on SIGHUP:\n{problems}")
                }
            }
            tokio::select! {
                _ = self.terminate.recv() => return None,
                _ = self.interrupt.recv() => return None,
                _ = self.hang_up.recv() => config = config::load(file),
            }
        }
    }

    /// Turns signals into commands; ends only when nobody takes them any more.
    async fn forward(mut self, commands: mpsc::Sender<Command>) {
        loop {
            let command = tokio::select! {
                _ = self.terminate.recv() => Command::Stop,
                _ = self.interrupt.recv() => Command::Stop,
                _ = self.hang_up.recv() => Command::Reload,
            };
            log::info!(
                "{}",
                if command == Command::Stop { "asked to stop" } else { "asked to read the configuration again" }
            );
            if commands.send(command).await.is_err() {
                return;
            }
        }
    }
}

/// To standard error. Whoever reads it there (journald, procd, syslog) adds the time; journald also takes the level from
/// a prefix (sd-daemon(3)).
fn start_log() {
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    env_logger::Builder::new()
        .filter_level(LevelFilter::Trace)
        .format(move |out, record| {
            let prefix = prefix(record, journal);
            record.args().to_string().lines().try_for_each(|line| writeln!(out, "{prefix}{line}"))
        })
        .init();
}

fn prefix(record: &Record<'_>, journal: bool) -> String {
    let path = record.target().strip_prefix("linkspan_").unwrap_or(record.target());
    let room = path.strip_prefix("gateway::").unwrap_or(path).split("::").next().unwrap_or_default();
    if !journal {
        return format!("{:5} {room}: ", record.level());
    }
    let number = match record.level() {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    format!("<{number}>{room}: ")
}

/// A reader that has gone away (`| head`) is no failure of ours.
fn print(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => 0,
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(e) => {
            complain(&format!("linkspan-gateway: {e}"));
            EX_OSERR
        }
    }
}

fn complain(text: &str) {
    // If standard error is closed, there is nobody left to tell.
    let _closed = writeln!(std::io::stderr(), "{text}");
}
