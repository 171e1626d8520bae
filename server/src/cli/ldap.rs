//! `linkspan-server ldap …`

use anyhow::Context as _;
use clap::Subcommand;
use linkspan_server::access::directory::{Directory, DirectoryError};
use linkspan_server::config::Config;
use linkspan_server::store::UserName;

use super::{CONFIG, Exit, NO_USER, UNAVAILABLE, json_line, note, out, user};

/// What can be done about the directory.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Asks the directory of the configuration; changes nothing.
    Test {
        /// Looks for this person too, and tells what would be made of them.
        name: Option<UserName>,
        /// Checks their password as well, from the first line of standard input.
        #[arg(long, requires = "name")]
        password_stdin: bool,
    },
}

pub(super) async fn answer(config: &Config, command: Command) -> Result<(), Exit> {
    let Command::Test { name, password_stdin } = command;
    let settings = config.ldap.clone().context("there is no [ldap] in the configuration");
    let settings = settings.map_err(|error| Exit { code: CONFIG, error })?;
    let directory = Directory::new(settings).map_err(|error| Exit::new(CONFIG, error))?;
    directory.ping().await.map_err(unavailable)?;
    note(format_args!("the directory answers, and takes the service account"));
    let Some(name) = name else { return Ok(()) };
    let found = directory.look_up(name.as_str()).await.map_err(unavailable)?;
    let found =
        found.ok_or_else(|| Exit::says(NO_USER, format_args!("the directory finds nobody, or several, for {name}")))?;
    if password_stdin {
        let right = directory.sign_in(&name, &user::first_line()?).await.map_err(unavailable)?.is_some();
        note(format_args!(
            "{}",
            if right { "they may sign in with this password" } else { "they may not sign in with this password" }
        ));
    }
    out(&json_line(&serde_json::json!({
        "dn": found.dn,
        "subject": found.subject,
        "disabled": found.disabled,
        "role": found.role.as_ref().map(|role| &role.role),
        "tenant": found.role.as_ref().map(|role| role.tenant.as_str()),
    })))
}

fn unavailable(error: DirectoryError) -> Exit {
    Exit::new(UNAVAILABLE, error)
}
