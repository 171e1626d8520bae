//! `/api/v1/devices` and `/api/v1/gateways`: what there is, and whether it is here now.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use linkspan_protocol::id::{DeviceName, GatewayName};
use linkspan_protocol::message::ServiceKind;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::{IntoParams, ToSchema};

use super::session::rfc3339;
use super::signed::Signed;
use super::{Asked, ConsoleState, Cursor, Kind, Limit, Named, Problem};
use crate::access::{Permission, Principal, Target};
use crate::edge::doors::Purpose;
use crate::porter::degrees;
use crate::store::{Device, Gateway, Search, StoreError};

/// Longest text that is searched for.
const TEXT_MAX: usize = 100;

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
    /// Words to group gateways by.
    pub tags: Vec<String>,
}

/// Which devices are shown.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DevicesWanted {
    /// With this in name, description, a tag, or the name of the gateway.
    #[param(max_length = 100)]
    q: Option<String>,
    /// With this tag.
    #[param(max_length = 100)]
    tag: Option<String>,
    /// Of this gateway alone.
    #[param(value_type = Option<String>)]
    gateway: Option<GatewayName>,
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// Which gateways are shown.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct GatewaysWanted {
    /// With this in the name.
    #[param(max_length = 100)]
    q: Option<String>,
    /// With this tag.
    #[param(max_length = 100)]
    tag: Option<String>,
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
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

/// The devices one may see, by name: all, or those that are looked for.
#[utoipa::path(get, path = "/api/v1/devices", params(DevicesWanted), responses((status = 200, body = Devices)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<DevicesWanted>,
) -> Result<Json<Devices>, Problem> {
    const LIST: &str = "devices";
    let mut search = search(asked.q, asked.tag)?;
    if let Some(name) = &asked.gateway {
        let found = state.store.gateway(name).await?.filter(|gateway| gateway.tenant == who.tenant);
        let Some(found) = found else { return Ok(Json(Devices { devices: Vec::new(), next: None })) };
        search.gateway = Some(found.id);
    }
    let limit = asked.limit.get();
    let mut after = Some(asked.cursor.map_or(Ok(String::new()), |cursor| cursor.key(LIST))?);
    let mut seen: Vec<Device> = Vec::new();
    while let Some(from) = after.filter(|_| seen.len() <= limit) {
        let (some, last) = state.store.devices_page(who.tenant, &search, &from).await?;
        seen.extend(some.into_iter().filter(|device| who.may(Permission::DeviceSee, &device.target())));
        after = last;
    }
    let next = (seen.len() > limit).then(|| Cursor::after(LIST, &seen[limit - 1].report.name));
    let devices = seen.iter().take(limit).map(|device| view(&state, &who, device)).collect();
    Ok(Json(Devices { devices, next }))
}

fn search(text: Option<String>, tag: Option<String>) -> Result<Search, Problem> {
    let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.chars().count() > TEXT_MAX);
    if long(&text) || long(&tag) {
        return Err(Problem::new(Kind::BadRequest, "What is searched for has at most 100 characters."));
    }
    Ok(Search { gateway: None, tag, text: text.filter(|text| !text.is_empty()) })
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

/// The gateways one may see, by name: all, or those that are looked for.
#[utoipa::path(get, path = "/api/v1/gateways", params(GatewaysWanted), responses((status = 200, body = Gateways)))]
pub(super) async fn gateways(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<GatewaysWanted>,
) -> Result<Json<Gateways>, Problem> {
    const LIST: &str = "gateways";
    let (search, limit) = (search(asked.q, asked.tag)?, asked.limit.get());
    let mut after = Some(asked.cursor.map_or(Ok(String::new()), |cursor| cursor.key(LIST))?);
    let sees = |gateway: &Gateway| who.may(Permission::GatewaySee, &Target::Gateway(gateway.tenant, gateway.id));
    let mut seen: Vec<Gateway> = Vec::new();
    while let Some(from) = after.filter(|_| seen.len() <= limit) {
        let (some, last) = state.store.gateways_page(who.tenant, &search, &from).await?;
        seen.extend(some.into_iter().filter(sees));
        after = last;
    }
    let next = (seen.len() > limit).then(|| Cursor::after(LIST, &seen[limit - 1].name));
    let mut tags = state.store.gateway_tags(who.tenant).await?;
    let gateways = seen.into_iter().take(limit).map(|gateway| {
        let here = (state.online)(gateway.id);
        GatewayView {
            name: gateway.name.to_string(),
            online: here.is_some(),
            since: here.or(gateway.last_seen),
            agent: gateway.agent,
            tags: tags.remove(&gateway.id).unwrap_or_default(),
        }
    });
    let gateways = gateways.collect();
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
