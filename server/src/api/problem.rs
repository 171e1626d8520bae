//! What an API call answers when it cannot do what was asked (RFC 9457).

use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::access::SignInError;
use crate::store::StoreError;

/// What went wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells kinds apart.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// A sentence for people.
    detail: String,
    /// A word for programs.
    code: &'static str,
    #[serde(skip)]
    retry_after_s: Option<u64>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error");
        Self { kind: "about:blank", title, status: status.as_u16(), detail: detail.into(), code, retry_after_s: None }
    }

    /// Nobody has signed in, or the credential is not good any more.
    pub fn unauthorized() -> Self {
        let detail = "Sign in first: send `Authorization: Bearer TOKEN`.";
        Self::new(StatusCode::UNAUTHORIZED, "sign-in", detail)
    }

    /// Signed in, but not for this.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Your role does not allow this.")
    }

    /// Not there, or not yours to see.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing here, or it is not yours to see.")
    }

    pub(super) fn method_not_allowed() -> Self {
        let detail = "This address does not take such requests; see Allow.";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", detail)
    }

    pub(super) fn bad_request(status: StatusCode, detail: impl Into<String>) -> Self {
        Self::new(status, "bad-request", detail)
    }

    pub(super) fn foreign_page() -> Self {
        let detail = "A cookie counts here only together with the Origin of the console's own pages.";
        Self::new(StatusCode::FORBIDDEN, "origin", detail)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = error.in_full(), "the database failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server cannot read its data.")
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let detail = error.to_string();
        match error {
            SignInError::Wrong => Self::new(StatusCode::UNAUTHORIZED, "wrong-password", detail),
            SignInError::Slow(wait) => {
                let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, "slow-down", detail);
                Self { retry_after_s: Some(wait.as_secs() + 1), ..problem }
            }
            SignInError::Busy => {
                let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
                Self { retry_after_s: Some(5), ..problem }
            }
            SignInError::Password(error) => {
                tracing::error!(%error, "a password cannot be checked");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server cannot check the password.")
            }
            SignInError::Store(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after_s {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
