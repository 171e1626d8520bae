//! The console's pages: the list of devices, signing in and out, and the way on to a device's host.

use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use linkspan_protocol::id::Secret;
use linkspan_protocol::message::ServiceReport;
use maud::Markup;
use serde::Deserialize;

use super::session::note_sign_in;
use super::signed::From;
use super::{ConsoleState, devices};
use crate::access::{self, Attempt, DevicePlace, Permission, Principal, SessionKind, SignInError, door};
use crate::audit::{Action, Entry};
use crate::store::StoreError;
use crate::ui::{self, Login};

/// A page that was not made; the answer says why.
type Page = Result<Response, StoreError>;

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
}

#[derive(Deserialize)]
pub(super) struct Next {
    #[serde(default)]
    next: String,
}

#[derive(Deserialize)]
pub(super) struct SignIn {
    #[serde(default)]
    next: String,
    name: String,
    password: Secret,
}

#[derive(Deserialize)]
pub(super) struct Open {
    to: String,
    nonce: String,
}

/// `GET /`
pub(super) async fn home(
    state: State<ConsoleState>,
    headers: HeaderMap,
    search: Result<Query<Search>, QueryRejection>,
) -> Response {
    or_trouble(home_page(&state, &headers, search.map_or_else(|_| String::new(), |asked| asked.0.q).trim()).await)
}

async fn home_page(state: &ConsoleState, headers: &HeaderMap, search: &str) -> Page {
    let Some(who) = state.access.by_console_cookie(headers).await? else { return Ok(to_login("/")) };
    let all = devices::visible(state, &who).await?;
    let (count, sought) = (all.len(), search.to_lowercase());
    let fits = |text: &str| text.to_lowercase().contains(&sought);
    let shown: Vec<_> = all
        .into_iter()
        .filter(|d| fits(&d.name) || fits(&d.description) || fits(&d.gateway) || d.tags.iter().any(|tag| fits(tag)))
        .collect();
    Ok(answer(StatusCode::OK, ui::devices(&who, &shown, count, search, Timestamp::now())))
}

/// `GET /login`
pub(super) async fn login(
    state: State<ConsoleState>,
    headers: HeaderMap,
    asked: Result<Query<Next>, QueryRejection>,
) -> Response {
    let next = asked.map_or_else(|_| String::new(), |asked| asked.0.next);
    let next = access::relative_path(&next).unwrap_or("/");
    match state.access.by_console_cookie(&headers).await {
        Ok(Some(_)) => Redirect::to(next).into_response(),
        Ok(None) => login_page(&state, StatusCode::OK, Login { next, ..Login::default() }),
        Err(error) => or_trouble(Err(error)),
    }
}

/// `POST /login`
pub(super) async fn sign_in(
    State(state): State<ConsoleState>,
    From(origin): From,
    headers: HeaderMap,
    form: Result<Form<SignIn>, FormRejection>,
) -> Response {
    if !access::is_own_page(&headers, &state.site.console_origin()) {
        let text = "The form was not sent by the console's own page. Open the console and sign in there.";
        return answer(StatusCode::FORBIDDEN, ui::trouble("Not from here", text));
    }
    let Ok(Form(SignIn { next, name, password })) = form else {
        let error = Some("Name and password are both needed.");
        return login_page(&state, StatusCode::BAD_REQUEST, Login { next: "/", error, ..Login::default() });
    };
    let next = access::relative_path(&next).unwrap_or("/");
    let attempt = Attempt { name: &name, password: &password, kind: SessionKind::Console, address: origin.address };
    let signed_in = state.access.sign_in(attempt).await;
    if note_sign_in(&state.audit, &name, &origin, &signed_in).await.is_err() {
        return answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault());
    }
    match signed_in {
        Ok(signed_in) => {
            if let Ok(Some(before)) = state.access.by_console_cookie(&headers).await
                && let Err(error) = state.access.replace(&before, &signed_in).await
            {
                return or_trouble(Err(error));
            }
            let mut response = Redirect::to(next).into_response();
            response.headers_mut().insert(SET_COOKIE, access::console_cookie(&signed_in));
            response
        }
        Err(error) => refused(&state, error, Login { next, name: &name, ..Login::default() }),
    }
}

