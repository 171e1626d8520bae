//! `/welcome`: the pages behind links for one use. Looking at one changes nothing; only its form uses it up.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use linkspan_protocol::id::Secret;
use maud::Markup;
use serde::Deserialize;

use super::ConsoleState;
use super::guards::OurForm;
use super::pages::{answer, or_trouble};
use super::sign_in_pages::{person, refused, sentence};
use super::signed::From;
use crate::access::{ChooseError, SignInError, Token};
use crate::audit::{Action, Entry, Target};
use crate::store::{LinkFor, UserName};
use crate::ui::{self, Welcome};

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    link: String,
}

#[derive(Deserialize)]
pub(super) struct Chosen {
    link: String,
    #[serde(default)]
    name: String,
    new: Secret,
    again: Secret,
}

/// `GET /welcome?link=…`
pub(super) async fn show(state: State<ConsoleState>, asked: Result<Query<Asked>, QueryRejection>) -> Response {
    let link = asked.map_or_else(|_| String::new(), |asked| asked.0.link);
    match link_for(&state, &link).await {
        Ok(Some((_, LinkFor::FirstAccount))) => {
            answer(StatusCode::OK, ui::first_account(Welcome { link: &link, ..Welcome::default() }))
        }
        Ok(Some((_, LinkFor::Password(person)))) => {
            answer(StatusCode::OK, ui::choose_password(Welcome { link: &link, name: &person.name, error: None }))
        }
        Ok(None) => not_good(),
        Err(response) => response,
    }
}

/// `POST /welcome`
pub(super) async fn choose(
    State(state): State<ConsoleState>,
    From(origin): From,
    OurForm(chosen): OurForm<Chosen>,
) -> Response {
    let Chosen { link, name, new, again } = chosen;
    let (token, link_for) = match link_for(&state, &link).await {
        Ok(Some(good)) => good,
        Ok(None) => return not_good(),
        Err(response) => return response,
    };
    let (name, page): (_, fn(Welcome<'_>) -> Markup) = match &link_for {
        LinkFor::FirstAccount => (name.trim(), ui::first_account),
        LinkFor::Password(person) => (person.name.as_str(), ui::choose_password),
    };
    let says = |status, error: &str| answer(status, page(Welcome { link: &link, name, error: Some(error) }));
    if new != again {
        return says(StatusCode::UNPROCESSABLE_ENTITY, "The two passwords are not the same.");
    }
    let done = match &link_for {
        LinkFor::FirstAccount => match name.parse::<UserName>() {
            Ok(name) => state.access.make_first_account(&token, &name, &new, &state.site.console).await,
            Err(error) => return says(StatusCode::UNPROCESSABLE_ENTITY, &sentence(&error.to_string())),
        },
        LinkFor::Password(_) => state.access.choose_password(&token, &new, &state.site.console).await,
    };
    match done {
        Ok(()) => {
            let action = match &link_for {
                LinkFor::FirstAccount => Action::PERSON_ADD,
                LinkFor::Password(_) => Action::PERSON_PASSWORD,
            };
            state.audit.note_later(Entry::new(action, person(name)).from(&origin).on(Target::new("person", name)));
            Redirect::to("/login?done=password").into_response()
        }
        Err(ChooseError::Weak(error)) => says(StatusCode::UNPROCESSABLE_ENTITY, &sentence(&error.to_string())),
        Err(ChooseError::LinkUsed | ChooseError::NotHere) => not_good(),
        Err(ChooseError::NotYou(SignInError::Store(error))) => or_trouble(Err(error)),
        Err(ChooseError::NotYou(error)) => refused(error, |text, status| says(status, text)),
    }
}

async fn link_for(state: &ConsoleState, link: &str) -> Result<Option<(Token, LinkFor)>, Response> {
    let Some(token) = Token::parse(link) else { return Ok(None) };
    let found = state.access.link(&token).await.map_err(|error| or_trouble(Err(error)))?;
    Ok(found.map(|found| (token, found)))
}

fn not_good() -> Response {
    answer(StatusCode::NOT_FOUND, ui::link_used())
}
