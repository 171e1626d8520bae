//! `line`: joins two network namespaces by a line that is as bad as wanted, until it is interrupted.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Parser;
use linkspan_tests::line::{End, Line, Way};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

/// Joins two network namespaces (`ip netns add NAME`) by a line with delay, loss and so on. Needs root.
///
/// Settings: delay=50ms jitter=5ms loss=1% dup=0.1% reorder=1% reorder-by=5ms rate=10mbit queue=64k down up clear
///
/// While it runs, its control socket takes lines like `both loss=2%`, `a-b rate=1mbit`, `both down` and `show`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Namespace of the first end.
    a: String,
    /// Namespace of the second end.
    b: String,
    /// Address of the first end.
    #[arg(long, default_value = "10.77.0.1/24")]
    address_a: String,
    /// Address of the second end.
    #[arg(long, default_value = "10.77.0.2/24")]
    address_b: String,
    /// Decides on every random loss: the same seed, the same line.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Unix socket to take commands on.
    #[arg(long)]
    control: Option<PathBuf>,
    /// Settings of both directions to begin with.
    settings: Vec<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let a = End { namespace: &arguments.a, address: &arguments.address_a };
    let b = End { namespace: &arguments.b, address: &arguments.address_b };
    let line = Line::new(&a, &b, arguments.seed)?;
    line.set(Way::Both, &arguments.settings.join(" "))?;
    let mut terminate = signal(SignalKind::terminate())?;
    eprintln!("line: {} and {} are joined; Ctrl-C parts them", arguments.a, arguments.b);
    tokio::select! {
        done = control(&line, arguments.control.as_deref()) => done,
        done = tokio::signal::ctrl_c() => Ok(done?),
        _ = terminate.recv() => Ok(()),
    }?;
    eprintln!("{}", line.describe());
    Ok(())
}

/// Takes commands for as long as the line lives.
async fn control(line: &Line, path: Option<&Path>) -> Result<()> {
    let Some(path) = path else { return std::future::pending().await };
    drop(std::fs::remove_file(path));
    let listener = UnixListener::bind(path).with_context(|| format!("cannot listen on {}", path.display()))?;
    let mut last = JoinSet::new();
    loop {
        // One at a time: commands are short, and whoever keeps the socket open makes room for the next caller.
        let (socket, _) = listener.accept().await?;
        last.abort_all();
        let (questions, mut asked) = tokio::sync::mpsc::channel(1);
        last.spawn(converse(socket, questions));
        while let Some((words, answer)) = tokio::select! {
            next = asked.recv() => next,
            _ = last.join_next() => None,
        } {
            drop(tokio::sync::oneshot::Sender::send(answer, obey(line, &words)));
        }
    }
}

type Question = (String, tokio::sync::oneshot::Sender<String>);

async fn converse(socket: UnixStream, questions: tokio::sync::mpsc::Sender<Question>) -> Result<()> {
    let (read, mut write) = socket.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Some(words) = lines.next_line().await? {
        let (answer, answered) = tokio::sync::oneshot::channel();
        questions.send((words, answer)).await?;
        write.write_all(format!("{}\n", answered.await?).as_bytes()).await?;
    }
    Ok(())
}

fn obey(line: &Line, words: &str) -> String {
    match command(line, words) {
        Ok(answer) => answer,
        Err(error) => format!("error: {error:#}"),
    }
}

fn command(line: &Line, words: &str) -> Result<String> {
    let (first, rest) = words.trim().split_once(' ').unwrap_or((words.trim(), ""));
    let way = match first {
        "show" => return Ok(line.describe()),
        "a-b" => Way::AToB,
        "b-a" => Way::BToA,
        "both" => Way::Both,
        _ => bail!("`{first}` is none of both, a-b, b-a, show"),
    };
    line.set(way, rest)?;
    Ok("ok".to_owned())
}
