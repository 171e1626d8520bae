//! What a hostile peer may send: it is refused or ignored, and never makes either end panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the clock of a test begins at some time")]

mod pair;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use linkspan_protocol::frame::{Frame, FrameError, Reset, ResetReason, StreamId};
use linkspan_protocol::limits::{CONTROL_CHUNK_MAX, DATA_MAX, MESSAGE_MAX, PING_AFTER, WINDOW_MAX};
use linkspan_protocol::mux::{Read, Role, Settings, Violation};
use linkspan_protocol::session::{Session, SessionError};

use crate::pair::{GATEWAY, Offer, Pair, Random, SERVER, target};

fn session(role: Role, now: Instant) -> Session {
    let settings =
        Settings { receive_window: 16 * 1024, send_window: 16 * 1024, max_streams: 8, ..Settings::default() };
    Session::new(role, settings, PING_AFTER, now)
}

fn message(frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out.freeze()
}

fn data(id: u64, len: usize) -> Frame {
    Frame::Data(StreamId(id), Bytes::from(vec![0; len]))
}

fn open(id: u64) -> Frame {
    Frame::Open(StreamId(id), target())
}

/// What a session with stream 0 open makes of some frames.
fn told(role: Role, frames: &[Frame]) -> Result<(), SessionError> {
    let now = Instant::now();
    let mut session = session(role, now);
    match role {
        Role::Server => assert_eq!(session.mux.open(target()), Ok(StreamId(0))),
        Role::Gateway => session.handle_message(message(&[open(0)]), now)?,
    }
    session.handle_message(message(frames), now)
}

#[test]
fn each_broken_rule_ends_the_link() {
    use Role::{Gateway, Server};
    let zero = StreamId(0);
    let reset = Frame::Reset(StreamId(2), Reset::new(ResetReason::Cancelled, ""));
    for (role, frames, violation) in [
        (Gateway, vec![open(0)], Violation::StreamNumber(zero)),
        (Gateway, vec![open(3)], Violation::StreamNumber(StreamId(3))),
        (Gateway, vec![open(6), open(4)], Violation::StreamNumber(StreamId(4))),
        (Server, vec![open(1)], Violation::OpenNotTaken),
        (Server, vec![open(0)], Violation::OpenNotTaken),
        (Gateway, vec![data(2, 1)], Violation::NeverOpened(StreamId(2))),
        (Server, vec![data(2, 1)], Violation::NeverOpened(StreamId(2))),
        (Gateway, vec![data(1, 1)], Violation::NeverOpened(StreamId(1))),
        (Server, vec![data((1 << 62) - 1, 1)], Violation::NeverOpened(StreamId((1 << 62) - 1))),
        (Gateway, vec![Frame::Fin(StreamId(2))], Violation::NeverOpened(StreamId(2))),
        (Server, vec![Frame::Opened(StreamId(2))], Violation::NeverOpened(StreamId(2))),
        (Server, vec![Frame::Window(StreamId(2), 1)], Violation::NeverOpened(StreamId(2))),
        (Server, vec![reset], Violation::NeverOpened(StreamId(2))),
        (Gateway, vec![data(0, DATA_MAX), data(0, 1)], Violation::Credit(zero)),
        (Server, vec![data(0, DATA_MAX), data(0, 1)], Violation::Credit(zero)),
        (Gateway, vec![Frame::Fin(zero), data(0, 1)], Violation::AfterEnd(zero)),
        (Server, vec![Frame::Fin(zero), Frame::Fin(zero)], Violation::AfterEnd(zero)),
        (Server, vec![Frame::Window(zero, u64::from(WINDOW_MAX))], Violation::Window(zero)),
        (Gateway, vec![Frame::Window(zero, (1 << 62) - 1)], Violation::Window(zero)),
        (Gateway, vec![Frame::Window(zero, 1), Frame::Window(zero, (1 << 62) - 1)], Violation::Window(zero)),
    ] {
        assert_eq!(told(role, &frames), Err(SessionError::Violation(violation)), "{role:?} {frames:?}");
    }
    let json = Bytes::from_static(b"{}");
    for frame in [Frame::Hello(json.clone()), Frame::Welcome(json.clone()), Frame::Refused(json)] {
        assert_eq!(told(Server, std::slice::from_ref(&frame)), Err(SessionError::Handshake));
        assert_eq!(told(Gateway, &[frame]), Err(SessionError::Handshake));
    }
    assert_eq!(told(Gateway, &[Frame::Ack(1)]), Err(SessionError::Ack { acked: 1, sent: 0 }));
    let now = Instant::now();
    let long = session(Server, now).handle_message(Bytes::from(vec![5; MESSAGE_MAX + 1]), now);
    assert_eq!(long, Err(SessionError::MessageTooLong(MESSAGE_MAX + 1)));
}

