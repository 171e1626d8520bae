//! `/api/v1/provisioning-keys` and `/api/v1/enrolments`: keys for many routers, and the routers that wait for a decision.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use linkspan_protocol::id::GatewayName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rights::{Moment, PagedWithin, Within, place};
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, Named, Problem, Strict, page};
use crate::access::{Permission, Principal, Target};
use crate::audit::{Action, Entry, Target as Thing};
use crate::enrol::word::provisioning_key;
use crate::store::{Decided, Enrolment, EnrolmentId, ProvisioningKey};

/// How long a key is good, unless asked otherwise, in days.
const USUAL_DAYS: u32 = 30;

/// A key for many routers, without the key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyShown {
    name: String,
    /// How many routers it may bring.
    uses: u32,
    /// How many it has brought.
    used: u32,
    created: Moment,
    expires: Moment,
}

/// Keys.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    keys: Vec<KeyShown>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeySent {
    /// What people call it.
    #[schema(value_type = String)]
    name: GatewayName,
    /// How many routers it may bring.
    #[schema(minimum = 1, maximum = 100_000)]
    uses: u32,
    /// How long it is good, in days: up to 366.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 366)]
    days: Option<u32>,
}

/// A new key.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyMade {
    name: String,
    /// For `linkspan-gateway enroll URL - --name NAME`, on standard input; shown this once.
    key: String,
    expires: Moment,
}

/// A router that waits. Name, program and address are a stranger's words.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Waiting {
    id: String,
    /// The name it proposes.
    name: Option<String>,
    /// The key it came with.
    provisioning_key: String,
    /// The SHA-256 of its public key, to be compared with what the router shows.
    public_key: String,
    address: String,
    agent: String,
    created: Moment,
    /// When it last asked.
    seen: Moment,
}

/// Routers that wait.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Queue {
    enrolments: Vec<Waiting>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A router is accepted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Acceptance {
    /// The gateway's name, in place of the one that the router proposes.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    name: Option<GatewayName>,
}

/// The keys, by name.
#[utoipa::path(get, path = "/api/v1/provisioning-keys", params(PagedWithin), responses((status = 200, body = Keys)))]
pub(super) async fn keys(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Keys>, Problem> {
    let (within, paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::GatewayEdit).await?;
    let all = state.store.provisioning_keys().await?.into_iter().filter(|key| key.tenant == tenant);
    let (keys, next) = page("provisioning-keys", &paged, all.map(shown), |key| key.name.clone())?;
    Ok(Json(Keys { keys, next }))
}

/// One key.
#[utoipa::path(get, path = "/api/v1/provisioning-keys/{key}", params(("key" = String, Path), Within),
    responses((status = 200, body = KeyShown)))]
pub(super) async fn one_key(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<GatewayName>,
    Asked(within): Asked<Within>,
) -> Result<Json<KeyShown>, Problem> {
    let tenant = place(&state, &who, &within, Permission::GatewayEdit).await?;
    let mut all = state.store.provisioning_keys().await?.into_iter();
    let key = all.find(|key| key.tenant == tenant && key.name == name);
    key.map(|key| Json(shown(key))).ok_or_else(Problem::not_found)
}

/// Makes a key. Routers that show it wait until somebody accepts them.
#[utoipa::path(post, path = "/api/v1/provisioning-keys", params(Within), request_body = KeySent,
    responses((status = 201, body = KeyMade)))]
pub(super) async fn add_key(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Asked(within): Asked<Within>,
    Strict(new): Strict<KeySent>,
) -> Result<(StatusCode, Json<KeyMade>), Problem> {
    let (Signed(who), From(origin)) = by;
    let tenant = place(&state, &who, &within, Permission::GatewayEdit).await?;
    let days = new.days.unwrap_or(USUAL_DAYS);
    if !(1..=366).contains(&days) || !(1..=100_000).contains(&new.uses) {
        return Err(Problem::unprocessable("A key brings 1 to 100000 routers, and is good for 1 to 366 days."));
    }
    let (word, created) = (provisioning_key(), Timestamp::now());
    let life = Duration::from_hours(24 * u64::from(days));
    let expires = created.saturating_add(life).unwrap_or(Timestamp::MAX);
    let key = ProvisioningKey { tenant, name: new.name, uses: new.uses, used: 0, created, expires };
    if !state.store.add_provisioning_key(&key, &word).await? {
        return Err(Problem::conflict("There is a key of this name already."));
    }
    let entry =
        Entry::new(Action::KEY_ADD, &who).from(&origin).on(Thing::new("provisioning-key", &key.name)).within(tenant);
    state.audit.note(entry.with("uses", key.uses)).await?;
    let made = KeyMade { name: key.name.to_string(), key: word.expose().to_owned(), expires: Moment(expires) };
    Ok((StatusCode::CREATED, Json(made)))
}

