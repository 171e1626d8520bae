//! Roles, groups and grants.

use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::world::World;

fn grant(user: &str, role: &str, scope: Value) -> Value {
    json!({"to": {"user": user}, "role": role, "scope": scope})
}

#[tokio::test]
async fn what_is_granted_counts_at_once_and_what_is_taken_away_too() {
    let world = World::new().await;
    let scope = json!({"kind": "service", "device": "plc1", "service": "ssh"});
    assert!(!world.may("vera", "shell.open", "plc1", Some("ssh")).await);
    let made = world.post("anna", "/api/v1/grants", grant("vera", "technician", scope)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    assert!(world.may("vera", "shell.open", "plc1", Some("ssh")).await);
    assert!(!world.may("vera", "page.open", "plc1", Some("web")).await);
    let path = format!("/api/v1/grants/{}", made.text("id"));
    assert_eq!(world.get("anna", &path).await.json()["scope"]["service"], "ssh");
    assert_eq!(world.get("vera", &path).await.status, 403);
    assert_eq!(world.delete("anna", &path).await.status, 204);
    assert!(!world.may("vera", "shell.open", "plc1", Some("ssh")).await);
    assert_eq!(world.delete("anna", &path).await.status, 404);
}

#[tokio::test]
async fn a_dry_run_says_which_grant_decides_and_why_not() {
    let world = World::new().await;
    let until = (Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let mut new = grant("vera", "operator", json!({"kind": "tags", "tags": ["hall-2"]}));
    new["when"] = json!({"until": until, "weekly": {"hours": "Mon-Sun 00:00-24:00", "zone": "Europe/Berlin"}});
    let id = world.post("anna", "/api/v1/grants", new).await.text("id");
    let asked = json!({"permission": "page.open", "device": "plc1", "service": "web"});
    let answer = world.post("vera", "/api/v1/me/may", asked).await.json();
    assert_eq!((&answer["grant"], &answer["role"]), (&json!(id), &json!("operator")));
    let unknown = json!({"permission": "page.open", "device": "no-such", "service": "web"});
    let others = json!({"permission": "page.open", "device": "plc2", "service": "web"});
    let unknown = world.post("vera", "/api/v1/me/may", unknown).await.json();
    assert_eq!(unknown, world.post("vera", "/api/v1/me/may", others).await.json(), "others' is like nobody's");
    let me = world.get("vera", "/api/v1/me").await.json();
    assert_eq!(me["role"], "viewer");
    assert_eq!(me["everywhere"], json!(["device.see"]));
    assert_eq!(me["grants"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn nobody_gives_or_takes_what_they_do_not_have_themselves() {
    let world = World::new().await;
    let everything = json!({"kind": "everything"});
    for (who, user, role, status) in [
        ("anna", "vera", "admin", 201),
        ("anna", "vera", "system-admin", 403),
        ("anna", "anna", "system-admin", 403),
        ("fred", "fred", "admin", 403),
        ("otto", "otto", "technician", 403),
        ("sys", "vera", "system-admin", 201),
        ("anna", "bert", "viewer", 422),
        ("anna", "nobody", "viewer", 422),
        ("anna", "vera", "king", 422),
    ] {
        let answer = world.post(who, "/api/v1/grants", grant(user, role, everything.clone())).await;
        assert_eq!(answer.status, status, "{who} gives {user} {role}: {}", answer.body);
    }
    let all = world.get("anna", "/api/v1/grants").await.json();
    let of_sys = all["grants"].as_array().unwrap().iter().find(|grant| grant["to"]["user"] == "sys").unwrap();
    let path = format!("/api/v1/grants/{}", of_sys["id"].as_str().unwrap());
    assert_eq!(world.delete("anna", &path).await.status, 403, "an admin unseats no system admin");

    let role = json!({"name": "too much", "permissions": ["tenant.edit"]});
    assert_eq!(world.post("sys", "/api/v1/roles", role).await.status, 422);
    let part = json!({"name": "grants", "permissions": ["grant.edit", "grant.see", "role.edit", "people.edit"]});
    assert_eq!(world.post("anna", "/api/v1/roles", part).await.status, 201);
    world.post("anna", "/api/v1/grants", grant("otto", "grants", everything.clone())).await;
    for (path, body) in [
        ("/api/v1/grants", grant("otto", "admin", everything.clone())),
        ("/api/v1/grants", grant("otto", "technician", json!({"kind": "device", "device": "plc1"}))),
        ("/api/v1/roles", json!({"name": "mine", "permissions": ["shell.open"]})),
        ("/api/v1/service-accounts", json!({"name": "robot", "role": "admin"})),
    ] {
        let answer = world.post("otto", path, body).await;
        assert_eq!(answer.status, 403, "{path}: {}", answer.body);
    }
    let wider = json!({"permissions": ["grant.edit", "shell.open"]});
    assert_eq!(world.ask("otto", Method::PUT, "/api/v1/roles/grants", Some(&wider)).await.status, 403);
    let group = json!({"name": "admins"});
    assert_eq!(world.post("anna", "/api/v1/groups", group).await.status, 201);
    let to_group = json!({"to": {"group": "admins"}, "role": "admin", "scope": everything});
    assert_eq!(world.post("anna", "/api/v1/grants", to_group).await.status, 201);
    let join = world.ask("otto", Method::PUT, "/api/v1/groups/admins/members/otto", None).await;
    assert_eq!(join.status, 403, "a group is no way around it: {}", join.body);
}

#[tokio::test]
async fn a_group_gives_to_whoever_joins_it() {
    let world = World::new().await;
    assert_eq!(world.post("anna", "/api/v1/groups", json!({"name": "fitters"})).await.status, 201);
    assert_eq!(world.post("anna", "/api/v1/groups", json!({"name": "fitters"})).await.status, 409);
    let new =
        json!({"to": {"group": "fitters"}, "role": "technician", "scope": {"kind": "gateway", "gateway": "here"}});
    assert_eq!(world.post("anna", "/api/v1/grants", new).await.status, 201);
    let path = "/api/v1/groups/fitters/members/vera";
    assert_eq!(world.ask("anna", Method::PUT, path, None).await.status, 204);
    assert!(world.may("vera", "shell.open", "plc1", Some("ssh")).await);
    assert_eq!(world.get("anna", "/api/v1/groups").await.json()["groups"][0]["members"], json!(["vera"]));
    assert_eq!(world.delete("anna", "/api/v1/groups/fitters").await.status, 409);
    assert_eq!(world.delete("anna", path).await.status, 204);
    assert!(!world.may("vera", "shell.open", "plc1", Some("ssh")).await);
    assert_eq!(world.ask("anna", Method::PUT, "/api/v1/groups/fitters/members/bert", None).await.status, 404);
}

/// threats.md, row 19: mass assignment, double parameters, unknown fields.
#[tokio::test]
async fn what_is_not_known_or_stands_twice_is_refused() {
    let world = World::new().await;
    let fine = grant("vera", "viewer", json!({"kind": "everything"}));
    for (key, value) in
        [("tenant", json!("acme")), ("id", json!("0000000000000001")), ("by", json!("sys")), ("standing", json!(true))]
    {
        let mut body = fine.clone();
        body[key] = value;
        assert_eq!(world.post("anna", "/api/v1/grants", body).await.status, 422, "{key}");
    }
    for scope in [
        json!({"kind": "device"}),
        json!({"kind": "everything", "device": "plc1"}),
        json!({"kind": "all"}),
        json!({"kind": "gateway", "gateway": "there"}),
    ] {
        assert_eq!(
            world.post("anna", "/api/v1/grants", grant("vera", "viewer", scope.clone())).await.status,
            422,
            "{scope}"
        );
    }
    for query in ["tenant=acme&tenant=default", "tenant=default&tenant=acme", "tenant=acme&x=1", "user=sys"] {
        let path = format!("/api/v1/grants?{query}");
        assert_eq!(world.ask("anna", Method::POST, &path, Some(&fine)).await.status, 400, "{query}");
    }
    assert_eq!(world.ask("anna", Method::POST, "/api/v1/grants?tenant=acme", Some(&fine)).await.status, 404);
    for when in [
        json!({"until": "yesterday"}),
        json!({"until": "2001-01-01T00:00:00Z"}),
        json!({"weekly": {"hours": "x", "zone": "UTC"}}),
    ] {
        let mut body = fine.clone();
        body["when"] = when.clone();
        assert_eq!(world.post("anna", "/api/v1/grants", body).await.status, 422, "{when}");
    }
}
