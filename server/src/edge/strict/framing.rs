//! Follows the requests of one HTTP/1.1 connection byte by byte and says how many bytes may go on, or why none (pure).

use super::Refusal;
use super::head::{BodyFraming, Head, HeadReader, field};
use crate::edge::limits;

/// Where in a connection's requests the next byte stands.
#[derive(Debug)]
enum State {
    /// In a request head; it is let through when it is complete and valid.
    Head { reader: HeadReader, lines: Lines },
    /// So many bytes of a body with a length, or of a chunk, are left.
    Data { left: u64, chunked: bool },
    /// In the line that begins a chunk.
    ChunkLine(Lines),
    /// At the CRLF after a chunk's data.
    ChunkEnd,
    /// In the trailer lines after the last chunk.
    Trailers { lines: Lines, count: usize },
    /// A request for another protocol is complete: nothing more is looked at until it is answered.
    Switching,
    /// Another protocol is spoken: everything passes.
    Raw,
}

/// Follows request framing. Feed it what has been received and not yet let through.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    upgrade: bool,
    requests: u64,
}

/// In which part of a connection's life the reader is; each part has its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests: not a byte of the next one was seen.
    Idle,
    /// In a request head.
    Head,
    /// In a request body.
    Body,
    /// After a request for another protocol, not answered yet.
    Switching,
    /// Another protocol.
    Raw,
}

impl Default for Framing {
    fn default() -> Self {
        Self { state: State::head(), upgrade: false, requests: 0 }
    }
}

impl Framing {
    /// How many of these bytes may go on, starting with the first; zero means that more must be read to tell.
    /// `held` must begin where the last call's bytes ended.
    pub(super) fn advance(&mut self, held: &[u8]) -> Result<usize, Refusal> {
        match &mut self.state {
            State::Head { reader, lines } => {
                let Some((head, end)) = read_head(reader, lines, held)? else { return Ok(0) };
                self.requests += 1;
                self.upgrade = head.upgrade;
                self.begin_body(head);
                Ok(end)
            }
            State::Data { left, chunked } => {
                let taken = (*left).min(held.len() as u64);
                *left -= taken;
                if *left == 0 {
                    if *chunked { self.state = State::ChunkEnd } else { self.end_request() }
                }
                Ok(usize::try_from(taken).unwrap_or(held.len()))
            }
            State::ChunkLine(lines) => {
                let Some((line, end)) = lines.next(held, limits::CHUNK_LINE, "a chunk's first line is too long")?
                else {
                    return Ok(0);
                };
                self.state = match chunk_size(line)? {
                    0 => State::Trailers { lines: Lines::default(), count: 0 },
                    left => State::Data { left, chunked: true },
                };
                Ok(end)
            }
            State::ChunkEnd => match held {
                [] | [b'\r'] => Ok(0),
                [b'\r', b'\n', ..] => {
                    self.state = State::ChunkLine(Lines::default());
                    Ok(2)
                }
                _ => Err(Refusal::Bad("a chunk is longer than it said")),
            },
            State::Trailers { lines, count } => {
                let Some(end) = read_trailers(lines, count, held)? else { return Ok(0) };
                self.end_request();
                Ok(end)
            }
            State::Switching => Ok(0),
            State::Raw => Ok(held.len()),
        }
    }

    /// The request for another protocol was answered: with 101, or like any other request.
    pub(super) fn switched(&mut self, raw: bool) {
        if matches!(self.state, State::Switching) {
            self.state = if raw { State::Raw } else { State::head() };
        }
    }

    /// Request heads let through so far.
    pub(super) fn requests(&self) -> u64 {
        self.requests
    }

    /// Which deadline holds.
    pub(super) fn phase(&self, held: usize) -> Phase {
        match &self.state {
            State::Head { .. } if held == 0 => Phase::Idle,
            State::Head { .. } => Phase::Head,
            State::Data { .. } | State::ChunkLine(_) | State::ChunkEnd | State::Trailers { .. } => Phase::Body,
            State::Switching => Phase::Switching,
            State::Raw => Phase::Raw,
        }
    }

    /// Bytes that may pass without being looked at: the rest of a body or of a chunk.
    pub(super) fn plain(&self) -> u64 {
        match self.state {
            State::Data { left, .. } => left,
            State::Raw => u64::MAX,
            _ => 0,
        }
    }

