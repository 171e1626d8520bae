//! Configurations over the API: written by whom may, read with the gateway's parser, never over somebody else's.

use http::header::{CONTENT_TYPE, ETAG, IF_MATCH};
use http::{Request, StatusCode};
use jiff::Timestamp;
use linkspan_server::rights::TenantId;
use linkspan_server::store::ConfigReport;
use serde_json::{Value, json};

use crate::house::{Answer, House};

const DOCUMENT: &str = "/api/v1/gateways/site12/config/document";

async fn put(house: &House, token: &str, tag: &str, document: &str) -> Answer {
    let body = json!({"document": document, "comment": "a test"}).to_string();
    let request = Request::put(DOCUMENT)
        .header("authorization", format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/json")
        .header(IF_MATCH, tag);
    house.send(request.body(body.into()).unwrap()).await
}

fn tag(answer: &Answer) -> String {
    answer.headers[ETAG].to_str().unwrap().to_owned()
}

/// The house's gateway has told that it lives by this.
async fn lives_by(house: &House, document: &str, edited: bool) {
    let id = house.store.gateways().await.unwrap().remove(0).id;
    let sha256 = linkspan_server::fleet::sha256(document);
    let document = Some(document.to_owned());
    let report = ConfigReport { revision: None, sha256, document, edited, own_only: false, at: Timestamp::UNIX_EPOCH };
    house.store.keep_config_report(id, &report).await.unwrap();
}

#[tokio::test]
async fn a_document_is_written_compared_and_gone_back_to() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    lives_by(&house, "[log]\nlevel = \"info\"\n", false).await;
    let first = house.ask(&format!("GET {DOCUMENT}"), Some(&fleet), None).await;
    assert_eq!(first.json(), json!({"revision": 0, "document": "[log]\nlevel = \"info\"\n"}));
    let one = put(&house, &fleet, &tag(&first), "[log]\nlevel = \"debug\"\n").await;
    assert_eq!((one.status, &one.json()["revision"]), (StatusCode::OK, &json!(1)), "{}", one.body);
    let late = put(&house, &fleet, &tag(&first), "[log]\nlevel = \"warn\"\n").await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED, "somebody was faster");
    let two = put(&house, &fleet, &tag(&one), "[log]\nlevel = \"warn\"\n").await;
    assert_eq!(two.status, StatusCode::OK, "{}", two.body);

    let at = |rest: &str| format!("GET /api/v1/gateways/site12/config/{rest}");
    let diff = house.ask(&at("diff?from=1&to=2"), Some(&fleet), None).await.json();
    assert!(diff["diff"].as_str().unwrap().contains("-level = \"debug\"\n+level = \"warn\"\n"), "{diff}");
    let diff = house.ask(&at("diff"), Some(&fleet), None).await.json();
    assert!(diff["diff"].as_str().unwrap().starts_with("--- running\n+++ revision 2\n"), "{diff}");
    let back = house.ask("POST /api/v1/gateways/site12/config/revert", Some(&fleet), Some(r#"{"revision":1}"#)).await;
    assert_eq!(back.json(), json!({"revision": 3, "document": "[log]\nlevel = \"debug\"\n"}));
    let page = house.ask(&at("revisions?limit=2"), Some(&fleet), None).await.json();
    assert_eq!(page["revisions"][0]["comment"], "back to revision 1");
    let next = page["next"].as_str().unwrap();
    let rest = house.ask(&at(&format!("revisions?limit=2&cursor={next}")), Some(&fleet), None).await.json();
    assert_eq!((&rest["revisions"][0]["number"], &rest["next"]), (&json!(1), &Value::Null));
    assert_eq!(rest["revisions"][0]["author"], "fleet-admin");
    let old = house.ask(&at("revisions/2"), Some(&fleet), None).await.json();
    assert_eq!(old["document"], "[log]\nlevel = \"warn\"\n");

    let admin = house.token("admin").await;
    let noted = house.ask("GET /api/v1/audit?action=config", Some(&admin), None).await.json();
    assert_eq!(noted["entries"].as_array().unwrap().len(), 3, "{noted}");
    assert!(!noted.to_string().contains("level"), "documents do not stand in the audit");
}

#[tokio::test]
async fn a_document_that_the_gateway_would_refuse_is_not_kept() {
    let house = House::new().await;
    let fleet = house.token("fleet-admin").await;
    let bad = "[log]\nlevel = \"loud\"\n[identity]\nname = \"x\"\n";
    let answer = put(&house, &fleet, "*", bad).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(answer.body.contains("document:2:9: this is not a log level"), "{}", answer.body);
    let body = json!({ "document": bad }).to_string();
    let check = house.ask("POST /api/v1/gateways/site12/config/check", Some(&fleet), Some(&body)).await.json();
    assert_eq!((&check["usable"], &check["problems"][0]["line"]), (&json!(false), &json!(2)), "{check}");
    let long = format!("{{\"document\":\"{}\"}}", "#\\n".repeat(100_000));
    let check = house.ask("POST /api/v1/gateways/site12/config/check", Some(&fleet), Some(&long)).await;
    assert_eq!(check.status, StatusCode::OK, "as long as a document may be: {}", check.body);
    let none = house.ask("POST /api/v1/gateways/site12/config/apply", Some(&fleet), Some("{}")).await;
    assert_eq!(none.status, StatusCode::CONFLICT);
}

#[tokio::test]
async fn rollouts_are_begun_seen_and_stopped_by_whom_may() {
    let house = House::new().await;
    let (fleet, technician, other) =
        (house.token("fleet-admin").await, house.token("technician").await, house.token("other-admin").await);
    put(&house, &fleet, "*", "[log]\nlevel = \"debug\"\n").await;
    let body = r#"{"gateways":["site12"],"wave":5,"deadline_s":10}"#;
    for (token, status) in [(&technician, StatusCode::FORBIDDEN), (&other, StatusCode::NOT_FOUND)] {
        assert_eq!(house.ask("POST /api/v1/rollouts", Some(token), Some(body)).await.status, status);
        let read = house.ask(&format!("GET {DOCUMENT}"), Some(token), None).await.status;
        assert!(read == StatusCode::NOT_FOUND || read == StatusCode::FORBIDDEN, "{read}");
    }
    let begun = house.ask("POST /api/v1/rollouts", Some(&fleet), Some(body)).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{}", begun.body);
    let one = format!("/api/v1/rollouts/{}", begun.json()["rollout"].as_str().unwrap());
    let shown = house.ask(&format!("GET {one}"), Some(&fleet), None).await.json();
    assert_eq!((&shown["state"], &shown["members"][0]["state"]), (&json!("running"), &json!("waiting")), "{shown}");
    assert_eq!(house.ask(&format!("GET {one}"), Some(&other), None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(house.ask(&format!("POST {one}/stop"), Some(&fleet), Some("{}")).await.status, 204);
    let shown = house.ask(&format!("GET {one}"), Some(&fleet), None).await.json();
    assert_eq!((&shown["state"], &shown["members"][0]["state"]), (&json!("stopped"), &json!("skipped")), "{shown}");
    for bad in [
        r#"{"gateways":[],"wave":1}"#,
        r#"{"gateways":["site12"],"wave":0}"#,
        r#"{"gateways":["site12","site12"],"wave":1}"#,
    ] {
        let answer = house.ask("POST /api/v1/rollouts", Some(&fleet), Some(bad)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
}

#[tokio::test]
async fn a_device_more_is_built_upon_what_counts() {
    use linkspan_server::fleet::{NewDevice, NotStaged, stage_device};
    let house = House::new().await;
    let id = house.store.gateways().await.unwrap().remove(0).id;
    let device = NewDevice {
        name: "cam1".parse().unwrap(),
        description: String::new(),
        tags: vec![],
        host: "192.168.1.7".into(),
        services: vec![],
    };
    let stage = async || stage_device(&house.store, (TenantId::DEFAULT, id), &device, ("anna", "approved")).await;
    assert!(matches!(stage().await, Err(NotStaged::Unknown)));
    lives_by(&house, "# of site 12\n", true).await;
    assert!(matches!(stage().await, Err(NotStaged::Edited)));
    lives_by(&house, "# of site 12\n", false).await;
    assert_eq!(stage().await.unwrap(), 1);
    let kept = house.store.revision(id, None).await.unwrap().unwrap();
    assert!(kept.document.contains("# of site 12"), "{}", kept.document);
    assert_eq!((kept.author.as_str(), kept.comment.as_str()), ("anna", "approved"));
}
