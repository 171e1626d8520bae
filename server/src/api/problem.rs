//! What an API call answers when it cannot do what was asked (RFC 9457), and every kind of it there is.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::SignInError;
use crate::audit::NotRecorded;
use crate::store::StoreError;

/// The content type of problems.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! kinds {
    ($($name:ident = $status:ident $code:literal $meaning:literal;)*) => {
        /// A kind of problem: `code` in the answer.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = $meaning] $name,)*
        }

        impl Kind {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The HTTP status, the word for programs, and what it means.
            pub fn facts(self) -> (StatusCode, &'static str, &'static str) {
                match self {
                    $(Self::$name => (StatusCode::$status, $code, $meaning),)*
                }
            }
        }
    };
}

kinds! {
    BadRequest = BAD_REQUEST "bad-request" "The request cannot be read: its body is not JSON, or a parameter is unknown, double or malformed.";
    BadCursor = BAD_REQUEST "bad-cursor" "The cursor is none that this list has given out.";
    BadKey = BAD_REQUEST "bad-key" "The Idempotency-Key is not 1 to 255 printable ASCII characters.";
    SignIn = UNAUTHORIZED "sign-in" "Nobody has signed in, or the token is not good any more.";
    WrongPassword = UNAUTHORIZED "wrong-password" "Name and password do not belong together.";
    SecondFactor = UNAUTHORIZED "second-factor" "The password is right; send the code of the second factor as `code` too.";
    WrongCode = UNAUTHORIZED "wrong-code" "The code is wrong, too old, or was used before.";
    SecondFactorMissing = FORBIDDEN "second-factor-missing" "A second factor is required: sign in to the console once, and set it up there.";
    Forbidden = FORBIDDEN "forbidden" "Signed in, but not permitted to do this.";
    ForeignPage = FORBIDDEN "origin" "A cookie counts only together with the Origin of the console's own pages.";
    EnrolmentRefused = FORBIDDEN "enrolment-refused" "The code is not known, was used, or has expired; which of these is not said.";
    EnrolmentDeclined = FORBIDDEN "enrolment-declined" "Somebody looked at this router and refused it.";
    NotRenewed = FORBIDDEN "not-renewed" "The certificate shown no longer counts; the gateway must be enrolled again.";
    NotFound = NOT_FOUND "not-found" "There is no such thing, or it is not yours to see.";
    Method = METHOD_NOT_ALLOWED "method" "The address does not take such requests; see Allow.";
    Conflict = CONFLICT "conflict" "It cannot be done in the present state of things: a name is taken, say.";
    KeyReused = CONFLICT "key-reused" "The Idempotency-Key belongs to another request.";
    KeyInUse = CONFLICT "key-in-use" "The first request with this Idempotency-Key is still under way.";
    Changed = PRECONDITION_FAILED "changed" "It is not any more what If-Match says; read it again.";
    TooLarge = PAYLOAD_TOO_LARGE "too-large" "The body is longer than this address takes.";
    NotJson = UNSUPPORTED_MEDIA_TYPE "not-json" "The body must be application/json.";
    Unprocessable = UNPROCESSABLE_ENTITY "unprocessable" "The body is JSON, but says something that cannot be.";
    NotWebSocket = UPGRADE_REQUIRED "not-a-websocket" "The address is for WebSockets (RFC 6455): ask with `Upgrade: websocket`.";
    NeedsIfMatch = PRECONDITION_REQUIRED "needs-if-match" "Send If-Match with the ETag you have read, so that no change of others is undone.";
    SlowDown = TOO_MANY_REQUESTS "slow-down" "Too many requests or attempts; Retry-After says when to come back.";
    Internal = INTERNAL_SERVER_ERROR "internal" "The server could not do its work.";
    NotRecorded = SERVICE_UNAVAILABLE "not-recorded" "The audit cannot be written, so nothing is changed that must stand in it.";
    DirectorySilent = SERVICE_UNAVAILABLE "directory" "Name or password is wrong, or the organisation's directory is needed, which does not answer.";
    Busy = SERVICE_UNAVAILABLE "busy" "Too many do this at once; try again in a moment.";
}

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Where this kind of problem is explained.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A sentence for people.
    detail: String,
    /// A word for programs.
    code: &'static str,
    #[serde(skip)]
    retry_after: Option<Duration>,
}

