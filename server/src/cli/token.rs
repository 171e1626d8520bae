//! `linkspan-server token|service-account …`

use clap::Subcommand;
use jiff::{SignedDuration, Timestamp};
use linkspan_server::access::Token;
use linkspan_server::rights::{Permission, TokenId};
use linkspan_server::store::{NewToken, NewUser, Store, TokenView, User, UserKind, UserName, is_label};

use super::rights::Of;
use super::user::{BY, gone, role_named};
use super::{DATA, Exit, ListForm, NO_USER, USAGE, json_line, note, out, tenant};

/// Days that a token lasts at most.
const DAYS_MAX: i64 = 732;

/// What can be done about tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes a token for a person's or a service account's programs, and prints it.
    Add {
        /// Whose it is.
        owner: UserName,
        /// What it is called, so that one knows later what it was for.
        name: String,
        /// No more than these permissions, parted by commas; otherwise what the owner may.
        #[arg(long, value_delimiter = ',')]
        permissions: Vec<Permission>,
        /// Days until it ends, at most 732.
        #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(i64).range(1..=DAYS_MAX))]
        days: i64,
        #[command(flatten)]
        of: Of,
    },
    /// All tokens, without the tokens themselves.
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Ends a token; what was opened with it ends within two seconds.
    Revoke {
        /// Its identity, as `token list` shows it.
        id: TokenId,
        #[command(flatten)]
        of: Of,
    },
}

/// What can be done about service accounts.
#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Adds a service account: a name for programs, with tokens in place of a password.
    Add {
        /// The name, unique on the server like those of people.
        name: UserName,
        /// A role on everything as with `user add`, or `none`.
        #[arg(long, default_value = "none")]
        role: String,
        #[command(flatten)]
        of: Of,
    },
    /// All service accounts.
    List {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        form: ListForm,
    },
    /// Removes a service account with its tokens and grants.
    Remove {
        /// The name.
        name: UserName,
        #[command(flatten)]
        of: Of,
    },
}

pub(super) async fn answer(store: &Store, command: Command) -> Result<(), Exit> {
    match command {
        Command::Add { owner, name, permissions, days, of } => {
            let of = tenant::find(store, of.name()).await?;
            if !is_label(&name) {
                return Err(Exit::says(USAGE, "a token's name is short, without odd characters"));
            }
            let user = store.member(of.id, &owner).await?.ok_or_else(|| nobody(&owner))?;
            let token = Token::for_programs();
            let expires = Timestamp::now() + SignedDuration::from_hours(24 * days);
            let permissions = (!permissions.is_empty()).then(|| permissions.into_iter().collect());
            let new = NewToken { user: user.id, name: &name, hash: &token.hash(), permissions, expires };
            if store.add_token(new).await?.is_none() {
                return Err(Exit::says(DATA, format_args!("{owner} has as many tokens as one can have")));
            }
            note(format_args!("token {name} of {owner} is good until {expires}; it is shown this once:"));
            out(&format!("{}\n", token.expose()))
        }
        Command::List { of, form } => {
            let of = tenant::find(store, of.name()).await?;
            list(&store.tokens(of.id, None).await?, form)
        }
        Command::Revoke { id, of } => {
            let of = tenant::find(store, of.name()).await?;
            if !store.remove_token(of.id, id).await? {
                return Err(Exit::says(NO_USER, format_args!("there is no token {id}")));
            }
            note(format_args!("token {id} is revoked"));
            Ok(())
        }
    }
}

pub(super) async fn accounts(store: &Store, command: AccountCommand) -> Result<(), Exit> {
    match command {
        AccountCommand::Add { name, role, of } => {
            let of = tenant::find(store, of.name()).await?;
            let role = role_named(store, &of, &role).await?;
            let new = NewUser { tenant: of.id, kind: UserKind::Service, name: &name, password_hash: "none" };
            if store.add_member(new, role, BY).await?.is_none() {
                return Err(Exit::says(DATA, format_args!("the name {name} is taken")));
            }
            note(format_args!("service account {name} is added; `token add {name} WHAT-FOR` makes it a token"));
            Ok(())
        }
        AccountCommand::List { of, form } => {
            let of = tenant::find(store, of.name()).await?;
            list_accounts(&store.members(of.id, UserKind::Service).await?, form)
        }
        AccountCommand::Remove { name, of } => {
            let of = tenant::find(store, of.name()).await?;
            let all = store.members(of.id, UserKind::Service).await?;
            if !all.iter().any(|account| account.name == name.as_str()) {
                return Err(nobody(&name));
            }
            gone(store.remove_user(&name).await?, || nobody(&name))?;
            note(format_args!("service account {name} is removed with its tokens"));
            Ok(())
        }
    }
}

fn list(tokens: &[TokenView], form: ListForm) -> Result<(), Exit> {
    if form.json {
        let all = tokens.iter().map(|token| {
            serde_json::json!({
                "id": token.id,
                "name": token.name,
                "owner": token.owner,
                "permissions": token.permissions,
                "expires": token.expires.to_string(),
                "used": token.used.map(|time| time.to_string()),
            })
        });
        return out(&json_line(&all.collect()));
    }
    let line = |token: &TokenView| {
        let used = token.used.map_or_else(|| "never used".to_owned(), |time| format!("last used {time}"));
        format!("{} {:<24} {:<24} until {}, {used}\n", token.id, token.owner, token.name, token.expires)
    };
    out(&tokens.iter().map(line).collect::<String>())
}

fn list_accounts(accounts: &[User], form: ListForm) -> Result<(), Exit> {
    if form.json {
        let all = accounts.iter().map(|account| serde_json::json!({"name": account.name, "role": account.role}));
        return out(&json_line(&all.collect()));
    }
    let line = |account: &User| format!("{:<32} {}\n", account.name, account.role.as_deref().unwrap_or("none"));
    out(&accounts.iter().map(line).collect::<String>())
}

fn nobody(name: &UserName) -> Exit {
    Exit::says(NO_USER, format_args!("there is nobody {name} there"))
}
