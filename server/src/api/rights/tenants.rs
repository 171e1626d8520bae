//! `/api/v1/tenants`: the organisations that share the server; and how each one's pages look.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, Cursor, IfMatch, Named, Paged, Problem, Strict, Tagged, page};
use super::shapes::Moment;
use super::{Within, above, place};
use crate::access::Permission;
use crate::audit::{Action, Entry, Target as Thing};
use crate::rights::TenantId;
use crate::store::{Tenant, TenantName, TenantRemoval};
use crate::ui::Brand;

/// An organisation.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct TenantView {
    /// The short name, for command lines and addresses.
    #[schema(value_type = String)]
    name: TenantName,
    /// What stands on its pages in place of the product's name; empty for that.
    title: String,
    /// The colour of its pages, `#rrggbb`; empty for the usual one.
    colour: String,
    /// Whether everybody in it must sign in with a second factor.
    second_factor: bool,
    created: Moment,
}

/// Organisations.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Tenants {
    tenants: Vec<TenantView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// An organisation to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct TenantSent {
    #[schema(value_type = String)]
    name: TenantName,
    #[serde(default)]
    title: String,
}

/// How an organisation's pages look.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Branding {
    /// What stands on its pages in place of the product's name; empty for that.
    title: String,
    /// `#rrggbb`, dark enough for white letters on it; empty for the usual one.
    colour: String,
}

/// The organisations, by name.
#[utoipa::path(get, path = "/api/v1/tenants", params(Paged), responses((status = 200, body = Tenants)))]
pub(in crate::api) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Tenants>, Problem> {
    above(&who, Permission::TenantSee)?;
    let all = state.store.tenants().await?.into_iter().map(view);
    let (tenants, next) = page("tenants", &paged, all, |tenant| tenant.name.to_string())?;
    Ok(Json(Tenants { tenants, next }))
}

/// One organisation.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}", params(("tenant" = String, Path)),
    responses((status = 200, body = TenantView)))]
pub(in crate::api) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<TenantName>,
) -> Result<Json<TenantView>, Problem> {
    above(&who, Permission::TenantSee)?;
    Ok(Json(view(state.store.tenant_named(&name).await?.ok_or_else(Problem::not_found)?)))
}

/// Makes an organisation; then people and gateways can be added to it.
#[utoipa::path(post, path = "/api/v1/tenants", request_body = TenantSent, responses((status = 201, body = TenantView)))]
pub(in crate::api) async fn add(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Strict(new): Strict<TenantSent>,
) -> Result<(StatusCode, Json<TenantView>), Problem> {
    above(&who, Permission::TenantEdit)?;
    Brand::parse(&new.title, "").map_err(|error| Problem::unprocessable(error.to_string()))?;
    let id = state.store.add_tenant(&new.name, &new.title).await?;
    let id = id.ok_or_else(|| Problem::conflict("There is an organisation of this name already."))?;
    let entry = Entry::new(Action::TENANT_ADD, &who).from(&origin).on(Thing::new("tenant", &new.name));
    state.audit.note(entry).await?;
    let made = state.store.tenant(id).await?.ok_or_else(Problem::not_found)?;
    Ok((StatusCode::CREATED, Json(view(made))))
}

/// Removes an organisation that has nobody and nothing any more.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}", params(("tenant" = String, Path)), responses(
    (status = 204),
    (status = 409, body = Problem, content_type = "application/problem+json"),
))]
pub(in crate::api) async fn remove(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named(name): Named<TenantName>,
) -> Result<StatusCode, Problem> {
    above(&who, Permission::TenantEdit)?;
    let tenant = state.store.tenant_named(&name).await?.ok_or_else(Problem::not_found)?;
    match state.store.remove_tenant(tenant.id).await? {
        TenantRemoval::Removed => {
            let entry = Entry::new(Action::TENANT_REMOVE, &who).from(&origin).on(Thing::new("tenant", &name));
            state.audit.note(entry).await?;
            Ok(StatusCode::NO_CONTENT)
        }
        TenantRemoval::InUse => Err(Problem::conflict(
            "It has people, service accounts or gateways, or is the one that stays; remove them first.",
        )),
        TenantRemoval::Unknown => Err(Problem::not_found()),
    }
}

/// How the organisation's pages look.
#[utoipa::path(get, path = "/api/v1/branding", params(Within),
    responses((status = 200, body = Branding, headers(("ETag" = String)))))]
pub(in crate::api) async fn branding(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(within): Asked<Within>,
) -> Result<Tagged<Branding>, Problem> {
    let tenant = place(&state, &who, &within, Permission::SettingsSee).await?;
    brand_of(&state, tenant).await.map(Tagged)
}

/// Changes how the organisation's pages look.
#[utoipa::path(put, path = "/api/v1/branding", params(IfMatch, Within), request_body = Branding,
    responses((status = 200, body = Branding, headers(("ETag" = String)))))]
pub(in crate::api) async fn brand(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (IfMatch, Asked<Within>),
    Strict(new): Strict<Branding>,
) -> Result<Tagged<Branding>, Problem> {
    let ((Signed(who), From(origin)), (if_match, Asked(within))) = (by, at);
    let tenant = place(&state, &who, &within, Permission::SettingsEdit).await?;
    if_match.check(&brand_of(&state, tenant).await?)?;
    Brand::parse(&new.title, &new.colour).map_err(|error| Problem::unprocessable(error.to_string()))?;
    if !state.store.brand_tenant(tenant, &new.title, &new.colour).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::TENANT_CHANGE, &who).from(&origin).on(Thing::new("tenant", tenant)).within(tenant);
    state.audit.note(entry.with("title", new.title.clone()).with("colour", new.colour.clone())).await?;
    Ok(Tagged(new))
}

async fn brand_of(state: &ConsoleState, tenant: TenantId) -> Result<Branding, Problem> {
    let Tenant { title, colour, .. } = state.store.tenant(tenant).await?.ok_or_else(Problem::not_found)?;
    Ok(Branding { title, colour })
}

fn view(tenant: Tenant) -> TenantView {
    let Tenant { name, title, colour, second_factor, created, .. } = tenant;
    TenantView { name, title, colour, second_factor, created: Moment(created) }
}
