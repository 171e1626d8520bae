//! `linkspan login` and `linkspan logout`: a name and a password become a token that is kept for the next commands.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use http::StatusCode;
use linkspan_protocol::id::Secret;

use crate::account::{Account, AccountError, Environment, ServerOptions, TrustOptions};
use crate::credentials::{CredentialsFile, SignIn};
use crate::exit::Usage;
use crate::server::{Api, ApiError, Dialer, ServerAddress, client_config};
use crate::stdio::{note, note_part};
use crate::time;

/// The longest password or name that is read; what comes after is an error, not a cut password.
const LINE_MAX: u64 = 4096;

/// What a server says where it needs a code as well.
const CODE_NEEDED: &str = "second-factor";
/// What it says of a code that is not right.
const WRONG_CODE: &str = "wrong-code";

/// `linkspan login`.
#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// The server's address, as in https://remote.example.com
    url: String,
    /// Your name on the server; asked for when not given
    #[arg(long)]
    name: Option<String>,
    /// Read the password from the first line of standard input instead of asking on the terminal
    #[arg(long, requires = "name")]
    password_stdin: bool,
    /// The code of your second factor, where you have one; asked for when not given
    #[arg(long)]
    code: Option<String>,
    #[command(flatten)]
    trust: TrustOptions,
}

/// Why somebody is not signed in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoginError {
    /// Which of the two is not said.
    #[error("{0} does not know this name with this password")]
    Wrong(ServerAddress),
    /// The password is right, and there is nobody to ask for the code.
    #[error("{0} asks for the code of your second factor as well; give it with --code CODE")]
    CodeNeeded(ServerAddress),
    /// The code is not.
    #[error("{0} does not take this code; wait for the next one, or use a recovery code")]
    WrongCode(ServerAddress),
    /// Guessing is slowed down.
    #[error("too many attempts to sign in to {server}; try again {}", later(*wait))]
    Throttled {
        /// The server.
        server: ServerAddress,
        /// Seconds to wait.
        wait: Option<u64>,
    },
    /// Ctrl-C at a question.
    #[error("interrupted")]
    Interrupted,
}

fn later(wait: Option<u64>) -> String {
    match wait {
        None => "later".to_owned(),
        Some(1) => "in 1 second".to_owned(),
        Some(seconds @ 2..=119) => format!("in {seconds} seconds"),
        Some(seconds) => format!("in {} minutes", seconds.div_ceil(60)),
    }
}

/// Signs in and keeps the token.
pub(crate) async fn login(args: Login, environment: Environment) -> anyhow::Result<()> {
    let server: ServerAddress = args.url.parse()?;
    let file = CredentialsFile::of_user()?;
    let ca_file = args.trust.ca_file.or(environment.ca_file);
    let ca_file = ca_file.map(std::path::absolute).transpose().context("the working directory is gone")?;
    let ca_file = ca_file.or(kept_ca_file(&file, &server)?);
    let dialer = Dialer::new(client_config(ca_file.as_deref())?);
    let (name, password) = if args.password_stdin {
        (args.name.unwrap_or_default(), password_from_stdin()?)
    } else {
        // Whether the server is there and is the right one is told before a password is asked for.
        drop(dialer.dial(&server).await?);
        (args.name.map_or_else(ask_name, Ok)?, ask_password(&server)?)
    };
    if password.expose().is_empty() {
        bail!(Usage("the password is empty".to_owned()));
    }
    let api = Api::new(dialer, &server, None);
    let session = match api.sign_in(&name, &password, args.code.as_deref()).await {
        Err(ApiError::Refused(refusal)) if refusal.code == CODE_NEEDED => {
            let code = ask_code(&server, args.password_stdin)?;
            api.sign_in(&name, &password, Some(&code)).await
        }
        other => other,
    };
    let session = session.map_err(|error| explain(&server, error))?;
    let until = time::local(&session.expires);
    let sign_in = SignIn { name: name.clone(), token: session.token, expires: session.expires, ca_file };
    file.change(|credentials| credentials.keep(&server, sign_in))?;
    note(&format!("Signed in to {server} as {name} until {until}."));
    Ok(())
}

