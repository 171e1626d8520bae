//! `POST /api/v1/enroll`: routers become gateways here, and gateways renew their certificates. Open to everybody; the
//! code, the key or the certificate that is shown decides.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use linkspan_protocol::enrol::{ENROL_PATH, EnrolRequest};

use super::{Kind, Problem, Strict};
use crate::edge::connection::Peer;
use crate::enrol::{Answer, Desk, EnrolError};

/// Largest request: a code, a key, a signature and a name.
const BODY_MAX: usize = 4096;

/// The route of the desk.
pub fn routes(desk: Desk) -> Router {
    Router::new().route(ENROL_PATH, post(enrol)).layer(DefaultBodyLimit::max(BODY_MAX)).with_state(desk)
}

async fn enrol(
    State(desk): State<Desk>,
    Extension(peer): Extension<Peer>,
    Strict(request): Strict<EnrolRequest>,
) -> Response {
    let mut response = match desk.answer(&request, peer.certificate.as_ref(), peer.address.ip()).await {
        Ok(Answer::Enrolled(enrolled)) => Json(*enrolled).into_response(),
        Ok(Answer::Pending(after)) => {
            let told = serde_json::json!({ "status": "pending" });
            (StatusCode::ACCEPTED, [(RETRY_AFTER, HeaderValue::from(after.as_secs()))], Json(told)).into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        let detail = error.to_string();
        match error {
            EnrolError::Malformed(_) => Self::new(Kind::BadRequest, detail),
            EnrolError::Refused => Self::new(Kind::EnrolmentRefused, detail),
            EnrolError::Declined => Self::new(Kind::EnrolmentDeclined, detail),
            EnrolError::NotRenewed => Self::new(Kind::NotRenewed, detail),
            EnrolError::Slow(wait) => Self::new(Kind::SlowDown, detail).retry_after(wait),
            EnrolError::Stopping => Self::new(Kind::Busy, detail).retry_after(Duration::from_secs(5)),
            EnrolError::Store(error) => error.into(),
            EnrolError::Certificate(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a gateway's certificate cannot be made");
                Self::internal("The server cannot make certificates now.")
            }
        }
    }
}
