//! What a gateway holds: as it idles with twenty devices, and after a million streams. `make memory` builds the program as
//! routers get it and runs this; LINKSPAN_GATEWAY names another one, LINKSPAN_STREAMS another number.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod support;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use linkspan_gateway::status::LinkState;
use support::{Server, ServerLink, Site, device, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// The budget of a gateway that idles, in KiB.
const IDLE_MAX: u64 = 4096;
/// What may have come to it after so many streams: the allocator's own pieces.
const GROWN_MAX: u64 = 128;
const DEVICES: usize = 20;
const AT_ONCE: usize = 64;

fn program() -> PathBuf {
    std::env::var_os("LINKSPAN_GATEWAY").map_or_else(|| env!("CARGO_BIN_EXE_linkspan-gateway").into(), PathBuf::from)
}

/// A gateway in a process of its own.
struct Program(Child);

impl Program {
    fn start(site: &Site) -> Self {
        let mut command = Command::new(program());
        command.args(["run", "--config"]).arg(site.file()).stderr(Stdio::null()).kill_on_drop(true);
        Self(command.spawn().unwrap())
    }

    fn file(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id().unwrap())).unwrap()
    }

    /// Resident and of it its own, in KiB; /proc/PID/status can be behind.
    fn resident(&self) -> (u64, u64) {
        let all = self.file("smaps_rollup");
        let field = |name: &str| -> u64 {
            let line = all.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (field("Rss:"), field("Anonymous:"))
    }

    fn threads(&self) -> u64 {
        let status = self.file("status");
        status.lines().find_map(|line| line.strip_prefix("Threads:")).unwrap().trim().parse().unwrap()
    }
}

/// A device that says a word and hangs up; where it listens.
async fn farewell(tasks: &mut JoinSet<()>) -> SocketAddr {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1024).unwrap();
    let address = listener.local_addr().unwrap();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            // It is gone whatever became of the word.
            let _ = stream.write_all(b"bye").await;
        }
    });
    address
}

/// Opens one stream and sees it to its end; every fourth is dropped in the middle.
async fn visit(link: &ServerLink, number: usize) {
    let mut stream = link.open(&format!("plc{}", number % DEVICES));
    stream.opened().await.unwrap();
    if number % 4 == 3 {
        return;
    }
    let mut word = Vec::new();
    stream.read_to_end(&mut word).await.unwrap();
    assert_eq!(word, b"bye");
}

async fn visits(link: &Arc<ServerLink>, count: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (link, next) = (link.clone(), next.clone());
        lanes.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                visit(&link, number).await;
            }
        });
    }
    while let Some(done) = lanes.join_next().await {
        done.unwrap();
    }
}

#[tokio::test]
#[ignore = "takes minutes: make memory"]
async fn an_idle_gateway_is_small_and_a_million_streams_leave_nothing() {
    let streams = std::env::var("LINKSPAN_STREAMS").map_or(1_000_000, |count| count.parse().unwrap());
    let mut tasks = JoinSet::new();
    let at = farewell(&mut tasks).await;
    let server = Server::new().await;
    // Each at an address of its own, so that the ports suffice.
    let devices: String =
        (0..DEVICES).map(|n| device(&format!("plc{n}"), &format!("127.0.0.{}", n + 1), at.port())).collect();
    let site = Site::for_server(&server, &devices);
    let gateway = Program::start(&site);
    let link = Arc::new(server.accept().await);
    site.eventually("a link", |status| status.link.state == LinkState::Connected).await;
    // The resolver's threads are short-lived.
    eventually("one thread", async || (gateway.threads() == 1).then_some(())).await;
    let (idle, own) = gateway.resident();
    eprintln!("idle, {DEVICES} devices: {idle} KiB resident, {own} KiB of it its own; 1 thread");
    assert!(idle <= IDLE_MAX, "{idle} KiB");

    let begin = Instant::now();
    visits(&link, streams / 10).await;
    site.eventually("no streams", |status| status.streams.open == 0).await;
    let early = gateway.resident().1;
    visits(&link, streams - streams / 10).await;
    site.eventually("no streams", |status| status.streams.open == 0).await;
    let late = gateway.resident().1;
    let each = begin.elapsed() / u32::try_from(streams).unwrap();
    eprintln!("of its own after {} streams {early} KiB, after {streams} {late} KiB; {each:?} each", streams / 10);
    assert!(late <= early + GROWN_MAX, "from {early} to {late} KiB");
    assert_eq!(gateway.threads(), 1);
}
