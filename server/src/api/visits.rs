//! `/api/v1/visits`: inviting somebody without an account to one device for a while; and using such a link.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use linkspan_protocol::id::{DeviceName, ServiceName};
use linkspan_protocol::message::ServiceReport;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::guards::caller;
use super::rights::{Moment, PagedWithin, Within, grants::REASON_MAX, people::SessionView, place};
use super::signed::{From, Signed};
use super::{Asked, ConsoleState, Cursor, Kind, Named, Problem, Strict, page};
use crate::access::{self, Permission, Principal, SessionKind, Token};
use crate::audit::{Action, Actor, ActorKind, Entry, Origin, Target as Thing};
use crate::rights::{Scope, Target, TenantId, VisitId};
use crate::store::{Approval, Device, NewVisit, StoreError, UserKind, Visit};

/// Longest visit.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 31);
/// Most who may use one link.
const USES_MAX: u32 = 20;
/// Longest name of a guest, in bytes.
const GUEST_MAX: usize = 100;

/// A visit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VisitView {
    #[schema(value_type = String)]
    id: VisitId,
    /// Who is invited, for people.
    guest: String,
    /// Who invited.
    host: String,
    #[schema(value_type = String)]
    device: DeviceName,
    /// The service, if it is one.
    #[schema(value_type = Option<String>)]
    service: Option<ServiceName>,
    /// The kind of service, if it is that.
    speaks: Option<&'static str>,
    /// Whether the guest may only look.
    view_only: bool,
    reason: String,
    from: Moment,
    until: Moment,
    /// How many browsers or programs may use the link, and how many have.
    uses_max: u32,
    uses: u32,
    /// `planned`, `open`, `over`, `pending`, `refused` or `revoked`.
    state: &'static str,
    /// Who approved or refused it, if a second person did.
    decided_by: Option<String>,
    /// Who revoked it.
    revoked_by: Option<String>,
    created: Moment,
}

/// A new visit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VisitMade {
    /// For the guest, and for nobody else: whoever has it can use it. Shown this once.
    link: String,
    visit: VisitView,
}

/// Visits.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Visits {
    visits: Vec<VisitView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A visit, and where it takes place.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct VisitDetail {
    #[serde(flatten)]
    visit: VisitView,
    /// Browsers and programs that hold the visit now, the one used last first.
    sessions: Vec<SessionView>,
}

/// A visit to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct VisitSent {
    /// Who is invited, for people.
    guest: String,
    #[schema(value_type = String)]
    device: DeviceName,
    /// One service of the device; or else `speaks`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    service: Option<ServiceName>,
    /// All services of the device that speak this: `http`, `https`, `ssh`, `vnc`, `rdp` or `tcp`.
    #[serde(default)]
    speaks: Option<String>,
    /// Whether the guest may only look: web pages and VNC.
    #[serde(default)]
    view_only: bool,
    /// What for.
    reason: String,
    /// From when; absent: from now on.
    #[serde(default)]
    from: Option<Moment>,
    /// Until when: within 31 days.
    until: Moment,
    /// How many browsers or programs may use the link; absent: one.
    #[serde(default)]
    uses: Option<u32>,
    /// Whether a second person must approve it first.
    #[serde(default)]
    approval: bool,
}

/// A link that is used.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkShown {
    /// What stands behind `/visit/` in the link.
    token: String,
}

/// What a link brought.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Welcomed {
    /// Send it as `Authorization: Bearer TOKEN`; on devices' hosts as `Linkspan-Authorization: Bearer TOKEN`.
    token: String,
    expires: Moment,
    #[schema(value_type = String)]
    device: DeviceName,
}

/// One's own visits, and those to what one looks after. Newest last.
#[utoipa::path(get, path = "/api/v1/visits", params(PagedWithin), responses((status = 200, body = Visits)))]
pub(super) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Visits>, Problem> {
    let (within, paged) = asked.split();
    let tenant = organisation(&state, &who, &within).await?;
    let own = (!who.may_somewhere(Permission::VisitSee)).then_some(who.user);
    let mut all = Vec::new();
    for visit in state.store.visits(tenant, own).await? {
        if is_host(&who, &visit) || may_about(&state, &who, Permission::VisitSee, &visit).await? {
            all.push(visit);
        }
    }
    let key = |visit: &Visit| format!("{:020}.{}", visit.created.as_millisecond(), visit.id);
    all.sort_by_key(key);
    let (visits, next) = page("visits", &paged, all, key)?;
    Ok(Json(Visits { visits: visits.into_iter().map(view).collect(), next }))
}

