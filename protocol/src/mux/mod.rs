//! Many streams over one link: who may send how much, and whose turn it is.
//!
//! Credit is per stream, so a reader that stalls delays nobody else. What is sent next is decided as late as possible:
//! short frames that others wait for (OPEN, OPENED, WINDOW, RESET) first, then quiet streams, then bulk in fair turns.

mod buffer;
mod pool;
mod queue;
mod stream;
mod terms;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::BytesMut;

use self::pool::Pool;
use self::stream::Half;
pub use self::terms::{Allow, Event, Memory, OpenError, Read, Role, Settings, Violation};
use self::turns::Turns;
use crate::frame::{DATA_HEAD_MAX, Frame, RESET_MAX, Reset, ResetReason, StreamId, Target, put_data_head};
use crate::limits::{DATA_MAX, OPEN_MAX, REASON_MAX, SEND_QUEUE_MIN, WINDOW_MAX, WINDOW_MIN};

/// All streams of a session at one end.
#[derive(Debug)]
pub struct Mux {
    role: Role,
    settings: Settings,
    streams: HashMap<StreamId, stream::Stream>,
    next: u64,
    newest_taken: Option<u64>,
    urgent: VecDeque<Frame>,
    turns: Turns,
    events: VecDeque<Event>,
    /// Bytes that wait to be sent, over all streams.
    queued: usize,
    /// Room that empty queues keep.
    kept_room: usize,
    pool: Pool,
}

impl Mux {
    /// No streams yet.
    pub fn new(role: Role, mut settings: Settings) -> Self {
        settings.send_window = settings.send_window.clamp(WINDOW_MIN, WINDOW_MAX);
        settings.receive_window = settings.receive_window.clamp(WINDOW_MIN, WINDOW_MAX);
        let streams = settings.max_streams as usize;
        let first = streams.saturating_mul(settings.receive_window as usize);
        let pool = Pool::new(settings.memory.unread.saturating_sub(first));
        Self {
            role,
            settings,
            streams: HashMap::new(),
            next: u64::from(role == Role::Gateway),
            newest_taken: None,
            urgent: VecDeque::new(),
            turns: Turns::default(),
            events: VecDeque::new(),
            queued: 0,
            kept_room: 0,
            pool,
        }
    }

    /// Streams open now.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// How long a round trip takes: credit grows by it.
    pub fn set_round_trip(&mut self, round_trip: Duration) {
        self.pool.round_trip = Some(round_trip);
    }

    /// Bytes that wait to be sent, over all streams.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Bytes that wait to be sent or read, over all streams.
    pub fn held(&self) -> usize {
        self.queued + self.streams.values().map(|stream| stream.receive.unread()).sum::<usize>()
    }

    /// Opens a stream to `target`. Data may be written at once.
    ///
    /// # Errors
    /// [`OpenError::StreamLimit`].
    pub fn open(&mut self, target: Target) -> Result<StreamId, OpenError> {
        // The second bound is met where streams are opened and dropped again over a link that takes nothing.
        if self.streams.len() >= self.settings.max_streams as usize || self.urgent.len() > self.urgent_max() {
            return Err(OpenError::StreamLimit { limit: self.settings.max_streams });
        }
        let id = StreamId(self.next);
        self.next += 2;
        self.streams.insert(id, stream::Stream::new(&self.settings).behind_all(target.update));
        self.urgent.push_back(Frame::Open(id, target));
        Ok(id)
    }

    /// Says to the opener that the target was reached.
    pub fn confirm(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
            && !std::mem::replace(&mut stream.opened, true)
        {
            self.urgent.push_back(Frame::Opened(id));
        }
    }

    /// Whether the other end has reached the target.
    ///
    /// # Errors
    /// The [`Reset`] that ended the stream.
    pub fn is_opened(&self, id: StreamId) -> Result<bool, Reset> {
        let stream = self.stream(id)?;
        match &stream.reset {
            Some(reset) if !stream.opened => Err(reset.clone()),
            _ => Ok(stream.opened),
        }
    }