/// Removes a key, and with it what waits in the queue for it. Gateways that were accepted stay.
#[utoipa::path(delete, path = "/api/v1/provisioning-keys/{key}", params(("key" = String, Path), Within),
    responses((status = 204)))]
pub(super) async fn remove_key(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<GatewayName>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let tenant = place(&state, &who, &within, Permission::GatewayEdit).await?;
    if !state.store.remove_provisioning_key(tenant, &name).await? {
        return Err(Problem::not_found());
    }
    let entry =
        Entry::new(Action::KEY_REMOVE, &who).from(&origin).on(Thing::new("provisioning-key", &name)).within(tenant);
    state.audit.note(entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The routers that wait for a decision, by their number.
#[utoipa::path(get, path = "/api/v1/enrolments", params(PagedWithin), responses((status = 200, body = Queue)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Queue>, Problem> {
    let (within, paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::GatewayEdit).await?;
    let mut all = state.store.enrolments().await?;
    all.retain(|one| one.tenant == tenant);
    all.sort_by_key(|one| key_of(one.id.number()));
    let (enrolments, next) = page("enrolments", &paged, all.into_iter().map(waiting), |one| one.id.clone())?;
    Ok(Json(Queue { enrolments, next }))
}

/// One router that waits.
#[utoipa::path(get, path = "/api/v1/enrolments/{enrolment}", params(("enrolment" = String, Path)),
    responses((status = 200, body = Waiting)))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(number): Named<i64>,
) -> Result<Json<Waiting>, Problem> {
    Ok(Json(waiting(theirs(&state, &who, number).await?)))
}

/// Makes a router a gateway; it hears so when it next asks.
#[utoipa::path(post, path = "/api/v1/enrolments/{enrolment}/accept", params(("enrolment" = String, Path)),
    request_body = Acceptance, responses((status = 204)))]
pub(super) async fn accept(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(number): Named<i64>,
    Strict(asked): Strict<Acceptance>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let one = theirs(&state, &who, number).await?;
    decided(state.store.accept_enrolment(one.id, asked.name.as_ref(), Timestamp::now()).await?)?;
    let name = asked.name.or(one.label).map(|name| name.to_string());
    let entry =
        Entry::new(Action::ENROLMENT_ACCEPT, &who).from(&origin).on(Thing::new("enrolment", number)).within(one.tenant);
    state.audit.note(entry.with("name", name).with("public_key", one.public_key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Turns a router away.
#[utoipa::path(post, path = "/api/v1/enrolments/{enrolment}/refuse", params(("enrolment" = String, Path)),
    responses((status = 204)))]
pub(super) async fn refuse(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(number): Named<i64>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let one = theirs(&state, &who, number).await?;
    decided(state.store.refuse_enrolment(one.id).await?)?;
    let entry =
        Entry::new(Action::ENROLMENT_REFUSE, &who).from(&origin).on(Thing::new("enrolment", number)).within(one.tenant);
    state.audit.note(entry.with("public_key", one.public_key)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The router that waits under this number, if it is theirs to decide. Others' do not exist.
async fn theirs(state: &ConsoleState, who: &Principal, number: i64) -> Result<Enrolment, Problem> {
    let id = EnrolmentId::from_number(number);
    let one = state.store.enrolments().await?.into_iter().find(|one| one.id == id);
    let may = |one: &Enrolment| who.may(Permission::GatewayEdit, &Target::Tenant(one.tenant));
    one.filter(may).ok_or_else(Problem::not_found)
}

fn decided(decided: Decided) -> Result<(), Problem> {
    match decided {
        Decided::Done => Ok(()),
        Decided::Nobody => Err(Problem::not_found()),
        Decided::NameTaken => Err(Problem::conflict("This name is taken on the server; give another one.")),
        Decided::NoName => Err(Problem::unprocessable("The router proposes no name; give it one.")),
    }
}

/// As a text, which no reader of JSON rounds, and which sorts like the number.
fn key_of(number: i64) -> String {
    format!("{number:020}")
}

fn shown(key: ProvisioningKey) -> KeyShown {
    KeyShown {
        name: key.name.to_string(),
        uses: key.uses,
        used: key.used,
        created: Moment(key.created),
        expires: Moment(key.expires),
    }
}

fn waiting(one: Enrolment) -> Waiting {
    Waiting {
        id: key_of(one.id.number()),
        name: one.label.map(|name| name.to_string()),
        provisioning_key: one.key.to_string(),
        public_key: one.public_key,
        address: one.address,
        agent: one.agent,
        created: Moment(one.created),
        seen: Moment(one.seen),
    }
}
