//! `/oidc/…`: the way to an OpenID provider and back.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

use super::ConsoleState;
use super::guards::caller;
use super::pages::{answer, missing, or_trouble};
use super::session::note_sign_in;
use super::sign_in_pages::{arrived, sentence};
use super::signed::From;
use crate::access::{self, Back, OidcError, SignInError, no_provider_cookie, provider_cookie, shown_at_provider};
use crate::audit::{Action, Actor, ActorKind, Entry};
use crate::ui;

#[derive(Deserialize)]
pub(super) struct Start {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct Callback {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// `GET /oidc/start?next=…`
pub(super) async fn start(state: State<ConsoleState>, asked: Result<Query<Start>, QueryRejection>) -> Response {
    let Some(provider) = state.access.provider() else { return missing() };
    let next = asked.map_or_else(|_| String::new(), |asked| asked.0.next);
    let next = access::relative_path(&next).unwrap_or("/");
    match state.access.go_to_provider(provider, next).await {
        Ok(away) => {
            let mut response = Redirect::to(&away.location).into_response();
            response.headers_mut().append(SET_COOKIE, provider_cookie(&away.browser));
            response
        }
        Err(error) => trouble(error),
    }
}

/// `GET /oidc/callback?state=…&code=…`
pub(super) async fn callback(
    state: State<ConsoleState>,
    From(origin): From,
    headers: HeaderMap,
    asked: Result<Query<Callback>, QueryRejection>,
) -> Response {
    let Some(provider) = state.access.provider() else { return missing() };
    let Ok(Query(asked)) = asked else { return trouble(OidcError::Stale) };
    let back = Back {
        state: &asked.state,
        code: asked.code.as_deref(),
        error: asked.error.as_deref(),
        issuer: asked.iss.as_deref(),
    };
    let browser = shown_at_provider(&headers);
    match state.access.back_from_provider(provider, (back, browser), caller(&origin)).await {
        Ok((signed_in, name, next)) => {
            let noted = note_sign_in(&state, name.as_str(), &origin, &Ok::<_, SignInError>(())).await;
            if noted.is_err() {
                return answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault());
            }
            let next = access::relative_path(&next).unwrap_or("/");
            let mut response = arrived(&state, &headers, &signed_in, Redirect::to(next).into_response()).await;
            response.headers_mut().append(SET_COOKIE, no_provider_cookie());
            response
        }
        Err(error) => {
            let stranger = Actor::new(ActorKind::Stranger, "");
            state.audit.note_later(Entry::new(Action::SESSION_BEGIN, stranger).from(&origin).denied(error.to_string()));
            trouble(error)
        }
    }
}

fn trouble(error: OidcError) -> Response {
    let status = match &error {
        OidcError::Stale | OidcError::Refused(_) | OidcError::Unbelievable(_) => StatusCode::UNAUTHORIZED,
        OidcError::NotWelcome => StatusCode::FORBIDDEN,
        OidcError::Provider(_) => StatusCode::BAD_GATEWAY,
        OidcError::SignIn(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    tracing::warn!(%error, "a sign-in through the provider comes to nothing");
    match error {
        OidcError::SignIn(SignInError::Store(error)) => or_trouble(Err(error)),
        // What is wrong with the provider is for whoever runs the server, not for strangers.
        OidcError::Provider(_) => {
            answer(status, ui::sign_in_trouble("Your organisation's sign-in cannot be reached now."))
        }
        error => answer(status, ui::sign_in_trouble(&sentence(&error.to_string()))),
    }
}
