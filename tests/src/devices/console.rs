//! A service console on a TCP port, as small controllers have: a banner, a prompt, a handful of commands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Where the banner ends and the first prompt begins.
pub(super) const PROMPT: &str = "plc1> ";
const BANNER: &str = "HYDROLOGIC LC-314 service console, firmware V 2.6.11\nType help for a list of commands.\n\n";
const HELP: &str =
    "status     the values of the station\nnetwork    interfaces\nversion    firmware\nexit       good bye\n";
/// Longest line; who sends more is no person.
const LINE_MAX: u64 = 1024;
/// Callers at once.
const CALLERS: usize = 16;

/// The console; it ends when dropped.
#[derive(Debug)]
pub struct Console {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

type Status = Arc<dyn Fn() -> String + Send + Sync>;

impl Console {
    /// Starts it on an address; port 0 takes a free one. `status` is what the command of that name answers.
    pub async fn start(address: SocketAddr, status: impl Fn() -> String + Send + Sync + 'static) -> Result<Self> {
        let (listener, address) = super::listen(address).await?;
        let mut tasks = JoinSet::new();
        tasks.spawn(answer_all(listener, Arc::new(status)));
        Ok(Self { address, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn answer_all(listener: TcpListener, status: Status) {
    let mut callers = JoinSet::new();
    loop {
        while callers.len() >= CALLERS {
            callers.join_next().await;
        }
        match listener.accept().await {
            Ok((socket, _)) => drop(callers.spawn(converse(socket, Arc::clone(&status)))),
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
        while callers.try_join_next().is_some() {}
    }
}

async fn converse(socket: TcpStream, status: Status) -> Result<()> {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read);
    write.write_all(format!("{BANNER}{PROMPT}").as_bytes()).await?;
    loop {
        let mut line = String::new();
        if (&mut lines).take(LINE_MAX).read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let answer = match line.trim() {
            "" => String::new(),
            "status" => format!("{}\n", status()),
            "network" => "eth0  192.168.10.11/24  link up  100 Mbit/s full duplex\n".to_owned(),
            "version" => "LC-314  6HL7 314-1AE04  V 2.6.11\n".to_owned(),
            "help" | "?" => HELP.to_owned(),
            "exit" | "quit" => return Ok(()),
            other => format!("{}: unknown command, try help\n", other.escape_debug()),
        };
        write.write_all(format!("{answer}{PROMPT}").as_bytes()).await?;
    }
}
