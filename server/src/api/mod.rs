//! Everything on the console's host that asks and answers in one go: the API for programs, the pages for people.

mod account_pages;
mod describe;
mod devices;
pub mod enrol;
mod etag;
mod gate;
mod guards;
mod input;
mod once;
mod pages;
mod paging;
mod problem;
mod rates;
mod session;
mod sign_in_pages;
mod signed;
pub mod stream;
mod table;
mod welcome_pages;

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue};
use jiff::Timestamp;
use utoipa_axum::routes;

pub use devices::{DeviceView, GatewayView, ServiceView};
pub use etag::{IfMatch, Tagged};
pub use gate::Memory;
pub use input::{Asked, Named, Strict};
pub use paging::{Cursor, Limit, Paged, page};
pub use problem::{Kind, Problem};
pub use table::{Needs, Route};

use crate::access::{Access, Permission};
use crate::audit::Audit;
use crate::config::Site;
use crate::store::{GatewayId, Store};
use crate::ui;
use table::Table;

/// Largest request body: a name and a password.
const BODY_MAX: usize = 16 * 1024;

/// Since when a gateway is connected, if it is.
pub type OnlineSince = Arc<dyn Fn(GatewayId) -> Option<Timestamp> + Send + Sync>;

/// What the routes work with.
#[derive(Clone)]
pub struct ConsoleState {
    /// Who is signed in, and may what.
    pub access: Access,
    /// What is known of devices and gateways.
    pub store: Store,
    /// Who is here now.
    pub online: OnlineSince,
    /// Our names.
    pub site: Arc<Site>,
    /// Where it is noted down.
    pub audit: Audit,
    /// What the checks in front of the API's routes remember.
    pub memory: Memory,
}

impl fmt::Debug for ConsoleState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsoleState").field("site", &self.site).finish_non_exhaustive()
    }
}

/// The API: each route with what it needs of who asks. The description, `/api/v1/openapi.json`, is made from this table.
fn api(state: &ConsoleState) -> Table {
    use Needs::{May, Nothing, On, SignedIn};
    Table::new(state)
        .add("GET /api/v1/problems", Nothing, routes!(problem::kinds))
        .add("POST /api/v1/session", Nothing, routes!(session::begin))
        .add("GET /api/v1/session", SignedIn, routes!(session::show))
        .add("DELETE /api/v1/session", SignedIn, routes!(session::end))
        // Shows what device.see allows.
        .add("GET /api/v1/devices", SignedIn, routes!(devices::list))
        .add("GET /api/v1/devices/{device}", On(Permission::DeviceSee), routes!(devices::one))
        .add("GET /api/v1/gateways", May(Permission::GatewaySee), routes!(devices::gateways))
}

/// The routes of the API as they are declared.
pub fn api_routes(state: &ConsoleState) -> Vec<Route> {
    api(state).routes().to_vec()
}

/// Everything on the console's host but the links of gateways and the raw streams, which are merged into this router:
/// `/api/v1/devices/{device}/services/{service}/stream`.
pub fn console_router(state: ConsoleState) -> Router {
    let (api, description) = api(&state).finish();
    let description = Arc::new(description);
    Router::new()
        // Pages: who may see them
        .route("/", get(pages::home)) //                                signed in; strangers go to /login
        .route("/login", get(sign_in_pages::login).post(sign_in_pages::sign_in)) // anybody; each POST from our own page only
        .route("/login/code", get(sign_in_pages::code).post(sign_in_pages::second_step)) //     with a right password
        .route("/login/second-factor", get(sign_in_pages::required).post(sign_in_pages::set_up)) // with a right password
        .route("/welcome", get(welcome_pages::show).post(welcome_pages::choose)) //             with a link for one use
        .merge(account_routes())
        .route("/logout", post(pages::sign_out)) //                     anybody; from our own page only
        .route("/open", get(pages::open)) //                            strangers go to /login; then page.view
        .route("/api/v1/openapi.json", get(async move || Json(description))) // anybody
        .merge(api)
        .fallback(nowhere)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(map_response(guarded))
        .with_state(state)
}

/// A person's own account: signed in with the cookie; each POST from our own page only.
fn account_routes() -> Router<ConsoleState> {
    use account_pages as account;
    Router::new()
        .route("/account", get(account::show))
        .route("/account/password", get(account::password).post(account::change_password))
        .route("/account/second-factor", get(account::second_factor).post(account::set_up))
        .route("/account/second-factor/remove", get(account::ask_to_remove).post(account::remove))
        .route("/account/recovery-codes", get(account::ask_to_renew).post(account::renew))
        .route("/account/sessions/end", post(account::end_session))
        .route("/account/sessions/end-others", post(account::end_others))
}

async fn nowhere(request: Request) -> Response {
    if request.uri().path().starts_with("/api/") {
        return Problem::not_found().into_response();
    }
    pages::missing()
}

async fn wrong_method(request: Request) -> Response {
    if request.uri().path().starts_with("/api/") {
        return Problem::method_not_allowed().into_response();
    }
    let page = ui::trouble("That does not work here", "This address does not take such requests.");
    pages::answer(http::StatusCode::METHOD_NOT_ALLOWED, page)
}

/// What every answer tells the browser: keep nothing, guess nothing, frame nothing.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    let mut unless_said = |name: HeaderName, value: &'static str| {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    };
    unless_said(CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    unless_said(CACHE_CONTROL, "no-store");
    unless_said(X_CONTENT_TYPE_OPTIONS, "nosniff");
    unless_said(X_FRAME_OPTIONS, "DENY");
    // Not `no-referrer`: then browsers hide the Origin of our own forms as well.
    unless_said(REFERRER_POLICY, "same-origin");
    unless_said(HeaderName::from_static("cross-origin-opener-policy"), "same-origin");
    unless_said(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    response
}
