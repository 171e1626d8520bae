//! Takes from a request who sends it; handlers that ask for it are closed to strangers.

use axum::extract::FromRequestParts;
use http::request::Parts;

use super::{ConsoleState, Problem};
use crate::access::{Principal, is_own_page};

/// Somebody who has signed in. A cookie with a method that changes something counts only from our own pages.
pub(super) struct Signed(pub(super) Principal);

impl FromRequestParts<ConsoleState> for Signed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ConsoleState) -> Result<Self, Problem> {
        let who = state.access.on_console(&parts.headers).await?.ok_or_else(Problem::unauthorized)?;
        let by_cookie = !parts.headers.contains_key(http::header::AUTHORIZATION);
        if by_cookie && !parts.method.is_safe() && !is_own_page(&parts.headers, &state.site.console_origin()) {
            return Err(Problem::foreign_page());
        }
        Ok(Self(who))
    }
}
