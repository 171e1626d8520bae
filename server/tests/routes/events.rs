//! The events over the API: to whom may see them, again from where they were left, and only as long as the session lives.

use std::time::{Duration, Instant};

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt as _;
use http::header::AUTHORIZATION;
use http::{Request, StatusCode};
use jiff::Timestamp;
use linkspan_server::audit::{Action, Actor, Entry};
use linkspan_server::events::{Gateway, What};
use linkspan_server::rights::TenantId;
use serde_json::json;
use tokio::task::JoinSet;
use tower::ServiceExt as _;

use crate::house::House;

const DEADLINE: Duration = Duration::from_secs(20);

struct Followed {
    body: BodyDataStream,
    read: String,
}

impl Followed {
    async fn begin(house: &House, token: &str, last: Option<&str>) -> Self {
        let mut request = Request::get("/api/v1/events").header(AUTHORIZATION, format!("Bearer {token}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = house.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), read: String::new() }
    }

    /// Reads until this has come.
    async fn until(&mut self, text: &str) -> &str {
        while !self.read.contains(text) {
            let chunk = tokio::time::timeout(DEADLINE, self.body.next()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{text} did not come: {}", self.read));
            let chunk = chunk.unwrap_or_else(|| panic!("ended before {text}: {}", self.read)).unwrap();
            self.read.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        &self.read
    }

    /// Within the second that is promised.
    async fn ended_at_once(&mut self) -> bool {
        let begun = Instant::now();
        self.ended().await && begun.elapsed() < Duration::from_secs(1)
    }

    async fn ended(&mut self) -> bool {
        tokio::time::timeout(DEADLINE, async { while let Some(Ok(_)) = self.body.next().await {} }).await.is_ok()
    }
}

fn gateway(house: &[linkspan_server::store::Gateway]) -> Gateway {
    Gateway { id: house[0].id, name: house[0].name.clone(), tenant: Some(TenantId::DEFAULT) }
}

#[tokio::test]
async fn each_hears_of_what_they_may_see() {
    let house = House::new().await;
    let gateway = gateway(&house.store.gateways().await.unwrap());
    let mut followed = Vec::new();
    for name in ["viewer", "technician", "admin", "other-admin"] {
        followed.push(Followed::begin(&house, &house.token(name).await, None).await);
    }
    let mut tasks = JoinSet::new();
    tasks.spawn(house.state.events.clone().tell_audit(house.state.audit.clone()));
    house.state.events.tell(What::GatewayConnected(gateway.clone()));
    house.state.events.tell(What::DevicesChanged(gateway.clone(), vec!["plc1".parse().unwrap()]));
    let mut entry = Actor::system().of_tenant(TenantId::DEFAULT);
    entry.name = "noted".into();
    // It must be followed before it is written.
    tokio::task::yield_now().await;
    house.state.audit.note(Entry::new(Action::SERVER_START, entry)).await.unwrap();
    house.state.events.tell(What::GatewayDisconnected(gateway));
    // What everybody hears of comes last, so that what came before it has come.
    let last = What::DevicesChanged(
        Gateway {
            id: house.store.gateways().await.unwrap()[0].id,
            name: "site12".parse().unwrap(),
            tenant: Some(TenantId::DEFAULT),
        },
        vec!["plc1".parse().unwrap()],
    );
    house.state.events.tell(last);
    let seen = |text: &str| {
        ["gateway.connected", "gateway.disconnected", "devices.changed", "event: audit"].map(|kind| text.contains(kind))
    };
    let viewer = followed[0].until("devices.changed").await;
    assert_eq!(seen(viewer), [false, false, true, false], "{viewer}");
    let technician = followed[1].until("gateway.disconnected").await;
    assert_eq!(seen(technician)[..2], [true, true], "{technician}");
    assert!(!technician.contains("event: audit"));
    let admin = followed[2].until("event: audit").await;
    assert!(admin.contains("\"actor\":\"noted\""), "{admin}");
    house.closing.cancel();
    assert!(followed[3].ended().await);
    assert_eq!(seen(&followed[3].read), [false; 4], "{}", followed[3].read);
    tasks.join_all().await;
}

#[tokio::test]
async fn who_comes_back_goes_on_where_they_left() {
    let house = House::new().await;
    let gateway = gateway(&house.store.gateways().await.unwrap());
    let token = house.token("technician").await;
    let mut first = Followed::begin(&house, &token, None).await;
    house.state.events.tell(What::GatewayConnected(gateway.clone()));
    let read = first.until("data: {\"gateway\":\"site12\"").await;
    let last = read.lines().find_map(|line| line.strip_prefix("id: ")).unwrap().to_owned();
    drop(first);
    house.state.events.tell(What::GatewayDisconnected(gateway));
    let mut again = Followed::begin(&house, &token, Some(&last)).await;
    let read = again.until("gateway.disconnected").await;
    assert!(!read.contains("gateway.connected") && !read.contains("event: reset"), "{read}");
    for strange in ["", "7", "another-run-7"] {
        let mut lost = Followed::begin(&house, &token, Some(strange)).await;
        lost.until("event: reset").await;
    }
}

#[tokio::test]
async fn they_end_with_the_session() {
    let house = House::new().await;
    let token = house.token("technician").await;
    let mut followed = Followed::begin(&house, &token, None).await;
    followed.until("retry:").await;
    assert_eq!(house.ask("DELETE /api/v1/session", Some(&token), None).await.status, StatusCode::NO_CONTENT);
    assert!(followed.ended_at_once().await, "the session has ended");
}

/// Issue 4: what is open ends within a second, whatever the right to it ended by; and what is lost is not told any more.
#[tokio::test]
async fn they_end_at_once_with_a_token_a_person_and_by_time_and_follow_the_rights_of_now() {
    let house = House::new().await;
    let technician = house.token("technician").await;
    let soon = Timestamp::now() + Duration::from_millis(1500);
    let token = json!({"name": "short", "expires": soon.to_string()}).to_string();
    let made = house.ask("POST /api/v1/tokens", Some(&technician), Some(&token)).await.json();
    let mut by_time = Followed::begin(&house, made["token"].as_str().unwrap(), None).await;
    by_time.until("retry:").await;
    let begun = Instant::now();
    assert!(by_time.ended().await);
    assert!(begun.elapsed() < Duration::from_millis(2500), "ended by time after {:?}", begun.elapsed());

    let token = json!({"name": "revoked"}).to_string();
    let made = house.ask("POST /api/v1/tokens", Some(&technician), Some(&token)).await.json();
    let mut by_token = Followed::begin(&house, made["token"].as_str().unwrap(), None).await;
    by_token.until("retry:").await;
    let line = format!("DELETE /api/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(house.ask(&line, Some(&technician), None).await.status, StatusCode::NO_CONTENT);
    assert!(by_token.ended_at_once().await, "the token is revoked");

    let gateway = gateway(&house.store.gateways().await.unwrap());
    let mut followed = Followed::begin(&house, &technician, None).await;
    house.state.events.tell(What::GatewayConnected(gateway.clone()));
    followed.until("gateway.connected").await;
    let admin = house.token("admin").await;
    let less = json!({"role": "viewer"}).to_string();
    assert_eq!(house.ask("PUT /api/v1/people/technician", Some(&admin), Some(&less)).await.status, StatusCode::OK);
    house.state.events.tell(What::GatewayDisconnected(gateway.clone()));
    house.state.events.tell(What::DevicesChanged(gateway, vec!["plc1".parse().unwrap()]));
    let read = followed.until("devices.changed").await;
    assert!(!read.contains("gateway.disconnected"), "a viewer is told of no gateways: {read}");
    let gone = house.ask("DELETE /api/v1/people/technician", Some(&admin), None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert!(followed.ended_at_once().await, "the person is removed");
}

#[tokio::test]
async fn one_person_follows_at_so_many_places() {
    let house = House::new().await;
    let token = house.token("technician").await;
    let mut all = Vec::new();
    for _ in 0..10 {
        all.push(Followed::begin(&house, &token, None).await);
    }
    let answer = house.ask("GET /api/v1/events", Some(&token), None).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{}", answer.body);
    all.pop();
    let _once_more = Followed::begin(&house, &token, None).await;
}
