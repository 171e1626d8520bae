//! Tokens for programs, and service accounts.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::World;

async fn token(world: &World, who: &str, body: Value) -> String {
    let made = world.post(who, "/api/v1/tokens", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    made.text("token")
}

#[tokio::test]
async fn a_token_works_is_listed_and_ends_when_it_is_revoked() {
    let world = World::new().await;
    let token = token(&world, "tina", json!({"name": "backup"})).await;
    assert!(token.starts_with("lsp_"));
    assert_eq!(world.get(&token, "/api/v1/session").await.text("name"), "tina");
    let list = world.get("tina", "/api/v1/tokens").await;
    assert!(!list.body.contains(&token), "only its hash is kept");
    let listed = &list.json()["tokens"][0];
    assert_eq!((&listed["name"], &listed["owner"]), (&json!("backup"), &json!("tina")));
    assert!(listed["used"].is_string());
    assert_eq!(world.get("anna", "/api/v1/tokens").await.json()["tokens"], json!([]));
    assert_eq!(world.get("otto", "/api/v1/tokens?all=true").await.status, 403);
    assert_eq!(world.get("anna", "/api/v1/tokens?all=true").await.json()["tokens"].as_array().unwrap().len(), 1);
    let path = format!("/api/v1/tokens/{}", listed["id"].as_str().unwrap());
    assert_eq!(world.delete("otto", &path).await.status, 404, "another one's");
    assert_eq!(world.delete("bert", &path).await.status, 404, "another organisation's");
    assert_eq!(world.delete("tina", &path).await.status, 204);
    assert_eq!(world.get(&token, "/api/v1/session").await.status, 401);
}

#[tokio::test]
async fn a_token_may_no_more_than_it_is_for_nor_than_its_owner_at_the_moment() {
    let world = World::new().await;
    let token = token(&world, "tina", json!({"name": "ssh", "permissions": ["shell.open", "audit.see"]})).await;
    assert!(world.may(&token, "shell.open", "plc1", Some("ssh")).await);
    assert!(!world.may(&token, "page.open", "plc1", Some("web")).await, "not what it is for");
    assert!(!world.may(&token, "audit.see", "plc1", None).await, "not what its owner may");
    let tina = world.store.users().await.unwrap().into_iter().find(|user| user.name == "tina").unwrap();
    world.store.set_role(tina.id, Some(linkspan_server::access::Role::Operator.into()), "test").await.unwrap();
    assert!(!world.may(&token, "shell.open", "plc1", Some("ssh")).await, "not any more");
    world.store.remove_user(&"tina".parse().unwrap()).await.unwrap();
    assert_eq!(world.get(&token, "/api/v1/session").await.status, 401);
}

#[tokio::test]
async fn a_token_makes_none_that_may_more_or_lasts_longer() {
    let world = World::new().await;
    let soon = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
    let first = json!({"name": "first", "permissions": ["token.create", "device.see"], "expires": soon});
    let first = token(&world, "anna", first).await;
    let more = json!({"name": "more", "permissions": ["grant.edit"]});
    assert_eq!(world.post(&first, "/api/v1/tokens", more).await.status, 403);
    let made = world.post(&first, "/api/v1/tokens", json!({"name": "second"})).await;
    let expires: Timestamp = made.text("expires").parse().unwrap();
    assert!(expires <= soon.parse().unwrap());
    let second = made.text("token");
    assert_eq!(world.get(&second, "/api/v1/me").await.json()["everywhere"], json!(["device.see", "token.create"]));
    assert_eq!(world.get(&second, "/api/v1/grants").await.status, 403);
    assert_eq!(world.post("vera", "/api/v1/tokens", json!({"name": "x"})).await.status, 403, "no token.create");
    for bad in [
        json!({"name": ""}),
        json!({"name": "x", "permissions": []}),
        json!({"name": "x", "permissions": ["everything"]}),
        json!({"name": "x", "expires": "2001-01-01T00:00:00Z"}),
        json!({"name": "x", "expires": "2101-01-01T00:00:00Z"}),
        json!({"name": "x", "user": "sys"}),
    ] {
        assert_eq!(world.post("anna", "/api/v1/tokens", bad.clone()).await.status, 422, "{bad}");
    }
}

#[tokio::test]
async fn a_token_for_less_does_not_become_its_owner() {
    let world = World::new().await;
    let permissions = json!(["people.see", "people.edit", "token.create", "grant.edit", "grant.see", "role.edit"]);
    let token = token(&world, "anna", json!({"name": "less", "permissions": permissions})).await;
    let everything = json!({"kind": "everything"});
    for (path, body) in [
        ("/api/v1/people/anna/link", json!({})),
        ("/api/v1/people/fred/link", json!({})),
        ("/api/v1/people", json!({"name": "second", "role": "admin"})),
        ("/api/v1/grants", json!({"to": {"user": "vera"}, "role": "admin", "scope": everything})),
        ("/api/v1/roles", json!({"name": "more", "permissions": ["shell.open"]})),
        ("/api/v1/service-accounts", json!({"name": "robot", "role": "operator"})),
    ] {
        let answer = world.post(&token, path, body).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    let own = world.post("anna", "/api/v1/people/anna/link", json!({})).await;
    assert_eq!(own.status, 201, "she herself may: {}", own.body);
}

#[tokio::test]
async fn a_service_account_has_tokens_and_no_password() {
    let world = World::new().await;
    let new = json!({"name": "robot", "role": "technician"});
    assert_eq!(world.post("anna", "/api/v1/service-accounts", new.clone()).await.status, 201);
    assert_eq!(world.post("bert", "/api/v1/service-accounts", new).await.status, 409, "names are the server's");
    let made = json!({"name": "line 3", "account": "robot"});
    assert_eq!(world.post("tina", "/api/v1/tokens", made.clone()).await.status, 403);
    assert_eq!(world.post("bert", "/api/v1/tokens", made.clone()).await.status, 422, "another organisation's");
    let robot = token(&world, "anna", made).await;
    let me = world.get(&robot, "/api/v1/me").await.json();
    assert_eq!((&me["name"], &me["kind"]), (&json!("robot"), &json!("service")));
    assert!(world.may(&robot, "shell.open", "plc1", Some("ssh")).await);
    for password in ["none", ""] {
        let sign_in = json!({"name": "robot", "password": password});
        assert_eq!(world.post("", "/api/v1/session", sign_in).await.status, 401);
    }
    assert_eq!(world.delete("bert", "/api/v1/service-accounts/robot").await.status, 404);
    assert_eq!(world.delete("anna", "/api/v1/service-accounts/anna").await.status, 404, "no person");
    assert_eq!(world.delete("anna", "/api/v1/service-accounts/robot").await.status, 204);
    assert_eq!(world.get(&robot, "/api/v1/me").await.status, 401);
}
