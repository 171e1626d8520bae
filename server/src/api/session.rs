//! `/api/v1/session`: sign in, see who one is, sign out.

use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::{Extension, Json};
use http::StatusCode;
use jiff::Timestamp;
use linkspan_protocol::id::Secret;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

use super::signed::Signed;
use super::{ConsoleState, Problem};
use crate::access::{Attempt, ClientAddress, SessionKind};

/// Name and password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    name: String,
    #[schema(value_type = String, format = Password)]
    password: Secret,
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
    (status = 400, body = Problem, content_type = "application/problem+json"),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 413, body = Problem, content_type = "application/problem+json"),
    (status = 415, body = Problem, content_type = "application/problem+json"),
    (status = 422, body = Problem, content_type = "application/problem+json"),
    (status = 429, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn begin(
    State(state): State<ConsoleState>,
    address: Option<Extension<ClientAddress>>,
    body: Result<Json<Credentials>, JsonRejection>,
) -> Result<Json<Begun>, Problem> {
    let Json(Credentials { name, password }) =
        body.map_err(|error| Problem::bad_request(error.status(), error.body_text()))?;
    let address = address.map(|Extension(ClientAddress(address))| address);
    let attempt = Attempt { name: &name, password: &password, kind: SessionKind::Api, address };
    let signed_in = state.access.sign_in(attempt).await?;
    let token = signed_in.token.expose().to_owned();
    Ok(Json(Begun { token, expires: signed_in.expires }))
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/v1/session", security(("bearer" = []), ("cookie" = [])), responses(
    (status = 200, body = Shown),
    (status = 401, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn show(Signed(who): Signed) -> Json<Shown> {
    Json(Shown { role: who.role().map(str::to_owned), name: who.name, expires: who.expires })
}

/// Signs out, here and on the hosts of devices.
#[utoipa::path(delete, path = "/api/v1/session", security(("bearer" = []), ("cookie" = [])), responses(
    (status = 204),
    (status = 401, body = Problem, content_type = "application/problem+json"),
    (status = 403, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn end(State(state): State<ConsoleState>, Signed(who): Signed) -> Result<StatusCode, Problem> {
    state.access.sign_out(&who).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// To the second, as RFC 3339 has it.
pub(super) fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Timestamp::from_second(time.as_second()).unwrap_or(*time))
}
