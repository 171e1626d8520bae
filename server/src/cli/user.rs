//! `linkspan-server user …`

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use clap::Subcommand;
use linkspan_protocol::id::Secret;
use linkspan_server::access::{PasswordError, Passwords, Role, first_password};
use linkspan_server::store::{Store, UserName};

use super::{DATA, Exit, ListForm, NO_USER, UNAVAILABLE, USAGE, json_line, note, out};

/// Longest password read from standard input, in bytes; more is an accident.
const INPUT_MAX: u64 = 4096;

/// What can be done about people.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds a person; asks for the password twice, or reads it from standard input.
    Add {
        /// The name to sign in with.
        name: UserName,
        /// admin: everything; operator: all devices.
        #[arg(long)]
        role: Role,
        /// Reads the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
    /// Everybody who may sign in.
    List {
        #[command(flatten)]
        form: ListForm,
    },
    /// Removes a person and ends their sessions.
    Remove {
        /// The name.
        name: UserName,
    },
    /// Replaces a password and ends the person's sessions.
    Passwd {
        /// The name.
        name: UserName,
        /// Reads the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::Add { name, role, password_stdin } => add(store, &name, role, password_stdin).await,
        Command::List { form } => list(store, form).await,
        Command::Remove { name } => {
            if !store.remove_user(&name).await? {
                return Err(nobody(&name));
            }
            note(format_args!("user {name} is removed and signed out"));
            Ok(())
        }
        Command::Passwd { name, password_stdin } => {
            let hash = hash(&password(password_stdin)?).await?;
            if !store.replace_password(&name, &hash).await? {
                return Err(nobody(&name));
            }
            note(format_args!("the password of {name} is replaced; all their sessions have ended"));
            Ok(())
        }
    }
}

/// Makes the user `admin` where there is nobody yet; the password is left in a file that only its owner can read.
pub(crate) async fn first_admin(store: &Store, dir: &Path) -> Result<(), Exit> {
    if !store.users().await?.is_empty() {
        return Ok(());
    }
    let password = first_password();
    let path = dir.join("admin-password");
    let hash = hash(&password).await?;
    write_private(&path, &password)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(|error| Exit { code: UNAVAILABLE, error })?;
    let name: UserName = "admin".parse().map_err(|error| Exit::new(USAGE, error))?;
    store.add_user(&name, Role::Admin, &hash).await?;
    note(format_args!("first start: user `admin` is made, with the password in {}", path.display()));
    Ok(())
}

async fn add(store: &Store, name: &UserName, role: Role, password_stdin: bool) -> Result<(), Exit> {
    let hash = hash(&password(password_stdin)?).await?;
    if store.add_user(name, role, &hash).await?.is_none() {
        return Err(Exit::says(DATA, format_args!("there is a user {name} already; `user passwd` changes a password")));
    }
    note(format_args!("user {name} is added as {role}"));
    Ok(())
}

async fn list(store: &Store, form: ListForm) -> Result<(), Exit> {
    let users = store.users().await?;
    if form.json {
        let users = users
            .iter()
            .map(|user| serde_json::json!({"name": user.name, "role": user.role, "created": user.created.to_string()}));
        return out(&json_line(&users.collect()));
    }
    out(&users.iter().map(|user| format!("{:<32} {}\n", user.name, user.role)).collect::<String>())
}

fn password(from_stdin: bool) -> Result<Secret, Exit> {
    if from_stdin {
        return first_line();
    }
    if !std::io::stdin().is_terminal() {
        return Err(Exit::says(USAGE, "there is no terminal to ask for a password; use --password-stdin"));
    }
    let ask =
        |prompt| rpassword::prompt_password(prompt).map(Secret::new).map_err(|error| Exit::new(UNAVAILABLE, error));
    let first = ask("Password: ")?;
    if first != ask("Once more: ")? {
        return Err(Exit::says(DATA, "the two are not the same"));
    }
    Ok(first)
}

fn first_line() -> Result<Secret, Exit> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(INPUT_MAX).read_to_string(&mut text);
    read.map_err(|error| Exit::says(DATA, format_args!("cannot read the password: {error}")))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

async fn hash(password: &Secret) -> Result<String, Exit> {
    Passwords::default().hash(password).await.map_err(|error| match error {
        PasswordError::Short | PasswordError::Long => Exit::new(DATA, error),
        PasswordError::Busy | PasswordError::Broken(_) => Exit::new(UNAVAILABLE, error),
    })
}

fn nobody(name: &UserName) -> Exit {
    Exit::says(NO_USER, format_args!("there is no user {name}"))
}

fn write_private(path: &Path, text: &Secret) -> std::io::Result<()> {
    // A file left from an earlier life may have another mode, so it does not stay.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", text.expose())?;
    file.sync_all()
}
