//! `/api/v1/traffic` and a gateway's share of it: what was carried, by month, and the caps on it.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, IfMatch, Kind, Limit, Named, Paged, Problem, Strict, Tagged, page};
use crate::access::{Permission, Principal};
use crate::audit::{Action, Actor, Entry, Target as Audited};
use crate::rights::Target;
use crate::store::{By, DataCap, Gateway, Month, TrafficKey, TrafficQuery, TrafficSum};
use crate::traffic::Level;

/// What a gateway has used.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GatewayTraffic {
    gateway: String,
    /// The month: `2026-11`.
    month: String,
    /// Bytes used that count against the cap: the link's, with what streams have carried since the gateway last told.
    used: u64,
    /// `free`, `warned` or `reached`.
    level: &'static str,
    cap: CapView,
    /// As the gateway counts its link, all headers included; null from a gateway that does not.
    link: Option<LinkView>,
    /// As the server counts what streams carry.
    streams: SumView,
}

/// A gateway's link, as it counts itself.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LinkView {
    /// Bytes that the gateway sent.
    sent: u64,
    /// Bytes that it received.
    received: u64,
    /// When it last said so.
    #[schema(value_type = String, format = DateTime)]
    told: Timestamp,
}

/// Bytes and streams.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SumView {
    /// Bytes from devices.
    up: u64,
    /// Bytes to devices.
    down: u64,
    /// Streams that have ended.
    streams: u64,
}

/// A cap on the data of a month, in bytes both ways; null where there is none.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CapView {
    /// A warning is given from here on.
    #[serde(default)]
    warn: Option<u64>,
    /// No more is carried from here on.
    #[serde(default)]
    hard: Option<u64>,
    /// Until then, the second does not count.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    lifted_until: Option<Timestamp>,
}

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// A page.
    #[default]
    Json,
    /// A sheet of all.
    Csv,
}

/// What is asked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TrafficAsked {
    /// The first month, `2026-11`; the current one, unless said.
    from: Option<String>,
    /// The last month; the first, unless said.
    to: Option<String>,
    /// What rows are told apart by, beside the month: some of `gateway`, `device`, `service`, `person`, with commas.
    by: Option<String>,
    /// Only this gateway.
    gateway: Option<String>,
    /// Only this device.
    device: Option<String>,
    /// Only this person.
    person: Option<String>,
    /// `csv` for a sheet of all rows instead of a page of JSON.
    #[serde(default)]
    #[param(inline)]
    format: Form,
    /// How many entries at most.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// `next` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// A row: what is null was not asked to be told apart.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TrafficRow {
    month: String,
    gateway: Option<String>,
    device: Option<String>,
    service: Option<String>,
    person: Option<String>,
    /// Bytes from devices.
    up: u64,
    /// Bytes to devices.
    down: u64,
    /// Streams that have ended.
    streams: u64,
}

/// A page of rows.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TrafficRows {
    traffic: Vec<TrafficRow>,
    /// The `cursor` of the next page.
    #[schema(value_type = Option<String>)]
    next: Option<Cursor>,
}

/// What a gateway has used this month, and its cap.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/traffic", params(("gateway" = String, Path)),
    responses((status = 200, body = GatewayTraffic)))]
pub(super) async fn of_gateway(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
) -> Result<Json<GatewayTraffic>, Problem> {
    find(&state, &who, &name, Permission::TrafficSee).await?;
    let standing = state.traffic.standing(&name);
    let month = standing.month;
    let wanted = TrafficQuery {
        from: month,
        to: month,
        tenant: Some(who.tenant),
        gateway: Some(name.to_string()),
        device: None,
        person: None,
        by: By::default(),
    };
    let sums = state.store.traffic(&wanted).await?;
    let sum = sums.first().map(|(_, sum)| *sum).unwrap_or_default();
    let link = state.store.link_counts((month, month), Some(name.as_str())).await?;
    Ok(Json(GatewayTraffic {
        gateway: name.to_string(),
        month: month.to_string(),
        used: standing.used,
        level: level(standing.level),
        cap: view(&standing.cap),
        link: link.first().map(|(.., count)| LinkView { sent: count.sent, received: count.received, told: count.told }),
        streams: SumView { up: sum.up, down: sum.down, streams: sum.streams },
    }))
}

