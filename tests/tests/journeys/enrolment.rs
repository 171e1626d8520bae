//! Routers become gateways, renew themselves, are revoked and replaced: the real programs, as an installer uses them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use linkspan_tests::parts::Proxy;
use linkspan_tests::process::{Process, bound_command};
use linkspan_tests::programs::{Binaries, Server, ServerSetup};
use linkspan_tests::wait::{PATIENCE, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::origin::{Call, Origin};
use crate::world::status;

/// A server, a device, and routers that are to be enrolled.
struct Place {
    server: Server,
    binaries: Binaries,
    device: Origin,
    token: String,
    folder: TempDir,
}

async fn page(mut call: Call) {
    while call.head().await.is_some() {
        call.say("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\npress 3").await;
    }
}

impl Place {
    async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("linkspan-enrol-").tempdir()?;
        let binaries = Binaries::beside_me()?;
        let server = Server::start(&binaries, ServerSetup::new(&folder.path().join("server"))?).await?;
        let token = server.sign_in().await?;
        Ok(Self { server, binaries, device: Origin::start(page).await, token, folder })
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.server.address().port())
    }

    fn ask(&self, words: &[&str]) -> Result<String> {
        Ok(self.server.ask(words, None)?.trim().to_owned())
    }

    fn config(&self, router: &str) -> PathBuf {
        self.folder.path().join(router).join("gateway.toml")
    }

    /// `linkspan-gateway enroll` on a router of that name.
    fn enroll(&self, router: &str, code: &str) -> Command {
        let mut command = self.binaries.command("linkspan-gateway").unwrap();
        command.args(["enroll", &self.url(), code, "--ca-file"]).arg(self.server.ca_file());
        command.arg("--config").arg(self.config(router));
        command
    }

    /// Enrols a router, lists the device in what was written, and starts its gateway.
    async fn join(&self, router: &str, code: &str) -> Result<Process> {
        let output = self.enroll(router, code).output()?;
        ensure!(output.status.success(), "{}", said(&output));
        self.run(router)
    }

    fn run(&self, router: &str) -> Result<Process> {
        let config = self.config(router);
        let text = fs::read_to_string(&config)?;
        if !text.contains("\n[[device]]") {
            let port = self.device.address.port();
            let device = format!(
                "\n[[device]]\nname = \"plc1\"\nhost = \"127.0.0.1\"\n[[device.service]]\nname = \"web\"\nkind = \"http\"\nport = {port}\n"
            );
            fs::write(&config, text + &device)?;
        }
        let mut command = self.binaries.command("linkspan-gateway")?;
        command.args(["run", "--config"]).arg(&config);
        Process::start("linkspan-gateway", command, config.parent().context("a folder")?)
    }

    async fn page_answers(&self, status: u16) -> Result<()> {
        until("the page of the device", Duration::from_secs(60), async || {
            let url = format!("{}/", self.server.device("plc1"));
            let answer = self.server.https()?.get_device(&url, &self.token).await?;
            ensure!(answer.status.as_u16() == status, "{} {}", answer.status, answer.text());
            Ok(())
        })
        .await
    }

    /// Waits until a router's status tells of that failure.
    async fn told(&self, router: &str, word: &str) -> Result<Value> {
        until(word, Duration::from_secs(60), async || {
            let status = status(&self.binaries, &self.config(router))?;
            ensure!(status["link"]["last_error"].to_string().contains(word), "{}", status["link"]);
            Ok(status)
        })
        .await
    }

    fn shown(&self, name: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.ask(&["gateway", "show", name, "--json"])?)?)
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_enrols_with_a_code_and_its_device_is_reached() {
    let place = Place::start().await.unwrap();
    let code = place.ask(&["gateway", "add", "site12"]).unwrap();
    assert_eq!(code.len(), 19, "{code}");
    let key = "RWTQNV4uHfN76KDIeV+Ksi+fk/6Bany1qZd8BbHXeaEE0eg1EpIftuDv\n";
    std::fs::write(place.server.password_file().with_file_name("release.pub"), key).unwrap();
    let output = place.enroll("router", &code).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).trim()), (Some(0), "site12"));
    assert!(!said(&output).contains(&code), "{}", said(&output));
    let config = place.config("router");
    assert_eq!(mode(&config.with_file_name("gateway.key")), 0o600);
    let pinned = std::fs::read_to_string(config.with_file_name("gateway.update.pub")).unwrap();
    assert!(pinned.ends_with(key), "{pinned}");
    let mut gateway = place.run("router").unwrap();
    place.page_answers(200).await.unwrap();
    gateway.still_runs().unwrap();
    let shown = place.shown("site12").unwrap();
    assert_eq!((shown["secret"].as_bool(), shown["certificates"].as_array().unwrap().len()), (Some(false), 1));
    assert!(shown["certificates"][0]["used"].is_string(), "{shown}");

    let again = place.enroll("router", &code).output().unwrap();
    assert_eq!(again.status.code(), Some(73), "{}", said(&again));
    assert!(said(&again).contains("--force"), "{}", said(&again));
    let used = place.enroll("other", &code).output().unwrap();
    assert_eq!(used.status.code(), Some(77), "{}", said(&used));
    let unknown = place.enroll("other", "0000-0000-0000-0000").output().unwrap();
    assert_eq!((said(&unknown), unknown.status.code()), (said(&used), Some(77)), "alike");
    let mistyped = place.enroll("other", &code.replace(&code[..1], if code.starts_with('7') { "8" } else { "7" }));
    assert_eq!({ mistyped }.output().unwrap().status.code(), Some(64));
}

