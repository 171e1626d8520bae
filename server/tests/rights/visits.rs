//! Visits: links, approval, one-time use, and their end.

use http::Method;
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE, USER_AGENT};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::world::World;

fn visit(service: &str) -> Value {
    let until = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
    json!({"guest": "Vendor", "device": "plc1", "service": service, "reason": "repair", "until": until})
}

/// Makes a visit; its identity and the token in its link.
async fn make(world: &World, who: &str, body: Value) -> (String, String) {
    let made = world.post(who, "/api/v1/visits", body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let link = made.text("link");
    let token = link.strip_prefix("https://c.test/visit/").unwrap().to_owned();
    (made.json()["visit"]["id"].as_str().unwrap().to_owned(), token)
}

async fn redeem(world: &World, token: &str) -> crate::world::Answer {
    let agent = [(USER_AGENT, "vendor/1")];
    world.send(Method::POST, "/api/v1/visit", &agent, Some(&json!({"token": token}))).await
}

#[tokio::test]
async fn a_guest_may_what_the_visit_is_for_and_nothing_else() {
    let world = World::new().await;
    let (id, token) = make(&world, "tina", visit("ssh")).await;
    let guest = redeem(&world, &token).await.text("token");
    assert!(world.may(&guest, "shell.open", "plc1", Some("ssh")).await);
    assert!(!world.may(&guest, "page.open", "plc1", Some("web")).await);
    assert!(!world.may(&guest, "shell.open", "plc2", Some("ssh")).await);
    let devices = world.get(&guest, "/api/v1/devices").await.json();
    assert_eq!(devices["devices"][0]["services"].as_array().unwrap().len(), 1, "{devices}");
    for path in ["/api/v1/grants", "/api/v1/gateways", "/api/v1/tokens?all=true", "/api/v1/service-accounts"] {
        assert_eq!(world.get(&guest, path).await.status, 403, "{path}");
    }
    assert_eq!(world.post(&guest, "/api/v1/visits", visit("ssh")).await.status, 403);
    assert_eq!(world.post(&guest, "/api/v1/tokens", json!({"name": "x"})).await.status, 403);
    assert_eq!(redeem(&world, &token).await.status, 409, "used up");
    let seen = world.get("tina", &format!("/api/v1/visits/{id}")).await.json();
    assert_eq!(seen["sessions"][0]["agent"], "vendor/1", "{seen}");
    assert_eq!(world.get("otto", &format!("/api/v1/visits/{id}")).await.status, 404, "another one's");
    assert_eq!(world.get("bert", &format!("/api/v1/visits/{id}")).await.status, 404);
    assert_eq!(world.delete("bert", &format!("/api/v1/visits/{id}")).await.status, 404);
    assert_eq!(world.delete("tina", &format!("/api/v1/visits/{id}")).await.status, 204);
    assert_eq!(world.get(&guest, "/api/v1/me").await.status, 401);
    assert_eq!(world.get("fred", &format!("/api/v1/visits/{id}")).await.text("state"), "revoked");
}

#[tokio::test]
async fn nobody_invites_to_more_than_they_may_do_themselves() {
    let world = World::new().await;
    assert_eq!(world.post("otto", "/api/v1/visits", visit("web")).await.status, 403, "no visit.create");
    let mut other = visit("ssh");
    other["device"] = "plc2".into();
    let none = json!({"guest": "x", "device": "no-such", "service": "ssh", "reason": "x", "until": other["until"]});
    let (other, none) =
        (world.post("tina", "/api/v1/visits", other).await, world.post("tina", "/api/v1/visits", none).await);
    assert_eq!((other.status, other.body), (none.status, none.body), "others' is like nobody's");
    for (key, value, status) in [
        ("until", json!("2001-01-01T00:00:00Z"), 422),
        ("until", json!("2101-01-01T00:00:00Z"), 422),
        ("uses", json!(0), 422),
        ("uses", json!(21), 422),
        ("reason", json!(""), 422),
        ("guest", json!("a\nb"), 422),
        ("service", json!("no-such"), 422),
        ("speaks", json!("ssh"), 422),
        ("view_only", json!(true), 422),
        ("host", json!("anna"), 422),
    ] {
        let mut body = visit("ssh");
        body[key] = value;
        let answer = world.post("tina", "/api/v1/visits", body).await;
        assert_eq!(answer.status, status, "{key}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_guest_loses_what_the_host_loses() {
    let world = World::new().await;
    let (_, token) = make(&world, "tina", visit("ssh")).await;
    let guest = redeem(&world, &token).await.text("token");
    let tina = world.store.users().await.unwrap().into_iter().find(|user| user.name == "tina").unwrap();
    let role = |role: linkspan_server::access::Role| world.store.set_role(tina.id, Some(role.into()), "test");
    role(linkspan_server::access::Role::Operator).await.unwrap();
    assert!(!world.may(&guest, "shell.open", "plc1", Some("ssh")).await, "the host may not any more");
    role(linkspan_server::access::Role::Technician).await.unwrap();
    assert!(world.may(&guest, "shell.open", "plc1", Some("ssh")).await);
    world.store.remove_user(&"tina".parse().unwrap()).await.unwrap();
    assert_eq!(world.get(&guest, "/api/v1/me").await.status, 401, "the host is gone");
    assert_eq!(redeem(&world, &token).await.status, 404);
}

#[tokio::test]
async fn a_second_person_approves() {
    let world = World::new().await;
    let mut body = visit("ssh");
    body["approval"] = true.into();
    let (id, token) = make(&world, "fred", body).await;
    let refused = redeem(&world, &token).await;
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("approval"), "{}", refused.body);
    let approve = format!("/api/v1/visits/{id}/approve");
    for (who, status) in [("fred", 403), ("tina", 403), ("bert", 404), ("anna", 200), ("anna", 409)] {
        assert_eq!(world.post(who, &approve, json!({})).await.status, status, "{who}");
    }
    assert_eq!(redeem(&world, &token).await.status, 200);
    let mut body = visit("ssh");
    body["approval"] = true.into();
    let (id, token) = make(&world, "fred", body).await;
    assert_eq!(world.post("anna", &format!("/api/v1/visits/{id}/refuse"), json!({})).await.text("state"), "refused");
    assert_eq!(redeem(&world, &token).await.status, 409);
}

/// A grant counts for visits as for everything else: who looks after one gateway decides about the visits behind it.
#[tokio::test]
async fn who_looks_after_a_part_decides_about_visits_there_and_nowhere_else() {
    let world = World::new().await;
    let mut body = visit("ssh");
    body["approval"] = true.into();
    let (here, _) = make(&world, "tina", body.clone()).await;
    let grant = |scope: Value| json!({"to": {"user": "otto"}, "role": "fleet-admin", "scope": scope});
    let part = world
        .post("anna", "/api/v1/grants", grant(json!({"kind": "service", "device": "plc1", "service": "web"})))
        .await;
    assert_eq!(part.status, 201, "{}", part.body);
    let (one, approve) = (format!("/api/v1/visits/{here}"), format!("/api/v1/visits/{here}/approve"));
    assert_eq!(world.get("otto", &one).await.status, 404, "another service's");
    assert_eq!(world.post("otto", &approve, json!({})).await.status, 404);
    let whole = world.post("anna", "/api/v1/grants", grant(json!({"kind": "gateway", "gateway": "here"}))).await;
    assert_eq!(whole.status, 201, "{}", whole.body);
    assert_eq!(world.get("otto", "/api/v1/visits").await.json()["visits"].as_array().unwrap().len(), 1);
    assert_eq!(world.post("otto", &approve, json!({})).await.text("state"), "open");
    assert_eq!(world.get("vera", "/api/v1/visits").await.json()["visits"].as_array().unwrap().len(), 0);
    assert_eq!(world.delete("otto", &one).await.status, 204);
    assert_eq!(world.get("tina", &one).await.text("state"), "revoked");
}

/// Whoever could approve with a program of their own would be both people.
#[tokio::test]
async fn a_program_is_no_second_person() {
    let world = World::new().await;
    let account = json!({"name": "robot", "role": "fleet-admin"});
    assert_eq!(world.post("anna", "/api/v1/service-accounts", account).await.status, 201);
    let token = world.post("anna", "/api/v1/tokens", json!({"name": "x", "account": "robot"})).await.text("token");
    let mut body = visit("ssh");
    body["approval"] = true.into();
    let (id, _) = make(&world, "anna", body).await;
    assert_eq!(world.post(&token, &format!("/api/v1/visits/{id}/approve"), json!({})).await.status, 403);
    assert_eq!(world.post("fred", &format!("/api/v1/visits/{id}/approve"), json!({})).await.status, 200);
}

#[tokio::test]
async fn who_stands_above_all_sees_and_ends_visits_of_an_organisation_and_nobody_else_does() {
    let world = World::new().await;
    let mut body = visit("ssh");
    body["device"] = "plc2".into();
    let (id, token) = make(&world, "toni", body).await;
    let there = format!("/api/v1/visits/{id}?tenant=acme");
    for who in ["anna", "fred", "tina"] {
        assert_eq!(world.get(who, "/api/v1/visits?tenant=acme").await.status, 404, "{who}");
        assert_eq!(world.delete(who, &there).await.status, 404, "{who}");
    }
    assert_eq!(world.get("sys", "/api/v1/visits").await.json()["visits"].as_array().unwrap().len(), 0);
    assert_eq!(world.get("sys", "/api/v1/visits?tenant=acme").await.json()["visits"][0]["host"], "toni");
    let guest = redeem(&world, &token).await.text("token");
    assert_eq!(world.delete("sys", &there).await.status, 204);
    assert_eq!(world.get(&guest, "/api/v1/me").await.status, 401);
    assert_eq!(world.get("bert", &format!("/api/v1/visits/{id}")).await.text("revoked_by"), "sys");
}

/// What a guest does with a link stands in the audit: each use, a token made of it, and leaving.
#[tokio::test]
async fn what_a_guest_does_is_noted_down() {
    let world = World::new().await;
    let (_, token) = make(&world, "tina", visit("ssh")).await;
    let begun = world.form(&format!("/visit/{token}"), "").await;
    let cookie = begun.headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    assert_eq!(world.form("/visit/token", &cookie).await.status, 200);
    assert_eq!(world.form("/visit/leave", &cookie).await.status, 200);
    let noted =
        async |action: &str| world.get("anna", &format!("/api/v1/audit?actor=Vendor&action={action}")).await.json();
    let deadline = Timestamp::now() + SignedDuration::from_secs(10);
    while noted("session.end").await["entries"].as_array().unwrap().is_empty() {
        assert!(Timestamp::now() < deadline, "leaving is not noted down");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let used = noted("visit.use").await;
    let with: Vec<_> = used["entries"].as_array().unwrap().iter().rev().map(|one| &one["details"]["with"]).collect();
    assert_eq!(with, ["a browser", "the command line"]);
}

/// threats.md, row 4 and TS-2025-007: a link for one, used by fifty at once.
#[tokio::test]
async fn of_fifty_who_redeem_a_link_for_one_at_once_one_wins() {
    let world = World::new().await;
    let (_, token) = make(&world, "tina", visit("ssh")).await;
    let all = (0..50).map(|_| redeem(&world, &token));
    let answers = futures_util::future::join_all(all).await;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    assert_eq!((count(200), count(409)), (1, 49));
}

#[tokio::test]
async fn a_browser_begins_a_visit_with_a_button_and_not_by_looking() {
    let world = World::new().await;
    let mut body = visit("web");
    body["view_only"] = true.into();
    body["guest"] = "Eva <b>".into();
    let (id, token) = make(&world, "tina", body).await;
    let path = format!("/visit/{token}");
    for _ in 0..3 {
        // What previews links, or looks for viruses in mail.
        let page = world.page(&path, "").await;
        assert_eq!(page.status, 200);
        assert!(
            page.body.contains("plc1") && page.body.contains("tina") && page.body.contains("Eva &lt;b&gt;"),
            "{}",
            page.body
        );
        assert_eq!(page.headers[CACHE_CONTROL], "no-store");
        assert_eq!(page.headers[REFERRER_POLICY], "same-origin");
        assert!(!page.headers.contains_key(SET_COOKIE));
    }
    let foreign = world.send(http::Method::POST, &path, &[(http::header::ORIGIN, "https://evil.test")], None).await;
    assert_eq!(foreign.status, 403);
    assert_eq!(world.get("tina", &format!("/api/v1/visits/{id}")).await.json()["uses"], 0);
    let begun = world.form(&path, "").await;
    assert_eq!((begun.status, &begun.headers[LOCATION]), (303, &"/visit".parse().unwrap()));
    let cookie = begun.headers[SET_COOKIE].to_str().unwrap();
    assert!(
        cookie.starts_with("__Host-linkspan-visit=") && cookie.contains("Secure; HttpOnly; SameSite=Lax"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap().to_owned();
    let page = world.page("/visit", &cookie).await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("https://plc1.z.test/") && !page.body.contains("ssh"), "{}", page.body);
    assert_eq!(world.form(&path, "").await.status, 409, "used up");
    assert_eq!(world.page("/", &cookie).await.headers[LOCATION], "/login?next=%2F", "no account");
    let nonce = "0".repeat(64);
    let open = |device: &str| format!("/open?to=https%3A%2F%2F{device}.z.test%2F&nonce={nonce}");
    let ticket = world.page(&open("plc1"), &cookie).await;
    assert!(ticket.headers[LOCATION].to_str().unwrap().starts_with("https://plc1.z.test/.linkspan/ticket?t="));
    assert_eq!(world.page(&open("plc2"), &cookie).await.status, 404);
    assert_eq!(world.page(&open("plc1--ssh"), &cookie).await.status, 404);
    assert_eq!(world.form("/visit/leave", &cookie).await.status, 200);
    assert_eq!(world.page("/visit", &cookie).await.status, 404);
}

#[tokio::test]
async fn a_guest_gets_a_token_for_the_command_line_once() {
    let world = World::new().await;
    let (id, token) = make(&world, "tina", visit("ssh")).await;
    let begun = world.form(&format!("/visit/{token}"), "").await;
    let cookie = begun.headers[SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = world.page("/visit", &cookie).await;
    assert!(page.body.contains("linkspan connect %h:ssh") && !page.body.contains("LINKSPAN_TOKEN"), "{}", page.body);
    let page = world.form("/visit/token", &cookie).await;
    let shown = page.body.split("LINKSPAN_TOKEN=").nth(1).unwrap().split('<').next().unwrap().to_owned();
    assert!(world.may(&shown, "shell.open", "plc1", Some("ssh")).await);
    assert!(!world.page("/visit", &cookie).await.body.contains(&shown));
    world.delete("tina", &format!("/api/v1/visits/{id}")).await;
    assert_eq!(world.get(&shown, "/api/v1/me").await.status, 401);
}

#[tokio::test]
async fn what_is_no_link_is_nothing() {
    let world = World::new().await;
    for bad in ["x", "lsv_", &format!("lsv_{}", "a".repeat(60)), "%00", "lsp_aaaa"] {
        let page = world.page(&format!("/visit/{bad}"), "").await;
        assert_eq!(page.status, 404, "{bad}");
        assert_eq!(redeem(&world, bad).await.status, 404, "{bad}");
    }
    assert_eq!(world.page("/visit", "__Host-linkspan-visit=x").await.status, 404);
}
