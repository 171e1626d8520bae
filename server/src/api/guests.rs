//! The pages of guests: a visit's link, beginning the visit, and what there is to open.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Redirect, Response};
use http::header::{CONTENT_SECURITY_POLICY, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use linkspan_protocol::message::ServiceKind;

use super::guards::caller;
use super::signed::From;
use super::{ConsoleState, pages, visits};
use crate::access::{self, Permission, Principal, SessionKind, SignedIn};
use crate::store::{StoreError, UserKind, Visit};
use crate::ui::{self, Brand, Closed, Invitation, Way};

/// A page that was not made; the answer says why.
type Page = Result<Response, StoreError>;

/// `GET /visit/{token}`: says what the link is for, and does nothing.
pub(super) async fn look(State(state): State<ConsoleState>, Path(token): Path<String>) -> Response {
    let page = async {
        let Some(visit) = state.access.visit(&token).await? else { return Ok(pages::missing()) };
        let brand = brand(&state, &visit).await?;
        let now = Timestamp::now();
        if visit.state(now) != "open" || visit.uses >= visit.uses_max {
            return Ok(closed(&brand, &visit, &token));
        }
        let to = in_words(&visit);
        Ok(answer(StatusCode::OK, &brand, ui::invitation(&brand, invitation(&visit, &to), &token)))
    };
    pages::or_trouble(page.await)
}

/// `POST /visit/{token}`: uses the link, and makes this browser the guest's.
pub(super) async fn begin(
    State(state): State<ConsoleState>,
    Path(token): Path<String>,
    From(origin): From,
    headers: HeaderMap,
) -> Response {
    if !access::is_own_page(&headers, &state.site.console_origin()) {
        return foreign();
    }
    let page = async {
        let Some(visit) = state.access.visit(&token).await? else { return Ok(pages::missing()) };
        if state.audit.usable().await.is_err() {
            return Ok(pages::answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault()));
        }
        let Some(signed_in) = state.access.redeem_visit(&visit, SessionKind::Console, caller(&origin)).await? else {
            let brand = brand(&state, &visit).await?;
            return Ok(closed(&brand, &visit, &token));
        };
        if visits::note_use(&state, (&visit, "a browser"), &origin).await.is_err() {
            return Ok(pages::answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault()));
        }
        let mut response = Redirect::to("/visit").into_response();
        response.headers_mut().insert(SET_COOKIE, access::visit_cookie(&signed_in));
        Ok(response)
    };
    pages::or_trouble(page.await)
}

/// `GET /visit`: what the guest of this browser may open.
pub(super) async fn show(State(state): State<ConsoleState>, headers: HeaderMap) -> Response {
    pages::or_trouble(visiting(&state, &headers, None).await)
}

/// `POST /visit/token`: a token for the guest's command line, shown once.
pub(super) async fn token(State(state): State<ConsoleState>, From(origin): From, headers: HeaderMap) -> Response {
    if !access::is_own_page(&headers, &state.site.console_origin()) {
        return foreign();
    }
    let page = async {
        let Some((_, visit)) = guest(&state, &headers).await? else { return Ok(pages::missing()) };
        if visits::note_use(&state, (&visit, "the command line"), &origin).await.is_err() {
            return Ok(pages::answer(StatusCode::SERVICE_UNAVAILABLE, ui::own_fault()));
        }
        let made = state.access.visit_session(&visit, SessionKind::Api, caller(&origin)).await?;
        visiting(&state, &headers, Some(&made)).await
    };
    pages::or_trouble(page.await)
}

/// `POST /visit/leave`: ends the visit in this browser.
pub(super) async fn leave(State(state): State<ConsoleState>, From(origin): From, headers: HeaderMap) -> Response {
    if !access::is_own_page(&headers, &state.site.console_origin()) {
        return foreign();
    }
    let page = async {
        let Some((who, visit)) = guest(&state, &headers).await? else { return Ok(pages::missing()) };
        state.access.sign_out(&who).await?;
        visits::note_leave(&state, &visit, &origin);
        let brand = brand(&state, &visit).await?;
        let mut response = answer(StatusCode::OK, &brand, ui::visit_left(&brand));
        response.headers_mut().insert(SET_COOKIE, access::no_visit_cookie());
        Ok(response)
    };
    pages::or_trouble(page.await)
}

