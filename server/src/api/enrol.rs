//! `POST /api/v1/enroll`: routers become gateways here, and gateways renew their certificates. Open to everybody; the
//! code, the key or the certificate that is shown decides.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use http::header::{CACHE_CONTROL, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use linkspan_protocol::enrol::{ENROL_PATH, EnrolRequest};

use super::{Kind, Problem, Strict};
use crate::audit::{Action, Actor, ActorKind, Audit, Entry, NotRecorded, Origin, Target};
use crate::edge::connection::Peer;
use crate::enrol::{Answer, Desk, EnrolError};

/// Largest request: a code, a key, a signature and a name.
const BODY_MAX: usize = 4096;

/// The route of the desk.
pub fn routes(desk: Desk, audit: Audit) -> Router {
    let route = Router::new().route(ENROL_PATH, post(enrol)).layer(DefaultBodyLimit::max(BODY_MAX));
    route.layer(map_response(super::guarded)).with_state((desk, audit))
}

async fn enrol(
    State((desk, audit)): State<(Desk, Audit)>,
    Extension(peer): Extension<Peer>,
    Strict(request): Strict<EnrolRequest>,
) -> Response {
    let answer = desk.answer(&request, peer.certificate.as_ref(), peer.address.ip()).await;
    if let Err(error) = note(&audit, &request, &peer, &answer).await {
        return Problem::from(error).into_response();
    }
    let mut response = match answer {
        Ok(Answer::Enrolled(enrolled)) => Json(*enrolled).into_response(),
        Ok(Answer::Pending { after, .. }) => {
            let told = serde_json::json!({ "status": "pending" });
            (StatusCode::ACCEPTED, [(RETRY_AFTER, HeaderValue::from(after.as_secs()))], Json(told)).into_response()
        }
        Err(error) => Problem::from(error).into_response(),
    };
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Notes down who became a gateway, and who was refused. Whoever cannot be noted down gets no certificate; they may ask
/// again with what they have.
async fn note(
    audit: &Audit,
    request: &EnrolRequest,
    peer: &Peer,
    answer: &Result<Answer, EnrolError>,
) -> Result<(), NotRecorded> {
    let action = if request.code.is_some() { Action::GATEWAY_ENROL } else { Action::GATEWAY_RENEW };
    let origin = Origin { address: Some(peer.address.ip().to_canonical()), client: Some(request.agent.clone()) };
    match answer {
        Ok(Answer::Enrolled(enrolled)) => {
            let actor = Actor::new(ActorKind::Gateway, enrolled.name.as_str());
            audit.note(Entry::new(action, actor).from(&origin).on(Target::gateway(&enrolled.name))).await
        }
        Ok(Answer::Pending { new: Some(one), .. }) => {
            let proposed = request.name.as_ref().map_or("", |name| name.as_str());
            let entry = Entry::new(Action::ENROLMENT_ASK, Actor::new(ActorKind::Stranger, proposed)).from(&origin);
            let entry = entry.within(one.tenant).on(Target::new("enrolment", one.id.number()));
            audit.note_stranger(entry.with("key", one.key.to_string()).with("public_key", one.public_key.clone()));
            Ok(())
        }
        Err(error @ (EnrolError::Refused | EnrolError::Declined | EnrolError::NotRenewed | EnrolError::Slow(_))) => {
            let claimed = request.name.as_ref().map_or("", |name| name.as_str());
            let entry = Entry::new(action, Actor::new(ActorKind::Stranger, claimed)).from(&origin);
            audit.note_stranger(entry.denied(error.to_string()));
            Ok(())
        }
        _ => Ok(()),
    }
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
