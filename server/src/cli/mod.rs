//! The command line: what can be asked of `linkspan-server`, and what each question answers.

mod account;
mod audit;
mod config;
mod data;
mod discovered;
mod enrolment;
mod gateway;
mod ldap;
mod own;
mod record;
mod rights;
mod template;
mod tenant;
mod token;
mod update;
mod user;
mod visit;

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use linkspan_server::config::{Config, ConfigError};
use linkspan_server::store::{Store, StoreError};
use linkspan_server::updates::Programs;

pub(crate) use account::first_link;
pub(crate) use user::first_admin;

/// The public side of Linkspan: people reach devices behind gateways through it.
#[derive(Debug, Parser)]
#[command(name = "linkspan-server", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    /// What to log: a level (`info`, `debug`), or levels by room (`info,linkspan_server::edge=debug`).
    #[arg(long, global = true, env = "LINKSPAN_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The configuration file.
    #[arg(long, global = true, default_value = "/etc/linkspan/server.toml", value_name = "FILE")]
    config: PathBuf,
    /// No file: everything in this directory, self-signed, at linkspan.localhost and devices.localhost on the
    /// loopback addresses. The first start makes a user `admin`.
    #[arg(long, global = true, value_name = "DIR", conflicts_with = "config")]
    dev: Option<PathBuf>,
    /// In place of the configuration's https addresses; may be given several times.
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen_https: Vec<std::net::SocketAddr>,
    /// In place of the configuration's http addresses; may be given several times.
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    listen_http: Vec<std::net::SocketAddr>,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serves until told to stop.
    Run,
    /// Reads the configuration and names every mistake in it.
    Check,
    /// People who may sign in.
    User {
        #[command(subcommand)]
        command: user::Command,
    },
    /// Gateways that may connect.
    Gateway {
        #[command(subcommand)]
        command: gateway::Command,
    },
    /// Configurations of gateways.
    Config {
        #[command(subcommand)]
        command: config::Command,
    },
    /// Devices that gateways have found on their LANs.
    Discovered {
        #[command(subcommand)]
        command: discovered::Command,
    },
    /// Other versions of the gateways' program.
    Update {
        #[command(subcommand)]
        command: update::Command,
    },
    /// Keys with which many routers may ask to become gateways.
    ProvisioningKey {
        #[command(subcommand)]
        command: enrolment::KeyCommand,
    },
    /// Routers that came with a provisioning key and wait for a decision.
    Enrolment {
        #[command(subcommand)]
        command: enrolment::QueueCommand,
    },
    /// Bundles of permissions: those that come with the server, and one's own.
    Role {
        #[command(subcommand)]
        command: rights::RoleCommand,
    },
    /// People and service accounts to whom something is granted together.
    Group {
        #[command(subcommand)]
        command: rights::GroupCommand,
    },
    /// Who has which role, on what, and when.
    Grant {
        #[command(subcommand)]
        command: rights::GrantCommand,
    },
    /// Tokens for programs.
    Token {
        #[command(subcommand)]
        command: token::Command,
    },
    /// Names for programs, which have tokens in place of a password.
    ServiceAccount {
        #[command(subcommand)]
        command: token::AccountCommand,
    },
    /// People without an account who were invited to a device.
    Visit {
        #[command(subcommand)]
        command: visit::Command,
    },
    /// Organisations that share the server and see nothing of one another.
    Tenant {
        #[command(subcommand)]
        command: tenant::Command,
    },
    /// Who did what.
    Audit {
        #[command(subcommand)]
        command: audit::Command,
    },
    /// The directory that people may come from.
    Ldap {
        #[command(subcommand)]
        command: ldap::Command,
    },
    /// A completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// How a list is written.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct ListForm {
    /// As JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// An error with the exit code it ends in (sysexits.h).
#[derive(Debug)]
pub(crate) struct Exit {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

/// Wrong use of the command line.
pub(crate) const USAGE: u8 = 64;
/// What was given cannot be taken.
pub(crate) const DATA: u8 = 65;
/// There is nobody of that name.
pub(crate) const NO_USER: u8 = 67;
/// Something that is needed does not work: the database, an address to listen at.
pub(crate) const UNAVAILABLE: u8 = 69;
/// The configuration is wrong.
pub(crate) const CONFIG: u8 = 78;

impl Exit {
    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: error.into() }
    }

    pub(crate) fn says(code: u8, text: impl std::fmt::Display) -> Self {
        Self { code, error: anyhow::anyhow!("{text}") }
    }
}

impl From<ConfigError> for Exit {
    fn from(error: ConfigError) -> Self {
        Self::new(CONFIG, error)
    }
}

impl From<StoreError> for Exit {
    fn from(error: StoreError) -> Self {
        Self::new(UNAVAILABLE, error)
    }
}

impl Place {
    /// The configuration that was asked for.
    pub(crate) fn config(&self) -> Result<Config, Exit> {
        let mut config = match &self.dev {
            Some(dir) => Config::dev(
                &std::path::absolute(dir)
                    .with_context(|| dir.display().to_string())
                    .map_err(|error| Exit { code: CONFIG, error })?,
            ),
            None => Config::load(&self.config)?,
        };
        if let Some(first) = self.listen_https.first() {
            if self.dev.is_some() && first.port() != 0 {
                config.site.port = first.port();
            }
            config.listen.https.clone_from(&self.listen_https);
        }
        if !self.listen_http.is_empty() {
            config.listen.http.clone_from(&self.listen_http);
        }
        Ok(config)
    }

