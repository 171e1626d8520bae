//! The person's command line for Linkspan: parses, runs the command, and turns a failure into a sentence and an exit code.

mod account;
mod carry;
mod cli;
mod connect;
mod credentials;
mod devices;
mod exit;
mod login;
mod server;
mod stdio;
mod text;
mod time;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser as _;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let lines: Vec<String> = format!("linkspan: {error:#}").lines().map(text::plain).collect();
            stdio::note(&lines.join("\n"));
            exit::code(&error).into()
        }
    }
}

fn run(cli: cli::Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    let result = runtime.block_on(cli::run(cli));
    // A name look-up that still hangs does not keep the process from ending.
    runtime.shutdown_background();
    result
}
