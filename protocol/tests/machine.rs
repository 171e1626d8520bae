//! Two sessions over a wire that delays, stops and breaks: what each promises the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the clock of a test begins at some time")]

mod pair;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use linkspan_protocol::frame::{Frame, Reset, ResetReason, StreamId, Target};
use linkspan_protocol::limits::{
    ACK_DELAY, ACK_FRAMES, CONTROL_MAX, CONTROL_QUEUE_MAX, MESSAGE_MAX, PING_AFTER, PING_AFTER_BUSY,
    PING_AFTER_BUSY_SERVER, PING_DEADLINE, SEND_QUEUE_MAX, SUSPECT_AFTER,
};
use linkspan_protocol::message::{Close, CloseReason};
use linkspan_protocol::mux::{Event, OpenError, Read};
use linkspan_protocol::session::{ControlError, SessionError};

use crate::pair::{GATEWAY, Offer, Pair, SERVER, target};

const ONE_WAY: Duration = Duration::from_millis(20);
const SOON: Duration = Duration::from_millis(200);

fn pings(log: &[Frame]) -> usize {
    log.iter().filter(|frame| matches!(frame, Frame::Ping(_))).count()
}

#[test]
fn data_behind_open_costs_no_round_trip() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.ends[SERVER].mux.open(target()).unwrap();
    pair.write(SERVER, id, b"GET / HTTP/1.1\r\n\r\n");
    pair.ends[SERVER].mux.finish(id);
    pair.advance(ONE_WAY).unwrap();
    assert_eq!(pair.wires[SERVER].messages, 1, "OPEN, DATA and FIN share one message");
    assert_eq!(pair.events(GATEWAY)[0], Event::Incoming(id, target()));
    assert_eq!(pair.read(GATEWAY, id), (b"GET / HTTP/1.1\r\n\r\n".to_vec(), true));
}

#[test]
fn one_direction_ends_and_the_other_goes_on() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    pair.ends[GATEWAY].mux.confirm(id);
    pair.write(SERVER, id, b"question");
    pair.ends[SERVER].mux.finish(id);
    pair.advance(SOON).unwrap();
    assert_eq!(pair.ends[SERVER].mux.is_opened(id), Ok(true));
    assert_eq!(pair.read(GATEWAY, id), (b"question".to_vec(), true));
    assert!(pair.ends[SERVER].mux.write(id, b"more", pair.now).is_err(), "nothing is written after the end");
    for _ in 0..3 {
        pair.write(GATEWAY, id, b"answer ");
        pair.advance(SOON).unwrap();
        assert_eq!(pair.read(SERVER, id), (b"answer ".to_vec(), false));
    }
    pair.ends[GATEWAY].mux.finish(id);
    pair.ends[GATEWAY].mux.release(id, pair.now);
    pair.advance(SOON).unwrap();
    assert_eq!(pair.read(SERVER, id), (vec![], true));
    pair.ends[SERVER].mux.release(id, pair.now);
    assert_eq!([pair.ends[0].mux.open_streams(), pair.ends[1].mux.open_streams()], [0, 0]);
}

#[test]
fn a_stream_that_was_finished_and_let_go_still_sends_all() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    pair.ends[SERVER].mux.finish(id);
    pair.advance(SOON).unwrap();
    let text = vec![7; SEND_QUEUE_MAX];
    assert_eq!(pair.write(GATEWAY, id, &text), text.len());
    pair.ends[GATEWAY].mux.finish(id);
    pair.ends[GATEWAY].mux.release(id, pair.now);
    pair.advance(SOON).unwrap();
    assert_eq!(pair.read(SERVER, id), (text, true));
    assert_eq!(pair.ends[GATEWAY].mux.open_streams(), 0);
}