    /// Takes as much of `data` as may wait to be sent; zero means [`Event::Writable`] will tell when there is room.
    ///
    /// # Errors
    /// The [`Reset`] that ended the stream; writing after [`finish`](Self::finish) counts as cancelled.
    pub fn write(&mut self, id: StreamId, data: &[u8], now: Instant) -> Result<usize, Reset> {
        let free = self.free_to_queue();
        let stream = self.streams.get_mut(&id).ok_or_else(gone)?;
        if let Some(reset) = &stream.reset {
            return Err(reset.clone());
        }
        self.kept_room -= stream.send.room();
        let taken = stream.send.take(data, free, now);
        self.kept_room += stream.send.room();
        let taken = taken.ok_or_else(gone)?;
        self.queued += taken;
        self.turns.schedule(id, &mut stream.send);
        Ok(taken)
    }

    /// Ends this end's direction once all that was written is sent.
    pub fn finish(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
        {
            stream.send.finish();
            self.turns.schedule(id, &mut stream.send);
        }
    }

    /// Takes up to `max` bytes that came, and gives the other end credit for as many.
    ///
    /// # Errors
    /// The [`Reset`] that ended the stream, once all that came before it has been read.
    pub fn read(&mut self, id: StreamId, max: usize, now: Instant) -> Result<Read, Reset> {
        let stream = self.streams.get_mut(&id).ok_or_else(gone)?;
        if let Some(data) = stream.receive.read(max) {
            self.give_credit(id, now);
            return Ok(Read::Data(data));
        }
        match &stream.reset {
            _ if stream.receive.ended => Ok(Read::End),
            Some(reset) => Err(reset.clone()),
            None => Ok(Read::Wait),
        }
    }

    /// The reset of a stream whose other end had already said all it had to say: reading it tells of an orderly end.
    pub fn broken(&self, id: StreamId) -> Option<Reset> {
        self.streams.get(&id).map_or_else(|| Some(gone()), |stream| stream.broken().cloned())
    }

