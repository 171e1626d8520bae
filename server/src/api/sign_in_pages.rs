//! The pages to sign in on: name and password, the second factor, and setting one up where it is required.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{CONTENT_SECURITY_POLICY, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use linkspan_protocol::id::Secret;
use maud::Markup;
use serde::Deserialize;

use super::ConsoleState;
use super::guards::{OurForm, caller};
use super::pages::{answer, or_trouble, to_login};
use super::session::note_sign_in;
use super::signed::From;
use crate::access::{
    self, Attempt, CodeError, FirstStep, Recognised, SessionKind, SignInError, SignedIn, Token, door, half_cookie,
    no_half_cookie, shown_half,
};
use crate::audit::{Action, Actor, ActorKind, Entry};
use crate::store::StoreError;
use crate::ui::{self, Login};

#[derive(Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    next: String,
    #[serde(default)]
    done: String,
}

#[derive(Deserialize)]
pub(super) struct SignIn {
    #[serde(default)]
    next: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    password: Option<Secret>,
}

#[derive(Deserialize)]
pub(super) struct Code {
    #[serde(default)]
    next: String,
    code: String,
}

/// `GET /login`
pub(super) async fn login(
    state: State<ConsoleState>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let Asked { next, done } = asked.map_or(Asked { next: String::new(), done: String::new() }, |asked| asked.0);
    let next = access::relative_path(&next).unwrap_or("/");
    let done = (done == "password").then_some("Your password is chosen. Sign in with it.");
    match state.access.by_console_cookie(&headers).await {
        Ok(Some(_)) => Redirect::to(next).into_response(),
        Ok(None) => login_page(&state, StatusCode::OK, Login { next, done, ..Login::default() }),
        Err(error) => or_trouble(Err(error)),
    }
}

/// `POST /login`
pub(super) async fn sign_in(
    State(state): State<ConsoleState>,
    From(origin): From,
    headers: HeaderMap,
    OurForm(SignIn { next, name, password }): OurForm<SignIn>,
) -> Response {
    let next = access::relative_path(&next).unwrap_or("/");
    let login = Login { next, name: &name, ..Login::default() };
    let Some(password) = password.filter(|_| !name.is_empty()) else {
        let error = Some("Name and password are both needed.");
        return login_page(&state, StatusCode::BAD_REQUEST, Login { error, ..login });
    };
    let (kind, caller) = (SessionKind::Console, caller(&origin));
    let attempt = Attempt { name: &name, password: &password, code: None, kind, caller };
    let step = state.access.first_step(attempt).await;
    // Who still needs a code has not signed in yet.
    if !matches!(step, Ok(FirstStep::Code(_) | FirstStep::SetUp(_)))
        && note_sign_in(&state, &name, &origin, &step).await.is_err()
    {
        return answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault());
    }
    match step {
        Ok(FirstStep::Done(signed_in)) => {
            arrived(&state, &headers, &signed_in, Redirect::to(next).into_response()).await
        }
        Ok(FirstStep::Code(half)) => half_way("/login/code", next, &half),
        Ok(FirstStep::SetUp(half)) => half_way("/login/second-factor", next, &half),
        Err(error) => refused(error, |text, status| login_page(&state, status, Login { error: Some(text), ..login })),
    }
}

/// `GET /login/code`
pub(super) async fn code(
    state: State<ConsoleState>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let next = next_of(asked);
    match waiting(&state, &headers).await {
        Ok(Some(_)) => form_page(&state, StatusCode::OK, ui::code(&next, None)),
        Ok(None) => to_login(&next),
        Err(error) => or_trouble(Err(error)),
    }
}

/// `POST /login/code`
pub(super) async fn second_step(
    State(state): State<ConsoleState>,
    From(origin): From,
    headers: HeaderMap,
    OurForm(Code { next, code }): OurForm<Code>,
) -> Response {
    let next = access::relative_path(&next).unwrap_or("/");
    let (half, who) = match waiting(&state, &headers).await {
        Ok(Some(waiting)) => waiting,
        Ok(None) => return to_login(next),
        Err(error) => return or_trouble(Err(error)),
    };
    let signed_in = state.access.second_step(&half, &code, caller(&origin)).await;
    if note_sign_in(&state, &who.name, &origin, &signed_in).await.is_err() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault());
    }
    match signed_in {
        Ok(signed_in) => arrived(&state, &headers, &signed_in, Redirect::to(next).into_response()).await,
        Err(SignInError::Stale) => {
            let error = Some("This took too long, or too many codes were wrong. Sign in again.");
            login_page(&state, StatusCode::UNAUTHORIZED, Login { next, error, ..Login::default() })
        }
        Err(error) => refused(error, |text, status| form_page(&state, status, ui::code(next, Some(text)))),
    }
}

