//! People over the API: added with a link, given a role, signed out, removed; never by somebody who is less than they are.

use http::StatusCode;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{Request, header::HeaderName};
use linkspan_server::audit::verify;
use serde_json::json;

use crate::house::House;

async fn edit(house: &House, token: &str, path: &str, tag: Option<&str>, body: &str) -> (StatusCode, String) {
    let mut request =
        Request::put(path).header(AUTHORIZATION, format!("Bearer {token}")).header(CONTENT_TYPE, "application/json");
    if let Some(tag) = tag {
        request = request.header(IF_MATCH, tag);
    }
    let answer = house.send(request.body(body.to_owned().into()).unwrap()).await;
    (answer.status, answer.body)
}

#[tokio::test]
async fn a_person_is_added_changed_signed_out_and_removed() {
    let house = House::new().await;
    let admin = house.token("admin").await;
    let new = json!({"name": "Nora", "role": "viewer"}).to_string();
    let made = house.ask("POST /api/v1/people", Some(&admin), Some(&new)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert!(made.json()["link"].as_str().unwrap().starts_with("https://c.test:8443/welcome?link="));
    assert_eq!(house.ask("POST /api/v1/people", Some(&admin), Some(&new)).await.status, StatusCode::CONFLICT);
    let one = house.ask("GET /api/v1/people/nora", Some(&admin), None).await;
    assert_eq!((&one.json()["role"], &one.json()["source"]), (&json!("viewer"), &json!("local")));

    // Two who edit what they have read: the second is told.
    let tag = one.headers[ETAG].to_str().unwrap().to_owned();
    let role = |role: &str| json!({"role": role}).to_string();
    let path = "/api/v1/people/nora";
    let first = edit(&house, &admin, path, Some(&tag), &role("operator")).await;
    assert_eq!(first.0, StatusCode::OK, "{}", first.1);
    let second = edit(&house, &admin, path, Some(&tag), &role("technician")).await;
    assert_eq!(second.0, StatusCode::PRECONDITION_FAILED, "{}", second.1);
    assert_eq!(edit(&house, &admin, path, None, &role("viewer")).await.0, StatusCode::PRECONDITION_REQUIRED);

    let viewer = house.token("viewer").await;
    let sessions = house.ask("GET /api/v1/people/viewer/sessions", Some(&admin), None).await;
    assert_eq!(sessions.json()["sessions"].as_array().unwrap().len(), 1);
    let another = house.token("viewer").await;
    let all = house.ask("GET /api/v1/people/viewer/sessions?limit=1", Some(&admin), None).await.json();
    assert!(all["next"].is_string(), "{all}");
    let line = format!("DELETE /api/v1/people/viewer/sessions/{}", all["sessions"][0]["id"].as_str().unwrap());
    assert_eq!(house.ask(&line, Some(&admin), None).await.status, 204);
    assert_eq!(house.ask(&line, Some(&admin), None).await.status, 404, "it has ended");
    assert_eq!(house.ask("GET /api/v1/session", Some(&another), None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.ask("GET /api/v1/session", Some(&viewer), None).await.status, StatusCode::OK, "the older one");
    assert_eq!(house.ask("DELETE /api/v1/people/viewer/sessions", Some(&admin), None).await.status, 204);
    assert_eq!(house.ask("GET /api/v1/session", Some(&viewer), None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.ask("DELETE /api/v1/people/nora", Some(&admin), None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.ask("GET /api/v1/people/nora", Some(&admin), None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.ask("DELETE /api/v1/people/admin", Some(&admin), None).await.status, StatusCode::CONFLICT);

    let above = house.token("system-admin").await;
    let noted = house.ask("GET /api/v1/audit?action=person&actor=admin", Some(&above), None).await.json();
    let noted: Vec<_> = noted["entries"].as_array().unwrap().iter().rev().map(|one| one["action"].clone()).collect();
    assert_eq!(noted, ["person.add", "person.change", "person.remove"]);
    verify(&house.store, &[]).await.unwrap();
}

/// Whoever could make a link for somebody above them would become them.
#[tokio::test]
async fn nobody_reaches_above_themselves_or_into_another_organisation() {
    let house = House::new().await;
    let (admin, other) = (house.token("admin").await, house.token("other-admin").await);
    let role = r#"{"role":"viewer"}"#;
    for (line, body) in [
        ("PUT /api/v1/people/system-admin", Some(role)),
        ("DELETE /api/v1/people/system-admin", None),
        ("POST /api/v1/people/system-admin/link", Some("{}")),
        ("POST /api/v1/people/system-admin/link", Some(r#"{"second_factor":true}"#)),
        ("DELETE /api/v1/people/system-admin/sessions", None),
        ("POST /api/v1/people", Some(r#"{"name":"mallory","role":"system-admin"}"#)),
        ("PUT /api/v1/people/viewer", Some(r#"{"role":"system-admin"}"#)),
    ] {
        let answer = house.ask(line, Some(&admin), body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{line}: {}", answer.body);
    }
    for (line, body) in [
        ("GET /api/v1/people/viewer", None),
        ("PUT /api/v1/people/viewer", Some(role)),
        ("DELETE /api/v1/people/viewer", None),
        ("POST /api/v1/people/viewer/link", Some("{}")),
        ("GET /api/v1/people/viewer/sessions", None),
        ("GET /api/v1/people?tenant=default", None),
    ] {
        let answer = house.ask(line, Some(&other), body).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{line}: {}", answer.body);
    }
}

#[tokio::test]
async fn ones_own_sessions_are_shown_and_ended() {
    let house = House::new().await;
    let (first, second) = (house.token("viewer").await, house.token("viewer").await);
    let all = house.ask("GET /api/v1/me/sessions", Some(&first), None).await.json();
    let all = all["sessions"].as_array().unwrap();
    assert_eq!(all.len(), 2);
    let other = all.iter().find(|session| session["own"] == false).unwrap()["id"].as_str().unwrap();
    let line = format!("DELETE /api/v1/me/sessions/{other}");
    let operator = house.token("operator").await;
    assert_eq!(house.ask(&line, Some(&operator), None).await.status, StatusCode::NOT_FOUND, "not theirs");
    assert_eq!(house.ask(&line, Some(&first), None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(house.ask("GET /api/v1/session", Some(&second), None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.ask("GET /api/v1/session", Some(&first), None).await.status, StatusCode::OK);
}

/// Who could lock everybody out by one request would need help from the machine's own command line.
#[tokio::test]
async fn no_organisation_loses_its_last_admin() {
    let house = House::new().await;
    for (name, why) in [("system-admin", "the server"), ("other-admin", "their organisation")] {
        let token = house.token(name).await;
        let less = json!({"role": "viewer"}).to_string();
        let answer = house.ask(&format!("PUT /api/v1/people/{name}"), Some(&token), Some(&less)).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{why}: {}", answer.body);
        let grants = house.ask("GET /api/v1/grants", Some(&token), None).await.json();
        let own = grants["grants"].as_array().unwrap().iter().find(|grant| grant["to"]["user"] == name).unwrap();
        let line = format!("DELETE /api/v1/grants/{}", own["id"].as_str().unwrap());
        let answer = house.ask(&line, Some(&token), None).await;
        assert_eq!(answer.status, StatusCode::CONFLICT, "{why}: {}", answer.body);
        assert_eq!(house.ask("GET /api/v1/people", Some(&token), None).await.status, StatusCode::OK, "{name} goes on");
    }
    // From above neither, as long as there is anybody whom they look after.
    let above = house.token("system-admin").await;
    let more = json!({"name": "more", "role": "viewer"}).to_string();
    let answer = house.ask("POST /api/v1/people?tenant=other", Some(&above), Some(&more)).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    let answer = house.ask("DELETE /api/v1/people/other-admin?tenant=other", Some(&above), None).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "{}", answer.body);
    let role = json!({"name": "mallory", "role": "system-admin"}).to_string();
    let answer = house.ask("POST /api/v1/people?tenant=other", Some(&above), Some(&role)).await;
    assert_eq!(
        answer.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "that role is the first organisation's: {}",
        answer.body
    );
}

/// A creation whose answer was lost is sent again, and not done again.
#[tokio::test]
async fn a_person_is_added_once_with_a_key() {
    let house = House::new().await;
    let admin = house.token("admin").await;
    let send = |key: &'static str, name: &str| {
        let request = Request::post("/api/v1/people")
            .header(AUTHORIZATION, format!("Bearer {admin}"))
            .header(CONTENT_TYPE, "application/json")
            .header(HeaderName::from_static("idempotency-key"), key);
        house.send(request.body(json!({ "name": name }).to_string().into()).unwrap())
    };
    let first = send("k1", "nora").await;
    let again = send("k1", "nora").await;
    assert_eq!((first.status, again.status), (StatusCode::CREATED, StatusCode::CREATED), "{}", again.body);
    assert_eq!(first.body, again.body, "the same link");
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(send("k1", "nils").await.json()["code"], "key-reused");
    assert_eq!(send("k2", "nora").await.json()["code"], "conflict");
}
