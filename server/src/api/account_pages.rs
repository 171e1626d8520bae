//! `/account`: a person's own password, second factor and sessions.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::StatusCode;
use jiff::Timestamp;
use linkspan_protocol::id::Secret;
use serde::Deserialize;

use super::ConsoleState;
use super::guards::{OurForm, Visitor};
use super::pages::{Page, answer, or_trouble};
use super::sign_in_pages::{refused, sentence, told};
use super::signed::From;
use crate::access::{ChooseError, CodeError, Principal, Recognised, SessionId, SignInError};
use crate::audit::{Action, Entry};
use crate::store::{Source, StoreError, User};
use crate::ui::{self, Account};

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
pub(super) struct NewPassword {
    present: Secret,
    new: Secret,
    again: Secret,
}

#[derive(Deserialize)]
pub(super) struct Proof {
    code: String,
    present: Secret,
}

#[derive(Deserialize)]
pub(super) struct Code {
    code: String,
}

#[derive(Deserialize)]
pub(super) struct Ended {
    id: String,
}

/// A page that asks for a code.
#[derive(Clone, Copy)]
struct Asking {
    title: &'static str,
    text: &'static str,
    action: &'static str,
}

const REMOVE: Asking = Asking {
    title: "Remove the second factor",
    text: "From then on your password alone signs you in.",
    action: "/account/second-factor/remove",
};
const RENEW: Asking = Asking {
    title: "New recovery codes",
    text: "The old ones will not work any more.",
    action: "/account/recovery-codes",
};

/// `GET /account`
pub(super) async fn show(
    state: State<ConsoleState>,
    Visitor(who): Visitor,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let done = asked.map_or_else(|_| String::new(), |asked| asked.0.done);
    let done = match done.as_str() {
        "password" => Some("Your password is changed. You are signed out everywhere else."),
        "session" => Some("That session has ended."),
        "sessions" => Some("All other sessions have ended."),
        "removed" => Some("Your second factor is removed."),
        _ => None,
    };
    or_trouble(account(&state, &who, done).await)
}

async fn account(state: &ConsoleState, who: &Principal, done: Option<&str>) -> Page {
    let access = &state.access;
    let sessions = access.sessions(who.user).await?;
    let codes_left = match access.has_second_factor(who.user).await? {
        true => Some(access.recovery_codes_left(who.user).await?),
        false => None,
    };
    let required = access.must_have_second_factor(who.user).await?;
    let source = user(state, who).await?.map_or(Source::Local, |user| user.source);
    let page = Account { who, source, codes_left, required, sessions: &sessions, done, now: Timestamp::now() };
    Ok(answer(StatusCode::OK, ui::account(page)))
}

/// `GET /account/password`
pub(super) async fn password(Visitor(who): Visitor) -> Response {
    answer(StatusCode::OK, ui::change_password(None, &who.name))
}

/// `POST /account/password`
pub(super) async fn change_password(
    State(state): State<ConsoleState>,
    From(origin): From,
    Visitor(who): Visitor,
    OurForm(NewPassword { present, new, again }): OurForm<NewPassword>,
) -> Response {
    let says = |text: &str, status| answer(status, ui::change_password(Some(text), &who.name));
    if new != again {
        return says("The two new passwords are not the same.", StatusCode::UNPROCESSABLE_ENTITY);
    }
    match state.access.change_password(&who, &present, &new, &state.site.console).await {
        Ok(()) => {
            state.audit.note_later(Entry::new(Action::PERSON_PASSWORD, &who).from(&origin));
            to_account("password")
        }
        Err(error) => not_changed(error, says),
    }
}

/// `GET /account/second-factor`
pub(super) async fn second_factor(state: State<ConsoleState>, Visitor(who): Visitor) -> Response {
    offered(&state, &who, (StatusCode::OK, None)).await
}

/// `POST /account/second-factor`
pub(super) async fn set_up(
    State(state): State<ConsoleState>,
    From(origin): From,
    Visitor(who): Visitor,
    OurForm(Proof { code, present }): OurForm<Proof>,
) -> Response {
    if let Err(error) = state.access.check_own_password(&who, &present).await {
        let mut told = None;
        let response = not_changed(error, |text, status| {
            told = Some((status, text.to_owned()));
            status.into_response()
        });
        return match told {
            Some((status, text)) => offered(&state, &who, (status, Some(&text))).await,
            None => response,
        };
    }
    match state.access.prove_second_factor(&recognised(&who), &code).await {
        Ok(codes) => {
            state.audit.note_later(Entry::new(Action::PERSON_FACTOR, &who).from(&origin).with("what", "set up"));
            answer(StatusCode::OK, ui::recovery_codes(&codes, "/account"))
        }
        Err(CodeError::Store(error)) => or_trouble(Err(error)),
        Err(error) => {
            let (status, text) = told(&error);
            offered(&state, &who, (status, Some(&text))).await
        }
    }
}