#[test]
fn an_early_answer_is_not_overtaken_by_the_reset_behind_it() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    pair.write(SERVER, id, &[1; SEND_QUEUE_MAX]);
    pair.advance(SOON).unwrap();
    let answer = vec![7; SEND_QUEUE_MAX];
    assert_eq!(pair.write(GATEWAY, id, &answer), answer.len());
    pair.ends[GATEWAY].mux.finish(id);
    pair.ends[GATEWAY].mux.release(id, pair.now);
    pair.advance(SOON).unwrap();
    assert_eq!(pair.ends[GATEWAY].mux.open_streams(), 0);
    assert_eq!(pair.read(SERVER, id), (answer, true));
    let cancelled = pair.ends[SERVER].mux.write(id, b"the rest of the upload", pair.now).unwrap_err();
    assert_eq!(cancelled.reason, ResetReason::Cancelled);
    pair.ends[SERVER].mux.release(id, pair.now);
    assert_eq!(pair.ends[SERVER].mux.open_streams(), 0);
}

#[test]
fn two_ends_that_finish_and_let_go_do_not_wait_for_each_other() {
    let mut pair =
        Pair::new(Offer { server_window: 16 * 1024, gateway_window: 16 * 1024, max_streams: 10, ..Offer::default() });
    let id = pair.open();
    for end in [SERVER, GATEWAY] {
        assert_eq!(pair.write(end, id, &[1; SEND_QUEUE_MAX]), SEND_QUEUE_MAX);
    }
    pair.advance(SOON).unwrap();
    for end in [SERVER, GATEWAY] {
        pair.ends[end].mux.finish(id);
        pair.ends[end].mux.release(id, pair.now);
    }
    pair.advance(Duration::from_secs(2)).unwrap();
    assert_eq!([pair.ends[0].mux.open_streams(), pair.ends[1].mux.open_streams()], [0, 0]);
}

#[test]
fn the_end_needs_no_credit_but_waits_for_the_data_before_it() {
    let mut pair = Pair::new(Offer { gateway_window: 16 * 1024, ..Offer::default() });
    let id = pair.open();
    pair.write(SERVER, id, &[1; 16 * 1024]);
    pair.ends[SERVER].mux.finish(id);
    let other = pair.open();
    pair.write(SERVER, other, &[1; 16 * 1024 + 1]);
    pair.ends[SERVER].mux.finish(other);
    pair.advance(SOON).unwrap();
    assert!(pair.wires[SERVER].log.contains(&Frame::Fin(id)), "all credit is used, FIN goes all the same");
    assert!(!pair.wires[SERVER].log.contains(&Frame::Fin(other)), "a byte still waits for credit");
    assert_eq!(pair.read(GATEWAY, other).0.len(), 16 * 1024);
    pair.advance(SOON).unwrap();
    assert_eq!(pair.read(GATEWAY, other), (vec![1], true));
}

#[test]
fn a_reset_reaches_the_other_end_with_its_reason_behind_what_came_before() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    pair.write(GATEWAY, id, b"last words");
    pair.advance(SOON).unwrap();
    let reset = Reset::new(ResetReason::DeviceReset, "RST from the device");
    pair.ends[GATEWAY].mux.reset(id, reset.clone());
    pair.advance(SOON).unwrap();
    assert_eq!(pair.ends[SERVER].mux.is_opened(id), Err(reset.clone()));
    let last_words = Read::Data(Bytes::from_static(b"last words"));
    assert_eq!(pair.ends[SERVER].mux.read(id, 100, pair.now), Ok(last_words));
    assert_eq!(pair.ends[SERVER].mux.read(id, 100, pair.now), Err(reset.clone()));
    assert_eq!(pair.ends[SERVER].mux.write(id, b"x", pair.now), Err(reset));
    let events = pair.events(SERVER);
    assert!(events.contains(&Event::Readable(id)) && events.contains(&Event::Writable(id)));
    for end in [SERVER, GATEWAY] {
        pair.ends[end].mux.release(id, pair.now);
        assert_eq!(pair.ends[end].mux.open_streams(), 0);
    }
    pair.advance(SOON).unwrap();
    let resets = |end: usize| pair.wires[end].log.iter().filter(|frame| matches!(frame, Frame::Reset(..))).count();
    assert_eq!((resets(GATEWAY), resets(SERVER)), (1, 0), "a reset is not answered");
}

