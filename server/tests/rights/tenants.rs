//! Organisations see nothing of one another, whatever they ask.

use http::Method;
use linkspan_server::api::api_routes;
use linkspan_server::store::{Program, Telling};
use serde_json::{Value, json};

use crate::world::World;

/// Everything an admin of the default organisation can read of it.
async fn all_of(world: &World, who: &str) -> Vec<String> {
    let mut all = Vec::new();
    for path in [
        "devices",
        "gateways",
        "roles",
        "groups",
        "grants",
        "tokens?all=true",
        "service-accounts",
        "visits",
        "people",
        "provisioning-keys",
        "rollouts",
        "templates",
        "updates",
        "branding",
        "settings",
    ] {
        let answer = world.get(who, &format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        all.push(answer.body);
    }
    all
}

/// Things of the default organisation: what stands in each place of a path.
async fn things(world: &World) -> Vec<(&'static str, String)> {
    let role = json!({"name": "own role", "permissions": ["device.see"]});
    assert_eq!(world.post("anna", "/api/v1/roles", role).await.status, 201);
    assert_eq!(world.post("anna", "/api/v1/groups", json!({"name": "own group"})).await.status, 201);
    assert_eq!(world.post("anna", "/api/v1/service-accounts", json!({"name": "robot"})).await.status, 201);
    let token = world.post("anna", "/api/v1/tokens", json!({"name": "own"})).await.text("id");
    let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let visit =
        json!({"guest": "G", "device": "plc1", "service": "web", "reason": "r", "until": until, "approval": true});
    let visit = world.post("fred", "/api/v1/visits", visit).await.json()["visit"]["id"].as_str().unwrap().to_owned();
    let sessions = world.get("anna", "/api/v1/me/sessions").await.json();
    let session = sessions["sessions"][0]["id"].as_str().unwrap().to_owned();
    let key = json!({"name": "depot", "uses": 3});
    assert_eq!(world.post("anna", "/api/v1/provisioning-keys", key).await.status, 201);
    let document = json!({"document": "[log]\nlevel = \"debug\"\n"});
    let written = world.ask("anna", Method::PUT, "/api/v1/gateways/here/config/document", Some(&document)).await;
    assert_eq!(written.status, 200, "{}", written.body);
    let rollout = json!({"gateways": ["here"], "wave": 1});
    let rollout = world.post("anna", "/api/v1/rollouts", rollout).await.text("rollout");
    let template = json!({"name": "own template", "tags": ["pump"], "document": ""});
    assert_eq!(world.post("anna", "/api/v1/templates", template).await.status, 201);
    let machine = json!({"key": "mac:02:00:00:00:00:07", "names": ["hmi"], "services": []});
    let told =
        Telling { devices: vec![(serde_json::from_value(machine).unwrap(), "hmi".into())], ..Telling::default() };
    let gateways = world.store.gateways().await.unwrap();
    let gateway = gateways.iter().find(|gateway| gateway.name.to_string() == "here").unwrap().id;
    world.store.take_found(gateway, &told, jiff::Timestamp::now()).await.unwrap();
    let (program, update) = update(world).await;
    let found = world.get("anna", "/api/v1/discovered").await.json();
    let found = found["discovered"][0]["id"].as_str().unwrap().to_owned();
    let grants = world.get("anna", "/api/v1/grants").await.json();
    let grant = grants["grants"][0]["id"].as_str().unwrap().to_owned();
    vec![
        ("device", "plc1".into()),
        ("service", "web".into()),
        ("gateway", "here".into()),
        ("found", found),
        ("role", "own%20role".into()),
        ("group", "own%20group".into()),
        ("member", "anna".into()),
        ("account", "robot".into()),
        ("person", "anna".into()),
        ("session", session),
        ("key", "depot".into()),
        // Nobody waits: that a stranger's number is nobody's is shown where routers enrol.
        ("enrolment", "17".into()),
        // Nothing is open: that is shown where there are gateways.
        ("stream", "0000000000000000".into()),
        ("token", token),
        ("visit", visit),
        ("grant", grant),
        ("revision", "1".into()),
        ("rollout", rollout),
        ("template", "own%20template".into()),
        ("program", program),
        ("update", update),
        ("tenant", "default".into()),
    ]
}

/// A program, which belongs to those who run the server, and its way to the gateway.
async fn update(world: &World) -> (String, String) {
    let (version, at) = ("0.2.0".to_owned(), jiff::Timestamp::now());
    let [target, sha256, head, author] = ["t", "0", "h", "sys"].map(str::to_owned);
    let program = Program { id: 0, version, target, size: 1, sha256, head, author, at };
    let program = world.store.add_program(&program).await.unwrap().unwrap();
    let update = json!({"version": "0.2.0", "gateways": ["here"], "wave": 1});
    (format!("{program:016x}"), world.post("anna", "/api/v1/updates", update).await.text("update"))
}

/// The same places filled with what is nobody's.
fn nothing(place: &str, thing: &str) -> String {
    match place {
        "token" | "visit" | "grant" | "rollout" | "session" | "stream" | "program" | "update" => {
            "0123456789abcdef".into()
        }
        "enrolment" | "found" => "18".into(),
        "revision" => "2".into(),
        "role" | "group" | "template" => "no%20such".into(),
        _ if thing.is_empty() => String::new(),
        _ => "nosuch".into(),
    }
}

fn filled(path: &str, things: &[(&'static str, String)], real: bool) -> String {
    things.iter().fold(path.to_owned(), |path, (place, thing)| {
        let thing = if real { thing.clone() } else { nothing(place, thing) };
        path.replace(&format!("{{{place}}}"), &thing)
    })
}

/// threats.md, row 19: each route that names something, asked by another organisation's admin about what is there and
/// about what is not: the answers are the same, and nothing has changed.
#[tokio::test]
async fn through_no_route_does_an_organisation_see_or_touch_another() {
    let world = World::new().await;
    let things = things(&world).await;
    let before = all_of(&world, "anna").await;
    let theirs = all_of(&world, "bert").await.concat();
    for secret in ["plc1", "\"here\"", "own role", "own group", "own template", "robot", "anna", "fred"] {
        assert!(!theirs.contains(secret), "{secret} in {theirs}");
    }
    let mut asked = 0;
    for route in api_routes(&world.state) {
        let (method, path) = route.line.split_once(' ').unwrap();
        if !path.contains('{') {
            continue;
        }
        let method: Method = method.parse().unwrap();
        let left = filled(path, &things, true);
        assert!(!left.contains('{'), "what stands there? {left}");
        // One of these fits each route, so that it is not the body alone that is refused.
        let bodies = [
            json!({}),
            json!({"permissions": ["device.see"]}),
            json!({"role": "viewer"}),
            json!({"document": ""}),
            json!({"revision": 1}),
            json!({"name": "stolen"}),
            json!({"tags": ["pump"], "document": ""}),
            json!({"tags": ["pump"], "values": {}, "overrides": ""}),
            json!({"fingerprint": "of what was shown", "wave": 1}),
            json!({"targets": ["192.168.1.0/24"]}),
        ];
        let takes_body = method == Method::POST || method == Method::PUT;
        for body in bodies.iter().take(if takes_body { bodies.len() } else { 1 }) {
            for who in ["bert", "toni"] {
                let body = takes_body.then_some(body);
                let ask = async |real| world.ask(who, method.clone(), &filled(path, &things, real), body).await;
                let (there, not_there) = (ask(true).await, ask(false).await);
                assert_eq!((there.status, &there.body), (not_there.status, &not_there.body), "{who} {}", route.line);
                assert!(!(200..300).contains(&there.status), "{who} {}: {}", route.line, there.body);
                asked += 1;
            }
        }
    }
    assert!(asked >= 20, "the routes are gone");
    assert_eq!(all_of(&world, "anna").await, before, "nothing has changed");
}

/// A tenant named in the query is nobody's to name but of those above all.
#[tokio::test]
async fn another_organisation_is_named_only_from_above() {
    let world = World::new().await;
    for path in ["roles", "groups", "grants", "service-accounts", "branding", "settings"] {
        let at = |tenant: &str| format!("/api/v1/{path}?tenant={tenant}");
        assert_eq!(world.get("anna", &at("default")).await.status, 200, "{path}");
        let (there, not_there) = (world.get("anna", &at("acme")).await, world.get("anna", &at("nosuch")).await);
        assert_eq!((there.status, &there.body), (404, &not_there.body), "{path}");
        assert_eq!(world.get("sys", &at("acme")).await.status, 200, "{path}");
    }
    assert_eq!(world.get("sys", "/api/v1/devices/plc2").await.status, 404, "its devices are its own");
    assert_eq!(world.get("anna", "/api/v1/tenants").await.status, 403);
    assert_eq!(world.get("bert", "/api/v1/tenants").await.status, 403);
}

#[tokio::test]
async fn whoever_stands_above_all_makes_organisations_and_gives_them_an_admin() {
    let world = World::new().await;
    let new = json!({"name": "north", "title": "North Works"});
    assert_eq!(world.post("anna", "/api/v1/tenants", new.clone()).await.status, 403);
    assert_eq!(world.post("sys", "/api/v1/tenants", new.clone()).await.status, 201);
    assert_eq!(world.post("sys", "/api/v1/tenants", new).await.status, 409);
    let robot = json!({"name": "north-robot", "role": "admin"});
    assert_eq!(world.ask("sys", Method::POST, "/api/v1/service-accounts?tenant=north", Some(&robot)).await.status, 201);
    let token = json!({"name": "first", "account": "north-robot"});
    let token = world.ask("sys", Method::POST, "/api/v1/tokens?tenant=north", Some(&token)).await.text("token");
    let me = world.get(&token, "/api/v1/me").await.json();
    assert_eq!((&me["tenant"], &me["role"]), (&json!("north"), &json!("admin")));
    let above = json!({"name": "above", "role": "system-admin"});
    let made = world.ask("sys", Method::POST, "/api/v1/service-accounts?tenant=north", Some(&above)).await;
    assert_eq!(made.status, 422, "nobody in there stands above all: {}", made.body);
    assert_eq!(world.delete("sys", "/api/v1/tenants/north").await.status, 409, "somebody is in there");
    assert_eq!(
        world.ask("sys", Method::DELETE, "/api/v1/service-accounts/north-robot?tenant=north", None).await.status,
        204
    );
    assert_eq!(world.delete("sys", "/api/v1/tenants/north").await.status, 204);
}

/// An admin may require a second factor of everybody in the organisation, and so may who stands above; nobody else.
#[tokio::test]
async fn a_second_factor_is_required_by_an_organisation_for_itself() {
    let world = World::new().await;
    for who in ["tina", "fred", "toni"] {
        assert_eq!(
            world.ask(who, Method::PUT, "/api/v1/settings", Some(&json!({"second_factor": "required"}))).await.status,
            403,
            "{who}"
        );
    }
    assert_eq!(
        world.ask("bert", Method::PUT, "/api/v1/settings", Some(&json!({"second_factor": "required"}))).await.status,
        200
    );
    assert_eq!(world.get("bert", "/api/v1/settings").await.json()["second_factor"], "required");
    assert_eq!(world.get("anna", "/api/v1/settings").await.json()["second_factor"], "optional");
    let sign_in =
        async |name: &str| world.post("", "/api/v1/session", json!({"name": name, "password": "correct horse"})).await;
    assert_eq!(sign_in("toni").await.status, 403, "set up in a browser first");
    assert_eq!(sign_in("tina").await.status, 200);
    assert_eq!(
        world
            .ask("anna", Method::PUT, "/api/v1/settings?tenant=acme", Some(&json!({"second_factor": "optional"})))
            .await
            .status,
        404
    );
    let all = world.get("sys", "/api/v1/tenants").await.json();
    let acme = all["tenants"].as_array().unwrap().iter().find(|tenant| tenant["name"] == "acme").unwrap();
    assert_eq!(acme["second_factor"], true);
    assert_eq!(
        world
            .ask("sys", Method::PUT, "/api/v1/settings?tenant=acme", Some(&json!({"second_factor": "optional"})))
            .await
            .status,
        200
    );
    assert_eq!(sign_in("toni").await.status, 200);
}

#[tokio::test]
async fn an_organisation_looks_as_it_likes_as_long_as_it_can_be_read() {
    let world = World::new().await;
    let put = async |who: &str, body: Value| world.ask(who, Method::PUT, "/api/v1/branding", Some(&body)).await;
    assert_eq!(put("otto", json!({"title": "x", "colour": ""})).await.status, 403);
    for bad in [
        json!({"title": "x", "colour": "#ffff00"}),
        json!({"title": "x", "colour": "red;}"}),
        json!({"title": "a\nb", "colour": ""}),
    ] {
        assert_eq!(put("bert", bad.clone()).await.status, 422, "{bad}");
    }
    assert_eq!(put("bert", json!({"title": "Acme <i>", "colour": "#8a1538"})).await.status, 200);
    let until = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(1)).to_string();
    let visit = json!({"guest": "G", "device": "plc2", "service": "web", "reason": "r", "until": until});
    let link = world.post("toni", "/api/v1/visits", visit).await.text("link");
    let page = world.page(link.strip_prefix("https://c.test").unwrap(), "").await;
    assert!(page.body.contains("Acme &lt;i&gt;") && page.body.contains("#8a1538"), "{}", page.body);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert_eq!(policy.matches("'sha256-").count(), 2, "{policy}");
    assert!(!policy.contains("unsafe"));
}