/// `GET /account/second-factor/remove`
pub(super) async fn ask_to_remove(Visitor(_): Visitor) -> Response {
    asking(REMOVE, StatusCode::OK, None)
}

/// `POST /account/second-factor/remove`
pub(super) async fn remove(
    State(state): State<ConsoleState>,
    From(origin): From,
    Visitor(who): Visitor,
    OurForm(Code { code }): OurForm<Code>,
) -> Response {
    let done = async {
        if state.access.must_have_second_factor(who.user).await? {
            let text = "You must have a second factor.";
            return Ok(asking(REMOVE, StatusCode::FORBIDDEN, Some(text)));
        }
        state.access.check_code(&recognised(&who), &code).await?;
        state.access.give_up_second_factor(&who).await?;
        state.audit.note_later(Entry::new(Action::PERSON_FACTOR, &who).from(&origin).with("what", "removed"));
        Ok(to_account("removed"))
    };
    with_code(REMOVE, done.await)
}

/// `GET /account/recovery-codes`
pub(super) async fn ask_to_renew(Visitor(_): Visitor) -> Response {
    asking(RENEW, StatusCode::OK, None)
}

/// `POST /account/recovery-codes`
pub(super) async fn renew(
    State(state): State<ConsoleState>,
    From(origin): From,
    Visitor(who): Visitor,
    OurForm(Code { code }): OurForm<Code>,
) -> Response {
    let done = async {
        state.access.check_code(&recognised(&who), &code).await?;
        let codes = state.access.new_recovery_codes(who.user).await?;
        let entry = Entry::new(Action::PERSON_FACTOR, &who).from(&origin).with("what", "new recovery codes");
        state.audit.note_later(entry);
        Ok(answer(StatusCode::OK, ui::recovery_codes(&codes, "/account")))
    };
    with_code(RENEW, done.await)
}

/// `POST /account/sessions/end`
pub(super) async fn end_session(
    State(state): State<ConsoleState>,
    From(origin): From,
    Visitor(who): Visitor,
    OurForm(Ended { id }): OurForm<Ended>,
) -> Response {
    let Ok(id) = id.parse::<SessionId>() else { return super::pages::missing() };
    match state.access.end_session(who.user, id).await {
        // One that has ended by itself meanwhile is what was wanted too.
        Ok(_) => {
            state.audit.note_later(Entry::new(Action::SESSION_REVOKE, &who).from(&origin));
            to_account("session")
        }
        Err(error) => or_trouble(Err(error)),
    }
}

/// `POST /account/sessions/end-others`
pub(super) async fn end_others(
    State(state): State<ConsoleState>,
    From(origin): From,
    Visitor(who): Visitor,
    OurForm(()): OurForm<()>,
) -> Response {
    match state.access.end_sessions(who.user, who.session()).await {
        Ok(_) => {
            state.audit.note_later(Entry::new(Action::SESSION_REVOKE, &who).from(&origin));
            to_account("sessions")
        }
        Err(error) => or_trouble(Err(error)),
    }
}

async fn user(state: &ConsoleState, who: &Principal) -> Result<Option<User>, StoreError> {
    match who.name.parse() {
        Ok(name) => state.store.person(&name).await,
        Err(_) => Ok(None),
    }
}

async fn offered(state: &ConsoleState, who: &Principal, (status, error): (StatusCode, Option<&str>)) -> Response {
    let page = async {
        // Whose second factor is somebody else's business sets up none here.
        if user(state, who).await?.is_some_and(|user| user.source == Source::Oidc) {
            return Ok(Redirect::to("/account").into_response());
        }
        Ok(match state.access.offer_second_factor(&recognised(who), &state.site.console).await? {
            Some(offer) => answer(status, ui::set_up_second_factor(&offer, error)),
            None => Redirect::to("/account").into_response(),
        })
    };
    or_trouble(page.await)
}

fn recognised(who: &Principal) -> Recognised {
    Recognised { user: who.user, name: who.name.clone() }
}

fn asking(asking: Asking, status: StatusCode, error: Option<&str>) -> Response {
    answer(status, ui::with_code(asking.title, asking.text, asking.action, error))
}

fn with_code(page: Asking, done: Result<Response, CodeError>) -> Response {
    match done {
        Ok(response) => response,
        Err(CodeError::Store(error)) => or_trouble(Err(error)),
        Err(error) => {
            let (status, text) = told(&error);
            asking(page, status, Some(&text))
        }
    }
}

fn not_changed(error: ChooseError, says: impl FnOnce(&str, StatusCode) -> Response) -> Response {
    match error {
        ChooseError::Weak(error) => says(&sentence(&error.to_string()), StatusCode::UNPROCESSABLE_ENTITY),
        ChooseError::NotYou(SignInError::Wrong) => says("Your password is wrong.", StatusCode::UNAUTHORIZED),
        ChooseError::NotYou(error) => refused(error, says),
        error => says(&sentence(&error.to_string()), StatusCode::CONFLICT),
    }
}

fn to_account(done: &str) -> Response {
    Redirect::to(&format!("/account?done={done}")).into_response()
}
