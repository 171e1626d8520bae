//! Bytes through `linkspan connect`: all of them, both ways, each direction with an end of its own, and clear failures.

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::command::{DEADLINE, Ended, Home, finish};
use crate::server::{Answer, Device, Server, json, problem};

fn connect(server: &Server, home: &Home, target: &str) -> Command {
    let mut command = home.linkspan(&["connect", target]);
    command.env("LINKSPAN_SERVER", server.url()).env("LINKSPAN_TOKEN", "canary-token");
    command.env("LINKSPAN_CA_FILE", server.ca_file()).stdin(Stdio::piped());
    command
}

fn start(server: &Server, home: &Home) -> Child {
    connect(server, home, "plc1:ssh").spawn().unwrap()
}

#[test]
fn fifty_megabytes_come_back_equal() {
    let server = Server::start(|_| Answer::Stream(Device::Echo));
    let home = Home::new();
    let mut child = start(&server, &home);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let sent: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(50_000_001 / 8 + 1)
    .flatten()
    .take(50_000_001)
    .collect();
    let mut input = child.stdin.take().unwrap();
    let mut output = child.stdout.take().unwrap();
    let got = std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || input.write_all(sent).unwrap());
        let mut got = Vec::with_capacity(sent.len());
        output.read_to_end(&mut got).unwrap();
        got
    });
    assert_eq!(got.len(), sent.len());
    assert!(got == sent, "the bytes differ");
    let ended = finish(child);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
    let asked = &server.asked()[0];
    assert_eq!(asked.line, "GET /api/v1/devices/plc1/services/ssh/stream HTTP/1.1");
    assert!(asked.head.contains("authorization: Bearer canary-token\r\n"));
}

#[test]
fn a_keystroke_comes_back_at_once() {
    let server = Server::start(|_| Answer::Stream(Device::Echo));
    let home = Home::new();
    let mut child = start(&server, &home);
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for key in [b"l", b"s", b"\n"] {
        input.write_all(key).unwrap();
        let mut back = [0];
        output.read_exact(&mut back).unwrap();
        assert_eq!(&back, key);
    }
    drop(input);
    assert_eq!(finish(child).code, Some(0));
}

#[test]
fn the_end_of_the_input_is_passed_on_while_the_answer_is_awaited() {
    let server = Server::start(|_| Answer::Stream(Device::CountThenAnswer));
    let home = Home::new();
    let mut child = start(&server, &home);
    child.stdin.take().unwrap().write_all(&[7; 100_000]).unwrap();
    let ended = finish(child);
    assert_eq!((ended.code, ended.out.as_str(), ended.err.as_str()), (Some(0), "100000 bytes\n", ""));
    let file = home.path().join("input");
    std::fs::write(&file, "from a file").unwrap();
    let child = connect(&server, &home, "plc1:ssh").stdin(std::fs::File::open(file).unwrap()).spawn().unwrap();
    assert_eq!(finish(child).out, "11 bytes\n");
}

#[test]
fn the_end_of_the_answer_closes_stdout_while_the_input_goes_on() {
    let server = Server::start(|_| Answer::Stream(Device::EndFirst));
    let home = Home::new();
    let mut child = start(&server, &home);
    let mut said = String::new();
    // Returns only because stdout is closed: the process still runs, its stdin is open.
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello\n");
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"still heard").unwrap();
    drop(input);
    let ended = finish(child);
    assert_eq!((ended.code, ended.err.as_str()), (Some(69), "linkspan: plc1:ssh: still heard\n"));
}

#[test]
fn a_socket_as_stdin_and_stdout_is_half_closed_too() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let server = Server::start(|_| Answer::Stream(Device::EndFirst));
    let home = Home::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut command = connect(&server, &home, "plc1:ssh");
    command.stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
    let child = command.spawn().unwrap();
    drop(command);
    let mut said = String::new();
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    ours.read_to_string(&mut said).unwrap();
    assert_eq!(said, "hello\n");
    ours.write_all(b"by socket").unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(finish(child).err, "linkspan: plc1:ssh: by socket\n");
}

