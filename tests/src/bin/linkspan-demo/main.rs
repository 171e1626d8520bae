//! `linkspan-demo`: a server, a gateway and sample devices on this machine, until it is interrupted.

mod programs;
mod site;
mod tell;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use programs::Programs;
use site::Site;

/// Shows Linkspan on this machine: a server, one gateway, and sample devices behind it. Ctrl-C stops all of it.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Folder for its files; default: linkspan-demo in your cache folder. Delete it to begin anew.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// HTTPS port of the server.
    #[arg(long, default_value_t = 8443)]
    port: u16,
    /// HTTP port of the server, which redirects to the other.
    #[arg(long, default_value_t = 8080)]
    http_port: u16,
}

/// One thread: children are bound to the thread that starts them, and die with it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkspan-demo: {error:#}");
            ExitCode::from(69)
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    tokio::pin!(stop);
    let dir = match arguments.dir {
        Some(dir) => dir,
        None => cache_folder()?.join("linkspan-demo"),
    };
    let started = tokio::select! {
        started = start(&dir, arguments.port, arguments.http_port) => started?,
        // What was started ends as its values are dropped.
        () = &mut stop => return Ok(()),
    };
    let (mut programs, site) = started;
    tell::all(&programs, &site)?;
    let result = tokio::select! {
        failed = programs.keep_running() => failed,
        () = &mut stop => Ok(()),
    };
    eprintln!("\nlinkspan-demo: stopping");
    programs.stop().await?;
    result
}

async fn start(dir: &Path, port: u16, http_port: u16) -> Result<(Programs, Site)> {
    let mut programs = Programs::start(dir, port, http_port).await?;
    let site = Site::start(&programs.dir.join("site")).await?;
    programs.start_gateway(&site)?;
    programs.wait_until_reachable().await?;
    Ok((programs, site))
}

fn cache_folder() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()) {
        return Ok(PathBuf::from(folder));
    }
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    home.map(|home| PathBuf::from(home).join(".cache")).context("there is no home folder; say where with --dir")
}
