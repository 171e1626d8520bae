//! OpenSSH's ssh and scp with `linkspan connect` as ProxyCommand, to OpenSSH's sshd as the device.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use linkspan_tests::parts::{Login, Sshd, free_port, loopback};
use ring::digest::{Context, SHA256};
use tempfile::TempDir;
use tokio::task::JoinSet;

use crate::command::finish;
use crate::origin::Origin;
use crate::site::Site;

/// A site with an sshd as `plc1`.
struct World {
    site: Site,
    sshd: Sshd,
    files: TempDir,
}

impl World {
    async fn open() -> Self {
        let files = tempfile::tempdir().unwrap();
        let sshd = Sshd::start(&files.path().join("sshd"), Login::Shell).await.unwrap();
        let ssh = ("ssh", "ssh", sshd.address());
        let site = Site::open(|config| config.device("plc1", "a controller", &[ssh])).await.unwrap();
        Self { site, sshd, files }
    }

    /// `ssh` or `scp` whose connections go through `linkspan connect`.
    fn command(&self, program: &str) -> Command {
        let mut command = self.sshd.client(program, "plc1").unwrap();
        let linkspan = self.site.linkspan(&[]).unwrap();
        let words: Vec<_> = linkspan.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let program = format!("{} {}", linkspan.get_program().to_string_lossy(), words.join(" "));
        command.arg("-o").arg(format!("ProxyCommand={program} connect %h:ssh"));
        command.envs(self.site.rig.client_environment(&self.site.token));
        command
    }

    fn ssh(&self, words: &str) -> Command {
        let mut command = self.command("ssh");
        command.arg(format!("{}@plc1", self.sshd.user())).arg(words);
        command
    }
}

/// A file of that many random bytes.
fn random_file(path: &Path, bytes: u64) {
    let mut random = File::open("/dev/urandom").unwrap().take(bytes);
    std::io::copy(&mut random, &mut File::create(path).unwrap()).unwrap();
}

fn sha256(path: &Path) -> String {
    let (mut file, mut context, mut buffer) = (File::open(path).unwrap(), Context::new(&SHA256), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).unwrap() {
            0 => return data_encoding::HEXLOWER.encode(context.finish().as_ref()),
            read => context.update(&buffer[..read]),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_runs_and_its_exit_status_arrives() {
    let world = World::open().await;
    let ended = finish(world.ssh("echo out; echo err >&2; exit 42"), Stdio::null()).await.unwrap();
    assert_eq!((ended.status.code(), ended.text().as_str()), (Some(42), "out\n"), "{}", ended.err);
    assert_eq!(ended.err.lines().filter(|line| *line == "err").count(), 1, "{}", ended.err);
    let ended = finish(world.ssh("true"), Stdio::null()).await.unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", ended.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_megabytes_arrive_whole_each_way() {
    let world = World::open().await;
    let path = |name: &str| world.files.path().join(name);
    random_file(&path("here"), 200_000_000);
    let there = format!("{}@plc1:{}", world.sshd.user(), path("there").display());
    let mut up = world.command("scp");
    up.arg("-q").arg(path("here")).arg(&there);
    finish(up, Stdio::null()).await.unwrap().well();
    let mut down = world.command("scp");
    down.arg("-q").arg(&there).arg(path("back"));
    finish(down, Stdio::null()).await.unwrap().well();
    let whole = sha256(&path("here"));
    assert_eq!(sha256(&path("there")), whole);
    assert_eq!(sha256(&path("back")), whole);
    assert_eq!(fs::metadata(path("back")).unwrap().len(), 200_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_the_input_arrives_while_the_answer_is_still_to_come() {
    let world = World::open().await;
    let file = world.files.path().join("input");
    random_file(&file, 5_000_000);
    let input = || Stdio::from(File::open(&file).unwrap());
    let echoed = finish(world.ssh("cat"), input()).await.unwrap().well();
    assert!(echoed.out == fs::read(&file).unwrap(), "{} bytes came back", echoed.out.len());
    let counted = finish(world.ssh("sha256sum"), input()).await.unwrap().well();
    assert_eq!(counted.text(), format!("{}  -\n", sha256(&file)));
}

/// What ssh calls the end of the input stays inside of its own protocol. This one is the end of a TCP direction.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_answers_only_after_the_end_is_heard() {
    let device = Origin::start(|mut call| async move {
        let heard = call.rest().await;
        call.say(format!("{} bytes\n", heard.len())).await;
    })
    .await;
    let files = tempfile::tempdir().unwrap();
    random_file(&files.path().join("input"), 3_000_000);
    let service = ("count", "tcp", device.address);
    let site = Site::open(|config| config.device("plc1", "counts", &[service])).await.unwrap();
    let input = File::open(files.path().join("input")).unwrap();
    let ended = finish(site.linkspan(&["connect", "plc1:count"]).unwrap(), input.into()).await.unwrap().well();
    assert_eq!(ended.text(), "3000000 bytes\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sessions_at_once_do_not_mix() {
    let world = World::open().await;
    let mut sessions = JoinSet::new();
    for number in 0..6_u32 {
        let file = world.files.path().join(format!("input-{number}"));
        random_file(&file, 4_000_000);
        let command = world.ssh(&format!("cat; exit {number}"));
        sessions.spawn(async move {
            let ended = finish(command, File::open(&file).unwrap().into()).await.unwrap();
            assert_eq!(ended.status.code(), Some(number.cast_signed()), "{}", ended.err);
            assert!(ended.out == fs::read(&file).unwrap(), "session {number}: {} bytes came back", ended.out.len());
        });
    }
    sessions.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_without_sshd_is_named_as_the_one_that_refuses() {
    let nobody = ("ssh", "ssh", loopback(free_port().unwrap()));
    let site = Site::open(|config| config.device("plc1", "silent", &[nobody])).await.unwrap();
    let ended = finish(site.linkspan(&["connect", "plc1:ssh"]).unwrap(), Stdio::null()).await.unwrap();
    assert_eq!(ended.status.code(), Some(69), "{}", ended.err);
    assert!(ended.err.contains("nothing listens on the device's port"), "{}", ended.err);
}
