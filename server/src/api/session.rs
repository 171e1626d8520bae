//! `/api/v1/session`: sign in, see who one is, sign out.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use linkspan_protocol::id::Secret;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::guards::caller;
use super::signed::{From, Signed};
use super::{ConsoleState, Problem, Strict};
use crate::access::{Attempt, SessionKind, SignInError};
use crate::audit::{Action, Actor, ActorKind, Entry, NotRecorded, Origin};

/// Name and password, and the code of the second factor where the person has one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    name: String,
    #[schema(value_type = String, format = Password)]
    password: Secret,
    /// Needed where the answer without it is `second-factor`: six digits, or a recovery code.
    #[serde(default)]
    code: Option<String>,
}

/// A new session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Begun {
    /// Send it as `Authorization: Bearer TOKEN`; on devices' hosts as `Linkspan-Authorization: Bearer TOKEN`.
    token: String,
    /// When the session ends at the latest.
    #[serde(serialize_with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    expires: Timestamp,
}

/// Who is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Shown {
    name: String,
    /// The role they have on everything, if they have one.
    role: Option<String>,
    /// When the session ends at the latest.
    #[serde(serialize_with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    expires: Timestamp,
}

/// Signs in.
#[utoipa::path(post, path = "/api/v1/session", request_body = Credentials, responses(
    (status = 200, body = Begun),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
    (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn begin(
    State(state): State<ConsoleState>,
    From(origin): From,
    Strict(Credentials { name, password, code }): Strict<Credentials>,
) -> Result<Json<Begun>, Problem> {
    let (code, caller) = (code.as_deref(), caller(&origin));
    let attempt = Attempt { name: &name, password: &password, code, kind: SessionKind::Api, caller };
    let signed_in = state.access.sign_in(attempt).await;
    note_sign_in(&state, &name, &origin, &signed_in).await?;
    let signed_in = signed_in?;
    let token = signed_in.token.expose().to_owned();
    Ok(Json(Begun { token, expires: signed_in.expires }))
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/v1/session", responses((status = 200, body = Shown)))]
pub(super) async fn show(Signed(who): Signed) -> Json<Shown> {
    Json(Shown { role: who.role().map(str::to_owned), name: who.name, expires: who.expires })
}

/// Signs out, here and on the hosts of devices.
#[utoipa::path(delete, path = "/api/v1/session", responses((status = 204)))]
pub(super) async fn end(
    State(state): State<ConsoleState>,
    From(origin): From,
    Signed(who): Signed,
) -> Result<StatusCode, Problem> {
    state.access.sign_out(&who).await?;
    state.audit.note_later(Entry::new(Action::SESSION_END, &who).from(&origin));
    Ok(StatusCode::NO_CONTENT)
}

/// Notes down that somebody signed in, or tried to. Who could not be noted down is not let in; who was not let in anyway
/// does not wait for it.
pub(super) async fn note_sign_in<T>(
    state: &ConsoleState,
    name: &str,
    origin: &Origin,
    result: &Result<T, SignInError>,
) -> Result<(), NotRecorded> {
    // Whoever looks after that person sees it, also if it was somebody else who tried. Looked for whether there is such
    // a person or not, so the time says nothing.
    let person = match name.trim().parse() {
        Ok(name) => state.store.person(&name).await.ok().flatten(),
        Err(_) => None,
    };
    let tenant = person.map(|person| person.tenant);
    let actor = |kind| Actor { tenant, ..Actor::new(kind, name.trim()) };
    let known = Entry::new(Action::SESSION_BEGIN, actor(ActorKind::Person)).from(origin);
    let stranger = || Entry::new(Action::SESSION_BEGIN, actor(ActorKind::Stranger)).from(origin);
    let audit = &state.audit;
    match result {
        Ok(_) => audit.note(known).await,
        // The password was right: it is known who it was.
        Err(error @ (SignInError::CodeNeeded | SignInError::SetUpNeeded)) => {
            audit.note_later(known.denied(error.to_string()));
            Ok(())
        }
        Err(error @ (SignInError::Wrong | SignInError::WrongCode | SignInError::Stale | SignInError::Slow(_))) => {
            audit.note_stranger(stranger().denied(error.to_string()));
            Ok(())
        }
        Err(error) => {
            audit.note_stranger(stranger().failed(error.to_string()));
            Ok(())
        }
    }
}

/// To the second, as RFC 3339 has it.
pub(super) fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Timestamp::from_second(time.as_second()).unwrap_or(*time))
}
