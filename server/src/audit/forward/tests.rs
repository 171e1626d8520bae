//! Sending on, to destinations that are real sockets: nothing is lost when they are away, and nobody waits for them.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::*;
use crate::audit::{Action, Actor, Entry};
use crate::store::tests::fresh;

const DEADLINE: Duration = Duration::from_secs(20);

async fn note(audit: &Audit, n: usize) {
    audit.note(Entry::new(Action::SERVER_START, Actor::system()).with("n", n)).await.unwrap();
}

fn local(port: u16) -> Place {
    Place { host: "127.0.0.1".into(), port, tls: false }
}

/// One message of a counted stream.
async fn counted(reader: &mut BufReader<TcpStream>) -> String {
    let mut count = Vec::new();
    reader.read_until(b' ', &mut count).await.unwrap();
    let count: usize = std::str::from_utf8(&count).unwrap().trim().parse().unwrap();
    let mut text = vec![0; count];
    reader.read_exact(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn syslog_over_tcp_gets_every_row_also_after_it_was_away() {
    let (_dir, store) = fresh().await;
    let audit = Audit::start(store.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    note(&audit, 0).await;
    assert_eq!(store.audit_forwarded("syslog").await.unwrap(), 1, "what was before is not sent");
    let mut tasks = JoinSet::new();
    let syslog = Syslog::new(SyslogTo::Stream(local(port)), "c.test", None).unwrap();
    tasks.spawn(forward(store.clone(), audit.clone(), syslog));
    note(&audit, 1).await;
    let (socket, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut reader = BufReader::new(socket);
    let text = timeout(DEADLINE, counted(&mut reader)).await.unwrap();
    assert!(text.starts_with("<110>1 ") && text.contains("\"details\":{\"n\":1}"), "{text}");
    // It goes away; what is written meanwhile waits in the database.
    drop((reader, listener));
    for n in 2..5 {
        note(&audit, n).await;
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let (socket, _) = timeout(DEADLINE, listener.accept()).await.unwrap().unwrap();
    let mut reader = BufReader::new(socket);
    let mut seen = Vec::new();
    while !seen.iter().any(|text: &String| text.contains("\"n\":4}")) {
        seen.push(timeout(DEADLINE, counted(&mut reader)).await.unwrap());
    }
    assert!(seen.iter().any(|text| text.contains("\"n\":2}")) || seen.len() >= 2, "{seen:?}");
}

#[tokio::test]
async fn syslog_over_udp_and_a_unix_socket() {
    let (dir, store) = fresh().await;
    let audit = Audit::start(store.clone());
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let path = dir.path().join("log");
    let unix = UnixDatagram::bind(&path).unwrap();
    let to = SyslogTo::Udp { host: "127.0.0.1".into(), port: udp.local_addr().unwrap().port() };
    note(&audit, 1).await;
    let rows = store.audit_after(&AuditSearch::default(), 0, 10).await.unwrap();
    let mut buffer = vec![0; 8192];
    Syslog::new(to, "c.test", None).unwrap().send(&rows).await.unwrap();
    let read = timeout(DEADLINE, udp.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(buffer[..read].ends_with(b"\"}"), "{}", buffer[..read].escape_ascii());
    Syslog::new(SyslogTo::Unix(path), "", None).unwrap().send(&rows).await.unwrap();
    let read = timeout(DEADLINE, unix.recv(&mut buffer)).await.unwrap().unwrap();
    assert!(buffer[..read].starts_with(b"<110>1 "), "{}", buffer[..read].escape_ascii());
}

/// Answers one request with this status; what was asked.
async fn answer(listener: &TcpListener, status: &str) -> String {
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains("\r\n\r\n") || text.len() < length(&text) {
        let read = socket.read(&mut buffer).await.unwrap();
        assert_ne!(read, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    socket.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    text
}

fn length(text: &str) -> usize {
    let head = text.find("\r\n\r\n").unwrap_or(0) + 4;
    let body = text.lines().find_map(|line| line.strip_prefix("content-length: "));
    head + body.map_or(0, |length| length.trim().parse().unwrap())
}

#[tokio::test]
async fn a_web_hook_is_signed_and_tried_again_until_it_takes_the_rows() {
    let (_dir, store) = fresh().await;
    let audit = Audit::start(store.clone());
    store.audit_forwarded("webhook").await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = WebhookTo { place: local(port), path: "/hook?a=b".into(), authority: format!("127.0.0.1:{port}") };
    let secret = linkspan_protocol::id::Secret::new("a secret of some length");
    let mut tasks = JoinSet::new();
    tasks.spawn(forward(store.clone(), audit.clone(), Webhook::new(to, &secret, None).unwrap()));
    note(&audit, 1).await;
    let refused = timeout(DEADLINE, answer(&listener, "500 Oh no")).await.unwrap();
    note(&audit, 2).await;
    let taken = timeout(DEADLINE, answer(&listener, "200 OK")).await.unwrap();
    assert!(refused.contains("\"n\":1}") && taken.contains("\"n\":1}"), "tried again: {taken}");
    let (head, body) = taken.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /hook?a=b HTTP/1.1\r\n"), "{head}");
    let signature = head.lines().find_map(|line| line.strip_prefix("linkspan-signature: t=")).unwrap();
    let (time, tag) = signature.split_once(",v1=").unwrap();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"a secret of some length");
    let tag = data_encoding::HEXLOWER.decode(tag.as_bytes()).unwrap();
    ring::hmac::verify(&key, format!("{time}.{body}").as_bytes(), &tag).unwrap();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while store.audit_forwarded("webhook").await.unwrap() == 0 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}
