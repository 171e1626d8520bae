//! Bodies that are larger than anybody's memory: a gigabyte each way through the real programs, which stay small.

use std::fs::File;
use std::process::{Command, Stdio};

use linkspan_tests::parts::Nginx;

use crate::command::finish;
use crate::origin::Origin;
use crate::world::World;

const GIGABYTE: u64 = 1 << 30;
/// What a program may grow by while a body passes: buffers and credit, and nothing that grows with the body.
const GROWTH_KB: u64 = 12 << 10;

/// The most memory that a process has had, in KB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn curl(world: &World) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS", "--fail", "--noproxy", "*", "--max-time", "140", "--cacert"]).arg(world.server.ca_file());
    command.arg("-H").arg(format!("Linkspan-Authorization: Bearer {}", world.token));
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gigabyte_each_way_passes_through_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Origin::start(|mut call| async move {
        while let Some(head) = call.head().await {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let answer = format!("{} bytes", call.count(length.unwrap_or_default()).await);
            call.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len())).await;
        }
    })
    .await;
    let nginx = Nginx::start(folder.path()).await.unwrap();
    let big = nginx.root().join("big");
    File::create(&big).unwrap().set_len(GIGABYTE).unwrap();
    let mut world = World::start(|config| {
        config.device("sink", "", &[("web", "http", sink.address)]).device(
            "cam1",
            "",
            &[("web", "http", nginx.address())],
        )
    })
    .await
    .unwrap();
    // Both have been at work before they are measured.
    world.wait_for_page("sink", 200, "0 bytes").await.unwrap();
    let pids = [world.server.process().pid(), world.gateway.process().pid()];
    let before = pids.map(peak);

    let mut up = curl(&world);
    up.args(["-H", "Expect:", "-T"]).arg(&big).arg(format!("{}/firmware", world.server.device("sink")));
    assert_eq!(finish(up, Stdio::null()).await.unwrap().well().text(), format!("{GIGABYTE} bytes"));
    let uploaded = pids.map(peak);

    let mut down = curl(&world);
    down.args(["-o", "/dev/null", "-w", "%{size_download}"]).arg(format!("{}/big", world.server.device("cam1")));
    assert_eq!(finish(down, Stdio::null()).await.unwrap().well().text(), GIGABYTE.to_string());
    let downloaded = pids.map(peak);
    eprintln!(
        "peak KB of server and gateway: {before:?} before, {uploaded:?} after 1 GiB up, {downloaded:?} after 1 GiB down"
    );
    for (before, after) in before.iter().zip(downloaded) {
        assert!(after < before + GROWTH_KB, "{before} KB before, {after} KB after");
    }
}
