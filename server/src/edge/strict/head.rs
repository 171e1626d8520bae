//! Reads one request head, line by line, and says how its body is framed or why it is refused (pure).

use super::Refusal;
use crate::edge::limits;

/// How the bytes after a head belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFraming {
    /// So many bytes.
    Length(u64),
    /// Chunks, the last of size zero, then trailers.
    Chunked,
}

/// A complete and valid head, in as much as framing needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// The body's framing.
    pub(super) body: BodyFraming,
    /// Whether the client asks to go on with another protocol.
    pub(super) upgrade: bool,
}

/// What has been read of a head so far.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    request_line: bool,
    http_10: bool,
    lines: usize,
    hosts: usize,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

impl HeadReader {
    /// Takes one line without its CRLF; the empty line ends the head.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Head>, Refusal> {
        if !self.request_line {
            self.request_line(line)?;
            self.request_line = true;
            return Ok(None);
        }
        if line.is_empty() {
            return self.finish().map(Some);
        }
        self.lines += 1;
        if self.lines > limits::HEAD_LINES {
            return Err(Refusal::TooLarge("the request has more than 100 header lines"));
        }
        let (name, value) = field(line)?;
        self.header(name, value)
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (method, target, version) = (parts.next(), parts.next(), parts.next());
        let (Some(method), Some(target), Some(version)) = (method, target, version) else {
            return Err(Refusal::Bad("the request line has no HTTP version"));
        };
        if parts.next().is_some() {
            return Err(Refusal::Bad("the request line has more than three parts"));
        }
        if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            return Err(Refusal::Bad("the request method is not a word"));
        }
        match version {
            b"HTTP/1.1" => {}
            b"HTTP/1.0" => self.http_10 = true,
            [b'H', b'T', b'T', b'P', b'/', digit, b'.', other] if digit.is_ascii_digit() && other.is_ascii_digit() => {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::Bad("the request line does not end in an HTTP version")),
        }
        check_target(method, target)
    }

    fn header(&mut self, name: &[u8], value: &[u8]) -> Result<Option<Head>, Refusal> {
        if name.eq_ignore_ascii_case(b"host") {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err(Refusal::Bad("the request has more than one Host"));
            }
            if value.is_empty() {
                return Err(Refusal::Bad("the request has an empty Host"));
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Refusal::Bad("the request has more than one Content-Length"));
            }
            self.length = Some(decimal(value).ok_or(Refusal::Bad("Content-Length is not a plain number"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || value != b"chunked" {
                return Err(Refusal::Bad("Transfer-Encoding is something else than `chunked`"));
            }
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade = true;
        }
        Ok(None)
    }

    fn finish(&self) -> Result<Head, Refusal> {
        if self.hosts == 0 {
            return Err(Refusal::Bad("the request has no Host"));
        }
        if self.chunked && self.length.is_some() {
            return Err(Refusal::Bad("the request has both Content-Length and Transfer-Encoding"));
        }
        if self.chunked && self.http_10 {
            return Err(Refusal::Bad("HTTP/1.0 knows no Transfer-Encoding"));
        }
        let body =
            if self.chunked { BodyFraming::Chunked } else { BodyFraming::Length(self.length.unwrap_or_default()) };
        Ok(Head { body, upgrade: self.upgrade && !self.http_10 })
    }
}

/// Splits a header or trailer line into name and trimmed value, and checks both.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::Bad("a header line is folded"));
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Err(Refusal::Bad("a header line has no colon"));
    };
    let (name, value) = (line.get(..colon).unwrap_or_default(), line.get(colon + 1..).unwrap_or_default());
    if name.is_empty() {
        return Err(Refusal::Bad("a header has no name"));
    }
    if !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::Bad("a header name has a character that names cannot have"));
    }
    if !value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f)) {
        return Err(Refusal::Bad("a header value has a control character"));
    }
    Ok((name, trim(value)))
}

/// Checks a request target: a path on this host, visible ASCII, no fragment.
pub fn check_target(method: &[u8], target: &[u8]) -> Result<(), Refusal> {
    if method == b"CONNECT" {
        return Err(Refusal::Bad("this is not a forward proxy"));
    }
    if target == b"*" && method == b"OPTIONS" {
        return Ok(());
    }
    if target.first() != Some(&b'/') {
        return Err(Refusal::Bad("the request target must be a path that begins with `/`"));
    }
    if !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Refusal::Bad("the request target has a character that must be percent-encoded"));
    }
    Ok(())
}

/// Plain digits, at most 18 of them: no sign, no space, no list.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
