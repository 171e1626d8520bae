//! Turns a connection into a WebSocket (RFC 6455, section 4.1): one request, and an answer that is read with care.

use std::io;

use linkspan_protocol::encoding::base64;
use linkspan_protocol::message::{LINK_PATH, SUBPROTOCOL};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::AGENT;
use crate::config::HostPort;

/// Longest answer that is read, in bytes: its header section.
const ANSWER_MAX: usize = 16 * 1024;

/// What the other end adds to the key before it hashes both (RFC 6455, section 1.3).
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("what answers there speaks no HTTP")]
    NoHttp,
    #[error("the server answered {} {}", .0.status, .0.reason)]
    Answered(Answer),
    #[error("the server does not speak {SUBPROTOCOL}")]
    Subprotocol,
    #[error("the server's answer is no WebSocket's: {0} is wrong or missing")]
    Header(&'static str),
}

/// An answer that is no WebSocket.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
    pub(super) location: Option<String>,
    pub(super) retry_after: Option<String>,
    pub(super) date: Option<String>,
}

/// Asks for the WebSocket of a link; what was read beyond the answer belongs to it.
pub(super) async fn upgrade<S>(stream: &mut S, at: &HostPort) -> Result<Vec<u8>, UpgradeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let key = base64(&std::array::from_fn::<u8, 16, _>(|_| fastrand::u8(..)));
    stream.write_all(request(at, &key).as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::with_capacity(512);
    loop {
        if let Some(end) = end_of_head(&answer) {
            let rest = answer.split_off(end);
            judge(&String::from_utf8_lossy(&answer), &key)?;
            return Ok(rest);
        }
        if answer.len() >= ANSWER_MAX || (answer.len() >= 5 && !answer.starts_with(b"HTTP/")) {
            return Err(UpgradeError::NoHttp);
        }
        if (&mut *stream).take(1024).read_buf(&mut answer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

fn request(at: &HostPort, key: &str) -> String {
    let authority = at.to_string();
    let authority = authority.strip_suffix(":443").unwrap_or(&authority);
    format!(
        "GET {LINK_PATH} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\
         User-Agent: {AGENT}\r\n\r\n"
    )
}

/// Behind the empty line, once it is there.
fn end_of_head(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// The answer to a request with that key: a WebSocket, and of the language that is spoken here.
fn judge(head: &str, key: &str) -> Result<(), UpgradeError> {
    let (status_line, header) = head.split_once("\r\n").ok_or(UpgradeError::NoHttp)?;
    let mut words = status_line.splitn(3, ' ');
    let status = words.nth(1).and_then(|code| code.parse().ok()).ok_or(UpgradeError::NoHttp)?;
    let all = |name: &'static str| {
        let fields = header.lines().filter_map(|line| line.split_once(':'));
        fields.filter(move |(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let only = |name| all(name).next();
    if status != 101 {
        let kept = |name| only(name).map(str::to_owned);
        return Err(UpgradeError::Answered(Answer {
            status,
            reason: words.next().unwrap_or_default().to_owned(),
            location: kept("location"),
            retry_after: kept("retry-after"),
            date: kept("date"),
        }));
    }
    let says = |name, word: &str| {
        all(name).flat_map(|value| value.split(',')).any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    if !says("upgrade", "websocket") {
        return Err(UpgradeError::Header("Upgrade"));
    }
    if !says("connection", "upgrade") {
        return Err(UpgradeError::Header("Connection"));
    }
    if only("sec-websocket-accept") != Some(&accept_of(key)) {
        return Err(UpgradeError::Header("Sec-WebSocket-Accept"));
    }
    // Extensions were not asked for, so there are none.
    if only("sec-websocket-extensions").is_some() {
        return Err(UpgradeError::Header("Sec-WebSocket-Extensions"));
    }
    if only("sec-websocket-protocol") != Some(SUBPROTOCOL) {
        return Err(UpgradeError::Subprotocol);
    }
    Ok(())
}

fn accept_of(key: &str) -> String {
    base64(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    fn answer(lines: &[&str]) -> String {
        let usual = [
            "upgrade: WebSocket",
            "Connection: keep-alive, Upgrade",
            "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
            "Sec-WebSocket-Protocol: linkspan.1",
        ];
        let name = |line: &str| line.split(':').next().map(str::to_ascii_lowercase);
        let kept = usual.into_iter().filter(|one| lines.iter().all(|line| name(line) != name(one)));
        let lines: Vec<_> = kept.chain(lines.iter().copied().filter(|line| !line.ends_with(':'))).collect();
        format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n\r\n", lines.join("\r\n"))
    }

    #[test]
    fn the_example_of_the_rfc_is_accepted_and_nothing_else() {
        assert_eq!(accept_of(KEY), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(judge(&answer(&[]), KEY).is_ok());
        let told = |lines: &[&str]| judge(&answer(lines), KEY).unwrap_err().to_string();
        assert!(told(&["upgrade: h2c"]).contains("Upgrade is wrong"));
        assert!(told(&["connection: close"]).contains("Connection is wrong"));
        assert!(told(&["sec-websocket-accept: AAAA"]).contains("Sec-WebSocket-Accept"));
        assert!(told(&["sec-websocket-accept:"]).contains("Sec-WebSocket-Accept"));
        assert!(told(&["sec-websocket-extensions: permessage-deflate"]).contains("Extensions"));
        for other in ["sec-websocket-protocol: linkspan.9", "sec-websocket-protocol:"] {
            assert_eq!(told(&[other]), "the server does not speak linkspan.1");
        }
        assert!(judge(&answer(&[]), "another key").is_err());
        assert!(matches!(judge("HTTP/1.1 ok\r\n\r\n", KEY), Err(UpgradeError::NoHttp)));
    }

    #[test]
    fn another_answer_keeps_what_a_person_needs() {
        let head = "HTTP/1.1 302 Found\r\nLocation: https://b\r\nRetry-After: 4\r\nDate: now\r\n\r\n";
        let Err(UpgradeError::Answered(answer)) = judge(head, KEY) else { panic!("{:?}", judge(head, KEY)) };
        let expected = Answer {
            status: 302,
            reason: "Found".into(),
            location: Some("https://b".into()),
            retry_after: Some("4".into()),
            date: Some("now".into()),
        };
        assert_eq!(answer, expected);
    }

    #[tokio::test]
    async fn what_follows_the_answer_belongs_to_the_websocket() {
        let (mut near, mut far) = duplex(4096);
        let at = HostPort { host: "server".into(), port: 443 };
        let other_end = async {
            let mut asked = Vec::new();
            while end_of_head(&asked).is_none() {
                asked.push(far.read_u8().await.unwrap());
            }
            let asked = String::from_utf8(asked).unwrap();
            assert!(asked.starts_with("GET /link HTTP/1.1\r\nHost: server\r\n"), "{asked}");
            let key = asked.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
            let said = answer(&[&format!("sec-websocket-accept: {}", accept_of(key))]);
            far.write_all(format!("{said}frames").as_bytes()).await.unwrap();
        };
        let (rest, ()) = tokio::join!(upgrade(&mut near, &at), other_end);
        assert_eq!(rest.unwrap(), b"frames");
    }

    #[tokio::test]
    async fn an_endless_answer_and_another_language_are_given_up() {
        let at = HostPort { host: "server".into(), port: 443 };
        for (said, expected) in [
            (format!("HTTP/1.1 101 {}", "x".repeat(ANSWER_MAX)), "no HTTP"),
            ("SSH-2.0-OpenSSH\r\n".to_owned(), "no HTTP"),
            ("HTTP/1.1 101".to_owned(), "broke"),
        ] {
            let (mut near, mut far) = duplex(64 * 1024);
            far.write_all(said.as_bytes()).await.unwrap();
            far.shutdown().await.unwrap();
            let error = upgrade(&mut near, &at).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
