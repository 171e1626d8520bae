//! `/api/v1/people`: accounts of people, their role, the links with which they choose a password, and their sessions.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::signed::{From, Signed};
use super::super::{Asked, ConsoleState, Cursor, IfMatch, Named, Paged, Problem, Strict, Tagged, page};
use super::own::in_person;
use super::shapes::Moment;
use super::{PagedWithin, Within, check_above, check_own, gone, place};
use crate::access::{Permission, Principal};
use crate::audit::{Action, Entry, Origin, Target as Thing};
use crate::rights::{Scope, TenantId, When};
use crate::store::{NewUser, RoleRef, SessionId, SessionKind, SessionListed, User, UserKind, UserName, UserNameError};

/// Without a hash no password is right, until the link is used.
const NO_PASSWORD: &str = "";

/// A person.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct PersonView {
    name: String,
    /// The role they have on everything, if they have one.
    role: Option<String>,
    /// Who knows whether they are who they say: `local`, or a directory.
    source: String,
    /// Whether they sign in with a second factor.
    second_factor: bool,
    created: Moment,
}

/// People.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct People {
    people: Vec<PersonView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// A person to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct PersonSent {
    /// To sign in with; unique on the server.
    name: String,
    /// A role on everything; absent: they get single grants.
    #[serde(default)]
    role: Option<String>,
}

/// What of a person is changed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct PersonEdit {
    /// The role on everything; null takes it away.
    role: Option<String>,
}

/// What a new link is to do.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct LinkSent {
    /// Takes the second factor away as well, from somebody who has lost it; their sessions end.
    #[serde(default)]
    second_factor: bool,
}

/// A link for one use with which a person chooses a password.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct LinkMade {
    name: String,
    /// Shown this once.
    link: String,
    expires: Moment,
}

/// Where somebody is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SessionView {
    id: String,
    /// `console` or `api`.
    kind: &'static str,
    /// Whether it is the one that asks.
    own: bool,
    created: Moment,
    /// When it was last used, to the minute.
    used: Moment,
    expires: Moment,
    address: Option<String>,
    /// The program, as it called itself.
    agent: Option<String>,
}

/// Sessions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Sessions {
    sessions: Vec<SessionView>,
    /// The cursor of the next page; null on the last.
    next: Option<Cursor>,
}

/// The people, by name.
#[utoipa::path(get, path = "/api/v1/people", params(PagedWithin), responses((status = 200, body = People)))]
pub(in crate::api) async fn list(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<People>, Problem> {
    let (within, paged): (Within, Paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::PeopleSee).await?;
    let all = state.store.members(tenant, UserKind::Person).await?.into_iter().map(view);
    let (people, next) = page("people", &paged, all, |person| person.name.clone())?;
    Ok(Json(People { people, next }))
}

/// One person.
#[utoipa::path(get, path = "/api/v1/people/{person}", params(("person" = String, Path), Within),
    responses((status = 200, body = PersonView, headers(("ETag" = String)))))]
pub(in crate::api) async fn one(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<UserName>,
    Asked(within): Asked<Within>,
) -> Result<Tagged<PersonView>, Problem> {
    let tenant = place(&state, &who, &within, Permission::PeopleSee).await?;
    Ok(Tagged(view(found(&state, tenant, &name).await?)))
}

/// Adds a person, and makes the link with which they choose a password.
#[utoipa::path(post, path = "/api/v1/people", params(Within), request_body = PersonSent,
    responses((status = 201, body = LinkMade)))]
pub(in crate::api) async fn add(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Asked(within): Asked<Within>,
    Strict(new): Strict<PersonSent>,
) -> Result<(StatusCode, Json<LinkMade>), Problem> {
    let (Signed(who), From(origin)) = by;
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let name: UserName = new.name.parse().map_err(|error: UserNameError| Problem::unprocessable(error.to_string()))?;
    let role = role(&state, &who, tenant, new.role.as_deref()).await?;
    let person = NewUser { tenant, kind: UserKind::Person, name: &name, password_hash: NO_PASSWORD };
    if state.store.add_member(person, role, &who.name).await?.is_none() {
        return Err(Problem::conflict("This name is taken on the server; choose another one."));
    }
    note(&state, Action::PERSON_ADD, (&who, &origin, tenant), &name, |entry| entry.with("role", new.role)).await?;
    let person = found(&state, tenant, &name).await?;
    Ok((StatusCode::CREATED, Json(link(&state, &who, &person).await?)))
}

