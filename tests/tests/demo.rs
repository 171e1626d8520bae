//! The demo as a person runs it: real programs, what it prints holds, and nothing is left of it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use linkspan_tests::https::Https;
use linkspan_tests::netns::run;
use linkspan_tests::parts::{free_port, loopback};
use linkspan_tests::process::Process;
use linkspan_tests::wait::{PATIENCE, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::task::spawn_blocking;

struct Demo {
    process: Process,
    folder: TempDir,
    port: u16,
}

impl Demo {
    async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let (port, http_port) = (free_port()?, free_port()?);
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan-demo"));
        command.args(["--port", &port.to_string(), "--http-port", &http_port.to_string()]);
        command.arg("--dir").arg(folder.path().join("demo"));
        let mut process = Process::start("demo", command, folder.path())?;
        let log = folder.path().join("demo.log");
        let ready = async || {
            ensure!(std::fs::read_to_string(&log)?.contains("Ctrl-C stops all of it"), "it has not said all yet");
            Ok(())
        };
        process.until("the demo", ready).await?;
        Ok(Self { process, folder, port })
    }

    fn dir(&self) -> std::path::PathBuf {
        self.folder.path().join("demo")
    }

    async fn page(&self, name: &str) -> Result<String> {
        let token = std::fs::read_to_string(self.dir().join("token"))?;
        let https = Https::new(&self.dir().join("ca.pem"), loopback(self.port))?;
        let url = format!("https://{name}.devices.localhost:{}/", self.port);
        let answer = https.get_device(&url, token.trim()).await?;
        ensure!(answer.status.as_u16() < 400, "{}: {}", answer.status, answer.text());
        Ok(format!("{}{}", answer.header("location"), answer.text()))
    }

    /// The process of ours with that program, a child of the demo.
    fn child(&self, program: &str) -> Result<Pid> {
        let listed = run(Command::new("ps").args(["-o", "pid=,args=", "--ppid", &self.process.pid().to_string()]))?;
        let line = listed.lines().find(|line| line.contains(program)).with_context(|| listed.clone())?;
        Ok(Pid::from_raw(line.split_whitespace().next().context("no pid")?.parse()?))
    }
}

#[tokio::test]
async fn what_it_prints_can_be_opened() {
    let demo = Demo::start().await.unwrap();
    assert!(demo.page("plc1").await.unwrap().contains("Water works north"));
    let origin = format!("https://cam1.devices.localhost:{}/", demo.port);
    let camera = demo.page("cam1").await.unwrap();
    assert!(
        camera.starts_with("/index.html") || camera.starts_with(&origin),
        "its LAN address shines through: {camera}"
    );
    let mut ssh = Command::new("ssh");
    ssh.arg("-F").arg(demo.dir().join("ssh_config")).args(["-o", "BatchMode=yes", "plc1", "status"]);
    let said = spawn_blocking(move || run(&mut ssh)).await.unwrap().unwrap();
    assert!(said.starts_with("level "), "{said}");
}

#[tokio::test]
async fn killed_programs_are_reported_and_come_back() {
    let demo = Demo::start().await.unwrap();
    for program in ["linkspan-gateway", "linkspan-server"] {
        let before = demo.child(program).unwrap();
        kill(before, Signal::SIGKILL).unwrap();
        until(&format!("{program} and the page"), PATIENCE, async || {
            ensure!(demo.child(program)? != before, "not started again");
            ensure!(demo.process.output().contains(&format!("{program} ended (signal: 9 (SIGKILL))")), "not reported");
            demo.page("plc1").await
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn an_interrupt_ends_it_and_all_it_started() {
    let mut demo = Demo::start().await.unwrap();
    let children = run(Command::new("ps").args(["-o", "pid=", "--ppid", &demo.process.pid().to_string()])).unwrap();
    let children: Vec<String> = children.split_whitespace().map(str::to_owned).collect();
    assert_eq!(children.len(), 3, "server, gateway and sshd: {children:?}");
    demo.process.signal(Signal::SIGINT).unwrap();
    let status = until("its end", Duration::from_secs(30), async || demo.process.ended()?.context("still running"));
    assert!(status.await.unwrap().success(), "{}", demo.process.output());
    for pid in children {
        assert!(!Path::new("/proc").join(&pid).exists(), "{pid} is left");
    }
}

#[tokio::test]
async fn a_port_in_use_and_a_folder_in_use_are_said() {
    let demo = Demo::start().await.unwrap();
    let try_again = |port: u16, dir: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan-demo"));
        command.args(["--port", &port.to_string(), "--http-port", &free_port().unwrap().to_string(), "--dir"]).arg(dir);
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(69));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = try_again(demo.port, &demo.folder.path().join("other"));
    assert!(said.contains(&format!("port {} cannot be used", demo.port)) && said.contains("--port"), "{said}");
    let said = try_again(free_port().unwrap(), &demo.dir());
    assert!(said.contains("another demo uses") && said.contains("--dir"), "{said}");
}
