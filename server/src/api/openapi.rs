//! `/api/v1/openapi.json`: the API's description, made from the code it describes.

use axum::Json;
use utoipa::openapi::OpenApi as Description;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{Problem, devices, session};

#[derive(OpenApi)]
#[openapi(
    info(title = "Linkspan", description = "Devices behind gateways: which there are, and whether they are here."),
    paths(session::begin, session::show, session::end, devices::list, devices::one, devices::gateways),
    components(schemas(Problem)),
    modifiers(&Credentials)
)]
struct Api;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, api: &mut Description) {
        let components = api.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let cookie = ApiKey::Cookie(ApiKeyValue::new(crate::access::CONSOLE_COOKIE));
        components.add_security_scheme("cookie", SecurityScheme::ApiKey(cookie));
    }
}

/// The description of the API.
pub(super) async fn show() -> Json<Description> {
    Json(Api::openapi())
}
