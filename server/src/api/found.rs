//! `/api/v1/discovered`: what gateways have found on their LANs, and what is decided about it.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use linkspan_protocol::discovery::{TARGETS_MAX, suggest};
use linkspan_protocol::id::GatewayName;
use linkspan_protocol::message::ServerToGateway;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::Kind;
use super::rights::{Moment, Within, place};
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, Limit, Named, Problem, Strict};
use crate::access::{Permission, Principal, Target};
use crate::audit::{Action, Entry, Target as Thing};
use crate::store::{Found, FoundSearch, FoundState, TenantName};

/// The list's name in cursors.
const LIST: &str = "discovered";
/// Longest text that is searched for.
const TEXT_MAX: usize = 100;

/// What was decided about a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Decision {
    /// Nothing yet.
    New,
    /// It is not to be published.
    Ignored,
    /// It is published, or on its way to be.
    Approved,
}

/// A device that a gateway has found. All names and texts are a stranger's words.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundView {
    id: String,
    gateway: String,
    /// What the gateway knows it by: `mac:…`, `id:…` or `ip:…`.
    key: String,
    state: Decision,
    /// The device that it was approved as.
    device: Option<String>,
    /// Its names, the best one first.
    names: Vec<String>,
    /// Its addresses, the most useful one first.
    addresses: Vec<String>,
    /// Who registered its Ethernet address.
    vendor: Option<String>,
    /// Maker and model, as it says itself.
    about: String,
    /// Who told of it: `lease`, `mdns`, `neighbour`, `ssdp`, `ws-discovery`, `identify`.
    sources: Vec<String>,
    services: Vec<ServiceFound>,
    /// What could be published.
    suggested: Vec<ServiceWanted>,
    /// Whether it was there when the gateway last told.
    present: bool,
    first_seen: Moment,
    last_seen: Moment,
    /// Others that are parts of it.
    parts: Vec<String>,
}

/// What a device offers.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServiceFound {
    /// In the form of DNS-SD: `_http._tcp`.
    kind: String,
    port: u16,
    /// What it calls itself.
    text: String,
}

/// A service to be published.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceWanted {
    /// Unique within the device.
    pub(super) name: String,
    /// What is spoken there: `http`, `https`, `ssh`, `vnc`, `rdp` or `tcp`.
    pub(super) kind: String,
    /// The TCP port.
    #[schema(minimum = 1)]
    pub(super) port: u16,
}

/// Devices that were found.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct FoundList {
    discovered: Vec<FoundView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// Which are shown.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// Of this gateway alone.
    #[param(value_type = Option<String>)]
    gateway: Option<GatewayName>,
    /// In this state alone.
    #[param(inline)]
    state: Option<Decision>,
    /// With this in names, addresses, vendor or key.
    #[param(max_length = 100)]
    q: Option<String>,
    /// The short name of the organisation, for those who stand above all; otherwise one's own.
    #[param(value_type = Option<String>)]
    tenant: Option<TenantName>,
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// Which one it is a part of.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MergeSent {
    /// The identity of the other one, of the same gateway; null makes it a device of its own again.
    into: Option<String>,
}

/// What is to be looked at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IdentifySent {
    /// Keys of devices that were found, addresses, and networks of up to 256 addresses, on the gateway's LAN.
    #[schema(min_items = 1, max_items = 256)]
    targets: Vec<String>,
}

/// A request that a gateway was given.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Asking {
    /// Named in the event `gateway.identified`.
    request: String,
}