#[test]
fn frames_that_cross_a_reset_are_ignored() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    pair.ends[SERVER].mux.release(id, pair.now);
    pair.ends[GATEWAY].mux.confirm(id);
    pair.write(GATEWAY, id, &[3; 50_000]);
    pair.ends[GATEWAY].mux.finish(id);
    pair.advance(SOON).unwrap();
    assert_eq!(pair.ends[SERVER].mux.open_streams(), 0);
    assert_eq!(pair.ends[GATEWAY].mux.is_opened(id), Ok(true));
    let cancelled = pair.ends[GATEWAY].mux.write(id, b"x", pair.now).unwrap_err();
    assert_eq!(cancelled.reason, ResetReason::Cancelled);
}

#[test]
fn a_reader_that_stalls_stops_its_own_stream_only() {
    let mut pair = Pair::new(Offer { gateway_window: 64 * 1024, ..Offer::default() });
    let (stalled, lively) = (pair.open(), pair.open());
    let mut written = 0;
    for _ in 0..100 {
        written += pair.write(SERVER, stalled, &[1; 16 * 1024]);
        pair.advance(SOON).unwrap();
    }
    assert_eq!(written, 64 * 1024 + SEND_QUEUE_MAX, "the window, and what waits to be sent");
    pair.events(SERVER);
    for round in 0..50_u8 {
        pair.write(SERVER, lively, &[round; 30_000]);
        pair.advance(2 * ONE_WAY).unwrap();
        assert_eq!(pair.read(GATEWAY, lively).0, [round; 30_000]);
    }
    assert!(!pair.events(SERVER).contains(&Event::Writable(stalled)));
    assert_eq!(pair.read(GATEWAY, stalled).0.len(), 64 * 1024);
    pair.advance(SOON).unwrap();
    assert!(pair.events(SERVER).contains(&Event::Writable(stalled)), "its writer is called when there is room");
}

/// Keeps streams' queues full, as a file's copy loop does.
fn top_up(pair: &mut Pair, bulk: &[StreamId]) {
    for id in bulk {
        while pair.write(SERVER, *id, &[0; 16 * 1024]) > 0 {}
    }
}

#[test]
fn a_keystroke_beside_bulk_waits_for_one_message_at_most() {
    let mut pair = Pair::new(Offer::default());
    pair.wires[SERVER].depth = 1;
    let bulk: Vec<_> = (0..20).map(|_| pair.open()).collect();
    let shell = pair.open();
    // A slow link: a message takes 300 ms, so that no bulk stream sends much in any short span.
    pair.wires[SERVER].latency = Duration::from_millis(300);
    for round in 0..60 {
        top_up(&mut pair, &bulk);
        pair.advance(Duration::from_millis(150)).unwrap();
        top_up(&mut pair, &bulk);
        let before = pair.wires[SERVER].messages;
        pair.write(SERVER, shell, b"x");
        while !pair.wires[SERVER].log.iter().any(|frame| matches!(frame, Frame::Data(id, _) if *id == shell)) {
            top_up(&mut pair, &bulk);
            pair.advance(Duration::from_millis(10)).unwrap();
        }
        assert!(pair.wires[SERVER].messages <= before + 1 || round == 0, "round {round}: it rode in the next message");
        pair.wires[SERVER].log.clear();
        for id in &bulk {
            pair.read(GATEWAY, *id);
        }
    }
}

#[test]
fn bulk_streams_take_fair_turns() {
    let mut pair = Pair::new(Offer::default());
    pair.wires[SERVER].depth = 1;
    let bulk: Vec<_> = (0..7).map(|_| pair.open()).collect();
    let mut moved: HashMap<StreamId, usize> = HashMap::new();
    for _ in 0..500 {
        top_up(&mut pair, &bulk);
        pair.advance(ONE_WAY).unwrap();
        for id in &bulk {
            *moved.entry(*id).or_default() += pair.read(GATEWAY, *id).0.len();
        }
    }
    let (least, most) = (moved.values().min().unwrap(), moved.values().max().unwrap());
    assert!(*least > 1_000_000 && most - least <= 2 * 16 * 1024, "least {least}, most {most}");
}

