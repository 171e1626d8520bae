//! The audit over the API: who may read which part of it, how it is searched, and taken away.

use http::StatusCode;
use http::header::CONTENT_TYPE;
use linkspan_server::audit::{Action, Actor, ActorKind, Entry, Origin, Target, verify};
use serde_json::Value;

use crate::house::{House, PASSWORD};

async fn entries(house: &House, token: &str, query: &str) -> Vec<Value> {
    let answer = house.ask(&format!("GET /api/v1/audit{query}"), Some(token), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{query}: {}", answer.body);
    answer.json()["entries"].as_array().unwrap().clone()
}

/// Threat 38: lines are injected, and terminals are steered, by what a client says of itself.
#[tokio::test]
async fn threat_38_an_entry_is_one_line_whatever_a_client_calls_itself() {
    let house = House::new().await;
    // CR and LF cannot come in a header at all; the name in a body may hold anything.
    let agent = "curl\u{9b}31m \u{202e}evil".as_bytes();
    let name = "eve\r\n2026-01-01T00:00:00Z ok session.begin admin\u{1b}[2J\u{0}";
    assert_eq!(house.sign_in_as(name, "wrong", agent).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(house.sign_in_as("viewer", PASSWORD, agent).await.status, StatusCode::OK);
    let token = house.token("system-admin").await;
    // The attempt of a stranger does not wait to be written.
    house.state.audit.note(Entry::new(Action::SERVER_START, Actor::system())).await.unwrap();
    let all = entries(&house, &token, "?action=session").await;
    let stranger = all.iter().find(|entry| entry["actor_kind"] == "stranger").unwrap();
    assert_eq!((&stranger["result"], &stranger["address"]), (&"denied".into(), &"192.0.2.7".into()));
    let viewer = all.iter().find(|entry| entry["actor"] == "viewer").unwrap();
    assert_eq!(viewer["client"], "curl\\u{9b}31m \\u{202e}evil");
    for form in ["jsonl", "csv"] {
        let file = house.ask(&format!("GET /api/v1/audit/export?format={form}"), Some(&token), None).await.body;
        let printed = |c: char| !c.is_control() || c == '\n' || c == '\r';
        assert!(file.chars().all(|c| printed(c) && c != '\u{202e}'), "{file}");
        let written = house.store.audit_ends().await.unwrap().end.seq;
        let lines = i64::try_from(file.lines().count()).unwrap();
        assert_eq!(lines, written + i64::from(form == "csv"), "one line for each entry:\n{file}");
    }
    verify(&house.store, &[]).await.unwrap();
}

#[tokio::test]
async fn each_organisation_reads_its_own_entries() {
    let house = House::new().await;
    house.state.audit.note(Entry::new(Action::SERVER_START, Actor::system())).await.unwrap();
    let (admin, above) = (house.token("admin").await, house.token("system-admin").await);
    let other = house.token("other-admin").await;
    let actors = |entries: Vec<Value>| -> Vec<String> {
        entries.iter().map(|entry| entry["actor"].as_str().unwrap().to_owned()).collect()
    };
    let theirs = actors(entries(&house, &other, "").await);
    assert!(theirs.iter().all(|actor| actor == "other-admin"), "{theirs:?}");
    let ours = actors(entries(&house, &admin, "").await);
    assert!(ours.contains(&"admin".into()) && !ours.contains(&"other-admin".into()), "{ours:?}");
    let all = actors(entries(&house, &above, "").await);
    assert!(all.contains(&"other-admin".into()) && all.contains(&"linkspan-server".into()), "{all:?}");
    for role in ["viewer", "operator", "technician", "fleet-admin"] {
        let token = house.token(role).await;
        for path in ["audit", "audit/export", "audit/head"] {
            let answer = house.ask(&format!("GET /api/v1/{path}"), Some(&token), None).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{role} {path}");
        }
    }
}

#[tokio::test]
async fn entries_are_found_and_come_in_pages() {
    let house = House::new().await;
    let token = house.token("system-admin").await;
    for n in 0..25 {
        let actor = Actor::new(ActorKind::Person, if n % 5 == 0 { "anna" } else { "otto" });
        let entry = Entry::new(if n % 2 == 0 { Action::GATEWAY_ADD } else { Action::GATEWAY_REMOVE }, actor);
        house.state.audit.note(entry.with("n", n)).await.unwrap();
    }
    assert_eq!(entries(&house, &token, "?actor=anna").await.len(), 5);
    assert_eq!(entries(&house, &token, "?action=gateway").await.len(), 25);
    assert_eq!(entries(&house, &token, "?action=gateway.add&actor=anna").await.len(), 3);
    assert_eq!(entries(&house, &token, "?result=denied").await.len(), 0);
    assert_eq!(entries(&house, &token, "?until=2000-01-01T00:00:00Z").await.len(), 0);
    assert_eq!(entries(&house, &token, "?from=2000-01-01T00:00:00Z&action=gateway").await.len(), 25);
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let answer = house.ask(&format!("GET /api/v1/audit?action=gateway&limit=7{cursor}"), Some(&token), None).await;
        let page = answer.json();
        seen.extend(page["entries"].as_array().unwrap().iter().map(|entry| entry["details"]["n"].as_i64().unwrap()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).rev().collect::<Vec<_>>(), "newest first, each once");
    for bad in ["?limit=0", "?limit=1001", "?cursor=x", "?from=yesterday", "?result=maybe", "?tenant=1"] {
        let answer = house.ask(&format!("GET /api/v1/audit{bad}"), Some(&token), None).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{bad}");
    }
}

#[tokio::test]
async fn taking_the_audit_away_is_noted_down_itself() {
    let house = House::new().await;
    let token = house.token("admin").await;
    let file = house.ask("GET /api/v1/audit/export?format=csv", Some(&token), None).await;
    assert_eq!(file.headers[CONTENT_TYPE], "text/csv; charset=utf-8; header=present");
    assert!(file.body.starts_with("seq,time,tenant,") && file.body.contains("audit.export"), "{}", file.body);
    let head = house.ask("GET /api/v1/audit/head", Some(&token), None).await.json();
    house.token("viewer").await;
    verify(&house.store, &[head["hash"].as_str().unwrap().parse().unwrap()]).await.unwrap();
}

#[tokio::test]
async fn while_the_audit_cannot_be_written_nobody_is_let_in() {
    let house = House::new().await;
    let token = house.token("admin").await;
    house.state.audit.close().await;
    let answer = house.sign_in_as("viewer", PASSWORD, b"x").await;
    assert_eq!((answer.status, &answer.json()["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"not-recorded".into()));
    assert_eq!(house.ask("GET /api/v1/devices", Some(&token), None).await.status, StatusCode::OK, "looking goes on");
}

/// An organisation's entries do not tell how much the others do; the whole can be verified with what it keeps of them.
#[tokio::test]
async fn the_numbers_of_all_are_for_those_who_stand_above_all() {
    let house = House::new().await;
    let (above, admin) = (house.token("system-admin").await, house.token("admin").await);
    house.token("other-admin").await;
    let head = async |token: &str| house.ask("GET /api/v1/audit/head", Some(token), None).await.json();
    let theirs = head(&admin).await;
    house.token("other-admin").await;
    assert_eq!(head(&admin).await, theirs, "what others do changes nothing");
    assert!(theirs["seq"].is_null() && theirs["first"].is_null() && theirs["lost"].is_null(), "{theirs}");
    let whole = house.store.audit_ends().await.unwrap().end;
    assert_eq!(head(&above).await["seq"], whole.seq);
    let page = house.ask("GET /api/v1/audit?limit=1", Some(&admin), None).await.json();
    assert!(page["entries"][0]["seq"].is_null(), "{page}");
    let all = house.ask("GET /api/v1/audit?limit=1", Some(&above), None).await.json();
    assert_eq!(all["entries"][0]["seq"], whole.seq);
    let first = entries(&house, &admin, "?limit=1").await[0]["hash"].as_str().unwrap().to_owned();
    assert_eq!(theirs["hash"], first.as_str());
    let file = house.ask("GET /api/v1/audit/export", Some(&admin), None).await.body;
    assert!(file.lines().all(|line| line.starts_with("{\"seq\":null,")), "{file}");
    let line = format!("GET /api/v1/audit/verify?anchor={first}");
    assert_eq!(house.ask(&line, Some(&above), None).await.json()["whole"], true);
    let line = format!("GET /api/v1/audit/verify?anchor={}", "f".repeat(64));
    assert_eq!(house.ask(&line, Some(&above), None).await.json()["whole"], false);
}

/// Whoever stands above all organisations acts in them under the eyes of their people.
#[tokio::test]
async fn an_organisation_sees_what_others_do_in_it_and_to_it() {
    let house = House::new().await;
    let (above, admin, other) =
        (house.token("system-admin").await, house.token("admin").await, house.token("other-admin").await);
    let line = "POST /api/v1/people/other-admin/link?tenant=other";
    assert_eq!(house.ask(line, Some(&above), Some("{}")).await.status, StatusCode::CREATED);
    let theirs = entries(&house, &other, "?action=person.link").await;
    assert_eq!(theirs[0]["actor"], "system-admin", "who made a link with which one becomes their admin");
    assert_eq!(entries(&house, &admin, "?action=person.link").await, Vec::<Value>::new());

    // A router, a stranger and a command line do not say whose it is.
    for (kind, name) in [(ActorKind::Gateway, "site12"), (ActorKind::Stranger, "site12"), (ActorKind::Shell, "root")] {
        let entry = Entry::new(Action::GATEWAY_ENROL, Actor::new(kind, name)).on(Target::gateway("site12"));
        house.state.audit.note(entry).await.unwrap();
    }
    let entry = Entry::new(Action::PERSON_PASSWORD, Actor::shell()).on(Target::new("person", "other-admin"));
    house.state.audit.note(entry).await.unwrap();
    assert_eq!(entries(&house, &admin, "?action=gateway.enrol").await.len(), 3);
    assert_eq!(entries(&house, &admin, "?action=person.password").await.len(), 0);
    assert_eq!(entries(&house, &other, "?action=person.password").await.len(), 1);
    verify(&house.store, &[]).await.unwrap();
}

/// What a handler refuses is a try as much as what the gate in front of it refuses.
#[tokio::test]
async fn who_reaches_above_themselves_is_noted() {
    let house = House::new().await;
    let (admin, above) = (house.token("admin").await, house.token("system-admin").await);
    for line in ["POST /api/v1/people/system-admin/link", "POST /api/v1/tenants"] {
        let body = if line.ends_with("tenants") { r#"{"name":"mine"}"# } else { "{}" };
        assert_eq!(house.ask(line, Some(&admin), Some(body)).await.status, StatusCode::FORBIDDEN);
    }
    house.state.audit.note(Entry::new(Action::SERVER_START, Actor::system())).await.unwrap();
    let denied = entries(&house, &above, "?result=denied&actor=admin").await;
    let tried: Vec<&str> = denied.iter().map(|entry| entry["reason"].as_str().unwrap()).collect();
    assert_eq!(tried, ["POST /api/v1/tenants", "POST /api/v1/people/system-admin/link"]);
}

#[tokio::test]
async fn an_export_holds_what_is_looked_for() {
    let house = House::new().await;
    let token = house.token("admin").await;
    for (name, service) in [("plc1", "web"), ("plc1", "ssh"), ("plc2", "ssh")] {
        let actor = Actor::new(ActorKind::Person, "anna").of_tenant(linkspan_server::rights::TenantId::DEFAULT);
        let from = Origin { address: Some([192, 0, 2, 9].into()), client: None };
        let entry = Entry::new(Action::STREAM_BEGIN, actor).from(&from).on(Target::service("site12", name, service));
        house.state.audit.note(entry).await.unwrap();
    }
    for (sought, lines) in [
        ("device=plc1", 2),
        ("device=plc1&service=ssh", 1),
        ("target=plc1", 2),
        ("address=192.0.2.9", 3),
        ("address=%3A%3Affff%3A192.0.2.9", 3),
        ("address=192.0.2.10", 0),
        ("gateway=site12&actor=anna&action=stream&result=ok", 3),
        ("until=2000-01-01T00:00:00Z", 0),
    ] {
        let file = house.ask(&format!("GET /api/v1/audit/export?{sought}"), Some(&token), None).await;
        assert_eq!(file.body.lines().count(), lines, "{sought}: {}", file.body);
        assert_eq!(entries(&house, &token, &format!("?{sought}")).await.len(), lines, "{sought}");
    }
    let noted = &entries(&house, &token, "?action=audit.export").await[7];
    assert_eq!(noted["details"]["sought"]["device"], "plc1", "what was taken away");
    let bad = house.ask("GET /api/v1/audit/export?address=here", Some(&token), None).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn the_chain_is_verified_over_the_api_by_who_stands_above() {
    let house = House::new().await;
    let (above, admin) = (house.token("system-admin").await, house.token("admin").await);
    let ask = async |query: &str| house.ask(&format!("GET /api/v1/audit/verify{query}"), Some(&above), None).await;
    let whole = ask("").await.json();
    assert_eq!((&whole["whole"], &whole["broken"]), (&true.into(), &Value::Null), "{whole}");
    let anchor = whole["head"].as_str().unwrap();
    assert_eq!(ask(&format!("?anchor={anchor}")).await.json()["whole"], true);
    let forged = anchor.replace(|c: char| c.is_ascii_alphabetic(), "0");
    let broken = ask(&format!("?anchor={forged}")).await.json();
    assert!(broken["whole"] == false && broken["broken"].as_str().unwrap().contains("anchor"), "{broken}");
    assert_eq!(ask("?anchor=x").await.status, StatusCode::BAD_REQUEST);
    let refused = house.ask("GET /api/v1/audit/verify", Some(&admin), None).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN);
}
