//! Many streams over one link: who may send how much, and whose turn it is.
//!
//! Credit is per stream, so a reader that stalls delays nobody else. What is sent next is decided as late as possible:
//! short frames that others wait for (OPEN, OPENED, WINDOW, RESET) first, then quiet streams, then bulk in fair turns.

mod buffer;
mod stream;
mod turns;

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use bytes::{BufMut, Bytes, BytesMut};

use self::stream::Half;
use self::turns::Turns;
use crate::frame::{DATA_HEAD_MAX, FIN_MAX, Frame, Reset, ResetReason, StreamId, Target, put_data_head};
use crate::limits::{DATA_MAX, OPEN_MAX, REASON_MAX, WINDOW_MAX, WINDOW_MIN};

/// Which end of the link this is. It decides whose stream numbers are even.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Accepts streams and reaches devices.
    Gateway,
    /// Opens streams.
    Server,
}

/// What the two ends agreed on in the handshake. Windows are taken for no less than [`WINDOW_MIN`] and no more than
/// [`WINDOW_MAX`], by both ends alike.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Credit in bytes that this end gives on a new stream.
    pub receive_window: u32,
    /// Credit in bytes that the other end gives on a new stream.
    pub send_window: u32,
    /// Streams that may be open at once.
    pub max_streams: u32,
}

/// Something the owner of the streams should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The other end opened a stream.
    Incoming(StreamId, Target),
    /// The other end has reached the target, or something came to read, or the stream was reset.
    Readable(StreamId),
    /// There is room again for a writer that was told to wait, or the stream was reset.
    Writable(StreamId),
}

/// Why a stream was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The link has ended.
    #[error("the link has ended")]
    Closed,
    /// As many streams are open as may be.
    #[error("{limit} streams are open already")]
    StreamLimit {
        /// How many may be.
        limit: u32,
    },
}

/// What a reader gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// Some bytes, never none.
    Data(Bytes),
    /// Nothing yet: [`Event::Readable`] tells when.
    Wait,
    /// No more will come.
    End,
}

/// A rule of the language that the other end broke. It ends the link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A stream number of the wrong end, or not larger than the last.
    #[error("stream {0} may not be opened")]
    StreamNumber(StreamId),
    /// This end does not take streams.
    #[error("this end opens streams, it does not take any")]
    OpenNotTaken,
    /// A frame for a stream that was never opened.
    #[error("a frame for stream {0}, which was never opened")]
    NeverOpened(StreamId),
    /// More data than there was credit.
    #[error("more data on stream {0} than it had credit for")]
    Credit(StreamId),
    /// More credit than a stream may have.
    #[error("more credit for stream {0} than a stream may have")]
    Window(StreamId),
    /// Data, or another FIN, after FIN.
    #[error("data on stream {0} after its end")]
    AfterEnd(StreamId),
    /// Answers pile up because the other end asks without reading.
    #[error("too many answers wait for an end that does not read them")]
    Flood,
}

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
}

impl Mux {
    /// No streams yet.
    pub fn new(role: Role, mut settings: Settings) -> Self {
        settings.send_window = settings.send_window.clamp(WINDOW_MIN, WINDOW_MAX);
        settings.receive_window = settings.receive_window.clamp(WINDOW_MIN, WINDOW_MAX);
        Self {
            role,
            settings,
            streams: HashMap::new(),
            next: u64::from(role == Role::Gateway),
            newest_taken: None,
            urgent: VecDeque::new(),
            turns: Turns::default(),
            events: VecDeque::new(),
        }
    }