#[test]
fn credit_that_was_given_back_may_be_used_once() {
    let now = Instant::now();
    let mut gateway = session(Role::Gateway, now);
    gateway.handle_message(message(&[open(0), data(0, DATA_MAX)]), now).unwrap();
    while let Ok(Read::Data(_)) = gateway.mux.read(StreamId(0), 1000, Instant::now()) {}
    let mut answer = gateway.poll_transmit(now).unwrap();
    let mut given = 0;
    while let Some(frame) = Frame::decode(&mut answer).unwrap() {
        if let Frame::Window(StreamId(0), more) = frame {
            given += more;
        }
    }
    assert!(given >= 8 * 1024, "{given} bytes were given back");
    gateway.handle_message(message(&[data(0, given.try_into().unwrap())]), now).unwrap();
    let over = gateway.handle_message(message(&[data(0, 1)]), now);
    assert_eq!(over, Err(SessionError::Violation(Violation::Credit(StreamId(0)))));
}

#[test]
fn credit_is_not_given_for_ever_to_an_end_that_does_not_read() {
    let now = Instant::now();
    for let_go in [false, true] {
        let mut gateway = session(Role::Gateway, now);
        gateway.handle_message(message(&[open(0)]), now).unwrap();
        gateway.mux.finish(StreamId(0));
        if let_go {
            gateway.mux.release(StreamId(0), Instant::now());
        }
        let flooded = (0..100_000).find_map(|_| {
            let told = gateway.handle_message(message(&[data(0, 8 * 1024)]), now).err();
            while let Ok(Read::Data(_)) = gateway.mux.read(StreamId(0), DATA_MAX, Instant::now()) {}
            told
        });
        assert_eq!(flooded, Some(SessionError::Violation(Violation::Credit(StreamId(0)))));
    }
}

#[test]
fn what_merely_crosses_or_is_useless_is_ignored() {
    let zero = StreamId(0);
    for role in [Role::Server, Role::Gateway] {
        let reset = Frame::Reset(zero, Reset::new(ResetReason::Unknown(99), "?"));
        let after = [data(0, 100), Frame::Window(zero, 5), Frame::Fin(zero), Frame::Fin(zero), Frame::Opened(zero)];
        told(role, &[&[reset.clone(), reset][..], &after].concat()).unwrap();
        told(role, &[Frame::Window(zero, 0), Frame::Ack(0), Frame::Pong(77), Frame::Opened(zero)]).unwrap();
        told(role, &[Frame::Close(Bytes::from_static(b"\xff not JSON")), Frame::Ping(1)]).unwrap();
        told(role, &[]).unwrap();
    }
}

#[test]
fn pings_are_answered_once_a_message_however_many_come() {
    let now = Instant::now();
    let mut session = session(Role::Server, now);
    let flood: Vec<_> = (0..10_000).map(Frame::Ping).collect();
    session.handle_message(message(&flood), now).unwrap();
    assert_eq!(session.poll_transmit(now), Some(message(&[Frame::Pong(9999)])));
    assert_eq!(session.poll_transmit(now), None);
}