/// Gives a person another role on everything, in place of the one they were added with.
#[utoipa::path(put, path = "/api/v1/people/{person}", params(("person" = String, Path), IfMatch, Within),
    request_body = PersonEdit, responses((status = 200, body = PersonView, headers(("ETag" = String)))))]
pub(in crate::api) async fn edit(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (Named<UserName>, IfMatch, Asked<Within>),
    Strict(new): Strict<PersonEdit>,
) -> Result<Tagged<PersonView>, Problem> {
    let ((Signed(who), From(origin)), (Named(name), if_match, Asked(within))) = (by, at);
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let person = found(&state, tenant, &name).await?;
    let id = person.id;
    if_match.check(&view(person))?;
    check_above(&state, &who, tenant, id).await?;
    let role = role(&state, &who, tenant, new.role.as_deref()).await?;
    gone(state.store.set_role(id, role, &who.name).await?)?;
    note(&state, Action::PERSON_CHANGE, (&who, &origin, tenant), &name, |entry| entry.with("role", new.role)).await?;
    Ok(Tagged(view(found(&state, tenant, &name).await?)))
}

/// Removes a person; their sessions, tokens, visits and streams end.
#[utoipa::path(delete, path = "/api/v1/people/{person}", params(("person" = String, Path), Within),
    responses((status = 204)))]
pub(in crate::api) async fn remove(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<UserName>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let person = found(&state, tenant, &name).await?;
    if person.id == who.user {
        return Err(Problem::conflict("Nobody removes themselves: ask somebody else to."));
    }
    check_above(&state, &who, tenant, person.id).await?;
    gone(state.store.remove_user(&name).await?)?;
    note(&state, Action::PERSON_REMOVE, (&who, &origin, tenant), &name, |entry| entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a link with which a person chooses a new password; until it is used, the old one is good.
#[utoipa::path(post, path = "/api/v1/people/{person}/link", params(("person" = String, Path), Within),
    request_body = LinkSent, responses((status = 201, body = LinkMade)))]
pub(in crate::api) async fn make_link(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    at: (Named<UserName>, Asked<Within>),
    Strict(asked): Strict<LinkSent>,
) -> Result<(StatusCode, Json<LinkMade>), Problem> {
    let ((Signed(who), From(origin)), (Named(name), Asked(within))) = (by, at);
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let person = found(&state, tenant, &name).await?;
    check_above(&state, &who, tenant, person.id).await?;
    let made = link(&state, &who, &person).await?;
    if asked.second_factor {
        state.access.remove_second_factor(person.id).await?;
    }
    let told = |entry: Entry| entry.with("second_factor_taken_away", asked.second_factor);
    note(&state, Action::PERSON_LINK, (&who, &origin, tenant), &name, told).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// Where a person is signed in.
#[utoipa::path(get, path = "/api/v1/people/{person}/sessions", params(("person" = String, Path), PagedWithin),
    responses((status = 200, body = Sessions)))]
pub(in crate::api) async fn sessions(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Named(name): Named<UserName>,
    Asked(asked): Asked<PagedWithin>,
) -> Result<Json<Sessions>, Problem> {
    let (within, paged) = asked.split();
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let person = found(&state, tenant, &name).await?;
    listed(state.access.sessions(person.id).await?, &who, &paged)
}

/// Ends one session of a person, and what was opened with it.
#[utoipa::path(delete, path = "/api/v1/people/{person}/sessions/{session}",
    params(("person" = String, Path), ("session" = String, Path), Within), responses((status = 204)))]
pub(in crate::api) async fn end_one(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named((name, session)): Named<(UserName, String)>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let session: SessionId = session.parse().map_err(|_| Problem::not_found())?;
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let person = found(&state, tenant, &name).await?;
    check_above(&state, &who, tenant, person.id).await?;
    if !state.access.end_session(person.id, session).await? {
        return Err(Problem::not_found());
    }
    let told = |entry: Entry| entry.with("session", session.to_string());
    note(&state, Action::SESSION_REVOKE, (&who, &origin, tenant), &name, told).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Signs a person out everywhere; what they have opened ends.
#[utoipa::path(delete, path = "/api/v1/people/{person}/sessions", params(("person" = String, Path), Within),
    responses((status = 204)))]
