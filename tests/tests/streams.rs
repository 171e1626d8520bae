//! Journeys of raw streams: OpenSSH and VNC through `linkspan connect`, with a server and a gateway between.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use linkspan_tests::netns::run;
use linkspan_tests::noise::noise;
use linkspan_tests::parts::{Framebuffer, Login, Sshd, Vnc};
use linkspan_tests::rig::{Rig, RunningGateway};
use linkspan_tests::wait::{PATIENCE, until};
use ring::digest::{Context as Digest, SHA256};
use tokio::task::spawn_blocking;

struct SshSite {
    rig: Rig,
    sshd: Sshd,
    token: String,
    _gateway: RunningGateway,
}

impl SshSite {
    async fn start() -> Result<Self> {
        let rig = Rig::start().await?;
        let sshd = Sshd::start(&rig.subfolder("sshd")?, Login::Shell).await?;
        let config = rig.new_gateway("site12").await?.device("plc1", "", &[("ssh", "ssh", sshd.address())]);
        let gateway = rig.run_gateway(&config)?;
        let token = rig.sign_in().await?;
        let site = Self { rig, sshd, token, _gateway: gateway };
        let ready = async || site.run("ssh", &["plc1", "true"]).await;
        until("ssh through the gateway", PATIENCE, ready).await?;
        Ok(site)
    }

    /// `ssh` or `scp` by way of `linkspan connect`, as the README says it.
    fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.sshd.client(program, "plc1")?;
        let client = linkspan_tests::programs::Binaries::beside_me()?.path("linkspan")?;
        command.args(["-o", &format!("ProxyCommand={} connect %h:ssh", client.display())]);
        command.args(["-o", &format!("User={}", self.sshd.user())]);
        for (name, value) in self.rig.client_environment(&self.token) {
            command.env(name, value);
        }
        Ok(command)
    }

    async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.command(program)?;
        command.args(arguments);
        spawn_blocking(move || run(&mut command)).await?
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ssh_runs_a_command_and_its_status_comes_back() {
    let site = SshSite::start().await.unwrap();
    assert_eq!(site.run("ssh", &["plc1", "echo $((6 * 7)); cat"]).await.unwrap(), "42\n");
    let mut failing = site.command("ssh").unwrap();
    failing.args(["plc1", "exit 7"]);
    assert_eq!(spawn_blocking(move || failing.status()).await.unwrap().unwrap().code(), Some(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_carries_200_mb_each_way_and_the_hashes_agree() {
    let site = SshSite::start().await.unwrap();
    let folder = site.rig.subfolder("files").unwrap();
    let [there, back, origin] = ["there", "back", "origin"].map(|name| folder.join(name));
    std::fs::write(&origin, noise(200_000_000)).unwrap();
    let hash = hash_of(&origin).unwrap();
    site.run("scp", &[origin.to_str().unwrap(), &format!("plc1:{}", there.display())]).await.unwrap();
    assert_eq!(hash_of(&there).unwrap(), hash, "on the way up");
    site.run("scp", &[&format!("plc1:{}", there.display()), back.to_str().unwrap()]).await.unwrap();
    assert_eq!(hash_of(&back).unwrap(), hash, "on the way down");
}

#[tokio::test(flavor = "multi_thread")]
async fn vnc_shows_its_screen_through_the_raw_stream() {
    let rig = Rig::start().await.unwrap();
    let vnc = Vnc::start(&rig.subfolder("vnc").unwrap()).await.unwrap();
    let config = rig.new_gateway("site12").await.unwrap().device("hmi1", "", &[("vnc", "vnc", vnc.address())]);
    let _gateway = rig.run_gateway(&config).unwrap();
    let token = rig.sign_in().await.unwrap();
    let picture = until("a picture with a clock", PATIENCE, async || {
        let mut command = tokio::process::Command::from(rig.client(&token)?);
        command.args(["connect", "hmi1:vnc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.kill_on_drop(true).spawn()?;
        let (input, output) = (child.stdin.take().context("no stdin")?, child.stdout.take().context("no stdout")?);
        let picture = Framebuffer::fetch(tokio::io::join(output, input)).await?;
        anyhow::ensure!(picture.colours() > 1, "one colour only");
        Ok(picture)
    });
    let picture = picture.await.unwrap();
    assert_eq!((picture.width, picture.height), (640, 480));
    let direct = Framebuffer::fetch(tokio::net::TcpStream::connect(vnc.address()).await.unwrap()).await.unwrap();
    assert_eq!(direct.name, picture.name);
    let same = picture.pixels.iter().zip(&direct.pixels).filter(|(a, b)| a == b).count();
    assert!(same * 100 > picture.pixels.len() * 98, "but for the clock's hands the pictures are one: {same}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_to_nowhere_says_why() {
    let rig = Rig::start().await.unwrap();
    let closed = linkspan_tests::parts::loopback(linkspan_tests::parts::free_port().unwrap());
    let config = rig.new_gateway("site12").await.unwrap().device("plc1", "", &[("plc", "tcp", closed)]);
    let _gateway = rig.run_gateway(&config).unwrap();
    let token = rig.sign_in().await.unwrap();
    until("the refusal", Duration::from_secs(20), async || {
        let mut command = rig.client(&token)?;
        command.args(["connect", "plc1:plc"]).stdin(Stdio::null());
        let output = spawn_blocking(move || command.output()).await??;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        anyhow::ensure!(
            output.status.code() == Some(69) && said.contains("nothing listens on the device's port"),
            "{:?} {said}",
            output.status
        );
        Ok(())
    })
    .await
    .unwrap();
}

fn hash_of(path: &Path) -> Result<String> {
    let mut digest = Digest::new(&SHA256);
    digest.update(&std::fs::read(path)?);
    Ok(data_encoding::HEXLOWER.encode(digest.finish().as_ref()))
}
