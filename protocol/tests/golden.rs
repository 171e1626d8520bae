//! The bytes of the language, fixed: changing one of them means a new version of the language.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use linkspan_protocol::enrol::{EnrolRequest, statement};
use linkspan_protocol::frame::{Frame, FrameError, Reset, ResetReason, StreamId, Target};
use linkspan_protocol::id::Secret;
use linkspan_protocol::message::{
    Close, CloseReason, DeviceRefused, DeviceReport, GatewayToServer, Hello, Refused, RefusedReason, Resume,
    ServerToGateway, ServiceKind, ServiceReport, Verify, Welcome,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[track_caller]
fn golden(frame: &Frame, hex: &str) {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    let mut expected = bytes(hex);
    assert_eq!(out, expected, "encoded as {out:02x?}");
    assert_eq!(Frame::decode(&mut expected).as_ref(), Ok(&Some(frame.clone())));
    assert_eq!(expected.len(), 0, "the whole frame was taken");
    for cut in 1..out.len() {
        let mut short = out.clone().freeze().slice(..cut);
        assert_eq!(Frame::decode(&mut short), Err(FrameError::Truncated), "cut after {cut} bytes");
    }
}

fn target(device: &str, service: &str, deadline: Duration) -> Target {
    Target {
        device: device.parse().unwrap(),
        service: service.parse().unwrap(),
        deadline,
        packed: false,
        update: false,
    }
}

#[test]
fn every_frame_has_its_bytes() {
    let json = Bytes::from_static(b"{}");
    golden(&Frame::Hello(json.clone()), "01 02 7b7d"); // type, length, JSON
    golden(&Frame::Welcome(json.clone()), "02 02 7b7d");
    golden(&Frame::Refused(json.clone()), "03 02 7b7d");
    golden(&Frame::Close(json.clone()), "04 02 7b7d");
    golden(&Frame::Ping(7), "05 07"); // type, token
    golden(&Frame::Pong(7), "06 07");
    golden(&Frame::Ack(300), "07 412c"); // type, count in two bytes (0x4000 | 300)
    golden(
        &Frame::Open(StreamId(4), target("plc1", "web", Duration::from_secs(10))),
        // type, stream, length of the block: "plc1", "web", 10000 ms
        "40 04 0b  04 706c6331  03 776562  6710",
    );
    golden(
        &Frame::Open(StreamId(4), Target { packed: true, ..target("plc1", "web", Duration::from_secs(10)) }),
        // Flags behind the deadline, only where one is set.
        "40 04 0c  04 706c6331  03 776562  6710  01",
    );
    golden(
        &Frame::Open(StreamId(4), Target { update: true, ..target("plc1", "web", Duration::from_secs(10)) }),
        "40 04 0c  04 706c6331  03 776562  6710  02",
    );
    golden(&Frame::Opened(StreamId(4)), "41 04"); // type, stream
    golden(&Frame::Data(StreamId(4), Bytes::from_static(b"GET")), "42 04 03 474554"); // type, stream, length, bytes
    golden(&Frame::Window(StreamId(4), 65_536), "43 04 80010000"); // type, stream, credit in four bytes
    golden(&Frame::Fin(StreamId(4)), "44 04"); // type, stream
    golden(&Frame::Reset(StreamId(4), Reset::new(ResetReason::Refused, "no")), "45 04 02 02 6e6f"); // reason, text
    golden(&Frame::Control { last: false, piece: json.clone() }, "46 02 7b7d"); // type, length, piece
    golden(&Frame::Control { last: true, piece: json }, "47 02 7b7d");
}

#[test]
fn numbers_take_one_two_four_or_eight_bytes() {
    golden(&Frame::Fin(StreamId(63)), "44 3f");
    golden(&Frame::Fin(StreamId(64)), "44 4040");
    golden(&Frame::Fin(StreamId(16_383)), "44 7fff");
    golden(&Frame::Fin(StreamId(16_384)), "44 80004000");
    golden(&Frame::Fin(StreamId((1 << 30) - 1)), "44 bfffffff");
    golden(&Frame::Fin(StreamId(1 << 30)), "44 c000000040000000");
    golden(&Frame::Fin(StreamId((1 << 62) - 1)), "44 ffffffffffffffff");
}

#[test]
fn every_reason_has_its_code() {
    use ResetReason::*;
    for (code, reason) in [
        (0, Cancelled),
        (1, NotListed),
        (2, Refused),
        (3, Unreachable),
        (4, TimedOut),
        (5, NameNotFound),
        (6, DeviceReset),
        (7, Idle),
        (8, StreamLimit),
        (9, LinkLost),
        (10, Protocol),
        (11, Stopping),
        (12, Internal),
        (13, Ended),
        (14, DataCap),
        (15, Unknown(15)), // the next version may give this one a meaning; then this line moves
        (63, Unknown(63)),
    ] {
        assert_eq!((reason.code(), ResetReason::from_code(code)), (code, reason));
        golden(&Frame::Reset(StreamId(2), Reset::new(reason, "")), &format!("45 02 {code:02x} 00"));
    }
}

#[test]
fn a_text_is_cut_to_what_a_frame_may_carry() {
    let mut out = BytesMut::new();
    let long = Reset { reason: ResetReason::Internal, text: "ü".repeat(1000) };
    Frame::Reset(StreamId(0), long).encode(&mut out);
    let cut = Reset { reason: ResetReason::Internal, text: "ü".repeat(128) };
    assert_eq!(Frame::decode(&mut out.freeze()), Ok(Some(Frame::Reset(StreamId(0), cut))));
    assert_eq!(Reset::new(ResetReason::Internal, "a".to_owned() + &"ü".repeat(200)).text.len(), 255);
}

#[test]
fn later_fields_of_open_are_skipped() {
    let mut longer = bytes("40 04 0e  04 706c6331  03 776562  6710  aabbcc  44 04");
    let open = Frame::Open(StreamId(4), target("plc1", "web", Duration::from_secs(10)));
    assert_eq!(Frame::decode(&mut longer), Ok(Some(open)));
    assert_eq!(Frame::decode(&mut longer), Ok(Some(Frame::Fin(StreamId(4)))), "the next frame stands behind the block");
    assert_eq!(Frame::decode(&mut longer), Ok(None));
}

#[test]
fn bytes_that_no_correct_peer_sends_are_refused() {
    let too_long = |field, len, max| FrameError::TooLong { field, len, max };
    for (hex, error) in [
        ("00", FrameError::Type(0)),
        ("08 00", FrameError::Type(8)),
        ("48 00", FrameError::Type(0x48)),
        ("ff", FrameError::Type(0xff)),
        ("42 04 00", FrameError::EmptyData),
        ("42 04 80004001", too_long("DATA", 16_385, 16_384)),
        ("42 04 ffffffffffffffff", too_long("DATA", (1 << 62) - 1, 16_384)),
        ("01 6001", too_long("HELLO", 8193, 8192)),
        ("02 6001", too_long("WELCOME", 8193, 8192)),
        ("03 6001", too_long("REFUSED", 8193, 8192)),
        ("04 6001", too_long("CLOSE", 8193, 8192)),
        ("46 6001", too_long("CONTROL", 8193, 8192)),
        ("47 6001", too_long("CONTROL", 8193, 8192)),
        ("40 04 4201", too_long("OPEN", 513, 512)),
        ("45 04 00 4101", too_long("RESET", 257, 256)),
        ("45 04 00 01 ff", FrameError::Text),
        ("40 04 05 01 ff 01 61 00", FrameError::Text),
        ("40 04 05 01 41 01 61 00", FrameError::Name),      // "A"
        ("40 04 05 00 01 61 00 00", FrameError::Name),      // ""
        ("40 04 04 01 61 01 61", FrameError::Truncated),    // the block lacks its deadline
        ("40 04 05 01 61 05 61 00", FrameError::Truncated), // a name beyond its block
    ] {
        assert_eq!(Frame::decode(&mut bytes(hex)), Err(error), "{hex}");
    }
}

#[track_caller]
fn text<M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(message: &M, json: &str) {
    assert_eq!(serde_json::to_string(message).unwrap(), json);
    reads(json, message);
}

#[track_caller]
fn reads<M: DeserializeOwned + PartialEq + std::fmt::Debug>(json: &str, message: &M) {
    assert_eq!(&serde_json::from_str::<M>(json).unwrap(), message, "{json}");
}

fn hello() -> Hello {
    Hello {
        version: 1,
        agent: "linkspan-gateway/0.1.0".into(),
        name: "site12".parse().unwrap(),
        secret: Some(Secret::new("s3cret")),
        instance: "k7Qx".into(),
        yielding: false,
        window: 131_072,
        max_streams: 1024,
        capabilities: vec!["resume".into()],
        resume: Some(Resume { session: "s1".into(), received: 42, attempt: 0 }),
        resume_within_s: None,
    }
}

#[test]
fn hello_as_json() {
    text(
        &hello(),
        concat!(
            r#"{"version":1,"agent":"linkspan-gateway/0.1.0","name":"site12","secret":"s3cret","instance":"k7Qx","#,
            r#""yielding":false,"window":131072,"max_streams":1024,"capabilities":["resume"],"#,
            r#""resume":{"session":"s1","received":42}}"#,
        ),
    );
    let least = Hello { secret: None, capabilities: vec![], resume: None, ..hello() };
    reads(
        concat!(
            r#"{"version":1,"agent":"linkspan-gateway/0.1.0","name":"site12","instance":"k7Qx","#,
            r#""window":131072,"max_streams":1024}"#,
        ),
        &least,
    );
    reads(
        concat!(
            r#"{"version":1,"agent":"linkspan-gateway/0.1.0","name":"site12","instance":"k7Qx","yielding":false,"#,
            r#""window":131072,"max_streams":1024,"capabilities":[],"certificate":{"of":"a later version"}}"#,
        ),
        &least,
    );
    for bad in [
        r#"{}"#,
        r#"{"version":1}"#,
        "[]",
        "",
        r#"{"version":-1,"agent":"","name":"a","instance":"","window":1,"max_streams":1}"#,
    ] {
        assert!(serde_json::from_str::<Hello>(bad).is_err(), "{bad}");
    }
}

#[test]
fn welcome_as_json() {
    let welcome = Welcome {
        version: 1,
        agent: "linkspan-server/0.1.0".into(),
        session: "s1".into(),
        received: Some(7),
        window: 262_144,
        ping_after_s: 55,
        ping_after_max_s: None,
        resume_within_s: None,
        time: 1_790_000_000,
        utc_offset_s: 0,
        capabilities: vec![],
    };
    text(
        &welcome,
        concat!(
            r#"{"version":1,"agent":"linkspan-server/0.1.0","session":"s1","received":7,"window":262144,"#,
            r#""ping_after_s":55,"time":1790000000,"capabilities":[]}"#,
        ),
    );
    reads(
        concat!(
            r#"{"version":1,"agent":"linkspan-server/0.1.0","session":"s1","window":262144,"ping_after_s":55,"#,
            r#""time":1790000000,"motd":"of a later version"}"#,
        ),
        &Welcome { received: None, ..welcome },
    );
}

#[test]
fn refused_as_json() {
    let refused = |reason, retry_after_s| Refused { reason, text: "why".into(), retry_after_s };
    text(&refused(RefusedReason::Identity, None), r#"{"reason":"identity","text":"why"}"#);
    text(&refused(RefusedReason::Version, None), r#"{"reason":"version","text":"why"}"#);
    text(&refused(RefusedReason::InUse, None), r#"{"reason":"in-use","text":"why"}"#);
    text(&refused(RefusedReason::Busy, Some(30)), r#"{"reason":"busy","text":"why","retry_after_s":30}"#);
    text(&refused(RefusedReason::Malformed, None), r#"{"reason":"malformed","text":"why"}"#);
    reads(r#"{"reason":"moon-phase","text":"why","x":1}"#, &refused(RefusedReason::Unknown, None));
}

#[test]
fn close_as_json() {
    let close = |reason, retry_between_s| Close { reason, text: "why".into(), retry_between_s };
    text(&close(CloseReason::Stopping, None), r#"{"reason":"stopping","text":"why"}"#);
    text(
        &close(CloseReason::Restarting, Some((5, 60))),
        r#"{"reason":"restarting","text":"why","retry_between_s":[5,60]}"#,
    );
    text(&close(CloseReason::Superseded, None), r#"{"reason":"superseded","text":"why"}"#);
    text(&close(CloseReason::Revoked, None), r#"{"reason":"revoked","text":"why"}"#);
    text(&close(CloseReason::Protocol, None), r#"{"reason":"protocol","text":"why"}"#);
    reads(r#"{"reason":"moon-phase","text":"why","x":[]}"#, &close(CloseReason::Unknown, None));
    reads(
        r#"{"reason":"stopping"}"#,
        &Close { reason: CloseReason::Stopping, text: String::new(), retry_between_s: None },
    );
}

fn service(name: &str, kind: ServiceKind, port: u16, verify: Verify) -> ServiceReport {
    ServiceReport {
        name: name.parse().unwrap(),
        kind,
        host: "192.168.1.10".into(),
        port,
        verify,
        host_header: None,
        compress: false,
    }
}

#[test]
fn devices_as_json() {
    let pin = Verify::Pinned { sha256: "ab".repeat(32) };
    let ca = Verify::Ca { pem: "-----BEGIN".into(), server_name: Some("plc.local".into()) };
    let mut camera = service("web", ServiceKind::Http, 80, Verify::Off);
    camera.host_header = Some("cam".into());
    let device = |name: &str, services| DeviceReport {
        name: name.parse().unwrap(),
        description: String::new(),
        tags: vec![],
        services,
    };
    let mut plc =
        device("plc1", vec![service("web", ServiceKind::Https, 443, pin), service("x", ServiceKind::Tcp, 102, ca)]);
    plc.description = "Press 1".into();
    plc.tags = vec!["hall-a".into()];
    text(
        &GatewayToServer::Devices { devices: vec![plc, device("cam", vec![camera])] },
        &[
            r#"{"type":"devices","devices":["#,
            r#"{"name":"plc1","description":"Press 1","tags":["hall-a"],"services":["#,
            r#"{"name":"web","kind":"https","host":"192.168.1.10","port":443,"#,
            &format!(r#""verify":{{"mode":"pinned","sha256":"{}"}}}},"#, "ab".repeat(32)),
            r#"{"name":"x","kind":"tcp","host":"192.168.1.10","port":102,"#,
            r#""verify":{"mode":"ca","pem":"-----BEGIN","server_name":"plc.local"}}]},"#,
            r#"{"name":"cam","services":[{"name":"web","kind":"http","host":"192.168.1.10","port":80,"#,
            r#""verify":{"mode":"off"},"host_header":"cam"}]}]}"#,
        ]
        .concat(),
    );
    for (kind, word) in [
        (ServiceKind::Http, "http"),
        (ServiceKind::Https, "https"),
        (ServiceKind::Ssh, "ssh"),
        (ServiceKind::Vnc, "vnc"),
        (ServiceKind::Rdp, "rdp"),
        (ServiceKind::Tcp, "tcp"),
    ] {
        text(&kind, &format!("\"{word}\""));
        assert_eq!(kind.as_str(), word);
    }
    reads(r#""carrier-pigeon""#, &ServiceKind::Unknown);
    reads(r#"{"mode":"dane","usage":3}"#, &Verify::Unknown);
}

#[test]
fn what_a_later_version_adds_is_tolerated() {
    reads(r#"{"type":"weather","celsius":21,"devices":null}"#, &GatewayToServer::Unknown);
    reads(r#"{"type":"config","toml":"…"}"#, &ServerToGateway::Unknown);
    reads(
        concat!(
            r#"{"type":"devices","revision":9,"devices":[{"name":"cam","new":1,"services":["#,
            r#"{"name":"web","kind":"http","host":"h","port":80,"new":true}]}]}"#,
        ),
        &GatewayToServer::Devices {
            devices: vec![DeviceReport {
                name: "cam".parse().unwrap(),
                description: String::new(),
                tags: vec![],
                services: vec![ServiceReport {
                    host: "h".into(),
                    ..service("web", ServiceKind::Http, 80, Verify::Off)
                }],
            }],
        },
    );
    text(
        &ServerToGateway::DevicesTaken {
            refused: vec![DeviceRefused { name: "cam".parse().unwrap(), reason: "taken".into() }],
        },
        r#"{"type":"devices-taken","refused":[{"name":"cam","reason":"taken"}]}"#,
    );
    text(
        &ServerToGateway::ServerKeys { keys: vec!["sha256:ab".into()] },
        r#"{"type":"server-keys","keys":["sha256:ab"]}"#,
    );
}

#[test]
fn enrolment_in_json() {
    let request = EnrolRequest {
        code: Some(Secret::new("K7QM-3XTD-9VWP-4RHC")),
        public_key: "BA==".into(),
        proof: "MA==".into(),
        name: None,
        agent: "linkspan-gateway/1".into(),
    };
    text(&request, r#"{"code":"K7QM-3XTD-9VWP-4RHC","public_key":"BA==","proof":"MA==","agent":"linkspan-gateway/1"}"#);
    assert_eq!(request.occasion(), "K7QM-3XTD-9VWP-4RHC");
    let renewal = EnrolRequest { code: None, name: Some("site12".parse().unwrap()), ..request };
    assert_eq!(statement(renewal.occasion(), &[4, 5]), b"linkspan certificate request 1\nsite12\n\x04\x05");
}

#[test]
fn the_example_in_the_document_is_true() {
    let document = include_str!("../../docs/protocol.md");
    let example = document.split("```hexdump\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    // The bytes stand in the first 38 columns, the explanation behind them.
    let hex: String = example.lines().map(|line| line.get(..38).unwrap_or(line)).collect();
    let mut message = bytes(&hex);
    let frames: Vec<_> = std::iter::from_fn(|| Frame::decode(&mut message).unwrap()).collect();
    let request = Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n");
    let plc1 = target("plc1", "web", Duration::from_secs(10));
    let four = StreamId(4);
    assert_eq!(frames, [Frame::Open(four, plc1), Frame::Data(four, request), Frame::Fin(four)]);
}
