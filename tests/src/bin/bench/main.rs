//! `bench`: what Linkspan costs, against direct access and rathole, measured in one run on this machine.

mod bulk;
mod first_byte;
mod fleet;
mod http_load;
mod memory;
mod rathole;
mod report;
mod route;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;

use report::Report;
use world::{Programs, World};

/// Measures; bounded in time, everything on the loopback or in namespaces of its own. Needs root for the slow line.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Write the figures into docs/performance.md.
    #[arg(long)]
    write: bool,
    /// Seconds of each HTTP load.
    #[arg(long, default_value_t = 4)]
    seconds: u32,
    /// Simulated gateways for the server's memory.
    #[arg(long, default_value_t = 5000)]
    fleet: u32,
    /// Leave rathole out.
    #[arg(long)]
    no_rathole: bool,
    /// Only those parts.
    #[arg(long, value_delimiter = ',', default_value = "load,bulk,first-byte,fleet,size")]
    only: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = tokio::time::timeout(Duration::from_secs(900), run(Arguments::parse())).await;
    match result.unwrap_or_else(|late| Err(late.into())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let programs = Programs::find(!arguments.no_rathole)?;
    let folder = tempfile::Builder::new().prefix("linkspan-bench-").tempdir()?;
    let mut report = Report::new();
    let wanted = |part: &str| arguments.only.iter().any(|only| only == part);
    if wanted("load") || wanted("bulk") {
        let world = World::start(&programs, &folder.path().join("world")).await?;
        if wanted("load") {
            http_load::measure(&world, arguments.seconds, &mut report).await?;
        }
        if wanted("bulk") {
            bulk::measure(&world, &mut report).await?;
        }
    }
    if wanted("first-byte") {
        first_byte::measure(&programs, &folder.path().join("slow"), &mut report).await?;
    }
    if wanted("fleet") {
        fleet::measure(&programs, &folder.path().join("fleet"), arguments.fleet, &mut report).await?;
    }
    if wanted("size") {
        let bytes = std::fs::metadata(programs.gateway.path("linkspan-gateway")?)?.len();
        report.line("Size", format!("stripped gateway program: {bytes} bytes ({:.2} MiB)", bytes as f64 / 1048576.0));
    }
    report.print()?;
    if arguments.write { report.write(&documentation()?) } else { Ok(()) }
}

/// docs/performance.md of the working copy that the program runs in.
fn documentation() -> Result<PathBuf> {
    let docs = std::env::current_dir().context("where is this?")?.join("docs");
    ensure!(docs.is_dir(), "there is no {}; run it at the top of the project", docs.display());
    Ok(docs.join("performance.md"))
}
