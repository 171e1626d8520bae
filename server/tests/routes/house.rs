//! A server's router with somebody of each role, and another organisation.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use linkspan_protocol::discovery::FoundDevice;
use linkspan_protocol::id::Secret;
use linkspan_server::access::{Access, ClientAddress, Passwords, Role};
use linkspan_server::api::{ConsoleState, Memory, console_router};
use linkspan_server::audit::Audit;
use linkspan_server::config::{self, Site};
use linkspan_server::events::Events;
use linkspan_server::store::{Arrival, NewUser, Store, Telling, UserKind};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) const PASSWORD: &str = "correct horse battery";
/// Everybody who asks; `stranger` is nobody.
pub(crate) const EVERYBODY: [&str; 8] =
    ["stranger", "viewer", "operator", "technician", "fleet-admin", "admin", "system-admin", "other-admin"];

pub(crate) struct House {
    pub(crate) router: Router,
    pub(crate) state: ConsoleState,
    pub(crate) store: Store,
    pub(crate) closing: CancellationToken,
    _dir: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", dir.path().join("test.db").display())).await.unwrap();
        let hash = Passwords::default().hash(&Secret::new(PASSWORD)).await.unwrap();
        let roles = [Role::Viewer, Role::Operator, Role::Technician, Role::FleetAdmin, Role::Admin, Role::SystemAdmin];
        for role in roles {
            store.add_user(&role.as_str().parse().unwrap(), role, &hash).await.unwrap().unwrap();
        }
        let other = store.add_tenant(&"other".parse().unwrap(), "Other").await.unwrap().unwrap();
        let name = "other-admin".parse().unwrap();
        let new = NewUser { tenant: other, kind: UserKind::Person, name: &name, password_hash: &hash };
        store.add_member(new, Some(Role::Admin.into()), "a test").await.unwrap().unwrap();
        let gateway = store.add_gateway(&"site12".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        let plc =
            json!({"name": "plc1", "services": [{"name": "web", "kind": "http", "host": "10.0.0.1", "port": 80}]});
        store.report_devices(gateway, &[serde_json::from_value(plc).unwrap()]).await.unwrap();
        let closing = CancellationToken::new();
        let state = ConsoleState {
            access: Access::new(store.clone(), config::Access::default()),
            store: store.clone(),
            online: Arc::new(|_| Some(Timestamp::UNIX_EPOCH)),
            site: Arc::new(Site { console: "c.test".into(), zone: "z.test".into(), port: 8443 }),
            audit: Audit::start(store.clone()),
            traffic: linkspan_server::traffic::Traffic::new(jiff::tz::TimeZone::UTC, None),
            events: Events::new(closing.clone()),
            vendors: linkspan_server::lan::vendors::Vendors::default(),
            tell: std::sync::Arc::new(|_, _| false),
            programs: linkspan_server::updates::Programs::new(store.clone(), dir.path()),
            memory: Memory::new(0),
        };
        Self { router: console_router(state.clone()), state, store, closing, _dir: dir }
    }