/// `GET /login/second-factor`
pub(super) async fn required(
    state: State<ConsoleState>,
    headers: HeaderMap,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Response {
    let next = next_of(asked);
    match waiting(&state, &headers).await {
        Ok(Some((_, who))) => required_page(&state, &who, &next, (StatusCode::OK, None)).await,
        Ok(None) => to_login(&next),
        Err(error) => or_trouble(Err(error)),
    }
}

/// `POST /login/second-factor`
pub(super) async fn set_up(
    State(state): State<ConsoleState>,
    From(origin): From,
    headers: HeaderMap,
    OurForm(Code { next, code }): OurForm<Code>,
) -> Response {
    let next = access::relative_path(&next).unwrap_or("/");
    let (half, who) = match waiting(&state, &headers).await {
        Ok(Some(waiting)) => waiting,
        Ok(None) => return to_login(next),
        Err(error) => return or_trouble(Err(error)),
    };
    let codes = match state.access.prove_second_factor(&who, &code).await {
        Ok(codes) => codes,
        Err(CodeError::Store(error)) => return or_trouble(Err(error)),
        Err(error) => {
            let (status, text) = told(&error);
            return required_page(&state, &who, next, (status, Some(&text))).await;
        }
    };
    let entry = Entry::new(Action::PERSON_FACTOR, person(&who.name)).from(&origin).with("what", "set up");
    state.audit.note_later(entry);
    let signed_in = state.access.complete(&half, &who, caller(&origin)).await;
    if note_sign_in(&state, &who.name, &origin, &signed_in).await.is_err() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault());
    }
    match signed_in {
        Ok(signed_in) => {
            let page = form_page(&state, StatusCode::OK, ui::recovery_codes(&codes, next));
            arrived(&state, &headers, &signed_in, page).await
        }
        Err(SignInError::Store(error)) => or_trouble(Err(error)),
        Err(_) => to_login(next),
    }
}

/// Somebody who has shown who they are, before there is a session.
pub(super) fn person(name: &str) -> Actor {
    Actor::new(ActorKind::Person, name)
}

/// What is said of a code that was not taken.
pub(super) fn told(error: &CodeError) -> (StatusCode, String) {
    let status = match error {
        CodeError::Wrong => StatusCode::UNAUTHORIZED,
        CodeError::Slow(_) => StatusCode::TOO_MANY_REQUESTS,
        CodeError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, sentence(&error.to_string()))
}

/// An error's text as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut text = format!("{text}.");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

/// The browser is signed in: with a new cookie, and without those it no longer needs.
pub(super) async fn arrived(
    state: &ConsoleState,
    headers: &HeaderMap,
    signed_in: &SignedIn,
    mut response: Response,
) -> Response {
    if let Ok(Some(before)) = state.access.by_console_cookie(headers).await
        && let Err(error) = state.access.replace(&before, signed_in).await
    {
        return or_trouble(Err(error));
    }
    response.headers_mut().append(SET_COOKIE, access::console_cookie(signed_in));
    if shown_half(headers).is_some() {
        response.headers_mut().append(SET_COOKIE, no_half_cookie());
    }
    response
}

/// What a failed sign-in says, and how long to wait.
pub(super) fn refused(error: SignInError, page: impl FnOnce(&str, StatusCode) -> Response) -> Response {
    let text = sentence(&error.to_string());
    let (status, wait) = match error {
        SignInError::Wrong
        | SignInError::WrongCode
        | SignInError::CodeNeeded
        | SignInError::SetUpNeeded
        | SignInError::Stale => (StatusCode::UNAUTHORIZED, None),
        SignInError::Slow(wait) => (StatusCode::TOO_MANY_REQUESTS, Some(wait.as_secs() + 1)),
        SignInError::Busy | SignInError::DirectorySilent => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        SignInError::Password(error) => {
            tracing::error!(%error, "a password cannot be checked");
            return answer(StatusCode::INTERNAL_SERVER_ERROR, ui::own_fault());
        }
        SignInError::Store(error) => return or_trouble(Err(error)),
    };
    let mut response = page(&text, status);
    if let Some(seconds) = wait {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn half_way(path: &str, next: &str, half: &Token) -> Response {
    let mut response = Redirect::to(&format!("{path}?next={}", door::escaped(next))).into_response();
    response.headers_mut().append(SET_COOKIE, half_cookie(half));
    response
}

async fn waiting(state: &ConsoleState, headers: &HeaderMap) -> Result<Option<(Token, Recognised)>, StoreError> {
    let Some(half) = shown_half(headers) else { return Ok(None) };
    Ok(state.access.half_signed_in(&half).await?.map(|who| (half, who)))
}

async fn required_page(
    state: &ConsoleState,
    who: &Recognised,
    next: &str,
    (status, error): (StatusCode, Option<&str>),
) -> Response {
    match state.access.offer_second_factor(who, &state.site.console).await {
        Ok(Some(offer)) => form_page(state, status, ui::required(&offer, next, error)),
        // It has been set up in the meantime, in another tab.
        Ok(None) => Redirect::to(&format!("/login/code?next={}", door::escaped(next))).into_response(),
        Err(error) => or_trouble(Err(error)),
    }
}

fn next_of(asked: Result<Query<Asked>, QueryRejection>) -> String {
    let next = asked.map_or_else(|_| String::new(), |asked| asked.0.next);
    access::relative_path(&next).unwrap_or("/").to_owned()
}

fn login_page(state: &ConsoleState, status: StatusCode, login: Login<'_>) -> Response {
    let wanted = login.next.strip_prefix("/open?").and_then(|query| {
        let to = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "to")?.1;
        Some(access::device_place(&state.site, &to)?.host)
    });
    let href = format!("/oidc/start?next={}", door::escaped(login.next));
    let provider = state.access.provider().map(|provider| (provider.title(), href.as_str()));
    form_page(state, status, ui::login(Login { wanted: wanted.as_deref(), provider, ..login }))
}

/// A page whose form may lead on to a device's host.
fn form_page(state: &ConsoleState, status: StatusCode, page: Markup) -> Response {
    let mut response = answer(status, page);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, ui::sign_in_policy(&state.site));
    response
}
