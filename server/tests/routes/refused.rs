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
