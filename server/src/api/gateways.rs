//! `/api/v1/gateways/{gateway}`: how a gateway proves itself, and adding, revoking, replacing and removing gateways.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use linkspan_protocol::code::ClaimCode;
use linkspan_protocol::id::GatewayName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rights::{Moment, Within, place};
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Named, Problem, Strict};
use crate::access::{Permission, Principal, Target, gateway_secret};
use crate::audit::{Action, Entry, Target as Thing};
use crate::enrol::word::claim_code;
use crate::store::{Claim, Gateway};

/// How long a claim code is good, unless asked otherwise, in hours.
const USUAL_HOURS: u32 = 24;
/// The longest life of a claim code, in hours.
const MOST_HOURS: u32 = 24 * 31;

/// A gateway, with how it proves itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GatewayInFull {
    name: String,
    /// Whether it is connected.
    online: bool,
    /// Since when it is, or is not any more; null if it never was.
    since: Option<Moment>,
    /// Program and version, as it said itself.
    agent: Option<String>,
    created: Moment,
    /// Whether it has a shared secret.
    secret: bool,
    /// Since when nothing it has is accepted.
    revoked: Option<Moment>,
    /// The end of a claim code that waits for its router.
    claim_expires: Option<Moment>,
    /// Its certificates, the newest first.
    certificates: Vec<CertificateShown>,
}

/// A certificate of a gateway.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct CertificateShown {
    fingerprint: String,
    issued: Moment,
    expires: Moment,
    /// When a gateway first came in with it.
    used: Option<Moment>,
    /// Since when it no longer counts.
    retired: Option<Moment>,
}

/// A gateway to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GatewaySent {
    /// Unique on the server.
    #[schema(value_type = String)]
    name: GatewayName,
    /// A shared secret in place of a claim code.
    #[serde(default)]
    secret: bool,
    /// How long the claim code is good, in hours: up to 744.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 744)]
    hours: Option<u32>,
}

/// Another router for a gateway.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplaceSent {
    /// Ends the link of the router that is there now at once, not only when the new one has enrolled.
    #[serde(default)]
    now: bool,
    /// How long the claim code is good, in hours: up to 744.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 744)]
    hours: Option<u32>,
}

/// What a router proves itself with first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Proof {
    name: String,
    /// For `linkspan-gateway enroll URL CODE`; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    claim_code: Option<String>,
    /// For the gateway's `secret_file`; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// When the claim code ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<Moment>,
}

/// One gateway, with how it proves itself.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}", params(("gateway" = String, Path)),
    responses((status = 200, body = GatewayInFull)))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
) -> Result<Json<GatewayInFull>, Problem> {
    let gateway = found(&state, &who, &name, Permission::GatewaySee).await?;
    let identity = state.store.identity(&name).await?.ok_or_else(Problem::not_found)?;
    let here = (state.online)(gateway.id);
    let certificates = identity.certificates.into_iter().map(|one| CertificateShown {
        fingerprint: one.fingerprint,
        issued: Moment(one.issued),
        expires: Moment(one.expires),
        used: one.used.map(Moment),
        retired: one.retired.map(Moment),
    });
    Ok(Json(GatewayInFull {
        name: gateway.name.to_string(),
        online: here.is_some(),
        since: here.or(gateway.last_seen).map(Moment),
        agent: gateway.agent,
        created: Moment(gateway.created),
        secret: identity.secret,
        revoked: identity.revoked.map(Moment),
        claim_expires: identity.claim_expires.map(Moment),
        certificates: certificates.collect(),
    }))
}

/// Adds a gateway, and makes the claim code or the secret with which its router proves itself.
#[utoipa::path(post, path = "/api/v1/gateways", params(Within), request_body = GatewaySent,
    responses((status = 201, body = Proof)))]
