//! Templates over the API: written by whom may, shown for each gateway before anything changes, applied all or nothing.

use http::StatusCode;
use http::header::ETAG;
use linkspan_protocol::id::Secret;
use linkspan_server::fleet::sha256;
use linkspan_server::store::ConfigReport;
use serde_json::{Value, json};

use crate::house::{Answer, House};

const PUMPS: &str = "[log]\nlevel = \"{{ level }}\"\n\n[[device]]\nname = \"plc-{{ gateway.name }}\"\n\
                     host = \"{{ plc.host }}\"\n";

/// Some gateways, `a` to `c`, each with the tag `pump` and its own address of the PLC.
async fn pumps(house: &House, token: &str) {
    for (n, name) in ["a", "b", "c"].into_iter().enumerate() {
        house.store.add_gateway(&name.parse().unwrap(), &Secret::new("s")).await.unwrap().unwrap();
        own(house, token, name, json!({"level": "info", "plc.host": format!("10.0.0.{n}")}), "").await;
    }
    let new = json!({"name": "pumps", "tags": ["pump"], "document": PUMPS}).to_string();
    let made = house.ask("POST /api/v1/templates", Some(token), Some(&new)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.body);
}

async fn own(house: &House, token: &str, name: &str, values: Value, overrides: &str) -> Answer {
    let body = json!({"tags": ["pump"], "values": values, "overrides": overrides}).to_string();
    let answer = house.ask(&format!("PUT /api/v1/gateways/{name}/config/own"), Some(token), Some(&body)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer
}

async fn preview(house: &House, token: &str, query: &str) -> Value {
    let answer = house.ask(&format!("GET /api/v1/templates/pumps/preview{query}"), Some(token), None).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    answer.json()
}

async fn apply(house: &House, token: &str, shown: &Value, more: Value) -> Answer {
    let mut body = json!({"fingerprint": shown["fingerprint"], "wave": 2});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    house.ask("POST /api/v1/templates/pumps/apply", Some(token), Some(&body.to_string())).await
}

fn outcomes(shown: &Value) -> Vec<(&str, &str)> {
    let all = shown["gateways"].as_array().unwrap().iter();
    all.map(|one| (one["gateway"].as_str().unwrap(), one["outcome"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn what_a_template_changes_is_shown_and_then_done_in_waves() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    pumps(&house, &fleet).await;
    own(&house, &fleet, "b", json!({"level": "warn", "plc.host": "10.0.0.1"}), "[limits]\nmax_streams = 9\n").await;
    let first = preview(&house, &fleet, "?limit=2").await;
    assert_eq!(outcomes(&first), [("a", "changed"), ("b", "changed")]);
    assert_eq!(first["total"], 3);
    let diff = first["gateways"][1]["diff"].as_str().unwrap();
    assert!(diff.starts_with("--- running\n+++ template pumps\n"), "{diff}");
    assert!(diff.contains("+level = \"warn\"\n") && diff.contains("+max_streams = 9\n"), "{diff}");
    let cursor = first["next"].as_str().unwrap();
    let rest = preview(&house, &fleet, &format!("?limit=2&cursor={cursor}")).await;
    assert_eq!((outcomes(&rest), &rest["next"]), (vec![("c", "changed")], &Value::Null));
    assert_eq!(house.store.revision(id(&house, "a").await, None).await.unwrap(), None, "looking changes nothing");

    let applied = apply(&house, &fleet, &first, json!({"comment": "the pumps"})).await;
    assert_eq!(applied.status, StatusCode::CREATED, "{}", applied.body);
    assert_eq!((&applied.json()["gateways"], &applied.json()["changed"]), (&json!(3), &json!(3)));
    let rollout = applied.json()["rollout"].as_str().unwrap().to_owned();
    let rollout = house.ask(&format!("GET /api/v1/rollouts/{rollout}"), Some(&fleet), None).await.json();
    assert_eq!((rollout["members"].as_array().unwrap().len(), &rollout["wave"]), (3, &json!(2)), "{rollout}");
    let kept = house.store.revision(id(&house, "b").await, None).await.unwrap().unwrap();
    assert_eq!((kept.author.as_str(), kept.comment.as_str()), ("fleet-admin", "the pumps"));
    assert_eq!(kept.template, Some(("pumps".into(), 1)));
    assert!(kept.document.contains("name = \"plc-b\"\nhost = \"10.0.0.1\"\n"), "{}", kept.document);
    let shown = house.ask("GET /api/v1/gateways/b/config", Some(&fleet), None).await.json();
    assert_eq!(shown["newest"]["template"], json!({"name": "pumps", "revision": 1}));

    let stale = apply(&house, &fleet, &first, json!({})).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED, "it is not what was shown any more");
    let again = preview(&house, &fleet, "").await;
    assert_eq!(outcomes(&again), [("a", "same"), ("b", "same"), ("c", "same")]);
    let applied = apply(&house, &fleet, &again, json!({"gateways": ["c"]})).await.json();
    assert_eq!((&applied["gateways"], &applied["changed"]), (&json!(1), &json!(0)));
    assert_eq!(house.store.revision(id(&house, "c").await, None).await.unwrap().unwrap().number, 1, "no second one");
}

async fn id(house: &House, name: &str) -> linkspan_server::store::GatewayId {
    house.store.gateway(&name.parse().unwrap()).await.unwrap().unwrap().id
}

#[tokio::test]
async fn who_cannot_get_it_is_named_with_the_place_and_nobody_gets_it() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    pumps(&house, &fleet).await;
    own(&house, &fleet, "b", json!({"level": "loud", "plc.host": "10.0.0.1"}), "").await;
    own(&house, &fleet, "c", json!({"level": "\"\n[policy]\ncentral = false\n#"}), "").await;
    let shown = preview(&house, &fleet, "").await;
    assert_eq!(outcomes(&shown), [("a", "changed"), ("b", "refused"), ("c", "refused")]);
    let problem = &shown["gateways"][1]["problems"][0];
    assert_eq!(
        (&problem["file"], &problem["line"], &problem["column"]),
        (&json!("template pumps for b"), &json!(2), &json!(9))
    );
    let problem = &shown["gateways"][2]["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&json!(6), &json!(9)), "{problem}");
    assert_eq!(problem["what"], "c has no value for `plc.host`");
    let nobody = apply(&house, &fleet, &shown, json!({})).await;
    assert_eq!(nobody.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(nobody.body.contains("template pumps for b:2:9") && nobody.body.contains("nobody does"), "{}", nobody.body);
    assert_eq!(house.store.revision(id(&house, "a").await, None).await.unwrap(), None);
    let some = apply(&house, &fleet, &shown, json!({"skip_refused": true})).await.json();
    assert_eq!((&some["gateways"], some["skipped"].as_array().unwrap().len()), (&json!(1), 2), "{some}");
}

#[tokio::test]
async fn a_gateway_follows_one_template_and_the_router_has_the_last_word() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    pumps(&house, &fleet).await;
    let wet = json!({"name": "wet", "tags": ["wet"], "document": ""}).to_string();
    house.ask("POST /api/v1/templates", Some(&fleet), Some(&wet)).await;
    let two = json!({"tags": ["pump", "wet"], "values": {}, "overrides": ""}).to_string();
    let two = house.ask("PUT /api/v1/gateways/a/config/own", Some(&fleet), Some(&two)).await.json();
    assert_eq!(two["templates"], json!(["pumps", "wet"]));
    for (name, edited, own_only) in [("b", true, false), ("c", false, true)] {
        let text = Some("# by hand\n".to_owned());
        let sha256 = sha256("# by hand\n");
        let at = jiff::Timestamp::UNIX_EPOCH;
        let report = ConfigReport { revision: None, sha256, document: text, edited, own_only, at };
        house.store.keep_config_report(id(&house, name).await, &report).await.unwrap();
    }
    let shown = preview(&house, &fleet, "").await;
    assert_eq!(outcomes(&shown), [("a", "refused"), ("b", "changed"), ("c", "refused")]);
    assert_eq!(shown["gateways"][1]["edited"], true);
    let told = shown.to_string();
    assert!(told.contains("other templates, too: wet") && told.contains("takes no configuration"), "{told}");
    assert!(told.contains("-# by hand"), "{told}");
    let only = json!({"gateways": ["b"]});
    let refused = apply(&house, &fleet, &shown, only).await;
    assert!(refused.body.contains("edited on the router"), "{}", refused.body);
    let taken = apply(&house, &fleet, &shown, json!({"gateways": ["b"], "overwrite": true})).await;
    assert_eq!(taken.status, StatusCode::CREATED, "{}", taken.body);
    let stranger = apply(&house, &fleet, &preview(&house, &fleet, "").await, json!({"gateways": ["site12"]})).await;
    assert!(stranger.body.contains("site12 does not follow"), "{}", stranger.body);
}

#[tokio::test]
async fn names_of_devices_are_unique_on_the_server() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    pumps(&house, &fleet).await;
    let put = async |device: &str| {
        let document = format!("[[device]]\nname = \"{device}\"\nhost = \"10.0.0.1\"\n");
        let body = json!({"tags": ["pump"], "document": document}).to_string();
        let put = house.ask("PUT /api/v1/templates/pumps", Some(&fleet), Some(&body)).await;
        assert_eq!(put.status, StatusCode::OK, "{}", put.body);
        preview(&house, &fleet, "").await
    };
    let fixed = put("press").await;
    let problem = &fixed["gateways"][0]["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&json!(2), &json!(8)), "{problem}");
    assert!(problem["what"].as_str().unwrap().contains("each gateway would have a device `press`"), "{problem}");
    // Two have the same value by mistake.
    for name in ["a", "b", "c"] {
        own(&house, &fleet, name, json!({"site": if name == "b" { "a" } else { name }}), "").await;
    }
    let shown = put("press-{{ site }}").await;
    let refused = apply(&house, &fleet, &shown, json!({})).await;
    assert!(refused.body.contains("a would have the device `press-a`, too"), "{}", refused.body);
    // plc1 is site12's.
    own(&house, &fleet, "a", json!({"site": "1"}), "").await;
    let shown = put("plc{{ site }}").await;
    assert!(shown["gateways"][0].to_string().contains("the name `plc1` is taken on the server"), "{shown}");
}

#[tokio::test]
async fn a_template_is_written_compared_and_gone_back_to() {
    let house = House::new().await;
    let (fleet, technician, other) =
        (house.token("fleet-admin").await, house.token("technician").await, house.token("other-admin").await);
    pumps(&house, &fleet).await;
    for (token, status) in [(&technician, StatusCode::FORBIDDEN), (&other, StatusCode::NOT_FOUND)] {
        assert_eq!(house.ask("GET /api/v1/templates/pumps", Some(token), None).await.status, status);
    }
    let bad = json!({"tags": ["pump"], "document": "[identity]\nname = \"{{ a b }}\"\n"}).to_string();
    let bad = house.ask("PUT /api/v1/templates/pumps", Some(&fleet), Some(&bad)).await;
    assert_eq!(bad.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(bad.body.contains("template pumps:1:2: [identity]") && bad.body.contains("pumps:2:9:"), "{}", bad.body);
    let new = json!({"tags": ["pump", "wet"], "document": "# empty\n", "comment": "a test"}).to_string();
    let two = house.ask("PUT /api/v1/templates/pumps", Some(&fleet), Some(&new)).await;
    assert_eq!((two.status, &two.json()["revision"]), (StatusCode::OK, &json!(2)));
    let request = http::Request::put("/api/v1/templates/pumps")
        .header("authorization", format!("Bearer {fleet}"))
        .header("content-type", "application/json")
        .header("if-match", "\"what was there before\"");
    let late = house.send(request.body(new.into()).unwrap()).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(preview(&house, &fleet, "").await["total"], 0, "nobody is wet");
    assert_eq!(preview(&house, &fleet, "?revision=1").await["total"], 3);
    let diff = house.ask("GET /api/v1/templates/pumps/diff", Some(&fleet), None).await.json();
    assert!(diff["diff"].as_str().unwrap().starts_with("--- revision 1\n+++ revision 2\n"), "{diff}");
    let back = house.ask("POST /api/v1/templates/pumps/revert", Some(&fleet), Some(r#"{"revision":1}"#)).await;
    assert_eq!((&back.json()["revision"], &back.json()["document"]), (&json!(3), &json!(PUMPS)));
    let all = house.ask("GET /api/v1/templates/pumps/revisions?limit=2", Some(&fleet), None).await.json();
    assert_eq!((&all["revisions"][0]["comment"], all["next"].is_string()), (&json!("back to revision 1"), true));
    let listed = house.ask("GET /api/v1/templates", Some(&fleet), None).await.json();
    assert_eq!((&listed["templates"][0]["revision"], &listed["templates"][0]["tags"]), (&json!(3), &json!(["pump"])));
    let gone = house.ask("DELETE /api/v1/templates/pumps", Some(&fleet), Some("{}")).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let admin = house.token("admin").await;
    let noted = house.ask("GET /api/v1/audit?action=template", Some(&admin), None).await.json();
    assert_eq!(noted["entries"].as_array().unwrap().len(), 4, "{noted}");
    let own = house.ask("GET /api/v1/audit?action=config.own", Some(&admin), None).await.json();
    assert_eq!(own["entries"].as_array().unwrap().len(), 3);
    assert!(!own.to_string().contains("10.0.0."), "values do not stand in the audit");
}

#[tokio::test]
async fn what_a_gateway_has_for_itself_is_checked_and_not_written_over() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    let path = "/api/v1/gateways/site12/config/own";
    let read = house.ask(&format!("GET {path}"), Some(&fleet), None).await;
    assert!(read.headers.contains_key(ETAG));
    for (bad, told) in [
        (json!({"tags": ["a,b"], "values": {}, "overrides": ""}), "tags"),
        (json!({"tags": [], "values": {"gateway.name": "x"}, "overrides": ""}), "given by the server"),
        (json!({"tags": [], "values": {"a b": "x"}, "overrides": ""}), "cannot be the name"),
        (json!({"tags": [], "values": {}, "overrides": "[policy]\n"}), "overrides:1:2: [policy] belongs"),
        (json!({"tags": [], "values": {}, "overrides": "= 7"}), "not TOML"),
        (json!({"tags": [], "values": {"a": [1]}, "overrides": ""}), "a whole number, true or false"),
    ] {
        let answer = house.ask(&format!("PUT {path}"), Some(&fleet), Some(&bad.to_string())).await;
        assert!(answer.status.is_client_error() && answer.body.contains(told), "{bad}: {}", answer.body);
    }
    let good = json!({"tags": ["b", "a", "a"], "values": {"n": 7, "on": true, "t": "x"}, "overrides": "# none\n"});
    let kept = house.ask(&format!("PUT {path}"), Some(&fleet), Some(&good.to_string())).await.json();
    assert_eq!((&kept["tags"], &kept["values"]), (&json!(["a", "b"]), &good["values"]));
    let request = http::Request::put(path)
        .header("authorization", format!("Bearer {fleet}"))
        .header("content-type", "application/json")
        .header("if-match", read.headers[ETAG].clone());
    let late = house.send(request.body(good.to_string().into()).unwrap()).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
}

/// What is approved at a gateway with a template stays when the template is applied again.
#[tokio::test]
async fn an_approved_device_becomes_a_part_of_what_the_gateway_has_for_itself() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    let things = house.furnish().await;
    let report = ConfigReport {
        revision: None,
        sha256: sha256("# site 12\n"),
        document: Some("# site 12\n".into()),
        edited: false,
        own_only: false,
        at: jiff::Timestamp::UNIX_EPOCH,
    };
    house.store.keep_config_report(id(&house, "site12").await, &report).await.unwrap();
    let found = &things.iter().find(|(name, _)| *name == "found").unwrap().1;
    let approved =
        house.ask(&format!("POST /api/v1/discovered/{found}/approve"), Some(&fleet), Some(r#"{"name":"hmi7"}"#)).await;
    assert_eq!(approved.status, StatusCode::ACCEPTED, "{}", approved.body);
    let shown = preview(&house, &fleet, "").await;
    assert_eq!(outcomes(&shown), [("site12", "changed")]);
    let diff = shown["gateways"][0]["diff"].as_str().unwrap();
    assert!(diff.contains("+level = \"debug\"") && !diff.contains("-name = \"hmi7\""), "{diff}");
}
