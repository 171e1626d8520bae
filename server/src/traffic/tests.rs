//! The meter over a real session, between two machines in memory.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use linkspan_protocol::driver::{self, Incoming, LinkHandle, ResetReason, Role, Settings, Target, reset_of};
use linkspan_protocol::frame::Reset;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::Role as WsRole;

use super::{Live, Metered, Passage, Traffic};
use crate::access::{Credential, Principal};
use crate::edge::doors::Purpose;
use crate::rights::{GatewayId, Rights, TenantId, UserId};
use crate::store::{SessionId, UserKind};

const LONG: Duration = Duration::from_secs(20);

struct World {
    traffic: Traffic,
    server: LinkHandle,
    gateway: LinkHandle,
    tasks: JoinSet<()>,
}

impl World {
    async fn new() -> Self {
        let settings =
            || Settings { receive_window: 64 * 1024, send_window: 64 * 1024, max_streams: 16, ..Settings::default() };
        let (near, far) = tokio::io::duplex(64 * 1024);
        let near = WebSocketStream::from_raw_socket(near, WsRole::Server, Some(driver::websocket_config())).await;
        let far = WebSocketStream::from_raw_socket(far, WsRole::Client, Some(driver::websocket_config())).await;
        let (server, near) = driver::link(near, Role::Server, settings(), LONG);
        let (gateway, far) = driver::link(far, Role::Gateway, settings(), LONG);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { drop(near.run().await) });
        tasks.spawn(async move { drop(far.run().await) });
        Self { traffic: Traffic::new(TimeZone::UTC, None), server, gateway, tasks }
    }

    /// A stream of this person, at both its ends.
    async fn open(&self, person: &str) -> (Metered, driver::Stream) {
        let passage = passage(person);
        let (device, service) = (passage.device.clone(), passage.service.clone());
        let stream =
            self.server.open(Target { device, service, deadline: LONG, packed: false, update: false }).unwrap();
        let metered = self.traffic.meter(stream, false, passage);
        let Incoming { stream, .. } = timeout(LONG, self.gateway.accept()).await.unwrap().unwrap();
        (metered, stream)
    }
}

pub(super) fn passage(person: &str) -> Passage {
    let who = Principal {
        user: UserId(1),
        tenant: TenantId::DEFAULT,
        kind: UserKind::Person,
        name: person.to_owned(),
        credential: Credential::Session(SessionId(1)),
        expires: Timestamp::MAX,
        rights: Rights::none(TenantId::DEFAULT).into(),
        as_of: 0,
    };
    Passage {
        who,
        client: [192, 0, 2, 1].into(),
        device: "plc1".parse().unwrap(),
        service: "web".parse().unwrap(),
        tenant: TenantId::DEFAULT,
        gateway: GatewayId(1),
        gateway_name: "site12".parse().unwrap(),
        purpose: Purpose::Stream,
    }
}

fn counted(live: &Live) -> (u64, u64) {
    (live.up(), live.down())
}

#[tokio::test]
async fn bytes_are_counted_both_ways_while_they_pass() {
    let world = World::new().await;
    let (mut near, mut far) = world.open("anna").await;
    let live = world.traffic.open().remove(0);
    near.write_all(&[1; 1000]).await.unwrap();
    let mut heard = vec![0; 1000];
    far.read_exact(&mut heard).await.unwrap();
    far.write_all(&[2; 70_000]).await.unwrap();
    near.read_exact(&mut heard).await.unwrap();
    assert_eq!(live.down(), 1000);
    assert!((1000..70_000).contains(&live.up()), "only what was read: {}", live.up());
    near.shutdown().await.unwrap();
    far.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(LONG, near.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert_eq!((counted(&live), near.ending().word()), ((70_000, 1000), "done"));
    drop(near);
    assert_eq!(world.traffic.open().len(), 0);
    assert_eq!(live.passage.who.name, "anna");
}

#[tokio::test]
async fn a_cut_ends_both_ends_with_the_reason_and_spares_the_others() {
    let world = World::new().await;
    let (mut near, mut far) = world.open("anna").await;
    let (mut other, mut other_far) = world.open("otto").await;
    far.write_all(b"arrived before the cut").await.unwrap();
    let mut first = [0; 1];
    near.read_exact(&mut first).await.unwrap();
    let why = Reset::new(ResetReason::Ended, "the role was changed");
    assert_eq!(world.traffic.cut(&why, |passage| passage.who.name == "anna"), 1);
    assert_eq!(world.traffic.cut(&Reset::new(ResetReason::Ended, "again"), |p| p.who.name == "anna"), 1);
    let error = near.read_u8().await.unwrap_err();
    assert_eq!(reset_of(&error), Some(&why), "nothing more is read, also not what had arrived");
    let error = near.write_u8(1).await.unwrap_err();
    assert_eq!(reset_of(&error), Some(&why));
    let error = timeout(LONG, far.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(reset_of(&error), Some(&why));
    assert_eq!(near.ending().to_string(), "cut: ended on purpose: the role was changed");
    other.write_all(b"still here").await.unwrap();
    let mut heard = [0; 10];
    timeout(LONG, other_far.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(other.ending().word(), "left");
}

#[tokio::test]
async fn a_reader_that_waits_is_woken_by_a_cut() {
    let mut world = World::new().await;
    let (mut near, _far) = world.open("anna").await;
    let traffic = world.traffic.clone();
    world.tasks.spawn(async move {
        traffic.cut(&Reset::new(ResetReason::DataCap, "used up"), |_| true);
    });
    let error = timeout(LONG, near.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(reset_of(&error).unwrap().reason, ResetReason::DataCap);
}

#[tokio::test]
async fn how_a_stream_ended_is_told_apart() {
    let mut world = World::new().await;
    let (mut refused, mut far) = world.open("anna").await;
    far.reset(ResetReason::Refused, "port 80 \u{1b}[2Jrefused");
    assert!(timeout(LONG, refused.read_u8()).await.unwrap().is_err());
    let told = refused.ending();
    assert_eq!(told.word(), "device-failed");
    assert!(!told.to_string().contains('\u{1b}'), "{told}");
    let (mut lost, _far) = world.open("anna").await;
    world.tasks.abort_all();
    assert!(timeout(LONG, lost.read_u8()).await.unwrap().is_err());
    assert_eq!(lost.ending().word(), "link-lost");
}
