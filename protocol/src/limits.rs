//! Every number of the language, with its reason.

use std::time::Duration;

/// Largest WebSocket message, in bytes. Two full data frames and a few small ones: a message is the unit in which a
/// link is written, so it bounds how long a keystroke waits behind data that has already been handed over.
pub const MESSAGE_MAX: usize = 40 * 1024;

/// Largest payload of a DATA frame, in bytes: one TLS record (RFC 8446: 16 KiB).
pub const DATA_MAX: usize = 16 * 1024;

/// Largest payload of a CONTROL frame, in bytes; a longer message is cut into several frames.
pub const CONTROL_CHUNK_MAX: usize = 8 * 1024;

/// Largest control message, in bytes, after its frames are put together: a configuration of some thousand services.
pub const CONTROL_MAX: usize = 1024 * 1024;

/// Largest handshake message (HELLO, WELCOME, REFUSED, CLOSE), in bytes. Read before anybody is known, so it is small.
pub const HANDSHAKE_MAX: usize = 8 * 1024;

/// Largest text that explains a CLOSE, in bytes: JSON makes six bytes of one at worst, and they must fit [`HANDSHAKE_MAX`].
pub const CLOSE_TEXT_MAX: usize = 1024;

/// Largest text that explains a RESET, in bytes.
pub const REASON_MAX: usize = 256;

/// Largest payload of an OPEN frame, in bytes: two names, a deadline, and room for what may come.
pub const OPEN_MAX: usize = 512;

/// Control messages that may wait unsent, in bytes. A sender that exceeds it is told so at once.
pub const CONTROL_QUEUE_MAX: usize = 2 * CONTROL_MAX;

/// Control messages that may wait unread, in bytes; a reader that stays behind loses the link.
pub const CONTROL_BACKLOG_MAX: usize = 2 * CONTROL_MAX;

/// Control messages that may wait unread, in number: each costs some bytes of ours, even an empty one.
pub const CONTROL_BACKLOG_COUNT: usize = 4096;

/// Least credit of a new stream, in bytes: a page request with its cookies goes out without waiting.
pub const WINDOW_MIN: u32 = 16 * 1024;

/// Most credit a peer may hold on one stream, in bytes (RFC 9000 has no such bound; ours keeps sums in 32 bits).
pub const WINDOW_MAX: u32 = 16 * 1024 * 1024;

/// Most credit that an end gives on a new stream, in bytes: it grows where the line asks for more.
pub const WINDOW_FIRST_MAX: u32 = 128 * 1024;

/// Most credit to which an end lets a stream grow, in bytes: 100 Mbit/s at 300 ms round trip.
pub const WINDOW_GROWN_MAX: u64 = 4 * 1024 * 1024;

/// Silence of a stream after which its credit shrinks again.
pub const WINDOW_IDLE: Duration = Duration::from_secs(2);

/// Bytes of one stream that may wait to be sent, beyond which its writer waits: two data frames keep the link busy.
pub const SEND_QUEUE_MAX: usize = 64 * 1024;

/// Bytes that one stream may queue at least, however much the others have queued: nobody is locked out.
pub const SEND_QUEUE_MIN: usize = 2 * 1024;

/// The ceiling for all data that one end of a link holds, in bytes, where nothing else is configured.
pub const MEMORY: usize = 16_000_000;

/// The least such ceiling: below it, one message on its way would be too much.
pub const MEMORY_MIN: usize = 500_000;

/// Time for which a session outlives its link, where nothing else is configured: a hole in coverage, a router's new
/// address, a restart of a proxy.
pub const RESUME_WITHIN: Duration = Duration::from_secs(120);

/// Bytes that PONG, ACK and PING can take together in front of a message.
pub const SIGNS_MAX: usize = 3 * (1 + 8);

/// Streams open at once on one link, unless the gateway's Hello says less.
pub const STREAMS_MAX: u32 = 1024;

/// Bytes that a stream may send in one [`QUIET_PERIOD`], with what it has waiting, and still go ahead of bulk: a screenful
/// of terminal output.
pub const QUIET_BYTES: usize = 16 * 1024;

/// The least span over which a stream is judged quiet or bulk. The next one begins when nothing of the stream waits.
pub const QUIET_PERIOD: Duration = Duration::from_millis(500);

/// Time of a line that one message of bulk, and what the socket has not sent yet, may each fill: a keystroke waits so long.
pub const BACKLOG: Duration = Duration::from_millis(10);

/// Bytes of a message of bulk at least, however slow the line: a packet carries no more.
pub const MESSAGE_PACED_MIN: usize = 1280;

/// Bytes of a message of bulk while nothing is known of the line.
pub const MESSAGE_PACED_FIRST: usize = 16 * 1024;

/// Least time between two questions for the round trip of a line that carries bulk.
pub const ROUND_TRIP_EVERY: Duration = Duration::from_secs(1);

/// Sequenced frames received after which an ACK is sent even though nothing else is.
pub const ACK_FRAMES: u64 = 64;

/// Bytes received after which an ACK is sent even though nothing else is: less than any end may keep
/// ([`MEMORY_MIN`]), so that no sender ever waits for [`ACK_DELAY`].
pub const ACK_BYTES: usize = 32 * 1024;

/// Time after which a received frame is acknowledged even though nothing else is sent. Long, since on an idle link each
/// packet costs the SIM some 90 bytes; until then an ACK rides along with whatever goes out.
pub const ACK_DELAY: Duration = Duration::from_secs(10);

/// The same for a server. A gateway's ACK that goes alone carries a PING, and the answer to that carries the server's ACK:
/// so the server waits a little longer, lest both cross.
pub const ACK_DELAY_SERVER: Duration = Duration::from_secs(11);

/// Silence after which a gateway sends a ping, while nothing is going on: below the shortest NAT timeouts of carriers
/// that are common (one to two minutes).
pub const PING_AFTER: Duration = Duration::from_secs(55);

/// Silence after which a gateway sends a ping while frames of its wait for their ACK, counted from the first of them at the
/// earliest. Longer than [`ACK_DELAY_SERVER`] and a slow round trip, so that a healthy link acknowledges before it is asked.
pub const PING_AFTER_BUSY: Duration = Duration::from_secs(13);

/// The same for a server. Longer, since of two who wait for each other only the gateway need ask.
pub const PING_AFTER_BUSY_SERVER: Duration = Duration::from_secs(15);

/// Least silence before a ping, whatever the server asks for: a second is thirty times what any NAT needs.
pub const PING_AFTER_MIN: Duration = Duration::from_secs(1);

/// Least time after a ping was due before its link is suspect, and another is made beside it: a radio that sleeps takes two
/// seconds to wake. On a slow line it is four round trips, up to [`PING_DEADLINE`].
pub const SUSPECT_AFTER: Duration = Duration::from_secs(3);

/// Time for a sign of life after a ping was due; then the link is taken for dead. Twice as long on the slowest lines.
pub const PING_DEADLINE: Duration = Duration::from_secs(15);

/// Time for each step of the handshake after the WebSocket is up.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// Time for the last bytes of a link that closes, the reason among them, and for the other end to hang up.
pub const CLOSE_DEADLINE: Duration = Duration::from_secs(3);
