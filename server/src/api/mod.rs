//! Everything on the console's host that asks and answers in one go: the API for programs, the pages for people.

mod account_pages;
mod approve;
mod audit;
mod beside;
mod configs;
mod describe;
mod devices;
pub mod enrol;
mod enrolments;
mod etag;
mod events;
mod found;
mod gate;
mod gateways;
mod guards;
mod guests;
mod input;
mod oidc_pages;
mod once;
mod pages;
mod paging;
mod problem;
mod rates;
mod rights;
mod rollouts;
mod server;
mod session;
mod sign_in_pages;
mod signed;
pub mod stream;
mod streams;
mod table;
mod template_apply;
mod templates;
mod traffic;
mod updates;
mod view_only;
mod visits;
mod welcome_pages;

use std::fmt;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::Timestamp;
use linkspan_protocol::message::ServerToGateway;
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
use crate::events::Events;
use crate::lan::vendors::Vendors;
use crate::store::{GatewayId, Store};
use crate::traffic::Traffic;
use crate::ui;
use crate::updates::Programs;
use table::Table;

/// Largest request body: a name and a password.
const BODY_MAX: usize = 16 * 1024;
/// Largest request body where a whole configuration is sent.
const DOCUMENT_BODY_MAX: usize = 2 * linkspan_config::central::DOCUMENT_MAX;

/// Largest request body where a program is sent, in base64.
const PROGRAM_BODY_MAX: usize = 23_000_000;

/// Since when a gateway is connected, if it is.
pub type OnlineSince = Arc<dyn Fn(GatewayId) -> Option<Timestamp> + Send + Sync>;

/// Sends a gateway a control message, if it is here.
pub type TellGateway = Arc<dyn Fn(GatewayId, &ServerToGateway) -> bool + Send + Sync>;

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
    /// What was carried, and what may be.
    pub traffic: Traffic,
    /// What has just happened.
    pub events: Events,
    /// Where it is noted down.
    pub audit: Audit,
    /// Who made what.
    pub vendors: Vendors,
    /// Sends a gateway a control message; false if it is not here, or does not know such messages.
    pub tell: TellGateway,
    /// Programs for gateways.
    pub programs: Programs,
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
    let table = Table::new(state)
        .add("GET /api/v1/problems", Nothing, routes!(problem::kinds))
        .add("POST /api/v1/session", Nothing, routes!(session::begin))
        .add("GET /api/v1/session", SignedIn, routes!(session::show))
        .add("DELETE /api/v1/session", SignedIn, routes!(session::end))
        // Shows what device.see allows.
        .add("GET /api/v1/devices", SignedIn, routes!(devices::list))
        .add("GET /api/v1/devices/{device}", On(Permission::DeviceSee), routes!(devices::one))
        .add("GET /api/v1/gateways", May(Permission::GatewaySee), routes!(devices::gateways));
    let table = updates_table(found_table(table));
    audit_table(templates_table(config_table(traffic_table(visits_table(rights_table(people_table(gateways_table(
        table,
    ))))))))
}

/// Gateways, and routers that are to become gateways.
fn gateways_table(table: Table) -> Table {
    use Needs::{Here, May, On};
    use Permission::{GatewayEdit, GatewaySee};
    table
        .add("POST /api/v1/gateways", May(GatewayEdit), routes!(gateways::add))
        .add("GET /api/v1/gateways/{gateway}", On(GatewaySee), routes!(gateways::one))
        .add("DELETE /api/v1/gateways/{gateway}", On(GatewayEdit), routes!(gateways::remove))
        .add("POST /api/v1/gateways/{gateway}/revoke", On(GatewayEdit), routes!(gateways::revoke))
        .add("POST /api/v1/gateways/{gateway}/replace", On(GatewayEdit), routes!(gateways::replace))
        .add("GET /api/v1/provisioning-keys", Here(GatewayEdit), routes!(enrolments::keys))
        .add("GET /api/v1/provisioning-keys/{key}", Here(GatewayEdit), routes!(enrolments::one_key))
        .add("POST /api/v1/provisioning-keys", Here(GatewayEdit), routes!(enrolments::add_key))
        .add("DELETE /api/v1/provisioning-keys/{key}", Here(GatewayEdit), routes!(enrolments::remove_key))
        .add("GET /api/v1/enrolments", Here(GatewayEdit), routes!(enrolments::list))
        .add("GET /api/v1/enrolments/{enrolment}", Here(GatewayEdit), routes!(enrolments::one))
        .add("POST /api/v1/enrolments/{enrolment}/accept", Here(GatewayEdit), routes!(enrolments::accept))
        .add("POST /api/v1/enrolments/{enrolment}/refuse", Here(GatewayEdit), routes!(enrolments::refuse))
}

