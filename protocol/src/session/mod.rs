//! A session: the streams and control messages of one gateway, numbered so that they can outlive a link.
//!
//! The machine takes whole WebSocket messages and the time, and gives messages, events and the next time it wants to be
//! called. Each end counts the sequenced frames it sent and received; ACK tells the count, so that the other end knows
//! what arrived. A link that falls silent is noticed by a ping; a busy or quiet link that is heard costs none.
//!
//! A session that is resumable keeps what it sent until it is acknowledged. When its link is lost it is detached, and when
//! a later link brings the other end's count it goes on where that end stopped hearing.

mod fault;
mod kept;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};

pub use self::fault::{ControlError, ResumeError, SessionError};
use self::kept::Kept;
use crate::frame::{CLOSE_HEAD_MAX, Frame, Reset, ResetReason};
use crate::limits::{
    ACK_BYTES, ACK_DELAY, ACK_DELAY_SERVER, ACK_FRAMES, CLOSE_TEXT_MAX, CONTROL_BACKLOG_COUNT, CONTROL_BACKLOG_MAX,
    CONTROL_CHUNK_MAX, CONTROL_MAX, CONTROL_QUEUE_MAX, MESSAGE_MAX, MESSAGE_PACED_FIRST, MESSAGE_PACED_MIN,
    ROUND_TRIP_EVERY, SIGNS_MAX,
};
pub use crate::liveness::Pulse;
use crate::liveness::{Liveness, Silent};
use crate::message::Close;
use crate::mux::{Allow, Mux, Role, Settings, give_back};

/// A round trip counts for so long, unless a shorter one is measured.
const ROUND_TRIP_STALE: Duration = Duration::from_secs(30);

/// Room for short frames in a message that is written for them.
const SHORT: usize = 256;

/// One end of a session, between a handshake and the end of its link.
#[derive(Debug)]
pub struct Session {
    /// The streams.
    pub mux: Mux,
    liveness: Liveness,
    ack_delay: Duration,
    sent: u64,
    acked: u64,
    received: u64,
    ack_told: u64,
    ack_due: Option<Instant>,
    /// Bytes of messages that came since the last ACK went out.
    unacked_in: usize,
    kept: Kept,
    /// Whether `kept` is kept.
    resumable: bool,
    keep_max: usize,
    /// About how long a message of bulk may be, so that what comes meanwhile does not wait for long.
    paced: usize,
    /// The shortest round trip of late, and when it was measured.
    round_trip: Option<(Duration, Instant)>,
    /// When bulk that comes is a reason to measure it again.
    measure_at: Instant,
    pong_wanted: Option<u64>,
    control_out: VecDeque<(bool, Bytes)>,
    control_out_len: usize,
    control_in: BytesMut,
    control_ready: VecDeque<Bytes>,
    control_ready_len: usize,
    closing: Option<Bytes>,
    close_sent: bool,
    close_heard: Option<Close>,
}

impl Session {
    /// A new session. `ping_after` is the silence after which this end asks whether the other is there.
    pub fn new(role: Role, settings: Settings, ping_after: Duration, now: Instant) -> Self {
        let (resumable, keep_max) = (settings.resumable, settings.memory.unacknowledged);
        Self {
            mux: Mux::new(role, settings),
            liveness: Liveness::new(role, ping_after, now),
            ack_delay: if role == Role::Gateway { ACK_DELAY } else { ACK_DELAY_SERVER },
            sent: 0,
            acked: 0,
            received: 0,
            ack_told: 0,
            ack_due: None,
            unacked_in: 0,
            kept: Kept::default(),
            resumable,
            keep_max,
            paced: MESSAGE_PACED_FIRST,
            round_trip: None,
            measure_at: now,
            pong_wanted: None,
            control_out: VecDeque::new(),
            control_out_len: 0,
            control_in: BytesMut::new(),
            control_ready: VecDeque::new(),
            control_ready_len: 0,
            closing: None,
            close_sent: false,
            close_heard: None,
        }
    }

    /// Sequenced frames received so far: what a new link of this session would be told.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Sequenced frames sent so far, and how many of them the other end said it has.
    pub fn sent(&self) -> (u64, u64) {
        (self.sent, self.acked)
    }