impl Problem {
    /// A problem of this kind; `detail` says what to do about it.
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let (status, code, _) = kind.facts();
        let title = status.canonical_reason().unwrap_or("Error");
        let kind = format!("/api/v1/problems#{code}");
        Self { kind, title, status: status.as_u16(), detail: detail.into(), code, retry_after: None }
    }

    /// The same, with the time after which it is worth trying again.
    #[must_use]
    pub fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// Nobody has signed in, or the credential is not good any more.
    pub fn unauthorized() -> Self {
        Self::new(Kind::SignIn, "Sign in first: send `Authorization: Bearer TOKEN`.")
    }

    /// Signed in, but not for this.
    pub fn forbidden() -> Self {
        Self::new(Kind::Forbidden, "Your role does not allow this.")
    }

    /// Not there, or not yours to see.
    pub fn not_found() -> Self {
        Self::new(Kind::NotFound, "There is no such thing here, or it is not yours to see.")
    }

    /// It cannot be done as things stand.
    pub fn conflict(detail: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, detail)
    }

    /// The body says something that cannot be.
    pub fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(Kind::Unprocessable, detail)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(Kind::Method, "This address does not take such requests; see Allow.")
    }

    pub(super) fn foreign_page() -> Self {
        Self::new(Kind::ForeignPage, "A cookie counts here only together with the Origin of the console's own pages.")
    }

    pub(super) fn internal(detail: &str) -> Self {
        Self::new(Kind::Internal, detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = error.in_full(), "the database failed");
        Self::internal("The server cannot read or write its data.")
    }
}

impl From<NotRecorded> for Problem {
    fn from(_: NotRecorded) -> Self {
        let detail = "The audit cannot be written (is the server's disk full?): until it can, nothing is changed.";
        Self::new(Kind::NotRecorded, detail).retry_after(Duration::from_secs(10))
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let detail = error.to_string();
        match error {
            SignInError::Wrong => Self::new(Kind::WrongPassword, detail),
            SignInError::CodeNeeded => Self::new(Kind::SecondFactor, detail),
            SignInError::WrongCode => Self::new(Kind::WrongCode, detail),
            SignInError::SetUpNeeded => Self::new(Kind::SecondFactorMissing, detail),
            SignInError::Stale => Self::new(Kind::SignIn, detail),
            SignInError::Slow(wait) => Self::new(Kind::SlowDown, detail).retry_after(wait),
            SignInError::DirectorySilent => {
                Self::new(Kind::DirectorySilent, detail).retry_after(Duration::from_secs(10))
            }
            SignInError::Busy => Self::new(Kind::Busy, detail).retry_after(Duration::from_secs(5)),
            SignInError::Password(error) => {
                tracing::error!(%error, "a password cannot be checked");
                Self::internal("The server cannot check the password.")
            }
            SignInError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after {
            // Rounded up: who comes back on time is not too early.
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)));
        }
        response
    }
}

/// A kind of problem, explained.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KindView {
    /// The word for programs.
    code: &'static str,
    /// The HTTP status.
    status: u16,
    /// What it means.
    meaning: &'static str,
}

/// All kinds of problems.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kinds {
    problems: Vec<KindView>,
}

/// Every kind of problem that this API answers with.
#[utoipa::path(get, path = "/api/v1/problems", responses((status = 200, body = Kinds)))]
pub(super) async fn kinds() -> Json<Kinds> {
    let view = |kind: &Kind| {
        let (status, code, meaning) = kind.facts();
        KindView { code, status: status.as_u16(), meaning }
    };
    Json(Kinds { problems: Kind::ALL.iter().map(view).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_a_word_of_its_own() {
        let codes: std::collections::HashSet<_> = Kind::ALL.iter().map(|kind| kind.facts().1).collect();
        assert_eq!(codes.len(), Kind::ALL.len());
    }

    #[test]
    fn a_wait_is_told_in_whole_seconds_and_never_short() {
        let problem = Problem::new(Kind::SlowDown, "x").retry_after(Duration::from_millis(1200));
        assert_eq!(problem.into_response().headers()[RETRY_AFTER], "2");
    }
}
