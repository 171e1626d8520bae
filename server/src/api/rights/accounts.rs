//! `/api/v1/service-accounts`: programs that work under a name of their own; they have no password, only tokens.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, Cursor, Named, Problem, Strict, page};
use super::shapes::Moment;
use super::{PagedWithin, Within, check_above, check_own, gone, place};
use crate::access::Permission;
use crate::audit::{Action, Entry, Target as Thing};
use crate::rights::{Scope, When};
use crate::store::{NewUser, User, UserKind, UserName};

/// No password has this hash.
const NO_PASSWORD: &str = "none";

/// A service account.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct AccountView {
    name: String,
    /// The role it has on everything, if it has one.
    role: Option<String>,
    created: Moment,
}

/// Service accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Accounts {
    accounts: Vec<AccountView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A service account to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AccountSent {
    /// Unique on the server, like the names of people.
    name: String,
    /// A role on everything; absent: it gets single grants.
    #[serde(default)]
    role: Option<String>,
}

/// The service accounts, by name.
#[utoipa::path(get, path = "/api/v1/service-accounts", params(PagedWithin),
    responses((status = 200, body = Accounts)))]
pub(in crate::api) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Accounts>, Problem> {
    let (within, paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::PeopleSee).await?;
    let all = state.store.members(tenant, UserKind::Service).await?.into_iter().map(view);
    let (accounts, next) = page("service-accounts", &paged, all, |account| account.name.clone())?;
    Ok(Json(Accounts { accounts, next }))
}

/// One service account.
#[utoipa::path(get, path = "/api/v1/service-accounts/{account}", params(("account" = String, Path), Within),
    responses((status = 200, body = AccountView)))]
pub(in crate::api) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<UserName>,
    Asked(within): Asked<Within>,
) -> Result<Json<AccountView>, Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleSee).await?;
    let accounts = state.store.members(tenant, UserKind::Service).await?;
    let account = accounts.into_iter().find(|account| account.name == name.as_str());
    account.map(|account| Json(view(account))).ok_or_else(Problem::not_found)
}

/// Makes a service account; then `POST /api/v1/tokens` with its name makes it a token.
#[utoipa::path(post, path = "/api/v1/service-accounts", params(Within), request_body = AccountSent,
    responses((status = 201, body = AccountView)))]
pub(in crate::api) async fn add(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Asked(within): Asked<Within>,
    Strict(new): Strict<AccountSent>,
) -> Result<(StatusCode, Json<AccountView>), Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let name: UserName =
        new.name.parse().map_err(|error: crate::store::UserNameError| Problem::unprocessable(error.to_string()))?;
    let role = match &new.role {
        None => None,
        Some(role) => {
            let found = state.store.role_named(tenant, role).await?;
            let (role, permissions) = found.ok_or_else(|| Problem::unprocessable("There is no role of this name."))?;
            check_own(&who, tenant, permissions, &Scope::Everything, &When::default())?;
            Some(role)
        }
    };
    let account = NewUser { tenant, kind: UserKind::Service, name: &name, password_hash: NO_PASSWORD };
    if state.store.add_member(account, role, &who.name).await?.is_none() {
        return Err(Problem::conflict("This name is taken on the server; choose another one."));
    }
    let entry =
        Entry::new(Action::ACCOUNT_ADD, &who).from(&origin).on(Thing::new("service-account", &name)).within(tenant);
    state.audit.note(entry.with("role", new.role)).await?;
    let made = state.store.member(tenant, &name).await?.ok_or_else(Problem::not_found)?;
    Ok((StatusCode::CREATED, Json(view(made))))
}

/// Removes a service account with its tokens and grants.
#[utoipa::path(delete, path = "/api/v1/service-accounts/{account}", params(("account" = String, Path), Within),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named(name): Named<UserName>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let accounts = state.store.members(tenant, UserKind::Service).await?;
    let account = accounts.into_iter().find(|account| account.name == name.as_str()).ok_or_else(Problem::not_found)?;
    check_above(&state, &who, tenant, account.id).await?;
    gone(state.store.remove_user(&name).await?)?;
    let entry =
        Entry::new(Action::ACCOUNT_REMOVE, &who).from(&origin).on(Thing::new("service-account", &name)).within(tenant);
    state.audit.note(entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(account: User) -> AccountView {
    AccountView { name: account.name, role: account.role, created: Moment(account.created) }
}