    /// Whether the session can outlive its link.
    pub fn is_resumable(&self) -> bool {
        self.resumable && !self.is_closing() && self.close_heard.is_none()
    }

    /// Bytes that this end holds for the link: unread, queued and unacknowledged.
    pub fn held(&self) -> usize {
        self.mux.held() + self.kept.cost() + self.control_out_len + self.control_ready_len + self.control_in.len()
    }

    /// The link is lost and the session may go on over another: what belonged to the link alone is forgotten.
    pub fn detach(&mut self) {
        self.ack_due = None;
        self.pong_wanted = None;
    }

    /// Goes on over a new link, whose other end has `received` so many sequenced frames and was told how many came here.
    ///
    /// # Errors
    /// [`ResumeError`], and then nothing has changed.
    pub fn resume(&mut self, received: u64, now: Instant) -> Result<(), ResumeError> {
        if !self.is_resumable() {
            return Err(ResumeError::NotKept);
        }
        if received > self.sent {
            return Err(ResumeError::Ahead { received, sent: self.sent });
        }
        if received < self.acked {
            return Err(ResumeError::Behind { received, acked: self.acked });
        }
        self.detach();
        self.acked = received;
        self.kept.rewind(received);
        self.ack_told = self.received;
        self.unacked_in = 0;
        self.liveness.relinked(now);
        Ok(())
    }

    /// How the link is.
    pub fn pulse(&self) -> Pulse {
        self.liveness.pulse()
    }

    /// Asks the other end for a sign of life at once; the link is suspect until there is one.
    pub fn probe(&mut self, now: Instant) {
        self.liveness.probe(now);
    }

    /// Changes the silence after which this end asks whether the other is there.
    pub fn set_ping_after(&mut self, ping_after: Duration) {
        self.liveness.ping_after(ping_after);
    }

    /// Tells a round trip that was measured elsewhere, as by the handshake.
    pub fn measured(&mut self, round_trip: Duration, now: Instant) {
        self.liveness.measured(round_trip);
        self.note_round_trip(round_trip, now);
    }

    /// Credit grows by the shortest round trip: one that was measured behind a queue says more about the queue.
    fn note_round_trip(&mut self, sample: Duration, now: Instant) {
        let stale = |at: Instant| now.saturating_duration_since(at) > ROUND_TRIP_STALE;
        if self.round_trip.is_none_or(|(shortest, at)| sample <= shortest || stale(at)) {
            self.round_trip = Some((sample, now));
            self.mux.set_round_trip(sample);
        }
    }

    /// Sets about how long a message of bulk may be: what the line takes in the time that a keystroke may wait.
    pub fn set_pace(&mut self, bytes: usize) {
        self.paced = bytes.clamp(MESSAGE_PACED_MIN, MESSAGE_MAX);
    }

    /// Queues a control message.
    ///
    /// # Errors
    /// [`ControlError`], and then nothing was queued.
    pub fn send_control(&mut self, message: &Bytes) -> Result<(), ControlError> {
        if message.len() > CONTROL_MAX {
            return Err(ControlError::TooLong(message.len()));
        }
        if self.control_out_len + message.len() > CONTROL_QUEUE_MAX {
            return Err(ControlError::Full);
        }
        self.control_out_len += message.len();
        let mut rest = message.clone();
        while rest.len() > CONTROL_CHUNK_MAX {
            self.control_out.push_back((false, rest.split_to(CONTROL_CHUNK_MAX)));
        }
        self.control_out.push_back((true, rest));
        Ok(())
    }

    /// The next control message that came.
    pub fn poll_control(&mut self) -> Option<Bytes> {
        let message = self.control_ready.pop_front()?;
        self.control_ready_len -= message.len();
        give_back(&mut self.control_ready);
        Some(message)
    }

    /// Whether a control message waits to be read.
    pub fn has_control(&self) -> bool {
        !self.control_ready.is_empty()
    }

    /// Says why and ends the link: CLOSE is the last frame, behind what is queued already if that fits a message.
    pub fn close(&mut self, close: &Close) {
        if !self.is_closing() {
            let mut close = close.clone();
            close.text.truncate(close.text.floor_char_boundary(CLOSE_TEXT_MAX));
            // A Close is three plain fields: nothing in it can fail to be written as JSON.
            self.closing = Some(serde_json::to_vec(&close).unwrap_or_default().into());
        }
    }

