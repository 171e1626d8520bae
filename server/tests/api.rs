//! Every route of the console's host, asked by nobody, an operator and an admin.
#![expect(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{
    ALLOW, AUTHORIZATION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, LOCATION, ORIGIN, RETRY_AFTER, SET_COOKIE,
    WWW_AUTHENTICATE,
};
use http::{Method, Request, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use linkspan_protocol::id::Secret;
use linkspan_server::access::{Access, ClientAddress, Passwords, Role};
use linkspan_server::api::{ConsoleState, Memory, api_routes, console_router};
use linkspan_server::audit::Audit;
use linkspan_server::config::{self, Site};
use linkspan_server::events::Events;
use linkspan_server::rights::TenantId;
use linkspan_server::store::{LinkCount, Seen, Store, TrafficKey, TrafficSum};
use linkspan_server::traffic::Traffic;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const PASSWORD: &str = "correct horse";
const ORIGIN_HERE: &str = "https://c.test:8443";
const NONCE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct Server {
    router: Router,
    state: ConsoleState,
    store: Store,
    _dir: tempfile::TempDir,
}

struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

impl Answer {
    fn header(&self, name: http::HeaderName) -> &str {
        self.headers.get(&name).unwrap_or_else(|| panic!("{name} is missing in {:?}", self.headers)).to_str().unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// A server with an admin, an operator, a gateway that is here and one that is not.
async fn server() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}", dir.path().join("test.db").display())).await.unwrap();
    let hash = Passwords::default().hash(&Secret::new(PASSWORD)).await.unwrap();
    for (name, role) in [("anna", Role::Admin), ("otto", Role::Operator)] {
        store.add_user(&name.parse().unwrap(), role, &hash).await.unwrap().unwrap();
    }
    let here = store.add_gateway(&"here".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
    let gone = store.add_gateway(&"gone".parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
    let seen = |agent: Option<&str>| Seen { at: at(1_700_000_000), agent: agent.map(str::to_owned) };
    let both = [(here, seen(Some("linkspan-gateway/0.1.0"))), (gone, seen(None))];
    store.gateways_seen(&both).await.unwrap();
    let plc = json!({"name": "plc1", "description": "Press 7", "tags": ["hall-2"], "services": [
        {"name": "ssh", "kind": "ssh", "host": "10.0.0.1", "port": 22},
        {"name": "web", "kind": "http", "host": "10.0.0.1", "port": 80},
        {"name": "cam", "kind": "https", "host": "10.0.0.2", "port": 443},
    ]});
    let hmi = json!({"name": "hmi", "services": []});
    store.report_devices(here, &[serde_json::from_value(plc).unwrap()]).await.unwrap();
    store.report_devices(gone, &[serde_json::from_value(hmi).unwrap()]).await.unwrap();
    let state = ConsoleState {
        access: Access::new(store.clone(), config::Access::default()),
        store: store.clone(),
        online: Arc::new(move |id| (id == here).then(|| at(1_700_000_100))),
        site: Arc::new(Site { console: "c.test".into(), zone: "z.test".into(), port: 8443 }),
        traffic: Traffic::new(TimeZone::UTC, None),
        audit: Audit::start(store.clone()),
        events: Events::new(CancellationToken::new()),
        vendors: linkspan_server::lan::vendors::Vendors::default(),
        tell: std::sync::Arc::new(|_, _| false),
        programs: linkspan_server::updates::Programs::new(store.clone(), dir.path()),
        memory: Memory::new(0),
    };
    Server { router: console_router(state.clone()), state, store, _dir: dir }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

impl Server {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(to_bytes(body, 1 << 20).await.unwrap().to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, path: &str, headers: &[(http::HeaderName, &str)]) -> Answer {
        self.ask(Method::GET, path, headers, "").await
    }

    async fn ask(&self, method: Method, path: &str, headers: &[(http::HeaderName, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        self.send(request.body(Body::from(body.to_owned())).unwrap()).await
    }

    async fn token(&self, name: &str) -> String {
        let body = json!({"name": name, "password": PASSWORD}).to_string();
        let json = [(CONTENT_TYPE, "application/json")];
        let answer = self.ask(Method::POST, "/api/v1/session", &json, &body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Signs in at the console; the cookie as the browser sends it back.
    async fn cookie(&self, name: &str) -> String {
        let answer = self.post_login(&format!("name={name}&password=correct+horse"), ORIGIN_HERE).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
        let cookie = answer.header(SET_COOKIE);
        assert!(cookie.starts_with("__Host-linkspan-console="), "{cookie}");
        assert!(cookie.contains("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=43"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }

    async fn post_login(&self, form: &str, origin: &str) -> Answer {
        let headers = [(CONTENT_TYPE, "application/x-www-form-urlencoded"), (ORIGIN, origin)];
        self.ask(Method::POST, "/login", &headers, form).await
    }

    async fn get_as(&self, path: &str, token: &str) -> Answer {
        self.get(path, &[(AUTHORIZATION, &format!("Bearer {token}"))]).await
    }
}

#[tokio::test]
async fn each_route_for_each_role() {
    let server = server().await;
    let (otto, anna) = (server.token("otto").await, server.token("anna").await);
    for (path, nobody, operator, admin) in [
        ("/api/v1/session", 401, 200, 200),
        ("/api/v1/devices", 401, 200, 200),
        ("/api/v1/devices/plc1", 401, 200, 200),
        ("/api/v1/devices/unknown", 401, 404, 404),
        ("/api/v1/devices/Not%20a%20name", 401, 404, 404),
        ("/api/v1/devices/%ff", 401, 404, 404),
        ("/api/v1/gateways", 401, 403, 200),
        ("/api/v1/openapi.json", 200, 200, 200),
        ("/api/v1/nothing", 404, 404, 404),
        ("/api/v1/devices/plc1/", 404, 404, 404),
        ("/api/v1/devices;x/plc1", 404, 404, 404),
        ("/api//v1/gateways", 404, 404, 404),
    ] {
        let answers = [server.get(path, &[]).await, server.get_as(path, &otto).await, server.get_as(path, &anna).await];
        let got = answers.each_ref().map(|answer| answer.status.as_u16());
        assert_eq!(got, [nobody, operator, admin], "{path}");
        for answer in answers {
            let kind = if answer.status.is_success() { "application/json" } else { "application/problem+json" };
            assert_eq!(answer.header(CONTENT_TYPE), kind, "{path}");
            assert_eq!(answer.header(http::header::CACHE_CONTROL), "no-store", "{path}");
            assert_eq!(answer.header(http::header::X_CONTENT_TYPE_OPTIONS), "nosniff", "{path}");
        }
    }
}

#[tokio::test]
async fn what_the_lists_say() {
    let server = server().await;
    let anna = server.token("anna").await;
    let plc1 = json!({
        "name": "plc1", "description": "Press 7", "tags": ["hall-2"], "gateway": "here", "online": true,
        "since": "2023-11-14T22:15:00Z",
        "services": [
            {"name": "ssh", "kind": "ssh", "port": 22, "may": "use"},
            {"name": "web", "kind": "http", "port": 80, "url": "https://plc1.z.test:8443/", "may": "use"},
            {"name": "cam", "kind": "https", "port": 443, "url": "https://plc1--cam.z.test:8443/", "may": "use"},
        ],
    });
    let hmi = json!({
        "name": "hmi", "description": "", "tags": [], "gateway": "gone", "online": false,
        "since": "2023-11-14T22:13:20Z", "services": [],
    });
    assert_eq!(server.get_as("/api/v1/devices", &anna).await.json(), json!({"devices": [&hmi, &plc1], "next": null}));
    assert_eq!(server.get_as("/api/v1/devices/plc1", &anna).await.json(), plc1);
    let gateways = json!({"gateways": [
        {"name": "gone", "online": false, "since": "2023-11-14T22:13:20Z", "agent": null, "tags": []},
        {"name": "here", "online": true, "since": "2023-11-14T22:15:00Z", "agent": "linkspan-gateway/0.1.0", "tags": []},
    ], "next": null});
    let first = server.get_as("/api/v1/devices?limit=1", &anna).await.json();
    let rest = format!("/api/v1/devices?limit=1&cursor={}", first["next"].as_str().unwrap());
    assert_eq!(first["devices"], json!([hmi]));
    assert_eq!(server.get_as(&rest, &anna).await.json(), json!({"devices": [plc1], "next": null}));
    assert_eq!(server.get_as("/api/v1/gateways", &anna).await.json(), gateways);
}

#[tokio::test]
async fn problems_are_told_in_one_form() {
    let server = server().await;
    let answer = server.get("/api/v1/devices", &[]).await;
    let expected = json!({
        "type": "/api/v1/problems#sign-in", "title": "Unauthorized", "status": 401, "code": "sign-in",
        "detail": "Sign in first: send `Authorization: Bearer TOKEN`.",
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(answer.header(WWW_AUTHENTICATE), "Bearer");
    let answer = server.ask(Method::DELETE, "/api/v1/devices", &[], "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(answer.header(ALLOW), "GET,HEAD");
    assert_eq!(answer.json()["code"], "method");
}

#[tokio::test]
async fn a_session_begins_is_shown_and_ends() {
    let server = server().await;
    let token = server.token("otto").await;
    let shown = server.get_as("/api/v1/session", &token).await.json();
    assert_eq!((&shown["name"], &shown["role"]), (&json!("otto"), &json!("operator")));
    let expires: Timestamp = shown["expires"].as_str().unwrap().parse().unwrap();
    assert!(expires > Timestamp::now());
    let bearer = format!("Bearer {token}");
    let answer = server.ask(Method::DELETE, "/api/v1/session", &[(AUTHORIZATION, &bearer)], "").await;
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::NO_CONTENT, ""));
    assert_eq!(server.get_as("/api/v1/session", &token).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_sign_ins_are_refused_each_in_its_way() {
    let server = server().await;
    let json_type = (CONTENT_TYPE, "application/json");
    let large = format!(r#"{{"name":"otto","password":"{}"}}"#, "x".repeat(20_000));
    for (kind, body, status) in [
        (Some("application/json"), r#"{"name":"otto","password":"wrong horse"}"#, 401),
        (Some("application/json"), r#"{"name":"nobody","password":"correct horse"}"#, 401),
        (Some("application/json"), r#"{"name":"otto","password":"correct horse","role":"admin"}"#, 422),
        (Some("application/json"), r#"{"name":"otto","name":"anna","password":"x"}"#, 400),
        (Some("application/json"), r#"{"name":"otto"}"#, 422),
        (Some("application/json"), "{", 400),
        (Some("application/json"), &large, 413),
        (Some("text/plain"), r#"{"name":"otto","password":"correct horse"}"#, 415),
        (None, r#"{"name":"otto","password":"correct horse"}"#, 415),
    ] {
        let headers: Vec<_> = kind.map(|kind| (CONTENT_TYPE, kind)).into_iter().collect();
        let answer = server.ask(Method::POST, "/api/v1/session", &headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
        assert_eq!(answer.json()["status"], status);
    }
    let wrong = r#"{"name":"otto","password":"wrong horse"}"#;
    let known = server.ask(Method::POST, "/api/v1/session", std::slice::from_ref(&json_type), wrong).await;
    let unknown = wrong.replace("otto", "nobody");
    let unknown = server.ask(Method::POST, "/api/v1/session", &[json_type], &unknown).await;
    assert_eq!(known.body, unknown.body, "who exists is not told");
}

#[tokio::test]
async fn guessing_from_one_address_is_slowed_and_others_go_on() {
    let server = server().await;
    let attempt = |address: [u8; 4], password: &str| {
        let body = json!({"name": "otto", "password": password}).to_string();
        let mut request = Request::post("/api/v1/session").header(CONTENT_TYPE, "application/json");
        request = request.extension(ClientAddress(address.into()));
        server.send(request.body(Body::from(body)).unwrap())
    };
    for _ in 0..5 {
        assert_eq!(attempt([192, 0, 2, 1], "wrong horse").await.status, StatusCode::UNAUTHORIZED);
    }
    let slowed = attempt([192, 0, 2, 1], PASSWORD).await;
    assert_eq!(slowed.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(slowed.header(RETRY_AFTER).parse::<u64>().unwrap() >= 1);
    assert_eq!(attempt([192, 0, 2, 2], PASSWORD).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_cookie_changes_something_only_from_our_own_page() {
    let server = server().await;
    let cookie = server.cookie("otto").await;
    assert_eq!(server.get("/api/v1/devices", &[(COOKIE, &cookie)]).await.status, StatusCode::OK);
    for origin in [None, Some("null"), Some("https://plc1.z.test:8443"), Some("https://c.test")] {
        let mut headers = vec![(COOKIE, cookie.as_str())];
        headers.extend(origin.map(|origin| (ORIGIN, origin)));
        for (method, path) in [(Method::DELETE, "/api/v1/session"), (Method::POST, "/logout")] {
            let answer = server.ask(method, path, &headers, "").await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin:?} {path}");
        }
        let headers: Vec<_> = origin.map(|origin| (ORIGIN, origin)).into_iter().collect();
        let mut form = headers.clone();
        form.push((CONTENT_TYPE, "application/x-www-form-urlencoded"));
        let answer = server.ask(Method::POST, "/login", &form, "name=otto&password=correct+horse").await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{origin:?}");
    }
    let headers = [(COOKIE, cookie.as_str()), (ORIGIN, ORIGIN_HERE)];
    let answer = server.ask(Method::DELETE, "/api/v1/session", &headers, "").await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    assert_eq!(server.get("/api/v1/devices", &[(COOKIE, &cookie)]).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_wrong_bearer_is_not_mended_by_a_cookie() {
    let server = server().await;
    let cookie = server.cookie("anna").await;
    for bearer in ["Bearer x", "Basic YTpi", "", "Bearer"] {
        let headers = [(COOKIE, cookie.as_str()), (AUTHORIZATION, bearer)];
        assert_eq!(server.get("/api/v1/devices", &headers).await.status, StatusCode::UNAUTHORIZED, "{bearer}");
    }
}

#[tokio::test]
async fn a_person_signs_in_sees_the_devices_and_signs_out() {
    let server = server().await;
    let answer = server.get("/", &[]).await;
    assert_eq!((answer.status, answer.header(LOCATION)), (StatusCode::SEE_OTHER, "/login?next=%2F"));
    let page = server.get("/login?next=%2F", &[]).await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.header(CONTENT_SECURITY_POLICY);
    assert!(policy.contains("form-action 'self' https://*.z.test:8443;"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.header(http::header::REFERRER_POLICY), "same-origin");

    let cookie = server.cookie("otto").await;
    let list = server.get("/", &[(COOKIE, &cookie)]).await;
    assert_eq!(list.status, StatusCode::OK);
    for part in ["plc1", "Press 7", "https://plc1--cam.z.test:8443/", "hmi"] {
        assert!(list.body.contains(part), "{part} is not in {}", list.body);
    }
    assert!(!list.body.contains("ProxyCommand="), "an operator opens no shell");
    let anna = server.cookie("anna").await;
    assert!(server.get("/", &[(COOKIE, &anna)]).await.body.contains("ProxyCommand="));
    let found = server.get("/?q=PRESS", &[(COOKIE, &cookie)]).await;
    assert!(found.body.contains("plc1") && !found.body.contains("hmi"));
    assert_eq!(server.get("/login?next=/x", &[(COOKIE, &cookie)]).await.header(LOCATION), "/x");

    let headers = [(COOKIE, cookie.as_str()), (ORIGIN, ORIGIN_HERE)];
    let out = server.ask(Method::POST, "/logout", &headers, "").await;
    assert_eq!((out.status, out.header(LOCATION)), (StatusCode::SEE_OTHER, "/login"));
    assert!(
        out.header(SET_COOKIE).starts_with("__Host-linkspan-console=; ")
            && out.header(SET_COOKIE).contains("Max-Age=0")
    );
    assert_eq!(server.get("/", &[(COOKIE, &cookie)]).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn signing_in_again_ends_the_session_before() {
    let server = server().await;
    let before = server.cookie("otto").await;
    let headers =
        [(CONTENT_TYPE, "application/x-www-form-urlencoded"), (ORIGIN, ORIGIN_HERE), (COOKIE, before.as_str())];
    let answer = server.ask(Method::POST, "/login", &headers, "name=anna&password=correct+horse").await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(server.get("/", &[(COOKIE, &before)]).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_failed_sign_in_says_so_and_keeps_the_way() {
    let server = server().await;
    let next = "%2Fopen%3Fto%3Dhttps%253A%252F%252Fplc1.z.test%253A8443%252Fx%26nonce%3Dn";
    let page = server.get(&format!("/login?next={next}"), &[]).await;
    assert!(page.body.contains("plc1.z.test"), "the device is named: {}", page.body);
    let answer = server.post_login(&format!("name=otto&password=nope&next={next}"), ORIGIN_HERE).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert!(answer.body.contains("Name or password is wrong.") && answer.body.contains("value=\"otto\""));
    assert!(answer.body.contains("plc1.z.test") && !answer.body.contains("nope"));
    assert!(answer.headers.get(SET_COOKIE).is_none());
    assert_eq!(server.post_login("name=otto", ORIGIN_HERE).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn signing_in_leads_nowhere_else() {
    let server = server().await;
    for evil in ["//evil.test", "https://evil.test", "/%5Cevil.test", "%09//evil.test", "/%0D%0Aevil", "javascript:x"] {
        let page = server.get(&format!("/login?next={evil}"), &[]).await;
        assert!(page.body.contains("name=\"next\" value=\"/\""), "{evil}: {}", page.body);
        let form = format!("name=otto&password=correct+horse&next={evil}");
        assert_eq!(server.post_login(&form, ORIGIN_HERE).await.header(LOCATION), "/", "{evil}");
    }
}

#[tokio::test]
async fn the_way_to_a_device_leads_over_a_ticket() {
    let server = server().await;
    let path = |to: &str| format!("/open?to={}&nonce={NONCE}", to.replace(':', "%3A").replace('/', "%2F"));
    for host in ["plc1", "unknown", "plc1--nothing"] {
        let asked = path(&format!("https://{host}.z.test:8443/x"));
        let answer = server.get(&asked, &[]).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{host}");
        assert!(answer.header(LOCATION).starts_with("/login?next=%2Fopen%3Fto%3Dhttps"), "{host}");
    }
    let cookie = server.cookie("otto").await;
    let headers = [(COOKIE, cookie.as_str())];
    for host in ["plc1", "plc1--cam", "hmi"] {
        let answer = server.get(&path(&format!("https://{host}.z.test:8443/x")), &headers).await;
        let location = answer.header(LOCATION);
        assert!(location.starts_with(&format!("https://{host}.z.test:8443/.linkspan/ticket?t=")), "{location}");
        assert!(location.ends_with("&to=%2Fx"), "{location}");
    }
    let nowhere = server.get("/nothing/here", &headers).await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    for to in [
        "https://unknown.z.test:8443/",
        "https://plc1--nothing.z.test:8443/",
        "https://plc1--ssh.z.test:8443/",
        "https://evil.test/",
        "https://plc1.z.test/",
        "https://plc1.z.test:8443@evil.test/",
        "http://plc1.z.test:8443/",
        "//plc1.z.test:8443/",
    ] {
        let answer = server.get(&path(to), &headers).await;
        assert_eq!((answer.status, &answer.body), (StatusCode::NOT_FOUND, &nowhere.body), "{to}");
    }
    for asked in ["/open", "/open?to=https%3A%2F%2Fplc1.z.test%3A8443%2F", "/open?to=x&to=y&nonce=z"] {
        assert_eq!(server.get(asked, &headers).await.status, StatusCode::NOT_FOUND, "{asked}");
    }
}

#[tokio::test]
async fn the_description_names_every_route_of_the_api_and_no_other() {
    let server = server().await;
    let api = server.get("/api/v1/openapi.json", &[]).await.json();
    let mut described: Vec<String> = Vec::new();
    for (path, methods) in api["paths"].as_object().unwrap() {
        described.extend(methods.as_object().unwrap().keys().map(|method| format!("{} {path}", method.to_uppercase())));
    }
    described.sort();
    let routes = api_routes(&server.state);
    for route in &routes {
        assert_eq!(route.line, route.documented, "the handler is described as another route than it is declared");
        // The router answers it, and not with "there is no such thing" or "not this method".
        let (method, path) = route.line.split_once(' ').unwrap();
        let answer = server.ask(method.parse().unwrap(), &path.replace(['{', '}'], ""), &[], "").await;
        let refused = matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        assert!(!refused, "{}: {}", route.line, answer.status);
    }
    let mut declared: Vec<String> = routes.iter().map(|route| route.line.to_owned()).collect();
    // Answered elsewhere.
    declared.push("GET /api/v1/devices/{device}/services/{service}/stream".to_owned());
    declared.push("POST /api/v1/enroll".to_owned());
    declared.push("GET /api/v1/openapi.json".to_owned());
    declared.sort();
    assert_eq!(described, declared);
    assert_eq!(api["openapi"], "3.1.0");
    assert_eq!(api["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
    assert_eq!(api["components"]["schemas"]["DeviceView"]["properties"]["online"]["type"], "boolean");
}

#[tokio::test]
async fn every_operation_is_described_with_its_permission_and_its_problems() {
    let server = server().await;
    let api = server.get("/api/v1/openapi.json", &[]).await.json();
    let mut ids = std::collections::HashSet::new();
    for (path, methods) in api["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{method} {path}");
            assert!(operation["summary"].is_string() && operation["x-permission"].is_string(), "{method} {path}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                assert!(!response["description"].as_str().unwrap().is_empty(), "{method} {path} {status}");
                let problem = status.starts_with(['4', '5']);
                let kind = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(*kind == "#/components/schemas/Problem", problem, "{method} {path} {status}");
            }
        }
    }
    // Whatever is referred to is there.
    let text = api.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(api["components"]["schemas"][name].is_object(), "{name}");
    }
}

#[tokio::test]
async fn without_a_database_answers_say_whose_fault_it_is() {
    let server = server().await;
    let (token, cookie) = (server.token("otto").await, server.cookie("otto").await);
    server.store.close().await;
    let answer = server.get_as("/api/v1/devices", &token).await;
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::INTERNAL_SERVER_ERROR, &json!("internal")));
    let page = server.get("/", &[(COOKIE, &cookie)]).await;
    assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(page.body.contains("cannot read its data"), "{}", page.body);
    let login = server.post_login("name=otto&password=correct+horse", ORIGIN_HERE).await;
    assert_eq!(login.status, StatusCode::INTERNAL_SERVER_ERROR);
}

#[tokio::test]
async fn traffic_is_told_by_month_as_pages_and_as_a_sheet() {
    let server = server().await;
    let key = |device: &str, person: &str| TrafficKey {
        month: server.state.traffic.month_now(),
        tenant: TenantId::DEFAULT,
        gateway: "here".into(),
        device: device.into(),
        service: "web".into(),
        person: person.into(),
    };
    let sum = |up, down| TrafficSum { up, down, streams: 1 };
    let count = LinkCount { sent: 700, received: 70, told: at(1_700_000_000) };
    let sums = [(key("plc1", "anna"), sum(10, 1)), (key("cam", "otto"), sum(500, 5))];
    server.store.book_traffic(&sums, &[(server.state.traffic.month_now(), "here".into(), count)]).await.unwrap();
    let token = server.token("anna").await;
    let told = server.get_as("/api/v1/traffic?by=device,person&limit=1", &token).await.json();
    assert_eq!((&told["traffic"][0]["device"], &told["traffic"][0]["up"]), (&json!("cam"), &json!(500)), "{told}");
    assert_eq!(told["traffic"][0]["gateway"], Value::Null, "not asked for");
    let next = format!("/api/v1/traffic?by=device,person&limit=1&cursor={}", told["next"].as_str().unwrap());
    let told = server.get_as(&next, &token).await.json();
    assert_eq!((&told["traffic"][0]["device"], &told["next"]), (&json!("plc1"), &Value::Null), "{told}");
    let sheet = server.get_as("/api/v1/traffic?by=person&format=csv", &token).await;
    assert!(sheet.header(CONTENT_TYPE).starts_with("text/csv"), "{}", sheet.header(CONTENT_TYPE));
    let month = server.state.traffic.month_now();
    let lines = format!("{month},,,,anna,10,1,1\r\n{month},,,,otto,500,5,1\r\n");
    assert!(sheet.body.ends_with(&lines), "{}", sheet.body);
    let one = server.get_as("/api/v1/gateways/here/traffic", &token).await.json();
    assert_eq!((&one["link"]["sent"], &one["streams"]["up"]), (&json!(700), &json!(510)), "{one}");
    for bad in ["from=2026-13", "by=colour", "format=xls", "nonsense=1", "from=2026-11&to=x"] {
        let answer = server.get_as(&format!("/api/v1/traffic?{bad}"), &token).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
    let otto = server.token("otto").await;
    assert_eq!(server.get_as("/api/v1/traffic", &otto).await.status, StatusCode::FORBIDDEN);
    assert_eq!(server.get_as("/api/v1/gateways/here/traffic", &otto).await.status, StatusCode::NOT_FOUND);
    assert_eq!(server.get_as("/api/v1/gateways/nobody/traffic", &token).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_cap_is_set_by_who_may_and_stands_in_the_audit() {
    let server = server().await;
    let (anna, otto) = (server.token("anna").await, server.token("otto").await);
    let path = "/api/v1/gateways/here/cap";
    let put = async |token: &str, tag: &str, body: Value| {
        let token = format!("Bearer {token}");
        let headers = [(AUTHORIZATION, &*token), (CONTENT_TYPE, "application/json"), (http::header::IF_MATCH, tag)];
        server.ask(Method::PUT, path, &headers, &body.to_string()).await
    };
    let before = server.get_as(path, &anna).await;
    let tag = before.header(http::header::ETAG).to_owned();
    let cap = json!({"warn": 400_000_000, "hard": 500_000_000, "lifted_until": "2030-01-01T00:00:00Z"});
    assert_eq!(put(&otto, "*", cap.clone()).await.status, StatusCode::NOT_FOUND, "not for an operator");
    assert_eq!(put(&anna, "\"other\"", cap.clone()).await.status, StatusCode::PRECONDITION_FAILED);
    let answer = put(&anna, &tag, cap.clone()).await;
    assert_eq!((answer.status, answer.json()), (StatusCode::OK, cap));
    assert_eq!(put(&anna, &tag, json!({})).await.status, StatusCode::PRECONDITION_FAILED, "it has changed");
    for bad in [json!({"warn": 2, "hard": 1}), json!({"hard": -1}), json!({"hard": "500 MB"}), json!({"hart": 1})] {
        assert_eq!(put(&anna, "*", bad.clone()).await.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let standing = server.state.traffic.standing(&"here".parse().unwrap());
    assert_eq!(standing.cap.hard, Some(500_000_000), "it counts at once");
    assert_eq!(put(&anna, "*", json!({})).await.json()["hard"], Value::Null);
}