#[test]
fn floods_end_the_link_before_they_fill_it() {
    let now = Instant::now();
    // Streams beyond the limit, from an end that does not read the answers.
    let mut gateway = session(Role::Gateway, now);
    let flooded = (0..10_000).map(|n| gateway.handle_message(message(&[open(2 * n)]), now)).find(Result::is_err);
    assert_eq!(flooded, Some(Err(SessionError::Violation(Violation::Flood))));
    assert_eq!(gateway.mux.open_streams(), 8);

    for (piece, last) in [(0, true), (1, true), (CONTROL_CHUNK_MAX, true), (CONTROL_CHUNK_MAX, false)] {
        let mut server = session(Role::Server, now);
        let part = message(&[Frame::Control { last, piece: Bytes::from(vec![b'1'; piece]) }]);
        let flooded = (0..10_000).map(|_| server.handle_message(part.clone(), now)).find(Result::is_err);
        assert!(matches!(flooded, Some(Err(SessionError::Control(_)))), "pieces of {piece} bytes, {flooded:?}");
    }
}

fn random_bytes(random: &mut Random, max: usize) -> Vec<u8> {
    (0..random.below(max)).map(|_| random.next() as u8).collect()
}

#[test]
fn random_bytes_are_frames_or_errors() {
    let mut random = Random(1);
    for _ in 0..100_000 {
        let mut bytes = random_bytes(&mut random, 64);
        // Every second one begins like a frame.
        if let Some(first) = bytes.first_mut()
            && random.one_in(2)
        {
            *first = [1, 4, 5, 7, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47][random.below(12)];
        }
        let mut rest = Bytes::from(bytes);
        let before = rest.len();
        while let Ok(Some(frame)) = Frame::decode(&mut rest) {
            let mut again = BytesMut::new();
            frame.encode(&mut again);
            assert_eq!(Frame::decode(&mut again.freeze()), Ok(Some(frame)), "what was understood can be said");
        }
        assert!(rest.len() <= before);
    }
}

fn random_number(random: &mut Random) -> u64 {
    let edges = [0, 1, 2, 63, 64, 16_383, 16_384, u64::from(WINDOW_MAX), 1 << 30, (1 << 62) - 1, u64::MAX];
    if random.one_in(3) { edges[random.below(edges.len())] } else { random.next() % 40 }
}

fn random_frame(random: &mut Random) -> Frame {
    let id = StreamId(if random.one_in(20) { random_number(random) } else { random.next() % 24 });
    let number = random_number(random);
    match random.below(30) {
        0 => Frame::Ping(number),
        1 => Frame::Pong(number % 3),
        2 => Frame::Ack(number % 5),
        3..=8 => Frame::Open(id, target()),
        9 | 10 => Frame::Opened(id),
        11..=18 => Frame::Data(id, Bytes::from(vec![1; 1 + random.below(3000)])),
        19..=21 => Frame::Window(id, number),
        22 | 23 => Frame::Fin(id),
        24 | 25 => Frame::Reset(id, Reset::new(ResetReason::from_code(number), "text")),
        26 | 27 => Frame::Control { last: random.one_in(2), piece: Bytes::from(random_bytes(random, 100)) },
        28 => Frame::Close(Bytes::from(random_bytes(random, 30))),
        _ if random.one_in(10) => Frame::Hello(Bytes::new()),
        _ => Frame::Fin(id),
    }
}

/// Uses the session as its owner would, whatever has come.
fn use_it(session: &mut Session, random: &mut Random, now: Instant) {
    for _ in 0..3 {
        let id = StreamId(random.next() % 24);
        let mux = &mut session.mux;
        match random.below(10) {
            0 => drop(mux.open(target())),
            1 => mux.confirm(id),
            2 => drop(mux.write(id, &vec![2; random.below(30_000)], now)),
            3 => mux.finish(id),
            4 => mux.reset(id, Reset::new(ResetReason::Idle, "")),
            5 => mux.release(id, now),
            6 => drop(mux.is_opened(id)),
            _ => while let Ok(Read::Data(_)) = mux.read(id, 1 + random.below(5000), now) {},
        }
    }
    while session.mux.poll_event().is_some() {}
    while session.poll_control().is_some() {}
    let _ = session.handle_timeout(now);
    if random.one_in(3) {
        while let Some(message) = session.poll_transmit(now) {
            assert!(message.len() <= MESSAGE_MAX);
        }
    }
    assert!(session.mux.open_streams() <= 8);
    assert!(session.poll_timeout() >= now - Duration::from_secs(3600));
}

