//! Asks the server for a certificate: one HTTPS request over the same way as the link, proxy and trust included.

use std::time::Duration;

use linkspan_protocol::enrol::{ENROL_PATH, EnrolRequest, Enrolled};
use linkspan_protocol::text::tame;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::config::{HostPort, Server};
use crate::link::{AGENT, Failure, TlsMemory, dial};

/// Time for the request and its answer, once the connection is there.
const DEADLINE: Duration = Duration::from_secs(30);
/// Longest answer: certificates, and words for people.
const ANSWER_MAX: u64 = 64 * 1024;
/// Waits that a server may ask for.
const WAIT: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3600));

/// What the server says.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The certificate.
    Enrolled(Box<Enrolled>),
    /// Somebody has to accept this router first; ask again after this.
    Pending(Duration),
    /// No, and what people may know of why.
    Refused(String),
    /// Not now; ask again after this.
    Later(Duration, String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// The server was not reached, or is not trusted.
    #[error(transparent)]
    Reach(#[from] Failure),
    /// It was, but what came back is no answer of a Linkspan server.
    #[error("the server at {0} gave no answer that can be understood: {1}; is it a Linkspan server of this version?")]
    Strange(HostPort, String),
}

/// What a problem's answer says (RFC 9457).
#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    detail: String,
}

/// Asks once.
pub(crate) async fn post(server: &Server, tls: &TlsMemory, request: &EnrolRequest) -> Result<Answer, PostError> {
    let strange = |what: &str| PostError::Strange(server.at.clone(), tame(what));
    let body = serde_json::to_vec(request).unwrap_or_default();
    let mut stream = dial::once(server, tls).await?;
    let exchange = async {
        stream.write_all(&head(&server.at, body.len())).await?;
        stream.write_all(&body).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        match (&mut stream).take(ANSWER_MAX).read_to_end(&mut answer).await {
            // Who hangs up without TLS's own goodbye may still have said everything; its length tells.
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => Ok(answer),
            read => read.map(|_| answer),
        }
    };
    let answer = match timeout(DEADLINE, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => return Err(crate::link::broken(&e).map_or_else(|| strange(&e.to_string()), Into::into)),
        Err(_) => return Err(strange("it took too long")),
    };
    let answer = Http::read(&answer).ok_or_else(|| strange("it is no HTTP, or was cut short"))?;
    let detail = || serde_json::from_slice::<Problem>(&answer.body).map(|problem| tame(&problem.detail));
    let wait = Duration::from_secs(answer.retry_after.unwrap_or(30)).clamp(WAIT.0, WAIT.1);
    match answer.status {
        200 => {
            let enrolled: Enrolled = serde_json::from_slice(&answer.body).map_err(|e| strange(&e.to_string()))?;
            Ok(Answer::Enrolled(Box::new(enrolled)))
        }
        202 => Ok(Answer::Pending(wait)),
        403 => Ok(Answer::Refused(detail().map_err(|_| strange("status 403"))?)),
        429 | 503 => Ok(Answer::Later(wait, detail().unwrap_or_default())),
        status => Err(strange(&format!("status {status} {}", detail().unwrap_or_default()))),
    }
}

fn head(at: &HostPort, length: usize) -> Vec<u8> {
    let authority = at.to_string();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    format!(
        "POST {ENROL_PATH} HTTP/1.1\r\nHost: {authority}\r\nUser-Agent: {AGENT}\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )
    .into_bytes()
}

/// An answer that has ended.
#[derive(Debug, PartialEq, Eq)]
struct Http {
    status: u16,
    retry_after: Option<u64>,
    body: Vec<u8>,
}

impl Http {
    fn read(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
        let rest = bytes.get(end + 4..)?;
        let mut lines = head.split("\r\n");
        let status = lines.next()?.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
        let (mut retry_after, mut length, mut chunked) = (None, None, false);
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "retry-after" => retry_after = value.parse().ok(),
                "content-length" => length = Some(value.parse::<usize>().ok()?),
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                _ => {}
            }
        }
        let body = match (chunked, length) {
            (true, _) => unchunk(rest)?,
            (false, Some(length)) => rest.get(..length)?.to_vec(),
            (false, None) => rest.to_vec(),
        };
        Some(Self { status, retry_after, body })
    }
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let line = std::str::from_utf8(rest.get(..end)?).ok()?;
        let size = usize::from_str_radix(line.split(';').next()?.trim(), 16).ok()?;
        rest = rest.get(end + 2..)?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_whole_or_not_at_all() {
        let read = |text: &str| Http::read(text.as_bytes());
        let found = read("HTTP/1.1 202 Accepted\r\nRetry-After: 30\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        assert_eq!(found, Http { status: 202, retry_after: Some(30), body: b"{}".to_vec() });
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
        assert_eq!(read(chunked).unwrap().body, b"abcd");
        assert_eq!(read("HTTP/1.0 500 No\r\n\r\nrest").unwrap().body, b"rest");
        for cut in 1..chunked.len() - 4 {
            assert_eq!(read(&chunked[..cut]), None, "{cut}");
        }
        for bad in [
            "",
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx\r\n0\r\n\r\n",
        ] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }
}