/// `POST /logout`
pub(super) async fn sign_out(state: State<ConsoleState>, From(origin): From, headers: HeaderMap) -> Response {
    if !access::is_own_page(&headers, &state.site.console_origin()) {
        let text = "The request was not sent by the console's own page.";
        return answer(StatusCode::FORBIDDEN, ui::trouble("Not from here", text));
    }
    let done = async {
        if let Some(who) = state.access.by_console_cookie(&headers).await? {
            state.access.sign_out(&who).await?;
            state.audit.note_later(Entry::new(Action::SESSION_END, &who).from(&origin));
        }
        let mut response = Redirect::to("/login").into_response();
        response.headers_mut().insert(SET_COOKIE, access::no_console_cookie());
        Ok(response)
    };
    or_trouble(done.await)
}

/// `GET /open?to=…&nonce=…`: a device's host sent somebody here to be recognised.
pub(super) async fn open(
    state: State<ConsoleState>,
    headers: HeaderMap,
    uri: http::Uri,
    asked: Result<Query<Open>, QueryRejection>,
) -> Response {
    let place = asked
        .ok()
        .filter(|asked| door::is_nonce_hash(&asked.nonce))
        .and_then(|Query(asked)| access::device_place(&state.site, &asked.to).map(|place| (place, asked.nonce)));
    let Some((place, nonce)) = place else { return missing() };
    let who = match state.access.by_console_cookie(&headers).await {
        Ok(Some(who)) => who,
        Ok(None) => return to_login(uri.path_and_query().map_or("/", |asked| asked.as_str())),
        Err(error) => return or_trouble(Err(error)),
    };
    or_trouble(ticket_for(&state, &who, &place, &nonce).await)
}

async fn ticket_for(state: &ConsoleState, who: &Principal, place: &DevicePlace, nonce: &str) -> Page {
    let device = state.store.device(&place.device).await?;
    let open = device.is_some_and(|device| {
        let wanted = |service: &&ServiceReport| {
            service.kind.is_web() && place.service.as_ref().is_none_or(|name| service.name == *name)
        };
        let service = device.report.services.iter().find(wanted);
        let looks = |service| who.may(Permission::PageView, &device.service_target(service));
        // Who may see the device but not this page is told so there.
        service.is_some_and(looks) || (place.service.is_none() && who.may(Permission::DeviceSee, &device.target()))
    });
    let ticket = if open { door::issue(&state.access, who, place, nonce).await? } else { None };
    Ok(ticket.map_or_else(missing, |to| Redirect::to(&to).into_response()))
}

/// The page for what is not there or not theirs.
pub(super) fn missing() -> Response {
    answer(StatusCode::NOT_FOUND, ui::not_found())
}

/// A page with the policy it needs.
pub(super) fn answer(status: StatusCode, page: Markup) -> Response {
    let mut response = (status, page.into_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, ui::content_security_policy());
    response
}

fn to_login(next: &str) -> Response {
    Redirect::to(&format!("/login?next={}", door::escaped(next))).into_response()
}

fn refused(state: &ConsoleState, error: SignInError, login: Login<'_>) -> Response {
    let text = error.to_string();
    let (status, wait) = match error {
        SignInError::Wrong => (StatusCode::UNAUTHORIZED, None),
        SignInError::Slow(wait) => (StatusCode::TOO_MANY_REQUESTS, Some(wait.as_secs() + 1)),
        SignInError::Busy => (StatusCode::SERVICE_UNAVAILABLE, Some(5)),
        SignInError::Password(error) => {
            tracing::error!(%error, "a password cannot be checked");
            return answer(StatusCode::INTERNAL_SERVER_ERROR, ui::own_fault());
        }
        SignInError::Store(error) => return or_trouble(Err(error)),
    };
    let mut text = text;
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let mut response = login_page(state, status, Login { error: Some(&format!("{text}.")), ..login });
    if let Some(seconds) = wait {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn login_page(state: &ConsoleState, status: StatusCode, login: Login<'_>) -> Response {
    let wanted = login.next.strip_prefix("/open?").and_then(|query| {
        let to = url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "to")?.1;
        Some(access::device_place(&state.site, &to)?.host)
    });
    let mut response = answer(status, ui::login(Login { wanted: wanted.as_deref(), ..login }));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, ui::sign_in_policy(&state.site));
    response
}

fn or_trouble(page: Page) -> Response {
    page.unwrap_or_else(|error| {
        tracing::error!(error = error.in_full(), "the database failed");
        answer(StatusCode::INTERNAL_SERVER_ERROR, ui::own_fault())
    })
}
