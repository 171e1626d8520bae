//! `/api/v1/devices` and `/api/v1/gateways`: what there is, and whether it is here now.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use linkspan_protocol::id::DeviceName;
use linkspan_protocol::message::ServiceKind;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::session::rfc3339;
use super::signed::Signed;
use super::{Asked, ConsoleState, Cursor, Named, Paged, Problem, page};
use crate::access::{Permission, Principal, Target};
use crate::edge::doors::Purpose;
use crate::porter::degrees;
use crate::store::{Device, StoreError};

/// A device as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct DeviceView {
    /// The name; its first web service is at `https://NAME.ZONE/`.
    pub name: String,
    /// For people.
    pub description: String,
    /// Free words to group devices by.
    pub tags: Vec<String>,
    /// The gateway it stands behind.
    pub gateway: String,
    /// Whether that gateway is connected.
    pub online: bool,
    /// Since when it is, or is not any more; null if it never was.
    #[serde(serialize_with = "maybe_rfc3339")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// What can be reached on it.
    pub services: Vec<ServiceView>,
}

/// A service as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ServiceView {
    /// The name.
    pub name: String,
    /// What is spoken there.
    pub kind: String,
    /// The port on the device.
    pub port: u16,
    /// The page, where it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// What one may do with it now: `use`, `look` or `no`.
    pub may: &'static str,
}

/// A gateway as it is shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct GatewayView {
    /// The name.
    pub name: String,
    /// Whether it is connected.
    pub online: bool,
    /// Since when it is, or is not any more; null if it never was.
    #[serde(serialize_with = "maybe_rfc3339")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Program and version, as it said itself.
    pub agent: Option<String>,
}

/// Devices one may see.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Devices {
    devices: Vec<DeviceView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// Gateways.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Gateways {
    gateways: Vec<GatewayView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// All devices one may see, by name.
#[utoipa::path(get, path = "/api/v1/devices", params(Paged), responses((status = 200, body = Devices)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Devices>, Problem> {
    let all = visible(&state, &who).await?;
    let (devices, next) = page("devices", &asked, all, |device| device.name.clone())?;
    Ok(Json(Devices { devices, next }))
}

/// One device. One that may not be seen does not exist.
#[utoipa::path(get, path = "/api/v1/devices/{device}", params(("device" = String, Path)),
    responses((status = 200, body = DeviceView)))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<DeviceName>,
) -> Result<Json<DeviceView>, Problem> {
    let device = state.store.device(&name).await?;
    let device = device.filter(|device| who.may(Permission::DeviceSee, &device.target()));
    device.map(|device| Json(view(&state, &who, &device))).ok_or_else(Problem::not_found)
}

/// The gateways one may see, by name.
#[utoipa::path(get, path = "/api/v1/gateways", params(Paged), responses((status = 200, body = Gateways)))]
pub(super) async fn gateways(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Paged>,
) -> Result<Json<Gateways>, Problem> {
    let all = state.store.gateways().await?.into_iter();
    let seen = all
        .filter(|gateway| gateway.tenant == who.tenant)
        .filter(|gateway| who.may(Permission::GatewaySee, &Target::Gateway(gateway.tenant, gateway.id)));
    let all = seen.map(|gateway| {
        let here = (state.online)(gateway.id);
        let since = here.or(gateway.last_seen);
        GatewayView { name: gateway.name.to_string(), online: here.is_some(), since, agent: gateway.agent }
    });
    let (gateways, next) = page("gateways", &asked, all, |gateway| gateway.name.clone())?;
    Ok(Json(Gateways { gateways, next }))
}

/// All devices that somebody may see.
pub(super) async fn visible(state: &ConsoleState, who: &Principal) -> Result<Vec<DeviceView>, StoreError> {
    let devices = state.store.devices().await?;
    let seen = devices.iter().filter(|device| who.may(Permission::DeviceSee, &device.target()));
    Ok(seen.map(|device| view(state, who, device)).collect())
}

fn view(state: &ConsoleState, who: &Principal, device: &Device) -> DeviceView {
    let here = (state.online)(device.gateway);
    let name = device.report.name.as_str();
    let mut first_page = true;
    let services = device.report.services.iter().filter_map(|service| {
        let url = service.kind.is_web().then(|| {
            let first = std::mem::replace(&mut first_page, false);
            let label = if first { name.to_owned() } else { format!("{name}--{}", service.name) };
            format!("{}/", state.site.origin_of(&label))
        });
        let view = ServiceView {
            name: service.name.to_string(),
            kind: service.kind.as_str().to_owned(),
            port: service.port,
            url,
            may: may(who, &device.service_target(service), service.kind),
        };
        who.may(Permission::DeviceSee, &device.service_target(service)).then_some(view)
    });
    DeviceView {
        services: services.collect(),
        name: name.to_owned(),
        description: device.report.description.clone(),
        tags: device.report.tags.clone(),
        gateway: device.gateway_name.to_string(),
        online: here.is_some(),
        since: here.or(device.last_seen),
    }
}

/// `use`, `look` or `no`: what somebody may do with a service now.
fn may(who: &Principal, target: &Target<'_>, kind: ServiceKind) -> &'static str {
    let purpose = if kind.is_web() { Purpose::Page } else { Purpose::Stream };
    match degrees(purpose, kind).iter().position(|permission| who.may(*permission, target)) {
        Some(0) => "use",
        Some(_) => "look",
        None => "no",
    }
}

fn maybe_rfc3339<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => rfc3339(time, serializer),
        None => serializer.serialize_none(),
    }
}
