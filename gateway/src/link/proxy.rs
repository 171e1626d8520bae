//! Asks an HTTP proxy for the way to the server: CONNECT (RFC 9110, section 9.3.6) with Basic credentials (RFC 7617).

use linkspan_protocol::encoding::base64;
use linkspan_protocol::text::tame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::backoff::Retry;
use super::failure::{Failure, Step};
use crate::config::{HostPort, Proxy};

/// Longest answer to CONNECT, in bytes: its header section and nothing after it.
const ANSWER_MAX: usize = 16 * 1024;

/// Once this returns, the stream leads to `to`.
pub(super) async fn connect<S>(stream: &mut S, proxy: &Proxy, to: &HostPort) -> Result<(), Failure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let exchange = async {
        stream.write_all(request(proxy, to).as_bytes()).await.map_err(|e| hung_up(&e.to_string()))?;
        read_answer(stream).await
    };
    let answer = timeout(Step::Proxy.deadline(), exchange)
        .await
        .map_err(|_| Failure::timed_out(Step::Proxy, "the proxy", "ask whoever runs the proxy"))??;
    judge(&answer, proxy, to)
}

fn request(proxy: &Proxy, to: &HostPort) -> String {
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n");
    if let Some(credentials) = &proxy.credentials {
        let encoded = base64(credentials.expose().as_bytes());
        request += &format!("Proxy-Authorization: Basic {encoded}\r\n");
    }
    request + "\r\n"
}