    /// Whether this end closes the link, or has.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some() || self.close_sent
    }

    /// What the other end said as it closed the link.
    pub fn close_heard(&self) -> Option<&Close> {
        self.close_heard.as_ref()
    }

    /// Whether this end has said its last word.
    pub fn is_closed(&self) -> bool {
        self.close_sent
    }

    /// Handles one WebSocket message.
    ///
    /// # Errors
    /// [`SessionError`]: the link must end.
    pub fn handle_message(&mut self, mut message: Bytes, now: Instant) -> Result<(), SessionError> {
        if message.len() > MESSAGE_MAX {
            return Err(SessionError::MessageTooLong(message.len()));
        }
        self.liveness.heard(now);
        let (before, bytes) = (self.received, message.len());
        while let Some(frame) = Frame::decode(&mut message)? {
            if frame.is_sequenced() {
                self.received += 1;
                self.ack_due.get_or_insert(now + self.ack_delay);
            }
            self.handle_frame(frame, now)?;
        }
        if self.received > before {
            self.unacked_in += bytes;
        }
        Ok(())
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`SessionError::Silent`]: the link must end.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), SessionError> {
        self.mux.cool();
        self.liveness.handle_timeout(now).map_err(|Silent(silence)| SessionError::Silent(silence))
    }

    /// When [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) want to be called next.
    pub fn poll_timeout(&self) -> Instant {
        let liveness = self.liveness.poll_timeout();
        self.ack_due.map_or(liveness, |due| due.min(liveness))
    }

    /// Whether others may soon have something to say that could go with what waits now.
    pub fn gathers(&self) -> bool {
        self.mux.open_streams() > 1 && self.mux.queued() < self.paced / 2 && self.mux.wants_to_send(self.allowed())
    }

    /// The next WebSocket message to send, if there is anything to say now.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Bytes> {
        if self.close_sent {
            return None;
        }
        let allow = self.allowed();
        let again = self.kept.is_behind() && self.closing.is_none();
        let control = allow > Allow::Nothing && !again && !self.control_out.is_empty();
        let streams = !again && self.mux.wants_to_send(allow);
        let ack_due = self.ack_due.is_some_and(|due| now >= due);
        let something = ack_due
            || self.received - self.ack_told >= ACK_FRAMES
            || self.unacked_in >= ACK_BYTES
            || self.closing.is_some()
            || self.liveness.wants_ping()
            || self.pong_wanted.is_some()
            || again
            || control
            || streams;
        if !something {
            return None;
        }
        let waiting = if again { self.kept.next_len() } else { self.mux.queued().min(self.paced) };
        let mut message = BytesMut::with_capacity(SIGNS_MAX + if streams { waiting.max(SHORT) } else { waiting });
        let speaks = again || control || streams || self.closing.is_some();
        self.put_signs_of_life(&mut message, ack_due && !speaks, now);
        let begin = message.len();
        let mut frames = 0;
        if again {
            self.kept.fill(&mut message, self.paced);
        } else {
            frames = self.put_frames(&mut message, allow);
            self.sent += frames;
        }
        let end = message.len();
        self.liveness.sent(self.sent > self.acked, now);
        if let Some(close) = self.closing.take_if(|_| self.control_out.is_empty()) {
            Frame::Close(close).encode(&mut message);
            self.close_sent = true;
        }
        let message = message.freeze();
        if self.resumable && frames > 0 {
            self.kept.push(frames, message.slice(begin..end));
        }
        Some(message)
    }

    /// One piece of a control message, then what the streams have to say; returns how many frames that is. It leaves
    /// room for signs of life, which a later link may put in front of the same frames.
    fn put_frames(&mut self, message: &mut BytesMut, allow: Allow) -> u64 {
        let close = self.closing.as_ref().map_or(0, |close| CLOSE_HEAD_MAX + close.len());
        let max = MESSAGE_MAX - SIGNS_MAX + message.len() - close;
        let mut frames = 0;
        if allow > Allow::Nothing
            && let Some((last, piece)) = self.next_piece()
        {
            Frame::Control { last, piece }.encode(message);
            frames += 1;
        }
        // What is kept does not grow by much more than it may.
        let paced = if self.resumable { self.paced.min(self.keep_max / 8) } else { self.paced };
        frames + self.mux.fill(message, (paced, max), allow)
    }

    /// As much of a control message as one message of bulk may hold.
    fn next_piece(&mut self) -> Option<(bool, Bytes)> {
        let (last, piece) = self.control_out.front_mut()?;
        let next = if piece.len() > self.paced {
            (false, piece.split_to(self.paced))
        } else {
            let whole = (*last, std::mem::take(piece));
            self.control_out.pop_front();
            give_back(&mut self.control_out);
            whole
        };
        self.control_out_len -= next.1.len();
        Some(next)
    }

    /// An end that acknowledges nothing gets no more than may be kept for it; keystrokes go a little further than bulk,
    /// and what others wait for goes a little further than that.
    fn allowed(&self) -> Allow {
        let (kept, eighth) = (self.kept.cost(), self.keep_max / 8);
        match () {
            () if !self.resumable || kept < 6 * eighth => Allow::All,
            () if kept < 7 * eighth => Allow::Quiet,
            () if kept < 8 * eighth => Allow::Short,
            () => Allow::Nothing,
        }
    }

    fn put_signs_of_life(&mut self, message: &mut BytesMut, ack_alone: bool, now: Instant) {
        if let Some(token) = self.pong_wanted.take() {
            Frame::Pong(token).encode(message);
        }
        if self.received > self.ack_told {
            Frame::Ack(self.received).encode(message);
            self.ack_told = self.received;
        }
        // Bulk is coming: how much credit it needs depends on the round trip.
        let measure = self.unacked_in >= ACK_BYTES && now >= self.measure_at;
        if measure {
            self.measure_at = now + ROUND_TRIP_EVERY;
        }
        self.ack_due = None;
        self.unacked_in = 0;
        if let Some(token) = self.liveness.take_ping(measure || ack_alone && self.liveness.asks_with_acks(), now) {
            Frame::Ping(token).encode(message);
        }
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), SessionError> {
        match frame {
            Frame::Ping(token) => self.pong_wanted = Some(token),
            Frame::Pong(token) => {
                if let Some(sample) = self.liveness.pong(token, now) {
                    self.note_round_trip(sample, now);
                }
            }
            Frame::Ack(acked) if acked > self.sent => return Err(SessionError::Ack { acked, sent: self.sent }),
            Frame::Ack(acked) => {
                self.acked = self.acked.max(acked);
                self.kept.acknowledge(self.acked);
                if self.acked == self.sent {
                    self.liveness.all_acknowledged();
                }
            }
            Frame::Control { last, piece } => self.handle_control(last, &piece)?,
            Frame::Close(json) => {
                let unknown =
                    Close { reason: crate::message::CloseReason::Unknown, text: String::new(), retry_between_s: None };
                self.close_heard = Some(serde_json::from_slice(&json).unwrap_or(unknown));
            }
            Frame::Hello(_) | Frame::Welcome(_) | Frame::Refused(_) => return Err(SessionError::Handshake),
            Frame::Open(..)
            | Frame::Opened(_)
            | Frame::Data(..)
            | Frame::Window(..)
            | Frame::Fin(_)
            | Frame::Reset(..) => self.mux.handle(frame, now)?,
        }
        Ok(())
    }

    fn handle_control(&mut self, last: bool, piece: &[u8]) -> Result<(), SessionError> {
        let len = self.control_in.len() + piece.len();
        if len > CONTROL_MAX {
            return Err(SessionError::Control(len));
        }
        self.control_in.put_slice(piece);
        if last {
            let message = std::mem::take(&mut self.control_in).freeze();
            self.control_ready_len += message.len();
            self.control_ready.push_back(message);
            if self.control_ready_len > CONTROL_BACKLOG_MAX || self.control_ready.len() > CONTROL_BACKLOG_COUNT {
                return Err(SessionError::Control(self.control_ready_len));
            }
        }
        Ok(())
    }

    /// The link is gone and the session cannot go on: every stream ends with the reason.
    pub fn end(&mut self, text: &str) {
        self.resumable = false;
        self.kept = Kept::default();
        (self.control_out, self.control_out_len) = (VecDeque::new(), 0);
        self.mux.end_all(&Reset::new(ResetReason::LinkLost, text));
    }
}