#[test]
fn what_a_gateway_is_to_become_waits_for_everybody_else() {
    let mut pair = Pair::new(Offer::default());
    pair.wires[SERVER].depth = 1;
    let program = pair.ends[SERVER].mux.open(Target { update: true, ..target() }).unwrap();
    let bulk: Vec<_> = (0..7).map(|_| pair.open()).collect();
    let all = [&bulk[..], &[program]].concat();
    let mut moved = |streams: &[StreamId]| {
        for _ in 0..200 {
            top_up(&mut pair, streams);
            pair.advance(ONE_WAY).unwrap();
            for id in &bulk {
                pair.read(GATEWAY, *id);
            }
        }
        pair.read(GATEWAY, program).0.len()
    };
    // Of what was queued first, while nobody else had anything, some may be on its way.
    assert!(moved(&all) < 64 * 1024, "it went beside bulk");
    let alone = moved(&[program]);
    assert!(alone >= 64 * 1024, "{alone} bytes, once nobody else had anything to send");
}

#[test]
fn as_many_streams_as_agreed_and_no_number_twice() {
    let mut pair = Pair::new(Offer { max_streams: 3, ..Offer::default() });
    let ids: Vec<_> = (0..3).map(|_| pair.open()).collect();
    assert_eq!(pair.ends[SERVER].mux.open(target()), Err(OpenError::StreamLimit { limit: 3 }));
    for end in [SERVER, GATEWAY] {
        pair.ends[end].mux.release(ids[1], pair.now);
    }
    pair.advance(SOON).unwrap();
    let fourth = pair.open();
    assert!(fourth > ids[2]);
    // The acceptor counts for itself: an opener with another idea of the limit is told so, stream by stream.
    let now = pair.now;
    let over = message(&[Frame::Open(StreamId(100), target()), Frame::Data(StreamId(100), Bytes::from_static(b"x"))]);
    pair.ends[GATEWAY].handle_message(over, now).unwrap();
    let answer = pair.ends[GATEWAY].poll_transmit(now).unwrap();
    assert!(frames(answer).contains(&Frame::Reset(StreamId(100), Reset::new(ResetReason::StreamLimit, ""))));
    assert_eq!(pair.ends[GATEWAY].mux.open_streams(), 3);
}

fn message(list: &[Frame]) -> Bytes {
    let mut out = bytes::BytesMut::new();
    for frame in list {
        frame.encode(&mut out);
    }
    out.freeze()
}

fn frames(mut message: Bytes) -> Vec<Frame> {
    std::iter::from_fn(|| Frame::decode(&mut message).unwrap()).collect()
}

#[test]
fn opening_and_dropping_over_a_stuck_link_is_bounded() {
    let mut pair = Pair::new(Offer { max_streams: 10, ..Offer::default() });
    let mut opened = 0;
    while let Ok(id) = pair.ends[SERVER].mux.open(target()) {
        pair.ends[SERVER].mux.release(id, pair.now);
        opened += 1;
        assert!(opened < 10_000, "what waits to be sent has a bound");
    }
    pair.wires[SERVER].depth = 1000;
    pair.advance(SOON).unwrap();
    assert!(pair.ends[SERVER].mux.open(target()).is_ok(), "and it opens again once the link moves");
}

#[test]
fn what_came_is_acknowledged_in_time() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    pair.advance(ACK_DELAY - SOON).unwrap();
    assert_eq!(pair.ends[SERVER].sent(), (1, 0));
    pair.advance(SOON + 2 * ONE_WAY).unwrap();
    assert_eq!(pair.ends[SERVER].sent(), (1, 1), "after a while, alone but for a question");
    assert_eq!(pair.wires[GATEWAY].log, [Frame::Ack(1), Frame::Ping(0)]);
    assert_eq!(pings(&pair.wires[SERVER].log), 0);

    pair.write(SERVER, id, b"x");
    pair.advance(SOON).unwrap();
    pair.write(GATEWAY, id, b"y");
    pair.advance(SOON).unwrap();
    assert_eq!(pair.ends[SERVER].sent(), (2, 2), "along with what is sent anyway");

    let before = pair.wires[GATEWAY].messages;
    pair.wires[SERVER].depth = 1000;
    for _ in 0..ACK_FRAMES {
        pair.write(SERVER, id, b"x");
        pair.advance(Duration::from_millis(1)).unwrap();
    }
    pair.advance(SOON).unwrap();
    assert_eq!(pair.ends[SERVER].sent(), (2 + ACK_FRAMES, 2 + ACK_FRAMES), "and when many have come");
    assert_eq!(pair.wires[GATEWAY].messages, before + 1);
}