    /// Notes that so many plain bytes have passed.
    pub(super) fn passed(&mut self, bytes: usize) {
        if let State::Data { left, chunked } = &mut self.state {
            *left = left.saturating_sub(bytes as u64);
            if *left == 0 {
                if *chunked { self.state = State::ChunkEnd } else { self.end_request() }
            }
        }
    }

    fn begin_body(&mut self, head: Head) {
        match head.body {
            BodyFraming::Length(0) => self.end_request(),
            BodyFraming::Length(left) => self.state = State::Data { left, chunked: false },
            BodyFraming::Chunked => self.state = State::ChunkLine(Lines::default()),
        }
    }

    fn end_request(&mut self) {
        self.state = if self.upgrade { State::Switching } else { State::head() };
    }
}

impl State {
    fn head() -> Self {
        Self::Head { reader: HeadReader::default(), lines: Lines::default() }
    }
}

fn read_head(reader: &mut HeadReader, lines: &mut Lines, held: &[u8]) -> Result<Option<(Head, usize)>, Refusal> {
    loop {
        // Some clients send an empty line after a body they gave no length for (RFC 9112, section 2.2): one may pass.
        if lines.start == 0 && held.starts_with(b"\r\n") {
            lines.skip(2);
        }
        let Some((line, end)) = lines.next(held, limits::HEAD_BYTES, "the request head is larger than 32 KiB")? else {
            return Ok(None);
        };
        if let Some(head) = reader.line(line)? {
            return Ok(Some((head, end)));
        }
    }
}

fn read_trailers(lines: &mut Lines, count: &mut usize, held: &[u8]) -> Result<Option<usize>, Refusal> {
    loop {
        let Some((line, end)) = lines.next(held, limits::TRAILER_BYTES, "the trailers are too long")? else {
            return Ok(None);
        };
        if line.is_empty() {
            return Ok(Some(end));
        }
        *count += 1;
        if *count > limits::HEAD_LINES {
            return Err(Refusal::TooLarge("the request has more than 100 trailer lines"));
        }
        field(line)?;
    }
}

/// Finds lines that end in CRLF in a growing buffer; each byte is looked at once.
#[derive(Debug, Default)]
struct Lines {
    start: usize,
    scanned: usize,
}

impl Lines {
    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.scanned = self.scanned.max(self.start);
    }

    /// The next line without its CRLF, and where the one after it begins.
    fn next<'b>(
        &mut self,
        held: &'b [u8],
        limit: usize,
        too_long: &'static str,
    ) -> Result<Option<(&'b [u8], usize)>, Refusal> {
        while let Some(byte) = held.get(self.scanned) {
            let after_cr = self.scanned > self.start && held.get(self.scanned - 1) == Some(&b'\r');
            match (after_cr, byte) {
                (false, b'\n') => return Err(Refusal::Bad("a line ends in LF without CR")),
                (true, b'\n') => {
                    let line = held.get(self.start..self.scanned - 1).unwrap_or_default();
                    self.scanned += 1;
                    self.start = self.scanned;
                    return Ok(Some((line, self.start)));
                }
                (true, _) => return Err(Refusal::Bad("a CR stands alone")),
                (false, b'\0') => return Err(Refusal::Bad("a NUL stands in a line")),
                (false, _) => self.scanned += 1,
            }
            if self.scanned > limit {
                return Err(Refusal::TooLarge(too_long));
            }
        }
        Ok(None)
    }
}

/// The size at the start of a chunk's line: hexadecimal digits, then nothing or an extension.
fn chunk_size(line: &[u8]) -> Result<u64, Refusal> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (size, rest) = (line.get(..digits).unwrap_or_default(), line.get(digits..).unwrap_or_default());
    if digits == 0 || digits > 15 || !matches!(rest.first(), None | Some(b';')) {
        return Err(Refusal::Bad("a chunk size is not a hexadecimal number"));
    }
    if !rest.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte < 0x7f)) {
        return Err(Refusal::Bad("a chunk extension has a control character"));
    }
    std::str::from_utf8(size)
        .ok()
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(Refusal::Bad("a chunk size is not a hexadecimal number"))
}
