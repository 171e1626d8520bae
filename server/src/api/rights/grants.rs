//! `/api/v1/grants`: who has which role, on what, and when.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, Cursor, Named, Problem, Strict, page};
use super::shapes::{Moment, ScopeSent, WhenSent};
use super::{PagedWithin, Within, check_own, gone, place};
use crate::access::Permission;
use crate::audit::{Action, Entry, Target as Thing};
use crate::rights::{GrantId, TenantId};
use crate::store::{Gateway, Grant, GrantTo, NewGrant, UserName};

/// Longest reason, in bytes.
pub(in crate::api) const REASON_MAX: usize = 300;

/// Who is granted something: one of both.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct To {
    /// A person or a service account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// A group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

/// A grant.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct GrantView {
    #[schema(value_type = String)]
    id: GrantId,
    to: To,
    /// The role's name.
    role: String,
    scope: ScopeSent,
    when: WhenSent,
    /// Whether it is the role somebody was added with.
    standing: bool,
    /// Who made it.
    by: String,
    reason: String,
    created: Moment,
}

/// Grants.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Grants {
    grants: Vec<GrantView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A grant to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct GrantSent {
    to: To,
    /// The role's name: one that comes with the server, or one of the organisation's own.
    role: String,
    scope: ScopeSent,
    #[serde(default)]
    when: WhenSent,
    /// What for, for people.
    #[serde(default)]
    reason: String,
}

/// All grants, by identity.
#[utoipa::path(get, path = "/api/v1/grants", params(PagedWithin), responses((status = 200, body = Grants)))]
pub(in crate::api) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Grants>, Problem> {
    let (within, paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::GrantSee).await?;
    let gateways = state.store.gateways().await?;
    let mut all = state.store.grants(tenant).await?;
    all.sort_by_key(|grant| grant.id.to_string());
    let all = all.into_iter().map(|grant| view(grant, &gateways));
    let (grants, next) = page("grants", &paged, all, |grant| grant.id.to_string())?;
    Ok(Json(Grants { grants, next }))
}

/// One grant.
#[utoipa::path(get, path = "/api/v1/grants/{grant}", params(("grant" = String, Path), Within),
    responses((status = 200, body = GrantView)))]
pub(in crate::api) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(id): Named<GrantId>,
    Asked(within): Asked<Within>,
) -> Result<Json<GrantView>, Problem> {
    let tenant = place(&state, &who, &within, Permission::GrantSee).await?;
    let grant = state.store.grant(tenant, id).await?.ok_or_else(Problem::not_found)?;
    Ok(Json(view(grant, &state.store.gateways().await?)))
}

/// Grants a role to somebody: no more than one has oneself, on no more, and for no longer.
#[utoipa::path(post, path = "/api/v1/grants", params(Within), request_body = GrantSent,
    responses((status = 201, body = GrantView)))]
pub(in crate::api) async fn add(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Asked(within): Asked<Within>,
    Strict(new): Strict<GrantSent>,
) -> Result<(StatusCode, Json<GrantView>), Problem> {
    let tenant = place(&state, &who, &within, Permission::GrantEdit).await?;
    if new.reason.len() > REASON_MAX || new.reason.chars().any(char::is_control) {
        return Err(Problem::unprocessable("A reason is one line of at most 300 bytes."));
    }
    let to = receiver(&state, tenant, &new.to).await?;
    let (role, permissions) = (state.store.role_named(tenant, &new.role).await?)
        .ok_or_else(|| Problem::unprocessable("There is no role of this name."))?;
    let (scope, when) = (new.scope.read(&state, tenant).await?, new.when.read()?);
    check_own(&who, tenant, permissions, &scope, &when)?;
    let (by, reason) = (who.name.as_str(), new.reason.as_str());
    let grant = NewGrant { tenant, to, role, scope: &scope, when: &when, standing: false, by, reason };
    let id = state.store.add_grant(&grant).await?;
    let id = id.ok_or_else(|| Problem::conflict("The organisation has as many grants as it can; use groups."))?;
    let grant = state.store.grant(tenant, id).await?.ok_or_else(Problem::not_found)?;
    let view = view(grant, &state.store.gateways().await?);
    let entry = Entry::new(Action::GRANT_ADD, &who).from(&origin).on(Thing::new("grant", id)).within(tenant);
    state.audit.note(told(entry, &view)).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

/// Takes a grant away; what was opened with it ends within a second.
#[utoipa::path(delete, path = "/api/v1/grants/{grant}", params(("grant" = String, Path), Within),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named(id): Named<GrantId>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let tenant = place(&state, &who, &within, Permission::GrantEdit).await?;
    let grant = state.store.grant(tenant, id).await?.ok_or_else(Problem::not_found)?;
    check_own(&who, tenant, grant.permissions, &grant.scope, &grant.when)?;
    gone(state.store.remove_grant(tenant, id).await?)?;
    let view = view(grant, &state.store.gateways().await?);
    let entry = Entry::new(Action::GRANT_REMOVE, &who).from(&origin).on(Thing::new("grant", id)).within(tenant);
    state.audit.note(told(entry, &view)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn receiver(state: &ConsoleState, tenant: TenantId, to: &To) -> Result<GrantTo, Problem> {
    let nobody = || Problem::unprocessable("There is nobody, or no group, of this name.");
    match (&to.user, &to.group) {
        (Some(user), None) => {
            let name: UserName = user.parse().map_err(|_| nobody())?;
            let user = state.store.member(tenant, &name).await?.ok_or_else(nobody)?;
            Ok(GrantTo::User(user.id))
        }
        (None, Some(group)) => {
            let group = state.store.group_named(tenant, group).await?.ok_or_else(nobody)?;
            Ok(GrantTo::Group(group))
        }
        _ => Err(Problem::unprocessable("A grant is made to a user or to a group.")),
    }
}

fn view(grant: Grant, gateways: &[Gateway]) -> GrantView {
    let name = |id| Some(gateways.iter().find(|gateway| gateway.id == id)?.name.to_string());
    let to = match grant.to {
        GrantTo::User(_) => To { user: Some(grant.to_name), group: None },
        GrantTo::Group(_) => To { user: None, group: Some(grant.to_name) },
    };
    GrantView {
        id: grant.id,
        to,
        role: grant.role,
        scope: ScopeSent::show(&grant.scope, name),
        when: WhenSent::show(&grant.when),
        standing: grant.standing,
        by: grant.by,
        reason: grant.reason,
        created: Moment(grant.created),
    }
}

fn told(entry: Entry, grant: &GrantView) -> Entry {
    entry
        .with("to", json(&grant.to))
        .with("role", grant.role.clone())
        .with("scope", json(&grant.scope))
        .with("when", json(&grant.when))
}

/// As a JSON value; what cannot be written is null.
fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).unwrap_or_default()
}