#[test]
fn hostile_frames_in_any_order_never_panic() {
    let mut random = Random(2);
    let mut ended = 0;
    for round in 0..3000 {
        let mut now = Instant::now();
        let mut session = session([Role::Server, Role::Gateway][round % 2], now);
        for _ in 0..100 {
            now += Duration::from_millis(random.next() % 2000);
            let frames: Vec<_> = (0..random.below(4)).map(|_| random_frame(&mut random)).collect();
            if session.handle_message(message(&frames), now).is_err() {
                ended += 1;
                session.end("broken");
                use_it(&mut session, &mut random, now);
                break;
            }
            use_it(&mut session, &mut random, now);
        }
    }
    assert!(ended > 1000, "rules were broken: {ended}");
}

/// Some honest traffic of both ends, as messages.
fn recording() -> [Vec<Bytes>; 2] {
    let mut pair = Pair::new(Offer { max_streams: 8, ..Offer::default() });
    let mut recorded = [Vec::new(), Vec::new()];
    for round in 0..20_usize {
        let id = pair.ends[SERVER].mux.open(target()).unwrap();
        pair.write(SERVER, id, &vec![5; 1000 * round + 1]);
        pair.ends[SERVER].mux.finish(id);
        pair.ends[SERVER].send_control(&Bytes::from(vec![b'7'; 500 * round])).unwrap();
        for _ in 0..3 {
            for end in [SERVER, GATEWAY] {
                while let Some(message) = pair.ends[end].poll_transmit(pair.now) {
                    recorded[end].push(message.clone());
                    pair.ends[1 - end].handle_message(message, pair.now).unwrap();
                }
            }
            if pair.ends[GATEWAY].mux.is_opened(id) == Ok(false) {
                pair.ends[GATEWAY].mux.confirm(id);
                pair.read(GATEWAY, id);
                pair.write(GATEWAY, id, &vec![6; 900 * round + 1]);
                pair.ends[GATEWAY].mux.finish(id);
                pair.ends[GATEWAY].mux.release(id, pair.now);
            }
        }
        pair.read(SERVER, id);
        pair.ends[SERVER].mux.release(id, pair.now);
        pair.now += Duration::from_secs(1);
    }
    recorded
}

/// Flips bits, cuts, joins, doubles, drops and swaps messages.
fn spoil(messages: &[Bytes], random: &mut Random) -> Vec<Bytes> {
    let mut spoilt: Vec<Vec<u8>> = messages.iter().map(|message| message.to_vec()).collect();
    for _ in 0..1 + random.below(4) {
        let at = random.below(spoilt.len());
        match random.below(6) {
            0 | 1 if !spoilt[at].is_empty() => {
                let len = spoilt[at].len();
                spoilt[at][random.below(len)] ^= 1 << random.below(8);
            }
            2 => {
                let len = random.below(spoilt[at].len() + 1);
                spoilt[at].truncate(len);
            }
            3 => {
                let other = spoilt[random.below(messages.len().min(spoilt.len()))].clone();
                spoilt[at].extend(other);
            }
            4 => spoilt.insert(at, spoilt[random.below(at + 1)].clone()),
            _ if spoilt.len() > 1 => drop(spoilt.remove(at)),
            _ => {}
        }
    }
    spoilt.into_iter().map(Bytes::from).collect()
}

#[test]
fn spoilt_honest_traffic_never_panics() {
    let recorded = recording();
    let mut random = Random(3);
    let mut errors = 0;
    for round in 0..4000 {
        let now = Instant::now();
        let role = [Role::Gateway, Role::Server][round % 2];
        let mut session = session(role, now);
        for message in spoil(&recorded[round % 2], &mut random) {
            if role == Role::Server {
                let _ = session.mux.open(target());
            }
            if session.handle_message(message, now).is_err() {
                errors += 1;
                session.end("broken");
                use_it(&mut session, &mut random, now);
                break;
            }
            use_it(&mut session, &mut random, now);
        }
    }
    assert!(errors > 1000, "{errors} were noticed");
}

#[test]
fn a_length_that_lies_is_refused_without_reading_on() {
    let mut lie = Bytes::from_static(&[0x42, 0x00, 0xbf, 0xff, 0xff, 0xff]);
    assert!(matches!(Frame::decode(&mut lie), Err(FrameError::TooLong { field: "DATA", .. })));
}
