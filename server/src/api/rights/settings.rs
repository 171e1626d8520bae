//! `/api/v1/settings`: what an organisation asks of its people.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, IfMatch, Problem, Strict, Tagged};
use super::{Within, place};
use crate::access::Permission;
use crate::audit::{Action, Entry, Target as Thing};
use crate::rights::TenantId;

/// Whether everybody signs in with a second factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(in crate::api) enum Want {
    /// From their next sign-in on.
    Required,
    /// Who likes; what the server's configuration requires is required in any case.
    Optional,
}

/// What an organisation asks of its people.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Settings {
    second_factor: Want,
}

/// What the organisation asks of its people.
#[utoipa::path(get, path = "/api/v1/settings", params(Within),
    responses((status = 200, body = Settings, headers(("ETag" = String)))))]
pub(in crate::api) async fn show(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(within): Asked<Within>,
) -> Result<Tagged<Settings>, Problem> {
    let tenant = place(&state, &who, &within, Permission::SettingsSee).await?;
    kept(&state, tenant).await.map(Tagged)
}

/// Changes what the organisation asks of its people.
#[utoipa::path(put, path = "/api/v1/settings", params(IfMatch, Within), request_body = Settings,
    responses((status = 200, body = Settings, headers(("ETag" = String)))))]
pub(in crate::api) async fn change(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (IfMatch, Asked<Within>),
    Strict(new): Strict<Settings>,
) -> Result<Tagged<Settings>, Problem> {
    let ((Signed(who), From(origin)), (if_match, Asked(within))) = (by, at);
    let tenant = place(&state, &who, &within, Permission::SettingsEdit).await?;
    if_match.check(&kept(&state, tenant).await?)?;
    state.store.require_second_factor(tenant, new.second_factor == Want::Required).await?;
    let word = serde_json::to_value(new.second_factor).unwrap_or_default();
    let entry = Entry::new(Action::TENANT_CHANGE, &who).from(&origin).on(Thing::new("tenant", tenant)).within(tenant);
    state.audit.note(entry.with("second_factor", word)).await?;
    Ok(Tagged(new))
}

async fn kept(state: &ConsoleState, tenant: TenantId) -> Result<Settings, Problem> {
    let required = state.store.requires_second_factor(tenant).await?;
    Ok(Settings { second_factor: if required { Want::Required } else { Want::Optional } })
}
