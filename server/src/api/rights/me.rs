//! `/api/v1/me`: who one is and what one may do, and which grant decides.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use linkspan_protocol::id::{DeviceName, GatewayName, ServiceName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::Signed;
use super::super::{ConsoleState, Problem, Strict};
use super::shapes::{Moment, ScopeSent, WhenSent};
use crate::access::{Permission, Principal, Target};
use crate::rights::{Denied, Given, GrantId};
use crate::store::UserKind;

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Me {
    /// The name; of a guest, that of the visit.
    name: String,
    kind: UserKind,
    /// The short name of the organisation.
    tenant: String,
    /// The role they have on everything, if they have one.
    role: Option<String>,
    /// What they may do now to everything in their organisation.
    #[schema(value_type = Vec<String>)]
    everywhere: crate::rights::PermissionSet,
    /// What they may do now to anything at all.
    #[schema(value_type = Vec<String>)]
    somewhere: crate::rights::PermissionSet,
    /// What they were given.
    grants: Vec<Mine>,
    /// When what they showed ends at the latest.
    expires: Moment,
}

/// Something one was given.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Mine {
    /// The grant; a visit gives without one.
    #[schema(value_type = Option<String>)]
    id: Option<GrantId>,
    /// The role's name.
    role: String,
    scope: ScopeSent,
    when: WhenSent,
    /// Whether it counts now.
    counts: bool,
}

/// Who one is, and what one may do.
#[utoipa::path(get, path = "/api/v1/me", responses((status = 200, body = Me)))]
pub(in crate::api) async fn show(State(state): State<ConsoleState>, Signed(who): Signed) -> Result<Json<Me>, Problem> {
    let now = Timestamp::now();
    let gateways = state.store.gateways().await?;
    let name = |id| Some(gateways.iter().find(|gateway| gateway.id == id)?.name.to_string());
    let mine = |given: &Given| Mine {
        id: given.grant,
        role: given.role.clone(),
        scope: ScopeSent::show(&given.scope, name),
        when: WhenSent::show(&given.when),
        counts: given.when.counts(now),
    };
    let tenant = state.store.tenant(who.tenant).await?.ok_or_else(Problem::not_found)?;
    Ok(Json(Me {
        kind: who.kind,
        tenant: tenant.name.to_string(),
        role: who.role().map(str::to_owned),
        everywhere: who.rights.everywhere(now),
        somewhere: who.rights.somewhere(now),
        grants: who.rights.given.iter().map(mine).collect(),
        expires: Moment(who.expires),
        name: who.name,
    }))
}

/// Whether one may do something.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Question {
    /// The permission.
    #[schema(value_type = String)]
    permission: Permission,
    /// On this device.
    #[schema(value_type = Option<String>)]
    device: Option<DeviceName>,
    /// On this service of the device.
    #[schema(value_type = Option<String>)]
    service: Option<ServiceName>,
    /// On this gateway.
    #[schema(value_type = Option<String>)]
    gateway: Option<GatewayName>,
}

/// The answer, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Answer {
    allowed: bool,
    /// The grant that decides.
    #[schema(value_type = Option<String>)]
    grant: Option<GrantId>,
    /// The role that it gives.
    role: Option<String>,
    /// Why not.
    because: Option<String>,
}

/// Whether one may do something, without doing it, and which grant decides. Without device and gateway: in one's
/// organisation in general.
#[utoipa::path(post, path = "/api/v1/me/may", request_body = Question, responses((status = 200, body = Answer)))]
pub(in crate::api) async fn may(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Strict(asked): Strict<Question>,
) -> Result<Json<Answer>, Problem> {
    let Question { permission, device, service, gateway } = asked;
    let nothing = || Json(denied(Denied::NoGrant));
    match (device, service, gateway) {
        (None, None, None) if Permission::ABOVE_TENANTS.has(permission) => {
            Ok(Json(decided(&who, permission, &Target::Server)))
        }
        (None, None, None) => Ok(Json(decided(&who, permission, &Target::Tenant(who.tenant)))),
        (Some(name), service, None) => {
            let Some(device) = state.store.device(&name).await? else { return Ok(nothing()) };
            let Some(name) = service else { return Ok(Json(decided(&who, permission, &device.target()))) };
            let found = device.report.services.iter().find(|service| service.name == name);
            Ok(found.map_or_else(nothing, |found| Json(decided(&who, permission, &device.service_target(found)))))
        }
        (None, None, Some(name)) => {
            let found = state.store.gateway(&name).await?;
            let target = found.map(|gateway| Target::Gateway(gateway.tenant, gateway.id));
            Ok(target.map_or_else(nothing, |target| Json(decided(&who, permission, &target))))
        }
        _ => Err(Problem::unprocessable("Ask about a device, about a service of a device, or about a gateway.")),
    }
}

fn decided(who: &Principal, permission: Permission, target: &Target<'_>) -> Answer {
    match who.rights.decide(permission, target, Timestamp::now()) {
        Ok(given) => Answer { allowed: true, grant: given.grant, role: Some(given.role.clone()), because: None },
        // What belongs to others looks like what is not there.
        Err(Denied::OtherTenant) => denied(Denied::NoGrant),
        Err(why) => denied(why),
    }
}

fn denied(why: Denied) -> Answer {
    let grant = if let Denied::NotNow(grant) = why { grant } else { None };
    Answer { allowed: false, grant, role: None, because: Some(why.to_string()) }
}