    /// The directory of `--dev`.
    pub(crate) fn dev(&self) -> Option<&std::path::Path> {
        self.dev.as_deref()
    }

    async fn store(&self) -> Result<Store, Exit> {
        let config = self.config()?;
        config.create_state_dir()?;
        Ok(Store::open(&config.store.url).await?)
    }
}

/// Answers everything but `run`.
pub(crate) async fn answer(place: &Place, command: Command) -> Result<(), Exit> {
    let noted = match record::of(&command) {
        // Before it is done: afterwards, what it is about may be gone.
        Some(entry) => Some(record::settled(place, &command, entry).await),
        None => None,
    };
    let done = act(place, command).await;
    if let Some(entry) = noted {
        record::note(place, entry, &done).await?;
    }
    done
}

async fn act(place: &Place, command: Command) -> Result<(), Exit> {
    match command {
        // `main` runs the server itself.
        Command::Run => Ok(()),
        Command::Check => check(&place.config()?),
        Command::User { command } => user::answer(&place.config()?, &place.store().await?, command).await,
        Command::Gateway { command } => gateway::answer(place, command).await,
        Command::Config { command } => config::answer(&place.store().await?, command).await,
        Command::Discovered { command } => discovered::answer(&place.store().await?, command).await,
        Command::Update { command: command @ update::Command::Head { .. } } => update::head_alone(command),
        Command::Update { command } => {
            let (config, store) = (place.config()?, place.store().await?);
            update::answer(Programs::new(store.clone(), &config.state_dir), &store, command).await
        }
        Command::ProvisioningKey { command } => enrolment::answer_key(&place.store().await?, command).await,
        Command::Enrolment { command } => enrolment::answer_queue(&place.store().await?, command).await,
        Command::Role { command } => rights::roles(&place.store().await?, command).await,
        Command::Group { command } => rights::groups(&place.store().await?, command).await,
        Command::Grant { command } => rights::grants(&place.store().await?, command).await,
        Command::Token { command } => token::answer(&place.store().await?, command).await,
        Command::Visit { command } => visit::answer(&place.store().await?, command).await,
        Command::ServiceAccount { command } => token::accounts(&place.store().await?, command).await,
        Command::Tenant { command } => tenant::answer(&place.store().await?, command).await,
        Command::Audit { command } => audit::answer(&place.store().await?, command).await,
        Command::Ldap { command } => ldap::answer(&place.config()?, command).await,
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "linkspan-server", &mut script);
            out(&String::from_utf8_lossy(&script))
        }
    }
}

/// What the configuration names must be there and fit; nothing is made or opened.
fn check(config: &Config) -> Result<(), Exit> {
    linkspan_server::check_certificate(config).map_err(|error| Exit::new(CONFIG, error))?;
    linkspan_server::check_audit(config).map_err(|error| Exit::new(CONFIG, error))?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    note(format_args!("the configuration is in order: console {}", config.site.console_origin()));
    Ok(())
}

/// What was asked for: the only thing that goes to standard output.
pub(crate) fn out(text: &str) -> Result<(), Exit> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        // Whoever reads has seen enough (`… list | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(|error| Exit::new(74, error)),
    }
}

/// A text as a QR code for a terminal.
fn qr(text: &str) -> Result<String, Exit> {
    let code = qrcode::QrCode::new(text).map_err(|error| Exit::new(DATA, error))?;
    Ok(code.render::<qrcode::render::unicode::Dense1x2>().build())
}

/// Longest time that may be given: what lives longer is forgotten.
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// A time as people type it: a number and `s`, `m`, `h` or `d`.
fn time_span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a time up to a year; write `30m`, `24h` or `7d`");
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = text.strip_suffix(unit).unwrap_or_default().parse().map_err(|_| wrong())?;
    let time = number.checked_mul(seconds).map(Duration::from_secs);
    time.filter(|time| !time.is_zero() && *time <= LONGEST).ok_or_else(wrong)
}

/// A remark for the person at the terminal.
pub(crate) fn note(text: std::fmt::Arguments<'_>) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn json_line(value: &serde_json::Value) -> String {
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_a_unit_and_a_bound() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("24h", 86_400), ("366d", 366 * 86_400)] {
            assert_eq!(time_span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "7", "d", "0h", "-1h", "1.5h", "7dd", "367d", "7 d", "99999999999999999999d", "7ä"] {
            assert!(time_span(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_addresses_in_dev_change_the_port_people_see() {
        let cli = Cli::parse_from(["x", "run", "--dev", "/tmp/d", "--listen-https", "127.0.0.1:9443"]);
        let config = cli.place.config().unwrap();
        assert_eq!(config.site.console_origin(), "https://linkspan.localhost:9443");
        assert_eq!(config.listen.http.len(), 2);
        assert_eq!(config.store.url, "sqlite:/tmp/d/linkspan.db");
    }
}