async fn visiting(state: &ConsoleState, headers: &HeaderMap, made: Option<&SignedIn>) -> Page {
    let Some((who, visit)) = guest(state, headers).await? else {
        let (title, why) = ("No visit here", "There is no visit in this browser, or it is over.");
        let (brand, none) = (Brand::default(), Closed { title, why, begins: None, again: None });
        return Ok(answer(StatusCode::NOT_FOUND, &brand, ui::visit_closed(&brand, none)));
    };
    let brand = brand(state, &visit).await?;
    let ways = ways(state, &who, &visit).await?;
    let to = in_words(&visit);
    let token = made.map(|made| made.token.expose());
    let page = ui::visiting(&brand, invitation(&visit, &to), &ways, token);
    Ok(answer(StatusCode::OK, &brand, page))
}

/// Who holds this browser's visit, and the visit.
async fn guest(state: &ConsoleState, headers: &HeaderMap) -> Result<Option<(Principal, Visit)>, StoreError> {
    let Some(who) = state.access.by_visit_cookie(headers).await? else { return Ok(None) };
    let visit = if who.kind == UserKind::Visit { state.store.visit_of_guest(who.user).await? } else { None };
    Ok(visit.filter(Visit::is_allowed).map(|visit| (who, visit)))
}

/// What there is to open now.
async fn ways(state: &ConsoleState, who: &Principal, visit: &Visit) -> Result<Vec<Way>, StoreError> {
    let Some(device) = state.store.device(&visit.device).await? else { return Ok(Vec::new()) };
    let mut first_page = true;
    let ways = device.report.services.iter().filter_map(|service| {
        let first = service.kind.is_web() && std::mem::replace(&mut first_page, false);
        if !who.may(Permission::DeviceSee, &device.service_target(service)) {
            return None;
        }
        let label = if first { visit.device.to_string() } else { format!("{}--{}", visit.device, service.name) };
        let (console, name) = (state.site.console_origin(), &service.name);
        let server = format!("LINKSPAN_SERVER={console}");
        let command = match service.kind {
            ServiceKind::Http | ServiceKind::Https => None,
            ServiceKind::Ssh => {
                Some(format!("{server} ssh -o ProxyCommand='linkspan connect %h:{name}' USER@{}", visit.device))
            }
            _ => Some(format!("{server} linkspan connect {}:{name}", visit.device)),
        };
        let url = service.kind.is_web().then(|| format!("{}/", state.site.origin_of(&label)));
        Some(Way { service: service.name.to_string(), url, command })
    });
    Ok(ways.collect())
}

async fn brand(state: &ConsoleState, visit: &Visit) -> Result<Brand, StoreError> {
    pages::brand_of(state, visit.tenant).await
}

/// The page of a link that does nothing now.
fn closed(brand: &Brand, visit: &Visit, token: &str) -> Response {
    let now = Timestamp::now();
    let (title, why) = visits::why_not(visit, now);
    let (begins, again) = match visit.state(now) {
        "planned" => (Some(visit.begins), Some(token)),
        "pending" => (None, Some(token)),
        _ => (None, None),
    };
    answer(StatusCode::CONFLICT, brand, ui::visit_closed(brand, Closed { title, why, begins, again }))
}

fn invitation<'a>(visit: &'a Visit, to: &'a str) -> Invitation<'a> {
    Invitation {
        guest: &visit.guest,
        host: &visit.host_name,
        device: visit.device.as_str(),
        to,
        reason: &visit.reason,
        view_only: visit.view_only,
        ends: visit.ends,
    }
}

fn in_words(visit: &Visit) -> String {
    match (&visit.service, visit.speaks) {
        (Some(service), _) => service.to_string(),
        (None, Some(kind)) => kind.as_str().to_owned(),
        (None, None) => String::new(),
    }
}

fn answer(status: StatusCode, brand: &Brand, page: maud::Markup) -> Response {
    let mut response = pages::answer(status, page);
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, ui::policy_for(brand));
    response
}

fn foreign() -> Response {
    let text = "The request was not sent by the page behind the link. Open the link and begin there.";
    pages::answer(StatusCode::FORBIDDEN, ui::trouble("Not from here", text))
}