/// Configurations of gateways.
fn config_table(table: Table) -> Table {
    use Needs::{Here, May, On};
    use Permission::ConfigEdit;
    table
        .add("GET /api/v1/gateways/{gateway}/config", On(ConfigEdit), routes!(configs::show))
        .add("GET /api/v1/gateways/{gateway}/config/document", On(ConfigEdit), routes!(configs::document))
        .add_long("PUT /api/v1/gateways/{gateway}/config/document", On(ConfigEdit), routes!(configs::write))
        .add_long("POST /api/v1/gateways/{gateway}/config/check", On(ConfigEdit), routes!(configs::check))
        .add("GET /api/v1/gateways/{gateway}/config/revisions", On(ConfigEdit), routes!(configs::revisions))
        .add("GET /api/v1/gateways/{gateway}/config/revisions/{revision}", On(ConfigEdit), routes!(configs::revision))
        .add("GET /api/v1/gateways/{gateway}/config/diff", On(ConfigEdit), routes!(configs::diff))
        .add("POST /api/v1/gateways/{gateway}/config/revert", On(ConfigEdit), routes!(configs::revert))
        .add("POST /api/v1/gateways/{gateway}/config/adopt", On(ConfigEdit), routes!(configs::adopt))
        .add("POST /api/v1/gateways/{gateway}/config/apply", On(ConfigEdit), routes!(configs::apply))
        .add("GET /api/v1/rollouts", Here(ConfigEdit), routes!(rollouts::list))
        .add("POST /api/v1/rollouts", May(ConfigEdit), routes!(rollouts::begin))
        .add("GET /api/v1/rollouts/{rollout}", May(ConfigEdit), routes!(rollouts::one))
        .add("POST /api/v1/rollouts/{rollout}/stop", May(ConfigEdit), routes!(rollouts::stop))
}

/// Documents for many gateways, and what each has for itself.
fn templates_table(table: Table) -> Table {
    use Needs::{Here, On};
    use Permission::ConfigEdit;
    table
        .add("GET /api/v1/templates", Here(ConfigEdit), routes!(templates::list))
        .add_long("POST /api/v1/templates", Here(ConfigEdit), routes!(templates::add))
        .add("GET /api/v1/templates/{template}", Here(ConfigEdit), routes!(templates::one))
        .add_long("PUT /api/v1/templates/{template}", Here(ConfigEdit), routes!(templates::write))
        .add("DELETE /api/v1/templates/{template}", Here(ConfigEdit), routes!(templates::remove))
        .add("GET /api/v1/templates/{template}/revisions", Here(ConfigEdit), routes!(templates::revisions))
        .add("GET /api/v1/templates/{template}/revisions/{revision}", Here(ConfigEdit), routes!(templates::revision))
        .add("GET /api/v1/templates/{template}/diff", Here(ConfigEdit), routes!(templates::diff))
        .add("POST /api/v1/templates/{template}/revert", Here(ConfigEdit), routes!(templates::revert))
        .add("GET /api/v1/templates/{template}/preview", Here(ConfigEdit), routes!(template_apply::preview))
        .add_long("POST /api/v1/templates/{template}/apply", Here(ConfigEdit), routes!(template_apply::apply))
        .add("GET /api/v1/gateways/{gateway}/config/own", On(ConfigEdit), routes!(template_apply::own))
        .add_long("PUT /api/v1/gateways/{gateway}/config/own", On(ConfigEdit), routes!(template_apply::set_own))
}

