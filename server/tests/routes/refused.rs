//! What must be refused however it is asked (threats 19 and 25), and what went wrong in other products of this class.

use axum::body::Body;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{Request, StatusCode};

use crate::house::House;

/// CVE-2026-57920 (Peplink InControl 2): a `;` in the path passes the rule that guards it. Here the path that is
/// authorised is the one that is executed, so that such a path is simply another one, which does not exist.
#[tokio::test]
async fn peplink_a_semicolon_in_the_path_opens_nothing() {
    let house = House::new().await;
    let viewer = house.token("viewer").await;
    for path in [
        "/api/v1/gateways;x",
        "/api/v1/gateways;x=/devices",
        "/api/v1/devices;/../gateways",
        "/api/v1;x/gateways",
        "/api/v1/devices/..;/gateways",
        "/api/v1/devices/%2e%2e/gateways",
        "/api/v1/devices/../gateways",
        "/api/v1/./gateways",
        "/api/v1//gateways",
        "//api/v1/gateways",
        "/api/v1/gateways/",
        "/api/v1/gateways%2f",
        "/api/v1/gateways%00",
        "/api/v1/Gateways",
        "/API/v1/gateways",
        "/api/v1/audit;x",
        "/api/v1/%61udit;",
        "/api/v1/audit/../audit",
    ] {
        for token in [None, Some(viewer.as_str())] {
            let answer = house.ask(&format!("GET {path}"), token, None).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {}", answer.body);
        }
    }
    // A letter may be escaped; it is the same path then, with the same guard in front of it.
    let escaped = house.ask("GET /api/v1/%61udit", Some(&viewer), None).await;
    assert!(matches!(escaped.status.as_u16(), 403 | 404), "{}", escaped.status);
}

