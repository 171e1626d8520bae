//! What `linkspan-server user …` does about accounts: links for one use, sessions, second factors.

use linkspan_server::access::{Access, FIRST_LINK_LIFE, PASSWORD_LINK_LIFE, Token};
use linkspan_server::config::Config;
use linkspan_server::store::{SessionListed, Store, StoreError, User, UserName};

use super::user::nobody;
use super::{DATA, Exit, ListForm, json_line, note, out};

/// A link that makes the first account, where there is nobody yet; earlier ones are void.
pub(crate) async fn first_link(config: &Config, store: &Store) -> Result<Option<String>, StoreError> {
    let token = Token::random();
    let kept = store.add_first_account_link(&token.hash(), jiff::Timestamp::now() + FIRST_LINK_LIFE).await?;
    Ok(kept.then(|| link_of(config, &token)))
}

/// Prints that link.
pub(super) async fn set_up(config: &Config, store: &Store) -> Result<(), Exit> {
    match first_link(config, store).await? {
        Some(link) => out(&format!("{link}\n")),
        None => Err(Exit::says(DATA, "there is an account already; `user reset NAME` makes a link for its password")),
    }
}

/// Prints a link for a new password; takes the second factor away if that is wanted.
pub(super) async fn reset(config: &Config, store: &Store, name: &UserName, second_factor: bool) -> Result<(), Exit> {
    let (access, user) = (access(config, store), known(store, name).await?);
    if second_factor && access.remove_second_factor(user.id).await? {
        note(format_args!("the second factor of {name} is taken away"));
    }
    print_link(config, &access, &user).await
}

/// Prints a link with which a person chooses a password.
pub(super) async fn invite(config: &Config, store: &Store, name: &UserName) -> Result<(), Exit> {
    print_link(config, &access(config, store), &known(store, name).await?).await
}

/// Signs a person out everywhere.
pub(super) async fn logout(config: &Config, store: &Store, name: &UserName) -> Result<(), Exit> {
    let ended = access(config, store).end_sessions(known(store, name).await?.id, None).await?;
    note(format_args!("{name} is signed out; sessions that have ended: {ended}"));
    Ok(())
}

/// A person's sessions.
pub(super) async fn sessions(config: &Config, store: &Store, name: &UserName, form: ListForm) -> Result<(), Exit> {
    let all = access(config, store).sessions(known(store, name).await?.id).await?;
    if form.json {
        let all = all.iter().map(|session| {
            serde_json::json!({
                "id": session.id.to_string(),
                "kind": session.kind,
                "address": session.address,
                "agent": session.agent,
                "created": session.created.to_string(),
                "used": session.used.to_string(),
                "expires": session.expires.to_string(),
            })
        });
        return out(&json_line(&all.collect()));
    }
    let line = |session: &SessionListed| {
        let (address, agent) = (session.address.as_deref().unwrap_or("-"), session.agent.as_deref().unwrap_or("-"));
        format!("{}  {}  {address:<24} {agent}\n", session.id, session.used.strftime("%F %H:%MZ"))
    };
    out(&all.iter().map(line).collect::<String>())
}

/// The person of this name.
pub(super) async fn known(store: &Store, name: &UserName) -> Result<User, Exit> {
    store.person(name).await?.ok_or_else(|| nobody(name))
}

/// Why a password cannot be changed here.
pub(super) fn elsewhere(user: &User) -> Exit {
    let source = user.source.as_str();
    Exit::says(DATA, format_args!("the password of {} is not kept here but at its source ({source})", user.name))
}

async fn print_link(config: &Config, access: &Access, user: &User) -> Result<(), Exit> {
    let (token, _) = access.password_link(user, None).await?.ok_or_else(|| elsewhere(user))?;
    let hours = PASSWORD_LINK_LIFE.as_secs() / 3600;
    note(format_args!("with this link {} chooses a password; it is good once, for {hours} hours:", user.name));
    out(&format!("{}\n", link_of(config, &token)))
}

fn access(config: &Config, store: &Store) -> Access {
    Access::new(store.clone(), config.access.clone())
}

fn link_of(config: &Config, token: &Token) -> String {
    format!("{}/welcome?link={}", config.site.console_origin(), token.expose())
}