/// Other versions of the gateways' program.
fn updates_table(table: Table) -> Table {
    use Needs::{Here, May};
    use Permission::{GatewayEdit, ServerEdit};
    table
        .add("GET /api/v1/programs", May(GatewayEdit), routes!(updates::programs))
        .add_huge("POST /api/v1/programs", May(ServerEdit), routes!(updates::add_program))
        .add("DELETE /api/v1/programs/{program}", May(ServerEdit), routes!(updates::remove_program))
        .add("GET /api/v1/updates", Here(GatewayEdit), routes!(updates::list))
        .add("POST /api/v1/updates", May(GatewayEdit), routes!(updates::begin))
        .add("GET /api/v1/updates/{update}", May(GatewayEdit), routes!(updates::one))
        .add("POST /api/v1/updates/{update}/stop", May(GatewayEdit), routes!(updates::stop))
}

/// What gateways find on their LANs.
fn found_table(table: Table) -> Table {
    use Needs::{May, On};
    use Permission::{DeviceEdit, GatewaySee};
    table
        .add("GET /api/v1/discovered", May(GatewaySee), routes!(found::list))
        .add("GET /api/v1/discovered/{found}", On(GatewaySee), routes!(found::one))
        .add("POST /api/v1/discovered/{found}/approve", On(DeviceEdit), routes!(approve::approve))
        .add("POST /api/v1/discovered/{found}/ignore", On(DeviceEdit), routes!(found::ignore))
        .add("POST /api/v1/discovered/{found}/reset", On(DeviceEdit), routes!(found::reset))
        .add("POST /api/v1/discovered/{found}/merge", On(DeviceEdit), routes!(found::merge))
        .add("POST /api/v1/gateways/{gateway}/identify", On(DeviceEdit), routes!(found::identify))
}

/// People, and where they are signed in.
fn people_table(table: Table) -> Table {
    use Needs::{May, SignedIn};
    use Permission::{PeopleEdit, PeopleSee};
    use rights::{own, people};
    table
        .add("GET /api/v1/people", May(PeopleSee), routes!(people::list))
        .add("POST /api/v1/people", May(PeopleEdit), routes!(people::add))
        .add("GET /api/v1/people/{person}", May(PeopleSee), routes!(people::one))
        .add("PUT /api/v1/people/{person}", May(PeopleEdit), routes!(people::edit))
        .add("DELETE /api/v1/people/{person}", May(PeopleEdit), routes!(people::remove))
        .add("POST /api/v1/people/{person}/link", May(PeopleEdit), routes!(people::make_link))
        .add("GET /api/v1/people/{person}/sessions", May(PeopleEdit), routes!(people::sessions))
        .add("DELETE /api/v1/people/{person}/sessions", May(PeopleEdit), routes!(people::sign_out))
        .add("DELETE /api/v1/people/{person}/sessions/{session}", May(PeopleEdit), routes!(people::end_one))
        // One's own account, which no token changes.
        .add("POST /api/v1/me/password", SignedIn, routes!(own::password))
        .add("GET /api/v1/me/second-factor", SignedIn, routes!(own::factor))
        .add("POST /api/v1/me/second-factor", SignedIn, routes!(own::offer))
        .add("POST /api/v1/me/second-factor/confirm", SignedIn, routes!(own::confirm))
        .add("POST /api/v1/me/second-factor/remove", SignedIn, routes!(own::give_up))
        .add("POST /api/v1/me/recovery-codes", SignedIn, routes!(own::renew))
        .add("GET /api/v1/me/sessions", SignedIn, routes!(people::own_sessions))
        .add("DELETE /api/v1/me/sessions/{session}", SignedIn, routes!(people::end_own))
}

