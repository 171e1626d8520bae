//! Which server a command speaks to, as whom, and whom it trusts: options first, then the environment, then the sign-in.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;

use linkspan_protocol::id::Secret;

use crate::credentials::{CredentialsError, CredentialsFile};
use crate::server::{AddressError, Api, ApiError, Dialer, ServerAddress, TrustError, client_config};

/// What the environment says.
#[derive(Default)]
pub(crate) struct Environment {
    /// LINKSPAN_SERVER.
    pub(crate) server: Option<String>,
    /// LINKSPAN_TOKEN.
    pub(crate) token: Option<Secret>,
    /// LINKSPAN_CA_FILE.
    pub(crate) ca_file: Option<PathBuf>,
}

/// What the command line says.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct ServerOptions {
    /// The server, if not the one signed in to last [environment: LINKSPAN_SERVER]
    #[arg(long, value_name = "URL")]
    pub(crate) server: Option<String>,
    #[command(flatten)]
    pub(crate) trust: TrustOptions,
}

/// Whom to trust besides the system's certificate authorities.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct TrustOptions {
    /// Also trust the certificate authorities in this PEM file [environment: LINKSPAN_CA_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
}

/// A server, the way to it, and who is asking.
pub(crate) struct Account {
    /// The server.
    pub(crate) server: ServerAddress,
    ca_file: Option<PathBuf>,
    token: Option<Secret>,
    token_from_environment: bool,
}

/// Why a command does not know whom to ask, or may not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// Nobody signed in, and nothing else names a server.
    #[error("not signed in anywhere; begin with: linkspan login https://YOUR-SERVER")]
    NoServer,
    /// The server is known, the person is not.
    #[error("not signed in to {0}; sign in with: linkspan login {0}")]
    NotSignedIn(ServerAddress),
    /// The stored token does not work any more.
    #[error("your sign-in to {0} has ended; sign in again with: linkspan login {0}")]
    SignInEnded(ServerAddress),
    /// The token of the environment does not work.
    #[error("{0} does not accept the token in LINKSPAN_TOKEN")]
    TokenRefused(ServerAddress),
    /// The given address is not one.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// What was kept cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// It cannot be told whom to trust.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Environment {
    /// Reads the variables; an empty one is as good as none.
    pub(crate) fn read() -> Self {
        Self {
            server: text("LINKSPAN_SERVER"),
            token: text("LINKSPAN_TOKEN").map(|token| Secret::new(token.trim())),
            ca_file: variable("LINKSPAN_CA_FILE").map(PathBuf::from),
        }
    }
}

fn text(name: &str) -> Option<String> {
    variable(name).map(|value| value.to_string_lossy().into_owned()).filter(|text| !text.trim().is_empty())
}

fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

impl Account {
    /// Whom to ask, and as whom.
    pub(crate) fn choose(options: ServerOptions, environment: Environment) -> Result<Self, AccountError> {
        let named = options.server.or(environment.server);
        let ca_file = options.trust.ca_file.or(environment.ca_file);
        // Scripts that say everything need no home.
        let credentials = match CredentialsFile::of_user() {
            Ok(file) => file.read()?,
            Err(_) if named.is_some() && environment.token.is_some() => Default::default(),
            Err(error) => return Err(error.into()),
        };
        let server: ServerAddress = match named.as_deref().or(credentials.default_server()) {
            Some(text) => text.parse()?,
            None => return Err(AccountError::NoServer),
        };
        let sign_in = credentials.sign_in(&server);
        let ca_file = ca_file.or_else(|| sign_in.and_then(|kept| kept.ca_file.clone()));
        let token_from_environment = environment.token.is_some();
        let token = environment.token.or_else(|| sign_in.map(|kept| kept.token.clone()));
        Ok(Self { server, ca_file, token, token_from_environment })
    }

    /// Questions in the person's name.
    pub(crate) fn api(&self) -> Result<Api<'_>, AccountError> {
        let token = self.token.as_ref().ok_or_else(|| AccountError::NotSignedIn(self.server.clone()))?;
        let dialer = Dialer::new(client_config(self.ca_file.as_deref())?);
        Ok(Api::new(dialer, &self.server, Some(token)))
    }

    /// Says what to do when the server does not take the token; any other error stays what it is.
    pub(crate) fn explain(&self, error: ApiError) -> anyhow::Error {
        match error {
            ApiError::Refused(refusal) if refusal.status == http::StatusCode::UNAUTHORIZED => {
                let server = self.server.clone();
                match self.token_from_environment {
                    true => AccountError::TokenRefused(server).into(),
                    false => AccountError::SignInEnded(server).into(),
                }
            }
            other => other.into(),
        }
    }
}