#[test]
fn a_non_blocking_stdin_is_waited_for() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    let server = Server::start(|_| Answer::Stream(Device::Echo));
    let home = Home::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = connect(&server, &home, "plc1:ssh");
    command.stdin(OwnedFd::from(theirs.try_clone().unwrap())).stdout(OwnedFd::from(theirs));
    let child = command.spawn().unwrap();
    drop(command);
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    let sent = vec![9; 3_000_000];
    let got = std::thread::scope(|scope| {
        let (mut writer, sent) = (ours.try_clone().unwrap(), &sent);
        scope.spawn(move || {
            writer.write_all(sent).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut got = Vec::new();
        ours.read_to_end(&mut got).unwrap();
        got
    });
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
    assert_eq!(finish(child).code, Some(0));
}

/// Runs with an input that stays open: only the server's word can end it.
fn run_with_open_input(server: &Server, target: &str) -> Ended {
    let home = Home::new();
    let mut child = connect(server, &home, target).spawn().unwrap();
    let held = child.stdin.take();
    let ended = finish(child);
    drop(held);
    ended
}

#[test]
fn failures_on_the_way_say_whose_they_are() {
    for (device, words) in [
        (Device::Close(4502, "the device refused the connection"), "the device refused the connection"),
        (Device::Close(4504, "no answer within 10 s\u{1b}[2J"), "no answer within 10 s\\u{1b}[2J"),
        (Device::Close(4503, ""), "the device's gateway is not connected, or the link to it was lost"),
        (Device::Close(1011, "internal"), "internal"),
        (Device::Cut, "the connection to the server was cut"),
    ] {
        let server = Server::start(move |_| Answer::Stream(device));
        let ended = run_with_open_input(&server, "plc1:ssh");
        assert_eq!((ended.code, ended.out.as_str()), (Some(69), ""), "{ended:?}");
        assert_eq!(ended.err, format!("linkspan: plc1:ssh: {words}\n"));
    }
    let server = Server::start(|_| Answer::Stream(Device::Close(1000, "")));
    let ended = run_with_open_input(&server, "plc1:ssh");
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn refusals_before_the_stream_say_why() {
    for (answer, code, words) in [
        (problem("404 Not Found", "no such device or service"), 69, "plc1:ssh: no such device or service"),
        (problem("503 Service Unavailable", "site12 is offline"), 69, "plc1:ssh: site12 is offline"),
        (problem("403 Forbidden", "not yours"), 77, "plc1:ssh: not yours"),
        (problem("401 Unauthorized", "no"), 77, "plc1:ssh: https://remote.localhost"),
        (problem("429 Too Many Requests", "too many streams"), 69, "plc1:ssh: too many streams"),
        (json("200 OK", "{}"), 69, "not a Linkspan server"),
    ] {
        let server = Server::start(move |_| answer.clone());
        let ended = run_with_open_input(&server, "plc1:ssh");
        assert_eq!((ended.code, ended.out.as_str()), (Some(code), ""), "{ended:?}");
        assert!(ended.err.contains(words), "{ended:?}");
    }
}

#[test]
fn the_only_service_needs_no_name() {
    let list = r#"{"devices":[{"name":"plc1","services":[{"name":"web","kind":"http"},{"name":"shell","kind":"ssh"}]},
        {"name":"plc2","services":[{"name":"a","kind":"tcp"},{"name":"b","kind":"tcp"}]}]}"#;
    let server = Server::start(move |asked| match asked.line.contains("/stream ") {
        true => Answer::Stream(Device::CountThenAnswer),
        false => json("200 OK", list),
    });
    let home = Home::new();
    let child = connect(&server, &home, "plc1").stdin(Stdio::null()).spawn().unwrap();
    assert_eq!(finish(child).out, "0 bytes\n");
    assert!(server.asked()[1].line.contains("/plc1/services/shell/stream"));
    let several = run_with_open_input(&server, "plc2");
    assert_eq!(several.code, Some(64));
    assert!(several.err.contains("plc2:a, plc2:b"), "{several:?}");
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let server = Server::start(|_| Answer::Stream(Device::Flood(1 << 40)));
    let home = Home::new();
    let mut child = start(&server, &home);
    let held = child.stdin.take();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 1000]).unwrap();
    drop(output);
    let ended = finish(child);
    drop(held);
    assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""));
}

#[test]
fn a_full_disk_is_told() {
    let server = Server::start(|_| Answer::Stream(Device::Flood(1 << 20)));
    let home = Home::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let ended = finish(connect(&server, &home, "plc1:ssh").stdout(full).spawn().unwrap());
    assert_eq!(ended.code, Some(74), "{ended:?}");
    assert!(ended.err.contains("standard output: No space left"), "{ended:?}");
    let directory = std::fs::File::open(home.path()).unwrap();
    let ended = finish(connect(&server, &home, "plc1:ssh").stdin(directory).stdout(Stdio::null()).spawn().unwrap());
    assert_eq!(ended.code, Some(74), "{ended:?}");
    assert!(ended.err.contains("standard input: Is a directory"), "{ended:?}");
}

#[test]
fn a_reader_that_pauses_slows_the_server_and_loses_nothing() {
    const TOTAL: u64 = 100_000_000;
    let server = Server::start(|_| Answer::Stream(Device::Flood(TOTAL)));
    let home = Home::new();
    let mut child = start(&server, &home);
    drop(child.stdin.take());
    // Nobody reads: what was sent grows to what the buffers on the way hold, and no further.
    let deadline = Instant::now() + DEADLINE;
    let (mut last, mut since) = (0, Instant::now());
    while last == 0 || since.elapsed() < Duration::from_millis(500) {
        assert!(Instant::now() < deadline, "still growing: {last}");
        let now = server.flooded.load(Ordering::SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(last < TOTAL / 2, "{last} bytes were taken though nobody read");
    let mut got = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    assert_eq!(got.len() as u64, TOTAL);
    assert!(got.iter().enumerate().all(|(at, byte)| (at % 251) as u8 == *byte), "the bytes differ");
    assert_eq!(finish(child).code, Some(0));
}