/// What was done, and what happens.
fn audit_table(table: Table) -> Table {
    use Needs::{Here, May, SignedIn};
    use Permission::{AuditExport, AuditSee, ServerSee};
    table
        .add("GET /api/v1/audit", Here(AuditSee), routes!(audit::list))
        .add("GET /api/v1/audit/head", Here(AuditSee), routes!(audit::head))
        .add("GET /api/v1/audit/export", Here(AuditExport), routes!(audit::export))
        .add("GET /api/v1/audit/verify", May(ServerSee), routes!(audit::check))
        .add("GET /api/v1/server", May(ServerSee), routes!(server::show))
        // One's own; those of others with audit.see, ended with people.edit.
        .add("GET /api/v1/streams", SignedIn, routes!(streams::list))
        .add("DELETE /api/v1/streams/{stream}", SignedIn, routes!(streams::cut))
        // Tells what device.see, gateway.see and audit.see allow.
        .add("GET /api/v1/events", SignedIn, routes!(events::follow))
}

/// Who may do what.
fn rights_table(table: Table) -> Table {
    use Needs::{May, SignedIn};
    use Permission::{
        GrantEdit, GrantSee, PeopleEdit, PeopleSee, RoleEdit, SettingsEdit, SettingsSee, TenantEdit, TenantSee,
    };
    use rights::{accounts, grants, groups, me, roles, settings, tenants, tokens};
    table
        .add("GET /api/v1/me", SignedIn, routes!(me::show))
        .add("POST /api/v1/me/may", SignedIn, routes!(me::may))
        .add("GET /api/v1/permissions", SignedIn, routes!(roles::permissions))
        .add("GET /api/v1/roles", May(GrantSee), routes!(roles::list))
        .add("POST /api/v1/roles", May(RoleEdit), routes!(roles::add))
        .add("GET /api/v1/roles/{role}", May(GrantSee), routes!(roles::one))
        .add("PUT /api/v1/roles/{role}", May(RoleEdit), routes!(roles::edit))
        .add("DELETE /api/v1/roles/{role}", May(RoleEdit), routes!(roles::remove))
        .add("GET /api/v1/groups", May(PeopleSee), routes!(groups::list))
        .add("POST /api/v1/groups", May(PeopleEdit), routes!(groups::add))
        .add("GET /api/v1/groups/{group}", May(PeopleSee), routes!(groups::one))
        .add("DELETE /api/v1/groups/{group}", May(PeopleEdit), routes!(groups::remove))
        .add("PUT /api/v1/groups/{group}/members/{member}", May(PeopleEdit), routes!(groups::join))
        .add("DELETE /api/v1/groups/{group}/members/{member}", May(PeopleEdit), routes!(groups::leave))
        .add("GET /api/v1/grants", May(GrantSee), routes!(grants::list))
        .add("POST /api/v1/grants", May(GrantEdit), routes!(grants::add))
        .add("GET /api/v1/grants/{grant}", May(GrantSee), routes!(grants::one))
        .add("DELETE /api/v1/grants/{grant}", May(GrantEdit), routes!(grants::remove))
        // One's own; others' with token.see, token.edit; making one with token.create or, for an account, token.edit.
        .add("GET /api/v1/tokens", SignedIn, routes!(tokens::list))
        .add("POST /api/v1/tokens", SignedIn, routes!(tokens::add))
        .add("GET /api/v1/tokens/{token}", SignedIn, routes!(tokens::one))
        .add("DELETE /api/v1/tokens/{token}", SignedIn, routes!(tokens::remove))
        .add("GET /api/v1/service-accounts", May(PeopleSee), routes!(accounts::list))
        .add("POST /api/v1/service-accounts", May(PeopleEdit), routes!(accounts::add))
        .add("GET /api/v1/service-accounts/{account}", May(PeopleSee), routes!(accounts::one))
        .add("DELETE /api/v1/service-accounts/{account}", May(PeopleEdit), routes!(accounts::remove))
        .add("GET /api/v1/tenants", May(TenantSee), routes!(tenants::list))
        .add("POST /api/v1/tenants", May(TenantEdit), routes!(tenants::add))
        .add("GET /api/v1/tenants/{tenant}", May(TenantSee), routes!(tenants::one))
        .add("DELETE /api/v1/tenants/{tenant}", May(TenantEdit), routes!(tenants::remove))
        .add("GET /api/v1/branding", May(SettingsSee), routes!(tenants::branding))
        .add("PUT /api/v1/branding", May(SettingsEdit), routes!(tenants::brand))
        .add("GET /api/v1/settings", May(SettingsSee), routes!(settings::show))
        .add("PUT /api/v1/settings", May(SettingsEdit), routes!(settings::change))
}

