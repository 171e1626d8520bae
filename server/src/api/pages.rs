//! The console's pages: the list of devices, signing out, and the way on to a device's host.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use linkspan_protocol::message::ServiceReport;
use maud::Markup;
use serde::Deserialize;

use super::signed::From;
use super::{ConsoleState, devices};
use crate::access::{self, DevicePlace, Permission, Principal, door};
use crate::audit::{Action, Entry};
use crate::rights::TenantId;
use crate::store::{Source, StoreError};
use crate::ui::{self, Brand};

/// A page that was not made; the answer says why.
pub(super) type Page = Result<Response, StoreError>;

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(default)]
    q: String,
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
    let brand = brand_of(state, who.tenant).await?;
    let list = ui::List { shown: &shown, all: count, search };
    let mut response = answer(StatusCode::OK, ui::devices(&brand, &who, list, Timestamp::now()));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, ui::policy_for(&brand));
    Ok(response)
}

/// `POST /logout`
pub(super) async fn sign_out(state: State<ConsoleState>, From(origin): From, headers: HeaderMap) -> Response {
    if !access::is_own_page(&headers, &state.site.console_origin()) {
        let text = "The request was not sent by the console's own page.";
        return answer(StatusCode::FORBIDDEN, ui::trouble("Not from here", text));
    }
    let done = async {
        let mut response = Redirect::to("/login").into_response();
        if let Some(who) = state.access.by_console_cookie(&headers).await? {
            state.access.sign_out(&who).await?;
            state.audit.note_later(Entry::new(Action::SESSION_END, &who).from(&origin));
            if let Some(page) = still_signed_in_elsewhere(&state, &who).await? {
                response = page;
            }
        }
        response.headers_mut().insert(SET_COOKIE, access::no_console_cookie());
        Ok(response)
    };
    or_trouble(done.await)
}

/// What somebody is told whom a provider had vouched for: they still are signed in there.
async fn still_signed_in_elsewhere(state: &ConsoleState, who: &Principal) -> Result<Option<Response>, StoreError> {
    let Some(provider) = state.access.provider() else { return Ok(None) };
    let user = match who.name.parse() {
        Ok(name) => state.store.person(&name).await?,
        Err(_) => None,
    };
    if user.is_none_or(|user| user.source != Source::Oidc) {
        return Ok(None);
    }
    let there = provider.end_of_session(&format!("{}/login", state.site.console_origin())).await;
    Ok(there.map(|there| answer(StatusCode::OK, ui::signed_out(provider.title(), &there))))
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
    let opened = async {
        // Whoever has an account may hold a visit to something else besides.
        let (person, guest) =
            (state.access.by_console_cookie(&headers).await?, state.access.by_visit_cookie(&headers).await?);
        let came_signed_in = person.is_some();
        if person.is_none() && guest.is_none() {
            return Ok(to_login(uri.path_and_query().map_or("/", |asked| asked.as_str())));
        }
        for who in [person, guest].into_iter().flatten() {
            if let Some(to) = ticket_for(&state, &who, &place, &nonce).await? {
                return Ok(Redirect::to(&to).into_response());
            }
        }
        // Who signs in in several tabs at once ends the session of one with the next.
        if came_signed_in && state.access.by_console_cookie(&headers).await?.is_none() {
            return Ok(to_login(uri.path_and_query().map_or("/", |asked| asked.as_str())));
        }
        Ok(missing())
    };
    or_trouble(opened.await)
}

/// How an organisation's pages look.
pub(super) async fn brand_of(state: &ConsoleState, tenant: TenantId) -> Result<Brand, StoreError> {
    let tenant = state.store.tenant(tenant).await?;
    Ok(tenant.and_then(|tenant| Brand::parse(&tenant.title, &tenant.colour).ok()).unwrap_or_default())
}

async fn ticket_for(
    state: &ConsoleState,
    who: &Principal,
    place: &DevicePlace,
    nonce: &str,
) -> Result<Option<String>, StoreError> {
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
    if open { door::issue(&state.access, who, place, nonce).await } else { Ok(None) }
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

pub(super) fn to_login(next: &str) -> Response {
    Redirect::to(&format!("/login?next={}", door::escaped(next))).into_response()
}

pub(super) fn or_trouble(page: Page) -> Response {
    page.unwrap_or_else(|error| {
        tracing::error!(error = error.in_full(), "the database failed");
        answer(StatusCode::INTERNAL_SERVER_ERROR, ui::own_fault())
    })
}
