//! `/api/v1/programs` and `/api/v1/updates`: other versions of the gateways' program, and their way there, some at a time.

use axum::Json;
use axum::extract::State;
use data_encoding::BASE64;
use http::StatusCode;
use linkspan_protocol::id::GatewayName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::configs::check_comment;
use super::gateways::found;
use super::rights::Moment;
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, Kind, Named, Paged, Problem, Strict, page};
use crate::access::{Permission, Principal, Target};
use crate::audit::{Action, Entry, Target as Thing};
use crate::store::{NewUpdate, Program, Update, Updated};
use crate::updates::{DEADLINE, DEADLINES, NotAdded, RATE, RATES};

/// Gateways of one update.
const MEMBERS_MAX: usize = 2000;

/// A program for gateways.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProgramView {
    id: String,
    version: String,
    /// What it was built for, as Rust calls it.
    target: String,
    size: u64,
    sha256: String,
    author: String,
    at: Moment,
}

/// The programs that the server keeps, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ProgramsView {
    /// The public key that they must be signed with; null if the server has none, and takes no program.
    key: Option<String>,
    programs: Vec<ProgramView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A program to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ProgramSent {
    /// The bundle in base64: signature, head, an empty line, program.
    #[schema(max_length = 22_400_000)]
    bundle: String,
}

/// A version on its way to gateways.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpdateView {
    id: String,
    version: String,
    author: String,
    at: Moment,
    comment: String,
    /// Gateways at a time.
    wave: i64,
    /// Bytes per second to each.
    rate: u32,
    deadline_s: u64,
    /// `running`, `done`, or `stopped`: nobody gets it any more who has not begun.
    state: String,
    /// Why it was stopped.
    reason: Option<String>,
    /// Its gateways; not in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<UpdatedView>>,
}

/// How one gateway fares.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpdatedView {
    gateway: String,
    /// `waiting`, `ready` (it gets it as soon as it is here), `sent` (it fetches or tries it), `kept`, `failed` or `skipped`.
    state: &'static str,
    /// Bytes of the program that are there.
    loaded: u64,
    /// Of so many; 0 as long as it was not offered.
    size: u64,
    /// The check that failed: `policy`, `program`, `signature`, `target`, `version`, `disk`, `hash`, `start` or `link`.
    check: Option<String>,
    detail: Option<String>,
    at: Moment,
}

/// Updates, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpdatesView {
    updates: Vec<UpdateView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// An update to be begun.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateSent {
    version: String,
    /// They get it in this order.
    #[schema(value_type = Vec<String>)]
    gateways: Vec<GatewayName>,
    /// Gateways at a time; it stops at the first that fails.
    #[schema(minimum = 1)]
    wave: u16,
    /// Bytes per second to each gateway: 65536, if not said.
    #[serde(default)]
    #[schema(minimum = 1024, maximum = 16_777_216)]
    rate: Option<u32>,
    /// Seconds within which the new program must have a link: 120, if not said.
    #[serde(default)]
    #[schema(minimum = 5, maximum = 3600)]
    deadline_s: Option<u64>,
    #[serde(default)]
    comment: String,
}

/// An update that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UpdateBegun {
    /// Its id.
    update: String,
}

/// The programs that the server keeps.
#[utoipa::path(get, path = "/api/v1/programs", params(Paged), responses((status = 200, body = ProgramsView)))]
pub(super) async fn programs(
    State(state): State<ConsoleState>,
    _: Signed,
    Asked(paged): Asked<Paged>,
) -> Result<Json<ProgramsView>, Problem> {
    // One that cannot be read is told to whoever adds a program.
    let key = state.programs.key().ok().flatten().map(|key| key.to_string());
    let mut all = state.store.programs().await?;
    all.sort_by_cached_key(|program| newest_first(program.at, program.id));
    let (programs, next) = page("programs", &paged, all, |program| newest_first(program.at, program.id))?;
    Ok(Json(ProgramsView { key, programs: programs.into_iter().map(program_view).collect(), next }))
}