    /// Puts one of everything into the first organisation: what stands for it in a path, and its name or identity.
    pub(crate) async fn furnish(&self) -> Vec<(&'static str, String)> {
        let (admin, viewer) = (self.token("admin").await, self.token("viewer").await);
        let make = async |line: &str, body: &str| {
            let answer = self.ask(line, Some(&admin), Some(body)).await;
            assert!(answer.status.is_success(), "{line}: {}", answer.body);
            if answer.body.is_empty() { Value::Null } else { answer.json() }
        };
        make("POST /api/v1/roles", r#"{"name":"fitter","permissions":["device.see"]}"#).await;
        make("POST /api/v1/groups", r#"{"name":"crew"}"#).await;
        make("PUT /api/v1/groups/crew/members/viewer", "{}").await;
        let grant = r#"{"to":{"user":"viewer"},"role":"viewer","scope":{"kind":"device","device":"plc1"}}"#;
        let grant = make("POST /api/v1/grants", grant).await;
        make("POST /api/v1/service-accounts", r#"{"name":"robot"}"#).await;
        let token = make("POST /api/v1/tokens", r#"{"name":"line 3","account":"robot"}"#).await;
        let visit =
            r#"{"guest":"Vendor","device":"plc1","service":"web","reason":"repair","until":"UNTIL","approval":true}"#;
        let until = Timestamp::now() + std::time::Duration::from_secs(3600);
        let visit = make("POST /api/v1/visits", &visit.replace("UNTIL", &until.to_string())).await;
        let key = make("POST /api/v1/provisioning-keys", r#"{"name":"batch","uses":3}"#).await;
        let key = Secret::new(key["key"].as_str().unwrap());
        let arrival = Arrival { key: &key, public_key: "k", label: None, address: "192.0.2.9", agent: "test/1" };
        self.store.land(arrival, Timestamp::now()).await.unwrap();
        let machine = json!({"key": "mac:02:00:00:00:00:07", "names": ["hmi"], "addresses": ["10.0.0.7"], "present": true,
            "services": [{"kind": "_http._tcp", "port": 80}]});
        let device: FoundDevice = serde_json::from_value(machine).unwrap();
        let told = Telling { devices: vec![(device, "hmi".into())], ..Telling::default() };
        let gateway = self.store.gateways().await.unwrap()[0].id;
        self.store.take_found(gateway, &told, Timestamp::now()).await.unwrap();
        let found = &make("GET /api/v1/discovered", "{}").await["discovered"][0];
        let template = r#"{"name":"pumps","tags":["pump"],"document":"[log]\nlevel = \"{{ level }}\"\n"}"#;
        make("POST /api/v1/templates", template).await;
        let own = r#"{"tags":["pump"],"values":{"level":"debug"},"overrides":""}"#;
        make("PUT /api/v1/gateways/site12/config/own", own).await;
        let text = |value: &Value, name: &str| value[name].as_str().unwrap().to_owned();
        let enrolment = &make("GET /api/v1/enrolments", "{}").await["enrolments"][0];
        let sessions = self.ask("GET /api/v1/me/sessions", Some(&viewer), None).await.json();
        vec![
            ("account", "robot".into()),
            ("device", "plc1".into()),
            ("enrolment", text(enrolment, "id")),
            ("found", text(found, "id")),
            ("gateway", "site12".into()),
            ("grant", text(&grant, "id")),
            ("group", "crew".into()),
            ("key", "batch".into()),
            ("member", "viewer".into()),
            ("person", "viewer".into()),
            ("role", "fitter".into()),
            ("service", "web".into()),
            ("session", text(&sessions["sessions"][0], "id")),
            ("template", "pumps".into()),
            ("tenant", "other".into()),
            ("token", text(&token, "id")),
            ("visit", text(&visit["visit"], "id")),
        ]
    }

    /// With a limit of requests per second.
    pub(crate) fn limited(mut self, per_second: u32) -> Self {
        self.state.memory = Memory::new(per_second);
        self.router = console_router(self.state.clone());
        self
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        // What has no end is not read.
        let endless = parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind == "text/event-stream");
        let body = if endless { String::new() } else { text(body).await };
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// Asks as the one whose token this is; with a body, if there is one.
    pub(crate) async fn ask(&self, line: &str, token: Option<&str>, body: Option<&str>) -> Answer {
        let (method, path) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json").header(IF_MATCH, "*");
        }
        self.send(request.body(Body::from(body.unwrap_or_default().to_owned())).unwrap()).await
    }

    pub(crate) async fn token(&self, name: &str) -> String {
        let body = json!({"name": name, "password": PASSWORD}).to_string();
        let answer = self.ask("POST /api/v1/session", None, Some(&body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Signs in with this user agent, and with these words.
    pub(crate) async fn sign_in_as(&self, name: &str, password: &str, agent: &[u8]) -> Answer {
        let request = Request::post("/api/v1/session")
            .header(CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, http::HeaderValue::from_bytes(agent).unwrap())
            .extension(ClientAddress([192, 0, 2, 7].into()));
        let body = json!({"name": name, "password": password}).to_string();
        self.send(request.body(Body::from(body)).unwrap()).await
    }
}

async fn text(body: Body) -> String {
    String::from_utf8(to_bytes(body, 64 << 20).await.unwrap().to_vec()).unwrap()
}