#[test]
fn a_silent_link_costs_one_ping_each_way_and_nothing_else() {
    let mut pair = Pair::new(Offer::default());
    pair.advance(PING_AFTER * 20 + SOON).unwrap();
    for end in [SERVER, GATEWAY] {
        assert!((19..=20).contains(&pair.wires[end].messages), "{} messages", pair.wires[end].messages);
    }
    assert_eq!(pair.ends[GATEWAY].pulse().round_trip, Some(2 * ONE_WAY));
    assert!(pair.wires[GATEWAY].log.iter().all(|frame| matches!(frame, Frame::Ping(_))));
    assert!(pair.wires[SERVER].log.iter().all(|frame| matches!(frame, Frame::Pong(_))));
}

#[test]
fn a_link_that_is_heard_costs_no_ping() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    for _ in 0..200 {
        pair.advance(Duration::from_secs(40)).unwrap();
        pair.write(SERVER, id, b"x");
        pair.write(GATEWAY, id, b"y");
        pair.advance(ACK_DELAY + SOON).unwrap();
        pair.read(SERVER, id);
        pair.read(GATEWAY, id);
    }
    assert_eq!(pings(&pair.wires[SERVER].log), 0);
    let log = &pair.wires[GATEWAY].log;
    let alone = (1..log.len()).filter(|at| matches!(log[at - 1..=*at], [Frame::Ack(_), Frame::Ping(_)])).count();
    assert_eq!(pings(log), alone, "only with an ACK that goes out anyway");
    for wire in &pair.wires {
        assert!(wire.messages <= 2 * 200 + 2, "{} messages: the data, and what answers it", wire.messages);
    }
}

#[test]
fn a_dead_idle_link_is_noticed() {
    let mut pair = Pair::new(Offer::default());
    pair.wires[GATEWAY].dead = true;
    pair.advance(PING_AFTER + PING_DEADLINE - SOON).unwrap();
    let error = pair.advance(2 * SOON).unwrap_err();
    assert!(matches!(error, SessionError::Silent(silent) if silent >= PING_AFTER + PING_DEADLINE), "{error}");
}

#[test]
fn a_dead_busy_link_is_noticed_sooner() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    pair.advance(Duration::from_secs(40)).unwrap();
    (pair.wires[SERVER].dead, pair.wires[GATEWAY].dead) = (true, true);
    pair.write(SERVER, id, b"x");
    pair.advance(PING_AFTER_BUSY_SERVER - SOON).unwrap();
    assert_eq!(pings(&pair.wires[SERVER].log), 0, "the ACK may still come");
    let error = pair.advance(PING_DEADLINE + 2 * SOON).unwrap_err();
    assert!(matches!(error, SessionError::Silent(_)), "{error}");
}

#[test]
fn a_gateway_suspects_a_silent_link_whoever_spoke_last() {
    for speaker in [SERVER, GATEWAY] {
        let mut pair = Pair::new(Offer::default());
        let id = pair.open();
        pair.advance(PING_AFTER - SOON).unwrap();
        pair.write(speaker, id, b"x");
        pair.advance(SOON).unwrap();
        (pair.wires[SERVER].dead, pair.wires[GATEWAY].dead) = (true, true);
        // What came is acknowledged with a question; what went out is asked about when its ACK is late.
        pair.advance(PING_AFTER_BUSY + SUSPECT_AFTER).unwrap();
        assert!(pair.ends[GATEWAY].pulse().suspect, "{speaker}: {:?}", pair.ends[GATEWAY].pulse());
        assert!(!pair.ends[SERVER].pulse().suspect, "only the gateway can make another link");
        (pair.wires[SERVER].dead, pair.wires[GATEWAY].dead) = (false, false);
        pair.ends[GATEWAY].handle_message(Bytes::new(), pair.now).unwrap();
        assert!(!pair.ends[GATEWAY].pulse().suspect);
    }
}

