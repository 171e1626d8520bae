//! A session that outlives its link: what it keeps, how it goes on, and what it refuses to go on with.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the clock of a test begins at some time")]

mod pair;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use linkspan_protocol::frame::{Frame, Reset, ResetReason, StreamId};
use linkspan_protocol::limits::{ACK_BYTES, ACK_DELAY, MESSAGE_MAX, SEND_QUEUE_MAX};
use linkspan_protocol::message::{Close, CloseReason};
use linkspan_protocol::mux::{Memory, OpenError, Read};
use linkspan_protocol::session::ResumeError;

use crate::pair::{GATEWAY, Offer, Pair, SERVER, target};

const SOON: Duration = Duration::from_millis(200);

fn offer() -> Offer {
    Offer { resumable: true, ..Offer::default() }
}

#[test]
fn what_was_on_its_way_is_sent_again_and_what_came_is_not() {
    let mut pair = Pair::new(offer());
    let id = pair.open();
    pair.write(SERVER, id, b"one ");
    pair.advance(Duration::from_millis(5)).unwrap();
    pair.write(SERVER, id, b"two ");
    pair.advance(Duration::from_millis(5)).unwrap();
    pair.write(SERVER, id, b"three");
    pair.turn().unwrap();
    assert_eq!(pair.wires[SERVER].queue.len(), 3);
    // The first arrives, but its acknowledgement never does.
    pair.cut([1, 0]);
    pair.write(SERVER, id, b" four");
    pair.ends[SERVER].mux.finish(id);
    pair.advance(Duration::from_secs(60)).unwrap();
    pair.rejoin();
    pair.advance(SOON).unwrap();
    assert_eq!(pair.read(GATEWAY, id), (b"one two three four".to_vec(), true));
}

#[test]
fn a_welcome_that_is_lost_changes_nothing() {
    let mut pair = Pair::new(offer());
    let id = pair.open();
    for round in 0..20_u8 {
        pair.write(SERVER, id, &[round; 1000]);
        pair.write(GATEWAY, id, &[round; 1000]);
        pair.turn().unwrap();
        pair.cut([usize::from(round % 2), usize::from(round % 3 / 2)]);
        pair.hear_hello().unwrap();
        pair.transmit(SERVER);
        pair.cut([0, 0]);
        if round % 4 == 0 {
            pair.rejoin();
        }
    }
    pair.rejoin();
    pair.advance(Duration::from_secs(1)).unwrap();
    let expected: Vec<u8> = (0..20).flat_map(|round| [round; 1000]).collect();
    assert_eq!(pair.read(GATEWAY, id).0, expected);
    assert_eq!(pair.read(SERVER, id).0, expected);
}

#[test]
fn a_control_message_cut_by_the_loss_goes_on_with_its_next_piece() {
    let mut pair = Pair::new(offer());
    let text = Bytes::from((0..200_000_u32).map(|n| n as u8).collect::<Vec<_>>());
    pair.ends[GATEWAY].send_control(&text).unwrap();
    for cut in [1, 0, 3, 2] {
        pair.turn().unwrap();
        pair.cut([0, cut]);
        pair.rejoin();
    }
    pair.advance(Duration::from_secs(2)).unwrap();
    assert_eq!(pair.ends[SERVER].poll_control(), Some(text));
}

#[test]
fn counts_that_cannot_be_are_refused_and_change_nothing() {
    let mut pair = Pair::new(offer());
    let id = pair.open();
    pair.write(SERVER, id, b"hello");
    pair.advance(ACK_DELAY + SOON).unwrap();
    let (sent, acked) = pair.ends[SERVER].sent();
    assert_eq!((sent, acked), (2, 2));
    pair.write(SERVER, id, b"lost");
    pair.turn().unwrap();
    pair.cut([0, 0]);
    let now = pair.now;
    let server = &mut pair.ends[SERVER];
    assert_eq!(server.resume(4, now), Err(ResumeError::Ahead { received: 4, sent: 3 }));
    assert_eq!(server.resume(u64::MAX, now), Err(ResumeError::Ahead { received: u64::MAX, sent: 3 }));
    assert_eq!(server.resume(1, now), Err(ResumeError::Behind { received: 1, acked: 2 }));
    pair.rejoin();
    pair.advance(SOON).unwrap();
    assert_eq!(pair.read(GATEWAY, id), (b"hellolost".to_vec(), false));
    // An old count is one that went back.
    pair.advance(ACK_DELAY + SOON).unwrap();
    let now = pair.now;
    assert_eq!(pair.ends[SERVER].resume(2, now), Err(ResumeError::Behind { received: 2, acked: 3 }));
}

