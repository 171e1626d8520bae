//! Every number the edge waits for, counts to or buffers, each with its reason.

use std::time::Duration;

/// TLS handshake, from the accepted socket to the first request byte. Slow LTE links need two or three seconds.
pub const TLS_HANDSHAKE: Duration = Duration::from_secs(10);
/// From a connection's start to its first complete request head, and from the first byte of any later head to its end.
/// A browser sends a head in one piece; only somebody who means to hold a connection takes longer.
pub const REQUEST_HEAD: Duration = Duration::from_secs(10);
/// A connection without a request under way is closed after this; browsers open a new one without the person noticing.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Longest silence inside a request body: an upload over a bad link stalls for seconds, not for a minute.
pub const BODY_SILENCE: Duration = Duration::from_secs(60);
/// Longest time a client may not take a single byte of an answer that waits for it.
pub const WRITE_STALL: Duration = Duration::from_secs(120);
/// A small body for the console or the API must be here within this time.
pub const CONSOLE_BODY: Duration = Duration::from_secs(30);
/// After an answer to a request whose body was not read to its end: how long we go on reading, so that the answer is
/// not lost to a TCP reset (RFC 9112, section 9.6).
pub const LINGER: Duration = Duration::from_secs(2);

/// A request line with all header lines. Browsers stay under 16 KiB; devices' cookies are the largest part.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Header lines in a request, and trailer lines after a body.
pub const HEAD_LINES: usize = 100;
/// The line that begins a chunk, with its extensions.
pub const CHUNK_LINE: usize = 256;
/// Trailer lines together.
pub const TRAILER_BYTES: usize = 8 * 1024;

/// HTTP/2 streams a browser may have open at once; browsers are content with 100.
pub const H2_STREAMS: u32 = 128;
/// Streams reset before they were handled, after which the connection is closed (CVE-2023-44487).
pub const H2_RESETS: usize = 32;
/// Bytes an HTTP/2 client may send on one stream before it is given more credit.
pub const H2_STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection together.
pub const H2_CONNECTION_WINDOW: u32 = 1024 * 1024;
/// Bytes of answers buffered for one HTTP/2 stream that its client does not take.
pub const H2_SEND_BUFFER: usize = 128 * 1024;
/// Silence after which an HTTP/2 client is asked whether it is still there, and how long it may take to answer.
pub const H2_PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// Connections at once on all ports together: the machine's 20,000 descriptors less what the rest needs.
pub const CONNECTIONS: usize = 18_000;
/// Connections of one address (IPv6: of one /64) that have not finished their first request head. A whole fleet behind
/// one carrier's address reconnects at once, so this cannot be small.
const ARRIVING_PER_ADDRESS: usize = 1024;

/// One browser's.
const ARRIVING_LEAST: usize = 16;

/// The same where there is room for so many connections: no single address takes more than a quarter of it.
pub fn arriving_per_address(connections: usize) -> usize {
    (connections / 4).clamp(ARRIVING_LEAST, ARRIVING_PER_ADDRESS)
}

/// Gateways between the turnstile and their first request, while the processors have nothing else to do: over a line of
/// 300 ms it lets a thousand in in a second. Each may ask for the processor time of a handshake at any moment.
pub const ARRIVING_INSIDE: usize = 1024;
/// The same while the processors are busy. With a thousand at once, two processors were seen to get through half as many in
/// a second; what exactly they lose there was not measured.
pub const ARRIVING_BUSY: usize = 128;
/// The processors are busy if a task that is ready waits longer than this for its turn.
pub const BUSY: Duration = Duration::from_micros(500);
/// Gateways let in before all other tasks had a turn: a few milliseconds of work.
pub const ARRIVALS_AT_ONCE: usize = 16;
/// Longest wait of a gateway for its turn; it gives TLS 30 seconds.
pub const QUEUE: Duration = Duration::from_secs(20);

/// Gateways that may wait in a house with room for so many connections: an eighth of it is left to people.
pub fn queue_for(connections: usize) -> usize {
    connections - connections / 8 - 1
}

/// Pause after a failed accept: doubles from the first to the second.
pub const ACCEPT_PAUSE: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));
/// Idle time, interval and count of TCP keep-alive probes: a vanished client is noticed after two minutes.
pub const TCP_KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(15), 4);
/// Bytes that may wait unsent in the kernel of a link's socket.
pub const LINK_NOT_SENT_MAX: u32 = 16 * 1024;
/// Least and most time between two tries of the kernel's to send what a gateway does not acknowledge. At first it doubles by
/// itself, up to two minutes: a line that is back would wait for that.
pub const LINK_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));
/// The same in round trips, on a slow line: its own queue may hold a packet for several of them.
pub const LINK_RETRY_ROUND_TRIPS: u32 = 8;
/// Time after which the kernel gives up what nobody acknowledges: longer than the longest silence after which a gateway asks
/// by itself, since until then only what the server sends can tell it that its link is over.
pub const LINK_GIVEN_UP: Duration = Duration::from_secs(16 * 60);

/// From asking the gateway to a connected device.
pub const OPEN: Duration = Duration::from_secs(10);
/// TLS handshake with an https device; old ones compute a 2048 bit signature for seconds.
pub const DEVICE_TLS: Duration = Duration::from_secs(15);
/// From the request to the first line of the device's answer. Devices compute reports and write flash while we wait.
pub const RESPONSE_HEAD: Duration = Duration::from_secs(60);
/// How long a body announced with `Expect: 100-continue` waits for the device's word (RFC 9110, section 10.1.1).
pub const CONTINUE: Duration = Duration::from_secs(1);
/// Bytes buffered of a device's answer; also the longest head a device may send.
pub const DEVICE_BUFFER: usize = 64 * 1024;
/// Header lines in a device's answer.
pub const DEVICE_LINES: usize = 128;

/// How long an idle connection to a device is kept. Small web servers close theirs after 5 to 60 s, and many have room
/// for four connections only.
pub const POOL_IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for one session at one service: as many as a browser may have used at once over HTTP/2
/// ([`H2_STREAMS`]). One that finds no place is closed, and the next request opens another, which is audited and costs the
/// device a connection: with half as many places as requests, each second answer did that.
pub const POOL_PER_KEY: usize = 128;
/// Sessions and services, taken together, that connections are kept for.
pub const POOL_KEYS: usize = 1024;
/// How long a connection may take to become idle after its answer was read.
pub const POOL_SETTLE: Duration = Duration::from_secs(1);

/// Largest message and frame of a raw stream from a client.
pub const STREAM_MESSAGE: usize = 1024 * 1024;
/// Bytes read from a device at once for one message of a raw stream.
pub const STREAM_READ: usize = 32 * 1024;
/// How long a client may take to answer a Close frame.
pub const STREAM_CLOSE: Duration = Duration::from_secs(5);