/// One visit.
#[utoipa::path(get, path = "/api/v1/visits/{visit}", params(("visit" = String, Path), Within),
    responses((status = 200, body = VisitDetail)))]
pub(super) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(id): Named<VisitId>,
    Asked(within): Asked<Within>,
) -> Result<Json<VisitDetail>, Problem> {
    let tenant = organisation(&state, &who, &within).await?;
    let visit = known(&state, &who, tenant, id).await?;
    let sessions = state.access.visit_sessions(&visit).await?;
    let sessions = sessions.into_iter().map(|session| SessionView::new(session, &who)).collect();
    Ok(Json(VisitDetail { visit: view(visit), sessions }))
}

/// Invites somebody: to what one may do oneself, for as long as one may.
#[utoipa::path(post, path = "/api/v1/visits", request_body = VisitSent, responses((status = 201, body = VisitMade)))]
pub(super) async fn add(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Strict(new): Strict<VisitSent>,
) -> Result<(StatusCode, Json<VisitMade>), Problem> {
    if who.kind == UserKind::Visit {
        return Err(Problem::forbidden());
    }
    let times = check_form(&new)?;
    let device = state.store.device(&new.device).await?;
    let device = device.filter(|device| who.may(Permission::DeviceSee, &device.target()));
    let device = device.ok_or_else(|| Problem::unprocessable("There is no device of this name."))?;
    let scope = scope(&who, &device, &new)?;
    let token = Token::for_visit();
    let visit = NewVisit {
        tenant: who.tenant,
        host: who.user,
        token: &token.hash(),
        guest: &new.guest,
        scope: &scope,
        view_only: new.view_only,
        reason: &new.reason,
        times,
        uses: new.uses.unwrap_or(1),
        needs_approval: new.approval,
    };
    let id = state.store.add_visit(&visit).await?;
    let id = id.ok_or_else(|| Problem::conflict("You have as many visits under way as one can; revoke some first."))?;
    let visit = state.store.visit(who.tenant, id).await?.ok_or_else(Problem::not_found)?;
    state.audit.note(entry(Action::VISIT_ADD, &who, &visit).from(&origin).with("reason", new.reason)).await?;
    let link = format!("{}/visit/{}", state.site.console_origin(), token.expose());
    Ok((StatusCode::CREATED, Json(VisitMade { link, visit: view(visit) })))
}

/// Approves a visit that waits for it. Nobody approves their own.
#[utoipa::path(post, path = "/api/v1/visits/{visit}/approve", params(("visit" = String, Path)),
    responses((status = 200, body = VisitView)))]
pub(super) async fn approve(
    state: State<ConsoleState>,
    who: Signed,
    origin: From,
    id: Named<VisitId>,
) -> Result<Json<VisitView>, Problem> {
    decide(state, who, origin, id, Approval::Approved).await
}

/// Refuses a visit that waits for approval.
#[utoipa::path(post, path = "/api/v1/visits/{visit}/refuse", params(("visit" = String, Path)),
    responses((status = 200, body = VisitView)))]
pub(super) async fn refuse(
    state: State<ConsoleState>,
    who: Signed,
    origin: From,
    id: Named<VisitId>,
) -> Result<Json<VisitView>, Problem> {
    decide(state, who, origin, id, Approval::Refused).await
}

/// Ends a visit; what was opened with it ends within a second.
#[utoipa::path(delete, path = "/api/v1/visits/{visit}", params(("visit" = String, Path), Within),
    responses((status = 204)))]