#[test]
fn a_session_that_was_not_kept_or_has_closed_does_not_go_on() {
    let mut pair = Pair::new(Offer::default());
    let now = pair.now;
    assert_eq!(pair.ends[SERVER].resume(0, now), Err(ResumeError::NotKept));
    let mut pair = Pair::new(offer());
    pair.ends[SERVER].close(&Close { reason: CloseReason::Stopping, text: String::new(), retry_between_s: None });
    pair.advance(SOON).unwrap();
    let now = pair.now;
    assert_eq!(pair.ends[SERVER].resume(0, now), Err(ResumeError::NotKept), "it said goodbye");
    assert_eq!(pair.ends[GATEWAY].resume(0, now), Err(ResumeError::NotKept), "it heard goodbye");
    let mut pair = Pair::new(offer());
    pair.ends[SERVER].end("given up");
    let now = pair.now;
    assert_eq!(pair.ends[SERVER].resume(0, now), Err(ResumeError::NotKept));
}

#[test]
fn a_stream_that_nobody_heard_of_can_be_given_up_while_others_wait() {
    let mut pair = Pair::new(offer());
    let old = pair.open();
    pair.cut([0, 0]);
    let new = pair.ends[SERVER].mux.open(target()).unwrap();
    pair.write(SERVER, new, b"GET /");
    pair.write(SERVER, old, b"wait");
    let lost = Reset::new(ResetReason::LinkLost, "offline");
    pair.ends[SERVER].mux.end_unsent(&lost);
    assert_eq!(pair.ends[SERVER].mux.is_opened(new), Err(lost.clone()));
    assert_eq!(pair.ends[SERVER].mux.read(new, 1, pair.now), Err(lost));
    pair.ends[SERVER].mux.release(new, pair.now);
    let newest = pair.ends[SERVER].mux.open(target()).unwrap();
    pair.rejoin();
    pair.advance(SOON).unwrap();
    assert_eq!(pair.read(GATEWAY, old), (b"wait".to_vec(), false));
    assert!(pair.events(GATEWAY).iter().any(|event| format!("{event:?}").contains(&format!("StreamId({})", newest.0))));
    assert_eq!(pair.ends[GATEWAY].mux.open_streams(), 2);
}

#[test]
fn a_sender_never_waits_for_a_late_acknowledgement() {
    // The smallest ceiling there is, and a receiver that has nothing to say itself.
    let mut pair = Pair::new(Offer { memory: 0, gateway_window: 16 << 20, ..offer() });
    let id = pair.open();
    let begun = pair.now;
    let mut written = 0;
    while written < 4 << 20 {
        written += pair.write(SERVER, id, &[1; SEND_QUEUE_MAX]);
        pair.advance(Duration::from_millis(1)).unwrap();
        pair.read(GATEWAY, id);
    }
    let took = pair.now - begun;
    assert!(took < Duration::from_secs(3), "4 MiB took {took:?}");
    let acks = pair.wires[GATEWAY].log.iter().filter(|frame| matches!(frame, Frame::Ack(_))).count();
    assert!(acks <= (4 << 20) / ACK_BYTES + 50, "{acks} acknowledgements");
}

fn message(frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    out.freeze()
}

#[test]
fn an_end_that_acknowledges_nothing_gets_no_more_than_may_be_kept() {
    let memory = Memory::of(1_000_000);
    let max_streams = memory.streams(1024);
    assert!(max_streams >= 28);
    let mut pair = Pair::new(Offer { memory: 1_000_000, max_streams, ..offer() });
    let now = pair.now;
    let bulk = pair.ends[SERVER].mux.open(target()).unwrap();
    let mut most = 0;
    for _ in 0..10_000 {
        let _ = pair.ends[SERVER].mux.write(bulk, &[1; SEND_QUEUE_MAX], now).unwrap();
        let small = pair.ends[SERVER].mux.open(target());
        if let Ok(small) = small {
            pair.ends[SERVER].mux.write(small, &[1; 100], now).unwrap();
            pair.ends[SERVER].mux.finish(small);
            pair.ends[SERVER].mux.release(small, pair.now);
        } else {
            assert_eq!(small, Err(OpenError::StreamLimit { limit: max_streams }));
        }
        // It asks for more all the time, and says not once what came.
        let more = message(&[Frame::Window(bulk, 64 * 1024), Frame::Fin(StreamId(2))]);
        let _ = pair.ends[SERVER].handle_message(more, now);
        while let Some(sent) = pair.ends[SERVER].poll_transmit(now) {
            assert!(sent.len() <= MESSAGE_MAX);
        }
        most = most.max(pair.ends[SERVER].held());
    }
    let bound = memory.unacknowledged + memory.queued;
    assert!(most <= bound, "{most} bytes held, {bound} are allowed");
    assert_eq!(pair.ends[SERVER].mux.read(bulk, 1, pair.now), Ok(Read::Wait), "the session lives");
}