/// What was carried, and what may be.
fn traffic_table(table: Table) -> Table {
    use Needs::{May, On};
    use Permission::{TrafficEdit, TrafficSee};
    table
        .add("GET /api/v1/gateways/{gateway}/traffic", On(TrafficSee), routes!(traffic::of_gateway))
        .add("GET /api/v1/gateways/{gateway}/cap", On(TrafficSee), routes!(traffic::cap))
        .add("PUT /api/v1/gateways/{gateway}/cap", On(TrafficEdit), routes!(traffic::set_cap))
        .add("GET /api/v1/traffic", May(TrafficSee), routes!(traffic::list))
}

/// Visits of guests.
fn visits_table(table: Table) -> Table {
    use Needs::{May, Nothing, SignedIn};
    table
        // One's own; those of everybody with visit.see.
        .add("GET /api/v1/visits", SignedIn, routes!(visits::list))
        .add("POST /api/v1/visits", May(Permission::VisitCreate), routes!(visits::add))
        .add("GET /api/v1/visits/{visit}", SignedIn, routes!(visits::one))
        .add("DELETE /api/v1/visits/{visit}", SignedIn, routes!(visits::revoke))
        .add("POST /api/v1/visits/{visit}/approve", May(Permission::VisitApprove), routes!(visits::approve))
        .add("POST /api/v1/visits/{visit}/refuse", May(Permission::VisitApprove), routes!(visits::refuse))
        // What stands in the link opens it.
        .add("POST /api/v1/visit", Nothing, routes!(visits::redeem))
}

/// The routes of the API as they are declared.
pub fn api_routes(state: &ConsoleState) -> Vec<Route> {
    api(state).routes().to_vec()
}

/// One page of all routes below `/api/v1`: method and path, what it needs of who asks, what it does.
pub fn routes_page(state: &ConsoleState) -> Vec<(String, String, String)> {
    api(state).page()
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
        .route("/oidc/start", get(oidc_pages::start)) //                                      anybody
        .route("/oidc/callback", get(oidc_pages::callback)) //                                with the provider's answer
        .merge(account_routes())
        .route("/logout", post(pages::sign_out)) //                     anybody; from our own page only
        .route("/open", get(pages::open)) //                            strangers go to /login; then page.view
        .route("/visit", get(guests::show)) //                          the guest of this browser
        .route("/visit/token", post(guests::token)) //                  the same; from our own page only
        .route("/visit/leave", post(guests::leave)) //                  the same
        .route("/visit/{token}", get(guests::look).post(guests::begin)) // whoever has the link; POST from our own page
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

/// What every answer tells the browser: keep nothing, guess nothing, frame nothing. And whoever is to try again, when.
async fn guarded(mut response: Response) -> Response {
    let later = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
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
    if later {
        unless_said(RETRY_AFTER, "5");
    }
    response
}
