//! The server's configuration: parsed once, all mistakes at once, into types that need no second look.

mod audit;
mod ldap;
mod oidc;
mod parse;
mod reader;
mod site;

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::tz::TimeZone;
use linkspan_protocol::limits;

pub use audit::Audit;
pub use ldap::{GroupRole, Ldap, Nested};
pub use oidc::Oidc;
pub use reader::Problem;
pub use site::Site;

/// All that `linkspan-server` is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where everything that must outlive the process is kept.
    pub state_dir: PathBuf,
    /// The addresses to listen at.
    pub listen: Listen,
    /// The names under which people reach the server.
    pub site: Site,
    /// Where the certificate comes from.
    pub tls: Tls,
    /// The database.
    pub store: Store,
    /// How long a person stays signed in.
    pub access: Access,
    /// How what is carried is counted.
    pub traffic: Traffic,
    /// How gateways prove who they are.
    pub gateways: Gateways,
    /// How long entries of the audit are kept, and where they are sent.
    pub audit: Audit,
    /// A directory whose people may sign in.
    pub ldap: Option<Ldap>,
    /// An OpenID provider whose people may sign in.
    pub oidc: Option<Oidc>,
    /// Bounds that keep one party from using up what all need.
    pub limits: Limits,
}

/// The addresses to listen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Gateways, people and the API.
    pub https: Vec<SocketAddr>,
    /// Plain HTTP, answered with a redirect to https only. May be empty.
    pub http: Vec<SocketAddr>,
}

/// Where the certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// From PEM files that somebody else renews.
    Files {
        /// The certificate, followed by its intermediates.
        certificate_file: PathBuf,
        /// Its private key.
        key_file: PathBuf,
    },
    /// From an authority of our own, kept in the state directory.
    SelfSigned,
}

/// The database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// `sqlite:/path/linkspan.db`
    pub url: String,
}

/// How long a person stays signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// From sign-in to the end, whatever happens between.
    pub session_lifetime: Duration,
    /// Without any request.
    pub session_idle: Duration,
    /// Who must have a second factor.
    pub second_factor: SecondFactor,
}

/// Who must have a second factor. Who has one is asked for it in any case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SecondFactor {
    /// Whoever likes to.
    #[default]
    Nobody,
    /// Everybody whose password is checked here.
    Everybody,
    /// People of these roles.
    Roles(Vec<String>),
}

/// How gateways prove who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateways {
    /// From a certificate's issue to its end. Gateways renew it when two thirds have passed.
    pub certificate_lifetime: Duration,
    /// For so long after its end a certificate still lets its gateway in, so that it can be renewed.
    pub certificate_grace: Duration,
    /// The longest silence on an idle link that a gateway may learn to allow.
    pub keepalive_max: Duration,
}

impl Default for Gateways {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        let keepalive_max = Duration::from_mins(15);
        Self { certificate_lifetime: 90 * day, certificate_grace: 180 * day, keepalive_max }
    }
}

/// Bounds that keep one party from using up what all need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that wait for requests at once, over all listeners; links and WebSockets that are set up do not count.
    pub max_connections: usize,
    /// Requests to the API a person may make in a second; 0 for any number.
    pub api_requests: u32,
    /// For what is running to end when the server stops.
    pub drain: Duration,
    /// Time for which open connections outlive a gateway's lost link; zero for not at all.
    pub resume: Duration,
    /// Bytes of data that may be held for one gateway's link, in all.
    pub link_memory: usize,
}

/// How what is carried is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Where months begin and end.
    pub zone: TimeZone,
    /// Months that are kept, beside this one.
    pub keep_months: u32,
}

impl Default for Traffic {
    fn default() -> Self {
        Self { zone: TimeZone::UTC, keep_months: 24 }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self {
            session_lifetime: Duration::from_hours(12),
            session_idle: Duration::from_hours(2),
            second_factor: SecondFactor::Nobody,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 18_000,
            api_requests: 50,
            drain: Duration::from_secs(10),
            resume: limits::RESUME_WITHIN,
            link_memory: 2 * limits::MEMORY,
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {} (write it, or name another one with --config)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file says something that cannot be.
    #[error("{}", listed(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Every mistake, in the order of the file.
        problems: Vec<Problem>,
    },
    /// The state directory cannot be made.
    #[error("cannot create the state directory {}", path.display())]
    StateDir {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Config {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let source =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let base = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::parse(&source, base).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// Reads a text; relative paths in it count from `base`.
    pub fn parse(source: &str, base: &Path) -> Result<Self, Vec<Problem>> {
        parse::parse(source, base)
    }

    /// What `--dev DIR` stands for: everything in one directory, on the loopback addresses, self-signed.
    pub fn dev(dir: &Path) -> Self {
        let both =
            |port| vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))];
        Self {
            state_dir: dir.to_owned(),
            listen: Listen { https: both(8443), http: both(8080) },
            site: Site { console: "linkspan.localhost".into(), zone: "devices.localhost".into(), port: 8443 },
            tls: Tls::SelfSigned,
            store: Store { url: sqlite_in(dir) },
            access: Access::default(),
            ldap: None,
            oidc: None,
            traffic: Traffic::default(),
            gateways: Gateways::default(),
            audit: Audit::default(),
            limits: Limits::default(),
        }
    }

    /// What works but is unwise, in sentences for the log.
    pub fn warnings(&self) -> Vec<String> {
        self.site.shared_domain_warning().into_iter().collect()
    }

    /// Makes the state directory if it is not there, readable by its owner alone.
    pub fn create_state_dir(&self) -> Result<(), ConfigError> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.state_dir)
            .map_err(|source| ConfigError::StateDir { path: self.state_dir.clone(), source })
    }
}

fn sqlite_in(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("linkspan.db").display())
}

fn listed(path: &Path, problems: &[Problem]) -> String {
    let mut text = format!("{} cannot be used:", path.display());
    for problem in problems {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}:{}:{}: {}", path.display(), problem.line, problem.column, problem.text);
    }
    text
}