/// The cap on a gateway's data.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/cap", params(("gateway" = String, Path)),
    responses((status = 200, body = CapView, headers(("ETag" = String)))))]
pub(super) async fn cap(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
) -> Result<Tagged<CapView>, Problem> {
    find(&state, &who, &name, Permission::TrafficSee).await?;
    Ok(Tagged(kept(&state, &name).await?))
}

/// Sets the cap on a gateway's data, or lifts it for a time. With nothing in it, there is none.
#[utoipa::path(put, path = "/api/v1/gateways/{gateway}/cap", params(("gateway" = String, Path), IfMatch),
    request_body = CapView, responses((status = 200, body = CapView, headers(("ETag" = String)))))]
pub(super) async fn set_cap(
    State(state): State<ConsoleState>,
    asker: (Signed, From),
    Named(name): Named<GatewayName>,
    if_match: IfMatch,
    Strict(wish): Strict<CapView>,
) -> Result<Tagged<CapView>, Problem> {
    let (Signed(who), From(origin)) = asker;
    find(&state, &who, &name, Permission::TrafficEdit).await?;
    if let (Some(warn), Some(hard)) = (wish.warn, wish.hard)
        && warn > hard
    {
        return Err(Problem::unprocessable("`warn` is above `hard`, so it would never be reached."));
    }
    if_match.check(&kept(&state, &name).await?)?;
    let entry = Entry::new(Action::TRAFFIC_CAP, Actor::from(&who))
        .from(&origin)
        .on(Audited::gateway(&name))
        .with("warn", wish.warn)
        .with("hard", wish.hard)
        .with("lifted_until", wish.lifted_until.map(|until| until.to_string()));
    state.audit.note(entry).await?;
    let cap = DataCap { warn: wish.warn, hard: wish.hard, lifted_until: wish.lifted_until };
    if !state.store.set_data_cap(&name, &cap).await? {
        return Err(Problem::not_found());
    }
    state.traffic.read_caps(&state.store).await;
    Ok(Tagged(kept(&state, &name).await?))
}

/// What was carried, summed up as asked for: pages of JSON, or a sheet.
#[utoipa::path(get, path = "/api/v1/traffic", params(TrafficAsked), responses(
    (status = 200, description = "A page, or a sheet.", content((TrafficRows = "application/json"), (String = "text/csv"))),
))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<TrafficAsked>,
) -> Result<Response, Problem> {
    let wanted = wanted(&state, &who, &asked).await?;
    let rows = state.store.traffic(&wanted).await?;
    let rows = rows.iter().map(|(key, sum)| row(key, *sum, wanted.by));
    match asked.format {
        Form::Json => {
            let paged = Paged { limit: asked.limit, cursor: asked.cursor };
            let (traffic, next) = page("traffic", &paged, rows, order)?;
            Ok(Json(TrafficRows { traffic, next }).into_response())
        }
        Form::Csv => Ok(sheet(rows)),
    }
}

/// Whoever may see the traffic of single gateways only must say which.
async fn wanted(state: &ConsoleState, who: &Principal, asked: &TrafficAsked) -> Result<TrafficQuery, Problem> {
    if !who.may_here(Permission::TrafficSee) {
        let Some(name) = &asked.gateway else {
            return Err(Problem::new(Kind::Forbidden, "You may see the traffic of single gateways: name one."));
        };
        let name = name.parse().map_err(|_| Problem::not_found())?;
        find(state, who, &name, Permission::TrafficSee).await?;
    }
    let month = |text: &Option<String>, otherwise| match text {
        Some(text) => text.parse::<Month>().map_err(|error| Problem::new(Kind::BadRequest, format!("{error}."))),
        None => Ok(otherwise),
    };
    let from = month(&asked.from, state.traffic.month_now())?;
    Ok(TrafficQuery {
        from,
        to: month(&asked.to, from)?,
        tenant: Some(who.tenant),
        gateway: asked.gateway.clone(),
        device: asked.device.clone(),
        person: asked.person.clone(),
        by: by(asked.by.as_deref().unwrap_or("gateway"))?,
    })
}

