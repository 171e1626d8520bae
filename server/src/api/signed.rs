//! Takes from a request who sends it, and from where; handlers that ask for who are closed to strangers.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::header::{AUTHORIZATION, USER_AGENT};
use http::request::Parts;

use super::{ConsoleState, Problem};
use crate::access::{ClientAddress, Principal, is_own_page};
use crate::audit::Origin;

/// Somebody who has signed in. A cookie with a method that changes something counts only from our own pages.
pub(super) struct Signed(pub(super) Principal);

impl FromRequestParts<ConsoleState> for Signed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ConsoleState) -> Result<Self, Problem> {
        let who = state.access.on_console(&parts.headers).await?.ok_or_else(Problem::unauthorized)?;
        let by_cookie = !parts.headers.contains_key(AUTHORIZATION);
        if by_cookie && !parts.method.is_safe() && !is_own_page(&parts.headers, &state.site.console_origin()) {
            return Err(Problem::foreign_page());
        }
        Ok(Self(who))
    }
}

/// Where a request comes from.
pub(super) struct From(pub(super) Origin);

impl<S: Sync> FromRequestParts<S> for From {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(origin(parts)))
    }
}

/// Where a request comes from: the address as the edge saw it, and what the program calls itself.
pub(super) fn origin(parts: &Parts) -> Origin {
    let address = parts.extensions.get::<ClientAddress>().map(|ClientAddress(address)| *address);
    let client = parts.headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    Origin { address, client }
}
