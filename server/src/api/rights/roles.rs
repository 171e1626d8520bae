//! `/api/v1/permissions` and `/api/v1/roles`: what can be allowed, and the bundles of it.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, Cursor, IfMatch, Named, Problem, Strict, Tagged, page};
use super::{PagedWithin, Within, check_own, place};
use crate::access::Permission;
use crate::audit::{Action, Entry, Target as Thing};
use crate::rights::{PermissionSet, Role, Scope, When};
use crate::store::{Removal, is_label};

/// A permission, explained.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PermissionView {
    name: &'static str,
    meaning: &'static str,
}

/// All permissions.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Permissions {
    permissions: Vec<PermissionView>,
}

/// A role.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RoleView {
    name: String,
    /// Whether it comes with the server, and cannot be changed.
    built_in: bool,
    #[schema(value_type = Vec<String>)]
    permissions: PermissionSet,
}

/// Roles.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Roles {
    roles: Vec<RoleView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A role to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewRole {
    name: String,
    #[schema(value_type = Vec<String>)]
    permissions: PermissionSet,
}

/// What a role is to allow.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RoleEdit {
    #[schema(value_type = Vec<String>)]
    permissions: PermissionSet,
}

/// All that can be allowed.
#[utoipa::path(get, path = "/api/v1/permissions", responses((status = 200, body = Permissions)))]
pub(in crate::api) async fn permissions() -> Json<Permissions> {
    let view = |permission: &Permission| PermissionView { name: permission.as_str(), meaning: permission.meaning() };
    Json(Permissions { permissions: Permission::ALL.iter().map(view).collect() })
}

/// The roles that come with the server, and the organisation's own, by name.
#[utoipa::path(get, path = "/api/v1/roles", params(PagedWithin), responses((status = 200, body = Roles)))]
pub(in crate::api) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Roles>, Problem> {
    let (within, paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::GrantSee).await?;
    let own = state.store.roles(tenant).await?;
    let own = own.into_iter().map(|role| RoleView { name: role.name, built_in: false, permissions: role.permissions });
    let mut all: Vec<RoleView> = Role::ALL.into_iter().map(built_in).chain(own).collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    let (roles, next) = page("roles", &paged, all, |role| role.name.clone())?;
    Ok(Json(Roles { roles, next }))
}

/// One role.
#[utoipa::path(get, path = "/api/v1/roles/{role}", params(("role" = String, Path), Within),
    responses((status = 200, body = RoleView, headers(("ETag" = String)))))]
pub(in crate::api) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<String>,
    Asked(within): Asked<Within>,
) -> Result<Tagged<RoleView>, Problem> {
    let tenant = place(&state, &who, &within, Permission::GrantSee).await?;
    if let Ok(role) = name.parse::<Role>() {
        return Ok(Tagged(built_in(role)));
    }
    let (_, permissions) = state.store.role_named(tenant, &name).await?.ok_or_else(Problem::not_found)?;
    Ok(Tagged(RoleView { name, built_in: false, permissions }))
}

/// Makes a role out of single permissions: of no more than one has oneself on everything.
#[utoipa::path(post, path = "/api/v1/roles", params(Within), request_body = NewRole,
    responses((status = 201, body = RoleView)))]
pub(in crate::api) async fn add(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Asked(within): Asked<Within>,
    Strict(new): Strict<NewRole>,
) -> Result<(StatusCode, Json<RoleView>), Problem> {
    let tenant = place(&state, &who, &within, Permission::RoleEdit).await?;
    if !is_label(&new.name) || new.name.parse::<Role>().is_ok() || new.name == "none" {
        return Err(Problem::unprocessable(
            "This cannot be the name of a role: a word of the server's own, too long, or with odd characters.",
        ));
    }
    check_permissions(new.permissions)?;
    check_own(&who, tenant, new.permissions, &Scope::Everything, &When::default())?;
    if state.store.add_role(tenant, &new.name, new.permissions).await?.is_none() {
        return Err(Problem::conflict("There is a role of this name already."));
    }
    let entry = Entry::new(Action::ROLE_ADD, &who).from(&origin).on(Thing::new("role", &new.name)).within(tenant);
    state.audit.note(entry.with("permissions", words(new.permissions))).await?;
    Ok((StatusCode::CREATED, Json(RoleView { name: new.name, built_in: false, permissions: new.permissions })))
}

/// Replaces what a role allows, for all who have it.
#[utoipa::path(put, path = "/api/v1/roles/{role}", params(("role" = String, Path), IfMatch, Within), request_body = RoleEdit,
    responses((status = 200, body = RoleView, headers(("ETag" = String)))))]
pub(in crate::api) async fn edit(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (Named<String>, IfMatch, Asked<Within>),
    Strict(new): Strict<RoleEdit>,
) -> Result<Tagged<RoleView>, Problem> {
    let ((Signed(who), From(origin)), (Named(name), if_match, Asked(within))) = (by, at);
    let tenant = place(&state, &who, &within, Permission::RoleEdit).await?;
    if name.parse::<Role>().is_ok() {
        return Err(Problem::conflict("The roles that come with the server cannot be changed."));
    }
    let (_, before) = state.store.role_named(tenant, &name).await?.ok_or_else(Problem::not_found)?;
    if_match.check(&RoleView { name: name.clone(), built_in: false, permissions: before })?;
    check_permissions(new.permissions)?;
    check_own(&who, tenant, new.permissions.or(before), &Scope::Everything, &When::default())?;
    if !state.store.edit_role(tenant, &name, new.permissions).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::ROLE_CHANGE, &who).from(&origin).on(Thing::new("role", &name)).within(tenant);
    state.audit.note(entry.with("before", words(before)).with("permissions", words(new.permissions))).await?;
    Ok(Tagged(RoleView { name, built_in: false, permissions: new.permissions }))
}

/// Removes a role that no grant names.
#[utoipa::path(delete, path = "/api/v1/roles/{role}", params(("role" = String, Path), Within), responses(
    (status = 204),
    (status = 409, body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn remove(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named(name): Named<String>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let tenant = place(&state, &who, &within, Permission::RoleEdit).await?;
    match state.store.remove_role(tenant, &name).await? {
        Removal::Removed => {
            let entry =
                Entry::new(Action::ROLE_REMOVE, &who).from(&origin).on(Thing::new("role", &name)).within(tenant);
            state.audit.note(entry).await?;
            Ok(StatusCode::NO_CONTENT)
        }
        Removal::InUse => Err(Problem::conflict("Grants still name this role; take them away first.")),
        Removal::Unknown => Err(Problem::not_found()),
    }
}

fn check_permissions(permissions: PermissionSet) -> Result<(), Problem> {
    if permissions.is_empty() {
        return Err(Problem::unprocessable("A role allows something."));
    }
    if permissions.and(Permission::ABOVE_TENANTS).is_empty() {
        return Ok(());
    }
    Err(Problem::unprocessable("What concerns the server as a whole is in the role system-admin alone."))
}

fn built_in(role: Role) -> RoleView {
    RoleView { name: role.to_string(), built_in: true, permissions: role.permissions() }
}

/// For the audit.
pub(super) fn words(permissions: PermissionSet) -> Vec<&'static str> {
    permissions.iter().map(Permission::as_str).collect()
}