fn by(words: &str) -> Result<By, Problem> {
    let mut by = By::default();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        let flag = match word {
            "gateway" => &mut by.gateway,
            "device" => &mut by.device,
            "service" => &mut by.service,
            "person" => &mut by.person,
            _ => {
                let all = "`by` is made of `gateway`, `device`, `service` and `person`, with commas.";
                return Err(Problem::new(Kind::BadRequest, all));
            }
        };
        *flag = true;
    }
    Ok(by)
}

/// The gateway, if they may do this to it. One that they may not see does not exist; to those that may, it is forbidden.
async fn find(
    state: &ConsoleState,
    who: &Principal,
    name: &GatewayName,
    permission: Permission,
) -> Result<Gateway, Problem> {
    let all = state.store.gateways().await?;
    let found = all.into_iter().find(|gateway| gateway.name == *name && gateway.tenant == who.tenant);
    let found = found.ok_or_else(Problem::not_found)?;
    let target = Target::Gateway(found.tenant, found.id);
    let sees =
        [Permission::GatewaySee, Permission::TrafficSee].into_iter().any(|permission| who.may(permission, &target));
    match (who.may(permission, &target), sees) {
        (true, _) => Ok(found),
        (false, true) => Err(Problem::forbidden()),
        (false, false) => Err(Problem::not_found()),
    }
}

async fn kept(state: &ConsoleState, name: &GatewayName) -> Result<CapView, Problem> {
    let caps = state.store.data_caps().await?;
    let cap = caps.into_iter().find(|(of, _)| of == name).map(|(_, cap)| cap).unwrap_or_default();
    Ok(view(&cap))
}

fn view(cap: &DataCap) -> CapView {
    CapView { warn: cap.warn, hard: cap.hard, lifted_until: cap.lifted_until }
}

fn level(level: Level) -> &'static str {
    match level {
        Level::Free => "free",
        Level::Warned => "warned",
        Level::Reached => "reached",
    }
}

fn row(key: &TrafficKey, sum: TrafficSum, by: By) -> TrafficRow {
    let told = |text: &String, wanted: bool| wanted.then(|| text.clone());
    TrafficRow {
        month: key.month.to_string(),
        gateway: told(&key.gateway, by.gateway),
        device: told(&key.device, by.device),
        service: told(&key.service, by.service),
        person: told(&key.person, by.person),
        up: sum.up,
        down: sum.down,
        streams: sum.streams,
    }
}

/// A text by which rows are in the order in which the database gives them.
fn order(row: &TrafficRow) -> String {
    let parts = [&row.gateway, &row.device, &row.service, &row.person].map(|part| part.as_deref().unwrap_or_default());
    format!("{}\0{}", row.month, parts.join("\0"))
}

fn sheet(rows: impl Iterator<Item = TrafficRow>) -> Response {
    let mut text = String::from("month,gateway,device,service,person,up,down,streams\r\n");
    for row in rows {
        let names = [&row.gateway, &row.device, &row.service, &row.person];
        let names = names.map(|name| cell(name.as_deref().unwrap_or_default()));
        text += &format!("{},{},{},{},{}\r\n", row.month, names.join(","), row.up, row.down, row.streams);
    }
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (CONTENT_DISPOSITION, "attachment; filename=\"traffic.csv\""),
    ];
    (headers, text).into_response()
}

/// A text that a spreadsheet takes for a text (RFC 4180; a leading sign would begin a formula).
fn cell(text: &str) -> String {
    let sign = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if sign.is_empty() && !text.contains([',', '"', '\r', '\n']) {
        return text.to_owned();
    }
    format!("\"{sign}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_holds_no_formulas_and_no_broken_lines() {
        assert_eq!(cell("anna"), "anna");
        assert_eq!(cell("=1+1"), "\"'=1+1\"");
        assert_eq!(cell("a,\"b\"\r\n"), "\"a,\"\"b\"\"\r\n\"");
    }

    #[test]
    fn what_rows_are_told_apart_by() {
        assert_eq!(by("").unwrap(), By::default());
        assert_eq!(by("device,person").unwrap(), By { device: true, person: true, ..By::default() });
        assert!(by("device;person").is_err());
    }
}