    /// Ends the stream in both directions at once; what was not sent yet is dropped.
    pub fn reset(&mut self, id: StreamId, reset: Reset) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
        {
            if !stream.is_over() {
                self.urgent.push_back(Frame::Reset(id, reset.clone()));
            }
            self.end(id, reset);
            self.events.extend([Event::Readable(id), Event::Writable(id)]);
        }
    }

    /// Ends the stream in both directions once all that was written is sent.
    pub fn reset_behind(&mut self, id: StreamId, reset: Reset) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
        {
            if stream.send.half == Half::Finished {
                return self.reset(id, reset);
            }
            stream.send.half = Half::Finishing;
            stream.last_word = Some(reset);
            self.turns.schedule(id, &mut stream.send);
        }
    }

    /// Ends both directions of a stream at this end.
    fn end(&mut self, id: StreamId, reset: Reset) {
        if let Some(stream) = self.streams.get_mut(&id) {
            self.queued -= stream.send.queued();
            self.kept_room -= stream.send.room();
            stream.end(reset);
            self.turns.forget(id);
        }
    }

    /// The owner of the stream is gone. What it finished is still sent; then, or at once, the stream is reset as
    /// cancelled if the other end has not finished.
    pub fn release(&mut self, id: StreamId, now: Instant) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.released = true;
        stream.receive.discard();
        if stream.reset.is_none() && stream.send.half != Half::Finishing {
            self.cancel(id);
        }
        self.give_credit(id, now);
        self.remove_if_over(id);
    }

    /// Tells the other end of what was read, once it is enough to be worth a frame. One that reads none of these frames
    /// and sends all the same runs out of credit before they fill the memory.
    fn give_credit(&mut self, id: StreamId, now: Instant) {
        if self.urgent.len() >= 2 * self.urgent_max() {
            return;
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
            && let Some(more) = stream.receive.credit_due(&mut self.pool, now)
        {
            self.urgent.push_back(Frame::Window(id, more));
        }
    }

    /// Resets a stream that nobody owns any more, unless it is over.
    fn cancel(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.is_over()
        {
            self.urgent.push_back(Frame::Reset(id, gone()));
            self.end(id, gone());
        }
    }

    /// Ends every stream with `reset` without a word to the other end: the link is gone.
    pub fn end_all(&mut self, reset: &Reset) {
        self.urgent.clear();
        self.turns = Turns::default();
        (self.queued, self.kept_room) = (0, 0);
        for (id, stream) in &mut self.streams {
            if stream.reset.is_none() && !stream.is_over() {
                stream.end(reset.clone());
            }
            self.events.extend([Event::Readable(*id), Event::Writable(*id)]);
        }
        self.streams.retain(|_, stream| !stream.released);
        self.pool = Pool::new(0);
    }

    /// Ends every stream that the other end has not heard of yet, without a word to it.
    pub fn end_unsent(&mut self, reset: &Reset) {
        let unsent = |frame: &Frame| if let Frame::Open(id, _) = frame { Some(*id) } else { None };
        let ids: Vec<StreamId> = self.urgent.iter().filter_map(unsent).collect();
        self.urgent.retain(|frame| frame.stream().is_none_or(|id| !ids.contains(&id)));
        for id in ids {
            self.end(id, reset.clone());
            self.events.extend([Event::Readable(id), Event::Writable(id)]);
            self.remove_if_over(id);
        }
    }

    /// The next thing to look at.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        give_back(&mut self.events);
        event
    }

    /// Whether anything may be sent now.
    pub fn wants_to_send(&self, allow: Allow) -> bool {
        allow >= Allow::Short && (!self.urgent.is_empty() || self.turns.has_any(allow))
    }

    /// Appends frames to a message until it has `max` bytes or nothing may be sent; returns how many. Of the streams' data
    /// it takes about `paced` bytes, so that what comes meanwhile need not wait for long.
    pub fn fill(&mut self, message: &mut BytesMut, (paced, max): (usize, usize), allow: Allow) -> u64 {
        if allow == Allow::Nothing {
            return 0;
        }
        let mut frames = 0;
        while message.len() + OPEN_MAX + REASON_MAX < max
            && let Some(frame) = self.urgent.pop_front()
        {
            frame.encode(message);
            frames += 1;
        }
        give_back(&mut self.urgent);
        if !self.urgent.is_empty() {
            // No DATA overtakes its OPEN.
            return frames;
        }
        let end = max.saturating_sub(RESET_MAX).min(message.len() + DATA_HEAD_MAX + paced);
        let least = DATA_MAX.min(paced / 2);
        loop {
            let room = end.saturating_sub(message.len() + DATA_HEAD_MAX);
            if room < least {
                return frames;
            }
            let Some(id) = self.turns.next(allow) else { return frames };
            frames += self.fill_from(id, message, room.min(DATA_MAX));
        }
    }

    /// Gives back the room that the queues of bulk keep while they are empty: it is some time since it was needed.
    pub fn cool(&mut self) {
        if std::mem::take(&mut self.kept_room) > 0 {
            self.streams.values_mut().for_each(|stream| stream.send.cool());
        }
    }

    /// Handles a stream's frame.
    ///
    /// # Errors
    /// [`Violation`]: the link must end.
    pub fn handle(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        match frame {
            Frame::Open(id, target) => return self.handle_open(id, target),
            Frame::Opened(id) => {
                if let Some(stream) = self.known(id)? {
                    stream.opened = true;
                    self.events.push_back(Event::Readable(id));
                }
            }
            Frame::Data(id, data) => {
                if let Some(stream) = self.known(id)? {
                    stream.receive.push(id, data)?;
                    if stream.released {
                        self.give_credit(id, now);
                    } else {
                        self.events.push_back(Event::Readable(id));
                    }
                }
            }
            Frame::Window(id, more) => self.handle_window(id, more)?,
            Frame::Fin(id) => {
                if let Some(stream) = self.known(id)? {
                    if std::mem::replace(&mut stream.receive.ended, true) {
                        return Err(Violation::AfterEnd(id));
                    }
                    self.events.push_back(Event::Readable(id));
                    self.remove_if_over(id);
                }
            }
            Frame::Reset(id, reset) => {
                if self.known(id)?.is_some() {
                    self.end(id, reset);
                    self.events.extend([Event::Readable(id), Event::Writable(id)]);
                    self.remove_if_over(id);
                }
            }
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Refused(_)
            | Frame::Close(_)
            | Frame::Ping(_)
            | Frame::Pong(_)
            | Frame::Ack(_)
            | Frame::Control { .. } => {}
        }
        Ok(())
    }

    fn handle_open(&mut self, id: StreamId, target: Target) -> Result<(), Violation> {
        if self.role == Role::Server {
            return Err(Violation::OpenNotTaken);
        }
        if self.is_own(id) || self.newest_taken.is_some_and(|newest| id.0 <= newest) {
            return Err(Violation::StreamNumber(id));
        }
        self.newest_taken = Some(id.0);
        if self.urgent.len() > self.urgent_max() {
            return Err(Violation::Flood);
        }
        if self.streams.len() >= self.settings.max_streams as usize {
            self.urgent.push_back(Frame::Reset(id, Reset::new(ResetReason::StreamLimit, "")));
            return Ok(());
        }
        self.streams.insert(id, stream::Stream::new(&self.settings));
        self.events.push_back(Event::Incoming(id, target));
        Ok(())
    }

    fn handle_window(&mut self, id: StreamId, more: u64) -> Result<(), Violation> {
        let Some(stream) = self.known(id)? else { return Ok(()) };
        let credit = stream.send.credit.saturating_add(more);
        if credit > u64::from(WINDOW_MAX) {
            return Err(Violation::Window(id));
        }
        stream.send.credit = credit;
        // Looked up again: `known` borrowed all of `self`.
        if let Some(stream) = self.streams.get_mut(&id) {
            self.turns.schedule(id, &mut stream.send);
        }
        Ok(())
    }

    /// The stream, or `None` for one that is over at this end (the other end may not know yet).
    fn known(&mut self, id: StreamId) -> Result<Option<&mut stream::Stream>, Violation> {
        let existed =
            if self.is_own(id) { id.0 < self.next } else { self.newest_taken.is_some_and(|newest| id.0 <= newest) };
        if !existed {
            return Err(Violation::NeverOpened(id));
        }
        Ok(self.streams.get_mut(&id).filter(|stream| stream.reset.is_none()))
    }

    fn fill_from(&mut self, id: StreamId, message: &mut BytesMut, max: usize) -> u64 {
        let free = self.free_to_queue();
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        stream.send.class = None;
        self.kept_room -= stream.send.room();
        let keep = (self.settings.memory.queued / KEPT_ROOM).saturating_sub(self.kept_room);
        let given = stream.send.give(max, keep, message, |message, len| put_data_head(message, id, len));
        self.queued -= given;
        let mut frames = u64::from(given > 0);
        if stream.send.half == Half::Finishing && stream.send.queued() == 0 {
            frames += 1;
            if let Some(reset) = stream.last_word.take() {
                Frame::Reset(id, reset.clone()).encode(message);
                stream.end(reset);
            } else {
                stream.send.half = Half::Finished;
                Frame::Fin(id).encode(message);
            }
        }
        self.kept_room += stream.send.room();
        if stream.send.has_room_for_writer(free) {
            self.events.push_back(Event::Writable(id));
        }
        self.turns.schedule(id, &mut stream.send);
        if stream.released && stream.reset.is_none() && stream.send.half == Half::Finished {
            self.cancel(id);
        }
        self.remove_if_over(id);
        frames
    }

    fn remove_if_over(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.get(&id)
            && stream.released
            && (stream.reset.is_some() || stream.is_over())
        {
            self.pool.give_back(stream.receive.grown());
            self.streams.remove(&id);
            self.turns.forget(id);
            if self.streams.is_empty() {
                self.streams.shrink_to(KEPT);
            }
        }
    }

    fn stream(&self, id: StreamId) -> Result<&stream::Stream, Reset> {
        self.streams.get(&id).ok_or_else(gone)
    }

    fn is_own(&self, id: StreamId) -> bool {
        (id.0 % 2 == 1) == (self.role == Role::Gateway)
    }

    /// What all streams together may still queue, beside the little that each always may.
    fn free_to_queue(&self) -> usize {
        self.settings.memory.queued.saturating_sub(self.queued + self.streams.len() * SEND_QUEUE_MIN)
    }

    /// Answers that may wait: one of each kind for each stream, and some for those turned away.
    fn urgent_max(&self) -> usize {
        4 * self.settings.max_streams as usize + 256
    }
}

/// Empty queues keep this part of what all may queue: what grows and shrinks with each message costs more than to be filled.
const KEPT_ROOM: usize = 8;

/// Places that an empty queue or table keeps; the rest of what a burst took is given back.
pub(crate) const KEPT: usize = 3;

/// Gives back what a burst took, once the queue is empty.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.is_empty() {
        queue.shrink_to(KEPT);
    }
}

fn gone() -> Reset {
    Reset::new(ResetReason::Cancelled, "")
}
