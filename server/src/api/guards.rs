//! What handlers of pages ask of a request: a form from our own page, somebody who is signed in, who is calling.

use axum::Form;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;

use super::ConsoleState;
use super::pages::{answer, or_trouble, to_login};
use crate::access::{Caller, Principal, is_own_page};
use crate::audit::Origin;
use crate::ui;

/// A form that one of our own pages has sent (against forged requests from other sites).
pub(super) struct OurForm<T>(pub(super) T);

/// Somebody who is signed in with a cookie; strangers are sent to sign in, and come back.
pub(super) struct Visitor(pub(super) Principal);

/// Who is at the other end, for whoever begins a session.
pub(super) fn caller(origin: &Origin) -> Caller<'_> {
    Caller { address: origin.address, agent: origin.client.as_deref() }
}

impl<T: DeserializeOwned + Send> FromRequest<ConsoleState> for OurForm<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &ConsoleState) -> Result<Self, Response> {
        if !is_own_page(request.headers(), &state.site.console_origin()) {
            let text = "The form was not sent by the console's own page. Open the console and try again there.";
            return Err(answer(StatusCode::FORBIDDEN, ui::trouble("Not from here", text)));
        }
        match Form::<T>::from_request(request, state).await {
            Ok(Form(form)) => Ok(Self(form)),
            Err(error) => {
                let status = match error.into_response().status() {
                    status if status.is_client_error() => status,
                    _ => StatusCode::BAD_REQUEST,
                };
                let text = "Something in the form is missing, or too long. Go back and fill in all of it.";
                Err(answer(status, ui::trouble("The form is not complete", text)))
            }
        }
    }
}

impl FromRequestParts<ConsoleState> for Visitor {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &ConsoleState) -> Result<Self, Response> {
        match state.access.by_console_cookie(&parts.headers).await {
            Ok(Some(who)) => Ok(Self(who)),
            // Nobody comes back to what a form does.
            Ok(None) if !parts.method.is_safe() => Err(to_login("/account")),
            Ok(None) => Err(to_login(parts.uri.path_and_query().map_or("/", |asked| asked.as_str()))),
            Err(error) => Err(or_trouble(Err(error))),
        }
    }
}
