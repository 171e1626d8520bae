//! Two organisations on one server, each with people of every role, a gateway, a device and a few things more.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, IF_MATCH, ORIGIN};
use http::{HeaderMap, Method, Request, StatusCode};
use linkspan_protocol::id::Secret;
use linkspan_server::access::{Access, Passwords, Role};
use linkspan_server::api::{ConsoleState, Memory, console_router};
use linkspan_server::audit::Audit;
use linkspan_server::config::{self, Site};
use linkspan_server::events::Events;
use linkspan_server::rights::TenantId;
use linkspan_server::store::{NewUser, Store, UserKind};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const PASSWORD: &str = "correct horse";
pub(crate) const ORIGIN_HERE: &str = "https://c.test";

pub(crate) struct World {
    router: Router,
    pub(crate) state: ConsoleState,
    pub(crate) store: Store,
    tokens: HashMap<String, String>,
    _dir: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    pub(crate) fn text(&self, key: &str) -> String {
        self.json()[key].as_str().unwrap_or_else(|| panic!("no {key} in {}", self.body)).to_owned()
    }
}

impl World {
    /// The default organisation has `sys` (system-admin), `anna` (admin), `fred` (fleet-admin), `tina` (technician),
    /// `otto` (operator) and `vera` (viewer), and device `plc1` behind `here`; `acme` has `bert` (admin) and `toni`
    /// (technician), and `plc2` behind `there`.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", dir.path().join("test.db").display())).await.unwrap();
        let acme = store.add_tenant(&"acme".parse().unwrap(), "Acme").await.unwrap().unwrap();
        let hash = Passwords::default().hash(&Secret::new(PASSWORD)).await.unwrap();
        let people = [
            ("sys", Role::SystemAdmin, TenantId::DEFAULT),
            ("anna", Role::Admin, TenantId::DEFAULT),
            ("fred", Role::FleetAdmin, TenantId::DEFAULT),
            ("tina", Role::Technician, TenantId::DEFAULT),
            ("otto", Role::Operator, TenantId::DEFAULT),
            ("vera", Role::Viewer, TenantId::DEFAULT),
            ("bert", Role::Admin, acme),
            ("toni", Role::Technician, acme),
        ];
        for (name, role, tenant) in people {
            let name = name.parse().unwrap();
            let new = NewUser { tenant, kind: UserKind::Person, name: &name, password_hash: &hash };
            store.add_member(new, Some(role.into()), "test").await.unwrap().unwrap();
        }
        for (tenant, gateway, device) in [(TenantId::DEFAULT, "here", "plc1"), (acme, "there", "plc2")] {
            let name = gateway.parse().unwrap();
            let id = store.add_gateway_to(tenant, &name, &Secret::new("s")).await.unwrap().unwrap();
            let report = json!({"name": device, "tags": ["hall-2"], "services": [
                {"name": "web", "kind": "http", "host": "10.0.0.1", "port": 80},
                {"name": "ssh", "kind": "ssh", "host": "10.0.0.1", "port": 22},
                {"name": "vnc", "kind": "vnc", "host": "10.0.0.1", "port": 5900},
            ]});
            store.report_devices(id, &[serde_json::from_value(report).unwrap()]).await.unwrap();
        }
        let state = ConsoleState {
            access: Access::new(store.clone(), config::Access::default()),
            store: store.clone(),
            online: Arc::new(|_| None),
            site: Arc::new(Site { console: "c.test".into(), zone: "z.test".into(), port: 443 }),
            traffic: linkspan_server::traffic::Traffic::new(jiff::tz::TimeZone::UTC, None),
            audit: Audit::start(store.clone()),
            events: Events::new(CancellationToken::new()),
            vendors: linkspan_server::lan::vendors::Vendors::default(),
            tell: std::sync::Arc::new(|_, _| false),
            programs: linkspan_server::updates::Programs::new(store.clone(), dir.path()),
            memory: Memory::new(0),
        };
        let router = console_router(state.clone());
        let mut world = Self { router, state, store, tokens: HashMap::new(), _dir: dir };
        for (name, ..) in people {
            let sign_in = json!({"name": name, "password": PASSWORD});
            let answer = world.send(Method::POST, "/api/v1/session", &[], Some(&sign_in)).await;
            world.tokens.insert(name.to_owned(), answer.text("token"));
        }
        world
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(http::HeaderName, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let body = match body {
            Some(body) => {
                request = request.header(CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Asks with this token, or as the person of this name.
    pub(crate) async fn ask(&self, who: &str, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let token = self.tokens.get(who).map_or(who, String::as_str);
        let bearer = format!("Bearer {token}");
        self.send(method, path, &[(AUTHORIZATION, &bearer), (IF_MATCH, "*")], body).await
    }

    pub(crate) async fn get(&self, who: &str, path: &str) -> Answer {
        self.ask(who, Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, who: &str, path: &str, body: Value) -> Answer {
        self.ask(who, Method::POST, path, Some(&body)).await
    }

    pub(crate) async fn delete(&self, who: &str, path: &str) -> Answer {
        self.ask(who, Method::DELETE, path, None).await
    }

    /// A form of our own page, sent by a browser that holds this cookie.
    pub(crate) async fn form(&self, path: &str, cookie: &str) -> Answer {
        self.send(Method::POST, path, &[(COOKIE, cookie), (ORIGIN, ORIGIN_HERE)], None).await
    }

    pub(crate) async fn page(&self, path: &str, cookie: &str) -> Answer {
        self.send(Method::GET, path, &[(COOKIE, cookie)], None).await
    }

    /// Whether this person may do this with this device.
    pub(crate) async fn may(&self, who: &str, permission: &str, device: &str, service: Option<&str>) -> bool {
        let mut asked = json!({"permission": permission, "device": device});
        if let Some(service) = service {
            asked["service"] = service.into();
        }
        let answer = self.post(who, "/api/v1/me/may", asked).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()["allowed"].as_bool().unwrap()
    }
}