/// Keeps a signed program.
#[utoipa::path(post, path = "/api/v1/programs", request_body = ProgramSent, responses((status = 201, body = ProgramView)))]
pub(super) async fn add_program(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(sent): Strict<ProgramSent>,
) -> Result<(StatusCode, Json<ProgramView>), Problem> {
    let (Signed(who), From(origin)) = by;
    let bundle = BASE64.decode(sent.bundle.as_bytes());
    let bundle = bundle.map_err(|_| Problem::unprocessable("`bundle` is not base64."))?;
    let program = state.programs.add(&bundle, &who.name).await.map_err(not_added)?;
    let entry = Entry::new(Action::UPDATE_ADD, &who).from(&origin).on(Thing::new("program", &program.sha256));
    let entry = entry.with("version", program.version.as_str()).with("target", program.target.as_str());
    state.audit.note(entry).await?;
    Ok((StatusCode::CREATED, Json(program_view(program))))
}

/// Removes a program.
#[utoipa::path(delete, path = "/api/v1/programs/{program}", params(("program" = String, Path)),
    responses((status = 204)))]
pub(super) async fn remove_program(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<String>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let all = state.store.programs().await?;
    let program = all.into_iter().find(|program| hex(program.id) == id).ok_or_else(Problem::not_found)?;
    if state.programs.remove(&program).await? {
        let entry = Entry::new(Action::UPDATE_REMOVE, &who).from(&origin).on(Thing::new("program", &program.sha256));
        state.audit.note(entry.with("version", program.version.as_str())).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The updates of one's organisation, the newest first.
#[utoipa::path(get, path = "/api/v1/updates", params(Paged), responses((status = 200, body = UpdatesView)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(paged): Asked<Paged>,
) -> Result<Json<UpdatesView>, Problem> {
    let mut all = state.store.updates(Some(who.tenant), usize::MAX).await?;
    all.sort_by_cached_key(|update| newest_first(update.at, update.id));
    let (updates, next) = page("updates", &paged, all, |update| newest_first(update.at, update.id))?;
    Ok(Json(UpdatesView { updates: updates.into_iter().map(|update| view(update, None)).collect(), next }))
}

/// An update with its gateways.
#[utoipa::path(get, path = "/api/v1/updates/{update}", params(("update" = String, Path)),
    responses((status = 200, body = UpdateView)))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(id): Named<String>,
) -> Result<Json<UpdateView>, Problem> {
    let update = theirs(&state, &who, &id).await?;
    let members = state.store.update_members(update.id).await?;
    Ok(Json(view(update, Some(members))))
}

/// Makes gateways another version, some at a time.
///
/// It stops at the first that fails; who is offline is waited for by nobody, and gets it on its return.
#[utoipa::path(post, path = "/api/v1/updates", request_body = UpdateSent, responses((status = 201, body = UpdateBegun)))]
pub(super) async fn begin(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(asked): Strict<UpdateSent>,
) -> Result<(StatusCode, Json<UpdateBegun>), Problem> {
    let (Signed(who), From(origin)) = by;
    check_comment(&asked.comment)?;
    let (rate, deadline_s) = (asked.rate.unwrap_or(RATE), asked.deadline_s.unwrap_or(DEADLINE.as_secs()));
    if !RATES.contains(&rate) || !DEADLINES.contains(&deadline_s) {
        return Err(Problem::unprocessable("`rate` is 1024 to 16777216 bytes a second, `deadline_s` 5 to 3600."));
    }
    if asked.wave == 0 || asked.gateways.is_empty() || asked.gateways.len() > MEMBERS_MAX {
        return Err(Problem::unprocessable("An update has 1 to 2000 gateways, and 1 or more at a time."));
    }
    if !state.store.programs().await?.iter().any(|program| program.version == asked.version) {
        return Err(Problem::conflict("There is no program of that version: add one first."));
    }
    let mut members = Vec::with_capacity(asked.gateways.len());
    for name in &asked.gateways {
        let gateway = found(&state, &who, name, Permission::GatewayEdit).await?;
        if members.contains(&gateway.id) || gateway.tenant != who.tenant {
            return Err(Problem::unprocessable(format!("{name} is there twice, or belongs to others.")));
        }
        members.push(gateway.id);
    }
    let new = NewUpdate {
        tenant: who.tenant,
        author: who.name.clone(),
        comment: asked.comment,
        version: asked.version,
        wave: asked.wave.into(),
        rate,
        deadline: std::time::Duration::from_secs(deadline_s),
        members,
    };
    let update = hex(state.store.begin_update(&new).await?);
    let entry = Entry::new(Action::UPDATE_BEGIN, &who).from(&origin).on(Thing::new("update", &update));
    let entry = entry.with("version", new.version.as_str()).with("gateways", new.members.len()).with("wave", new.wave);
    state.audit.note(entry).await?;
    Ok((StatusCode::CREATED, Json(UpdateBegun { update })))
}