pub(super) async fn add(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Asked(within): Asked<Within>,
    Strict(new): Strict<GatewaySent>,
) -> Result<(StatusCode, Json<Proof>), Problem> {
    let (Signed(who), From(origin)) = by;
    let tenant = place(&state, &who, &within, Permission::GatewayEdit).await?;
    let (added, proof) = if new.secret {
        let secret = gateway_secret();
        let added = state.store.add_gateway_to(tenant, &new.name, &secret).await?;
        let secret = Some(secret.expose().to_owned());
        (added, Proof { name: new.name.to_string(), claim_code: None, secret, expires: None })
    } else {
        let (code, created, expires) = fresh_code(new.hours)?;
        let claim = Claim { code: &code, created, expires };
        (state.store.add_gateway_to_claim(tenant, &new.name, claim).await?, proof(&new.name, &code, expires))
    };
    if added.is_none() {
        return Err(Problem::conflict("This name is taken on the server; choose another one."));
    }
    let entry = Entry::new(Action::GATEWAY_ADD, &who).from(&origin).on(Thing::gateway(&new.name)).within(tenant);
    state.audit.note(entry.with("by", if new.secret { "secret" } else { "claim code" })).await?;
    Ok((StatusCode::CREATED, Json(proof)))
}

/// Accepts nothing that the gateway has any more, and ends its link. Name, devices and history stay.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/revoke", params(("gateway" = String, Path)),
    responses((status = 204)))]
pub(super) async fn revoke(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    found(&state, &who, &name, Permission::GatewayEdit).await?;
    if !state.store.revoke_gateway(&name, Timestamp::now()).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::GATEWAY_REVOKE, &who).from(&origin).on(Thing::gateway(&name));
    state.audit.note(entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a claim code for another router that takes the gateway's place: name, devices and history stay.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/replace", params(("gateway" = String, Path)),
    request_body = ReplaceSent, responses((status = 201, body = Proof)))]
pub(super) async fn replace(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
    Strict(asked): Strict<ReplaceSent>,
) -> Result<(StatusCode, Json<Proof>), Problem> {
    let (Signed(who), From(origin)) = by;
    found(&state, &who, &name, Permission::GatewayEdit).await?;
    let (code, created, expires) = fresh_code(asked.hours)?;
    if !state.store.claim_again(&name, Claim { code: &code, created, expires }, asked.now).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::GATEWAY_REPLACE, &who).from(&origin).on(Thing::gateway(&name));
    state.audit.note(entry.with("at_once", asked.now)).await?;
    Ok((StatusCode::CREATED, Json(proof(&name, &code, expires))))
}

/// Removes a gateway and its devices.
#[utoipa::path(delete, path = "/api/v1/gateways/{gateway}", params(("gateway" = String, Path)),
    responses((status = 204)))]
pub(super) async fn remove(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    found(&state, &who, &name, Permission::GatewayEdit).await?;
    if !state.store.remove_gateway(&name).await? {
        return Err(Problem::not_found());
    }
    let entry = Entry::new(Action::GATEWAY_REMOVE, &who).from(&origin).on(Thing::gateway(&name));
    state.audit.note(entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The gateway, if they may do this with it. One that they may not see does not exist; to those that may, it is forbidden.
pub(super) async fn found(
    state: &ConsoleState,
    who: &Principal,
    name: &GatewayName,
    permission: Permission,
) -> Result<Gateway, Problem> {
    let gateway = state.store.gateway(name).await?;
    let gateway = gateway.ok_or_else(Problem::not_found)?;
    let target = Target::Gateway(gateway.tenant, gateway.id);
    match (who.may(permission, &target), who.may(Permission::GatewaySee, &target)) {
        (true, _) => Ok(gateway),
        (false, true) => Err(Problem::forbidden()),
        (false, false) => Err(Problem::not_found()),
    }
}

fn fresh_code(hours: Option<u32>) -> Result<(ClaimCode, Timestamp, Timestamp), Problem> {
    let hours = hours.unwrap_or(USUAL_HOURS);
    if !(1..=MOST_HOURS).contains(&hours) {
        return Err(Problem::unprocessable("A claim code is good for 1 to 744 hours."));
    }
    let code = claim_code().map_err(|_| Problem::internal("The system gives no random numbers."))?;
    let created = Timestamp::now();
    let life = std::time::Duration::from_hours(hours.into());
    Ok((code, created, created.saturating_add(life).unwrap_or(Timestamp::MAX)))
}

fn proof(name: &GatewayName, code: &ClaimCode, expires: Timestamp) -> Proof {
    let claim_code = Some(code.expose().to_string());
    Proof { name: name.to_string(), claim_code, secret: None, expires: Some(Moment(expires)) }
}