#[test]
fn a_question_may_be_asked_at_any_time_and_its_span_changed() {
    let mut pair = Pair::new(Offer::default());
    pair.ends[GATEWAY].probe(pair.now);
    pair.advance(2 * ONE_WAY).unwrap();
    assert_eq!(pings(&pair.wires[GATEWAY].log), 1);
    assert_eq!(pair.ends[GATEWAY].pulse().survived, 0, "there was no silence");
    pair.ends[GATEWAY].set_ping_after(3 * PING_AFTER);
    pair.ends[SERVER].set_ping_after(4 * PING_AFTER);
    pair.advance(3 * PING_AFTER - SOON).unwrap();
    assert_eq!(pings(&pair.wires[GATEWAY].log), 1);
    pair.advance(2 * SOON).unwrap();
    assert_eq!(pings(&pair.wires[GATEWAY].log), 2);
    let pulse = pair.ends[GATEWAY].pulse();
    assert!(pulse.survived == 1 && pulse.silence == 3 * PING_AFTER, "{pulse:?}");
}

#[test]
fn a_link_that_takes_nothing_any_more_is_noticed_as_well() {
    let mut pair = Pair::new(Offer::default());
    let id = pair.open();
    while pair.write(SERVER, id, &[1; 16 * 1024]) > 0 {}
    for wire in &mut pair.wires {
        wire.depth = 0;
        wire.queue.clear();
    }
    let started = pair.now;
    let error = pair.advance(2 * (PING_AFTER + PING_DEADLINE)).unwrap_err();
    assert!(matches!(error, SessionError::Silent(_)), "{error}");
    assert!(pair.now - started <= PING_AFTER + PING_DEADLINE + SOON);
}

#[test]
fn a_process_that_was_stopped_finds_its_link_alive() {
    let mut pair = Pair::new(Offer::default());
    pair.advance(PING_AFTER - SOON).unwrap();
    let id = pair.ends[SERVER].mux.open(target()).unwrap();
    pair.turn().unwrap();
    // The gateway is stopped for two minutes, what the server sent waits in its socket.
    pair.now += Duration::from_secs(120);
    pair.deliver(SERVER).unwrap();
    let now = pair.now;
    pair.ends[GATEWAY].handle_timeout(now).unwrap();
    assert_eq!(pair.events(GATEWAY)[0], Event::Incoming(id, target()));
    // One that finds nothing in its socket asks first.
    let mut idle = Pair::new(Offer::default());
    let later = idle.now + Duration::from_secs(3600);
    idle.ends[GATEWAY].handle_timeout(later).unwrap();
    idle.ends[GATEWAY].handle_timeout(later).unwrap();
    assert_eq!(frames(idle.ends[GATEWAY].poll_transmit(later).unwrap()), [Frame::Ping(0)]);
}

#[test]
fn control_messages_are_cut_and_put_together() {
    let mut pair = Pair::new(Offer::default());
    let texts: Vec<Bytes> = [0, 1, 8191, 8192, 8193, 100_000, CONTROL_MAX]
        .into_iter()
        .map(|len| (0..len).map(|at| (at % 251) as u8).collect())
        .collect();
    for text in &texts {
        pair.ends[GATEWAY].send_control(text).unwrap();
    }
    let full = Bytes::from(vec![0; CONTROL_MAX]);
    assert_eq!(pair.ends[GATEWAY].send_control(&full), Err(ControlError::Full));
    let long = Bytes::from(vec![0; CONTROL_MAX + 1]);
    assert_eq!(pair.ends[GATEWAY].send_control(&long), Err(ControlError::TooLong(CONTROL_MAX + 1)));
    pair.advance(Duration::from_secs(5)).unwrap();
    for text in &texts {
        assert!(pair.ends[SERVER].poll_control().as_ref() == Some(text), "{} bytes", text.len());
    }
    assert!(!pair.ends[SERVER].has_control());
    assert_eq!(pair.ends[GATEWAY].send_control(&full), Ok(()), "there is room again");
    const { assert!(CONTROL_QUEUE_MAX >= 2 * CONTROL_MAX) };
}

