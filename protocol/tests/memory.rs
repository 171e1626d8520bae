//! How much memory a session holds: next to nothing while idle, and a known bound under any flood.
#![allow(unsafe_code, reason = "counting what is allocated needs an allocator of our own")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "the clock of a test begins at some time")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use linkspan_protocol::frame::{Frame, Reset, ResetReason, StreamId, Target};
use linkspan_protocol::limits::{
    CONTROL_BACKLOG_MAX, MESSAGE_MAX, PING_AFTER, SEND_QUEUE_MIN, STREAMS_MAX, WINDOW_FIRST_MAX,
};
use linkspan_protocol::mux::{Read, Role, Settings};
use linkspan_protocol::session::Session;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.with(|live| live.set(live.get() + layout.size().cast_signed()));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.with(|live| live.set(live.get() - layout.size().cast_signed()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Bytes that this thread has allocated and not given back; only differences mean something.
fn live() -> isize {
    LIVE.with(Cell::get)
}

fn session(role: Role) -> Session {
    let window = WINDOW_FIRST_MAX;
    let settings =
        Settings { receive_window: window, send_window: window, max_streams: STREAMS_MAX, ..Settings::default() };
    Session::new(role, settings, PING_AFTER, Instant::now())
}

fn target() -> Target {
    Target {
        device: "plc1".parse().unwrap(),
        service: "web".parse().unwrap(),
        deadline: Duration::ZERO,
        packed: false,
        update: false,
    }
}

fn message(frames: &[Frame]) -> Bytes {
    let mut out = BytesMut::new();
    for frame in frames {
        frame.encode(&mut out);
    }
    Bytes::copy_from_slice(&out)
}

fn settle(session: &mut Session) {
    while session.mux.poll_event().is_some() {}
    while session.poll_transmit(Instant::now()).is_some() {}
}

#[test]
fn an_idle_session_holds_next_to_nothing_even_after_a_storm() {
    let start = live();
    let mut gateway = session(Role::Gateway);
    assert!(live() - start < 256, "{} bytes for a new session", live() - start);
    for round in 0..5_u64 {
        for n in 0..u64::from(STREAMS_MAX) {
            let id = StreamId(2 * (round * u64::from(STREAMS_MAX) + n));
            let data = Frame::Data(id, Bytes::from(vec![1; 2000]));
            let frames = message(&[Frame::Open(id, target()), data, Frame::Fin(id)]);
            gateway.handle_message(frames, Instant::now()).unwrap();
            gateway.mux.confirm(id);
            assert_eq!(gateway.mux.write(id, &[1; 2000], Instant::now()), Ok(2000));
        }
        assert!(live() - start > 1_000_000, "the measure measures");
        for n in 0..u64::from(STREAMS_MAX) {
            let id = StreamId(2 * (round * u64::from(STREAMS_MAX) + n));
            while let Ok(Read::Data(_)) = gateway.mux.read(id, usize::MAX, Instant::now()) {}
            gateway.mux.finish(id);
            gateway.mux.release(id, Instant::now());
        }
        settle(&mut gateway);
        assert_eq!(gateway.mux.open_streams(), 0);
    }
    assert!(live() - start < 4096, "{} bytes after the storm", live() - start);
}

#[test]
fn an_idle_stream_holds_no_buffer() {
    let start = live();
    let mut gateway = session(Role::Gateway);
    let now = Instant::now();
    for n in 0..1000 {
        let id = StreamId(2 * n);
        gateway.handle_message(message(&[Frame::Open(id, target())]), now).unwrap();
        gateway.handle_message(message(&[Frame::Data(id, Bytes::from(vec![1; 10_000]))]), now).unwrap();
        while let Ok(Read::Data(_)) = gateway.mux.read(id, 4096, Instant::now()) {}
        // All streams together may queue only so much; each may a little.
        let taken = gateway.mux.write(id, &[1; 10_000], now).unwrap();
        assert!((SEND_QUEUE_MIN..=10_000).contains(&taken), "stream {n}: {taken}");
        settle(&mut gateway);
    }
    let each = (live() - start) / 1000;
    assert!(each < 700, "{each} bytes for each idle stream");
}

#[test]
fn unread_data_costs_little_more_than_its_credit_however_it_is_cut() {
    let window = 128 * 1024;
    assert_eq!(window, WINDOW_FIRST_MAX as usize);
    // (bytes in a DATA frame, bytes of junk in the same message)
    for (piece, junk) in
        [(1, 0), (1, 200), (100, 0), (4096, 36_000), (8192, 32_000), (16_383, 24_000), (16_384, 24_000)]
    {
        let mut gateway = session(Role::Gateway);
        let now = Instant::now();
        gateway.handle_message(message(&[Frame::Open(StreamId(0), target())]), now).unwrap();
        settle(&mut gateway);
        let junk: Vec<_> = (0..junk / 2).map(|_| Frame::Pong(0)).collect();
        let start = live();
        for _ in 0..window / piece {
            let data = Frame::Data(StreamId(0), Bytes::from(vec![1; piece]));
            let whole = message(&[&[data][..], &junk].concat());
            assert!(whole.len() <= MESSAGE_MAX);
            gateway.handle_message(whole, now).unwrap();
            while gateway.mux.poll_event().is_some() {}
        }
        let held = live() - start;
        assert!(held <= (window * 5 / 2 + 4096).cast_signed(), "{held} bytes for pieces of {piece}");
    }
}

#[test]
fn floods_are_bounded() {
    let flood = |role, frames: &dyn Fn(u64) -> Vec<Frame>| {
        let start = live();
        let mut session = session(role);
        let mut most = 0;
        for n in 0..20_000 {
            let now = Instant::now();
            if session.handle_message(message(&frames(n)), now).is_err() {
                break;
            }
            most = most.max(live() - start);
        }
        most
    };
    let opens = flood(Role::Gateway, &|n| vec![Frame::Open(StreamId(2 * n), target())]);
    assert!(opens < 3_000_000, "{opens} bytes for OPEN");
    let churn = flood(Role::Gateway, &|n| {
        let cancelled = Reset::new(ResetReason::Cancelled, "x".repeat(256));
        vec![Frame::Open(StreamId(2 * n), target()), Frame::Reset(StreamId(2 * n), cancelled)]
    });
    assert!(churn < 3_000_000, "{churn} bytes for OPEN and RESET");
    let control = flood(Role::Server, &|_| vec![Frame::Control { last: true, piece: Bytes::from(vec![1; 8000]) }]);
    assert!(control < (2 * CONTROL_BACKLOG_MAX).cast_signed(), "{control} bytes for whole control messages");
    let empty = flood(Role::Server, &|_| vec![Frame::Control { last: true, piece: Bytes::new() }]);
    assert!(empty < 500_000, "{empty} bytes for empty control messages");
    let parts = flood(Role::Server, &|_| vec![Frame::Control { last: false, piece: Bytes::from(vec![1; 8000]) }]);
    assert!(parts < 3_000_000, "{parts} bytes for parts of a control message");
    let pings = flood(Role::Server, &|n| vec![Frame::Ping(n), Frame::Ack(0), Frame::Pong(n)]);
    assert!(pings < 1000, "{pings} bytes for pings");
}