/// CVE-2026-3209 (Pangolin): a role id taken from the body overrides the one that was checked in the URL. Here each value
/// has one place: fields that are not known, and keys or parameters that stand twice, are refused.
#[tokio::test]
async fn pangolin_a_role_in_the_body_overrides_nothing() {
    let house = House::new().await;
    for (body, status) in [
        (r#"{"name":"viewer","password":"correct horse battery","role":"admin"}"#, 422),
        (r#"{"name":"viewer","password":"correct horse battery","roleId":1}"#, 422),
        (r#"{"name":"viewer","name":"admin","password":"correct horse battery"}"#, 400),
        (r#"{"name":"viewer","password":"x","pass\u0077ord":"correct horse battery"}"#, 400),
        (r#"["viewer","correct horse battery"]"#, 400),
    ] {
        let answer = house.ask("POST /api/v1/session", None, Some(body)).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.body);
    }
    let viewer = house.token("viewer").await;
    for (query, status) in
        [("tenant=1", 400), ("role=admin", 400), ("limit=1&limit=1000", 400), ("limit=1&%6cimit=2", 400)]
    {
        let answer = house.ask(&format!("GET /api/v1/devices?{query}"), Some(&viewer), None).await;
        assert_eq!(answer.status.as_u16(), status, "{query}: {}", answer.body);
    }
}

#[tokio::test]
async fn threat_19_a_header_overrides_no_method_and_no_path() {
    let house = House::new().await;
    let viewer = house.token("viewer").await;
    for (name, value) in [
        ("x-http-method-override", "DELETE"),
        ("x-http-method", "DELETE"),
        ("x-method-override", "DELETE"),
        ("x-original-url", "/api/v1/gateways"),
        ("x-rewrite-url", "/api/v1/gateways"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "evil.test"),
        ("x-forwarded-prefix", "/api/v1/gateways"),
        ("forwarded", "for=127.0.0.1"),
        ("x-user", "admin"),
        ("x-role", "admin"),
    ] {
        let ask = |path: &str| {
            let request = Request::get(path).header(AUTHORIZATION, format!("Bearer {viewer}")).header(name, value);
            house.send(request.body(Body::empty()).unwrap())
        };
        assert_eq!(ask("/api/v1/session").await.json()["name"], "viewer", "{name}");
        assert_eq!(ask("/api/v1/gateways").await.status, StatusCode::FORBIDDEN, "{name}");
    }
    assert_eq!(house.ask("GET /api/v1/session", Some(&viewer), None).await.status, StatusCode::OK, "still signed in");
}

#[tokio::test]
async fn threat_19_another_organisations_things_do_not_exist() {
    let house = House::new().await;
    let other = house.token("other-admin").await;
    let missing = house.ask("GET /api/v1/devices/nothing", Some(&other), None).await;
    let theirs = house.ask("GET /api/v1/devices/plc1", Some(&other), None).await;
    assert_eq!((missing.status, &missing.body), (StatusCode::NOT_FOUND, &theirs.body));
    for list in ["devices", "gateways"] {
        let answer = house.ask(&format!("GET /api/v1/{list}"), Some(&other), None).await;
        assert_eq!(answer.json()[list], serde_json::json!([]), "{list}");
    }
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back() {
    let house = House::new().await.limited(2);
    let (viewer, operator) = (house.token("viewer").await, house.token("operator").await);
    let mut slowed = None;
    for _ in 0..30 {
        let answer = house.ask("GET /api/v1/session", Some(&viewer), None).await;
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            slowed = Some(answer);
            break;
        }
    }
    let slowed = slowed.unwrap();
    assert_eq!(slowed.json()["code"], "slow-down");
    assert!(slowed.headers[RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(house.ask("GET /api/v1/session", Some(&operator), None).await.status, StatusCode::OK, "others go on");
}

#[tokio::test]
async fn a_body_must_be_json_and_small() {
    let house = House::new().await;
    let body = r#"{"name":"viewer","password":"correct horse battery"}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json;charset=utf-16", "text/json"] {
        let request = Request::post("/api/v1/session").header(CONTENT_TYPE, kind);
        let answer = house.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}");
    }
    let large = format!(r#"{{"name":"viewer","password":"{}"}}"#, "x".repeat(100_000));
    assert_eq!(house.ask("POST /api/v1/session", None, Some(&large)).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn every_answer_is_private_and_nothing_is_framed() {
    let house = House::new().await;
    for path in ["/api/v1/openapi.json", "/api/v1/problems", "/api/v1/devices", "/api/v1/nothing"] {
        let answer = house.ask(&format!("GET {path}"), None, None).await;
        assert_eq!(answer.headers[http::header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(answer.headers[http::header::X_FRAME_OPTIONS], "DENY", "{path}");
        assert!(!answer.headers.contains_key(ETAG) && !answer.headers.contains_key(IF_NONE_MATCH));
    }
}

/// CVE-2026-40910 (frp): routed by one header, authorised by another. CVE-2026-25748 (authentik): what is malformed passes.
/// Here a credential has one place, and what cannot be one is none.
#[tokio::test]
async fn frp_and_authentik_a_credential_in_another_place_or_form_is_none() {
    let house = House::new().await;
    let token = house.token("admin").await;
    let bearer = format!("Bearer {token}");
    for (name, value) in [
        ("proxy-authorization", bearer.clone()),
        ("linkspan-authorization", bearer.clone()),
        ("x-authorization", bearer.clone()),
        ("x-auth-token", token.clone()),
        ("cookie", format!("token={token}")),
        ("cookie", format!("__Host-linkspan={token}")),
        ("cookie", format!("__Host-linkspan-console={token}")),
        ("authorization", token.clone()),
        ("authorization", format!("Basic {token}")),
        ("authorization", format!("Bearer {token},{token}")),
        ("authorization", format!("Bearer {}", token.to_uppercase())),
        ("authorization", format!("Bearer {}", &token[1..])),
        ("authorization", "Bearer ".to_owned() + &"A".repeat(8000)),
    ] {
        let request = Request::get("/api/v1/session").header(name, value.clone());
        let answer = house.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{name}: {value}");
    }
    let twice = Request::get("/api/v1/session").header(AUTHORIZATION, &bearer).header(AUTHORIZATION, "Bearer x");
    assert_eq!(house.send(twice.body(Body::empty()).unwrap()).await.status, StatusCode::UNAUTHORIZED, "two of them");
    let query = house.ask(&format!("GET /api/v1/session?access_token={token}"), None, None).await;
    assert!(query.status.is_client_error(), "a token in an address: {}", query.status);
}

/// CVE-2021-41767 (Guacamole): the identity that a list shows lets others in. Here it opens nothing.
#[tokio::test]
async fn guacamole_an_id_in_a_list_opens_nothing() {
    let house = House::new().await;
    let admin = house.token("admin").await;
    let things = house.furnish().await;
    let mut ids: Vec<String> = things.into_iter().map(|(_, id)| id).filter(|id| id.len() >= 16).collect();
    for path in ["me/sessions", "tokens?all=true", "visits", "grants", "audit?limit=50"] {
        let list = house.ask(&format!("GET /api/v1/{path}"), Some(&admin), None).await.body;
        ids.extend(list.split('"').filter(|text| text.len() == 16 || text.len() == 64).map(str::to_owned));
    }
    assert!(ids.len() > 20, "{ids:?}");
    for id in ids {
        let answer = house.ask("GET /api/v1/session", Some(&id), None).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{id}");
        let body = serde_json::json!({ "token": id }).to_string();
        assert_eq!(house.ask("POST /api/v1/visit", None, Some(&body)).await.status, StatusCode::NOT_FOUND, "{id}");
    }
}

/// Whatever goes wrong is told in one form, with one code for programs.
#[tokio::test]
async fn every_refusal_is_a_problem() {
    let house = House::new().await;
    let viewer = house.token("viewer").await;
    let large = format!(r#"{{"name":"{}","password":"x"}}"#, "x".repeat(20_000));
    let session = "POST /api/v1/session";
    for (line, token, body, status, code) in [
        ("GET /api/v1/nothing", None, None, 404, "not-found"),
        ("GET /api/v1", None, None, 404, "not-found"),
        ("GET /api/v2/devices", None, None, 404, "not-found"),
        ("DELETE /api/v1/devices", None, None, 405, "method"),
        ("PATCH /api/v1/session", None, Some("{}"), 405, "method"),
        ("TRACE /api/v1/session", None, None, 405, "method"),
        ("GET /api/v1/devices", None, None, 401, "sign-in"),
        ("GET /api/v1/people", Some(&viewer), None, 403, "forbidden"),
        ("GET /api/v1/devices?limit=0", Some(&viewer), None, 400, "bad-request"),
        ("GET /api/v1/devices?cursor=x", Some(&viewer), None, 400, "bad-cursor"),
        (session, None, Some("{"), 400, "bad-request"),
        (session, None, Some("{}"), 422, "unprocessable"),
        (session, None, Some(large.as_str()), 413, "too-large"),
        (session, None, None, 415, "not-json"),
        (session, None, Some(r#"{"name":"viewer","password":"wrong"}"#), 401, "wrong-password"),
    ] {
        let answer = house.ask(line, token.map(String::as_str), body).await;
        assert_eq!(answer.headers[CONTENT_TYPE], "application/problem+json", "{line}: {}", answer.body);
        let problem = answer.json();
        assert_eq!((answer.status.as_u16(), &problem["code"]), (status, &code.into()), "{line}: {problem}");
        assert_eq!(problem["status"], status, "{line}");
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{line}: {member}");
        }
        if status == 405 {
            assert!(answer.headers.contains_key(http::header::ALLOW), "{line}");
        }
    }
}

/// What holds for every route, as the description has it: lists come in pages, and whoever is to come back is told when.
#[tokio::test]
async fn each_list_has_a_cursor_and_each_come_back_later_a_time() {
    let house = House::new().await;
    let all = house.ask("GET /api/v1/openapi.json", None, None).await.json();
    let mut lists = 0;
    for (path, methods) in all["paths"].as_object().unwrap() {
        for (method, route) in methods.as_object().unwrap() {
            for (status, answer) in route["responses"].as_object().unwrap() {
                let told = answer["headers"].get("Retry-After").is_some();
                assert!(told || !["429", "503"].contains(&status.as_str()), "{method} {path}: {status}");
            }
            let schema = route["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str();
            let Some(name) = schema.and_then(|schema| schema.rsplit('/').next()) else { continue };
            let shape = all["components"]["schemas"][name]["properties"].as_object();
            let holds_many = shape.is_some_and(|shape| shape.values().any(|value| value["type"] == "array"));
            // What the program itself consists of is whole, and one thing is no list.
            let whole =
                ["/api/v1/permissions", "/api/v1/problems", "/api/v1/me", "/api/v1/gateways/{gateway}/config/own"];
            let whole = whole.contains(&path.as_str());
            if method == "get" && holds_many && !whole && !path.ends_with('}') {
                lists += 1;
                let parameters = route["parameters"].as_array().unwrap();
                assert!(parameters.iter().any(|one| one["name"] == "cursor"), "{path}");
            }
        }
    }
    assert!(lists > 15, "{lists}");
}

/// docs/threats.md names a test for each attack: each of them is there.
#[test]
fn each_test_that_the_page_of_threats_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let page = std::fs::read_to_string(root.join("docs/threats.md")).unwrap();
    let named: Vec<&str> = page.split('`').skip(1).step_by(2).filter(|text| text.matches('_').count() > 2).collect();
    assert!(named.len() > 60, "{named:?}");
    let mut sources = String::new();
    let folders =
        ["config/src", "server/src", "server/tests", "protocol/src", "protocol/tests", "gateway/tests", "tests/tests"];
    for folder in folders {
        gather(&root.join(folder), &mut sources);
    }
    for name in named {
        assert!(sources.contains(&format!("fn {name}(")), "there is no test {name}");
    }
}

fn gather(folder: &std::path::Path, sources: &mut String) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            gather(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&std::fs::read_to_string(&path).unwrap());
        }
    }
}