pub(super) async fn revoke(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named(id): Named<VisitId>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let tenant = organisation(&state, &who, &within).await?;
    let visit = known(&state, &who, tenant, id).await?;
    if !is_host(&who, &visit) && !may_about(&state, &who, Permission::VisitRevoke, &visit).await? {
        return Err(Problem::forbidden());
    }
    state.store.revoke_visit(id, &who.name).await?;
    state.audit.note(entry(Action::VISIT_REVOKE, &who, &visit).from(&origin)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Exchanges what stands in a link for a token that works like that of a person, for as long as the visit. It counts as
/// a use of the link.
#[utoipa::path(post, path = "/api/v1/visit", request_body = LinkShown, responses(
    (status = 200, body = Welcomed),
    (status = 404, body = Problem, content_type = "application/problem+json"),
    (status = 409, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn redeem(
    State(state): State<ConsoleState>,
    From(origin): From,
    Strict(LinkShown { token }): Strict<LinkShown>,
) -> Result<Json<Welcomed>, Problem> {
    let visit = state.access.visit(&token).await?.ok_or_else(Problem::not_found)?;
    state.audit.usable().await?;
    let Some(signed_in) = state.access.redeem_visit(&visit, SessionKind::Api, caller(&origin)).await? else {
        return Err(Problem::conflict(why_not(&visit, Timestamp::now()).1));
    };
    note_use(&state, (&visit, "a program"), &origin).await?;
    let token = signed_in.token.expose().to_owned();
    Ok(Json(Welcomed { token, expires: Moment(signed_in.expires), device: visit.device }))
}

/// Notes down that a link was used, and what for: `a browser`, `a program`, `the command line`.
pub(super) async fn note_use(
    state: &ConsoleState,
    (visit, with): (&Visit, &'static str),
    origin: &Origin,
) -> Result<(), Problem> {
    state.audit.note(entry(Action::VISIT_USE, guest(visit), visit).with("with", with).from(origin)).await?;
    Ok(())
}

/// Notes down that a guest has left.
pub(super) fn note_leave(state: &ConsoleState, visit: &Visit, origin: &Origin) {
    state.audit.note_later(entry(Action::SESSION_END, guest(visit), visit).from(origin));
}

fn guest(visit: &Visit) -> Actor {
    Actor::new(ActorKind::Visitor, visit.guest.clone()).of_tenant(visit.tenant)
}

/// Why a link cannot be used now, in a word or two and in a sentence.
pub(super) fn why_not(visit: &Visit, now: Timestamp) -> (&'static str, &'static str) {
    match visit.state(now) {
        "revoked" => {
            ("Ended", "This visit was ended by whoever invited you, or by somebody who looks after the devices.")
        }
        "refused" => ("Not approved", "This visit was not approved."),
        "pending" => ("Waiting for approval", "This visit waits for approval by a second person. Try again later."),
        "over" => ("Over", "The time of this visit is over."),
        "planned" => ("Not yet", "The time of this visit has not come yet."),
        _ => (
            "Used already",
            "This link has been used already, as often as it may be. If that was not you, tell whoever invited you.",
        ),
    }
}

async fn decide(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    From(origin): From,
    Named(id): Named<VisitId>,
    approval: Approval,
) -> Result<Json<VisitView>, Problem> {
    let visit = known(&state, &who, who.tenant, id).await?;
    // A program of the host's would be no second person.
    let may = who.kind == UserKind::Person && may_about(&state, &who, Permission::VisitApprove, &visit).await?;
    if !may {
        return Err(Problem::forbidden());
    }
    if visit.host == who.user {
        return Err(Problem::new(Kind::Forbidden, "Somebody else must decide about a visit of yours."));
    }
    if !state.store.decide_visit(id, approval, (who.user, &who.name)).await? {
        return Err(Problem::conflict("This visit does not wait for approval (any more)."));
    }
    let action = if approval == Approval::Approved { Action::VISIT_APPROVE } else { Action::VISIT_REFUSE };
    state.audit.note(entry(action, &who, &visit).from(&origin)).await?;
    Ok(Json(view(known(&state, &who, who.tenant, id).await?)))
}

/// Where to look for visits: at home, or where those who stand above all say.
async fn organisation(state: &ConsoleState, who: &Principal, within: &Within) -> Result<TenantId, Problem> {
    if within.is_said() { place(state, who, within, Permission::VisitSee).await } else { Ok(who.tenant) }
}

/// A visit that they may see: their own, or one to what they look after. Who decides about visits sees them too.
async fn known(state: &ConsoleState, who: &Principal, tenant: TenantId, id: VisitId) -> Result<Visit, Problem> {
    let visit = state.store.visit(tenant, id).await?.ok_or_else(Problem::not_found)?;
    if is_host(who, &visit) {
        return Ok(visit);
    }
    for permission in [Permission::VisitSee, Permission::VisitApprove, Permission::VisitRevoke] {
        if may_about(state, who, permission, &visit).await? {
            return Ok(visit);
        }
    }
    Err(Problem::not_found())
}

/// Whether they may do this to visits of the whole organisation, or at least to those to this device or service.
async fn may_about(
    state: &ConsoleState,
    who: &Principal,
    permission: Permission,
    visit: &Visit,
) -> Result<bool, StoreError> {
    if who.may(permission, &Target::Tenant(visit.tenant)) {
        return Ok(true);
    }
    if !who.may_somewhere(permission) {
        return Ok(false);
    }
    let device = state.store.device(&visit.device).await?;
    Ok(device.filter(|device| device.tenant == visit.tenant).is_some_and(|device| {
        let named = |service: &&ServiceReport| visit.service.as_ref().is_some_and(|name| service.name == *name);
        match device.report.services.iter().find(named) {
            Some(service) => who.may(permission, &device.service_target(service)),
            None => who.may(permission, &device.target()),
        }
    }))
}

/// Whether it is their own, and they show something that is made for visits.
fn is_host(who: &Principal, visit: &Visit) -> bool {
    visit.host == who.user && who.owns(Permission::VisitCreate)
}

/// Looks at what can be judged without the device; the times.
fn check_form(new: &VisitSent) -> Result<(Timestamp, Timestamp), Problem> {
    let line = |text: &str, max: usize| (1..=max).contains(&text.trim().len()) && !text.chars().any(char::is_control);
    if !line(&new.guest, GUEST_MAX) || !line(&new.reason, REASON_MAX) {
        return Err(Problem::unprocessable("A visit has a guest and a reason, each of one line and not too long."));
    }
    if !(1..=USES_MAX).contains(&new.uses.unwrap_or(1)) {
        return Err(Problem::unprocessable("A link is for 1 to 20 browsers or programs."));
    }
    let now = Timestamp::now();
    let (from, until) = (new.from.map_or(now, |from| from.0), new.until.0);
    if until <= from.max(now) || until > now + LONGEST {
        return Err(Problem::unprocessable("A visit ends after it begins, and within 31 days from now."));
    }
    Ok((from, until))
}

/// What the visit is about: services that are there, and that the host may use in the way the guest is to.
fn scope(who: &Principal, device: &Device, new: &VisitSent) -> Result<Scope, Problem> {
    let name = device.report.name.clone();
    let scope = match (&new.service, &new.speaks) {
        (Some(service), None) => Scope::Service { device: name, service: service.clone() },
        (None, Some(speaks)) => {
            let unknown = || Problem::unprocessable("There is no such kind of service.");
            Scope::Services { device: name, speaks: super::rights::speaks_from(speaks).ok_or_else(unknown)? }
        }
        _ => return Err(Problem::unprocessable("A visit is to one `service`, or to all that one kind `speaks`.")),
    };
    let about = |service: &&ServiceReport| match &scope {
        Scope::Service { service: name, .. } => service.name == *name,
        Scope::Services { speaks, .. } => service.kind == *speaks,
        _ => false,
    };
    let mut services = device.report.services.iter().filter(about).peekable();
    if services.peek().is_none() {
        return Err(Problem::unprocessable("The device has no such service."));
    }
    for service in services {
        let target: Target<'_> = device.service_target(service);
        let Some(needed) = access::permitted(service.kind, new.view_only) else {
            return Err(Problem::unprocessable("Only web pages and VNC can be looked at without touching them."));
        };
        let mut all = needed.iter().chain([Permission::VisitCreate]);
        if !all.all(|permission| who.may(permission, &target)) {
            return Err(Problem::new(Kind::Forbidden, "You can invite others only to what you may do yourself."));
        }
    }
    Ok(scope)
}

fn entry(action: Action, actor: impl Into<Actor>, visit: &Visit) -> Entry {
    let what = visit.service.as_ref().map(ToString::to_string).or(visit.speaks.map(|kind| kind.as_str().to_owned()));
    Entry::new(action, actor)
        .within(visit.tenant)
        .on(Thing::new("visit", visit.id))
        .with("guest", visit.guest.clone())
        .with("host", visit.host_name.clone())
        .with("device", visit.device.to_string())
        .with("to", what)
        .with("until", visit.ends.to_string())
}

fn view(visit: Visit) -> VisitView {
    VisitView {
        id: visit.id,
        state: visit.state(Timestamp::now()),
        guest: visit.guest,
        host: visit.host_name,
        device: visit.device,
        service: visit.service,
        speaks: visit.speaks.map(|kind| kind.as_str()),
        view_only: visit.view_only,
        reason: visit.reason,
        from: Moment(visit.begins),
        until: Moment(visit.ends),
        uses_max: visit.uses_max,
        uses: visit.uses,
        decided_by: visit.decided_by,
        revoked_by: visit.revoked_by,
        created: Moment(visit.created),
    }
}