    /// Streams open now.
    pub fn open_streams(&self) -> usize {
        self.streams.len()
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
        self.streams.insert(id, stream::Stream::new(&self.settings));
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
        let stream = self.streams.get_mut(&id).ok_or_else(gone)?;
        if let Some(reset) = &stream.reset {
            return Err(reset.clone());
        }
        let taken = stream.send.take(data, now).ok_or_else(gone)?;
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
    pub fn read(&mut self, id: StreamId, max: usize) -> Result<Read, Reset> {
        let stream = self.streams.get_mut(&id).ok_or_else(gone)?;
        if let Some(data) = stream.receive.read(max) {
            self.give_credit(id);
            return Ok(Read::Data(data));
        }
        match &stream.reset {
            _ if stream.receive.ended => Ok(Read::End),
            Some(reset) => Err(reset.clone()),
            None => Ok(Read::Wait),
        }
    }

    /// Ends the stream in both directions at once; what was not sent yet is dropped.
    pub fn reset(&mut self, id: StreamId, reset: Reset) {
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
        {
            if !stream.is_over() {
                self.urgent.push_back(Frame::Reset(id, reset.clone()));
            }
            self.turns.forget(id);
            stream.end(reset);
            self.events.extend([Event::Readable(id), Event::Writable(id)]);
        }
    }

    /// The owner of the stream is gone. What it finished is still sent; then, or at once, the stream is reset as
    /// cancelled if the other end has not finished.
    pub fn release(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.released = true;
        stream.receive.discard();
        if stream.reset.is_none() && stream.send.half != Half::Finishing {
            self.cancel(id);
        }
        self.give_credit(id);
        self.remove_if_over(id);
    }

    /// Tells the other end of what was read, once it is enough to be worth a frame. One that reads none of these frames
    /// and sends all the same runs out of credit before they fill the memory.
    fn give_credit(&mut self, id: StreamId) {
        if self.urgent.len() >= 2 * self.urgent_max() {
            return;
        }
        if let Some(stream) = self.streams.get_mut(&id)
            && stream.reset.is_none()
            && let Some(more) = stream.receive.credit_due()
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
            stream.end(gone());
            self.turns.forget(id);
        }
    }

    /// Ends every stream with `reset` without a word to the other end: the link is gone.
    pub fn end_all(&mut self, reset: &Reset) {
        self.urgent.clear();
        self.turns = Turns::default();
        for (id, stream) in &mut self.streams {
            if stream.reset.is_none() && !stream.is_over() {
                stream.end(reset.clone());
            }
            self.events.extend([Event::Readable(*id), Event::Writable(*id)]);
        }
        self.streams.retain(|_, stream| !stream.released);
    }

    /// The next thing to look at.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        give_back(&mut self.events);
        event
    }

    /// Whether anything may be sent now.
    pub fn wants_to_send(&self) -> bool {
        !self.urgent.is_empty() || !self.turns.is_empty()
    }

    /// Appends frames to a message until it has `max` bytes or nothing may be sent; returns how many.
    pub fn fill(&mut self, message: &mut BytesMut, max: usize) -> u64 {
        let mut frames = 0;
        while message.len() + OPEN_MAX + REASON_MAX < max
            && let Some(frame) = self.urgent.pop_front()
        {
            frame.encode(message);
            frames += 1;
        }
        give_back(&mut self.urgent);
        // What is urgent and found no room above leaves none here either: no DATA overtakes its OPEN.
        while message.len() + DATA_HEAD_MAX + DATA_MAX + FIN_MAX <= max
            && let Some(id) = self.turns.next()
        {
            frames += self.fill_from(id, message);
        }
        frames
    }

    /// Handles a stream's frame.
    ///
    /// # Errors
    /// [`Violation`]: the link must end.
    pub fn handle(&mut self, frame: Frame) -> Result<(), Violation> {
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
                        self.give_credit(id);
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
                if let Some(stream) = self.known(id)? {
                    stream.end(reset);
                    self.turns.forget(id);
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

    fn fill_from(&mut self, id: StreamId, message: &mut BytesMut) -> u64 {
        let Some(stream) = self.streams.get_mut(&id) else { return 0 };
        stream.send.class = None;
        let mut frames = 0;
        let data = stream.send.give(DATA_MAX);
        if !data.is_empty() {
            put_data_head(message, id, data.len());
            message.put_slice(&data);
            frames += 1;
        }
        if stream.send.half == Half::Finishing && stream.send.is_empty() {
            stream.send.half = Half::Finished;
            Frame::Fin(id).encode(message);
            frames += 1;
        }
        if stream.send.has_room_for_writer() {
            self.events.push_back(Event::Writable(id));
        }
        self.turns.schedule(id, &mut stream.send);
        if stream.released && stream.send.half == Half::Finished {
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

    /// Answers that may wait: one of each kind for each stream, and some for those turned away.
    fn urgent_max(&self) -> usize {
        4 * self.settings.max_streams as usize + 256
    }
}

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