/// Stops an update: nobody begins it any more.
#[utoipa::path(post, path = "/api/v1/updates/{update}/stop", params(("update" = String, Path)),
    responses((status = 204)))]
pub(super) async fn stop(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<String>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let update = theirs(&state, &who, &id).await?;
    if state.store.end_update(update.id, Some(&format!("stopped by {}", who.name))).await? {
        let entry = Entry::new(Action::UPDATE_STOP, &who).from(&origin).on(Thing::new("update", &id));
        state.audit.note(entry).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// An update that they may look at and stop: one of gateways that are all theirs to edit.
async fn theirs(state: &ConsoleState, who: &Principal, id: &str) -> Result<Update, Problem> {
    let id = i64::from_str_radix(id, 16).map_err(|_| Problem::not_found())?;
    let update = state.store.update(id).await?.filter(|update| update.tenant == who.tenant);
    let update = update.ok_or_else(Problem::not_found)?;
    let members = state.store.update_members(id).await?;
    let may = |member: &Updated| who.may(Permission::GatewayEdit, &Target::Gateway(update.tenant, member.gateway));
    if members.iter().all(may) { Ok(update) } else { Err(Problem::not_found()) }
}

fn not_added(error: NotAdded) -> Problem {
    match error {
        NotAdded::Store(error) => error.into(),
        NotAdded::NoKey(_) | NotAdded::Exists(..) | NotAdded::TooMany => Problem::conflict(error.to_string()),
        NotAdded::Form | NotAdded::Release(_) | NotAdded::Other => Problem::unprocessable(error.to_string()),
        NotAdded::Key(_) | NotAdded::Write(_) => Problem::new(Kind::Internal, error.to_string()),
    }
}

/// An order that stays while pages are turned.
fn newest_first(at: jiff::Timestamp, id: i64) -> String {
    format!("{:020}.{id}", i64::MAX.saturating_sub(at.as_millisecond()))
}

fn hex(id: i64) -> String {
    format!("{id:016x}")
}

fn program_view(program: Program) -> ProgramView {
    let Program { id, version, target, size, sha256, author, at, .. } = program;
    ProgramView { id: hex(id), version, target, size, sha256, author, at: Moment(at) }
}

fn view(update: Update, members: Option<Vec<Updated>>) -> UpdateView {
    let member = |member: Updated| UpdatedView {
        gateway: member.name.to_string(),
        state: member.state.as_str(),
        loaded: member.loaded,
        size: member.size,
        check: member.failed_check,
        detail: member.detail,
        at: Moment(member.at),
    };
    UpdateView {
        id: hex(update.id),
        version: update.version,
        author: update.author,
        at: Moment(update.at),
        comment: update.comment,
        wave: update.wave,
        rate: update.rate,
        deadline_s: update.deadline.as_secs(),
        state: update.state,
        reason: update.reason,
        members: members.map(|all| all.into_iter().map(member).collect()),
    }
}