/// Within a second, although the command line is another process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_gateway_is_gone_at_once_and_comes_back_as_another_router() {
    let place = Place::start().await.unwrap();
    let code = place.ask(&["gateway", "add", "site12"]).unwrap();
    let first = place.join("first", &code).await.unwrap();
    place.page_answers(200).await.unwrap();
    let config = place.config("first");
    let talkative = fs::read_to_string(&config).unwrap() + "\n[log]\nlevel = \"debug\"\n";
    fs::write(&config, talkative).unwrap();
    first.signal(Signal::SIGHUP).unwrap();
    place.ask(&["gateway", "revoke", "site12"]).unwrap();
    let revoked = Instant::now();
    until("the end of the link", PATIENCE, async || {
        let url = format!("{}/api/v1/gateways", place.server.console());
        let answer = place.server.https()?.get_api(&url, &place.token).await?;
        let list: Value = serde_json::from_slice(&answer.body)?;
        ensure!(list["gateways"][0]["online"] == false, "{list}");
        Ok(())
    })
    .await
    .unwrap();
    // One second, and what a loaded machine takes to start a process and ask.
    assert!(revoked.elapsed() < Duration::from_secs(3), "{:?}", revoked.elapsed());
    place.told("first", "no longer counts").await.unwrap();
    // A resumed handshake needs no certificate; what it was of the first is looked at all the same.
    assert!(first.output().contains(", resumed"), "{}", first.output());
    let devices = place.ask(&["gateway", "list", "--json"]).unwrap();
    assert!(devices.contains("site12"), "the name stays: {devices}");

    let code = place.ask(&["gateway", "replace", "site12"]).unwrap();
    let _second = place.join("second", &code).await.unwrap();
    place.page_answers(200).await.unwrap();
    place.told("first", "no longer counts").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_router_takes_the_place_of_one_that_still_runs() {
    let place = Place::start().await.unwrap();
    let secret = place.ask(&["gateway", "add", "site12", "--secret"]).unwrap();
    let old = place.folder.path().join("old");
    fs::create_dir_all(&old).unwrap();
    fs::write(old.join("gateway.secret"), secret).unwrap();
    let (url, ca) = (place.url(), place.server.ca_file());
    let text = format!(
        "[server]\nurl = \"{url}\"\nca_file = \"{}\"\n[identity]\nname = \"site12\"\nsecret_file = \"gateway.secret\"\n",
        ca.display()
    );
    fs::write(old.join("gateway.toml"), text).unwrap();
    let _old = place.run("old").unwrap();
    place.page_answers(200).await.unwrap();
    let code = place.ask(&["gateway", "replace", "site12"]).unwrap();
    place.page_answers(200).await.unwrap();
    let _new = place.join("new", &code).await.unwrap();
    place.told("old", "unknown gateway name, or wrong secret").await.unwrap();
    place.page_answers(200).await.unwrap();
    assert_eq!(place.shown("site12").unwrap()["secret"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_routers_wait_in_a_queue_until_somebody_decides() {
    let place = Place::start().await.unwrap();
    let key = place.ask(&["provisioning-key", "add", "lot7", "--uses", "2"]).unwrap();
    let mut waiting = Vec::new();
    for name in ["gw-1", "gw-2"] {
        fs::create_dir_all(place.folder.path().join(name)).unwrap();
        let mut command = place.enroll(name, &key);
        command.args(["--name", name]);
        waiting.push(Process::start(name, command, &place.folder.path().join(name)).unwrap());
    }
    let queue = until("both in the queue", PATIENCE, async || {
        let queue: Value = serde_json::from_str(&place.ask(&["enrolment", "list", "--json"])?)?;
        ensure!(queue.as_array().is_some_and(|queue| queue.len() == 2), "{queue}");
        Ok(queue)
    })
    .await
    .unwrap();
    let third = place.enroll("gw-3", &key).output().unwrap();
    assert_eq!(third.status.code(), Some(77), "the key is used up: {}", said(&third));
    let number = |name: &str| {
        let one = queue.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap();
        one["id"].to_string()
    };
    place.ask(&["enrolment", "accept", &number("gw-1"), "--name", "hall-3"]).unwrap();
    place.ask(&["enrolment", "refuse", &number("gw-2")]).unwrap();
    for (process, word) in waiting.iter_mut().zip(["hall-3", "this router was refused"]) {
        until(word, Duration::from_secs(90), async || {
            ensure!(process.ended()?.is_some() && process.output().contains(word), "{}", process.output());
            Ok(())
        })
        .await
        .unwrap();
    }
    let _gateway = place.run("gw-1").unwrap();
    place.page_answers(200).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_not_known_is_never_trusted_blindly() {
    let place = Place::start().await.unwrap();
    let code = place.ask(&["gateway", "add", "site12"]).unwrap();
    let plain = |router: &str, more: &[&str]| {
        let mut command = place.binaries.command("linkspan-gateway").unwrap();
        command.args(["enroll", &place.url(), &code, "--config"]).arg(place.config(router)).args(more);
        command.output().unwrap()
    };
    let output = plain("blind", &[]);
    assert_eq!(output.status.code(), Some(69), "{}", said(&output));
    let told = said(&output);
    assert!(told.contains("to enroll, as --ca-file FILE or --fingerprint SHA256"), "{told}");
    let fingerprint = told.split("fingerprint = \"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let wrong = plain("wrong", &["--fingerprint", &format!("sha256:{}", "ab".repeat(32))]);
    assert_eq!(wrong.status.code(), Some(69), "{}", said(&wrong));
    assert!(said(&wrong).contains("not the pinned one"), "{}", said(&wrong));
    let pinned = plain("router", &["--fingerprint", &fingerprint]);
    assert_eq!(pinned.status.code(), Some(0), "{}", said(&pinned));
    let config = fs::read_to_string(place.config("router")).unwrap();
    assert!(config.contains("ca_file = \"server-ca.pem\""), "what lasts longer is written down: {config}");
    let _gateway = place.run("router").unwrap();
    place.page_answers(200).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_router_behind_a_proxy_keeps_its_configuration() {
    let place = Place::start().await.unwrap();
    let proxy = Proxy::start(place.folder.path()).await.unwrap();
    let code = place.ask(&["gateway", "add", "site12"]).unwrap();
    let folder = place.folder.path().join("router");
    fs::create_dir_all(&folder).unwrap();
    let text = format!(
        "# mine\n[server]\nurl = \"{}\"\nca_file = \"{}\"\nproxy = \"{}\"\n",
        place.url(),
        place.server.ca_file().display(),
        proxy.url()
    );
    fs::write(folder.join("gateway.toml"), &text).unwrap();
    let mut command = place.binaries.command("linkspan-gateway").unwrap();
    let output = command.args(["enroll", &place.url(), &code, "--config"]).arg(folder.join("gateway.toml")).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(fs::read_to_string(folder.join("gateway.toml")).unwrap(), text, "nothing of it is touched");
    assert!(said(&output).contains("certificate_file = \"gateway.pem\""), "{}", said(&output));
}

/// Killed at every step that writes to the disk or changes a name on it: afterwards the router is enrolled, or the same
/// code enrols it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_step_of_enrolling_is_made_good_by_trying_again() {
    let place = Place::start().await.unwrap();
    for (call, times) in [("rename", 3), ("fsync", 5)] {
        for nth in 1..=times {
            let router = format!("{call}{nth}");
            let code = place.ask(&["gateway", "add", &router]).unwrap();
            let mut command = bound_command("strace");
            command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            command.args(["-e", &format!("inject={call}:signal=KILL:when={nth}")]);
            let enroll = place.enroll(&router, &code);
            command.arg(enroll.get_program()).args(enroll.get_args());
            let cut = command.output().unwrap();
            assert!(!cut.status.success(), "{call} {nth} was not reached: {}", said(&cut));
            let again = place.enroll(&router, &code).output().unwrap();
            assert!(matches!(again.status.code(), Some(0 | 73)), "after {call} {nth}: {}", said(&again));
            let mut check = place.binaries.command("linkspan-gateway").unwrap();
            let check = check.args(["check", "--config"]).arg(place.config(&router)).output().unwrap();
            assert!(check.status.success(), "after {call} {nth}: {}", said(&check));
        }
    }
}