#[test]
fn a_large_control_message_does_not_stop_the_streams() {
    let mut pair = Pair::new(Offer::default());
    pair.wires[GATEWAY].depth = 1;
    let id = pair.open();
    pair.ends[GATEWAY].send_control(&Bytes::from(vec![0; CONTROL_MAX])).unwrap();
    pair.write(GATEWAY, id, b"x");
    pair.advance(2 * ONE_WAY).unwrap();
    assert_eq!(pair.read(SERVER, id).0, b"x");
    assert!(!pair.ends[SERVER].has_control());
}

#[test]
fn the_reason_for_closing_comes_last_and_fits_however_much_waits() {
    let close = Close { reason: CloseReason::Restarting, text: "\u{1}".repeat(5000), retry_between_s: Some((1, 9)) };
    for streams in [0, 1, 5, 300] {
        let mut pair = Pair::new(Offer::default());
        pair.wires[SERVER].depth = 1000;
        let bulk: Vec<_> = (0..streams).map(|_| pair.ends[SERVER].mux.open(target()).unwrap()).collect();
        top_up(&mut pair, &bulk);
        pair.ends[SERVER].close(&close);
        pair.ends[SERVER].close(&Close { reason: CloseReason::Revoked, ..close.clone() });
        pair.advance(SOON).unwrap();
        assert!(pair.ends[SERVER].is_closed() && pair.wires[SERVER].messages == 1);
        assert!(matches!(pair.wires[SERVER].log.last(), Some(Frame::Close(_))));
        let heard = pair.ends[GATEWAY].close_heard().unwrap();
        assert_eq!((heard.reason, heard.retry_between_s), (CloseReason::Restarting, Some((1, 9))));
        assert!(close.text.starts_with(&heard.text) && heard.text.len() == 1024);
    }
}

#[test]
fn messages_never_grow_too_long() {
    // Every mixture of urgent frames, control and bulk with large stream numbers; `Pair` checks each message.
    for streams in 1..=400 {
        let mut pair = Pair::new(Offer::default());
        for _ in 0..streams {
            let id = pair.ends[SERVER].mux.open(target()).unwrap();
            pair.write(SERVER, id, &vec![0; 16 * 1024 + streams]);
            pair.ends[SERVER].mux.finish(id);
        }
        pair.ends[SERVER].send_control(&Bytes::from(vec![0; 20_000])).unwrap();
        pair.turn().unwrap();
        assert!(pair.wires[SERVER].messages > 0);
    }
    const { assert!(MESSAGE_MAX == 40 * 1024) };
}

#[test]
fn the_end_of_the_session_ends_every_stream() {
    let mut pair = Pair::new(Offer::default());
    let (busy, over) = (pair.open(), pair.open());
    for end in [SERVER, GATEWAY] {
        pair.ends[end].mux.finish(over);
    }
    pair.write(GATEWAY, busy, b"came in time");
    pair.advance(SOON).unwrap();
    pair.events(SERVER);
    pair.ends[SERVER].end("the cable was cut");
    assert_eq!(pair.ends[SERVER].mux.read(over, 9, pair.now), Ok(Read::End), "what ended in order stays so");
    assert_eq!(pair.ends[SERVER].mux.read(busy, 99, pair.now), Ok(Read::Data(Bytes::from_static(b"came in time"))));
    let lost = Reset::new(ResetReason::LinkLost, "the cable was cut");
    assert_eq!(pair.ends[SERVER].mux.read(busy, 99, pair.now), Err(lost.clone()));
    assert_eq!(pair.ends[SERVER].mux.write(busy, b"x", pair.now), Err(lost));
    assert!(pair.events(SERVER).contains(&Event::Writable(busy)));
    for id in [busy, over] {
        pair.ends[SERVER].mux.release(id, pair.now);
    }
    assert_eq!(pair.ends[SERVER].mux.open_streams(), 0);
}

#[path = "pair/chaos.rs"]
mod chaos;
