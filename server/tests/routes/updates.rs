//! Programs for gateways over the API: kept if they are signed, by whom may; sent on their way, stopped, and seen by their own.

use data_encoding::BASE64;
use http::StatusCode;
use linkspan_server::store::Program;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use crate::house::House;

/// As signify writes them: a mark, the number of the pair, and the bytes.
fn text(bytes: &[u8]) -> String {
    format!("untrusted comment: x\n{}\n", BASE64.encode(&[b"Ed12345678", bytes].concat()))
}

struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    fn bundle(&self, version: &str, program: &[u8]) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, program);
        let sha256 = data_encoding::HEXLOWER.encode(digest.as_ref());
        let head = format!("linkspan-gateway {version}\ntarget t\nsize {}\nsha256 {sha256}\n", program.len());
        let signature = text(self.0.sign(head.as_bytes()).as_ref());
        BASE64.encode(&[signature.as_bytes(), head.as_bytes(), b"\n", program].concat())
    }
}

#[tokio::test]
async fn a_program_is_kept_if_it_is_signed_and_removed_with_its_file() {
    let house = House::new().await;
    let (signer, other) = (Signer::new(), Signer::new());
    let admin = house.token("system-admin").await;
    let add = async |bundle: &str| {
        let body = json!({ "bundle": bundle }).to_string();
        house.ask("POST /api/v1/programs", Some(&admin), Some(&body)).await
    };
    let good = signer.bundle("0.2.0", b"program");
    let answer = add(&good).await;
    assert_eq!(answer.status, StatusCode::CONFLICT, "there is no key: {}", answer.body);
    std::fs::write(house.state.programs.key_file(), text(signer.0.public_key().as_ref())).unwrap();
    for (bad, why) in
        [("", "no signed program"), ("x", "base64"), (&*other.bundle("0.2.0", b"program"), "does not fit")]
    {
        let answer = add(bad).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.body);
        assert!(answer.body.contains(why), "{why}: {}", answer.body);
    }
    let answer = add(&good).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.body);
    assert_eq!(add(&good).await.status, StatusCode::CONFLICT, "it is there already");
    let kept: Program = house.store.programs().await.unwrap().remove(0);
    assert_eq!(std::fs::read(house.state.programs.file(&kept)).unwrap(), b"program");
    let listed = house.ask("GET /api/v1/programs", Some(&admin), None).await.json();
    let id = listed["programs"][0]["id"].as_str().unwrap().to_owned();
    assert!(listed["key"].as_str().unwrap().starts_with("RW"), "{listed}");
    let gone = house.ask(&format!("DELETE /api/v1/programs/{id}"), Some(&admin), None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert!(!house.state.programs.file(&kept).exists());
}

#[tokio::test]
async fn an_update_is_begun_seen_and_stopped_by_whom_may() {
    let house = House::new().await;
    let signer = Signer::new();
    std::fs::write(house.state.programs.key_file(), text(signer.0.public_key().as_ref())).unwrap();
    let bundle = BASE64.decode(signer.bundle("0.2.0", b"program").as_bytes()).unwrap();
    house.state.programs.add(&bundle, "a test").await.unwrap();
    let fleet = house.token("fleet-admin").await;
    let begin = async |body: &str| house.ask("POST /api/v1/updates", Some(&fleet), Some(body)).await;
    for (bad, status) in [
        (r#"{"version":"0.3.0","gateways":["site12"],"wave":1}"#, StatusCode::CONFLICT),
        (r#"{"version":"0.2.0","gateways":[],"wave":1}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"version":"0.2.0","gateways":["site12","site12"],"wave":1}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"version":"0.2.0","gateways":["site12"],"wave":0}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"version":"0.2.0","gateways":["site12"],"wave":1,"rate":1}"#, StatusCode::UNPROCESSABLE_ENTITY),
        (r#"{"version":"0.2.0","gateways":["nowhere"],"wave":1}"#, StatusCode::NOT_FOUND),
    ] {
        let answer = begin(bad).await;
        assert_eq!(answer.status, status, "{bad}: {}", answer.body);
    }
    let begun = begin(r#"{"version":"0.2.0","gateways":["site12"],"wave":2,"deadline_s":60}"#).await;
    assert_eq!(begun.status, StatusCode::CREATED, "{}", begun.body);
    let place = format!("/api/v1/updates/{}", begun.json()["update"].as_str().unwrap());
    let seen = house.ask(&format!("GET {place}"), Some(&fleet), None).await.json();
    assert_eq!((&seen["state"], &seen["members"][0]["state"]), (&json!("running"), &json!("waiting")), "{seen}");
    let others = house.token("other-admin").await;
    for line in [format!("GET {place}"), format!("POST {place}/stop")] {
        assert_eq!(house.ask(&line, Some(&others), Some("{}")).await.status, StatusCode::NOT_FOUND, "{line}");
    }
    // A newer one takes the place of what has not begun.
    let newer = begin(r#"{"version":"0.2.0","gateways":["site12"],"wave":1}"#).await;
    assert_eq!(newer.status, StatusCode::CREATED);
    let seen = house.ask(&format!("GET {place}"), Some(&fleet), None).await.json();
    assert_eq!(seen["members"][0]["detail"], "a newer update took its place");
    let newer = format!("/api/v1/updates/{}", newer.json()["update"].as_str().unwrap());
    let stopped = house.ask(&format!("POST {newer}/stop"), Some(&fleet), None).await;
    assert_eq!(stopped.status, StatusCode::NO_CONTENT, "{}", stopped.body);
    let seen = house.ask(&format!("GET {newer}"), Some(&fleet), None).await.json();
    assert_eq!((&seen["state"], &seen["members"][0]["state"]), (&json!("stopped"), &json!("skipped")), "{seen}");
    let listed = house.ask("GET /api/v1/updates", Some(&fleet), None).await.json();
    assert_eq!(listed["updates"].as_array().unwrap().len(), 2);
    assert_eq!(house.ask("GET /api/v1/updates", Some(&others), None).await.json()["updates"], json!([]));
}
