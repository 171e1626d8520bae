//! One's own account over the API: password, second factor, sessions; and what a token for less may not.

use data_encoding::BASE32_NOPAD;
use http::StatusCode;
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Value, json};

use crate::house::{House, PASSWORD};

const NEW: &str = "a much better battery";

/// What a phone shows for a secret, some steps ahead.
fn code(secret: &str, ahead: i64) -> String {
    let secret = BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
    let step = Timestamp::now().as_second() / 30 + ahead;
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret), &step.to_be_bytes());
    let offset = usize::from(tag.as_ref()[19] & 15);
    let four: [u8; 4] = tag.as_ref()[offset..offset + 4].try_into().unwrap();
    format!("{:06}", (u32::from_be_bytes(four) & 0x7fff_ffff) % 1_000_000)
}

async fn post(house: &House, token: &str, path: &str, body: Value) -> (u16, Value) {
    let answer = house.ask(&format!("POST /api/v1/me/{path}"), Some(token), Some(&body.to_string())).await;
    (answer.status.as_u16(), if answer.body.is_empty() { Value::Null } else { answer.json() })
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_it_and_ends_other_sessions() {
    let house = House::new().await;
    let (mine, other) = (house.token("viewer").await, house.token("viewer").await);
    let wrong = post(&house, &mine, "password", json!({"present": "wrong", "new": NEW})).await;
    assert_eq!((wrong.0, &wrong.1["code"]), (401, &json!("wrong-password")));
    let weak = post(&house, &mine, "password", json!({"present": PASSWORD, "new": "password1"})).await;
    assert_eq!(weak.0, 422, "{}", weak.1);
    assert_eq!(post(&house, &mine, "password", json!({"present": PASSWORD, "new": NEW})).await.0, 204);
    assert_eq!(house.ask("GET /api/v1/session", Some(&other), None).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.ask("GET /api/v1/session", Some(&mine), None).await.status, StatusCode::OK);
    assert_eq!(house.sign_in_as("viewer", PASSWORD, b"x").await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.sign_in_as("viewer", NEW, b"x").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_second_factor_is_set_up_renewed_and_given_up() {
    let house = House::new().await;
    let token = house.token("viewer").await;
    let state = async || house.ask("GET /api/v1/me/second-factor", Some(&token), None).await.json();
    assert_eq!(state().await, json!({"set_up": false, "required": false, "recovery_codes_left": null}));
    let (_, offer) = post(&house, &token, "second-factor", Value::Null).await;
    let secret = offer["secret"].as_str().unwrap();
    assert!(
        offer["url"].as_str().unwrap().starts_with("otpauth://totp/") && !state().await["set_up"].as_bool().unwrap()
    );
    assert_eq!(post(&house, &token, "second-factor", Value::Null).await.1, offer, "the same until it is confirmed");
    let confirm = async |code: &str, present: &str| {
        post(&house, &token, "second-factor/confirm", json!({"code": code, "present": present})).await
    };
    assert_eq!(confirm(&code(secret, -1), "wrong").await.1["code"], "wrong-password");
    assert_eq!(confirm("000000", PASSWORD).await.1["code"], "wrong-code");
    let (status, made) = confirm(&code(secret, -1), PASSWORD).await;
    assert_eq!((status, made["recovery_codes"].as_array().unwrap().len()), (200, 10));
    assert_eq!(post(&house, &token, "second-factor", Value::Null).await.0, 409, "there is one already");
    assert_eq!(house.sign_in_as("viewer", PASSWORD, b"x").await.json()["code"], "second-factor");

    let (status, renewed) = post(&house, &token, "recovery-codes", json!({"code": code(secret, 0)})).await;
    assert_eq!(status, 200, "{renewed}");
    let old = json!({"code": made["recovery_codes"][0]});
    assert_eq!(post(&house, &token, "second-factor/remove", old).await.1["code"], "wrong-code", "void");
    assert_eq!(state().await["recovery_codes_left"], 10);
    house.store.require_second_factor(linkspan_server::rights::TenantId::DEFAULT, true).await.unwrap();
    let good = json!({"code": renewed["recovery_codes"][0]});
    assert_eq!(post(&house, &token, "second-factor/remove", good.clone()).await.0, 403, "it is required");
    house.store.require_second_factor(linkspan_server::rights::TenantId::DEFAULT, false).await.unwrap();
    assert_eq!(post(&house, &token, "second-factor/remove", good).await.0, 204);
    assert_eq!(house.sign_in_as("viewer", PASSWORD, b"x").await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_organisation_asks_for_a_second_factor() {
    let house = House::new().await;
    let (admin, viewer) = (house.token("admin").await, house.token("viewer").await);
    let required = r#"{"second_factor":"required"}"#;
    assert_eq!(house.ask("PUT /api/v1/settings", Some(&viewer), Some(required)).await.status, StatusCode::FORBIDDEN);
    assert_eq!(house.ask("PUT /api/v1/settings", Some(&admin), Some(required)).await.status, StatusCode::OK);
    let shown = house.ask("GET /api/v1/settings", Some(&admin), None).await;
    assert_eq!(shown.json(), json!({"second_factor": "required"}));
    assert_eq!(house.sign_in_as("viewer", PASSWORD, b"x").await.json()["code"], "second-factor-missing");
    assert_eq!(house.sign_in_as("other-admin", PASSWORD, b"x").await.status, StatusCode::OK, "not theirs");
    let noted = house.ask("GET /api/v1/audit?action=tenant.change", Some(&admin), None).await.json();
    assert_eq!(noted["entries"][0]["details"]["second_factor"], "required");
}

/// A token that was made for less is not its owner: what belongs to the owner is neither shown to it nor ended by it.
#[tokio::test]
async fn a_token_for_less_sees_and_ends_nothing_of_its_owners() {
    let house = House::new().await;
    let admin = house.token("admin").await;
    let make = async |name: &str, permissions: Value| {
        let body = json!({"name": name, "permissions": permissions}).to_string();
        let made = house.ask("POST /api/v1/tokens", Some(&admin), Some(&body)).await;
        assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
        made.json()
    };
    let (less, other) = (make("less", json!(["device.see"])).await, make("other", Value::Null).await);
    let until = (Timestamp::now() + std::time::Duration::from_secs(3600)).to_string();
    let visit = json!({"guest": "Vendor", "device": "plc1", "service": "web", "reason": "repair", "until": until});
    let visit = house.ask("POST /api/v1/visits", Some(&admin), Some(&visit.to_string())).await.json();
    let token = less["token"].as_str().unwrap();
    let ask = async |line: &str, body: Option<&str>| house.ask(line, Some(token), body).await;
    for (line, body) in [
        ("GET /api/v1/me/sessions", None),
        ("GET /api/v1/me/second-factor", None),
        ("POST /api/v1/me/second-factor", None),
        ("POST /api/v1/me/password", Some(r#"{"present":"correct horse battery","new":"a much better battery"}"#)),
    ] {
        assert_eq!(ask(line, body).await.status, StatusCode::FORBIDDEN, "{line}");
    }
    let session = house.ask("GET /api/v1/me/sessions", Some(&admin), None).await.json();
    let line = format!("DELETE /api/v1/me/sessions/{}", session["sessions"][0]["id"].as_str().unwrap());
    assert_eq!(ask(&line, None).await.status, StatusCode::FORBIDDEN);
    let tokens = ask("GET /api/v1/tokens", None).await.json();
    assert_eq!(tokens["tokens"].as_array().unwrap().len(), 1, "itself: {tokens}");
    let line = format!("DELETE /api/v1/tokens/{}", other["id"].as_str().unwrap());
    assert_eq!(ask(&line, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(ask("GET /api/v1/visits", None).await.json()["visits"], json!([]));
    let line = format!("DELETE /api/v1/visits/{}", visit["visit"]["id"].as_str().unwrap());
    assert_eq!(ask(&line, None).await.status, StatusCode::NOT_FOUND);
    let line = format!("DELETE /api/v1/tokens/{}", less["id"].as_str().unwrap());
    assert_eq!(ask(&line, None).await.status, StatusCode::NO_CONTENT, "it may end itself");
}

/// An answer that is kept for who sends the same key again is not given to a token for less.
#[tokio::test]
async fn a_token_for_less_is_not_given_its_owners_answers_again() {
    let house = House::new().await;
    let admin = house.token("admin").await;
    let body = json!({"name": "less", "permissions": ["people.edit"]}).to_string();
    let less = house.ask("POST /api/v1/tokens", Some(&admin), Some(&body)).await.json();
    let send = async |token: &str| {
        let request = http::Request::post("/api/v1/people")
            .header(http::header::AUTHORIZATION, format!("Bearer {token}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", "k1");
        house.send(request.body(r#"{"name":"nora","role":"viewer"}"#.into()).unwrap()).await
    };
    assert_eq!(send(&admin).await.status, StatusCode::CREATED);
    let again = send(less["token"].as_str().unwrap()).await;
    assert!(!again.body.contains("welcome") && again.status.is_client_error(), "{}", again.body);
    assert!(send(&admin).await.body.contains("welcome"), "who made it gets it again");
}