/// What gateways have found, by identity; parts are shown with what they are a part of.
#[utoipa::path(get, path = "/api/v1/discovered", params(Wanted), responses((status = 200, body = FoundList)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<Wanted>,
) -> Result<Json<FoundList>, Problem> {
    let tenant = match &asked.tenant {
        Some(name) => place(&state, &who, &Within::of(name.clone()), Permission::GatewaySee).await?,
        None => who.tenant,
    };
    if asked.q.as_ref().is_some_and(|text| text.chars().count() > TEXT_MAX) {
        return Err(Problem::new(Kind::BadRequest, "What is searched for has at most 100 characters."));
    }
    let mut search = FoundSearch { gateway: None, state: asked.state.map(Decision::kept), text: asked.q };
    if let Some(name) = &asked.gateway {
        let all = state.store.gateways().await?;
        let Some(found) = all.into_iter().find(|gateway| gateway.name == *name && gateway.tenant == tenant) else {
            return Ok(Json(FoundList { discovered: Vec::new(), next: None }));
        };
        search.gateway = Some(found.id);
    }
    let mut after = match &asked.cursor {
        Some(cursor) => cursor.key(LIST)?.parse().map_err(|_| super::paging::foreign())?,
        None => -1,
    };
    let (limit, mut page, mut more) = (asked.limit.get(), Vec::new(), true);
    while more && page.len() <= limit {
        let (rows, further) = state.store.found(tenant, &search, after).await?;
        after = rows.last().map_or(after, |row| row.id);
        more = further;
        page.extend(rows.into_iter().filter(|one| sees(&who, one)));
    }
    let next = (page.len() > limit).then(|| Cursor::after(LIST, &page[limit - 1].id));
    page.truncate(limit);
    let parts = state.store.found_parts(page.iter().map(|one| one.id)).await?;
    let discovered = page.into_iter().map(|one| view(&state, one, &parts)).collect();
    Ok(Json(FoundList { discovered, next }))
}

/// One device that was found.
#[utoipa::path(get, path = "/api/v1/discovered/{found}", params(("found" = String, Path)),
    responses((status = 200, body = FoundView)))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(id): Named<i64>,
) -> Result<Json<FoundView>, Problem> {
    let found = theirs(&state, &who, id, Permission::GatewaySee).await?;
    let parts = state.store.found_parts([found.id].into_iter()).await?;
    Ok(Json(view(&state, found, &parts)))
}

/// Notes that a device is not to be published. It is shown no more among the new ones; what is published of it stays.
#[utoipa::path(post, path = "/api/v1/discovered/{found}/ignore", params(("found" = String, Path)),
    responses((status = 204)))]
pub(super) async fn ignore(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    decide(&state, by, id, FoundState::Ignored).await
}

/// Takes back what was decided about a device: it is new again. What is published of it stays.
#[utoipa::path(post, path = "/api/v1/discovered/{found}/reset", params(("found" = String, Path)),
    responses((status = 204)))]
pub(super) async fn reset(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<i64>,
) -> Result<StatusCode, Problem> {
    decide(&state, by, id, FoundState::New).await
}

/// Makes a device a part of another that the same gateway has found: two ports of one machine.
#[utoipa::path(post, path = "/api/v1/discovered/{found}/merge", params(("found" = String, Path)),
    request_body = MergeSent, responses((status = 204)))]
pub(super) async fn merge(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<i64>,
    Strict(sent): Strict<MergeSent>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let found = theirs(&state, &who, id, Permission::DeviceEdit).await?;
    let into = match &sent.into {
        Some(other) => {
            let other = other.parse().map_err(|_| Problem::unprocessable("There is no such device to merge into."))?;
            Some(theirs(&state, &who, other, Permission::DeviceEdit).await?.id)
        }
        None => None,
    };
    if !state.store.merge_found(id, into).await? {
        return Err(Problem::conflict(
            "It can be a part only of another device of the same gateway that is no part itself.",
        ));
    }
    let entry = entry(Action::DISCOVERED_MERGE, &who, &found).from(&origin);
    state.audit.note(entry.with("into", sent.into)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks a gateway to look closer, by connections to the usual ports, one after the other. What it finds shows in the list; the
/// event `gateway.identified` tells when it is done. Some controllers do not bear to be looked at so.
#[utoipa::path(post, path = "/api/v1/gateways/{gateway}/identify", params(("gateway" = String, Path)),
    request_body = IdentifySent, responses((status = 202, body = Asking)))]
pub(super) async fn identify(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
    Strict(sent): Strict<IdentifySent>,
) -> Result<(StatusCode, Json<Asking>), Problem> {
    let (Signed(who), From(origin)) = by;
    let gateway = super::gateways::found(&state, &who, &name, Permission::DeviceEdit).await?;
    if !(1..=TARGETS_MAX).contains(&sent.targets.len()) || sent.targets.iter().any(|text| text.len() > TEXT_MAX) {
        return Err(Problem::unprocessable("Name from 1 to 256 targets of at most 100 bytes."));
    }
    let request = fresh_request()?;
    let entry = Entry::new(Action::GATEWAY_IDENTIFY, &who).from(&origin).on(Thing::gateway(&name));
    // Written down before it is done: it touches machines.
    state.audit.note(entry.with("targets", sent.targets.join(", "))).await?;
    if !(state.tell)(gateway.id, &ServerToGateway::Identify { request, targets: sent.targets }) {
        return Err(Problem::conflict("The gateway is not connected; ask again when it is."));
    }
    Ok((StatusCode::ACCEPTED, Json(Asking { request: request.to_string() })))
}

