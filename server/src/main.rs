//! `linkspan-server`: parses, starts logging and the runtime, and turns errors into exit codes.

mod cli;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use linkspan_server::Server;
use linkspan_server::config::Config;
use linkspan_server::edge::tls::{Certificates, TlsError};
use linkspan_server::store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use cli::{CONFIG, Cli, Command, Exit, UNAVAILABLE, USAGE};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help goes to standard output, a mistake to standard error; if that is closed, nobody can be told.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match start(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Exit { code, error }) => {
            let _ = writeln!(std::io::stderr(), "linkspan-server: {error:#}");
            ExitCode::from(code)
        }
    }
}

fn start(cli: Cli) -> Result<(), Exit> {
    log(&cli.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Exit::new(UNAVAILABLE, error))?;
    let done = runtime.block_on(async {
        match cli.command {
            Command::Run => run(&cli.place).await,
            other => cli::answer(&cli.place, other).await,
        }
    });
    // What still blocks (a password being hashed) does not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    done
}

async fn run(place: &cli::Place) -> Result<(), Exit> {
    let config = place.config()?;
    config.create_state_dir()?;
    if let Some(dir) = place.dev() {
        let store = Store::open(&config.store.url).await?;
        cli::first_admin(&store, dir).await?;
        store.close().await;
    }
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    let server = Server::open(config.clone()).await.map_err(|error| {
        let code = if error.is::<TlsError>() { CONFIG } else { UNAVAILABLE };
        Exit { code, error }
    })?;
    show_first_link(&config, &server).await?;
    let certificates = server.certificates();
    let shutdown = CancellationToken::new();
    let mut served = std::pin::pin!(server.serve(shutdown.clone()));
    tokio::select! {
        // In this order: signals are heard before anybody is told that the server is ready.
        biased;
        told = told_to_stop() => told?,
        told = reload_certificate_when_told(&certificates) => told?,
        done = &mut served => return done.map_err(|error| Exit { code: UNAVAILABLE, error }),
    }
    tracing::info!("stopping: what is running may end; a second signal stops at once");
    shutdown.cancel();
    tokio::select! {
        done = served => done.map_err(|error| Exit { code: UNAVAILABLE, error }),
        told = told_to_stop() => told,
    }
}

/// Where there is nobody yet, there is no password to begin with: whoever reads this makes the first account.
async fn show_first_link(config: &Config, server: &Server) -> Result<(), Exit> {
    let Some(link) = cli::first_link(config, server.store()).await? else { return Ok(()) };
    cli::note(format_args!("there is no account yet: open this link within an hour to make the first one"));
    cli::out(&format!("{link}\n"))
}

/// Resolves on SIGTERM (systemd, procd) and on SIGINT (Ctrl-C).
async fn told_to_stop() -> Result<(), Exit> {
    let listen = |kind| signal(kind).map_err(|error| Exit::new(UNAVAILABLE, error));
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    Ok(())
}

/// SIGHUP loads the certificate again: whoever renews the files sends it. Never ends but by a failure.
async fn reload_certificate_when_told(certificates: &Certificates) -> Result<(), Exit> {
    let mut hangup = signal(SignalKind::hangup()).map_err(|error| Exit::new(UNAVAILABLE, error))?;
    while hangup.recv().await.is_some() {
        match certificates.refresh() {
            Ok(true) => tracing::info!("the certificate was replaced"),
            Ok(false) => tracing::info!("the certificate is the same as before"),
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "the certificate stays as it was"),
        }
    }
    std::future::pending().await
}

/// To standard error: with colours and times on a terminal; without colours elsewhere, and without times in the
/// journal, which has its own.
fn log(filter: &str) -> Result<(), Exit> {
    let filter = levels(filter).map_err(|error| Exit::says(USAGE, format_args!("--log {filter}: {error}")))?;
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    if journal {
        lines.without_time().init()
    } else {
        lines.init()
    }
    Ok(())
}

/// What to log. The WebSocket library would write whole messages at `trace`: gateways' secrets, and all that people type.
fn levels(filter: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::try_new(format!("{filter},tungstenite=info,tokio_tungstenite=info"))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_message_of_a_link_is_logged_at_any_level() {
        for asked in ["trace", "debug,tungstenite=trace", "linkspan_server=trace,trace"] {
            let written = Written::default();
            let writer = written.clone();
            let lines = tracing_subscriber::fmt().with_env_filter(levels(asked).unwrap());
            tracing::subscriber::with_default(lines.with_writer(move || writer.clone()).finish(), || {
                tracing::trace!(target: "tungstenite::protocol", "Received message {{\"secret\": \"CANARY\"}}");
                tracing::trace!(target: "tokio_tungstenite", "CANARY");
                tracing::debug!(target: "linkspan_server::link", "ours");
            });
            let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
            assert!(text.contains("ours") && !text.contains("CANARY"), "{asked}: {text}");
        }
        assert!(levels("linkspan=loud").is_err());
    }
}
