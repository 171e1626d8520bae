//! What speaks at a port: a few bytes are sent, a bounded answer is read, and no byte of it is trusted.

use std::net::IpAddr;
use std::time::Duration;

use linkspan_protocol::discovery::{FoundService, TEXT_MAX, bounded};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ask;

/// Time for an answer, and how much of it is read.
const ANSWER: Duration = Duration::from_secs(3);
const ANSWER_MAX: usize = 16 * 1024;

/// What is expected at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Speech {
    Http,
    Https,
    Ssh,
    Rfb,
    Rtsp,
    Modbus,
    /// Nothing is sent, and nothing waited for: of this kind, it is enough that somebody listens.
    Silent(&'static str),
    /// The description of a UPnP device, at that path.
    #[cfg(feature = "ssdp")]
    Description(String),
}

/// What was heard.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) kind: &'static str,
    pub(super) text: String,
    /// Maker and model.
    pub(super) about: Option<String>,
    /// The page for people that it names, if that is at another port.
    pub(super) page: Option<FoundService>,
}

impl Speech {
    /// What is expected at a port of which the device has told.
    pub(super) fn told_of(service: &FoundService) -> Option<Self> {
        Some(match service.kind.strip_suffix("._tcp")? {
            "_http" => Self::Http,
            "_https" => Self::Https,
            "_ssh" | "_sftp-ssh" => Self::Ssh,
            "_rfb" => Self::Rfb,
            "_rtsp" => Self::Rtsp,
            "_modbus" | "_mbap" => Self::Modbus,
            #[cfg(feature = "ssdp")]
            "_upnp" if service.text.starts_with('/') => Self::Description(service.text.clone()),
            _ => return None,
        })
    }

    pub(super) async fn listen(self, mut stream: TcpStream, ip: IpAddr) -> Shown {
        let shown = |kind, text: Option<String>| Shown {
            kind,
            text: bounded(&text.unwrap_or_default(), TEXT_MAX),
            ..Shown::default()
        };
        match self {
            Self::Http => shown("_http._tcp", page(&mut stream, ip).await),
            Self::Https => {
                let (name, page) = match timeout(ANSWER, ask::tls(stream, ip)).await {
                    Ok(Some((name, mut stream))) => (name, page(&mut stream, ip).await),
                    Ok(None) | Err(_) => (None, None),
                };
                let text: Vec<_> = [page, name.map(|name| format!("({name})"))].into_iter().flatten().collect();
                shown("_https._tcp", Some(text.join(" ")))
            }
            Self::Ssh => shown("_ssh._tcp", line(&mut stream, b"").await.filter(|text| text.starts_with("SSH-"))),
            Self::Rfb => shown("_rfb._tcp", line(&mut stream, b"").await.filter(|text| text.starts_with("RFB "))),
            Self::Rtsp => {
                let answer = read(&mut stream, b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", b"\r\n\r\n").await;
                shown("_rtsp._tcp", answer.and_then(|answer| header(&answer, "server")))
            }
            Self::Modbus => {
                let about = timeout(ANSWER, ask::modbus(&mut stream)).await.ok().flatten();
                Shown { about: about.map(|text| bounded(&text, TEXT_MAX)), ..shown("_modbus._tcp", None) }
            }
            Self::Silent(kind) => shown(kind, None),
            #[cfg(feature = "ssdp")]
            Self::Description(path) => description(&mut stream, ip, &path).await,
        }
    }
}

/// Who made it, what it is and how somebody called it (UPnP Device Architecture 2.0, section 2.3).
#[cfg(feature = "ssdp")]
async fn description(stream: &mut TcpStream, ip: IpAddr, path: &str) -> Shown {
    use crate::discovery::ssdp::text::{Url, words};

    let answer = read(stream, get(ip, path).as_bytes(), b"</root>").await.unwrap_or_default();
    let made: Vec<_> =
        ["manufacturer", "modelName", "modelNumber"].iter().filter_map(|name| words(&answer, name)).collect();
    let called = words(&answer, "friendlyName").map(|name| format!("({name})"));
    let about: Vec<_> = made.into_iter().chain(called).collect();
    let page = words(&answer, "presentationURL");
    let page = page.as_deref().and_then(Url::read).filter(|url| url.host == ip.to_string());
    let page = page.map(|url| FoundService {
        kind: if url.is_tls { "_https._tcp" } else { "_http._tcp" }.to_owned(),
        port: url.port,
        text: String::new(),
    });
    let about = (!about.is_empty()).then(|| bounded(&about.join(" "), TEXT_MAX));
    Shown { kind: "_upnp._tcp", about, page, ..Shown::default() }
}

/// Title and server of the page at `/`.
async fn page(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), ip: IpAddr) -> Option<String> {
    let answer = read(stream, get(ip, "/").as_bytes(), b"</title>").await?;
    if !answer.starts_with("HTTP/") {
        return None;
    }
    let words: Vec<_> = [title(&answer), header(&answer, "server")].into_iter().flatten().collect();
    Some(words.join(", "))
}

fn get(ip: IpAddr, path: &str) -> String {
    let host = if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() };
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/html, text/xml\r\nConnection: close\r\n\r\n")
}

async fn line(stream: &mut TcpStream, send: &[u8]) -> Option<String> {
    let answer = read(stream, send, b"\n").await?;
    answer.lines().next().map(str::to_owned)
}

/// What is answered, up to those bytes or as far as it comes in time.
async fn read(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), send: &[u8], until: &[u8]) -> Option<String> {
    let mut answer = Vec::new();
    let talk = async {
        stream.write_all(send).await?;
        let mut piece = [0; 2048];
        while answer.len() < ANSWER_MAX {
            let count = stream.read(&mut piece).await?;
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&piece[..count]);
            if answer.to_ascii_lowercase().windows(until.len()).any(|window| window == until) {
                break;
            }
        }
        std::io::Result::Ok(())
    };
    // What came before it stopped is worth reading.
    let _ended = timeout(ANSWER, talk).await;
    (!answer.is_empty()).then(|| String::from_utf8_lossy(&answer).into_owned())
}

fn header(answer: &str, wanted: &str) -> Option<String> {
    let head = answer.split("\r\n\r\n").next()?;
    let value = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
    });
    value.filter(|value| !value.is_empty())
}

fn title(answer: &str) -> Option<String> {
    // Letters of ASCII alone change their case, so places are the same in both.
    let lower = answer.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower.get(start..)?.find('>')? + 1;
    let rest = lower.get(start..)?;
    // Tags have no meaning within a title; one that has no end is taken up to whatever follows.
    let end = rest.find("</title").or_else(|| rest.find('<')).map_or(lower.len(), |at| start + at);
    let title = answer.get(start..end)?.split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_and_headers_are_found_in_answers_of_all_kinds() {
        let answer = "HTTP/1.1 200 OK\r\nServer: GoAhead\r\n\r\n<HTML><Title lang=x>\n Pump \t <i>house </TITLE>";
        assert_eq!(title(answer).as_deref(), Some("Pump <i>house"));
        assert_eq!(header(answer, "server").as_deref(), Some("GoAhead"));
        for odd in ["", "<title", "<title>", "ß<title>", "\r\n\r\nServer: x", "HTTP/1.1 200\r\nServer:\r\n"] {
            assert_eq!((title(odd), header(odd, "server")), (None, None), "{odd:?}");
        }
    }
}
