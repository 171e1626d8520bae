//! `/api/v1/groups`: people and service accounts to whom something is granted together.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, Cursor, Named, Problem, Strict, page};
use super::{PagedWithin, Within, check_own, gone, place};
use crate::access::{Permission, Principal};
use crate::audit::{Action, Entry, Target as Thing};
use crate::rights::{GroupId, TenantId};
use crate::store::{GrantTo, Removal, UserName, is_label};

/// A group and who is in it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct GroupView {
    name: String,
    /// The names of its members.
    members: Vec<String>,
}

/// Groups.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Groups {
    groups: Vec<GroupView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A group to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct NewGroup {
    name: String,
}

/// The groups of the organisation, by name.
#[utoipa::path(get, path = "/api/v1/groups", params(PagedWithin), responses((status = 200, body = Groups)))]
pub(in crate::api) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Groups>, Problem> {
    let (within, paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::PeopleSee).await?;
    let all = state.store.groups(tenant).await?;
    let all = all.into_iter().map(|group| GroupView { name: group.name, members: group.members });
    let (groups, next) = page("groups", &paged, all, |group| group.name.clone())?;
    Ok(Json(Groups { groups, next }))
}

/// One group.
#[utoipa::path(get, path = "/api/v1/groups/{group}", params(("group" = String, Path), Within),
    responses((status = 200, body = GroupView)))]
pub(in crate::api) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<String>,
    Asked(within): Asked<Within>,
) -> Result<Json<GroupView>, Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleSee).await?;
    let group = state.store.groups(tenant).await?.into_iter().find(|group| group.name == name);
    let group = group.ok_or_else(Problem::not_found)?;
    Ok(Json(GroupView { name: group.name, members: group.members }))
}

/// Makes a group.
#[utoipa::path(post, path = "/api/v1/groups", params(Within), request_body = NewGroup,
    responses((status = 201, body = GroupView)))]
pub(in crate::api) async fn add(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Asked(within): Asked<Within>,
    Strict(new): Strict<NewGroup>,
) -> Result<(StatusCode, Json<GroupView>), Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    if !is_label(&new.name) {
        return Err(Problem::unprocessable(
            "This cannot be the name of a group: empty, too long, or with odd characters.",
        ));
    }
    if state.store.add_group(tenant, &new.name).await?.is_none() {
        return Err(Problem::conflict("There is a group of this name already."));
    }
    let entry = Entry::new(Action::GROUP_ADD, &who).from(&origin).on(Thing::new("group", &new.name)).within(tenant);
    state.audit.note(entry).await?;
    Ok((StatusCode::CREATED, Json(GroupView { name: new.name, members: Vec::new() })))
}

/// Removes a group to which nothing is granted.
#[utoipa::path(delete, path = "/api/v1/groups/{group}", params(("group" = String, Path), Within), responses(
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
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    match state.store.remove_group(tenant, &name).await? {
        Removal::Removed => {
            let entry =
                Entry::new(Action::GROUP_REMOVE, &who).from(&origin).on(Thing::new("group", &name)).within(tenant);
            state.audit.note(entry).await?;
            Ok(StatusCode::NO_CONTENT)
        }
        Removal::InUse => Err(Problem::conflict("Something is granted to this group; take that away first.")),
        Removal::Unknown => Err(Problem::not_found()),
    }
}

/// Makes somebody a member: to the group no more may be granted than one has oneself.
#[utoipa::path(put, path = "/api/v1/groups/{group}/members/{member}",
    params(("group" = String, Path), ("member" = String, Path), Within), responses((status = 204)))]
pub(in crate::api) async fn join(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named((group, member)): Named<(String, UserName)>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let id = state.store.group_named(tenant, &group).await?.ok_or_else(Problem::not_found)?;
    let user = state.store.member(tenant, &member).await?.ok_or_else(Problem::not_found)?;
    check_group(&state, &who, tenant, id).await?;
    if !state.store.add_to_group(tenant, &group, user.id).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::GROUP_JOIN, &who).from(&origin).on(Thing::new("group", &group)).within(tenant);
    state.audit.note(entry.with("member", member.to_string())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Ends a membership.
#[utoipa::path(delete, path = "/api/v1/groups/{group}/members/{member}",
    params(("group" = String, Path), ("member" = String, Path), Within), responses((status = 204)))]
pub(in crate::api) async fn leave(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named((group, member)): Named<(String, UserName)>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let id = state.store.group_named(tenant, &group).await?.ok_or_else(Problem::not_found)?;
    let user = state.store.member(tenant, &member).await?.ok_or_else(Problem::not_found)?;
    check_group(&state, &who, tenant, id).await?;
    gone(state.store.remove_from_group(tenant, &group, user.id).await?)?;
    let entry = Entry::new(Action::GROUP_LEAVE, &who).from(&origin).on(Thing::new("group", &group)).within(tenant);
    state.audit.note(entry.with("member", member.to_string())).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether one has all that is granted to a group.
async fn check_group(state: &ConsoleState, who: &Principal, tenant: TenantId, group: GroupId) -> Result<(), Problem> {
    let all = state.store.grants(tenant).await?;
    let mut of_group = all.iter().filter(|grant| grant.to == GrantTo::Group(group));
    of_group.try_for_each(|grant| check_own(who, tenant, grant.permissions, &grant.scope, &grant.when))
}
