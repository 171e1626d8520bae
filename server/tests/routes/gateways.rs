//! Gateways over the API: added, replaced, revoked and removed by whom may, each noted down.

use http::StatusCode;
use serde_json::{Value, json};

use crate::house::House;

#[tokio::test]
async fn a_gateway_is_added_replaced_revoked_and_removed() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    let made = house.ask("POST /api/v1/gateways", Some(&fleet), Some(r#"{"name":"site7"}"#)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    assert!(made.json()["claim_code"].is_string() && made.json().get("secret").is_none());
    let taken = house.ask("POST /api/v1/gateways", Some(&fleet), Some(r#"{"name":"site12"}"#)).await;
    assert_eq!(taken.status, StatusCode::CONFLICT);
    let secret = house.ask("POST /api/v1/gateways", Some(&fleet), Some(r#"{"name":"site8","secret":true}"#)).await;
    assert_eq!(secret.json()["secret"].as_str().unwrap().len(), 52);
    let shown = house.ask("GET /api/v1/gateways/site7", Some(&fleet), None).await.json();
    assert!(shown["claim_expires"].is_string() && shown["revoked"].is_null(), "{shown}");
    assert_eq!(house.ask("POST /api/v1/gateways/site8/revoke", Some(&fleet), None).await.status, 204);
    assert!(house.ask("GET /api/v1/gateways/site8", Some(&fleet), None).await.json()["revoked"].is_string());
    let again = house.ask("POST /api/v1/gateways/site8/replace", Some(&fleet), Some(r#"{"now":true}"#)).await;
    assert_eq!(again.status, StatusCode::CREATED, "{}", again.body);
    assert_eq!(house.ask("DELETE /api/v1/gateways/site8", Some(&fleet), None).await.status, 204);
    assert_eq!(house.ask("GET /api/v1/gateways/site8", Some(&fleet), None).await.status, 404);

    let admin = house.token("admin").await;
    let noted = house.ask("GET /api/v1/audit?action=gateway&actor=fleet-admin", Some(&admin), None).await.json();
    let noted: Vec<&Value> = noted["entries"].as_array().unwrap().iter().rev().map(|one| &one["action"]).collect();
    let expected = ["gateway.add", "gateway.add", "gateway.revoke", "gateway.replace", "gateway.remove"];
    assert_eq!(noted, expected.map(|action| json!(action)).iter().collect::<Vec<_>>());
    for secret in [&made.json()["claim_code"], &secret.json()["secret"], &again.json()["claim_code"]] {
        let all = house.ask("GET /api/v1/audit/export", Some(&admin), None).await.body;
        assert!(!all.contains(secret.as_str().unwrap()), "a secret stands in the audit");
    }
}

#[tokio::test]
async fn gateways_are_not_for_those_who_only_use_devices() {
    let house = House::new().await;
    let (technician, other) = (house.token("technician").await, house.token("other-admin").await);
    for (line, body) in [
        ("POST /api/v1/gateways", Some(r#"{"name":"site7"}"#)),
        ("DELETE /api/v1/gateways/site12", None),
        ("POST /api/v1/gateways/site12/revoke", None),
        ("POST /api/v1/gateways/site12/replace", Some("{}")),
        ("GET /api/v1/provisioning-keys", None),
        ("GET /api/v1/enrolments", None),
    ] {
        let answer = house.ask(line, Some(&technician), body).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{line}: {}", answer.body);
        if line.contains("site12") {
            let answer = house.ask(line, Some(&other), body).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{line}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn keys_for_many_routers_are_made_and_removed() {
    let house = House::new().await;
    let (fleet, other) = (house.token("fleet-admin").await, house.token("other-admin").await);
    let new = r#"{"name":"spring","uses":40,"days":7}"#;
    let made = house.ask("POST /api/v1/provisioning-keys", Some(&fleet), Some(new)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
    let key = made.json()["key"].as_str().unwrap().to_owned();
    let list = house.ask("GET /api/v1/provisioning-keys", Some(&fleet), None).await;
    assert!(list.body.contains("spring") && !list.body.contains(&key), "{}", list.body);
    assert!(!house.ask("GET /api/v1/provisioning-keys", Some(&other), None).await.body.contains("spring"));
    let gone = house.ask("DELETE /api/v1/provisioning-keys/spring", Some(&other), None).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND, "another organisation's");
    assert_eq!(house.ask("DELETE /api/v1/provisioning-keys/spring", Some(&fleet), None).await.status, 204);
    for bad in [r#"{"name":"x","uses":0}"#, r#"{"name":"x","uses":1,"days":0}"#, r#"{"name":"X Y","uses":1}"#] {
        let answer = house.ask("POST /api/v1/provisioning-keys", Some(&fleet), Some(bad)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

#[tokio::test]
async fn the_server_says_how_it_is_doing_to_who_stands_above() {
    let house = House::new().await;
    let (above, admin) = (house.token("system-admin").await, house.token("admin").await);
    let shown = house.ask("GET /api/v1/server", Some(&above), None).await.json();
    assert_eq!((&shown["gateways"], &shown["gateways_online"], &shown["streams"]), (&json!(1), &json!(1), &json!(0)));
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        shown["started"].is_string() && shown["audit"]["writable"] == true && shown["audit"]["lost"] == 0,
        "{shown}"
    );
    assert_eq!(house.ask("GET /api/v1/server", Some(&admin), None).await.status, StatusCode::FORBIDDEN);
}