/// Byte by byte to the empty line: what follows it belongs to the server. It is one small answer per dial.
async fn read_answer<S: AsyncRead + Unpin>(stream: &mut S) -> Result<String, Failure> {
    let mut answer = Vec::with_capacity(256);
    loop {
        match stream.read_u8().await {
            Ok(byte) => answer.push(byte),
            Err(_) if answer.is_empty() => return Err(hung_up("it closed the connection without an answer")),
            Err(e) => return Err(hung_up(&e.to_string())),
        }
        if answer.ends_with(b"\r\n\r\n") || answer.ends_with(b"\n\n") {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
        if answer.len() >= 5 && !answer.starts_with(b"HTTP/") {
            return Err(no_proxy());
        }
        if answer.len() >= ANSWER_MAX {
            return Err(Failure::new(Step::Proxy, "the proxy's answer is too long", "is this port an HTTP proxy?"));
        }
    }
}

fn judge(answer: &str, proxy: &Proxy, to: &HostPort) -> Result<(), Failure> {
    let (status_line, header) = answer.split_once('\n').unwrap_or((answer, ""));
    let status = status_line.split_whitespace().nth(1).and_then(|code| code.parse::<u16>().ok());
    let said = format!("the proxy answered \"{}\"", tame(status_line));
    let (advice, retry) = match status {
        Some(200..=299) => return Ok(()),
        // Some proxies say 401 where 407 is meant (tinyproxy 1.11, to wrong credentials).
        Some(status @ (401 | 407)) => return Err(unauthorized(status, header, proxy)),
        Some(403 | 405) => {
            (format!("let whoever runs the proxy allow CONNECT to {to} for this gateway"), Retry::Slowly)
        }
        Some(404 | 502..=504) => (format!("the proxy could not reach {to}; is [server] url right?"), Retry::Soon),
        Some(_) => ("ask whoever runs the proxy".to_owned(), Retry::Soon),
        None => return Err(no_proxy()),
    };
    Err(Failure::new(Step::Proxy, said, advice).with_retry(retry))
}

/// Tried again slowly: proxies with a user directory behind them lock accounts after some wrong passwords.
fn unauthorized(status: u16, header: &str, proxy: &Proxy) -> Failure {
    let offered: Vec<&str> = header
        .lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authenticate"))
        .filter_map(|(_, value)| value.split_whitespace().next())
        .collect();
    let offers_basic = offered.is_empty() || offered.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    let (what, advice) = match &proxy.credentials {
        _ if !offers_basic => (
            format!("the proxy wants {} authentication ({status})", tame(&offered.join(" or "))),
            "only Basic is spoken here: let whoever runs the proxy allow Basic, or let this gateway through without",
        ),
        None => (
            format!("the proxy wants a user name and a password ({status})"),
            "write [server] proxy = \"http://user:password@host:port\"",
        ),
        Some(_) => (
            format!("the proxy does not accept the user name and password ({status})"),
            "correct them in [server] proxy; write %40 for @ and %3A for : in them",
        ),
    };
    Failure::new(Step::Proxy, what, advice).with_retry(Retry::Slowly)
}

fn hung_up(why: &str) -> Failure {
    Failure::new(Step::Proxy, format!("the proxy hung up: {}", tame(why)), "is [server] proxy an HTTP proxy?")
}

fn no_proxy() -> Failure {
    Failure::new(Step::Proxy, "what answers there is no HTTP proxy", "correct the host or the port in [server] proxy")
}

#[cfg(test)]
mod tests {
    use super::*;
    use linkspan_protocol::id::Secret;

    async fn ask(proxy: &Proxy, answer: &str) -> (String, Result<(), Failure>, String) {
        let (mut near, mut far) = tokio::io::duplex(64 * 1024);
        far.write_all(answer.as_bytes()).await.unwrap();
        far.shutdown().await.unwrap();
        let to = HostPort { host: "2001:db8::1".into(), port: 443 };
        let result = connect(&mut near, proxy, &to).await;
        let mut rest = String::new();
        near.read_to_string(&mut rest).await.unwrap();
        drop(near);
        let mut asked = String::new();
        far.read_to_string(&mut asked).await.unwrap();
        (asked, result, rest)
    }

    fn proxy(credentials: Option<&str>) -> Proxy {
        Proxy { at: HostPort { host: "proxy".into(), port: 3128 }, credentials: credentials.map(Secret::new) }
    }

    #[tokio::test]
    async fn the_request_is_exact_and_nothing_after_the_answer_is_swallowed() {
        let ok = "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nSERVER";
        let (asked, result, rest) = ask(&proxy(None), ok).await;
        assert_eq!(asked, "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n");
        assert_eq!((result, rest.as_str()), (Ok(()), "SERVER"));
        let (asked, ..) = ask(&proxy(Some("user:p@ss")), ok).await;
        assert!(asked.ends_with("\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n"), "{asked}");
    }

    #[tokio::test]
    async fn each_refusal_says_what_to_do() {
        let basic = "HTTP/1.1 407 No\r\nproxy-authenticate: Basic realm=\"x\"\r\n\r\n";
        let ntlm = "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
        let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n", "x".repeat(40_000));
        for (credentials, answer, told, retry) in [
            (None, basic, "wants a user name", Retry::Slowly),
            (Some("user:hunter2"), basic, "does not accept", Retry::Slowly),
            (Some("user:hunter2"), ntlm, "wants NTLM or Negotiate", Retry::Slowly),
            (None, "HTTP/1.0 403 Forbidden\r\n\r\n", "allow CONNECT to [2001:db8::1]:443", Retry::Slowly),
            (None, "HTTP/1.1 503 \u{7}busy\r\n\r\n", "503  busy", Retry::Soon),
            (None, "HTTP/1.1 200", "hung up", Retry::Soon),
            (None, "", "without an answer", Retry::Soon),
            (None, "SSH-2.0-OpenSSH\r\n", "no HTTP proxy", Retry::Soon),
            (None, "HTTP/1.1 yes\r\n\r\n", "no HTTP proxy", Retry::Soon),
            (None, &long, "too long", Retry::Soon),
        ] {
            let failure = ask(&proxy(credentials), answer).await.1.unwrap_err();
            assert!(failure.to_string().contains(told), "{failure}");
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
            assert_eq!((failure.step, failure.retry), (Step::Proxy, retry), "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_proxy_is_given_up() {
        let (mut near, _far) = tokio::io::duplex(64);
        let to = HostPort { host: "server".into(), port: 443 };
        let failure = connect(&mut near, &proxy(None), &to).await.unwrap_err();
        assert!(failure.what.contains("no answer from the proxy within"), "{failure}");
    }
}
