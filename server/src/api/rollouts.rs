//! `/api/v1/rollouts`: configurations on their way to many gateways, some at a time.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use linkspan_protocol::id::GatewayName;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::configs::{Begun, check_comment, deadline};
use super::gateways::found;
use super::rights::Moment;
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, Named, Paged, Problem, Strict, page};
use crate::access::{Permission, Principal, Target};
use crate::audit::{Action, Entry, Target as Thing};
use crate::store::{Member, NewRollout, Rollout};

/// Gateways of one rollout.
const MEMBERS_MAX: usize = 2000;

/// A rollout.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RolloutView {
    id: String,
    author: String,
    at: Moment,
    comment: String,
    /// Gateways at a time.
    wave: i64,
    deadline_s: u64,
    overwrite: bool,
    /// `running`, `done`, or `stopped`: nobody gets it any more who has not got it yet.
    state: String,
    /// Why it was stopped.
    reason: Option<String>,
    /// Its gateways; not in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    members: Option<Vec<MemberView>>,
}

/// How one gateway fares.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberView {
    gateway: String,
    revision: i64,
    rollout: String,
    /// `waiting`, `ready` (it gets it as soon as it is here), `sent`, `kept`, `failed` or `skipped`.
    state: &'static str,
    /// The check that failed: `document`, `policy`, `changed`, `link`, `server`, `devices`, `restart` or `disk`.
    check: Option<String>,
    detail: Option<String>,
    at: Moment,
}

/// The last rollouts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Rollouts {
    rollouts: Vec<RolloutView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A rollout to be begun.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RolloutSent {
    /// Each gets its newest revision, in this order.
    #[schema(value_type = Vec<String>)]
    gateways: Vec<GatewayName>,
    /// Gateways at a time; it stops at the first that fails.
    #[schema(minimum = 1)]
    wave: u16,
    /// Seconds within which all must be well at a gateway: 60, if not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3600)]
    deadline_s: Option<u64>,
    /// Also in place of what somebody wrote on a router.
    #[serde(default)]
    overwrite: bool,
    #[serde(default)]
    comment: String,
}

impl MemberView {
    pub(super) fn of(member: Member) -> Self {
        Self {
            gateway: member.name.to_string(),
            revision: member.revision,
            rollout: format!("{:016x}", member.rollout),
            state: member.state.as_str(),
            check: member.failed_check,
            detail: member.detail,
            at: Moment(member.at),
        }
    }
}

/// The rollouts of one's organisation, the newest first.
#[utoipa::path(get, path = "/api/v1/rollouts", params(Paged), responses((status = 200, body = Rollouts)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Rollouts>, Problem> {
    // An order that stays while pages are turned.
    let key =
        |rollout: &Rollout| format!("{:020}.{}", i64::MAX.saturating_sub(rollout.at.as_millisecond()), rollout.id);
    let mut all = state.store.rollouts(who.tenant).await?;
    all.sort_by_cached_key(key);
    let (rollouts, next) = page("rollouts", &paged, all, key)?;
    Ok(Json(Rollouts { rollouts: rollouts.into_iter().map(|rollout| view(rollout, None)).collect(), next }))
}

/// A rollout with its gateways.
#[utoipa::path(get, path = "/api/v1/rollouts/{rollout}", params(("rollout" = String, Path)),
    responses((status = 200, body = RolloutView)))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(id): Named<String>,
) -> Result<Json<RolloutView>, Problem> {
    let rollout = theirs(&state, &who, &id).await?;
    let members = state.store.rollout_members(rollout.id).await?;
    Ok(Json(view(rollout, Some(members))))
}

/// Sends gateways their newest revisions, some at a time.
///
/// It stops at the first that fails; who is offline is waited for by nobody, and gets it on its return.
#[utoipa::path(post, path = "/api/v1/rollouts", request_body = RolloutSent, responses((status = 201, body = Begun)))]
pub(super) async fn begin(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Strict(asked): Strict<RolloutSent>,
) -> Result<(StatusCode, Json<Begun>), Problem> {
    let (Signed(who), From(origin)) = by;
    let deadline = deadline(asked.deadline_s)?;
    check_comment(&asked.comment)?;
    if asked.wave == 0 || asked.gateways.is_empty() || asked.gateways.len() > MEMBERS_MAX {
        return Err(Problem::unprocessable("A rollout has 1 to 2000 gateways, and 1 or more at a time."));
    }
    let mut members = Vec::with_capacity(asked.gateways.len());
    for name in &asked.gateways {
        let gateway = found(&state, &who, name, Permission::ConfigEdit).await?;
        let newest = state.store.revision(gateway.id, None).await?;
        let newest =
            newest.ok_or_else(|| Problem::conflict(format!("{name} has no revision yet: write one first.")))?;
        if members.iter().any(|(known, _)| *known == gateway.id) || gateway.tenant != who.tenant {
            return Err(Problem::unprocessable(format!("{name} is there twice, or belongs to others.")));
        }
        members.push((gateway.id, newest.number));
    }
    let new = NewRollout {
        tenant: who.tenant,
        author: who.name.clone(),
        comment: asked.comment,
        wave: asked.wave.into(),
        deadline,
        overwrite: asked.overwrite,
        members,
    };
    let rollout = format!("{:016x}", state.store.begin_rollout(&new).await?);
    let entry = Entry::new(Action::CONFIG_APPLY, &who).from(&origin).on(Thing::new("rollout", &rollout));
    let entry = entry.with("gateways", new.members.len()).with("wave", new.wave).with("overwrite", new.overwrite);
    state.audit.note(entry).await?;
    Ok((StatusCode::CREATED, Json(Begun { rollout })))
}

/// Stops a rollout: nobody gets it any more who has not got it yet.
#[utoipa::path(post, path = "/api/v1/rollouts/{rollout}/stop", params(("rollout" = String, Path)),
    responses((status = 204)))]
pub(super) async fn stop(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(id): Named<String>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let rollout = theirs(&state, &who, &id).await?;
    if state.store.end_rollout(rollout.id, Some(&format!("stopped by {}", who.name))).await? {
        let entry = Entry::new(Action::CONFIG_STOP, &who).from(&origin).on(Thing::new("rollout", &id));
        state.audit.note(entry).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// A rollout that they may look at and stop: one about gateways that are all theirs to configure.
async fn theirs(state: &ConsoleState, who: &Principal, id: &str) -> Result<Rollout, Problem> {
    let id = i64::from_str_radix(id, 16).map_err(|_| Problem::not_found())?;
    let rollout = state.store.rollout(id).await?.filter(|rollout| rollout.tenant == who.tenant);
    let rollout = rollout.ok_or_else(Problem::not_found)?;
    let members = state.store.rollout_members(id).await?;
    let may = |member: &Member| who.may(Permission::ConfigEdit, &Target::Gateway(rollout.tenant, member.gateway));
    if members.iter().all(may) { Ok(rollout) } else { Err(Problem::not_found()) }
}

fn view(rollout: Rollout, members: Option<Vec<Member>>) -> RolloutView {
    RolloutView {
        id: format!("{:016x}", rollout.id),
        author: rollout.author,
        at: Moment(rollout.at),
        comment: rollout.comment,
        wave: rollout.wave,
        deadline_s: rollout.deadline.as_secs(),
        overwrite: rollout.overwrite,
        state: rollout.state,
        reason: rollout.reason,
        members: members.map(|all| all.into_iter().map(MemberView::of).collect()),
    }
}
