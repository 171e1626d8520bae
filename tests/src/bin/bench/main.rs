//! `bench`: what Linkspan costs, against direct access and rathole, measured in one run on this machine.

mod beside;
mod bulk;
mod crowd;
mod field;
mod first_byte;
mod fleet;
mod http_load;
mod idle;
mod memory;
mod outage;
mod rathole;
mod report;
mod route;
mod silent;
mod simulation;
mod targets;
mod visitor;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};

use report::Report;
use simulation::Simulation;
use world::{Programs, World};

/// Time for everything but what was asked to be held.
const PATIENCE: Duration = Duration::from_secs(1800);

/// Measures; bounded in time, everything on the loopback or in namespaces of its own. Needs root for the slow line.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    instead: Option<Instead>,
    /// Write the figures into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// Seconds of each HTTP load.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Simulated gateways for the server's memory.
    #[arg(long, default_value_t = 5000)]
    fleet: u32,
    /// Simulated gateways of one server in `storm` and `many`; each takes one of its 20,000 files.
    #[arg(long, default_value_t = 19_000)]
    crowd: u32,
    /// Servers in `many`.
    #[arg(long, default_value_t = 4)]
    servers: u8,
    /// Seconds for which `storm` holds its gateways before the server is killed.
    #[arg(long, default_value_t = 60)]
    hold: u64,
    /// Seconds for which idle tunnels are watched.
    #[arg(long, default_value_t = 240)]
    idle: u64,
    /// Leave rathole out.
    #[arg(long)]
    no_rathole: bool,
    /// Only those parts. `storm` and `many` are heavy and run only when they are named.
    #[arg(long, value_delimiter = ',', default_values_t = USUAL)]
    only: Vec<Part>,
}

#[derive(Subcommand)]
enum Instead {
    /// Simulated gateways; `bench` starts this itself.
    #[command(hide = true)]
    Simulate(Simulation),
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Requests over kept connections.
    Load,
    /// Requests over new connections.
    New,
    /// Big files, processor time, the gateway's memory.
    Bulk,
    /// New connections over a slow line.
    FirstByte,
    /// Keystrokes and new connections beside a bulk transfer.
    Beside,
    /// Somebody who does not read.
    Stalled,
    /// Silent connections on the port.
    Silent,
    /// A line that is gone for a while.
    Outage,
    /// Bytes, wake-ups and memory of an idle tunnel.
    Idle,
    /// Memory of a server for each gateway.
    Fleet,
    /// A whole fleet that comes back at once.
    Storm,
    /// Several servers full of gateways.
    Many,
    /// The gateway's program.
    Size,
}

const USUAL: [Part; 11] = [
    Part::Load,
    Part::New,
    Part::Bulk,
    Part::FirstByte,
    Part::Beside,
    Part::Stalled,
    Part::Silent,
    Part::Outage,
    Part::Idle,
    Part::Fleet,
    Part::Size,
];

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.to_possible_value().map_or(Ok(()), |value| f.write_str(value.get_name()))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.instead {
        Some(Instead::Simulate(simulation)) => simulation::run(simulation).await,
        None => {
            let patience = PATIENCE + Duration::from_secs(arguments.hold);
            let measured = tokio::time::timeout(patience, run(&arguments)).await;
            measured.unwrap_or_else(|late| Err(late.into()))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<()> {
    let programs = Programs::find(!arguments.no_rathole)?;
    let folder = tempfile::Builder::new().prefix("linkspan-bench-").tempdir()?;
    let mut report = Report::new();
    let wanted = |part: Part| arguments.only.contains(&part);
    // It counts for minutes and needs no processor, so it runs beside the rest.
    let idle = wanted(Part::Idle).then(|| idle::begin(&programs, folder.path(), Duration::from_secs(arguments.idle)));
    if [Part::Load, Part::New, Part::Bulk].into_iter().any(wanted) {
        let world = World::start(&programs, &folder.path().join("world")).await?;
        if wanted(Part::Load) {
            http_load::measure(&world, arguments.seconds, &mut report).await?;
        }
        if wanted(Part::New) {
            http_load::measure_new(&world, arguments.seconds, &mut report).await?;
        }
        if wanted(Part::Bulk) {
            bulk::measure(&world, &mut report).await?;
        }
    }
    lines(arguments, &programs, folder.path(), &mut report).await?;
    many(arguments, &programs, folder.path(), &mut report).await?;
    if let Some(idle) = idle {
        idle.finish(&mut report)?;
    }
    if wanted(Part::Size) {
        let bytes = std::fs::metadata(programs.gateway.path("linkspan-gateway")?)?.len();
        report.line("Size", format!("stripped gateway program: {bytes} bytes ({:.2} MiB)", bytes as f64 / 1048576.0));
    }
    report.print()?;
    if arguments.write { report.write(&documentation()?) } else { Ok(()) }
}

/// What needs a line between gateway and server.
async fn lines(arguments: &Arguments, programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    for part in &arguments.only {
        let folder = folder.join(part.to_string());
        match part {
            Part::FirstByte => first_byte::measure(programs, &folder, report).await?,
            Part::Beside => beside::measure(programs, &folder, report).await?,
            Part::Stalled => beside::measure_stalled(programs, &folder, report).await?,
            Part::Silent => silent::measure(programs, &folder, report).await?,
            Part::Outage => outage::measure(programs, &folder, report).await?,
            _ => {}
        }
    }
    Ok(())
}

/// What needs many gateways.
async fn many(arguments: &Arguments, programs: &Programs, folder: &Path, report: &mut Report) -> Result<()> {
    let hold = Duration::from_secs(arguments.hold);
    for part in &arguments.only {
        let folder = folder.join(part.to_string());
        match part {
            Part::Fleet => fleet::measure(programs, &folder, arguments.fleet, report).await?,
            Part::Storm => fleet::measure_storm(programs, &folder, (arguments.crowd, hold), report).await?,
            Part::Many => {
                fleet::measure_many(programs, &folder, (arguments.servers, arguments.crowd), report).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// docs/performance.md of the working copy that the program runs in.
fn documentation() -> Result<PathBuf> {
    let docs = std::env::current_dir().context("where is this?")?.join("docs");
    ensure!(docs.is_dir(), "there is no {}; run it at the top of the project", docs.display());
    Ok(docs.join("performance.md"))
}
