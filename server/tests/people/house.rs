//! A console without sockets, and a browser that keeps its cookies.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, SET_COOKIE, USER_AGENT};
use http::{HeaderMap, Method, Request, StatusCode};
use linkspan_protocol::id::Secret;
use linkspan_server::access::{Access, ClientAddress, Passwords, Role};
use linkspan_server::api::{ConsoleState, Memory, console_router};
use linkspan_server::audit::Audit;
use linkspan_server::config::{self, SecondFactor, Site};
use linkspan_server::events::Events;
use linkspan_server::store::{Store, User};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const ORIGIN_HERE: &str = "https://c.test:8443";

pub(crate) struct House {
    router: Router,
    pub(crate) store: Store,
    pub(crate) access: Access,
    _dir: tempfile::TempDir,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, StatusCode::SEE_OTHER, "{}", self.body);
        self.headers[LOCATION].to_str().unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

impl House {
    /// Nobody has an account yet.
    pub(crate) async fn empty(second_factor: SecondFactor) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", dir.path().join("test.db").display())).await.unwrap();
        let times = config::Access { second_factor, ..config::Access::default() };
        let access = Access::new(store.clone(), times);
        let state = ConsoleState {
            access: access.clone(),
            store: store.clone(),
            online: Arc::new(|_| None),
            traffic: linkspan_server::traffic::Traffic::new(jiff::tz::TimeZone::UTC, None),
            audit: Audit::start(store.clone()),
            events: Events::new(CancellationToken::new()),
            vendors: linkspan_server::lan::vendors::Vendors::default(),
            tell: std::sync::Arc::new(|_, _| false),
            programs: linkspan_server::updates::Programs::new(store.clone(), dir.path()),
            memory: Memory::new(0),
            site: Arc::new(Site { console: "c.test".into(), zone: "z.test".into(), port: 8443 }),
        };
        Self { router: console_router(state), store, access, _dir: dir }
    }

    /// `anna` is an admin, `otto` an operator.
    pub(crate) async fn with_people(second_factor: SecondFactor) -> Self {
        let house = Self::empty(second_factor).await;
        let hash = Passwords::default().hash(&Secret::new(PASSWORD)).await.unwrap();
        for (name, role) in [("anna", Role::Admin), ("otto", Role::Operator)] {
            house.store.add_user(&name.parse().unwrap(), role, &hash).await.unwrap().unwrap();
        }
        house
    }

    pub(crate) async fn user(&self, name: &str) -> User {
        self.store.person(&name.parse().unwrap()).await.unwrap().unwrap()
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// `POST /api/v1/session`
    pub(crate) async fn api_sign_in(&self, body: &Value) -> Answer {
        let request = Request::post("/api/v1/session").header(CONTENT_TYPE, "application/json");
        self.send(request.body(Body::from(body.to_string())).unwrap()).await
    }

    pub(crate) async fn token(&self, name: &str) -> String {
        let answer = self.api_sign_in(&json!({"name": name, "password": PASSWORD})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()["token"].as_str().unwrap().to_owned()
    }
}

/// A browser that keeps cookies and says where its forms come from.
pub(crate) struct Browser<'h> {
    house: &'h House,
    pub(crate) cookies: BTreeMap<String, String>,
    pub(crate) origin: Option<&'static str>,
    pub(crate) agent: &'static str,
}

impl<'h> Browser<'h> {
    pub(crate) fn new(house: &'h House) -> Self {
        let agent = "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0";
        Self { house, cookies: BTreeMap::new(), origin: Some(ORIGIN_HERE), agent }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(Method::GET, path, String::new()).await
    }

    pub(crate) async fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.ask(Method::POST, path, form).await
    }

    /// Name and password; what comes after depends on the house.
    pub(crate) async fn sign_in(&mut self, name: &str) -> Answer {
        self.post("/login", &[("name", name), ("password", PASSWORD), ("next", "/account")]).await
    }

    pub(crate) async fn is_signed_in(&mut self) -> bool {
        self.get("/account").await.status == StatusCode::OK
    }

    async fn ask(&mut self, method: Method, path: &str, form: String) -> Answer {
        let mut request = Request::builder().method(method.clone()).uri(path).header(USER_AGENT, self.agent);
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            request = request.header(COOKIE, cookies.join("; "));
        }
        if method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
            if let Some(origin) = self.origin {
                request = request.header(ORIGIN, origin);
            }
        }
        let request = request.extension(ClientAddress([192, 0, 2, 7].into())).body(Body::from(form)).unwrap();
        let answer = self.house.send(request).await;
        for line in answer.headers.get_all(SET_COOKIE) {
            let line = line.to_str().unwrap();
            assert!(line.starts_with("__Host-"), "{line}");
            assert!(line.contains("; Path=/; Secure; HttpOnly; SameSite=Lax"), "{line}");
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            if line.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

/// What stands between two texts of a page.
pub(crate) fn between<'p>(page: &'p str, before: &str, after: &str) -> &'p str {
    page.split(before).nth(1).unwrap_or_else(|| panic!("{before} is not in {page}")).split(after).next().unwrap()
}
