//! People's own programs (ssh, scp, a VNC viewer, an upload, a download) while the router's line is away: all go on.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use linkspan_tests::line::Way;
use linkspan_tests::netns::{Namespace, ip};
use linkspan_tests::parts::{Framebuffer, Login, Sshd, Vnc};
use linkspan_tests::wait::until;
use ring::digest::{Context, SHA256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command as Spawned};
use tokio::task::JoinSet;

use crate::field::{Field, SLACK, Visitor, silence, speak, talk};
use crate::origin::{Call, Origin};

/// What is uploaded and downloaded, and copied by scp.
const BIG: u64 = 1 << 30;
const COPIED: u64 = 50 << 20;
/// All of it together, with its holes, on a machine that does other things as well.
const LONG: Duration = Duration::from_secs(1500);

/// The devices behind the router, each with what it saw.
struct Devices {
    sshd: Sshd,
    vnc: Vnc,
    sink: Origin,
    slow: Origin,
    source: Origin,
    /// Bytes of the upload that have arrived.
    arrived: Arc<AtomicU64>,
    /// Of what the sink received.
    digest: Arc<std::sync::Mutex<String>>,
}

impl Devices {
    async fn start(folder: PathBuf, big: PathBuf) -> Result<Self> {
        let (arrived, digest) = (Arc::<AtomicU64>::default(), Arc::<std::sync::Mutex<String>>::default());
        let (counted, written) = (Arc::clone(&arrived), Arc::clone(&digest));
        let sink = Origin::start(move |call| swallow(call, Arc::clone(&counted), Arc::clone(&written))).await;
        let slow = Origin::start(|call| swallow(call, Arc::default(), Arc::default())).await;
        let source = Origin::start(move |call| pour(call, big.clone())).await;
        let sshd = Sshd::start(&folder.join("sshd"), Login::Shell).await?;
        Ok(Self { sshd, vnc: Vnc::start(&folder).await?, sink, slow, source, arrived, digest })
    }
}

/// Takes one upload, and says its digest.
async fn swallow(mut call: Call, arrived: Arc<AtomicU64>, written: Arc<std::sync::Mutex<String>>) {
    let Some(head) = call.head().await else { return };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let (mut context, mut left, mut space) = (Context::new(&SHA256), length.unwrap_or(0), vec![0; 256 * 1024]);
    let mut first = call.buffered();
    while left > 0 {
        let read = if first.is_empty() { call.socket.read(&mut space).await.unwrap_or(0) } else { 0 };
        let piece = if first.is_empty() { &space[..read] } else { &first[..] };
        if piece.is_empty() {
            return;
        }
        context.update(piece);
        left -= piece.len() as u64;
        arrived.fetch_add(piece.len() as u64, Ordering::SeqCst);
        first.clear();
    }
    let digest = data_encoding::HEXLOWER.encode(context.finish().as_ref());
    call.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{digest}", digest.len())).await;
    *written.lock().unwrap() = digest;
}

/// Sends the file.
async fn pour(mut call: Call, file: PathBuf) {
    let (Some(_), Ok(mut file)) = (call.head().await, tokio::fs::File::open(file).await) else { return };
    call.say(format!("HTTP/1.1 200 OK\r\nContent-Length: {BIG}\r\n\r\n")).await;
    let mut piece = vec![0; 256 * 1024];
    while let Ok(read @ 1..) = file.read(&mut piece).await {
        if call.socket.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
    drop(call.socket.shutdown().await);
}

fn sha256(path: &Path) -> Result<String> {
    let (mut file, mut context, mut buffer) = (std::fs::File::open(path)?, Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(data_encoding::HEXLOWER.encode(context.finish().as_ref())),
            read => context.update(&buffer[..read]),
        }
    }
}

/// What the people's programs need.
struct People {
    visitor: Visitor,
    linkspan: String,
    environment: Vec<(&'static str, String)>,
    ca_file: PathBuf,
    folder: PathBuf,
    ssh: Vec<String>,
    user: String,
}

impl People {
    /// `ssh` or `scp` through `linkspan connect`.
    fn secure(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.ssh).arg("-o").arg(format!("ProxyCommand={} connect %h:ssh", self.linkspan));
        command.envs(self.environment.iter().map(|(name, value)| (*name, value)));
        command
    }

    fn curl(&self, label: &str) -> Command {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", "--noproxy", "*", "--cacert"]).arg(&self.ca_file);
        command.arg("-H").arg(format!("Linkspan-Authorization: Bearer {}", self.visitor.token));
        command.arg(self.visitor.page.replace("plc1", label));
        command
    }
}

fn start(command: Command) -> Result<Child> {
    let mut command = Spawned::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    Ok(command.spawn()?)
}

