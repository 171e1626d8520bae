//! `linkspan-server user …`

use std::io::{IsTerminal as _, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use clap::Subcommand;
use linkspan_protocol::id::Secret;
use linkspan_server::access::{
    PasswordContext, PasswordError, Passwords, Role, WeakPassword, first_password, judge_password,
};
use linkspan_server::config::Config;
use linkspan_server::store::{NewUser, RoleRef, Store, Taken, Tenant, TenantName, User, UserKind, UserName};

use super::{DATA, Exit, ListForm, NO_USER, UNAVAILABLE, USAGE, account, json_line, note, out};

/// Longest password read from standard input, in bytes; more is an accident.
const INPUT_MAX: u64 = 4096;

/// Who has done what is done here.
pub(super) const BY: &str = "the command line";

/// What can be done about people.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Adds a person; asks for the password twice, or reads it from standard input.
    Add {
        /// The name to sign in with.
        name: UserName,
        /// What the person may do with everything: viewer, operator, technician, fleet-admin, admin, system-admin, or
        /// a role of the tenant's own; `none` for somebody who only gets single grants.
        #[arg(long)]
        role: String,
        /// The organisation the person belongs to.
        #[arg(long, default_value = "default")]
        tenant: TenantName,
        /// Reads the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
        /// Prints a link with which the person chooses a password: good once, for 24 hours.
        #[arg(long, conflicts_with = "password_stdin")]
        link: bool,
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
    /// Gives a person another role on everything, in place of the one they were added with.
    Role {
        /// The name.
        name: UserName,
        /// A role as with `user add`, or `none`.
        role: String,
    },
    /// Prints a link with which a person chooses a new password: good once, for 24 hours. Until then the old one is good.
    Reset {
        /// The name.
        name: UserName,
        /// Takes the second factor away as well, from somebody who has lost it; their sessions end.
        #[arg(long)]
        second_factor: bool,
    },
    /// Where a person is signed in.
    Sessions {
        /// The name.
        name: UserName,
        #[command(flatten)]
        form: ListForm,
    },
    /// Signs a person out everywhere.
    Logout {
        /// The name.
        name: UserName,
    },
    /// Prints a link that makes the first account, where there is nobody yet: good once, for an hour.
    SetUp,
    /// Replaces a password and ends the person's sessions.
    Passwd {
        /// The name.
        name: UserName,
        /// Reads the password from the first line of standard input.
        #[arg(long)]
        password_stdin: bool,
    },
}

pub(super) async fn answer(config: &Config, store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::Add { name, role, tenant, password_stdin, link } => {
            let tenant = super::tenant::find(store, &tenant).await?;
            let role = role_named(store, &tenant, &role).await?;
            // Without a hash no password is right until the link is used.
            let hash = if link { String::new() } else { hash(config, &name, &password(password_stdin)?).await? };
            add(store, (&name, &tenant), role, &hash).await?;
            if link { account::invite(config, store, &name).await } else { Ok(()) }
        }
        Command::List { form } => list(store, form).await,
        Command::Remove { name } => {
            gone(store.remove_user(&name).await?, || nobody(&name))?;
            note(format_args!("user {name} is removed and signed out"));
            Ok(())
        }
        Command::Role { name, role } => set_role(store, &name, &role).await,
        Command::Reset { name, second_factor } => account::reset(config, store, &name, second_factor).await,
        Command::Sessions { name, form } => account::sessions(config, store, &name, form).await,
        Command::Logout { name } => account::logout(config, store, &name).await,
        Command::SetUp => account::set_up(config, store).await,
        Command::Passwd { name, password_stdin } => {
            let user = account::known(store, &name).await?;
            let hash = hash(config, &name, &password(password_stdin)?).await?;
            if !store.replace_password(&name, &hash).await? {
                return Err(account::elsewhere(&user));
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
    let hash = hashed(&password).await?;
    write_private(&path, &password)
        .with_context(|| format!("cannot write {}", path.display()))
        .map_err(|error| Exit { code: UNAVAILABLE, error })?;
    let name: UserName = "admin".parse().map_err(|error| Exit::new(USAGE, error))?;
    store.add_user(&name, Role::SystemAdmin, &hash).await?;
    note(format_args!("first start: user `admin` is made, with the password in {}", path.display()));
    Ok(())
}

async fn add(
    store: &Store,
    (name, tenant): (&UserName, &Tenant),
    role: Option<RoleRef>,
    password_hash: &str,
) -> Result<(), Exit> {
    let new = NewUser { tenant: tenant.id, kind: UserKind::Person, name, password_hash };
    if store.add_member(new, role, BY).await?.is_none() {
        return Err(Exit::says(DATA, format_args!("there is a user {name} already; `user passwd` changes a password")));
    }
    note(format_args!("user {name} is added to {}", tenant.name));
    Ok(())
}

async fn set_role(store: &Store, name: &UserName, role: &str) -> Result<(), Exit> {
    let user = store.users().await?.into_iter().find(|user| user.name == name.as_str()).ok_or_else(|| nobody(name))?;
    let tenant = store.tenant(user.tenant).await?.ok_or_else(|| nobody(name))?;
    let found = role_named(store, &tenant, role).await?;
    gone(store.set_role(user.id, found, BY).await?, || nobody(name))?;
    note(format_args!("user {name} now has the role {role}"));
    Ok(())
}

/// The role of this name, if it is not `none`.
pub(super) async fn role_named(store: &Store, tenant: &Tenant, name: &str) -> Result<Option<RoleRef>, Exit> {
    if name == "none" {
        return Ok(None);
    }
    let found = store.role_named(tenant.id, name).await?;
    let (role, _) = found.ok_or_else(|| {
        if name == Role::SystemAdmin.as_str() {
            return Exit::says(USAGE, "system-admin is a role of the organisation `default` alone");
        }
        let known = Role::ALL.map(Role::as_str).join(", ");
        Exit::says(USAGE, format_args!("`{name}` is not a role; write one of {known}, or none"))
    })?;
    Ok(Some(role))
}

async fn list(store: &Store, form: ListForm) -> Result<(), Exit> {
    let tenants = store.tenants().await?;
    let tenant = |user: &User| {
        let found = tenants.iter().find(|tenant| tenant.id == user.tenant);
        found.map_or_else(String::new, |tenant| tenant.name.to_string())
    };
    let users = store.users().await?;
    if form.json {
        let users = users.iter().map(|user| {
            serde_json::json!({
                "name": user.name,
                "role": user.role,
                "tenant": tenant(user),
                "source": user.source,
                "second_factor": user.second_factor,
                "created": user.created.to_string(),
            })
        });
        return out(&json_line(&users.collect()));
    }
    let line = |user: &User| {
        let role = user.role.as_deref().unwrap_or("none");
        let (source, second) = (user.source.as_str(), if user.second_factor { "second factor" } else { "" });
        let line = format!("{:<32} {role:<14} {:<14} {source:<6} {second}", user.name, tenant(user));
        format!("{}\n", line.trim_end())
    };
    out(&users.iter().map(line).collect::<String>())
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

pub(super) fn first_line() -> Result<Secret, Exit> {
    let mut text = String::new();
    let read = std::io::stdin().lock().take(INPUT_MAX).read_to_string(&mut text);
    read.map_err(|error| Exit::says(DATA, format_args!("cannot read the password: {error}")))?;
    Ok(Secret::new(text.lines().next().unwrap_or_default()))
}

/// The hash of a password that an administrator chose. Who may do this can do anything with the database, so what is
/// merely unwise is said and not refused.
async fn hash(config: &Config, name: &UserName, password: &Secret) -> Result<String, Exit> {
    match judge_password(password, &PasswordContext { name: name.as_str(), site: &config.site.console }) {
        Ok(()) => {}
        Err(error @ (WeakPassword::Short | WeakPassword::Long)) => return Err(Exit::new(DATA, error)),
        Err(error) => note(format_args!("warning: {error}")),
    }
    hashed(password).await
}

async fn hashed(password: &Secret) -> Result<String, Exit> {
    Passwords::default().hash(password).await.map_err(|error| match error {
        PasswordError::Long => Exit::new(DATA, error),
        PasswordError::Busy | PasswordError::Broken(_) => Exit::new(UNAVAILABLE, error),
    })
}

/// What was to be taken away is gone, or why not.
pub(super) fn gone(taken: Taken, nothing: impl FnOnce() -> Exit) -> Result<(), Exit> {
    match taken {
        Taken::Done => Ok(()),
        Taken::Nothing => Err(nothing()),
        Taken::LastAdmin => Err(Exit::says(
            DATA,
            "nobody could look after the organisation after this; first add another admin: `user add NAME --role …`",
        )),
    }
}

pub(super) fn nobody(name: &UserName) -> Exit {
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
