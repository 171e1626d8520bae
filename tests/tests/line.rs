//! The line emulator between two real network namespaces: how much it carries, and how true its delay is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use linkspan_tests::line::{End, Line, Way};
use linkspan_tests::netns::{Namespace, run};

struct Pair {
    a: Namespace,
    b: Namespace,
    line: Line,
}

fn pair() -> Result<Pair> {
    let (a, b) = (Namespace::new("a")?, Namespace::new("b")?);
    let line = Line::new(&End::new(&a, "10.77.0.1/24"), &End::new(&b, "10.77.0.2/24"), 42)?;
    Ok(Pair { a, b, line })
}

impl Pair {
    /// Round trips in milliseconds, as `ping` measures them, and the share that was lost in percent.
    fn ping(&self, count: u32, interval: &str) -> Result<(Vec<f64>, f64)> {
        let count = count.to_string();
        let arguments = ["-n", "-c", &count, "-i", interval, "-W", "2", "10.77.0.2"];
        let output = self.a.command("ping").args(arguments).output()?;
        let text = String::from_utf8(output.stdout)?;
        let times = text.lines().filter_map(|l| l.split_once("time=")?.1.strip_suffix(" ms")?.parse().ok()).collect();
        let lost = text
            .split(", ")
            .find_map(|part| part.strip_suffix("% packet loss\n").or(part.split_once("% packet loss").map(|p| p.0)));
        Ok((times, lost.context("ping says nothing about loss")?.parse()?))
    }
}

#[test]
fn delay_is_true_to_a_millisecond_each_way() {
    let pair = pair().unwrap();
    pair.line.set(Way::Both, "delay=50ms").unwrap();
    let (mut times, lost) = pair.ping(20, "0.02").unwrap();
    times.sort_by(f64::total_cmp);
    let median = times[times.len() / 2];
    eprintln!("asked for 100 ms there and back; measured {:.2} to {:.2}, median {median:.2}", times[0], times[19]);
    assert_eq!(lost, 0.0);
    assert!(times[0] >= 100.0 && median < 102.0, "{times:?}");
    pair.line.set(Way::AToB, "delay=20ms").unwrap();
    let (times, _) = pair.ping(5, "0.02").unwrap();
    assert!(times.iter().all(|t| (70.0..80.0).contains(t)), "one way changed while running: {times:?}");
}

#[test]
fn what_is_lost_is_lost_and_a_cut_line_comes_back() {
    let pair = pair().unwrap();
    pair.line.set(Way::AToB, "loss=30%").unwrap();
    let (_, lost) = pair.ping(200, "0.002").unwrap();
    assert!((20.0..40.0).contains(&lost), "{lost}");
    pair.line.set(Way::Both, "clear down").unwrap();
    let (times, lost) = pair.ping(1, "0.01").unwrap();
    assert_eq!((times.len(), lost), (0, 100.0));
    pair.line.set(Way::Both, "up").unwrap();
    assert_eq!(pair.ping(5, "0.01").unwrap().0.len(), 5);
    let (a_to_b, _) = pair.line.counts();
    assert_eq!(a_to_b.entered, a_to_b.left + a_to_b.lost, "{a_to_b:?}");
}

#[test]
fn tcp_goes_through_as_fast_as_the_rate_says() {
    let pair = pair().unwrap();
    let free = throughput(&pair, 64 << 20).unwrap();
    pair.line.set(Way::AToB, "rate=20mbit queue=64k").unwrap();
    let limited = throughput(&pair, 8 << 20).unwrap();
    eprintln!("unshaped {:.0} Mbit/s; at 20 Mbit/s: {:.1}", free / 1e6, limited / 1e6);
    assert!(free > 100e6, "{free}");
    assert!((15e6..20e6).contains(&limited), "{limited}");
}

/// Bits a second of a TCP transfer from the first namespace to the second.
fn throughput(pair: &Pair, bytes: usize) -> Result<f64> {
    let (listener, address) = listen_in(&pair.b, "10.77.0.2")?;
    let receiver = std::thread::spawn(move || -> Result<(usize, Instant)> {
        let (mut socket, _) = listener.accept()?;
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            match socket.read(&mut buffer)? {
                0 => return Ok((total, Instant::now())),
                n => total += n,
            }
        }
    });
    let mut socket = pair.a.inside(move || Ok(TcpStream::connect_timeout(&address, Duration::from_secs(5))?))?;
    let begin = Instant::now();
    let chunk = vec![7; 1 << 16];
    for _ in 0..bytes / chunk.len() {
        socket.write_all(&chunk)?;
    }
    drop(socket);
    let (received, end) = receiver.join().map_err(|_| anyhow::anyhow!("the receiver panicked"))??;
    assert_eq!(received, bytes);
    Ok(bytes as f64 * 8.0 / (end - begin).as_secs_f64())
}

fn listen_in(namespace: &Namespace, host: &str) -> Result<(TcpListener, SocketAddr)> {
    let host = host.to_owned();
    namespace.inside(move || {
        let listener = TcpListener::bind((host.as_str(), 0))?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    })
}

#[test]
fn the_program_takes_commands_on_its_socket() {
    let (a, b) = (Namespace::new("a").unwrap(), Namespace::new("b").unwrap());
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("control");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_line"));
    command.args([a.name(), b.name(), "--control"]).arg(&socket).args(["delay=10ms"]);
    command.stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.next().unwrap().unwrap().contains("are joined"));
    let begin = Instant::now();
    let stream = loop {
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < Duration::from_secs(5), "{error}"),
        }
    };
    let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |words: &str| {
        (&stream).write_all(format!("{words}\n").as_bytes()).unwrap();
        answers.next().unwrap().unwrap()
    };
    assert_eq!(ask("a-b delay=30ms loss=0"), "ok");
    assert!(ask("both speed=3").starts_with("error: `speed=3` is none of"));
    assert!(ask("sideways").starts_with("error: `sideways` is none of"));
    assert!(ask("show").starts_with("a-b: delay=30ms"));
    run(a.command("ping").args(["-c1", "-W2", "10.77.0.2"])).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id().cast_signed()), nix::sys::signal::Signal::SIGINT)
        .unwrap();
    assert!(child.wait().unwrap().success());
}