/// What a program said, once it has ended well.
async fn ended(child: Child) -> Result<String> {
    let output = tokio::time::timeout(LONG, child.wait_with_output()).await??;
    ensure!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

/// Somebody at a terminal, who types a line each tenth of a second and reads each back; how many, once told to stop.
async fn type_on(mut ssh: Child, stop: tokio::sync::watch::Receiver<bool>) -> Result<u32> {
    let mut keys = ssh.stdin.take().context("no input")?;
    let mut screen = BufReader::new(ssh.stdout.take().context("no output")?).lines();
    let mut typed = 0;
    let typing = async {
        while !*stop.borrow() {
            typed += 1;
            keys.write_all(format!("line {typed}\n").as_bytes()).await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        drop(keys);
        Ok::<_, anyhow::Error>(())
    };
    let reading = async {
        let mut read = 0;
        while let Some(line) = screen.next_line().await? {
            read += 1;
            ensure!(line == format!("line {read}"), "{line:?} came as line {read}");
        }
        Ok(read)
    };
    let ((), read) = tokio::try_join!(typing, reading)?;
    ensure!(read == typed, "{read} of {typed} lines came back");
    let status = ssh.wait().await?;
    ensure!(status.success(), "ssh: {status}");
    Ok(read)
}

/// A viewer that fetches its whole picture again and again; how many, once told to stop.
async fn watch(visitor: &Visitor, stop: tokio::sync::watch::Receiver<bool>) -> Result<u32> {
    let mut tasks = JoinSet::new();
    let mut stream = visitor.stream_to("hmi1", "vnc").await?.into_bytes(&mut tasks);
    let (mut picture, mut pictures) = (Framebuffer::open(&mut stream).await?, 1);
    while !*stop.borrow() {
        picture.update(&mut stream).await?;
        ensure!(picture.colours() > 1, "an empty picture");
        pictures += 1;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(pictures)
}

/// Takes the router's line away for a while; it comes up with another address.
async fn elsewhere(router: &str, device: &str, (old, new): (u8, u8), span: Duration) -> Result<()> {
    ip(&["-n", router, "link", "set", device, "down"])?;
    ip(&["-n", router, "address", "delete", &format!("10.64.0.{old}/24"), "dev", device])?;
    tokio::time::sleep(span).await;
    ip(&["-n", router, "address", "add", &format!("10.64.0.{new}/24"), "dev", device])?;
    ip(&["-n", router, "link", "set", device, "up"])?;
    ip(&["-n", router, "route", "replace", "default", "via", "10.64.0.1"]).map(drop)
}

/// Waits until so much of the upload has arrived.
async fn reaches(arrived: &AtomicU64, bytes: u64, deadline: Duration) -> Result<()> {
    until("the upload", deadline, async || {
        let now = arrived.load(Ordering::SeqCst);
        ensure!(now >= bytes, "{now} of {bytes} bytes");
        Ok(())
    })
    .await
}

/// All programs at once, while the line goes away again and again.
async fn work_on(people: People, holes: (String, String, Arc<AtomicU64>)) -> Result<()> {
    let (router, device, arrived) = holes;
    let big = people.folder.join("big");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut ssh = people.secure("ssh");
    ssh.arg(format!("{}@plc2", people.user)).arg("cat");
    let typing = type_on(start(ssh)?, stopped.clone());
    let mut scp = people.secure("scp");
    // Slow enough to last through all of it.
    scp.args(["-q", "-l", "2500"]).arg(people.folder.join("copy"));
    scp.arg(format!("{}@plc2:{}", people.user, people.folder.join("copied").display()));
    let copying = ended(start(scp)?);
    let mut up = people.curl("sink");
    up.args(["-H", "Expect:", "-T"]).arg(&big);
    let uploading = ended(start(up)?);
    // The older protocol has clocks of its own. Both of these are slow enough to last.
    let mut slow = people.curl("slow");
    slow.args(["--http1.1", "--limit-rate", "300k", "-H", "Expect:", "-T"]).arg(people.folder.join("copy"));
    let slowly = ended(start(slow)?);
    let mut down = people.curl("source");
    down.arg("--http1.1").arg("-o").arg(people.folder.join("downloaded"));
    let downloading = ended(start(down)?);
    let away = async {
        for (address, seconds) in (2..).zip([1, 20, 60, 119]) {
            reaches(&arrived, u64::from(address - 1) * BIG / 6, LONG).await?;
            let span = Duration::from_secs(seconds);
            elsewhere(&router, &device, (address, address + 1), span).await?;
            let (begin, before) = (Instant::now(), arrived.load(Ordering::SeqCst));
            // More than what may have been on its way.
            reaches(&arrived, before + (1 << 20), LONG).await?;
            let back = begin.elapsed();
            eprintln!("away for {span:?} and back with another address: the upload goes on after {back:?}");
            let allowed = Duration::from_secs(3) + SLACK;
            ensure!(back < allowed, "{back:?}, not within {allowed:?}");
        }
        Ok(())
    };
    let all = async {
        let (copied, digest, slow, _, ()) = tokio::try_join!(copying, uploading, slowly, downloading, away)?;
        stop.send_replace(true);
        ensure!(copied.is_empty(), "{copied}");
        Ok([digest, slow])
    };
    let (lines, pictures, [digest, slow]) = tokio::try_join!(typing, watch(&people.visitor, stopped.clone()), all)?;
    eprintln!("{lines} lines were typed and read back, {pictures} pictures seen");
    let whole = sha256(&big)?;
    ensure!(digest == whole && sha256(&people.folder.join("downloaded"))? == whole, "another gigabyte arrived");
    let copy = sha256(&people.folder.join("copy"))?;
    ensure!(slow == copy && sha256(&people.folder.join("copied"))? == copy, "another file arrived");
    Ok(())
}

fn random_file(path: &Path, bytes: u64) -> Result<()> {
    let mut random = std::fs::File::open("/dev/urandom")?.take(bytes);
    std::io::copy(&mut random, &mut std::fs::File::create(path)?)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn ssh_scp_a_viewer_and_a_gigabyte_each_way_go_on_through_holes_and_other_addresses() {
    let files = tempfile::Builder::new().prefix("linkspan-holes-").tempdir().unwrap();
    let folder = files.path().to_owned();
    random_file(&folder.join("big"), BIG).unwrap();
    random_file(&folder.join("copy"), COPIED).unwrap();
    let mut devices = None;
    let field = Field::start_with("", |router: &Namespace, config| {
        let (files, big) = (folder.clone(), folder.join("big"));
        let mut kept = router.keep_inside(async move || Devices::start(files, big).await)?;
        let made = kept.get()?;
        let config = config
            .device("plc2", "", &[("ssh", "ssh", made.sshd.address())])
            .device("hmi1", "", &[("vnc", "vnc", made.vnc.address())])
            .device("sink", "", &[("web", "http", made.sink.address)])
            .device("slow", "", &[("web", "http", made.slow.address)])
            .device("source", "", &[("web", "http", made.source.address)]);
        devices = Some(kept);
        Ok(config)
    })
    .await
    .unwrap();
    let mut devices = devices.unwrap();
    let made = devices.get().unwrap();
    field.line.set(Way::Both, "delay=30ms rate=100mbit queue=512k").unwrap();
    let ssh = made.sshd.client("ssh", "plc2").unwrap();
    let people = People {
        visitor: field.visitor().unwrap(),
        linkspan: field.binaries.path("linkspan").unwrap().display().to_string(),
        environment: vec![
            ("LINKSPAN_SERVER", field.server.console()),
            ("LINKSPAN_TOKEN", field.token.clone()),
            ("LINKSPAN_CA_FILE", field.server.ca_file().display().to_string()),
        ],
        ca_file: field.server.ca_file(),
        folder: folder.clone(),
        ssh: ssh.get_args().map(|word| word.to_string_lossy().into_owned()).collect(),
        user: made.sshd.user().to_owned(),
    };
    let holes = (field.router.name().to_owned(), field.uplink().unwrap(), Arc::clone(&made.arrived));
    field.visit(async move |_| work_on(people, holes).await).unwrap();
    assert_eq!([&made.sink, &made.slow, &made.source].map(Origin::calls), [1, 1, 1], "each device saw one connection");
    assert_eq!(made.sshd.process().output().matches("Accepted publickey").count(), 2);
    made.vnc.still_runs().unwrap();
    assert_eq!(*made.digest.lock().unwrap(), sha256(&folder.join("big")).unwrap());
    let link = field.link().unwrap();
    assert!(link["reconnects"].as_u64() >= Some(4), "{link}");
}

/// The gateway has nothing to say, so it does not know of the hole: what the server sends into it must find its way out soon
/// after, whether the server has given the link up meanwhile or not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make soak"]
async fn what_people_send_into_a_hole_that_the_gateway_does_not_know_of_arrives_soon_after_it() {
    let field = Field::start("").await.unwrap();
    field.line.set(Way::Both, "delay=40ms").unwrap();
    for seconds in [10, 20, 60, 100] {
        let carrier = field.carrier.name().to_owned();
        let took = field.visit(async move |visitor| {
            let mut stream = visitor.stream().await?;
            talk(&mut stream, "before").await?;
            // All is acknowledged, and nobody asks anything.
            tokio::time::sleep(Duration::from_secs(25)).await;
            silence(&carrier, &["203.0.113.0/24", "10.64.0.0/24"])?;
            let words = b"into the hole\r\n\r\n";
            stream.send(words).await?;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            speak(&carrier)?;
            let begin = Instant::now();
            let heard = tokio::time::timeout(Duration::from_secs(150), stream.receive_exactly(words.len())).await??;
            ensure!(heard == words, "{heard:?}");
            Ok(begin.elapsed())
        });
        let took = took.unwrap();
        eprintln!("sent into a hole of {seconds} s: answered {took:?} after it");
        assert!(took < Duration::from_secs(3) + SLACK, "{took:?}");
    }
}