fn fresh_request() -> Result<u64, Problem> {
    let number = getrandom::u64().map_err(|_| Problem::internal("The system gives no random numbers."))?;
    // Readers of JSON keep so many digits.
    Ok(number >> 12)
}

async fn decide(
    state: &ConsoleState,
    (Signed(who), From(origin)): (Signed, From),
    id: i64,
    decided: FoundState,
) -> Result<StatusCode, Problem> {
    let found = theirs(state, &who, id, Permission::DeviceEdit).await?;
    if !state.store.decide_found(id, decided, None).await? {
        return Err(Problem::not_found());
    }
    let action = if decided == FoundState::New { Action::DISCOVERED_RESET } else { Action::DISCOVERED_IGNORE };
    state.audit.note(entry(action, &who, &found).from(&origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn entry(action: Action, who: &Principal, found: &Found) -> Entry {
    let entry = Entry::new(action, who).on(Thing::gateway(&found.gateway_name));
    entry.with("key", found.report.key.clone()).with("name", found.report.names.first().cloned())
}

/// The one of this identity, if it is theirs to do this with. Others' do not exist; to those that see it, it is forbidden.
pub(super) async fn theirs(
    state: &ConsoleState,
    who: &Principal,
    id: i64,
    permission: Permission,
) -> Result<Found, Problem> {
    let found = state.store.found_one(id).await?.filter(|one| sees(who, one)).ok_or_else(Problem::not_found)?;
    match who.may(permission, &Target::Gateway(found.tenant, found.gateway)) {
        true => Ok(found),
        false => Err(Problem::forbidden()),
    }
}

fn sees(who: &Principal, found: &Found) -> bool {
    who.may(Permission::GatewaySee, &Target::Gateway(found.tenant, found.gateway))
}

/// With what its parts add to it; there may be others' among them.
fn view(state: &ConsoleState, found: Found, parts: &[Found]) -> FoundView {
    let here = (state.online)(found.gateway).is_some();
    let vendor = state.vendors.of(&found.report).map(str::to_owned);
    let parts: Vec<_> = parts.iter().filter(|part| part.part_of == Some(found.id)).collect();
    let last_seen = if found.report.present && here { Timestamp::now() } else { found.last_seen };
    let mut report = found.report;
    for part in &parts {
        let also = part.report.clone();
        report.names.extend(also.names);
        report.addresses.extend(also.addresses);
        report.services.extend(also.services);
        report.present |= also.present;
    }
    let suggested = suggest(&report.services).into_iter().map(|one| ServiceWanted {
        name: one.name,
        kind: one.kind.as_str().to_owned(),
        port: one.port,
    });
    let services = report.services.iter();
    let services = services.map(|one| ServiceFound { kind: one.kind.clone(), port: one.port, text: one.text.clone() });
    FoundView {
        id: found.id.to_string(),
        gateway: found.gateway_name.to_string(),
        state: Decision::shown(found.state),
        device: found.device.map(|name| name.to_string()),
        vendor,
        suggested: suggested.collect(),
        services: services.collect(),
        key: report.key,
        names: report.names,
        addresses: report.addresses,
        about: report.about,
        sources: report.sources,
        present: report.present,
        first_seen: Moment(found.first_seen),
        last_seen: Moment(last_seen),
        parts: parts.iter().map(|part| part.id.to_string()).collect(),
    }
}

impl Decision {
    fn kept(self) -> FoundState {
        match self {
            Self::New => FoundState::New,
            Self::Ignored => FoundState::Ignored,
            Self::Approved => FoundState::Approved,
        }
    }

    fn shown(state: FoundState) -> Self {
        match state {
            FoundState::New => Self::New,
            FoundState::Ignored => Self::Ignored,
            FoundState::Approved => Self::Approved,
        }
    }
}