/// Deletes the token here, whatever else happens, and asks the server to forget it too.
pub(crate) async fn logout(options: ServerOptions, environment: Environment) -> anyhow::Result<()> {
    // A token of the environment is not ours to end: only what `login` kept.
    let account = Account::choose(options, Environment { token: None, ..environment })?;
    let told = match account.api() {
        Ok(api) => api.sign_out().await.map_err(|error| account.explain(error)),
        Err(AccountError::NotSignedIn(server)) => return Err(AccountError::NotSignedIn(server).into()),
        Err(error) => Err(error.into()),
    };
    CredentialsFile::of_user()?.change(|credentials| credentials.forget(&account.server))?;
    match told {
        Err(error) if !matches!(error.downcast_ref(), Some(AccountError::SignInEnded(_))) => {
            Err(error.context("the token is deleted here, but not on the server, which takes it until it ends"))
        }
        _ => {
            note(&format!("Signed out of {}.", account.server));
            Ok(())
        }
    }
}

/// The authority named at an earlier sign-in holds for the next one too.
fn kept_ca_file(file: &CredentialsFile, server: &ServerAddress) -> Result<Option<PathBuf>, AccountError> {
    Ok(file.read()?.sign_in(server).and_then(|kept| kept.ca_file.clone()))
}

fn ask_name() -> anyhow::Result<String> {
    if !io::stdin().is_terminal() {
        bail!(Usage("there is no terminal to ask on; use --name NAME --password-stdin".to_owned()));
    }
    note_part("Name: ");
    let mut line = String::new();
    io::stdin().lock().take(LINE_MAX).read_line(&mut line).context("cannot read the name")?;
    match line.trim() {
        "" => bail!(Usage("the name is empty".to_owned())),
        name => Ok(name.to_owned()),
    }
}

fn ask_password(server: &ServerAddress) -> anyhow::Result<Secret> {
    match rpassword::prompt_password(format!("Password for {server}: ")) {
        Ok(password) => Ok(Secret::new(password)),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => bail!(LoginError::Interrupted),
        Err(_) => bail!(Usage("there is no terminal to ask on; use --name NAME --password-stdin".to_owned())),
    }
}

fn ask_code(server: &ServerAddress, silent: bool) -> anyhow::Result<String> {
    if silent || !io::stdin().is_terminal() {
        bail!(LoginError::CodeNeeded(server.clone()));
    }
    note_part("Code from your phone, or a recovery code: ");
    let mut line = String::new();
    io::stdin().lock().take(LINE_MAX).read_line(&mut line).context("cannot read the code")?;
    match line.trim() {
        "" => bail!(Usage("the code is empty".to_owned())),
        code => Ok(code.to_owned()),
    }
}

fn password_from_stdin() -> anyhow::Result<Secret> {
    let mut line = Vec::new();
    io::stdin().lock().take(LINE_MAX).read_until(b'\n', &mut line).context("cannot read the password")?;
    if line.len() as u64 == LINE_MAX {
        bail!(Usage(format!("the password is longer than {LINE_MAX} bytes")));
    }
    let text = String::from_utf8(line).map_err(|_| Usage("the password is not UTF-8 text".to_owned()))?;
    Ok(Secret::new(text.trim_end_matches(['\n', '\r'])))
}

fn explain(server: &ServerAddress, error: ApiError) -> anyhow::Error {
    match error {
        ApiError::Refused(refusal) if refusal.code == WRONG_CODE => LoginError::WrongCode(server.clone()).into(),
        ApiError::Refused(refusal) if refusal.status == StatusCode::UNAUTHORIZED => {
            LoginError::Wrong(server.clone()).into()
        }
        ApiError::Refused(refusal) if refusal.status == StatusCode::TOO_MANY_REQUESTS => {
            LoginError::Throttled { server: server.clone(), wait: refusal.wait }.into()
        }
        other => other.into(),
    }
}