pub(in crate::api) async fn sign_out(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(name): Named<UserName>,
    Asked(within): Asked<Within>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    let tenant = place(&state, &who, &within, Permission::PeopleEdit).await?;
    let person = found(&state, tenant, &name).await?;
    check_above(&state, &who, tenant, person.id).await?;
    state.access.end_sessions(person.id, None).await?;
    note(&state, Action::SESSION_REVOKE, (&who, &origin, tenant), &name, |entry| entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where one is signed in oneself.
#[utoipa::path(get, path = "/api/v1/me/sessions", params(Paged), responses((status = 200, body = Sessions)))]
pub(in crate::api) async fn own_sessions(
    State(state): State<ConsoleState>,
    Signed(who): Signed,
    Asked(paged): Asked<Paged>,
) -> Result<Json<Sessions>, Problem> {
    in_person(&who)?;
    listed(state.access.sessions(who.user).await?, &who, &paged)
}

/// Ends one of one's own sessions.
#[utoipa::path(delete, path = "/api/v1/me/sessions/{session}", params(("session" = String, Path)),
    responses((status = 204)))]
pub(in crate::api) async fn end_own(
    State(state): State<ConsoleState>,
    by: (Signed, From),
    Named(session): Named<String>,
) -> Result<StatusCode, Problem> {
    let (Signed(who), From(origin)) = by;
    in_person(&who)?;
    let session: SessionId = session.parse().map_err(|_| Problem::not_found())?;
    if !state.access.end_session(who.user, session).await? {
        return Err(Problem::not_found());
    }
    state.audit.note_later(Entry::new(Action::SESSION_REVOKE, &who).from(&origin));
    Ok(StatusCode::NO_CONTENT)
}

async fn found(state: &ConsoleState, tenant: TenantId, name: &UserName) -> Result<User, Problem> {
    let person = state.store.person(name).await?;
    person.filter(|person| person.tenant == tenant).ok_or_else(Problem::not_found)
}

/// The role of this name, if they have all of it themselves.
async fn role(
    state: &ConsoleState,
    who: &Principal,
    tenant: TenantId,
    name: Option<&str>,
) -> Result<Option<RoleRef>, Problem> {
    let Some(name) = name else { return Ok(None) };
    let found = state.store.role_named(tenant, name).await?;
    let (role, permissions) = found.ok_or_else(|| Problem::unprocessable("There is no role of this name."))?;
    check_own(who, tenant, permissions, &Scope::Everything, &When::default())?;
    Ok(Some(role))
}

async fn link(state: &ConsoleState, who: &Principal, person: &User) -> Result<LinkMade, Problem> {
    let made = state.access.password_link(person, Some(who.user)).await?;
    let elsewhere = || Problem::conflict("This person's password is not kept here: change it where it is.");
    let (token, expires) = made.ok_or_else(elsewhere)?;
    let link = format!("{}/welcome?link={}", state.site.console_origin(), token.expose());
    Ok(LinkMade { name: person.name.clone(), link, expires: Moment(expires) })
}

async fn note(
    state: &ConsoleState,
    action: Action,
    (who, origin, tenant): (&Principal, &Origin, TenantId),
    name: &UserName,
    more: impl FnOnce(Entry) -> Entry,
) -> Result<(), Problem> {
    let entry = Entry::new(action, who).from(origin).on(Thing::new("person", name)).within(tenant);
    Ok(state.audit.note(more(entry)).await?)
}

fn view(person: User) -> PersonView {
    PersonView {
        name: person.name,
        role: person.role,
        source: person.source.as_str().to_owned(),
        second_factor: person.second_factor,
        created: Moment(person.created),
    }
}

/// The newest first: an order that stays while pages are turned.
fn listed(mut all: Vec<SessionListed>, who: &Principal, paged: &Paged) -> Result<Json<Sessions>, Problem> {
    let key = |session: &SessionListed| {
        let age = i64::MAX.saturating_sub(session.created.as_millisecond());
        format!("{age:020}.{}", session.id)
    };
    all.sort_by_cached_key(key);
    let (sessions, next) = page("sessions", paged, all, key)?;
    Ok(Json(Sessions { sessions: sessions.into_iter().map(|session| SessionView::new(session, who)).collect(), next }))
}

impl SessionView {
    /// What `who` is told of a session.
    pub(in crate::api) fn new(session: SessionListed, who: &Principal) -> Self {
        Self {
            own: who.session() == Some(session.id),
            id: session.id.to_string(),
            kind: match session.kind {
                SessionKind::Console => "console",
                SessionKind::Api => "api",
            },
            created: Moment(session.created),
            used: Moment(session.used),
            expires: Moment(session.expires),
            address: session.address,
            agent: session.agent,
        }
    }
}
